//! What waits to be sent on one channel, and the one sending that is under way.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use russh::{ChannelId, ChannelWriteHalf, Sig, client, server};
use tokio::sync::OwnedSemaphorePermit;

use crate::terminate::ssh::backlog::Share;
use crate::wire::ssh::channel::{Message, Pty};

/// The peer takes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is gone")]
pub struct Lost;

type Sending = Pin<Box<dyn Future<Output = Result<(), Lost>> + Send>>;

/// A channel's end of a peer.
pub trait Sink: Send + Sync + 'static {
    /// Sends one message, waiting for the peer's window as long as it takes.
    fn send(self: Arc<Self>, message: Message) -> impl Future<Output = Result<(), Lost>> + Send;
}

pub struct Out<S> {
    sink: Option<Arc<S>>,
    queue: VecDeque<Message>,
    /// What the queue, and what is on its way, take in memory.
    queued: usize,
    sending: Option<(Sending, usize)>,
    share: Option<Arc<Share>>,
}

impl<S: Sink> Out<S> {
    /// With a share, what is queued counts as what waits of the other peer's.
    pub fn new(sink: Option<Arc<S>>, share: Option<Arc<Share>>) -> Self {
        Self {
            sink,
            queue: VecDeque::new(),
            queued: 0,
            sending: None,
            share,
        }
    }

    /// From now on there is somewhere to send to.
    pub fn open(&mut self, sink: Arc<S>) {
        self.sink = Some(sink);
    }

    /// There is nobody to send to any more.
    pub fn close(&mut self) {
        self.sink = None;
        self.clear();
    }

    pub fn is_open(&self) -> bool {
        self.sink.is_some()
    }

    pub fn count_with(&mut self, share: Arc<Share>) {
        share.add(self.queued);
        self.share = Some(share);
    }

    pub fn push(&mut self, message: Message) {
        // Of several sizes of a terminal the last is the one that it has.
        if let (Message::Resize(size), Some(Message::Resize(last))) =
            (&message, self.queue.back_mut())
        {
            *last = *size;
            return;
        }
        let bytes = content(&message);
        self.queued += bytes;
        if let Some(share) = &self.share {
            share.add(bytes);
        }
        self.queue.push_back(message);
    }

    pub fn queued(&self) -> usize {
        self.queued
    }

    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.sending.is_none()
    }

    /// Forgets what was not sent.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.sending = None;
        if let Some(share) = &self.share {
            share.sub(self.queued);
        }
        self.queued = 0;
    }

    /// Sends; returns when nothing is left, or when less than `low` bytes wait that had been more:
    /// what the other side may be asked for has changed then. Waits for ever if there is nothing to
    /// send. Cancel-safe: a sending that has begun is kept.
    pub async fn drive(&mut self, low: usize) -> Result<(), Lost> {
        if self.is_idle() {
            return std::future::pending().await;
        }
        loop {
            let before = self.queued;
            self.send_one().await?;
            if before >= low && self.queued < low || self.is_idle() {
                return Ok(());
            }
        }
    }

    /// Sends until nothing is left. Cancel-safe.
    pub async fn flush(&mut self) -> Result<(), Lost> {
        while !self.is_idle() {
            self.send_one().await?;
        }
        Ok(())
    }

    async fn send_one(&mut self) -> Result<(), Lost> {
        let Some(sink) = &self.sink else {
            return std::future::pending().await;
        };
        if self.sending.is_none() {
            let Some(message) = self.queue.pop_front() else {
                return Ok(());
            };
            let bytes = content(&message);
            self.sending = Some((Box::pin(sink.clone().send(message)), bytes));
        }
        if let Some((sending, bytes)) = &mut self.sending {
            let bytes = *bytes;
            let sent = sending.await;
            self.sending = None;
            self.queued = self.queued.saturating_sub(bytes);
            if let Some(share) = &self.share {
                share.sub(bytes);
            }
            sent?;
        }
        Ok(())
    }
}

impl<S> Drop for Out<S> {
    fn drop(&mut self) {
        if let Some(share) = &self.share {
            share.sub(self.queued);
        }
    }
}

/// What a message takes in memory, roughly: one without content is not for nothing.
fn content(message: &Message) -> usize {
    let content = match message {
        Message::Input(bytes)
        | Message::Output(bytes)
        | Message::ErrorOutput(bytes)
        | Message::SftpRequest(bytes)
        | Message::SftpReply(bytes)
        | Message::Signal(bytes) => bytes.len(),
        _ => 0,
    };
    content + size_of::<Message>()
}

/// SSH_EXTENDED_DATA_STDERR.
const STDERR: u32 = 1;

/// The agent's client.
pub struct ToClient {
    pub write: ChannelWriteHalf<server::Msg>,
    pub handle: server::Handle,
    /// Of the channels that may be open. It is free when the session is over, not when the client
    /// closes the channel: until then there is memory behind it, and perhaps a channel upstream.
    pub _place: OwnedSemaphorePermit,
}

impl ToClient {
    fn id(&self) -> ChannelId {
        self.write.id()
    }
}

impl Sink for ToClient {
    async fn send(self: Arc<Self>, message: Message) -> Result<(), Lost> {
        let sent = match message {
            Message::Output(bytes) | Message::SftpReply(bytes) => {
                self.write.data_bytes(bytes).await
            }
            Message::ErrorOutput(bytes) => self.write.extended_data_bytes(STDERR, bytes).await,
            Message::OutputEnd => self.write.eof().await,
            Message::Exit(status) => self.write.exit_status(status).await,
            Message::ExitSignal {
                signal,
                core_dumped,
                message,
            } => {
                let message = String::from_utf8_lossy(&message).into_owned();
                let signal = sig(&signal);
                let sent = self.handle.exit_signal_request(
                    self.id(),
                    signal,
                    core_dumped,
                    message,
                    String::new(),
                );
                return sent.await.map_err(|()| Lost);
            }
            Message::Closed => self.write.close().await,
            // Nothing else goes this way.
            _ => Ok(()),
        };
        sent.map_err(|_| Lost)
    }
}

