//! What was recorded, decided again under other policies: which verdicts change.
//!
//! The other policies are put to the decider that decides live sessions. What they cannot be told (the
//! database's catalog, what was done before) they are told nothing of, as `hoop policy test` does.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Serialize;

use super::Unusable;
use super::decided::{self, Said};
use super::policy::Verdict;
use super::recorded::{self, Decision, Filter, Listener, Session};
use super::report::Example;
use super::shape::{Shape, Shapes};
use crate::config::Config;
use crate::decide::Decider;
use crate::replay::ReplayError;
use crate::terminate::again::{Again, Lost};

/// Rows that are told apart.
const MAX_ROWS: usize = 20_000;
/// Errors that are told one by one.
const TOLD_ERRORS: usize = 100;

/// Refusals that no policy decides.
const NO_POLICY: [&str; 6] = [
    "identity",
    "destination",
    "too_large",
    "changed",
    "unavailable",
    "unknown_name",
];

/// Verdicts that change alike. The keys are kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What the recording says; of observed agents what enforce mode would have said.
    pub was: Verdict,
    pub becomes: Verdict,
    /// What the configured policies say now: where that is not `was`, something beside the policies has
    /// changed too, or they have changed since.
    pub configured: Verdict,
    pub count: u64,
    /// In so many sessions.
    pub sessions: u64,
    pub agent: Option<String>,
    pub resource: Option<String>,
    /// The database; of SSH the host, as the client called it; where there is no resource, the address.
    pub place: Option<String>,
    pub protocol: String,
    /// The rules that decided then, and that would decide.
    pub was_by: Vec<String>,
    pub becomes_by: Vec<String>,
    /// Of a refusal under the other policies.
    pub code: Option<String>,
    /// Of a question under the other policies: what each rule that asks demands.
    pub demands: Vec<String>,
    /// Without constants; of a command its programs.
    pub shape: String,
    pub fingerprint: Option<String>,
    /// Where one of them is.
    pub example: Example,
}

/// What sums it up. The keys are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub decided: u64,
    pub changed: u64,
    /// Decided without what the database's catalog said, which counts for tables, views and functions.
    pub without_catalog: u64,
    /// What could not be decided again, by why.
    pub not_decided: BTreeMap<Lost, u64>,
    /// Counted as changed, and not told apart: there were too many shapes.
    pub not_told_apart: u64,
    /// Recordings that could not be read, or not to their end.
    pub unreadable: u64,
    /// The other policies speak of activity: all was decided as if nothing had happened before.
    pub activity: bool,
}

pub struct Changes {
    /// Most frequent first.
    pub changes: Vec<Change>,
    pub totals: Totals,
    pub unreadable: Vec<ReplayError>,
}

/// Decides everything recorded below a directory again, under the policies of `other`.
pub fn changes(
    directory: &Path,
    config: &Config,
    other: &Config,
    filter: &Filter,
) -> Result<Changes, Unusable> {
    let (configured, other) = (Decider::new(config)?, Decider::new(other)?);
    let mut gathered = Gathered {
        configured: &configured,
        other: &other,
        shapes: Shapes::new(config),
        rows: HashMap::new(),
        totals: Totals {
            activity: other.watches(),
            ..Totals::default()
        },
        unreadable: Vec::new(),
    };
    recorded::walk(directory, config, filter, &mut gathered)?;
    Ok(gathered.finish())
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    was: Verdict,
    becomes: Verdict,
    configured: Verdict,
    agent: Option<String>,
    resource: Option<String>,
    place: Option<String>,
    protocol: String,
    was_by: Vec<String>,
    becomes_by: Vec<String>,
    code: Option<String>,
    demands: Vec<String>,
    shape: Shape,
}

struct Counted {
    count: u64,
    sessions: u64,
    /// The last session that was counted; a session's decisions come together.
    session: String,
    example: Example,
}

struct Gathered<'c> {
    configured: &'c Decider,
    other: &'c Decider,
    shapes: Shapes<'c>,
    rows: HashMap<Key, Counted>,
    totals: Totals,
    unreadable: Vec<ReplayError>,
}

