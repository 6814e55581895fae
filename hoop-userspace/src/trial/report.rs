//! What the policies and the masks did to agents, or would have done: how often, by which rule, to
//! statements of which shape, and what would have let them through.
//!
//! Memory is bounded: what is remembered is one row for each shape, up to [`MAX_ROWS`], and for the
//! permits one example of a row, up to [`MAX_EXAMPLES`] bytes of them.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::Unusable;
use super::decided;
use super::narrow::{self, Named};
use super::policy::Verdict;
use super::recorded::{self, Decision, Filter, Listener, Masked, Session, stamp, weight};
use super::shape::{Shape, Shapes};
use crate::config::{Config, Mode};
use crate::decide::{Decider, Subject};
use crate::replay::ReplayError;
use crate::terminate::Asked;
use crate::terminate::again::{Again, Lost};

const MAX_ROWS: usize = 20_000;
const MAX_EXAMPLES: usize = 64 << 20;
/// What an example takes beside its text, generously estimated.
const EXAMPLE: usize = 4 << 10;

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Refused,
    /// In observe mode it passed, and enforce mode would have refused it.
    WouldRefuse,
    /// People were asked, or would have been if there were any.
    Asked,
    WouldAsk,
    /// Values of its answer were masked.
    Masked,
    /// In observe mode, where the agent saw them.
    WouldMask,
}

impl Kind {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::WouldRefuse => "would be refused",
            Self::Asked => "asked about",
            Self::WouldAsk => "would be asked about",
            Self::Masked => "masked",
            Self::WouldMask => "would be masked",
        }
    }
}

/// One row of the report. The keys are kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub kind: Kind,
    pub count: u64,
    /// In so many sessions.
    pub sessions: u64,
    pub agent: Option<String>,
    pub resource: Option<String>,
    /// The database; of SSH the host, as the client called it; where there is no resource, the address.
    pub place: Option<String>,
    pub protocol: String,
    /// The account at the server, which a permit holds to.
    pub login: Option<String>,
    /// Of a refusal.
    pub code: Option<String>,
    /// The rules that refused or asked; of masks those that permitted the statement. None where no
    /// rule permitted.
    pub rules: Vec<String>,
    /// Without constants; of a command its programs.
    pub shape: String,
    pub fingerprint: Option<String>,
    /// Of masks: values that were replaced.
    pub values: u64,
    /// RFC 3339.
    pub first: String,
    pub last: String,
    pub example: Example,
    /// Of a refusal: policies that would have let it through, and no more.
    pub permit: Option<String>,
    /// Why none is proposed.
    pub no_permit: Option<String>,
}

/// Where one of them is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    pub session: String,
    pub exchange: u64,
}

/// What sums it up. The keys are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub refused: u64,
    pub would_refuse: u64,
    pub asked: u64,
    pub would_ask: u64,
    pub masked: u64,
    pub would_mask: u64,
    /// Rows, of which the most frequent are shown.
    pub shapes: u64,
    /// Counted above, and not told apart: there were too many shapes.
    pub not_told_apart: u64,
    /// Recordings that could not be read, or not to their end.
    pub unreadable: u64,
}

pub struct Report {
    /// Most frequent first.
    pub rows: Vec<Row>,
    pub totals: Totals,
    pub unreadable: Vec<ReplayError>,
}

/// Reads what is recorded below a directory, and proposes permits for the `most` frequent rows, which
/// alone are told. With the policies of no configuration none is proposed.
pub fn report(
    directory: &Path,
    config: &Config,
    policies_known: bool,
    filter: &Filter,
    most: usize,
) -> Result<Report, Unusable> {
    let decider = Decider::new(config)?;
    let mut gathered = Gathered {
        decider: &decider,
        shapes: Shapes::new(config),
        rows: HashMap::new(),
        totals: Totals::default(),
        unreadable: Vec::new(),
        examples: 0,
    };
    recorded::walk(directory, config, filter, &mut gathered)?;
    Ok(gathered.finish(config, policies_known, most))
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    kind: Kind,
    agent: Option<String>,
    resource: Option<String>,
    place: Option<String>,
    protocol: String,
    login: Option<String>,
    code: Option<String>,
    rules: Vec<String>,
    shape: Shape,
}

