//! What was found and decided before. A hit costs two look-ups.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::attribute::Process;
use crate::identify::Identity;
use crate::ids::{ResourceName, SessionId};
use crate::terminate::SqlText;

use super::decider::Verdict;
use super::sql::Shape;
use super::{Derived, Facts, Subject, Unseen};

/// Bytes that texts and their facts may take, as estimated by [`Facts::weight`].
const FACTS: usize = 64 << 20;
/// Facts above this weight are not compared with those of other texts.
const SMALL: usize = 16 << 10;
/// Texts longer than this are not kept: they come once.
const LONGEST: usize = 128 << 10;
/// Each is 2 KiB at most, and small facts.
const SHAPES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2_047);
const ALIKE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2_047);
const VERDICTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);
const SESSIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1_023);

/// Facts with a number that stands for them in other caches, and is never used again.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub facts: Arc<Facts>,
    number: u64,
}

/// A text, compared in full: nobody who can make hashes collide gets another text's facts.
struct Text(Arc<SqlText>);

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Eq for Text {}

/// Whatever of a subject a verdict depends on.
#[derive(PartialEq, Eq, Hash)]
struct Who {
    identity: IdentityKey,
    process: ProcessKey,
    resource: ResourceName,
    database: String,
    login: String,
    derived: Arc<[Derived]>,
    unseen: Arc<Unseen>,
    /// The epoch of what is known of the database's objects.
    objects: u64,
}

/// A session's subject as it was seen last. Holding both keeps their addresses from being reused.
struct Seen {
    identity: Arc<Identity>,
    process: Arc<Process>,
    resource: ResourceName,
    database: String,
    login: String,
    derived: Arc<[Derived]>,
    unseen: Arc<Unseen>,
    objects: u64,
    number: u32,
}

type IdentityKey = (
    String,
    String,
    String,
    String,
    Vec<String>,
    Vec<String>,
    bool,
);
type ProcessKey = (
    String,
    u32,
    String,
    Option<std::path::PathBuf>,
    Option<String>,
    Option<String>,
);

pub(super) struct Cache {
    facts: LruCache<Text, (Known, usize)>,
    /// By what is left of texts without the values that drivers write into them.
    shapes: LruCache<Box<[u8]>, Known>,
    /// Texts that differ in constants only have equal facts, and so one verdict: those that have no
    /// shape are parsed each time, and decided once.
    alike: LruCache<Arc<Facts>, u64>,
    weight: usize,
    next: u64,
    verdicts: LruCache<(u64, u32), Arc<Verdict>>,
    sessions: LruCache<SessionId, Seen>,
    who: LruCache<Who, u32>,
    next_who: u32,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            facts: LruCache::unbounded(),
            shapes: LruCache::new(SHAPES),
            alike: LruCache::new(ALIKE),
            weight: 0,
            next: 0,
            verdicts: LruCache::new(VERDICTS),
            sessions: LruCache::new(SESSIONS),
            who: LruCache::new(SESSIONS),
            next_who: 0,
        }
    }
}

impl Cache {
    pub(super) fn facts(&mut self, text: &Arc<SqlText>) -> Option<Known> {
        // The key is only borrowed: a clone of the Arc counts, and copies nothing.
        let (known, _) = self.facts.get(&Text(text.clone()))?;
        Some(known.clone())
    }

    /// What is known of all texts of this shape.
    pub(super) fn shaped(&mut self, shape: &Shape) -> Option<Known> {
        self.shapes.get(&**shape).cloned()
    }

    pub(super) fn keep_facts(
        &mut self,
        text: &Arc<SqlText>,
        shape: Option<Shape>,
        facts: Facts,
    ) -> Known {
        let weight = text.text.len() + facts.weight();
        // What the parser says of a text that it does not understand quotes the text.
        let shape = shape.filter(|_| weight <= SMALL && facts.unparsable.is_none());
        let known = self.known(facts, weight <= SMALL);
        if let Some(shape) = shape {
            // Not by its text as well: the next one is another.
            self.shapes.push(shape.into_boxed_slice(), known.clone());
        } else if text.text.len() <= LONGEST {
            self.weight += weight;
            let entry = (known.clone(), weight);
            if let Some((_, (_, old))) = self.facts.push(Text(text.clone()), entry) {
                self.weight -= old;
            }
            while self.weight > FACTS
                && let Some((_, (_, old))) = self.facts.pop_lru()
            {
                self.weight -= old;
            }
        }
        known
    }

    fn known(&mut self, facts: Facts, keep: bool) -> Known {
        if let Some((facts, number)) = self.alike.get_key_value(&facts) {
            return Known {
                facts: facts.clone(),
                number: *number,
            };
        }
        self.next += 1;
        let known = Known {
            facts: Arc::new(facts),
            number: self.next,
        };
        if keep {
            self.alike.push(known.facts.clone(), known.number);
        }
        known
    }

    pub(super) fn verdict(&mut self, known: &Known, who: u32) -> Option<Arc<Verdict>> {
        self.verdicts.get(&(known.number, who)).cloned()
    }

    pub(super) fn keep_verdict(&mut self, known: &Known, who: u32, verdict: &Arc<Verdict>) {
        self.verdicts.push((known.number, who), verdict.clone());
    }

    /// The number of all subjects that are decided alike.
    pub(super) fn who(&mut self, subject: &Subject) -> u32 {
        if let Some(seen) = self.sessions.get(&subject.session)
            && Arc::ptr_eq(&seen.identity, &subject.identity)
            && Arc::ptr_eq(&seen.process, &subject.process)
            && seen.resource == subject.resource
            && seen.database == subject.database
            && seen.login == subject.login
            && Arc::ptr_eq(&seen.derived, &subject.derived)
            && Arc::ptr_eq(&seen.unseen, &subject.unseen)
            && seen.objects == subject.objects.epoch()
        {
            return seen.number;
        }
        let who = Who::of(subject);
        let number = match self.who.get(&who) {
            Some(number) => *number,
            None => {
                // A number that has come round would stand for two; verdicts of the first are gone.
                self.next_who = self.next_who.wrapping_add(1);
                if self.next_who == 0 {
                    self.verdicts.clear();
                    self.who.clear();
                    self.sessions.clear();
                }
                self.who.push(who, self.next_who);
                self.next_who
            }
        };
        let seen = Seen {
            identity: subject.identity.clone(),
            process: subject.process.clone(),
            resource: subject.resource.clone(),
            database: subject.database.clone(),
            login: subject.login.clone(),
            derived: subject.derived.clone(),
            unseen: subject.unseen.clone(),
            objects: subject.objects.epoch(),
            number,
        };
        self.sessions.push(subject.session, seen);
        number
    }
}

impl Who {
    fn of(subject: &Subject) -> Self {
        let (identity, process) = (&subject.identity, &subject.process);
        Self {
            identity: (
                identity.agent().to_string(),
                identity.issuer().to_string(),
                identity.subject().to_owned(),
                identity.client_id().to_owned(),
                identity.groups().to_vec(),
                identity.scopes().to_vec(),
                identity.verified(),
            ),
            process: (
                process.comm.clone(),
                process.uid,
                process.cgroup.clone(),
                process.executable.clone(),
                process.unit.clone(),
                process.container.clone(),
            ),
            resource: subject.resource.clone(),
            database: subject.database.clone(),
            login: subject.login.clone(),
            derived: subject.derived.clone(),
            unseen: subject.unseen.clone(),
            objects: subject.objects.epoch(),
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("facts", &self.facts.len())
            .field("verdicts", &self.verdicts.len())
            .finish_non_exhaustive()
    }
}
