//! Whether a token that proves itself still holds, by its issuer's own word: RFC 7662 introspection
//! and, where configured, OpenID Connect's userinfo.
//!
//! An answer serves everybody for `recheck`; one question serves all who wait for it. Where the
//! issuer limits how often it is asked, answers serve longer, and [`Standings::bound`] says how
//! long really. What the issuer does not answer is not known, and what is not known is refused, but
//! for the grace that the configuration may give to what was confirmed before.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;

use super::ask::{Asker, Word};
use super::error::Reason;
use super::metrics::Metrics;
use super::pace::{MOST_STRETCHED, Pacer};
use super::verifier::Digest;
use crate::config::Issuer;

const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Whoever opens a connection waits at most this long for the issuer's limits.
const PATIENCE: Duration = Duration::from_secs(3);
/// Without a grace, live sessions outlast an issuer that cannot be asked by this much: a restart of
/// the issuer's front end shall not end all work.
pub const TOLERANCE: Duration = Duration::from_secs(15);

/// For what a token is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A connection opens.
    Opening,
    /// A session lives.
    Living,
    /// Something happened: what was answered before counts for nothing.
    Alarm,
}

/// How a token stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The issuer said so, at this time at the latest.
    Confirmed { at: SystemTime },
    /// Nobody can be asked: the token holds until it expires.
    Unasked,
    /// The issuer cannot be asked; it confirmed the token at this time, and the grace goes on.
    Grace { confirmed: SystemTime, why: String },
}

/// What one issuer said of its tokens.
pub(super) struct Standings {
    recheck: Duration,
    grace: Option<Duration>,
    pacer: Pacer,
    known: Mutex<LruCache<Digest, Arc<Entry>>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Entry {
    /// Held while the issuer is asked, so that it is asked once for all who wait.
    asking: tokio::sync::Mutex<()>,
    last: Mutex<Last>,
}

#[derive(Clone, Default)]
struct Last {
    /// When the last question was put, whatever became of it.
    asked: Option<Instant>,
    /// When the last question was put that was answered with yes: the token held then.
    confirmed: Option<(Instant, SystemTime)>,
    /// The answer to the last question.
    word: Option<Heard>,
    /// How long the last answer took.
    took: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Active,
    Inactive,
    Silent,
    Nothing(String),
}

/// How long a revocation may go unnoticed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The age that an answer may reach, and what the last one took. `None`: until the token ends.
    pub within: Option<Duration>,
    /// Why it is longer than `recheck` asks for, if it is.
    pub why: Option<String>,
}

impl Bound {
    /// Where no issuer is asked.
    pub fn unasked() -> Self {
        Self {
            within: None,
            why: Some("the issuer is not asked; a token holds until it expires".into()),
        }
    }
}

impl Standings {
    pub fn new(issuer: &Issuer, metrics: Arc<Metrics>) -> Self {
        Self {
            recheck: issuer.recheck,
            grace: issuer.grace,
            pacer: Pacer::default(),
            known: Mutex::new(LruCache::new(REMEMBERED)),
            metrics,
        }
    }

    /// How a token stands now. Asks the issuer where its last word is too old.
    pub async fn of(
        &self,
        digest: &Digest,
        asker: Option<&Asker>,
        token: &str,
        about: &super::Identity,
        occasion: Occasion,
    ) -> Result<Standing, Reason> {
        let Some(asker) = asker else {
            return Ok(Standing::Unasked);
        };
        let entry = self.entry(digest);
        let heard_after = match occasion {
            Occasion::Alarm => Some(Instant::now()),
            _ => None,
        };
        if let Some(said) = self.said(&entry, occasion, heard_after) {
            return said;
        }
        let _alone = entry.asking.lock().await;
        // Others may have asked while this one waited.
        if let Some(said) = self.said(&entry, occasion, heard_after) {
            return said;
        }
        if let Err(limited) = self.pacer.turn(patience(occasion)).await {
            return self.unknown(&entry.last(), occasion, limited);
        }
        let (asked, at) = (Instant::now(), SystemTime::now());
        let word = asker.ask(token, about, &self.pacer).await;
        self.metrics.introspected(&word);
        let heard = match word {
            Ok(Word::Active) => Heard::Active,
            Ok(Word::Inactive) => Heard::Inactive,
            Ok(Word::Silent) => Heard::Silent,
            // Confirmed before and disowned now: the application was withdrawn.
            Ok(Word::Disowned) if entry.last().confirmed.is_some() => Heard::Inactive,
            Ok(Word::Disowned) => Heard::Nothing(
                "the issuer does not take the client's key or secret: compare them, or set introspection".into(),
            ),
            Err(why) => Heard::Nothing(why),
        };
        {
            let mut last = entry.last();
            last.asked = Some(asked);
            last.took = asked.elapsed();
            match heard {
                Heard::Active => last.confirmed = Some((asked, at)),
                // No grace bridges what was taken away.
                Heard::Inactive => last.confirmed = None,
                _ => {}
            }
            last.word = Some(heard);
        }
        let last = entry.last().clone();
        self.answer(&last, occasion)
    }

