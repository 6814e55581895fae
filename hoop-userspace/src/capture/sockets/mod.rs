//! TCP sockets as the kernel lists them (sock_diag(7)), with their cgroups, and their end.
//!
//! What is asked for is of the network namespace that the calling thread is in.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::sys;
use diag::{ACK, BY_FAMILY, DESTROY, DUMP, EVERY_STATE, ID, REQUEST, TCP, listed, request};

mod diag;
mod watch;

pub use diag::{Counters, TcpSocket, Watched, watched};
pub use watch::{Ended, Watch};

/// More than a dump's message ever holds.
const BUFFER: usize = 64 << 10;
/// Sockets that are looked at; a host with more has other worries.
const MOST: usize = 1 << 20;
const PATIENCE_SECONDS: i64 = 5;
const DNS: u16 = 53;

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
            &request(
                (BY_FAMILY, REQUEST | DUMP),
                (family, TCP, 0),
                EVERY_STATE,
                &[0; ID],
            ),
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
        &request(
            (DESTROY, REQUEST | ACK),
            (socket.family, TCP, 0),
            EVERY_STATE,
            &socket.id,
        ),
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
    receive_with(netlink, MsgFlags::empty())
}

fn receive_with(netlink: &OwnedFd, flags: MsgFlags) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; BUFFER];
    let length = recv(netlink.as_raw_fd(), &mut buffer, flags)?;
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};
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
}
