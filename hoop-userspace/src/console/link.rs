//! The way to the keeper: a wish goes out under a number, and its answer finds who waits for it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::handover::Channel;
use crate::handover::console::{Denied, FromConsole, Wish};

/// The keeper answers at once, unless the worker that it asks does not.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

pub struct Link {
    channel: Arc<Channel>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answered>>>,
}

type Answered = (Result<String, Denied>, Option<OwnedFd>);

impl Link {
    pub fn new(channel: Arc<Channel>) -> Self {
        Self {
            channel,
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
        }
    }

    /// Asks in the name of whoever has this session; without one, in the console's own.
    pub async fn ask(&self, session: Option<&str>, wish: Wish) -> Result<Value, Denied> {
        self.ask_for_file(session, wish)
            .await
            .map(|(value, _)| value)
    }

    /// The same, with what the keeper opened.
    pub async fn ask_for_file(
        &self,
        session: Option<&str>,
        wish: Wish,
    ) -> Result<(Value, Option<OwnedFd>), Denied> {
        self.put(session, false, wish).await
    }

    /// Asks because a page is open, and not because somebody did something: keeps no session.
    pub async fn ask_by_itself(
        &self,
        session: Option<&str>,
        wish: Wish,
    ) -> Result<(Value, Option<OwnedFd>), Denied> {
        self.put(session, true, wish).await
    }

    /// Whether the session still goes on; counts as no use of it.
    pub async fn goes_on(&self, session: Option<&str>) -> bool {
        let asked = self.ask_by_itself(session, Wish::Whoami).await;
        !matches!(asked, Err(Denied::SignIn | Denied::Role(_)))
    }

    async fn put(
        &self,
        session: Option<&str>,
        background: bool,
        wish: Wish,
    ) -> Result<(Value, Option<OwnedFd>), Denied> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, answered) = oneshot::channel();
        self.waiting().insert(number, tell);
        let message = FromConsole {
            number,
            session: session.map(|token| Zeroizing::new(token.to_owned())),
            background,
            wish,
        };
        let asking = async {
            let sent = self.channel.send(&message, None).await;
            sent.map_err(|error| Denied::Failed(error.to_string()))?;
            let lost = |_| Denied::Failed("the daemon gave no answer".into());
            answered.await.map_err(lost)
        };
        let answered = tokio::time::timeout(ANSWERED_WITHIN, asking).await;
        self.waiting().remove(&number);
        let late = |_| Denied::Failed("the daemon does not answer".into());
        let (answer, file) = answered.map_err(late)??;
        let value = serde_json::from_str(&answer?);
        let value = value.map_err(|error| Denied::Failed(error.to_string()))?;
        Ok((value, file))
    }

    pub fn answered(&self, number: u64, answer: Result<String, Denied>, file: Option<OwnedFd>) {
        if let Some(waiting) = self.waiting().remove(&number) {
            // Whoever asked may have given up.
            let _ = waiting.send((answer, file));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answered>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