struct Counted {
    count: u64,
    sessions: u64,
    values: u64,
    first: u64,
    last: u64,
    /// The last session that was counted; a session's decisions come together.
    session: String,
    example: Example,
    named: Named,
    sample: Option<(Arc<Subject>, Asked)>,
    /// Why there is no sample.
    lost: Option<Lost>,
}

struct Gathered<'c> {
    decider: &'c Decider,
    shapes: Shapes<'c>,
    rows: HashMap<Key, Counted>,
    totals: Totals,
    unreadable: Vec<ReplayError>,
    examples: usize,
}

/// Errors that are told one by one; there may be a disk full of them.
const TOLD_ERRORS: usize = 100;

impl Listener for Gathered<'_> {
    fn decided(&mut self, session: &Session, decision: Decision<'_>) {
        let kind = match (decision.was, decision.passed) {
            (Verdict::Allow, _) => return,
            (Verdict::Refuse, false) => Kind::Refused,
            (Verdict::Refuse, true) => Kind::WouldRefuse,
            (Verdict::Ask, false) => Kind::Asked,
            (Verdict::Ask, true) => Kind::WouldAsk,
        };
        let refused = matches!(kind, Kind::Refused | Kind::WouldRefuse);
        let lost = match decision.what {
            Again::Asked(asked) => decided::another(self.decider, &decision, asked),
            _ => None,
        };
        let code = decision.code.filter(|_| refused);
        let what = What {
            lost,
            kind,
            code,
            rules: decision.rules,
            exchange: decision.exchange,
            at: decision.at,
            values: 0,
            counts: true,
            again: Some(decision.what),
        };
        self.count(session, what);
    }

    fn masked(&mut self, session: &Session, masked: Masked<'_>) {
        let mut rules = masked.rules.to_vec();
        rules.sort();
        rules.dedup();
        let what = What {
            lost: None,
            kind: match session.header.mode {
                Mode::Observe => Kind::WouldMask,
                _ => Kind::Masked,
            },
            code: None,
            rules,
            exchange: masked.exchange,
            at: masked.at,
            values: masked.values,
            counts: masked.first,
            again: masked.what,
        };
        self.count(session, what);
    }

    fn unreadable(&mut self, error: ReplayError) {
        self.totals.unreadable += 1;
        if self.unreadable.len() < TOLD_ERRORS {
            self.unreadable.push(error);
        }
    }
}

struct What<'r> {
    kind: Kind,
    code: Option<String>,
    rules: Vec<String>,
    exchange: u64,
    at: u64,
    values: u64,
    /// Not one that was counted before.
    counts: bool,
    /// Why what is known of it may be something else.
    lost: Option<Lost>,
    again: Option<&'r Again>,
}

