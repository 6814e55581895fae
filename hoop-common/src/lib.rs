//! The shapes that kernel and user space share: plain old data, layout asserted at compile time.
//!
//! The kernel side writes them into maps and ring buffers, the daemon reads them as bytes, and the
//! maps outlive both (they are pinned). Any change of a layout here is a new [`LAYOUT`].
#![cfg_attr(not(test), no_std)]

/// Version of all shapes below. Pins live in a folder named for it, so that programs and maps of
/// different layouts never meet.
pub const LAYOUT: u32 = 1;

/// An IP address as 16 bytes; IPv4 as `::ffff:a.b.c.d`, so that one form keys every map.
pub type Address = [u8; 16];

/// `127.0.0.1` as an [`Address`].
pub const LOOPBACK4: Address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
/// `::1`.
pub const LOOPBACK6: Address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Turns an IPv4 address (its four bytes, in order) into an [`Address`].
#[inline(always)]
#[must_use]
pub const fn mapped(v4: [u8; 4]) -> Address {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// What the programs do with a cgroup's connections. One that no entry names, nor any ancestor's,
/// is enforced.
pub mod mode {
    /// Nothing is redirected; every destination is reported.
    pub const DISCOVER: u32 = 1;
    /// TCP is redirected while the daemon lives; all else passes and is reported.
    pub const OBSERVE: u32 = 2;
    /// TCP is redirected or refused; all else but DNS to the configured resolvers is refused.
    pub const ENFORCE: u32 = 3;
}

/// How the client named its destination.
pub mod family {
    /// AF_INET socket.
    pub const V4: u8 = 4;
    /// AF_INET6 socket and address.
    pub const V6: u8 = 6;
    /// AF_INET6 socket, IPv4-mapped address.
    pub const MAPPED: u8 = 46;
    /// AF_UNIX socket: [`Origin::address`](super::Origin::address) holds the beginning of its name.
    pub const UNIX: u8 = 1;
    /// Another one: [`Origin::port`](super::Origin::port) holds its number.
    pub const OTHER: u8 = 255;
}

/// What an [`Event`] reports.
pub mod kind {
    /// A connection (or a first datagram) went its own way: discover or observe mode.
    pub const PASSED: u8 = 1;
    /// Something was refused in the kernel; `reason` says why.
    pub const DENIED: u8 = 2;
    /// A connection came from a network namespace in which no listener is known; it was refused
    /// (or passed, in observe mode), and the daemon may now serve that namespace.
    pub const NAMESPACE: u8 = 3;
}

/// Why the kernel refused, or in observe mode would have.
pub mod reason {
    pub const NONE: u8 = 0;
    /// No listener of the daemon on its port: it is not running, or somebody else has the port.
    pub const NO_DAEMON: u8 = 1;
    /// The socket was made in another cgroup than the one it is used from.
    pub const PASSED_SOCKET: u8 = 2;
    /// UDP to anything but a configured resolver's port 53.
    pub const DATAGRAM: u8 = 3;
    /// A family, type or protocol that is not on the allow-list.
    pub const SOCKET_KIND: u8 = 4;
    /// A packet that no rule of the egress backstop lets out.
    pub const EGRESS: u8 = 5;
    /// The socket is bound to a device and could not be released from it.
    pub const BOUND_DEVICE: u8 = 6;
    /// No listener is known in the socket's network namespace.
    pub const NAMESPACE: u8 = 7;
    /// The kernel had no memory for the connection's record.
    pub const MEMORY: u8 = 8;
    /// Somebody broke the glass for the cgroup: the connection went its own way.
    pub const BYPASS: u8 = 9;
    /// A descriptor of a socket that another cgroup made was received (by SCM_RIGHTS or
    /// pidfd_getfd(2)).
    pub const RECEIVED: u8 = 10;
    /// An address family that is not on the allow-list.
    pub const FAMILY: u8 = 11;
    /// A Unix socket whose name is on the list of those that are refused.
    pub const UNIX_SOCKET: u8 = 12;
}

/// Who connected, and where to: written at connect, in the caller's context.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub born: u64,
    /// The cgroup in which the socket was made.
    pub cgroup_id: u64,
    /// Of the socket's network namespace; what SO_NETNS_COOKIE returns.
    pub netns_cookie: u64,
    pub socket_cookie: u64,
    /// Where the client believes it is connected to. `0.0.0.0` and `::` are given as loopback.
    pub address: Address,
    /// Host byte order.
    pub port: u16,
    /// One of [`family`].
    pub family: u8,
    /// IPPROTO_TCP, IPPROTO_UDP, …
    pub protocol: u8,
    /// One of [`mode`], as it held at connect.
    pub mode: u32,
    /// Thread group id (user space's pid) and thread id, in the initial pid namespace; 0 where
    /// the kernel was not in the process's context.
    pub tgid: u32,
    pub pid: u32,
    pub uid: u32,
    pub reserved: u32,
    /// Of the thread, padded with zeros.
    pub comm: [u8; 16],
}

