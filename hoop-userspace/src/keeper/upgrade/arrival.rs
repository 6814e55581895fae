//! The other end of an upgrade: what the build before handed over, as this one begins with it.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Instant, SystemTime};

use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::luggage::{self, Bag, Luggage};
use crate::accept::Adopted;
use crate::config::Config;
use crate::handover::{Channel, Side};
use crate::keeper::console::sessions::Sessions;
use crate::keeper::governing::Handed;
use crate::keeper::status::{CountersStatus, UpgradeStatus};
use crate::keeper::talk::Ears;
use crate::keeper::{KeeperError, approvals, courier, names, retired};

/// What the build before hands over. Standard input is empty from then on, as at any other start.
pub fn received() -> Result<(Luggage, Bag), KeeperError> {
    // An exec by descriptor leaves that as the name.
    let _ = nix::sys::prctl::set_name(c"hoop");
    let received = luggage::receive(std::io::stdin().as_fd())?;
    let nothing = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&nothing).map_err(std::io::Error::from)?;
    Ok(received)
}

/// What the keeper before handed over, in the forms in which it is used.
pub struct Taken {
    pub luggage: Luggage,
    pub bundle: Zeroizing<Vec<u8>>,
    pub client: UnixStream,
    pub control: UnixListener,
    pub console: Option<TcpListener>,
    pub listeners: Vec<Adopted>,
    pub workers: Vec<(luggage::Worker, Channel)>,
}

/// Bytes of a configuration with everything that it names.
const MAX_BUNDLE: u64 = 64 << 20;

impl Taken {
    /// Must be called within a tokio runtime.
    pub fn of(mut luggage: Luggage, mut bag: Bag) -> Result<Self, KeeperError> {
        let bundle = luggage::read(bag.take(luggage.bundle)?, MAX_BUNDLE)?;
        let client = std::os::unix::net::UnixStream::from(bag.take(luggage.client)?);
        client.set_nonblocking(true)?;
        let console = luggage.console.map(|place| bag.take(place)).transpose()?;
        let control = bag.take(luggage.control)?;
        let mut listeners = Vec::new();
        for listener in &luggage.listeners {
            listeners.push(Adopted {
                listener: bag.take(listener.descriptor)?.into(),
                inode: listener.inode,
            });
        }
        let children = retired::children();
        let mut workers = Vec::new();
        for worker in std::mem::take(&mut luggage.workers) {
            let socket = bag.take(worker.descriptor)?;
            // A number that is no child's of ours could be anybody's to kill.
            match children.contains(&worker.pid) {
                true => workers.push((worker, Channel::new(socket, Side::Keeper)?)),
                false => tracing::error!(
                    pid = worker.pid,
                    "a worker to be taken over is no child of ours"
                ),
            }
        }
        Ok(Self {
            bundle,
            client: UnixStream::from_std(client)?,
            control: control.into(),
            console: console.map(TcpListener::from),
            listeners,
            workers,
            luggage,
        })
    }
}

/// What a keeper begins with: nothing, or what the one before handed over.
pub struct Given {
    pub since: SystemTime,
    pub epoch: u64,
    pub counters: CountersStatus,
    pub desk: approvals::Carried,
    pub courier: courier::Carried,
    pub names: names::Names,
    pub signed_in: Sessions,
    pub console: Option<TcpListener>,
    pub control: Option<UnixListener>,
    pub governor: Option<Handed>,
    pub client: Option<UnixStream>,
    pub upgraded: Option<UpgradeStatus>,
}

impl Given {
    /// The workers go on at once, as ones that retire.
    pub fn of(taken: Option<Taken>, config: &Config, ears: &Ears) -> Self {
        let Some(taken) = taken else {
            return Self {
                since: SystemTime::now(),
                epoch: 1,
                counters: CountersStatus::default(),
                desk: approvals::Carried::default(),
                courier: courier::Carried::default(),
                names: names::Names::default(),
                signed_in: Sessions::default(),
                console: None,
                control: None,
                governor: None,
                client: None,
                upgraded: None,
            };
        };
        let luggage = taken.luggage;
        let now = SystemTime::now();
        let known: Vec<u32> = taken.workers.iter().map(|(worker, _)| worker.pid).collect();
        for (worker, channel) in taken.workers {
            let (since, until) = match worker.retired {
                None => (now, now + config.worker.retire),
                Some(retired) => (retired.since, retired.until),
            };
            let adopted = retired::Adopted {
                pid: worker.pid,
                version: worker.version,
                since,
                until,
                channel,
            };
            ears.retired.adopt(adopted, ears);
        }
        // Before this build starts any of its own.
        let strays = retired::children();
        let strays = strays.into_iter().filter(|pid| !known.contains(pid));
        tokio::spawn(retired::reap_strays(strays.collect()));
        Self {
            since: luggage.since,
            epoch: luggage.epoch,
            counters: luggage.counters,
            desk: luggage.desk,
            courier: luggage.courier,
            names: names::Names::take_over(luggage.names_by_cgroup, Instant::now()),
            signed_in: Sessions::take_over(luggage.signed_in, Instant::now()),
            console: taken.console,
            control: Some(taken.control),
            governor: Some(Handed {
                nonce: luggage.nonce,
                listeners: taken.listeners,
                connections: luggage.connections,
            }),
            client: Some(taken.client),
            upgraded: Some(UpgradeStatus {
                from: luggage.from,
                at: now.into(),
            }),
        }
    }
}
