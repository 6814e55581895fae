//! From russh's callbacks to a session: what one channel's peer says, in order.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::backlog::{Backlog, Share};
use crate::wire::ssh::channel::Message;

/// Where callbacks put what they hear. Never waits: the socket is what is held back.
#[derive(Debug)]
pub(super) struct Inlet {
    sender: UnboundedSender<Message>,
    share: Arc<Share>,
    gone: watch::Sender<bool>,
}

/// Where a session takes it.
#[derive(Debug)]
pub(super) struct Outlet {
    receiver: UnboundedReceiver<Message>,
    share: Arc<Share>,
    gone: watch::Receiver<bool>,
}

pub(super) fn pipe(backlog: &Arc<Backlog>) -> (Inlet, Outlet) {
    let (sender, receiver) = unbounded_channel();
    let share = Arc::new(Share::new(backlog.clone()));
    let (tell, gone) = watch::channel(false);
    let inlet = Inlet {
        sender,
        share: share.clone(),
        gone: tell,
    };
    let outlet = Outlet {
        receiver,
        share,
        gone,
    };
    (inlet, outlet)
}

impl Inlet {
    pub fn put(&self, message: Message) {
        if message == Message::Closed {
            self.gone.send_replace(true);
        }
        self.share.add(weight(&message));
        // A session that is over hears nothing, and its share counts nothing.
        let _ = self.sender.send(message);
    }
}

impl Outlet {
    /// Waits for messages and takes what is there; none if the connection is gone. Cancel-safe.
    pub async fn take(&mut self, most: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        self.receiver.recv_many(&mut messages, most).await;
        for message in &messages {
            self.share.sub(weight(message));
        }
        messages
    }

    /// Waits until the peer has closed the channel or the connection is gone; takes nothing.
    pub async fn gone(&mut self) {
        // An error says that the callbacks are gone, and with them the connection.
        let _ = self.gone.wait_for(|gone| *gone).await;
    }

    /// What the session has taken but not passed on yet counts as well.
    pub fn share(&self) -> Arc<Share> {
        self.share.clone()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.share.close();
    }
}

/// What a message takes in memory, roughly.
fn weight(message: &Message) -> usize {
    let content = match message {
        Message::Input(bytes)
        | Message::Output(bytes)
        | Message::ErrorOutput(bytes)
        | Message::Exec(bytes)
        | Message::Subsystem(bytes)
        | Message::Signal(bytes)
        | Message::SftpReply(bytes)
        | Message::SftpRequest(bytes) => bytes.len(),
        Message::Pty(pty) => pty.term.len() + size_of_val(pty.modes.as_slice()),
        Message::Env { name, value } => name.len() + value.len(),
        _ => 0,
    };
    content + size_of::<Message>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn messages_keep_their_order_and_the_end_is_seen_beside_them() {
        let (backlog, _other) = Backlog::pair();
        let (inlet, mut outlet) = pipe(&backlog);
        inlet.put(Message::Input(Bytes::from_static(b"one")));
        inlet.put(Message::InputEnd);
        inlet.put(Message::Closed);
        outlet.gone().await;
        let messages = outlet.take(10).await;
        assert_eq!(messages.len(), 3);
        assert_eq!(messages.last(), Some(&Message::Closed));
        drop(inlet);
        assert!(outlet.take(10).await.is_empty());
    }
}
