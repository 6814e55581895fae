//! Goes through recordings, decision by decision: what was asked for, by whom, and what was said.
//!
//! One file at a time and one frame at a time, so that what it takes does not grow with what was
//! recorded.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::policy::Verdict;
use super::{Unusable, unusable};
use crate::config::{Config, Mode};
use crate::decide::Subject;
use crate::identify::Identity;
use crate::ids::Epochs;
use crate::record::{
    AnsweredNote, Header, MAX_ASKED, PermittedNote, RefusalNote, RepliesNote, Store, UnitNote,
};
use crate::replay::{Reader, ReplayError, SealState, Tampered, Told};
use crate::terminate::Asked;
use crate::terminate::again::{Again, Lost, Recollection};

/// Which of what was recorded counts.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Decisions from then on, in sessions that may have begun before.
    pub since: Option<SystemTime>,
    pub agent: Option<String>,
    pub resource: Option<String>,
}

/// A recorded session, as far as decisions depend on it.
#[derive(Debug)]
pub struct Session {
    pub header: Header,
    /// Whom a decision is for; `None` without an agent or a resource.
    pub subject: Option<Arc<Subject>>,
}

impl Session {
    /// The database; of SSH the host, as the client called it. Where it led to no resource, to where.
    pub fn place(&self) -> Option<String> {
        let header = &self.header;
        let led = || {
            header
                .resource
                .is_none()
                .then(|| header.destination.to_string())
        };
        header.database.clone().or_else(led)
    }
}

/// One decision of a session.
#[derive(Debug)]
pub struct Decision<'r> {
    pub exchange: u64,
    /// Microseconds since the Unix epoch.
    pub at: u64,
    pub was: Verdict,
    /// It passed all the same: the agent was observed.
    pub passed: bool,
    /// Of what was not permitted: the refusal's code.
    pub code: Option<String>,
    /// The rules that permitted, asked or refused.
    pub rules: Vec<String>,
    /// It was permitted under an approval given before: nobody was asked for it, and the rules that
    /// ask are among these.
    pub approved: bool,
    /// Detectors masked something of it before it was recorded.
    pub redacted: bool,
    /// Of a permitted statement: what its fingerprint was when it was decided.
    pub fingerprint: Option<&'r str>,
    pub what: &'r Again,
}

/// Values that masks replaced in what answered one exchange.
#[derive(Debug)]
pub struct Masked<'r> {
    pub exchange: u64,
    /// Microseconds since the Unix epoch.
    pub at: u64,
    pub values: u64,
    /// The first that is told of this exchange.
    pub first: bool,
    /// The rules that permitted what was answered.
    pub rules: &'r [String],
    /// What runs of it; nothing where that is not known any more.
    pub what: Option<&'r Again>,
}

