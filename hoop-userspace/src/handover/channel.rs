//! The socket between keeper and worker: whole messages, each with at most one descriptor beside it.
//!
//! A Unix seqpacket socket keeps messages apart, and tells each side at once when the other has
//! ended. What is too large for one packet (a configuration with its policies) goes as a sealed
//! anonymous file. Only the worker accepts descriptors: a file that the keeper were made to read
//! could block it, so the worker's messages are inline or not at all.
//!
//! Messages are JSON, because a worker of an earlier build may be at the other end: names tell what
//! is there, what a reader does not know is passed over, and a kind of message that it does not know
//! is an error of its own ([`ChannelError::Misunderstood`]), after which the next can be read.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::ioctl_fionbio;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a message that travel in the packet itself. Kept: a reader of another build has room for
/// so many.
pub const INLINE: usize = 128 * 1024;
/// Bytes of a message in all.
pub const MAX_MESSAGE: usize = 64 * 1024 * 1024;

const IN_PACKET: u8 = 0;
const IN_FILE: u8 = 1;

/// What can go wrong between the two processes.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("the socket between keeper and worker failed: {0}")]
    Io(#[from] io::Error),
    #[error("a message between keeper and worker could not be encoded")]
    Encoding,
    /// It is of another build, or damaged; what it is called, as far as that can be told. What it
    /// holds is not repeated: a token may be in it.
    #[error("a message between keeper and worker is not understood: {0}")]
    Misunderstood(String),
    #[error("a message between keeper and worker has {0} bytes, which is more than is accepted")]
    TooLarge(usize),
    #[error("a message between keeper and worker is malformed: {0}")]
    Malformed(&'static str),
}

impl From<rustix::io::Errno> for ChannelError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Who receives, which says what is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Takes no descriptor.
    Keeper,
    Worker,
}

/// One end of the socket. Any number of tasks may send at once; one receives.
pub struct Channel {
    /// Used for its readiness alone: every read and write is a whole packet, made here.
    socket: UnixStream,
    side: Side,
    /// What a packet is received into. Wiped after each, as far as it was filled: all of it, for
    /// each, would cost more than the rest of a handover.
    packet: Mutex<Vec<u8>>,
}

/// The two ends, neither of which survives an exec: the worker's becomes its standard input.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

impl Channel {
    /// Must be called within a tokio runtime.
    pub fn new(socket: OwnedFd, side: Side) -> io::Result<Self> {
        ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket: UnixStream::from_std(socket.into())?,
            side,
            packet: Mutex::new(vec![0; INLINE + 1]),
        })
    }

    /// Sends one message, waiting while the other side is behind. Cancel-safe: a message is sent
    /// whole or not at all.
    pub async fn send<T: Serialize>(
        &self,
        message: &T,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), ChannelError> {
        let packed = Packed::new(message, self.side == Side::Keeper)?;
        let result = self
            .socket
            .async_io(Interest::WRITABLE, || {
                packed.send(self.socket.as_fd(), descriptor)
            })
            .await;
        Ok(result?)
    }

    /// The next message and the descriptor beside it; `None` when the other side has ended.
    pub async fn receive<T: DeserializeOwned>(
        &self,
    ) -> Result<Option<(T, Option<OwnedFd>)>, ChannelError> {
        let received = self
            .socket
            .async_io(Interest::READABLE, || self.take())
            .await;
        let (packet, descriptors) = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if packet.is_empty() {
            return Ok(None);
        }
        if self.side == Side::Keeper && !descriptors.is_empty() {
            return Err(ChannelError::Malformed("a descriptor from the worker"));
        }
        unpack(&packet, descriptors).map(Some)
    }

    fn take(&self) -> io::Result<(Zeroizing<Vec<u8>>, Vec<OwnedFd>)> {
        // A panic while it is held leaves bytes that the next packet overwrites.
        let mut whole = self.packet.lock().unwrap_or_else(PoisonError::into_inner);
        let (length, descriptors) = receive(self.socket.as_fd(), &mut whole)?;
        let filled = whole.get_mut(..length).unwrap_or_default();
        let packet = Zeroizing::new(filled.to_vec());
        filled.zeroize();
        Ok((packet, descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A message ready to be sent. Tokens and credentials are in it, so it is wiped afterwards.
struct Packed {
    packet: Zeroizing<Vec<u8>>,
    file: Option<OwnedFd>,
}

impl Packed {
    fn new<T: Serialize>(message: &T, may_use_file: bool) -> Result<Self, ChannelError> {
        let mut packet = Zeroizing::new(vec![IN_PACKET]);
        serde_json::to_writer(&mut *packet, message).map_err(|_| ChannelError::Encoding)?;
        if packet.len() <= INLINE {
            return Ok(Self { packet, file: None });
        }
        if !may_use_file || packet.len() > MAX_MESSAGE {
            return Err(ChannelError::TooLarge(packet.len()));
        }
        let file = memfd_create(
            "hoop-message",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        let mut file = File::from(file);
        file.write_all(packet.get(1..).unwrap_or_default())?;
        file.rewind()?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        Ok(Self {
            packet: Zeroizing::new(vec![IN_FILE]),
            file: Some(file.into()),
        })
    }

    fn send(&self, socket: BorrowedFd<'_>, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let descriptors: Vec<_> = descriptor
            .into_iter()
            .chain(self.file.as_ref().map(|f| f.as_fd()))
            .collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("no room for the descriptors"));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(socket, &[IoSlice::new(&self.packet)], &mut control, flags)?;
        Ok(())
    }
}

fn receive(socket: BorrowedFd<'_>, packet: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(packet)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if got
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::other(
            "a message arrived cut short; is the limit of open files reached?",
        ));
    }
    Ok((got.bytes, descriptors))
}

fn unpack<T: DeserializeOwned>(
    packet: &[u8],
    mut descriptors: Vec<OwnedFd>,
) -> Result<(T, Option<OwnedFd>), ChannelError> {
    let message = match packet.split_first() {
        Some((&IN_PACKET, body)) => decode(body)?,
        Some((&IN_FILE, _)) => {
            let file = descriptors
                .pop()
                .ok_or(ChannelError::Malformed("no file"))?;
            let mut body = Zeroizing::new(Vec::new());
            File::from(file)
                .take(MAX_MESSAGE as u64)
                .read_to_end(&mut body)?;
            decode(&body)?
        }
        _ => return Err(ChannelError::Malformed("unknown form")),
    };
    Ok((message, descriptors.pop()))
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ChannelError> {
    serde_json::from_slice(body).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => "of another build",
            _ => "damaged",
        };
        ChannelError::Misunderstood(format!("{} ({kind})", name(body)))
    })
}

