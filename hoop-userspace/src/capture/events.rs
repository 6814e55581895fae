//! What the kernel reports: destinations that passed or were refused, namespaces without a
//! listener, and DNS answers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aya::maps::{MapData, RingBuf};
use hoop_common::{Address, Answer, Event, Origin, family, kind, reason};
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
    /// Discover or observe mode; in enforce mode the LSM tier would have refused it so.
    WouldBeRefused(Reason),
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
    /// A descriptor that came from another cgroup.
    Received,
    /// An address family that is not on the allow-list.
    Family,
    /// A Unix socket of a name that is refused.
    UnixSocket,
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
            Self::Received => {
                "the socket was made in another cgroup, and its descriptor passed to this one"
            }
            Self::Family => "sockets of that family are not allowed",
            Self::UnixSocket => "[capture] refused_sockets has that Unix socket",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The same with what an origin tells of it, where a destination does not.
    pub fn of(self, origin: &Origin) -> String {
        match self {
            Self::Family | Self::Received if origin.family == family::OTHER => {
                format!("{} ({})", self.text(), family_name(origin.port))
            }
            Self::UnixSocket => match unix_name(origin) {
                Some(name) => format!("{} ({name})", self.text()),
                None => self.text().to_owned(),
            },
            _ => self.text().to_owned(),
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
            reason::RECEIVED => Self::Received,
            reason::FAMILY => Self::Family,
            reason::UNIX_SOCKET => Self::UnixSocket,
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

/// Where the client believes it is connected to; what is no internet socket has no such place.
pub fn destination(origin: &Origin) -> SocketAddr {
    if matches!(origin.family, family::UNIX | family::OTHER) {
        return SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    }
    SocketAddr::new(address(origin.address), origin.port)
}

/// The name of the Unix socket that an origin is about: its file's or its address's, as much as fits;
/// `None` where it is about none. Others choose it: whatever does not print is a `?`.
pub fn unix_name(origin: &Origin) -> Option<String> {
    if origin.family != family::UNIX {
        return None;
    }
    let (abstract_mark, name) = match origin.address.strip_prefix(b"\0") {
        Some(name) => ("@", name),
        None => ("", &origin.address[..]),
    };
    let printed = name.iter().take_while(|byte| **byte != 0).map(|byte| {
        let plain = byte.is_ascii_graphic() || *byte == b' ';
        if plain { char::from(*byte) } else { '?' }
    });
    Some(abstract_mark.chars().chain(printed).collect())
}

/// An address family by its number (`include/linux/socket.h`).
fn family_name(number: u16) -> String {
    let known = match i32::from(number) {
        libc::AF_PACKET => "AF_PACKET",
        libc::AF_VSOCK => "AF_VSOCK",
        libc::AF_ALG => "AF_ALG",
        libc::AF_BLUETOOTH => "AF_BLUETOOTH",
        libc::AF_CAN => "AF_CAN",
        libc::AF_TIPC => "AF_TIPC",
        libc::AF_RDS => "AF_RDS",
        libc::AF_KEY => "AF_KEY",
        libc::AF_PPPOX => "AF_PPPOX",
        libc::AF_XDP => "AF_XDP",
        _ => return format!("address family {number}"),
    };
    known.to_owned()
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
                code @ (reason::RECEIVED | reason::FAMILY | reason::UNIX_SOCKET) => {
                    Verdict::WouldBeRefused(Reason::from_code(code))
                }
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
    fn what_is_no_internet_socket_is_told_by_its_name() {
        let mut address = [0; 16];
        address[..13].copy_from_slice(b".s.PGSQL.5432");
        let unix = Origin {
            family: family::UNIX,
            address,
            ..Origin::default()
        };
        assert_eq!(unix_name(&unix).as_deref(), Some(".s.PGSQL.5432"));
        assert_eq!(destination(&unix).to_string(), "[::]:0");
        assert!(Reason::UnixSocket.of(&unix).ends_with("(.s.PGSQL.5432)"));
        address[..4].copy_from_slice(b"\0a\x1bb");
        let hidden = Origin { address, ..unix };
        assert_eq!(unix_name(&hidden).as_deref(), Some("@a?bGSQL.5432"));
        let packet = Origin {
            family: family::OTHER,
            port: 17,
            ..Origin::default()
        };
        assert!(Reason::Family.of(&packet).ends_with("(AF_PACKET)"));
        assert_eq!(unix_name(&packet), None);
        assert!(
            Reason::Family
                .of(&Origin {
                    port: 999,
                    ..packet
                })
                .ends_with("family 999)")
        );
    }

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
