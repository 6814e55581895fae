//! What the kernel's socket monitoring says and is asked, as bytes (sock_diag(7), `linux/inet_diag.h`).
//!
//! Everything is bounded by the datagram that it stands in; what cannot be read is an error or absent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const BY_FAMILY: u16 = 20;
pub(super) const DESTROY: u16 = 21;
const ERROR: u16 = 2;
const DONE: u16 = 3;
pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
/// States of `include/net/tcp_states.h`; connected UDP sockets are "established".
pub(super) const ESTABLISHED: u8 = 1;
const SYN_RECEIVED: u8 = 3;
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
const NEW_SYN_RECEIVED: u8 = 12;
pub(super) const EVERY_STATE: u32 = u32::MAX;
/// What has a socket of its own: half-open and left-over connections have neither inode nor cgroup.
pub(super) const LIVING: u32 =
    !(1 << SYN_RECEIVED | 1 << TIME_WAIT | 1 << CLOSE | 1 << NEW_SYN_RECEIVED);
/// `idiag_ext` that asks for [`ATTRIBUTE_INFO`].
pub(super) const WITH_INFO: u8 = 1 << (ATTRIBUTE_INFO - 1);
const ATTRIBUTE_INFO: u16 = 2;
const ATTRIBUTE_PROTOCOL: u16 = 10;
const ATTRIBUTE_CGROUP: u16 = 21;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` are no part of an attribute's kind.
const KIND: u16 = 0x3fff;
/// Offsets in `struct tcp_info`, which only grows at its end.
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;
const BYTES_SENT: usize = 200;
const BYTES_RETRANSMITTED: usize = 208;
/// `struct nlmsghdr`, `struct inet_diag_sockid`, `struct inet_diag_msg`, `struct nlattr`.
const HEADER: usize = 16;
pub(super) const ID: usize = 48;
const MESSAGE: usize = 72;
const ATTRIBUTE: usize = 4;

/// One TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// AF_INET or AF_INET6, which a v4-mapped socket is as well.
    pub(super) family: u8,
    /// As the kernel identifies it, for its end.
    pub(super) id: [u8; ID],
    pub listening: bool,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// What `socket:[…]` below `/proc/PID/fd` has; 0 if no process has it, and in a report of its end.
    pub inode: u32,
    /// Of the socket, which need not be its process's; 0 where the kernel does not say (before 5.8,
    /// and in a report of its end).
    pub cgroup_id: u64,
}

/// A socket as whoever counts traffic sees it: TCP, or UDP that is bound to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub socket: TcpSocket,
    /// The kernel gives it once: what is listed and what is reported at the end have the same.
    pub cookie: u64,
    pub udp: bool,
    /// `None` of UDP, and of what listens.
    pub counters: Option<Counters>,
}

/// Since the connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The peer has acknowledged something, its answer to the first packet counted.
    pub answered: bool,
    /// Bytes of payload, each once however often it was sent.
    pub sent: u64,
    /// Bytes of payload; the peer's end of stream counts as one.
    pub received: u64,
}

#[cfg(test)]
impl Watched {
    /// For tests of whoever counts them.
    pub(crate) fn made(cookie: u64, local: &str, peer: &str, counters: Option<Counters>) -> Self {
        let [local, peer] = [local, peer].map(|end| end.parse::<SocketAddr>().unwrap());
        Self {
            cookie,
            udp: false,
            counters,
            socket: TcpSocket {
                family: 2,
                id: [0; ID],
                listening: peer.port() == 0,
                local,
                peer,
                inode: 0,
                cgroup_id: 0,
            },
        }
    }
}

/// `struct inet_diag_req_v2` behind its header.
pub(super) fn request(
    (kind, flags): (u16, u16),
    (family, protocol, extensions): (u8, u8, u8),
    states: u32,
    id: &[u8; ID],
) -> Vec<u8> {
    const LENGTH: u32 = (HEADER + 8 + ID) as u32;
    let mut message = Vec::with_capacity(HEADER + 8 + ID);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port, which one question at a time does without.
    message.extend([0; 8]);
    message.extend([family, protocol, extensions, 0]);
    message.extend(states.to_ne_bytes());
    message.extend(id);
    message
}

/// Takes the sockets out of one datagram; says whether more follow.
pub(super) fn listed(datagram: &[u8], all: &mut Vec<TcpSocket>) -> io::Result<bool> {
    messages(datagram, |message| all.extend(one(message)))
}

/// The same with counters, for a list and for reports of ends. Fails on what is no such datagram and
/// with the error that it holds.
pub fn watched(datagram: &[u8], all: &mut Vec<Watched>) -> io::Result<bool> {
    messages(datagram, |message| all.extend(one_watched(message)))
}

fn messages(mut datagram: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<bool> {
    while !datagram.is_empty() {
        let bad = || io::Error::other("the kernel's list of sockets cannot be read");
        let length = word(datagram, 0).ok_or_else(bad)? as usize;
        let kind = half(datagram, 4).ok_or_else(bad)?;
        let message = datagram.get(HEADER..length).ok_or_else(bad)?;
        match kind {
            DONE => return Ok(false),
            ERROR => {
                let code = word(message, 0).ok_or_else(bad)?.cast_signed();
                return match code {
                    0 => Ok(false),
                    code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                };
            }
            BY_FAMILY => take(message),
            _ => {}
        }
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(true)
}

fn one(message: &[u8]) -> Option<TcpSocket> {
    let (family, state) = (*message.first()?, *message.get(1)?);
    let id: [u8; ID] = message.get(4..4 + ID)?.try_into().ok()?;
    let port = |at: usize| Some(u16::from_be_bytes(id.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| -> Option<IpAddr> {
        if i32::from(family) == libc::AF_INET {
            let bytes: [u8; 4] = id.get(at..at + 4)?.try_into().ok()?;
            return Some(Ipv4Addr::from(bytes).into());
        }
        let bytes: [u8; 16] = id.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
    };
    let cgroup = attribute(message, ATTRIBUTE_CGROUP).and_then(|value| long(value, 0));
    Some(TcpSocket {
        family,
        id,
        listening: state == LISTEN,
        local: SocketAddr::new(address(4)?, port(0)?),
        peer: SocketAddr::new(address(20)?, port(2)?),
        inode: word(message, MESSAGE - 4)?,
        cgroup_id: cgroup.unwrap_or(0),
    })
}

fn one_watched(message: &[u8]) -> Option<Watched> {
    let socket = one(message)?;
    let protocol = attribute(message, ATTRIBUTE_PROTOCOL).and_then(|value| value.first());
    let info = attribute(message, ATTRIBUTE_INFO);
    Some(Watched {
        cookie: long(&socket.id, ID - 8)?,
        udp: protocol == Some(&UDP),
        counters: info.filter(|_| !socket.listening).and_then(counters),
        socket,
    })
}

fn counters(info: &[u8]) -> Option<Counters> {
    let acked = long(info, BYTES_ACKED)?;
    // Before 4.19 there is only what was acknowledged, with the first packet as one byte.
    let sent = long(info, BYTES_SENT)
        .zip(long(info, BYTES_RETRANSMITTED))
        .map_or(acked.saturating_sub(1), |(all, again)| {
            all.saturating_sub(again)
        });
    Some(Counters {
        answered: acked > 0,
        sent,
        received: long(info, BYTES_RECEIVED)?,
    })
}

/// The value of the first attribute of that kind.
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut attributes = message.get(MESSAGE..)?;
    loop {
        let length = usize::from(half(attributes, 0)?);
        if half(attributes, 2)? & KIND == wanted {
            return attributes.get(ATTRIBUTE..length);
        }
        // An empty one would be met for ever.
        attributes = attributes.get(length.max(ATTRIBUTE).next_multiple_of(4)..)?;
    }
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(kind: u16, message: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER as u32 + message.len() as u32)
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(message);
        bytes
    }

    fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (ATTRIBUTE as u16 + value.len() as u16)
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn info(acked: u64, received: u64, sent: u64, again: u64) -> Vec<u8> {
        let mut info = vec![0; 280];
        for (at, value) in [
            (BYTES_ACKED, acked),
            (BYTES_RECEIVED, received),
            (BYTES_SENT, sent),
            (BYTES_RETRANSMITTED, again),
        ] {
            info[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        info
    }

    /// 10.0.0.1:40000 to 10.0.0.2:5432.
    fn message(state: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut message = vec![2, state, 0, 0];
        let mut id = [0_u8; ID];
        id[..2].copy_from_slice(&40000_u16.to_be_bytes());
        id[2..4].copy_from_slice(&5432_u16.to_be_bytes());
        id[4..8].copy_from_slice(&[10, 0, 0, 1]);
        id[20..24].copy_from_slice(&[10, 0, 0, 2]);
        id[40..].copy_from_slice(&77_u64.to_ne_bytes());
        message.extend(id);
        message.extend([0; 16]);
        message.extend(9_u32.to_ne_bytes());
        message.extend(attributes.concat());
        message
    }

    fn read(message: &[u8]) -> Watched {
        let mut all = Vec::new();
        assert!(watched(&datagram(BY_FAMILY, message), &mut all).unwrap());
        all.remove(0)
    }

    #[test]
    fn a_connection_with_its_counters() {
        let attributes = [
            attribute_of(8, &[0]),
            attribute_of(ATTRIBUTE_CGROUP, &4242_u64.to_ne_bytes()),
            attribute_of(ATTRIBUTE_INFO, &info(102, 2000, 150, 50)),
        ];
        let found = read(&message(1, &attributes));
        assert_eq!(found.socket.local, "10.0.0.1:40000".parse().unwrap());
        assert_eq!(found.socket.peer, "10.0.0.2:5432".parse().unwrap());
        assert_eq!((found.cookie, found.udp), (77, false));
        assert_eq!((found.socket.inode, found.socket.cgroup_id), (9, 4242));
        let counters = found.counters.unwrap();
        assert_eq!((counters.sent, counters.received), (100, 2000));
        assert!(counters.answered);
    }

    #[test]
    fn an_old_kernels_short_info_a_listener_and_udp() {
        let short = attribute_of(ATTRIBUTE_INFO, &info(11, 5, 0, 0)[..192]);
        let counters = read(&message(1, &[short])).counters.unwrap();
        assert_eq!((counters.sent, counters.received), (10, 5));
        let whole = attribute_of(ATTRIBUTE_INFO, &info(1, 1, 1, 0));
        let listener = read(&message(LISTEN, &[whole]));
        assert!(listener.socket.listening && listener.counters.is_none());
        let udp = read(&message(1, &[attribute_of(ATTRIBUTE_PROTOCOL, &[UDP])]));
        assert!(udp.udp && udp.counters.is_none());
        let tiny = attribute_of(ATTRIBUTE_INFO, &[0; 8]);
        assert!(read(&message(1, &[tiny])).counters.is_none());
    }

    #[test]
    fn the_kernels_error_is_an_error_and_the_end_an_end() {
        let none = &mut Vec::new();
        let error = datagram(ERROR, &(-libc::EPERM).to_ne_bytes());
        let said = watched(&error, none).unwrap_err();
        assert_eq!(said.raw_os_error(), Some(libc::EPERM));
        assert!(!watched(&datagram(DONE, &[]), none).unwrap());
        assert!(watched(&[1, 2, 3], none).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(0_u8.., 0..300)) {
            let _ = listed(&bytes, &mut Vec::new());
            let _ = watched(&bytes, &mut Vec::new());
        }

        #[test]
        fn no_message_panics(rest in proptest::collection::vec(0_u8.., 0..400)) {
            let bytes = datagram(BY_FAMILY, &rest);
            proptest::prop_assert!(listed(&bytes, &mut Vec::new()).unwrap());
            proptest::prop_assert!(watched(&bytes, &mut Vec::new()).unwrap());
        }

        #[test]
        fn no_damage_panics(at in 0_usize..72 + 320, byte: u8, cut in 0_usize..72 + 320) {
            let mut bytes = message(1, &[
                attribute_of(ATTRIBUTE_CGROUP, &[1; 8]),
                attribute_of(ATTRIBUTE_INFO, &info(1, 2, 3, 4)),
            ]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            proptest::prop_assert!(watched(&datagram(BY_FAMILY, &bytes), &mut Vec::new()).unwrap());
        }
    }
}