/// What a message calls itself: `{"Name":…` or `"Name"`.
fn name(body: &[u8]) -> String {
    let letters = body.iter().skip_while(|b| !b.is_ascii_alphanumeric());
    let letters = letters.take_while(|b| b.is_ascii_alphanumeric() || **b == b'_');
    letters.take(40).map(|b| char::from(*b)).collect()
}

/// Bytes of a message as it travels.
pub fn packed_length<T: Serialize>(message: &T) -> usize {
    serde_json::to_vec(message).map_or(usize::MAX, |packed| packed.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::fd::AsRawFd;

    fn ends() -> (Channel, Channel) {
        let (keeper, worker) = pair().unwrap();
        (
            Channel::new(keeper, Side::Keeper).unwrap(),
            Channel::new(worker, Side::Worker).unwrap(),
        )
    }

    #[tokio::test]
    async fn small_and_large_messages_arrive_with_their_descriptor() {
        let (keeper, worker) = ends();
        for length in [0, 1, INLINE - 8, INLINE, 3_000_000] {
            let message = "7".repeat(length);
            let file = memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
            keeper.send(&message, Some(file.as_fd())).await.unwrap();
            let (got, descriptor) = worker.receive::<String>().await.unwrap().unwrap();
            assert_eq!(got, message);
            let ours = rustix::fs::fstat(&file).unwrap();
            let theirs = rustix::fs::fstat(descriptor.unwrap()).unwrap();
            assert_eq!((ours.st_dev, ours.st_ino), (theirs.st_dev, theirs.st_ino));
        }
    }

    #[tokio::test]
    async fn what_another_build_says_is_passed_over_and_the_next_is_read() {
        use crate::handover::{FromWorker, ToWorker};
        let (keeper, worker) = ends();
        let later = serde_json::json!({ "Beam": { "up": "tok-en" } });
        worker.send(&later, None).await.unwrap();
        let session = [0; 16];
        let said = serde_json::json!({ "Steered": {
            "session": session, "found": true, "by": "a field of a later build",
        }});
        worker.send(&said, None).await.unwrap();
        let error = keeper.receive::<FromWorker>().await.err().unwrap();
        assert!(
            matches!(&error, ChannelError::Misunderstood(what) if what == "Beam (of another build)")
        );
        assert!(!error.to_string().contains("tok-en"));
        let (message, _) = keeper.receive::<FromWorker>().await.unwrap().unwrap();
        assert!(matches!(message, FromWorker::Steered { found: true, .. }));
        keeper.send(&"Warp", None).await.unwrap();
        let error = worker.receive::<ToWorker>().await.err().unwrap();
        assert!(error.to_string().contains("Warp"), "{error}");
    }

    #[tokio::test]
    async fn an_ended_side_is_seen_at_once() {
        let (keeper, worker) = ends();
        drop(keeper);
        assert!(worker.receive::<u8>().await.unwrap().is_none());
        let (keeper, worker) = ends();
        drop(worker);
        assert!(keeper.receive::<u8>().await.unwrap().is_none());
        assert!(keeper.send(&1_u8, None).await.is_err());
    }

    #[tokio::test]
    async fn the_keeper_takes_no_descriptor() {
        let (keeper, worker) = ends();
        let file = memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        worker.send(&1_u8, Some(file.as_fd())).await.unwrap();
        assert!(matches!(
            keeper.receive::<u8>().await,
            Err(ChannelError::Malformed(_))
        ));
        assert!(matches!(
            worker.send(&"0".repeat(INLINE), None).await,
            Err(ChannelError::TooLarge(_))
        ));
        assert!(file.as_raw_fd() > 2);
    }

    proptest! {
        #[test]
        fn no_packet_panics(packet in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = unpack::<crate::handover::ToWorker>(&packet, Vec::new());
            let _ = unpack::<crate::handover::FromWorker>(&packet, Vec::new());
        }
    }
}
