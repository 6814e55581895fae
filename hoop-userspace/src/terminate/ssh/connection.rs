//! A client that was let in, and the channels that it opens.

use std::sync::Arc;
use std::time::Duration;

use russh::Disconnect;
use russh::server;
use tokio::sync::mpsc;

use super::backlog::{Backlog, Hold};
use super::front::{Jump, Met, Opening};
use super::session::Session;
use super::upstream::Upstream;
use crate::decide::Refusal;
use crate::terminate::{self, Opened, SessionError};

/// What a client has to take its leave.
const GOODBYE: Duration = Duration::from_secs(1);

/// Connections to other governed hosts, as the client asks for them.
pub type Jumps = mpsc::UnboundedReceiver<Jump>;

/// Each channel is a session.
pub struct Connection {
    handle: server::Handle,
    openings: mpsc::UnboundedReceiver<Opening>,
    upstream: Arc<Upstream>,
    _hold: Hold,
}

impl Met {
    /// What the server's side counts with.
    pub fn backlog(&self) -> Arc<Backlog> {
        self.server_backlog.clone()
    }

    /// Both sides together.
    pub fn ready(self, upstream: Upstream) -> (Connection, Jumps) {
        let connection = Connection {
            handle: self.handle,
            openings: self.openings,
            upstream: Arc::new(upstream),
            _hold: self.hold,
        };
        (connection, self.jumps)
    }

    /// Tells the client why it is not served: on the first channel that it opens, where its user
    /// reads it, and as the reason of the disconnect.
    pub async fn refuse(mut self, refusal: &Refusal) {
        if let Ok(Some(opening)) =
            tokio::time::timeout(super::front::MEETING, self.openings.recv()).await
        {
            Session::refused(opening, refusal).await;
        }
        goodbye(&self.handle, &refusal.message, &mut self.openings).await;
    }
}

impl Connection {
    /// Ends the connection: the client reads why.
    pub async fn leave(mut self, why: &str) {
        goodbye(&self.handle, why, &mut self.openings).await;
        self.upstream.leave().await;
    }
}

impl terminate::Connection for Connection {
    type Session = Session;

    async fn open(&mut self) -> Result<Opened<Session>, SessionError> {
        let opening = tokio::select! {
            // The sender is with the callbacks: it goes with the client's connection.
            opening = self.openings.recv() => opening,
            () = self.upstream.gone() => None,
        };
        Ok(match opening {
            Some(opening) => {
                let session = Session::new(opening, self.upstream.clone());
                Opened::Session(Box::new(session))
            }
            None => Opened::Closed,
        })
    }
}

/// Says why, and waits until the client has heard it.
async fn goodbye(
    handle: &server::Handle,
    why: &str,
    openings: &mut mpsc::UnboundedReceiver<Opening>,
) {
    let text = format!("hoop: {why}");
    // Whoever has gone needs no reason.
    let _ = handle
        .disconnect(Disconnect::ByApplication, text, "en".to_owned())
        .await;
    let gone = async { while openings.recv().await.is_some() {} };
    let _ = tokio::time::timeout(GOODBYE, gone).await;
}
