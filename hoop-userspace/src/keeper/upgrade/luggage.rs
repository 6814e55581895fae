//! What one build hands to the next when it becomes it: a description in JSON, and descriptors.
//!
//! Both travel in the queue of a socket that is the next build's standard input. Nothing else has to
//! survive the exec: no descriptor loses its close-on-exec flag, none is known by a number, and if
//! the exec fails, closing the socket undoes it all.
//!
//! The description is of this user's making and no stranger's, yet bounded and looked at: what does
//! not fit ends the start, and the service manager begins anew.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use super::super::status::CountersStatus;
use super::super::{approvals, console, courier, names};

/// Of the description below. A build says which it reads; another number means that sessions cannot
/// be kept across. Fields that are added have a default, and keep the number.
pub const FORMAT: u32 = 1;
/// Descriptors in one packet; the kernel takes 253.
const AT_ONCE: usize = 64;
/// Descriptors in all: two listeners in each of 256 namespaces, workers, and some.
const MOST: usize = 1024;
/// Bytes of the description.
const MAX_TEXT: u64 = 64 << 20;
const MORE: u8 = b'm';
const LAST: u8 = b'l';

#[derive(Debug, thiserror::Error)]
pub enum LuggageError {
    #[error("what the build before hands over cannot be sent or received: {0}")]
    Io(#[from] io::Error),
    #[error("what the build before hands over is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("what the build before hands over is of format {0}; this build reads {FORMAT}")]
    Format(u32),
    #[error("what the build before hands over is not whole: {0}")]
    Missing(&'static str),
}

impl From<rustix::io::Errno> for LuggageError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Numbers are places in the list of descriptors.
#[derive(Serialize, Deserialize)]
pub struct Luggage {
    pub format: u32,
    /// The version of the build that hands over.
    pub from: String,
    /// When the keeper began.
    pub since: SystemTime,
    /// Configurations that were taken.
    pub epoch: u64,
    /// What the listeners carry.
    pub nonce: u64,
    pub connections: u64,
    pub restarts: u64,
    pub counters: CountersStatus,
    /// The configuration, as the next build itself read it when it was tried.
    pub bundle: usize,
    /// Whoever asked for the upgrade.
    pub client: usize,
    pub control: usize,
    pub console: Option<usize>,
    pub listeners: Vec<Listener>,
    /// Oldest first; the last is the one that took connections.
    pub workers: Vec<Worker>,
    #[serde(default)]
    pub desk: approvals::Carried,
    #[serde(default)]
    pub courier: courier::Carried,
    #[serde(default)]
    pub names_by_cgroup: names::Carried,
    /// At the console.
    #[serde(default)]
    pub signed_in: Vec<console::sessions::Carried>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Listener {
    pub descriptor: usize,
    /// Of its network namespace; none for the keeper's own.
    pub inode: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Worker {
    pub descriptor: usize,
    pub pid: u32,
    /// Of its build.
    pub version: String,
    /// None of the one that took connections.
    pub retired: Option<Since>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Since {
    pub since: SystemTime,
    pub until: SystemTime,
}

/// The descriptors that go along.
#[derive(Default)]
pub struct Packed<'a>(Vec<BorrowedFd<'a>>);

impl<'a> Packed<'a> {
    /// The place that it gets.
    pub fn put(&mut self, descriptor: BorrowedFd<'a>) -> usize {
        self.0.push(descriptor);
        self.0.len() - 1
    }
}

/// The descriptors that came along.
pub struct Bag(Vec<Option<OwnedFd>>);

impl Bag {
    pub fn take(&mut self, place: usize) -> Result<OwnedFd, LuggageError> {
        let descriptor = self.0.get_mut(place).and_then(Option::take);
        descriptor.ok_or(LuggageError::Missing("a descriptor"))
    }
}

/// Puts all of it into the socket's queue.
pub fn send(
    socket: BorrowedFd<'_>,
    luggage: &Luggage,
    packed: &Packed<'_>,
) -> Result<(), LuggageError> {
    let text = serde_json::to_vec(luggage)?;
    // Now it can still be refused: after the exec nobody is left who could.
    if text.len() as u64 > MAX_TEXT {
        return Err(LuggageError::Missing("room for its text"));
    }
    let text = sealed("hoop-luggage", &text)?;
    let all: Vec<BorrowedFd<'_>> = [text.as_fd()]
        .into_iter()
        .chain(packed.0.iter().copied())
        .collect();
    if all.len() > MOST {
        return Err(LuggageError::Missing("too many descriptors"));
    }
    let mut packets = all.chunks(AT_ONCE).peekable();
    while let Some(descriptors) = packets.next() {
        let word = [if packets.peek().is_some() { MORE } else { LAST }];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(LuggageError::Missing("no room for descriptors"));
        }
        // What the queue does not hold now it never will: nobody reads.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(socket, &[IoSlice::new(&word)], &mut control, flags)?;
    }
    Ok(())
}

/// Takes all of it out of the socket's queue.
pub fn receive(socket: BorrowedFd<'_>) -> Result<(Luggage, Bag), LuggageError> {
    let mut descriptors = Vec::new();
    loop {
        let mut word = [0; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let mut into = [IoSliceMut::new(&mut word)];
        let got = rustix::net::recvmsg(socket, &mut into, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        if got.bytes == 0 || got.flags.intersects(cut) || descriptors.len() > MOST {
            return Err(LuggageError::Missing("its descriptors"));
        }
        if word == [LAST] {
            break;
        }
    }
    let mut descriptors = descriptors.into_iter();
    let text = descriptors
        .next()
        .ok_or(LuggageError::Missing("its text"))?;
    let text = read(text, MAX_TEXT)?;
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    // First, because another format may have other fields.
    let Format { format } = serde_json::from_slice(&text)?;
    if format != FORMAT {
        return Err(LuggageError::Format(format));
    }
    let luggage = serde_json::from_slice(&text)?;
    Ok((luggage, Bag(descriptors.map(Some).collect())))
}

/// An anonymous file that nobody can change any more.
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(bytes)?;
    seal(&file)?;
    Ok(file.into())
}

pub fn seal(file: impl AsFd) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    Ok(fcntl_add_seals(file, seals)?)
}

/// All of an anonymous file, from its beginning, unless it is longer.
pub fn read(file: OwnedFd, most: u64) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
    let mut file = File::from(file);
    if file.metadata()?.len() > most {
        return Err(io::Error::other("it is too long"));
    }
    file.rewind()?;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover;

    fn luggage() -> Luggage {
        Luggage {
            format: FORMAT,
            from: "0.1.0".into(),
            since: SystemTime::UNIX_EPOCH,
            epoch: 3,
            nonce: u64::MAX,
            connections: 7,
            restarts: 0,
            counters: CountersStatus::default(),
            bundle: 0,
            client: 1,
            control: 2,
            console: None,
            listeners: Vec::new(),
            workers: vec![Worker {
                descriptor: 3,
                pid: 99,
                version: "0.1.0".into(),
                retired: None,
            }],
            desk: approvals::Carried::default(),
            courier: courier::Carried::default(),
            names_by_cgroup: vec![(7, [192, 0, 2, 1].into(), vec![("a.example".into(), 5)])],
            signed_in: Vec::new(),
        }
    }

    #[test]
    fn a_description_and_many_descriptors_arrive_in_their_order() {
        let (ours, theirs) = handover::pair().unwrap();
        let files: Vec<OwnedFd> = (0..150)
            .map(|number| sealed("n", format!("{number}").as_bytes()).unwrap())
            .collect();
        let mut packed = Packed::default();
        for (place, file) in files.iter().enumerate() {
            assert_eq!(packed.put(file.as_fd()), place);
        }
        send(ours.as_fd(), &luggage(), &packed).unwrap();
        // As at an exec: the sender is gone before anybody reads.
        drop(ours);
        drop(files);
        let (got, mut bag) = receive(theirs.as_fd()).unwrap();
        assert_eq!((got.epoch, got.nonce), (3, u64::MAX));
        assert_eq!(got.workers[0].pid, 99);
        assert_eq!(got.names_by_cgroup, luggage().names_by_cgroup);
        for place in (0..150).rev() {
            let text = read(bag.take(place).unwrap(), 10).unwrap();
            assert_eq!(*text, format!("{place}").into_bytes());
        }
        assert!(bag.take(0).is_err(), "taken twice");
        assert!(bag.take(150).is_err());
    }

    #[test]
    fn what_is_no_luggage_is_refused() {
        let (ours, theirs) = handover::pair().unwrap();
        assert!(receive(theirs.as_fd()).is_err(), "there is nothing");
        let other = Luggage {
            format: 7,
            ..luggage()
        };
        send(ours.as_fd(), &other, &Packed::default()).unwrap();
        assert!(matches!(
            receive(theirs.as_fd()),
            Err(LuggageError::Format(7))
        ));
        rustix::net::send(&ours, b"l", SendFlags::empty()).unwrap();
        assert!(matches!(
            receive(theirs.as_fd()),
            Err(LuggageError::Missing(_))
        ));
        drop(ours);
        assert!(receive(theirs.as_fd()).is_err());
        assert!(read(sealed("long", &[0; 11]).unwrap(), 10).is_err());
    }

    /// What an earlier build packed: fields that were added since have a default.
    #[test]
    fn an_earlier_description_is_read() {
        let stored = r#"{"format":1,"from":"0.1.0","since":{"secs_since_epoch":1790000000,
            "nanos_since_epoch":0},"epoch":3,"nonce":5,"connections":7,"restarts":0,
            "counters":{"accepted":1,"handed_over":1,"no_origin":0,"busy":0,"kernel_refused":0},
            "bundle":0,"client":1,"control":2,"console":null,
            "listeners":[{"descriptor":3,"inode":null},{"descriptor":4,"inode":4026531840}],
            "workers":[{"descriptor":5,"pid":99,"version":"0.1.0","retired":null},
              {"descriptor":6,"pid":98,"version":"0.0.9","retired":{
                "since":{"secs_since_epoch":1790000000,"nanos_since_epoch":0},
                "until":{"secs_since_epoch":1790086400,"nanos_since_epoch":0}}}],
            "desk":{"held":[{"ticket":11,"question":"0123456789","until":"2026-11-27T10:00:00Z"}],
              "askers":{"tickets":[[11,99]],"sessions":[[[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16],99]]},
              "asked":[]},
            "courier":{"next":3,"waiting":[{"delivery":{"number":2,"channel":"ops","id":"q","body":"{}"},
              "attempts":1,"due":500,"sent":true}]},
            "names":[["192.0.2.1",[["a.example",5]]]],
            "later":"a field of a later build"}"#;
        let luggage: Luggage = serde_json::from_str(stored).unwrap();
        assert_eq!(luggage.desk.held.len(), 1);
        assert_eq!(luggage.workers.len(), 2);
    }
}