/// Hears what a walk finds.
pub trait Listener {
    fn decided(&mut self, session: &Session, decision: Decision<'_>);
    fn masked(&mut self, _session: &Session, _masked: Masked<'_>) {}
    /// A recording that cannot be read, or not on from some frame.
    fn unreadable(&mut self, error: ReplayError);
}

/// Tells a listener of every decision below a directory, session by session, oldest first. Fails where
/// the filter names whom neither the configuration nor any recording knows: nothing of what is misspelt
/// would be found, which reads as if nothing had happened.
pub fn walk(
    directory: &Path,
    config: &Config,
    filter: &Filter,
    listener: &mut impl Listener,
) -> Result<(), Unusable> {
    let mut met = Met::configured(config, filter);
    let files = Store::files_and(directory, |path, source| {
        let path = path.to_owned();
        listener.unreadable(ReplayError::Io { path, source });
    });
    for path in files {
        // What was written last before then holds nothing that counts.
        let changed = path.metadata().and_then(|facts| facts.modified());
        if let (Some(since), Ok(changed)) = (filter.since, changed)
            && changed < since
        {
            continue;
        }
        if let Err(error) = session(&path, config, filter, &mut met, listener) {
            listener.unreadable(error);
        }
    }
    met.all(filter)
}

/// Which of a filter's names were met.
struct Met {
    agent: bool,
    resource: bool,
}

impl Met {
    fn configured(config: &Config, filter: &Filter) -> Self {
        let agent = |name: &String| config.agents.iter().any(|a| a.name.as_str() == name);
        let resource = |name: &String| config.resources.iter().any(|r| r.name.as_str() == name);
        Self {
            agent: filter.agent.as_ref().is_none_or(agent),
            resource: filter.resource.as_ref().is_none_or(resource),
        }
    }

    fn header(&mut self, header: &Header, filter: &Filter) {
        self.agent |= filter.agent == header.agent;
        self.resource |= filter.resource == header.resource;
    }

    fn all(&self, filter: &Filter) -> Result<(), Unusable> {
        let nobody = |kind: &str, name: &Option<String>| {
            let name = name.as_deref().unwrap_or_default();
            unusable(format!(
                "neither the configuration nor any recording knows the {kind} {name:?}"
            ))
        };
        match (self.agent, self.resource) {
            (false, _) => nobody("agent", &filter.agent),
            (_, false) => nobody("resource", &filter.resource),
            (true, true) => Ok(()),
        }
    }
}

fn session(
    path: &Path,
    config: &Config,
    filter: &Filter,
    met: &mut Met,
    listener: &mut impl Listener,
) -> Result<(), ReplayError> {
    let mut reader = Reader::open(path)?;
    let mut told: Option<Telling> = None;
    while let Some(event) = reader.next_event()? {
        let at = event.times.at;
        match (event.told, &mut told) {
            (Told::Header(header), _) => {
                met.header(&header, filter);
                if !filter.wants(&header) {
                    return Ok(());
                }
                told = Some(Telling::new(*header, config, filter.since));
            }
            (Told::Seal(_, SealState::Bad), _) => {
                return Err(ReplayError::Tampered {
                    path: path.to_owned(),
                    frame: reader.frames(),
                    why: Tampered::Seal,
                });
            }
            (event, Some(telling)) => {
                telling.redacted = reader.is_redacted();
                telling.tell(at, event, listener);
            }
            (_, None) => {}
        }
    }
    Ok(())
}

impl Filter {
    fn wants(&self, header: &Header) -> bool {
        let same = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        same(&self.agent, &header.agent) && same(&self.resource, &header.resource)
    }
}

/// Exchanges whose answers may still come, and what of them is remembered.
const EXCHANGES: usize = 256;
const REMEMBERED: usize = 16 << 20;

/// One session as it is told.
struct Telling {
    session: Session,
    since: u64,
    again: Recollection,
    /// Exchanges that people were asked about, with the rules that asked.
    asked: VecDeque<(u64, Vec<String>)>,
    /// Exchanges that an approval let pass.
    approved: VecDeque<u64>,
    recent: VecDeque<Exchange>,
    remembered: usize,
    /// Something was masked of the event that is told.
    redacted: bool,
}

struct Exchange {
    number: u64,
    rules: Vec<String>,
    what: Option<Again>,
    masked: bool,
    weight: usize,
}

impl Telling {
    fn new(header: Header, config: &Config, since: Option<SystemTime>) -> Self {
        let place = header.database.clone().unwrap_or_default();
        let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        Self {
            again: Recollection::new(&header.protocol, &place),
            session: Session {
                subject: subject(&header, config).map(Arc::new),
                header,
            },
            since: since.map_or(0, |since| {
                u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
            }),
            asked: VecDeque::new(),
            approved: VecDeque::new(),
            recent: VecDeque::new(),
            remembered: 0,
            redacted: false,
        }
    }

    fn tell(&mut self, at: u64, told: Told, listener: &mut impl Listener) {
        match told {
            Told::Permitted(note) => self.permitted(at, note, listener),
            Told::Refused(note) => self.refused(at, note, listener),
            Told::Replies(note) if note.masked > 0 => self.masked(at, &note, listener),
            // Without a question an operator had the session stand still.
            Told::Asked(note) if !note.question.is_empty() => {
                for text in &note.statements {
                    let what = self.again.text(text, &note.message);
                    let decision = Decision {
                        exchange: note.exchange,
                        at,
                        was: Verdict::Ask,
                        passed: false,
                        code: None,
                        rules: note.rules.clone(),
                        approved: false,
                        redacted: self.redacted,
                        fingerprint: None,
                        what: &what,
                    };
                    self.decided(decision, listener);
                }
                self.asked.push_back((note.exchange, note.rules));
                if self.asked.len() > EXCHANGES {
                    self.asked.pop_front();
                }
            }
            Told::Answered(note) if note.outcome == AnsweredNote::APPROVED => {
                self.approved.push_back(note.exchange);
                if self.approved.len() > EXCHANGES {
                    self.approved.pop_front();
                }
            }
            Told::Renewed(note) => {
                if let Some(subject) = &mut self.session.subject {
                    let identity = subject.identity.renewed_as(note.groups, note.scopes);
                    *subject = Arc::new(Subject {
                        identity: Arc::new(identity),
                        ..Subject::clone(subject)
                    });
                }
            }
            _ => {}
        }
    }

    fn decided(&self, decision: Decision<'_>, listener: &mut impl Listener) {
        if decision.at >= self.since {
            listener.decided(&self.session, decision);
        }
    }

    fn permitted(&mut self, at: u64, note: PermittedNote<'_>, listener: &mut impl Listener) {
        let whole = note.wire.digest.is_none();
        let mut units = self.again.request(&note.wire.kept, whole);
        let missing = match (note.is_connection(), whole) {
            (true, _) => Lost::Nothing,
            (false, true) => Lost::Redacted,
            (false, false) => Lost::Cut,
        };
        units.resize(note.units.len(), Again::Lost(missing));
        let asked = self.asked.iter().find(|(asked, _)| *asked == note.exchange);
        // Where people were asked, only what they were asked about needed it.
        let approved = asked.is_none() && self.approved.contains(&note.exchange);
        let asked = asked.map(|(_, rules)| rules.clone()).unwrap_or_default();
        for (what, unit) in units.iter().zip(&note.units) {
            // Told when people were asked.
            let told = unit.rules.iter().any(|rule| asked.contains(rule));
            let nothing = matches!(what, Again::Prepared | Again::Asked(Asked::Control));
            if told || nothing {
                continue;
            }
            let decision = Decision {
                approved,
                redacted: self.redacted,
                ..of_unit(unit, note.exchange, at, what)
            };
            self.decided(decision, listener);
        }
        let runs = |what: &Again| !matches!(what, Again::Prepared | Again::Asked(Asked::Control));
        let rules = note.units.into_iter().flat_map(|unit| unit.rules).collect();
        let what = units.into_iter().find(runs);
        self.remember(note.exchange, rules, what);
    }

    fn refused(&mut self, at: u64, note: RefusalNote, listener: &mut impl Listener) {
        let code = code(&note.line);
        let asked = ASKING.contains(&code.as_str());
        if asked && self.asked.iter().any(|(told, _)| *told == note.exchange) {
            return;
        }
        let what = match &note.asked {
            // Characters are kept whole.
            Some(text) if text.len() + 4 > MAX_ASKED => Again::Lost(Lost::Cut),
            Some(text) => self.again.text(text, &note.message),
            None => Again::Lost(Lost::Nothing),
        };
        let decision = Decision {
            exchange: note.exchange,
            at,
            was: if asked { Verdict::Ask } else { Verdict::Refuse },
            passed: false,
            code: Some(code),
            rules: note.rule.into_iter().collect(),
            approved: false,
            redacted: self.redacted,
            fingerprint: None,
            what: &what,
        };
        self.decided(decision, listener);
    }

    fn remember(&mut self, number: u64, rules: Vec<String>, what: Option<Again>) {
        let weight = match &what {
            Some(Again::Asked(asked)) => weight(asked),
            _ => 0,
        };
        self.remembered += weight;
        self.recent.push_back(Exchange {
            number,
            rules,
            what,
            masked: false,
            weight,
        });
        while self.recent.len() > EXCHANGES || self.remembered > REMEMBERED {
            let Some(oldest) = self.recent.pop_front() else {
                break;
            };
            self.remembered = self.remembered.saturating_sub(oldest.weight);
        }
    }

    /// The recorder counts for a batch of answers; it counts for the first exchange that they answer.
    fn masked(&mut self, at: u64, note: &RepliesNote<'_>, listener: &mut impl Listener) {
        let Some(number) = note.spans.first().map(|span| span.exchange) else {
            return;
        };
        if at < self.since {
            return;
        }
        let found = self.recent.iter_mut().rfind(|e| e.number == number);
        let (first, rules, what) = match found {
            Some(exchange) => (
                !std::mem::replace(&mut exchange.masked, true),
                exchange.rules.as_slice(),
                exchange.what.as_ref(),
            ),
            None => (true, [].as_slice(), None),
        };
        let masked = Masked {
            exchange: number,
            at,
            values: note.masked,
            first,
            rules,
            what,
        };
        listener.masked(&self.session, masked);
    }
}

fn of_unit<'r>(unit: &'r UnitNote, exchange: u64, at: u64, what: &'r Again) -> Decision<'r> {
    let decision = Decision {
        exchange,
        at,
        was: Verdict::Allow,
        passed: true,
        code: None,
        rules: unit.rules.clone(),
        approved: false,
        redacted: false,
        fingerprint: unit.found.as_ref().map(|found| &*found.fingerprint),
        what,
    };
    let Some(refusal) = &unit.would_refuse else {
        return decision;
    };
    let code = code(&refusal.line);
    Decision {
        was: match ASKING.contains(&code.as_str()) {
            true => Verdict::Ask,
            false => Verdict::Refuse,
        },
        code: Some(code),
        rules: refusal.rule.iter().cloned().collect(),
        ..decision
    }
}

/// Codes of refusals that answer a question.
const ASKING: [&str; 4] = [
    "approval_unavailable",
    "approval_refused",
    "approval_expired",
    "cancelled",
];

fn code(line: &str) -> String {
    #[derive(Deserialize)]
    struct Line {
        code: String,
    }
    let line: Option<Line> = serde_json::from_str(line).ok();
    line.map(|line| line.code).unwrap_or_default()
}

/// Bytes of text that are remembered with it.
pub fn weight(asked: &Asked) -> usize {
    match asked {
        Asked::Sql(asked) => asked.candidates.iter().map(|text| text.text.len()).sum(),
        Asked::Ssh(asked) => asked.text().text.len(),
        Asked::Kubernetes(asked) => asked.target.len() + asked.body.len(),
        _ => 0,
    }
}

/// Whom a decision of this session is for, as far as its recording tells; of the catalog and of what
/// was done before it tells nothing.
fn subject(header: &Header, config: &Config) -> Option<Subject> {
    let (agent, resource) = (header.agent.as_deref()?, header.resource.as_deref()?);
    let known = config.agents.iter().find(|a| a.name.as_str() == agent);
    Some(Subject {
        session: header.session,
        identity: Arc::new(Identity::recorded(agent, &header.identity, known)),
        process: Arc::new(header.process.clone()),
        resource: resource.into(),
        database: header.database.clone().unwrap_or_default(),
        login: header.login.clone().unwrap_or_default(),
        epochs: Epochs::default(),
        // What enforce mode says is what is asked.
        mode: Mode::Enforce,
        derived: Arc::default(),
        activity: Default::default(),
        objects: Arc::default(),
        unseen: Arc::default(),
    })
}

/// RFC 3339 of microseconds since the Unix epoch.
pub fn stamp(at: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_micros(at));
    time.map(crate::replay::rfc3339).unwrap_or_default()
}
