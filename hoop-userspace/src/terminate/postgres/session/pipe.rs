//! One of the two connections of a session: what was read and not yet understood, and what waits to
//! be written.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::wire::postgres::WireError;
use crate::wire::postgres::frame::Boundary;

/// Room that a read is offered: little while little comes, and what a session at rest keeps.
const LITTLE: usize = 4 * 1024;
/// The same while reads fill what they are offered.
const MUCH: usize = 64 * 1024;
/// With less than this left, more is made.
const LEAST_ROOM: usize = 2 * 1024;

/// A growing message doubles the buffer up to this much at a time: a claimed length alone
/// allocates nothing.
const MOST_ROOM: usize = 4 << 20;

/// Above this much waiting output the other side is not read.
const HIGH_WATER: usize = 1 << 20;

const SLICES: usize = 32;

pub struct Pipe<S> {
    pub stream: S,
    /// Read and not yet taken.
    pub input: BytesMut,
    /// No more input will come.
    pub ended: bool,
    /// What the next buffer will hold, between [`LITTLE`] and [`MUCH`].
    room: usize,
    /// The buffer of `input` may hold more than [`LITTLE`].
    large: bool,
    output: VecDeque<Bytes>,
    queued: usize,
    unflushed: bool,
    boundary: Boundary,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pipe<S> {
    pub fn new(stream: S, input: BytesMut) -> Self {
        Self {
            stream,
            large: input.capacity() > LITTLE,
            input,
            ended: false,
            room: LITTLE,
            output: VecDeque::new(),
            queued: 0,
            unflushed: false,
            boundary: Boundary::default(),
        }
    }

    /// Enqueues output.
    pub fn push(&mut self, bytes: Bytes) -> Result<(), WireError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.boundary.feed(&bytes)?;
        self.queued += bytes.len();
        self.output.push_back(bytes);
        Ok(())
    }

    /// Whether a message of another origin may be enqueued now.
    pub fn is_between_messages(&self) -> bool {
        self.boundary.is_between_messages()
    }

    pub fn is_full(&self) -> bool {
        self.queued > HIGH_WATER
    }

    pub fn is_written(&self) -> bool {
        self.queued == 0 && !self.unflushed
    }

    /// Forgets output that was not written: nobody will read it.
    pub fn drop_output(&mut self) {
        self.output.clear();
        (self.queued, self.unflushed) = (0, false);
    }

    /// Writes as much as the connection takes.
    pub fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.queued > 0 {
            match self.poll_write_some(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.written(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_some(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        if let (1, Some(only)) = (self.output.len(), self.output.front()) {
            return stream.poll_write(context, only);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slot, bytes) in slices.iter_mut().zip(&self.output) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        stream.poll_write_vectored(context, slices.get(..count).unwrap_or_default())
    }

    fn written(&mut self, mut count: usize) {
        self.unflushed = true;
        self.queued = self.queued.saturating_sub(count);
        while let Some(front) = self.output.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.output.pop_front();
        }
    }

    /// Reads once. Ready: something came, or the input ended.
    pub fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Pending;
        }
        self.make_room();
        let offered = self.input.capacity() - self.input.len();
        // Cancel-safe: a read that is not ready leaves nothing behind when it is dropped.
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(context);
        match read {
            Poll::Ready(Ok(count)) => {
                self.ended = count == 0;
                self.adapt(count, offered);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.rest();
                Poll::Pending
            }
        }
    }

    fn make_room(&mut self) {
        let length = self.input.len();
        if self.input.capacity() - length >= LEAST_ROOM {
            return;
        }
        if length > 0 {
            self.input.reserve(length.clamp(self.room, MOST_ROOM));
        } else if !self.input.try_reclaim(self.room) {
            // Not `reserve`, which remembers how large the buffer has been.
            self.input = BytesMut::with_capacity(self.room);
        }
        self.large |= self.input.capacity() > LITTLE;
    }

    fn adapt(&mut self, count: usize, offered: usize) {
        if count == offered {
            self.room = (self.room * 4).min(MUCH);
        } else if count < self.room / 4 {
            self.room = (self.room / 2).max(LITTLE);
        }
    }

    /// Nothing is there to be read: a large buffer is given back.
    fn rest(&mut self) {
        if self.large && self.input.is_empty() {
            self.input = BytesMut::new();
            self.large = false;
        }
    }
}
