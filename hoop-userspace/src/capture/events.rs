//! What the kernel reports: destinations that passed or were refused, namespaces without a
//! listener, and DNS answers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aya::maps::{MapData, RingBuf};
use hoop_common::{Address, Answer, Event, Origin, kind, reason};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::names;

/// One report of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Went its own way: discover mode, observe mode without a daemon, or not TCP.
    Connect { origin: Origin, verdict: Verdict },
    /// Refused in the kernel.
    Denied { origin: Origin, reason: Reason },
    /// From a network namespace that no listener serves yet.
    Namespace { origin: Origin },
    /// A configured resolver answered a socket of this cgroup.
    Dns {
        cgroup_id: u64,
        resolver: IpAddr,
        names: Vec<String>,
        addresses: Vec<IpAddr>,
    },
}

/// Why a connection passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The mode lets it.
    Passed,
    /// Observe mode, and no daemon was listening.
    PassedWithoutDaemon,
    /// Somebody broke the glass.
    Bypassed,
    /// Observe mode; in enforce mode the socket's kind would have been refused.
    PassedUnusualSocket,
}

/// Why the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NoDaemon,
    PassedSocket,
    Datagram,
    SocketKind,
    Egress,
    BoundDevice,
    Namespace,
    Memory,
    Unknown(u8),
}

impl Reason {
    /// One sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoDaemon => "hoop is not listening",
            Self::PassedSocket => "the socket was made in another cgroup",
            Self::Datagram => "UDP goes only to the configured resolvers, port 53",
            Self::SocketKind => "only TCP and UDP sockets are allowed",
            Self::Egress => "the packet belongs to no permitted connection",
            Self::BoundDevice => "the socket is bound to a network device",
            Self::Namespace => "hoop does not listen in that network namespace",
            Self::Memory => "the kernel had no memory for the connection's record",
            Self::Unknown(_) => "unknown",
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            reason::NO_DAEMON => Self::NoDaemon,
            reason::PASSED_SOCKET => Self::PassedSocket,
            reason::DATAGRAM => Self::Datagram,
            reason::SOCKET_KIND => Self::SocketKind,
            reason::EGRESS => Self::Egress,
            reason::BOUND_DEVICE => Self::BoundDevice,
            reason::NAMESPACE => Self::Namespace,
            reason::MEMORY => Self::Memory,
            other => Self::Unknown(other),
        }
    }
}

/// An address of the kernel's form; IPv4 comes back as IPv4.
pub fn address(address: Address) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(address)).to_canonical()
}

/// The kernel's form of an address.
pub fn kernel_address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Where the client believes it is connected to.
pub fn destination(origin: &Origin) -> SocketAddr {
    SocketAddr::new(address(origin.address), origin.port)
}

/// The stream of reports.
pub struct Events {
    events: AsyncFd<RingBuf<MapData>>,
    names: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    pub(super) fn new(events: RingBuf<MapData>, names: RingBuf<MapData>) -> std::io::Result<Self> {
        Ok(Self {
            events: watch(events)?,
            names: watch(names)?,
        })
    }

    /// The next report. Cancel-safe.
    pub async fn next(&mut self) -> std::io::Result<Observed> {
        loop {
            if let Some(observed) = self.try_next() {
                return Ok(observed);
            }
            // Readiness is cleared before the buffers are read again: what comes in between
            // raises it anew.
            tokio::select! {
                ready = self.names.readable_mut() => ready?.clear_ready(),
                ready = self.events.readable_mut() => ready?.clear_ready(),
            }
            if let Some(observed) = self.try_next() {
                return Ok(observed);
            }
        }
    }

    /// A report that is there already. Names come first: a connection that was made after an
    /// answer is seen after it.
    pub fn try_next(&mut self) -> Option<Observed> {
        self.try_name().or_else(|| self.try_event())
    }

    /// An answer that is there already; to be drained before a connection is labelled.
    pub fn try_name(&mut self) -> Option<Observed> {
        while let Some(entry) = self.names.get_mut().next() {
            if let Some(observed) = Answer::from_bytes(&entry).as_ref().and_then(named) {
                return Some(observed);
            }
        }
        None
    }

    fn try_event(&mut self) -> Option<Observed> {
        while let Some(entry) = self.events.get_mut().next() {
            if let Some(observed) = Event::from_bytes(&entry).and_then(reported) {
                return Some(observed);
            }
        }
        None
    }
}

fn watch(buffer: RingBuf<MapData>) -> std::io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the buffer owns its descriptor, always returns the same one, and keeps it open until
    // it is dropped, which is after the registration ends.
    unsafe { AsyncFd::register_with_interest(buffer, Interest::READABLE) }.map_err(Into::into)
}

fn named(answer: &Answer) -> Option<Observed> {
    let length = usize::try_from(answer.length).ok()?;
    let named = names::read(answer.message.get(..length)?)?;
    Some(Observed::Dns {
        cgroup_id: answer.cgroup_id,
        resolver: address(answer.resolver),
        names: named.names,
        addresses: named.addresses,
    })
}

fn reported(event: Event) -> Option<Observed> {
    let origin = event.origin;
    match event.kind {
        kind::PASSED => {
            let verdict = match event.reason {
                reason::NO_DAEMON => Verdict::PassedWithoutDaemon,
                reason::SOCKET_KIND => Verdict::PassedUnusualSocket,
                reason::BYPASS => Verdict::Bypassed,
                _ => Verdict::Passed,
            };
            Some(Observed::Connect { origin, verdict })
        }
        kind::DENIED => Some(Observed::Denied {
            origin,
            reason: Reason::from_code(event.reason),
        }),
        kind::NAMESPACE => Some(Observed::Namespace { origin }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in ["192.0.2.1", "2001:db8::1", "::1", "127.0.0.1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(address(kernel_address(ip)), ip);
        }
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(
            address(kernel_address(mapped)),
            IpAddr::from([192, 0, 2, 1])
        );
    }
}