impl Gathered<'_> {
    fn count(&mut self, session: &Session, what: What<'_>) {
        let total = match what.kind {
            Kind::Refused => &mut self.totals.refused,
            Kind::WouldRefuse => &mut self.totals.would_refuse,
            Kind::Asked => &mut self.totals.asked,
            Kind::WouldAsk => &mut self.totals.would_ask,
            Kind::Masked => &mut self.totals.masked,
            Kind::WouldMask => &mut self.totals.would_mask,
        };
        *total += u64::from(what.counts);
        let header = &session.header;
        let lost = Again::Lost(Lost::Cut);
        let again = what.again.unwrap_or(&lost);
        let shape = self
            .shapes
            .of(self.decider, header.resource.as_deref(), again);
        let key = Key {
            kind: what.kind,
            agent: header.agent.clone(),
            resource: header.resource.clone(),
            place: session.place(),
            protocol: header.protocol.clone(),
            login: header.login.clone(),
            code: what.code,
            rules: what.rules,
            shape,
        };
        if !self.rows.contains_key(&key) && self.rows.len() >= MAX_ROWS {
            self.totals.not_told_apart += u64::from(what.counts);
            return;
        }
        let id = header.session.to_string();
        let refused = matches!(key.kind, Kind::Refused | Kind::WouldRefuse);
        let row = self.rows.entry(key).or_insert_with(|| Counted {
            count: 0,
            sessions: 0,
            values: 0,
            first: what.at,
            last: what.at,
            session: String::new(),
            example: Example {
                session: id.clone(),
                exchange: what.exchange,
            },
            named: Named::default(),
            sample: None,
            lost: None,
        });
        row.count += u64::from(what.counts);
        row.values = row.values.saturating_add(what.values);
        row.first = row.first.min(what.at);
        row.last = row.last.max(what.at);
        if row.session != id {
            row.sessions += 1;
            row.session = id;
        }
        if !refused {
            return;
        }
        match (again, &session.subject) {
            _ if what.lost.is_some() => row.lost = what.lost,
            (Again::Asked(asked), Some(subject)) => {
                row.named.add(self.decider, asked);
                let weight = weight(asked) + EXAMPLE;
                if row.sample.is_none() && self.examples + weight <= MAX_EXAMPLES {
                    self.examples += weight;
                    row.sample = Some((subject.clone(), asked.clone()));
                }
            }
            (Again::Asked(_) | Again::Prepared, _) => row.lost = Some(Lost::NoAgent),
            (Again::Lost(why), _) => row.lost = Some(*why),
        }
    }

    fn finish(mut self, config: &Config, policies_known: bool, most: usize) -> Report {
        self.totals.shapes = self.rows.len() as u64;
        let mut all: Vec<(Key, Counted)> = self.rows.drain().collect();
        all.sort_by(|(a, one), (b, other)| other.count.cmp(&one.count).then_with(|| a.cmp(b)));
        all.truncate(most);
        let mut proposed_before = HashSet::new();
        let rows = all.into_iter().map(|(key, counted)| {
            let proposed = match policies_known {
                true => self.permit(config, &key, &counted),
                false => Err("the policies are not known here: give --config".into()),
            };
            let refused = matches!(key.kind, Kind::Refused | Kind::WouldRefuse);
            let (permit, no_permit) = match proposed {
                _ if !refused => (None, None),
                // Two rules of one id are an error.
                Ok(permit) if !proposed_before.insert(permit.clone()) => (
                    None,
                    Some("what is proposed for a row above covers it".into()),
                ),
                Ok(permit) => (Some(permit), None),
                Err(why) => (None, Some(why)),
            };
            row(key, counted, permit, no_permit)
        });
        Report {
            rows: rows.collect(),
            totals: self.totals,
            unreadable: self.unreadable,
        }
    }

    fn permit(&mut self, config: &Config, key: &Key, counted: &Counted) -> Result<String, String> {
        let Some((subject, asked)) = &counted.sample else {
            return Err(match counted.lost {
                Some(why) => why.to_string(),
                None => "there were too many to keep an example of each".into(),
            });
        };
        let permit = narrow::permits(config, self.decider, subject, asked, &counted.named)?;
        match self.shapes.hidden(key.resource.as_deref(), &permit) {
            None => Ok(permit),
            Some(_) => Err("it would show what a mask hides: write the rule by hand".into()),
        }
    }
}

fn row(key: Key, counted: Counted, permit: Option<String>, no_permit: Option<String>) -> Row {
    Row {
        kind: key.kind,
        count: counted.count,
        sessions: counted.sessions,
        agent: key.agent,
        resource: key.resource,
        place: key.place,
        protocol: key.protocol,
        login: key.login,
        code: key.code,
        rules: key.rules,
        shape: key.shape.text,
        fingerprint: key.shape.fingerprint,
        values: counted.values,
        first: stamp(counted.first),
        last: stamp(counted.last),
        example: counted.example,
        permit,
        no_permit,
    }
}
