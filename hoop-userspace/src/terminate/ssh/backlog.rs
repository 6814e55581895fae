//! How much of what one peer sent waits in memory, and a socket that is read no further while that
//! is too much.
//!
//! russh gives a sender more of its window as soon as bytes arrive, whoever reads them or not, so
//! windows bound nothing here. The socket does: while too much waits, the peer's TCP window closes.
//! Writing goes on meanwhile, for the peer's answers are what lets the backlog shrink.
//!
//! What makes one side read may stand in the other's socket behind data: a client that feeds a
//! filter and reads its output slowly has both directions full, and only its window adjustments,
//! which wait behind its own input, can move either. So a side whose opposite is full too may go
//! beyond its bound, up to [`MOST`].

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of all channels of one peer that may wait.
const ENOUGH: i64 = 2 << 20;
/// Where reading ends whatever the other side does.
const MOST: i64 = 64 << 20;

/// One peer's.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: AtomicI64,
    /// The socket is not read again, ever.
    cut: AtomicBool,
    opposite: OnceLock<Weak<Backlog>>,
    reader: Mutex<Option<Waker>>,
}

impl Backlog {
    /// Those of a client and its server: each knows whether the other is full.
    pub fn pair() -> (Arc<Self>, Arc<Self>) {
        let (one, other) = (Arc::<Self>::default(), Arc::<Self>::default());
        // Set once, just now.
        let _ = one.opposite.set(Arc::downgrade(&other));
        let _ = other.opposite.set(Arc::downgrade(&one));
        (one, other)
    }

    /// Ends whatever reads the socket: russh keeps a connection for as long as its peer does.
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.wake();
    }

    fn add(&self, bytes: i64) {
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let after = before + bytes;
        if before < ENOUGH && after >= ENOUGH {
            // The other side may now go beyond its own bound.
            if let Some(opposite) = self.opposite() {
                opposite.wake();
            }
        }
        if after < ENOUGH && before >= ENOUGH || after < MOST && before >= MOST {
            self.wake();
        }
    }

    fn opposite(&self) -> Option<Arc<Self>> {
        self.opposite.get().and_then(Weak::upgrade)
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= ENOUGH
    }

    fn may_read(&self) -> bool {
        let bytes = self.bytes.load(Ordering::Acquire);
        bytes < ENOUGH || bytes < MOST && self.opposite().is_some_and(|other| other.is_full())
    }

    fn wake(&self) {
        let waker = self.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut reader = self.lock();
        if !reader.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
    }
}

/// Ends its connection when it is dropped.
#[derive(Debug)]
pub struct Hold(pub Arc<Backlog>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// What one channel has in the backlog. When it is dropped, nothing of it waits any more.
#[derive(Debug)]
pub struct Share {
    backlog: Arc<Backlog>,
    /// `None` after the channel is gone.
    bytes: Mutex<Option<i64>>,
}

impl Share {
    pub fn new(backlog: Arc<Backlog>) -> Self {
        Self {
            backlog,
            bytes: Mutex::new(Some(0)),
        }
    }

    pub fn add(&self, bytes: usize) {
        self.change(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn sub(&self, bytes: usize) {
        self.change(-i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn change(&self, by: i64) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = &mut *bytes {
            *bytes += by;
            self.backlog.add(by);
        }
    }

    /// Nobody reads the channel any more: what waits, and what will come, counts no longer.
    pub fn close(&self) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = bytes.take() {
            self.backlog.add(-rest);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.close();
    }
}

/// A socket that is read only while its backlog permits.
#[derive(Debug)]
pub struct Throttled<S> {
    socket: S,
    backlog: Arc<Backlog>,
}

impl<S> Throttled<S> {
    pub fn new(socket: S, backlog: Arc<Backlog>) -> Self {
        Self { socket, backlog }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Throttled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before anything is looked at: what changes afterwards wakes us, a socket that waits for
        // bytes too.
        self.backlog.remember(cx);
        if self.backlog.cut.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match self.backlog.may_read() {
            true => Pin::new(&mut self.socket).poll_read(cx, buffer),
            false => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Throttled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const FULL: usize = ENOUGH as usize;

    #[tokio::test]
    async fn a_full_backlog_stops_reading_and_not_writing() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (backlog, _other) = Backlog::pair();
        let share = Share::new(backlog.clone());
        let mut socket = Throttled::new(ours, backlog);
        theirs.write_all(b"ab").await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'a');
        share.add(FULL);
        socket.write_all(b"x").await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'x');
        let reading = tokio::spawn(async move { socket.read_u8().await.unwrap() });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        share.sub(1);
        assert_eq!(reading.await.unwrap(), b'b');
    }

    #[tokio::test]
    async fn a_hold_that_is_dropped_ends_the_reading() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let (backlog, _other) = Backlog::pair();
        let hold = Hold(backlog.clone());
        let mut socket = Throttled::new(ours, backlog);
        let reading = tokio::spawn(async move { socket.read_u8().await });
        tokio::task::yield_now().await;
        drop(hold);
        let error = reading.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn both_full_go_on_up_to_the_bound() {
        let (client, server) = Backlog::pair();
        let (up, down) = (Share::new(client.clone()), Share::new(server.clone()));
        up.add(FULL);
        assert!(!client.may_read() && server.may_read());
        down.add(FULL);
        assert!(client.may_read() && server.may_read());
        up.add(MOST as usize - FULL);
        assert!(!client.may_read());
    }

    #[test]
    fn a_channel_that_is_gone_leaves_nothing_behind() {
        let (client, _server) = Backlog::pair();
        let share = Share::new(client.clone());
        share.add(FULL);
        share.close();
        share.add(FULL);
        assert!(client.may_read());
    }
}
