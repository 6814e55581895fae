//! One network namespace's connections while they live, and each as it ends.
//!
//! Nothing is attached or changed: the kernel is asked for its list, and tells of ends by itself
//! (`SKNLGRP_INET_TCP_DESTROY` and its like). A report of an end has the counters, but neither cgroup
//! nor inode: those are only in lists.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, setsockopt};

use super::diag::{
    BY_FAMILY, DUMP, ESTABLISHED, ID, LIVING, REQUEST, TCP, UDP, WITH_INFO, Watched, request,
    watched,
};
use super::{MOST, open, receive, receive_with, send};

/// Groups of `enum sknetlink_groups`: ends of TCP, UDP, TCP over IPv6, UDP over IPv6.
const ENDS: u32 = 0b1111;
/// For ends that come faster than they are read: some ten thousand.
const ROOM: usize = 16 << 20;
/// Reports that are taken at a time, so that nobody is kept from looking at the list.
const AT_ONCE: usize = 20_000;

/// Belongs to the namespace that it was opened in, whatever thread uses it.
pub struct Watch {
    list: OwnedFd,
    ends: OwnedFd,
}

/// What has ended since the last look.
#[derive(Debug, Default)]
pub struct Ended {
    pub sockets: Vec<Watched>,
    /// The kernel had more to say than there was room for.
    pub lost: bool,
}

impl Watch {
    /// In the calling thread's network namespace. From now on ends are kept.
    pub fn open() -> io::Result<Self> {
        let ends = open()?;
        // Beyond the system's limit only with CAP_NET_ADMIN, and less room loses more.
        if setsockopt(&ends, RcvBufForce, &ROOM).is_err() {
            let _ = setsockopt(&ends, RcvBuf, &ROOM);
        }
        bind(ends.as_raw_fd(), &NetlinkAddr::new(0, ENDS))?;
        Ok(Self {
            list: open()?,
            ends,
        })
    }

    /// What lives now: TCP connections and listeners, and UDP sockets that are bound to one peer.
    pub fn living(&self) -> io::Result<Vec<Watched>> {
        let mut all = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = u8::try_from(family).map_err(io::Error::other)?;
            self.list(family, TCP, LIVING, &mut all)?;
            let before = all.len();
            // A kernel may be without it; TCP is what counts.
            if self.list(family, UDP, 1 << ESTABLISHED, &mut all).is_err() {
                all.truncate(before);
            }
            for socket in all.iter_mut().skip(before) {
                // A list says it only of what was not asked for.
                socket.udp = true;
            }
        }
        Ok(all)
    }

    fn list(
        &self,
        family: u8,
        protocol: u8,
        states: u32,
        all: &mut Vec<Watched>,
    ) -> io::Result<()> {
        let dump = (BY_FAMILY, REQUEST | DUMP);
        let what = (family, protocol, WITH_INFO);
        send(&self.list, &request(dump, what, states, &[0; ID]))?;
        while watched(&receive(&self.list)?, all)? {
            if all.len() >= MOST {
                return Err(io::Error::other("there are too many sockets to look at"));
            }
        }
        Ok(())
    }

    /// Does not wait.
    pub fn ended(&self) -> io::Result<Ended> {
        let mut ended = Ended::default();
        for _ in 0..AT_ONCE {
            match receive_with(&self.ends, MsgFlags::MSG_DONTWAIT) {
                Ok(datagram) => {
                    watched(&datagram, &mut ended.sockets)?;
                }
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    ended.lost = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(ended)
    }
}

/// Readable when something has ended.
impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ends.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::time::{Duration, Instant};

    fn ends(watch: &Watch, wanted: impl Fn(&Watched) -> bool) -> Vec<Watched> {
        let until = Instant::now() + Duration::from_secs(10);
        let mut found: Vec<Watched> = Vec::new();
        while found.is_empty() {
            assert!(Instant::now() < until, "no end was reported");
            std::thread::sleep(Duration::from_millis(10));
            let ended = watch.ended().unwrap();
            found.extend(ended.sockets.into_iter().filter(&wanted));
        }
        found
    }

    /// What of the kernel everything here rests on.
    #[test]
    fn a_connection_is_listed_and_its_end_reported_under_the_same_cookie() {
        let watch = Watch::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(&[7; 1000]).unwrap();
        client.read_exact(&mut [0; 1000]).unwrap();
        let local = client.local_addr().unwrap();
        let living = watch.living().unwrap();
        let found = living.iter().find(|w| w.socket.local == local).unwrap();
        let counters = found.counters.unwrap();
        assert_eq!((counters.sent, counters.received), (5, 1000));
        assert!(counters.answered && !found.udp);
        assert!(found.socket.inode != 0 && found.socket.cgroup_id != 0);
        let address = listener.local_addr().unwrap();
        assert!(
            living
                .iter()
                .any(|w| w.socket.listening && w.socket.local == address)
        );
        drop((client, server));
        let end = ends(&watch, |w| w.socket.local == local).remove(0);
        assert_eq!((end.cookie, end.socket.peer), (found.cookie, address));
        let counters = end.counters.unwrap();
        assert_eq!((counters.sent, counters.received.min(1000)), (5, 1000));
        assert_eq!((end.socket.inode, end.socket.cgroup_id), (0, 0));
    }

    /// A connection that fails takes back where it went before anybody hears of its end.
    #[test]
    fn a_refused_connection_is_reported_without_its_peer() {
        let watch = Watch::open().unwrap();
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        TcpStream::connect(address).unwrap_err();
        let nowhere = |w: &Watched| w.socket.peer.port() == 0 && !w.udp;
        let found = ends(&watch, nowhere);
        assert!(found.iter().all(|w| w.socket.peer != address));
    }

    #[test]
    fn udp_that_is_bound_to_a_peer_is_listed_and_reported() {
        let watch = Watch::open().unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(peer.local_addr().unwrap()).unwrap();
        let local = socket.local_addr().unwrap();
        let living = watch.living().unwrap();
        let found = living.iter().find(|w| w.socket.local == local).unwrap();
        assert!(found.udp && found.counters.is_none());
        drop(socket);
        let end = ends(&watch, |w| w.socket.local == local).remove(0);
        assert!(end.udp && end.cookie == found.cookie);
    }
}