/// A TCP connection as both ends see it. Addresses and ports are the client's: `src` is the peer
/// of the accepted socket, `dst` its local address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub netns_cookie: u64,
    pub src: Address,
    pub dst: Address,
    /// Host byte order, both.
    pub sport: u16,
    pub dport: u16,
    pub reserved: u32,
}

/// The daemon's listeners in one network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// What the listeners' socket storage must hold; nobody else's can.
    pub nonce: u64,
    /// Ports on 127.0.0.1 and ::1, host byte order; 0 means none.
    pub port4: u16,
    pub port6: u16,
    pub reserved: u32,
}

/// What the programs keep in a socket's storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// On the daemon's listeners: their nonce. 0 on every other socket.
    pub nonce: u64,
    /// The cgroup of the task that made the socket; 0 if that was before the programs came.
    pub creator: u64,
    /// The nearest ancestor of `creator` (or itself) that had a mode then; 0 if none had.
    pub anchor: u64,
    /// Hash of the last destination that was reported for this socket.
    pub reported: u64,
    /// Of [`flag`].
    pub flags: u32,
    pub reserved: u32,
    /// Valid while [`flag::REDIRECTED`] is set.
    pub origin: Origin,
}

/// Bits of [`Socket::flags`].
pub mod flag {
    /// The connection goes to the daemon's listener.
    pub const REDIRECTED: u32 = 1;
    /// The daemon's own socket: never touched. Only the daemon can set it.
    pub const EXEMPT: u32 = 2;
    /// The connection went its own way under a bypass, and lives no longer than that.
    pub const BYPASSED: u32 = 4;
}

/// Until when a cgroup's TCP connections, and those of all below it that count for it, go their own
/// way. Only root can write it; the kernel ends it by itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bypass {
    /// CLOCK_BOOTTIME, nanoseconds, which goes on while the host sleeps. Further ahead than
    /// [`Bypass::MOST`] it counts for nothing.
    pub until: u64,
    /// Tells one opening from the next; never 0.
    pub number: u64,
}

impl Bypass {
    /// The longest that one may last, in nanoseconds: 4 hours.
    pub const MOST: u64 = 4 * 60 * 60 * 1_000_000_000;

    /// Whether it holds at that moment of CLOCK_BOOTTIME.
    #[inline(always)]
    #[must_use]
    pub const fn holds(&self, now: u64) -> bool {
        self.until > now && self.until - now <= Self::MOST
    }
}

/// A local port on which a cgroup, and all below it, may accept connections.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenKey {
    pub cgroup_id: u64,
    /// Host byte order.
    pub port: u16,
    pub reserved: [u16; 3],
}

/// Where the LSM programs find what they look at in the kernel's own structures: bytes from the
/// beginning of each. They differ from kernel to kernel; the daemon reads them from its BTF and
/// writes them into the programs before they are loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// `struct socket`: pointer to `struct sock`.
    pub socket_sk: u32,
    /// `struct sock`: 16 bits.
    pub sock_family: u32,
    /// `struct sock`: 16 bits.
    pub sock_protocol: u32,
    /// `struct sock`: 16 bits in network order.
    pub sock_port: u32,
    /// `struct sock`: 32 bits in network order.
    pub sock_peer4: u32,
    /// `struct sock`: 16 bytes.
    pub sock_peer6: u32,
    /// `struct sock`: pointer to `struct cgroup`.
    pub sock_cgroup: u32,
    /// `struct cgroup`: pointer to `struct kernfs_node`.
    pub cgroup_node: u32,
    /// `struct kernfs_node`: 64 bits.
    pub node_id: u32,
    /// `struct unix_sock`: pointer to `struct unix_address`; null if it has no name.
    pub unix_address: u32,
    /// `struct unix_sock`: pointer to `struct dentry`; null if its name is abstract.
    pub unix_dentry: u32,
    /// `struct unix_sock`: pointer to the `struct sock` at the other end; null if there is none.
    pub unix_peer: u32,
    /// `struct unix_address`: 32 bits, the length of the address with its family of two bytes.
    pub address_length: u32,
    /// `struct unix_address`: where `sun_path` begins.
    pub address_path: u32,
    /// `struct dentry`: pointer to the file's name.
    pub dentry_name: u32,
    pub reserved: u32,
}

