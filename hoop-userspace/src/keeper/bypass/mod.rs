//! Broken glass: who let an agent's connections past hoop, why, and until when.
//!
//! The kernel's map is what counts; this list, in the keeper's folder, says what the map cannot. The
//! command writes both, so that it needs no daemon, and the keeper follows: it lets cgroups that come
//! later pass too, writes down when a bypass begins and ends, and ends the connections it leaves.
//! An entry of the map that the list does not have is taken away.
//!
//! One is announced before it begins: whoever announced it lets it begin once it is written down
//! somewhere, and until then it lets nothing pass.

mod ending;
mod follow;
mod list;
mod map;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::capture::boot_now;

pub use ending::{end_connections, namespaces, within};
pub use follow::Follower;
pub use list::Kept;

/// Longer than a daemon is waited for; who has not let it begin by then has gone.
const ANNOUNCED_FOR: Duration = Duration::from_secs(60);

/// The longest that the glass may stay broken.
pub const MOST: Duration = Duration::from_nanos(hoop_common::Bypass::MOST);

#[derive(Debug, thiserror::Error)]
pub enum BypassError {
    #[error("the list of bypasses at {path} cannot be read or written: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "the list of bypasses at {path} is damaged ({source}): all of them have ended; remove it"
    )]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
}

/// One breaking of the glass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    pub agent: String,
    /// What the map's entries have.
    pub number: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// For people: the host's clock may be set meanwhile, and does not change when it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub until_boot: u64,
    pub by: String,
    pub reason: String,
    /// It is written down somewhere, and may let pass. Versions before this field let begin at once.
    #[serde(default = "begun")]
    pub begun: bool,
    /// Before its time.
    pub ended: Option<Ended>,
}

const fn begun() -> bool {
    true
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub by: String,
    pub reason: String,
}

impl Broken {
    /// Announced: from now on for so long, which must be between a second and [`MOST`].
    pub fn new(agent: &str, lasts: Duration, by: &str, reason: &str) -> Self {
        let now = boot_now();
        let since = SystemTime::now();
        let nanoseconds = u64::try_from(lasts.min(MOST).as_nanos()).unwrap_or_default();
        Self {
            agent: agent.to_owned(),
            number: now.max(1),
            since: since.into(),
            until: (since + lasts).into(),
            until_boot: now.saturating_add(nanoseconds),
            by: by.to_owned(),
            reason: reason.to_owned(),
            begun: false,
            ended: None,
        }
    }

    /// Whether it lets anything pass at that moment of CLOCK_BOOTTIME.
    pub fn holds(&self, now: u64) -> bool {
        self.begun && self.ended.is_none() && self.entry().holds(now)
    }

    /// Whether it may still begin.
    pub fn is_announced(&self, now: u64) -> bool {
        let for_long = u64::try_from(ANNOUNCED_FOR.as_nanos()).unwrap_or(u64::MAX);
        let since = now.saturating_sub(self.number);
        !self.begun && self.ended.is_none() && since < for_long
    }

    /// As the kernel has it.
    pub fn entry(&self) -> hoop_common::Bypass {
        hoop_common::Bypass {
            until: self.until_boot,
            number: self.number,
        }
    }

    pub fn left(&self) -> Duration {
        Duration::from_nanos(self.until_boot.saturating_sub(boot_now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_no_longer_than_the_most() {
        let mut long = Broken::new("bot", MOST * 3, "root", "x");
        long.begun = true;
        assert!(long.holds(boot_now()) && long.left() <= MOST);
        let mut ended = long.clone();
        ended.ended = Some(Ended {
            by: "root".into(),
            reason: String::new(),
        });
        assert!(!ended.holds(boot_now()));
        assert!(!long.holds(long.until_boot));
    }

    #[test]
    fn what_is_announced_lets_nothing_pass_and_is_not_waited_for_long() {
        let announced = Broken::new("bot", Duration::from_secs(600), "root", "x");
        let now = announced.number;
        assert!(!announced.holds(now) && announced.is_announced(now));
        assert!(!announced.is_announced(now + 61_000_000_000));
        // As versions before wrote it.
        let mut text = serde_json::to_value(&announced).unwrap();
        text.as_object_mut().unwrap().remove("begun");
        let before: Broken = serde_json::from_value(text).unwrap();
        assert!(before.holds(now) && !before.is_announced(now));
    }
}
