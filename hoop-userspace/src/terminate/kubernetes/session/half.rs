//! One of the two connections that have become streams: its bytes, and what takes them apart.

use bytes::BytesMut;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::wire::kubernetes::channel::negotiate::Protocol;
use crate::wire::kubernetes::channel::{Peer, Purpose, Side};

/// Read at once.
const PIECE: usize = 32 << 10;

/// One of the two peers.
pub(super) struct Half {
    line: Line,
    pub peer: Peer,
    pub input: BytesMut,
    pub out: BytesMut,
    /// Nothing more comes from it.
    pub ended: bool,
    /// It takes nothing more.
    pub deaf: bool,
    /// What was written may not have left yet.
    unflushed: bool,
    /// There may be events that were not taken.
    pub stirred: bool,
}

enum Line {
    /// The 101 is on its way, or its connection is being handed over.
    Opening(OnUpgrade),
    Open {
        read: ReadHalf<TokioIo<Upgraded>>,
        write: WriteHalf<TokioIo<Upgraded>>,
    },
    Gone,
}

/// What a peer did.
pub(super) enum Io {
    Read,
    Wrote,
    Lost,
}

impl Half {
    /// A connection that is about to be streams.
    pub fn new(side: Side, line: OnUpgrade, protocol: Protocol, purpose: &Purpose) -> Self {
        Self {
            line: Line::Opening(line),
            peer: Peer::new(side, protocol, purpose, mask),
            input: BytesMut::new(),
            out: BytesMut::new(),
            ended: false,
            deaf: false,
            unflushed: false,
            // WebSocket has its streams from the beginning.
            stirred: true,
        }
    }

    /// Reads or writes something. Waits for ever if there is nothing to write and nothing may be read.
    pub async fn drive(&mut self, listen: bool) -> Io {
        loop {
            match &mut self.line {
                Line::Opening(upgrade) => match upgrade.await {
                    Ok(upgraded) => {
                        let (read, write) = tokio::io::split(TokioIo::new(upgraded));
                        self.line = Line::Open { read, write };
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection did not become streams");
                        self.line = Line::Gone;
                        return Io::Lost;
                    }
                },
                Line::Open { read, write } => {
                    let writes = !self.deaf && (self.unflushed || !self.out.is_empty());
                    let reads = listen && !self.ended;
                    self.input.reserve(PIECE);
                    let (out, unflushed) = (&mut self.out, &mut self.unflushed);
                    let writing = async {
                        if out.is_empty() {
                            let flushed = write.flush().await;
                            *unflushed = flushed.is_err();
                            return flushed.map(|()| 1);
                        }
                        *unflushed = true;
                        write.write_buf(out).await
                    };
                    return tokio::select! {
                        wrote = writing, if writes => match wrote {
                            Ok(1..) => Io::Wrote,
                            Ok(_) => Io::Lost,
                            Err(error) => {
                                tracing::debug!(%error, "a peer takes nothing more");
                                Io::Lost
                            }
                        },
                        got = read.read_buf(&mut self.input), if reads => {
                            if !matches!(got, Ok(1..)) {
                                self.ended = true;
                            }
                            Io::Read
                        }
                        else => std::future::pending().await,
                    };
                }
                Line::Gone => return std::future::pending().await,
            }
        }
    }

    /// Whether it has all that it was to hear.
    pub fn is_quiet(&self) -> bool {
        let said = self.out.is_empty() && !self.unflushed;
        said || self.deaf || matches!(self.line, Line::Gone)
    }

    /// Writes what is left, says that nothing follows, and waits for the peer to do the same.
    pub async fn leave(&mut self) {
        while !self.is_quiet() {
            if matches!(self.drive(false).await, Io::Lost) {
                return;
            }
        }
        let Line::Open { read, write } = &mut self.line else {
            return;
        };
        if write.shutdown().await.is_err() || self.ended {
            return;
        }
        let mut rest = [0; 4096];
        while let Ok(1..) = read.read(&mut rest).await {}
    }
}

/// Masks frames to the server (RFC 6455, 5.3): against confused caches, not for secrecy.
fn mask() -> [u8; 4] {
    let mut mask = [0; 4];
    let _ = SystemRandom::new().fill(&mut mask);
    mask
}