/// The server.
pub struct ToServer {
    pub write: ChannelWriteHalf<client::Msg>,
}

impl Sink for ToServer {
    async fn send(self: Arc<Self>, message: Message) -> Result<(), Lost> {
        let write = &self.write;
        let sent = match message {
            Message::Pty(pty) => return request_pty(write, pty).await,
            Message::Env { name, value } => write.set_env(false, text(&name), text(&value)).await,
            Message::Exec(command) => write.exec(true, command).await,
            Message::Shell => write.request_shell(true).await,
            Message::Subsystem(name) => write.request_subsystem(true, text(&name)).await,
            Message::Input(bytes) | Message::SftpRequest(bytes) => write.data_bytes(bytes).await,
            Message::InputEnd => write.eof().await,
            Message::Signal(name) => write.signal(sig(&name)).await,
            Message::Resize(size) => {
                let resized = write.window_change(size.columns, size.rows, size.width, size.height);
                resized.await
            }
            Message::Closed => write.close().await,
            // Nothing else goes this way.
            _ => Ok(()),
        };
        sent.map_err(|_| Lost)
    }
}

async fn request_pty(write: &ChannelWriteHalf<client::Msg>, pty: Pty) -> Result<(), Lost> {
    let modes: Vec<_> = pty
        .modes
        .iter()
        .filter_map(|(code, value)| Some((russh::Pty::from_u8(*code)?, *value)))
        .collect();
    let size = pty.size;
    let term = text(&pty.term);
    let asked = write.request_pty(
        false,
        &term,
        size.columns,
        size.rows,
        size.width,
        size.height,
        &modes,
    );
    asked.await.map_err(|_| Lost)
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn sig(name: &[u8]) -> Sig {
    match name {
        b"ABRT" => Sig::ABRT,
        b"ALRM" => Sig::ALRM,
        b"FPE" => Sig::FPE,
        b"HUP" => Sig::HUP,
        b"ILL" => Sig::ILL,
        b"INT" => Sig::INT,
        b"KILL" => Sig::KILL,
        b"PIPE" => Sig::PIPE,
        b"QUIT" => Sig::QUIT,
        b"SEGV" => Sig::SEGV,
        b"TERM" => Sig::TERM,
        b"USR1" => Sig::USR1,
        other => Sig::Custom(String::from_utf8_lossy(other).into_owned()),
    }
}

/// A signal's name as SSH has it, without SIG (RFC 4254, 6.10).
pub fn signal_name(signal: &Sig) -> Bytes {
    match signal {
        Sig::ABRT => Bytes::from_static(b"ABRT"),
        Sig::ALRM => Bytes::from_static(b"ALRM"),
        Sig::FPE => Bytes::from_static(b"FPE"),
        Sig::HUP => Bytes::from_static(b"HUP"),
        Sig::ILL => Bytes::from_static(b"ILL"),
        Sig::INT => Bytes::from_static(b"INT"),
        Sig::KILL => Bytes::from_static(b"KILL"),
        Sig::PIPE => Bytes::from_static(b"PIPE"),
        Sig::QUIT => Bytes::from_static(b"QUIT"),
        Sig::SEGV => Bytes::from_static(b"SEGV"),
        Sig::TERM => Bytes::from_static(b"TERM"),
        Sig::USR1 => Bytes::from_static(b"USR1"),
        Sig::Custom(name) => Bytes::copy_from_slice(name.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ssh::channel::Size;
    use tokio::sync::Semaphore;

    /// Takes as many messages as it was given leave for.
    struct Slow(Semaphore);

    impl Sink for Slow {
        async fn send(self: Arc<Self>, _: Message) -> Result<(), Lost> {
            self.0.acquire().await.map_err(|_| Lost)?.forget();
            Ok(())
        }
    }

    async fn waits(out: &mut Out<Slow>, low: usize) -> bool {
        let moment = std::time::Duration::from_millis(20);
        tokio::time::timeout(moment, out.drive(low)).await.is_err()
    }

    #[tokio::test]
    async fn whoever_drives_hears_when_there_is_room_and_when_all_is_sent() {
        let sink = Arc::new(Slow(Semaphore::new(0)));
        let mut out = Out::new(Some(sink.clone()), None);
        let message = Message::Output(Bytes::from_static(b"0123456789"));
        let one = content(&message);
        let low = 2 * one;
        assert!(waits(&mut out, low).await);
        for _ in 0..3 {
            out.push(message.clone());
        }
        sink.0.add_permits(1);
        assert!(waits(&mut out, low).await, "two wait");
        sink.0.add_permits(1);
        assert_eq!(out.drive(low).await, Ok(()));
        assert_eq!(out.queued(), one);
        sink.0.add_permits(1);
        assert_eq!(out.drive(low).await, Ok(()));
        assert!(out.is_idle());
        assert!(waits(&mut out, low).await);
    }

    #[test]
    fn what_has_no_content_weighs_too_and_sizes_do_not_pile_up() {
        let mut out = Out::<ToServer>::new(None, None);
        for columns in 1..=9 {
            out.push(Message::Resize(Size {
                columns,
                ..Size::default()
            }));
        }
        let one = out.queued();
        assert!(one > 0 && out.queue.len() == 1);
        assert!(matches!(out.queue.front(), Some(Message::Resize(size)) if size.columns == 9));
        out.push(Message::Signal(Bytes::from_static(b"WINCH")));
        assert!(out.queued() > one + 5);
    }
}
