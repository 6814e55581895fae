//! An operator has the session stand still: nothing more of its client's is read or forwarded until
//! somebody lets it go on. Replies flow on; the session ends when nobody does in time.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::macros::format_description;
use tokio::time::{Instant, sleep_until};

use super::{Ended, Session};
use crate::handover::Freeze;
use crate::ids::ExchangeId;
use crate::record::{AnsweredNote, AskedNote};
use crate::terminate::{End, Protocol};

/// What the client waits for.
pub(super) struct Frozen {
    by: String,
    reason: String,
    until: SystemTime,
    /// The same by a clock that is never set.
    ends: Instant,
    since: Instant,
    /// When the client hears once more that it waits.
    remind: Instant,
    untold: bool,
}

/// What happens while a session stands still.
pub(super) enum Still {
    Remind,
    /// Nobody let it go on in time.
    Over,
}

pub(super) async fn still(frozen: &Option<Frozen>) -> Still {
    match frozen {
        Some(frozen) => tokio::select! {
            biased;
            () = sleep_until(frozen.ends) => Still::Over,
            () = sleep_until(frozen.remind) => Still::Remind,
        },
        None => std::future::pending().await,
    }
}

impl<P: Protocol> Session<P> {
    /// An operator's word has come.
    pub(super) fn freeze_changed(&mut self) -> Result<(), Ended> {
        let Some(freeze) = self.freezes.borrow_and_update().clone() else {
            return Ok(());
        };
        match freeze.until {
            Some(until) => self.freeze(freeze, until),
            None => self.thaw(freeze),
        }
    }

    fn freeze(&mut self, freeze: Freeze, until: SystemTime) -> Result<(), Ended> {
        let now = Instant::now();
        let left = until.duration_since(SystemTime::now());
        let frozen = Frozen {
            by: freeze.by,
            reason: freeze.reason,
            until,
            ends: now + left.unwrap_or_default(),
            since: self.frozen.as_ref().map_or(now, |frozen| frozen.since),
            remind: now + self.rules.remind,
            untold: true,
        };
        self.recorder.asked(&AskedNote {
            exchange: 0,
            // No question of the desk's.
            question: String::new(),
            message: frozen.message(),
            statements: Vec::new(),
            rules: Vec::new(),
            until,
            joined: self.frozen.is_some(),
        })?;
        self.frozen = Some(frozen);
        self.tell_frozen();
        Ok(())
    }

    fn thaw(&mut self, thaw: Freeze) -> Result<(), Ended> {
        let Some(frozen) = self.frozen.take() else {
            return Ok(());
        };
        let by = vec![(thaw.by, thaw.reason)];
        self.recorder.answered(&frozen.note("thawed", by))?;
        Ok(())
    }

    pub(super) fn stands_still(&mut self, still: Still) -> Result<(), Ended> {
        let Some(frozen) = &mut self.frozen else {
            return Ok(());
        };
        match still {
            Still::Remind => {
                frozen.remind = Instant::now() + self.rules.remind;
                frozen.untold = true;
                self.tell_frozen();
                Ok(())
            }
            Still::Over => {
                let why = format!("{}; nobody let it go on in time", frozen.message());
                let note = frozen.note("expired", Vec::new());
                self.frozen = None;
                self.recorder.answered(&note)?;
                Err(Ended(End::Killed(why)))
            }
        }
    }

    /// Tells the client, if it has yet to hear and there is room between messages.
    pub(super) fn tell_frozen(&mut self) {
        let Some(frozen) = self.frozen.as_mut().filter(|frozen| frozen.untold) else {
            return;
        };
        let notice = frozen.notice();
        // Of no exchange in particular: the next request is not known yet.
        let exchange = self.grants.last().map_or(ExchangeId(0), |g| g.exchange());
        frozen.untold = !self.protocol.notify(exchange, &notice);
    }

    /// The session ends while it stands still.
    pub(super) fn leave_frozen(&mut self) -> Result<(), Ended> {
        match self.frozen.take() {
            Some(frozen) => Ok(self.recorder.answered(&frozen.note("left", Vec::new()))?),
            None => Ok(()),
        }
    }
}

impl Frozen {
    fn message(&self) -> String {
        format!("{} froze this session: {}", self.by, self.reason)
    }

    fn notice(&self) -> String {
        let time = format_description!("[hour]:[minute]:[second]");
        let until = OffsetDateTime::from(self.until).format(time);
        format!(
            "{}; nothing more runs until somebody lets it go on, and it ends at {} UTC",
            self.message(),
            until.unwrap_or_default()
        )
    }

    fn note(&self, outcome: &str, by: Vec<(String, String)>) -> AnsweredNote {
        AnsweredNote {
            exchange: 0,
            question: None,
            outcome: outcome.into(),
            by,
            scope: None,
            break_glass: false,
            held: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}
