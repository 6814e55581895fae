//! TCP sockets as the kernel lists them (sock_diag(7)), with their cgroups, and their end.
//!
//! What is asked for is of the network namespace that the calling thread is in.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::sys;

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const TCP: u8 = 6;
const LISTEN: u8 = 10;
const ATTRIBUTE_CGROUP: u16 = 21;
/// `struct nlmsghdr`, `struct inet_diag_sockid`, `struct inet_diag_msg`, `struct nlattr`.
const HEADER: usize = 16;
const ID: usize = 48;
const MESSAGE: usize = 72;
const ATTRIBUTE: usize = 4;
/// More than a dump's message ever holds.
const BUFFER: usize = 64 << 10;
/// Sockets that are looked at; a host with more has other worries.
const MOST: usize = 1 << 20;
const PATIENCE_SECONDS: i64 = 5;
const DNS: u16 = 53;

/// One TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// AF_INET or AF_INET6, which a v4-mapped socket is as well.
    family: u8,
    /// As the kernel identifies it, for its end.
    id: [u8; ID],
    pub listening: bool,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// What `socket:[…]` below `/proc/PID/fd` has.
    pub inode: u32,
    /// Of the socket, which need not be its process's; 0 where the kernel does not say (before 5.8).
    pub cgroup_id: u64,
}

/// The sockets of one network namespace.
#[derive(Debug, Default)]
pub struct Sockets {
    pub all: Vec<TcpSocket>,
    pub netns_cookie: u64,
}

/// All TCP sockets of the calling thread's network namespace.
pub fn tcp() -> io::Result<Sockets> {
    let netlink = open()?;
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).map_err(io::Error::other)?;
        send(
            &netlink,
            &request(BY_FAMILY, REQUEST | DUMP, family, &[0; ID]),
        )?;
        while listed(&receive(&netlink)?, &mut all)? {
            if all.len() >= MOST {
                return Err(io::Error::other("there are too many sockets to look at"));
            }
        }
    }
    Ok(Sockets {
        all,
        netns_cookie: sys::netns_cookie(netlink.as_fd())?,
    })
}

/// Ends a connection: its process gets an error, and its server a reset. Needs CAP_NET_ADMIN and a
/// kernel that was built for it.
pub fn destroy(socket: &TcpSocket) -> io::Result<()> {
    let netlink = open()?;
    send(
        &netlink,
        &request(DESTROY, REQUEST | ACK, socket.family, &socket.id),
    )?;
    match listed(&receive(&netlink)?, &mut Vec::new()) {
        // It ended by itself.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map(drop),
    }
}

/// What of these cgroups' sockets goes past the daemon: neither to its ports, nor to a resolver, nor
/// accepted on a port that they listen on.
pub fn past_the_daemon<'s>(
    sockets: &'s [TcpSocket],
    cgroups: &BTreeSet<u64>,
    ports: &[u16],
    resolvers: &[IpAddr],
) -> Vec<&'s TcpSocket> {
    let own = |socket: &&TcpSocket| cgroups.contains(&socket.cgroup_id);
    let listening: BTreeSet<u16> = sockets
        .iter()
        .filter(own)
        .filter(|socket| socket.listening)
        .map(|socket| socket.local.port())
        .collect();
    let past = |socket: &&TcpSocket| {
        let (peer, port) = (socket.peer.ip(), socket.peer.port());
        let daemon = peer.is_loopback() && ports.contains(&port);
        let resolver = port == DNS && resolvers.contains(&peer);
        let accepted = listening.contains(&socket.local.port());
        let connected = !socket.listening && port != 0;
        connected && !daemon && !resolver && !accepted
    };
    sockets.iter().filter(own).filter(past).collect()
}

fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkSockDiag;
    let netlink = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)?;
    // The kernel answers at once; where it does not, nobody must wait for ever.
    setsockopt(
        &netlink,
        ReceiveTimeout,
        &TimeVal::seconds(PATIENCE_SECONDS),
    )?;
    Ok(netlink)
}

fn send(netlink: &OwnedFd, message: &[u8]) -> io::Result<()> {
    let kernel = NetlinkAddr::new(0, 0);
    sendto(netlink.as_raw_fd(), message, &kernel, MsgFlags::empty())?;
    Ok(())
}