    /// How long a revocation of this token may go unnoticed now.
    pub fn bound(&self, digest: &Digest) -> Bound {
        let entry = self.known().peek(digest).cloned();
        let Some(last) = entry.map(|entry| entry.last().clone()) else {
            return Bound::unasked();
        };
        let (within, why) = match &last.word {
            None | Some(Heard::Silent) => return Bound::unasked(),
            Some(Heard::Nothing(why)) => (
                self.longest(),
                Some(format!("the issuer cannot be asked: {why}")),
            ),
            _ if self.pacer.limits() => {
                let age = last.confirmed.map_or(self.recheck, |(at, _)| at.elapsed());
                let why = "the issuer limits how often it is asked";
                (age.max(self.recheck), Some(why.to_owned()))
            }
            _ => (self.recheck, None),
        };
        Bound {
            within: Some(within + last.took),
            why,
        }
    }

    /// Forgets what was taken away: somebody lets a suspended agent go on. What holds goes on to
    /// hold, for others' sake.
    pub fn forget(&self) {
        let mut known = self.known();
        let gone: Vec<Digest> = known
            .iter()
            .filter(|(_, entry)| entry.last().word == Some(Heard::Inactive))
            .map(|(digest, _)| *digest)
            .collect();
        for digest in gone {
            known.pop(&digest);
        }
    }

    /// What the last answer says, if it is young enough to say anything.
    fn said(
        &self,
        entry: &Entry,
        occasion: Occasion,
        after: Option<Instant>,
    ) -> Option<Result<Standing, Reason>> {
        let last = entry.last().clone();
        let asked = last.asked?;
        let fresh = match after {
            Some(after) => asked >= after,
            None => asked.elapsed() < self.recheck,
        };
        // A question that failed is put again no sooner than one that was answered.
        fresh.then(|| self.answer(&last, occasion))
    }

    fn answer(&self, last: &Last, occasion: Occasion) -> Result<Standing, Reason> {
        match (&last.word, last.confirmed) {
            (Some(Heard::Inactive), _) => Err(Reason::Inactive),
            (Some(Heard::Silent), _) => Ok(Standing::Unasked),
            (Some(Heard::Active), Some((_, at))) => Ok(Standing::Confirmed { at }),
            (Some(Heard::Nothing(why)), _) => self.unknown(last, occasion, why.clone()),
            _ => Err(Reason::Unreachable("it was not asked yet".into())),
        }
    }

    /// What holds while the issuer does not answer.
    fn unknown(&self, last: &Last, occasion: Occasion, why: String) -> Result<Standing, Reason> {
        if last.word == Some(Heard::Inactive) {
            return Err(Reason::Inactive);
        }
        let Some((confirmed, at)) = last.confirmed else {
            return Err(Reason::Unreachable(why));
        };
        let age = confirmed.elapsed();
        // The issuer answers, only not so often: that is no outage.
        if self.pacer.limits() && age < MOST_STRETCHED {
            return Ok(Standing::Confirmed { at });
        }
        if self.grace.is_some_and(|grace| age < grace) {
            self.metrics.graced();
            return Ok(Standing::Grace { confirmed: at, why });
        }
        if self.grace.is_none() && occasion != Occasion::Opening && age < TOLERANCE {
            return Ok(Standing::Confirmed { at });
        }
        let ago = age.as_secs();
        Err(Reason::Unreachable(format!(
            "{why}; it last confirmed the token {ago} s ago"
        )))
    }

    /// The greatest age at which an answer still counts for a live session.
    fn longest(&self) -> Duration {
        let stretched = if self.pacer.limits() {
            MOST_STRETCHED
        } else {
            Duration::ZERO
        };
        self.grace.unwrap_or(TOLERANCE).max(stretched)
    }

    fn entry(&self, digest: &Digest) -> Arc<Entry> {
        let mut known = self.known();
        Arc::clone(known.get_or_insert(*digest, Arc::default))
    }

    fn known(&self) -> MutexGuard<'_, LruCache<Digest, Arc<Entry>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn patience(occasion: Occasion) -> Duration {
    match occasion {
        // The watch comes again; whoever waits here holds nobody up.
        Occasion::Living => Duration::ZERO,
        Occasion::Opening | Occasion::Alarm => PATIENCE,
    }
}