impl Listener for Gathered<'_> {
    fn decided(&mut self, session: &Session, decision: Decision<'_>) {
        let code = decision.code.as_deref();
        let lost = match (decision.what, &session.subject) {
            _ if code.is_some_and(|code| NO_POLICY.contains(&code)) => Some(Lost::NoPolicy),
            (Again::Lost(why), _) => Some(*why),
            (_, None) => Some(Lost::NoAgent),
            _ => None,
        };
        let (Again::Asked(asked), Some(subject), None) = (decision.what, &session.subject, lost)
        else {
            return self.lost(lost.unwrap_or(Lost::Nothing));
        };
        if let Some(why) = decided::another(self.other, &decision, asked) {
            return self.lost(why);
        }
        let said = decided::decide(self.other, subject, asked.clone());
        // What the session had copied, or named otherwise, is not known.
        if code == Some("masked_read") && said.verdict != Verdict::Refuse {
            return self.lost(Lost::Masks);
        }
        let configured = || decided::decide(self.configured, subject, asked.clone());
        self.totals.decided += 1;
        self.totals.without_catalog += u64::from(decided::depends_on_catalog(self.other, asked));
        if is_same(&decision, &said) && !asks_otherwise(&decision, &said, configured) {
            return;
        }
        self.totals.changed += 1;
        let configured = configured();
        let configured = match is_same(&decision, &configured) {
            true => decision.was,
            false => configured.verdict,
        };
        let header = &session.header;
        let resource = header.resource.as_deref();
        let shape = self.shapes.of(self.other, resource, decision.what);
        let key = Key {
            was: decision.was,
            becomes: said.verdict,
            configured,
            agent: header.agent.clone(),
            resource: header.resource.clone(),
            place: session.place(),
            protocol: header.protocol.clone(),
            was_by: decision.rules,
            becomes_by: said.rules,
            code: said.code.map(str::to_owned),
            demands: said.demands,
            shape,
        };
        if !self.rows.contains_key(&key) && self.rows.len() >= MAX_ROWS {
            self.totals.not_told_apart += 1;
            return;
        }
        let id = header.session.to_string();
        let row = self.rows.entry(key).or_insert_with(|| Counted {
            count: 0,
            sessions: 0,
            session: String::new(),
            example: Example {
                session: id.clone(),
                exchange: decision.exchange,
            },
        });
        row.count += 1;
        if row.session != id {
            row.sessions += 1;
            row.session = id;
        }
    }

    fn unreadable(&mut self, error: ReplayError) {
        self.totals.unreadable += 1;
        if self.unreadable.len() < TOLD_ERRORS {
            self.unreadable.push(error);
        }
    }
}

/// What an approval covered is not asked about again while the same rules ask. That they permitted is
/// not enough: a rule that permits may have been made to ask since.
fn is_same(decision: &Decision<'_>, said: &Said) -> bool {
    let covered = decision.was == Verdict::Allow
        && decision.approved
        && said.verdict == Verdict::Ask
        && said.rules.iter().all(|rule| decision.rules.contains(rule));
    said.verdict == decision.was || covered
}

/// Whether other people are asked, or otherwise. A recording has the rules alone, of all that was asked
/// about at once; what these demand is known as long as the configured policies ask too.
fn asks_otherwise(decision: &Decision<'_>, said: &Said, configured: impl Fn() -> Said) -> bool {
    if (decision.was, said.verdict) != (Verdict::Ask, Verdict::Ask) {
        return false;
    }
    let configured = configured();
    match configured.verdict {
        Verdict::Ask => configured.demands != said.demands,
        _ => !said.rules.iter().all(|rule| decision.rules.contains(rule)),
    }
}

impl Gathered<'_> {
    fn lost(&mut self, why: Lost) {
        *self.totals.not_decided.entry(why).or_default() += 1;
    }

    fn finish(self) -> Changes {
        let mut all: Vec<(Key, Counted)> = self.rows.into_iter().collect();
        all.sort_by(|(a, one), (b, other)| other.count.cmp(&one.count).then_with(|| a.cmp(b)));
        let changes = all.into_iter().map(|(key, counted)| Change {
            was: key.was,
            becomes: key.becomes,
            configured: key.configured,
            count: counted.count,
            sessions: counted.sessions,
            agent: key.agent,
            resource: key.resource,
            place: key.place,
            protocol: key.protocol,
            was_by: key.was_by,
            becomes_by: key.becomes_by,
            code: key.code,
            demands: key.demands,
            shape: key.shape.text,
            fingerprint: key.shape.fingerprint,
            example: counted.example,
        });
        Changes {
            changes: changes.collect(),
            totals: self.totals,
            unreadable: self.unreadable,
        }
    }
}