/// How the name of a Unix socket is looked up: the longest entry that its bytes begin with counts.
pub mod socket_name {
    /// Bytes of a key: which of the two kinds it is, then the name, then zeros.
    pub const BYTES: usize = 128;
    /// Bytes of the name that a key has room for. A socket's own is at most 108 (unix(7)).
    pub const ROOM: usize = BYTES - 1;
    /// The address that the socket is bound to; an abstract one begins with a zero.
    pub const ADDRESS: u8 = b'A';
    /// The name of the socket's file, without its folder.
    pub const FILE: u8 = b'F';

    /// Nobody who is governed connects there.
    pub const REFUSED: u32 = 1;
    /// Everybody may, whatever its file is called.
    pub const ALLOWED: u32 = 2;
}

/// One entry of the EVENTS ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// One of [`kind`].
    pub kind: u8,
    /// One of [`reason`].
    pub reason: u8,
    pub reserved: [u8; 6],
    pub origin: Origin,
}

/// Longest DNS answer that is copied, in bytes; a longer one is cut, and read as far as it goes.
pub const ANSWER_BYTES: usize = 1024;

/// One entry of the NAMES ring buffer: an answer of a configured resolver.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Answer {
    /// The receiving socket's cgroup.
    pub cgroup_id: u64,
    pub resolver: Address,
    /// Bytes of `message` that are valid, at most [`ANSWER_BYTES`].
    pub length: u32,
    pub reserved: u32,
    /// The DNS message (RFC 1035 §4.1).
    pub message: [u8; ANSWER_BYTES],
}

/// How many entries each map holds; user space needs them for its own bounds.
pub mod size {
    pub const FLOWS: usize = 65_536;
    pub const MODES: usize = 16_384;
    pub const PROXIES: usize = 1_024;
    pub const RESOLVERS: usize = 64;
    pub const LISTEN: usize = 4_096;
    pub const BYPASS: usize = 4_096;
    /// Twice the patterns that a configuration may have, and more: new ones are set before old ones go.
    pub const SOCKET_NAMES: usize = 1_024;
    pub const EVENTS: usize = 1 << 20;
    pub const NAMES: usize = 1 << 20;
}

/// No padding that the kernel could leave unset, and the same size on both sides.
const _: () = {
    assert!(size_of::<Origin>() == 88 && align_of::<Origin>() == 8);
    assert!(size_of::<FlowKey>() == 48 && align_of::<FlowKey>() == 8);
    assert!(size_of::<Proxy>() == 16 && align_of::<Proxy>() == 8);
    assert!(size_of::<Socket>() == 40 + 88 && align_of::<Socket>() == 8);
    assert!(size_of::<Bypass>() == 16 && align_of::<Bypass>() == 8);
    assert!(size_of::<ListenKey>() == 16 && align_of::<ListenKey>() == 8);
    assert!(size_of::<Event>() == 8 + 88 && align_of::<Event>() == 8);
    assert!(size_of::<Fields>() == 64 && align_of::<Fields>() == 4);
    assert!(size_of::<Answer>() == 32 + ANSWER_BYTES && align_of::<Answer>() == 8);
};

#[cfg(feature = "user")]
mod user {
    //! The daemon's side: which shapes may be read from, and written to, maps as bytes.
    use super::{Bypass, Event, Fields, FlowKey, ListenKey, Origin, Proxy, Socket};

    // SAFETY: like each of these: repr(C), made of integers only, without padding (asserted above), so every
    // bit pattern is a value and every byte is initialised.
    unsafe impl aya::Pod for Origin {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Proxy {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Socket {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Bypass {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ListenKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Event {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Fields {}

    impl Event {
        /// Reads an entry of the ring buffer; `None` if it is of another size.
        #[must_use]
        pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
            if bytes.len() != size_of::<Self>() {
                return None;
            }
            // SAFETY: the length is exact, any bytes are a value (Pod), and the read is unaligned.
            Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
        }
    }

    impl super::Answer {
        /// Reads an entry of the ring buffer; `None` if it is of another size.
        #[must_use]
        pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
            if bytes.len() != size_of::<Self>() {
                return None;
            }
            // SAFETY: as in `Event::from_bytes`.
            Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bypass;

    #[test]
    fn a_bypass_ends_by_itself_and_cannot_be_for_long() {
        let bypass = |until| Bypass { until, number: 1 };
        assert!(bypass(11).holds(10));
        assert!(!bypass(10).holds(10) && !bypass(9).holds(10));
        assert!(bypass(10 + Bypass::MOST).holds(10));
        assert!(!bypass(11 + Bypass::MOST).holds(10));
        assert!(!bypass(u64::MAX).holds(10) && !Bypass::default().holds(0));
    }
}