fn receive(netlink: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; BUFFER];
    let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    buffer.truncate(length);
    Ok(buffer)
}

/// `struct inet_diag_req_v2` behind its header.
fn request(kind: u16, flags: u16, family: u8, id: &[u8; ID]) -> Vec<u8> {
    const LENGTH: u32 = (HEADER + 8 + ID) as u32;
    let mut message = Vec::with_capacity(HEADER + 8 + ID);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port, which one question at a time does without.
    message.extend([0; 8]);
    message.extend([family, TCP, 0, 0]);
    // Every state.
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(id);
    message
}

/// Takes the sockets out of one datagram; says whether more follow.
fn listed(mut datagram: &[u8], all: &mut Vec<TcpSocket>) -> io::Result<bool> {
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
            BY_FAMILY => all.extend(one(message)),
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
    Some(TcpSocket {
        family,
        id,
        listening: state == LISTEN,
        local: SocketAddr::new(address(4)?, port(0)?),
        peer: SocketAddr::new(address(20)?, port(2)?),
        inode: word(message, MESSAGE - 4)?,
        cgroup_id: cgroup(message.get(MESSAGE..)?).unwrap_or(0),
    })
}

fn cgroup(mut attributes: &[u8]) -> Option<u64> {
    loop {
        let length = usize::from(half(attributes, 0)?);
        if half(attributes, 2)? == ATTRIBUTE_CGROUP {
            let value = attributes.get(ATTRIBUTE..ATTRIBUTE + 8)?;
            return Some(u64::from_ne_bytes(value.try_into().ok()?));
        }
        // An empty one would be met for ever.
        attributes = attributes.get(length.max(ATTRIBUTE).next_multiple_of(4)..)?;
    }
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
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_connection_is_listed_with_its_ends_and_its_inode() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let sockets = tcp().unwrap();
        let find = |local| sockets.all.iter().find(|s| s.local == local).unwrap();
        let found = find(client.local_addr().unwrap());
        assert_eq!(found.peer, client.peer_addr().unwrap());
        let path = format!("/proc/self/fd/{}", client.as_raw_fd());
        assert_eq!(
            u64::from(found.inode),
            std::fs::metadata(path).unwrap().ino()
        );
        assert!(!found.listening && found.cgroup_id != 0);
        assert!(find(listener.local_addr().unwrap()).listening);
        assert_ne!(sockets.netns_cookie, 0);
    }

    fn socket(local: u16, peer: &str, listening: bool, cgroup_id: u64) -> TcpSocket {
        TcpSocket {
            family: 2,
            id: [0; ID],
            listening,
            local: SocketAddr::from(([10, 0, 0, 1], local)),
            peer: peer.parse().unwrap(),
            inode: 0,
            cgroup_id,
        }
    }

    #[test]
    fn what_goes_to_the_daemon_a_resolver_or_was_accepted_is_left_alone() {
        let all = [
            socket(1, "192.0.2.1:5432", false, 7),
            socket(2, "127.0.0.1:4000", false, 7),
            socket(3, "192.0.2.53:53", false, 7),
            socket(80, "0.0.0.0:0", true, 7),
            socket(80, "192.0.2.9:50000", false, 7),
            socket(5, "192.0.2.1:5432", false, 8),
            socket(6, "127.0.0.1:4001", false, 7),
        ];
        let resolvers = ["192.0.2.53".parse().unwrap()];
        let past = past_the_daemon(&all, &BTreeSet::from([7]), &[4000], &resolvers);
        let locals: Vec<u16> = past.iter().map(|s| s.local.port()).collect();
        assert_eq!(locals, [1, 6]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(0_u8.., 0..300)) {
            let _ = listed(&bytes, &mut Vec::new());
        }

        #[test]
        fn no_message_panics(rest in proptest::collection::vec(0_u8.., 0..200)) {
            let mut message = (HEADER as u32 + rest.len() as u32).to_ne_bytes().to_vec();
            message.extend(BY_FAMILY.to_ne_bytes());
            message.extend([0; 10]);
            message.extend(&rest);
            proptest::prop_assert!(listed(&message, &mut Vec::new()).unwrap());
        }
    }
}
