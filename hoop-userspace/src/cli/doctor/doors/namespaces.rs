//! TCP sockets of every network namespace that a process of this host is in: a container has its own.

use crate::capture::sockets::{TcpSocket, tcp};
use crate::keeper::bypass::{namespaces, within};

use super::super::processes::Process;

/// Each is entered and listed; a host with more has some that are not.
const MOST: usize = 512;

/// By namespace: a port that is listened on in one says nothing of another.
#[derive(Default)]
pub struct Sockets {
    pub each: Vec<Vec<TcpSocket>>,
    /// Why some could not be listed, if so.
    pub unseen: Option<String>,
}

/// Only root may enter them all.
pub fn sockets(processes: &[Process]) -> Sockets {
    let mut found = Sockets::default();
    let mut namespaces = namespaces(processes.iter().map(|process| process.pid));
    if namespaces.len() > MOST {
        found.unseen = Some(format!("there are {} network namespaces", namespaces.len()));
        namespaces.truncate(MOST);
    }
    for namespace in namespaces {
        match within(&namespace, tcp) {
            Some(Ok(sockets)) => found.each.push(sockets.all),
            Some(Err(error)) => {
                found.unseen = Some(format!("the kernel does not list its sockets: {error}"));
            }
            None => found.unseen = Some("a network namespace cannot be entered".into()),
        }
    }
    found
}
