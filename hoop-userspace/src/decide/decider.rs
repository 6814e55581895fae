//! Decides requests under one configuration's policies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use crate::config::{Config, Mode};
use crate::ids::{ExchangeId, ResourceName};
use crate::terminate::{Asked, Request, SqlAsked, SqlStep, SqlText, Undecidable, Unit};

use super::cache::{Cache, Known};
use super::cedar::{Answer, Place, Policies, PolicyProblem, Query, join};
use super::fastpath;
use super::kubernetes::Kubernetes;
use super::masks::Masks;
use super::objects;
use super::outcome::{Ask, Outcome};
use super::question::{self, Question};
use super::shell::Shell;
use super::sql::{Limits, Parser, shape};
use super::words::{self, Words};
use super::{
    Access, Action, Code, Decided, Demand, Facts, Flag, Object, Permitted, PermittedUnit, Refusal,
    RelationName, Rule, Statement, Subject, Unseen, Verb,
};

/// The policies of one configuration, compiled, with their caches. Shared by all sessions.
#[derive(Debug)]
pub struct Decider {
    policies: Policies,
    /// What refusals call the policies.
    names: String,
    parser: Parser,
    pub(super) shell: Shell,
    pub(super) kubernetes: Kubernetes,
    masks: HashMap<ResourceName, Masks>,
    none: Masks,
    cache: Mutex<Cache>,
    epoch: u64,
}

/// The policies cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.problems))]
pub struct DecideError {
    pub problems: Vec<PolicyProblem>,
}

fn lines(problems: &[PolicyProblem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// What the policies say of one text for one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Permit(Arc<[Rule]>),
    Ask {
        rules: Arc<[Rule]>,
        demands: Arc<[Arc<Demand>]>,
        otherwise: Arc<Words>,
    },
    Refuse(Arc<Words>),
}

impl Verdict {
    /// The rules that permit or ask, or the one that forbids; what a refusal says or would say; and
    /// whether people are asked. Of no exchange: somebody only supposes.
    pub(super) fn explained(&self) -> (Vec<Rule>, Option<Refusal>, bool) {
        let refusal = |words: &Words| Some(words.refusal(ExchangeId(0), 0, None));
        match self {
            Self::Permit(rules) => (rules.to_vec(), None, false),
            Self::Ask {
                rules, otherwise, ..
            } => (rules.to_vec(), refusal(otherwise), true),
            Self::Refuse(words) => (words.rule.iter().cloned().collect(), refusal(words), false),
        }
    }
}

/// A decision with its reasons, for `hoop policy test`.
#[derive(Debug)]
pub struct Explained {
    pub facts: Arc<Facts>,
    /// A masked column has a say in which rows there are.
    pub picks: bool,
    /// The rules that permit or ask, or the one that forbids.
    pub rules: Vec<Rule>,
    pub refusal: Option<Refusal>,
    /// A human could permit it.
    pub asks: bool,
}

impl Decider {
    pub fn new(config: &Config) -> Result<Self, DecideError> {
        let policies = Policies::new(config).map_err(|problems| DecideError { problems })?;
        let mut masks: HashMap<_, Masks> = HashMap::new();
        for mask in &config.masks {
            let columns = masks.entry(mask.resource.clone()).or_default();
            columns.0.extend(mask.columns.iter().cloned());
        }
        let files = config.policy.files.iter().map(|file| &*file.name);
        let names: Vec<_> = config
            .policy
            .packs
            .iter()
            .map(|p| &**p)
            .chain(files)
            .collect();
        Ok(Self {
            policies,
            names: names.join(", "),
            parser: Parser::new(Limits::default()),
            shell: Shell::new(),
            kubernetes: Kubernetes::default(),
            masks,
            none: Masks::default(),
            cache: Mutex::default(),
            epoch: 0,
        })
    }

    /// The same under a number of the caller's: reloads count up.
    #[must_use]
    pub fn at_epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where policies name agents, resources or groups of approvers that the configuration does
    /// not have. Such a rule is valid and never applies.
    pub fn unmet(&self) -> &[PolicyProblem] {
        self.policies.unmet()
    }

    /// Whether any policy speaks of activity, which is counted only then.
    pub fn watches(&self) -> bool {
        self.policies.watches()
    }

    /// Decides every unit of a request, in order, until one is not permitted.
    pub fn decide(&self, subject: &Subject, request: Request) -> Decided {
        self.decide_from(subject, request, 0)
    }

    /// Decides what a question holds back once more, under what holds now.
    pub fn decide_again(&self, subject: &Subject, question: Question) -> Decided {
        let first = usize::from(question.held.first);
        self.decide_from(subject, question.request, first)
    }

    /// Units before `first` have been forwarded.
    fn decide_from(&self, subject: &Subject, request: Request, first: usize) -> Decided {
        let foreseen = self.foreseen(subject, &request);
        let subject = foreseen.as_ref().unwrap_or(subject);
        let mut units = SmallVec::with_capacity(request.units.len());
        for (at, unit) in request.units.iter().enumerate().skip(first) {
            match self.unit(subject, request.exchange, at, unit) {
                Outcome::Permit(permitted) => units.push(permitted),
                Outcome::Refuse { words, asked, .. } => {
                    let refusal = words.refusal(request.exchange, index(at), asked);
                    return Decided::Refused {
                        before: some(permitted(subject, &request, first, units)),
                        refusal,
                    };
                }
                Outcome::Ask(ask) => return self.asks(subject, request, first, units, ask),
            }
        }
        Decided::Permitted(permitted(subject, &request, first, units))
    }

    /// Whether what the catalog says can count for a request: it reads or writes a table that is not
    /// the system's own, or calls code of somebody's own.
    pub fn depends_on_objects(&self, request: &Request) -> bool {
        let asked = request.units.iter().filter_map(|unit| match &unit.asked {
            Asked::Sql(asked) => Some(&asked.candidates),
            _ => None,
        });
        asked
            .flatten()
            .any(|text| objects::depends(&self.facts(text).facts))
    }

    /// The same of a request that people are asked about.
    pub fn question_depends_on_objects(&self, question: &Question) -> bool {
        self.depends_on_objects(&question.request)
    }

    /// The subject as it is for masks once some units of a request have run: what one defines, the
    /// next may copy. `None` if that changes nothing.
    fn foreseen(&self, subject: &Subject, request: &Request) -> Option<Subject> {
        let texts = || {
            let units = request.units.iter().filter_map(|unit| match &unit.asked {
                Asked::Sql(asked) => Some(&asked.candidates),
                _ => None,
            });
            units.flatten()
        };
        // Of one text alone, its own statements are looked at with it.
        let first = texts().next()?;
        if texts().all(|text| Arc::ptr_eq(text, first)) || self.masks(subject).0.is_empty() {
            return None;
        }
        let mut unseen = Unseen::clone(&subject.unseen);
        let mut changed = false;
        for text in texts() {
            changed |= unseen.add(&self.facts(text).facts);
        }
        changed.then(|| Subject {
            unseen: Arc::new(unseen),
            ..subject.clone()
        })
    }

    /// What is found in a text, whoever sends it.
    pub fn facts_of(&self, text: &Arc<SqlText>) -> Arc<Facts> {
        self.facts(text).facts
    }

    /// Decides one text as if it were sent now, and says why.
    pub fn explain(&self, subject: &Subject, text: Arc<SqlText>) -> Explained {
        let known = self.facts(&text);
        let (rules, refusal, asks) = self.verdict(subject, &known).explained();
        Explained {
            picks: self.masks(subject).picks(&known.facts, &subject.derived),
            facts: known.facts,
            rules,
            refusal,
            asks,
        }
    }

    /// The unit behind `units` must be asked about. It is held with the units behind it, unless one
    /// of those is refused: nobody is asked about what cannot run anyway. What only prepares it is
    /// held as well: the server would lock tables for it.
    fn asks(
        &self,
        subject: &Subject,
        request: Request,
        first: usize,
        mut units: Units,
        ask: Ask,
    ) -> Decided {
        let at = first + units.len();
        let earlier = request.units.get(first..at).unwrap_or_default();
        let ran = earlier
            .iter()
            .rposition(question::runs)
            .map_or(0, |i| i + 1);
        let mut held: Units = units.drain(ran..).collect();
        let mut demands = ask.demands.to_vec();
        held.push(ask.permitted);
        for (later, unit) in request.units.iter().enumerate().skip(at + 1) {
            match self.unit(subject, request.exchange, later, unit) {
                Outcome::Permit(permitted) => held.push(permitted),
                Outcome::Ask(more) => {
                    join(&mut demands, more.demands.iter().cloned());
                    held.push(more.permitted);
                }
                Outcome::Refuse { words, asked, .. } => {
                    units.extend(held.into_iter().take(at - first - ran));
                    let refusal = words.refusal(request.exchange, index(at), asked);
                    return Decided::Refused {
                        before: some(permitted(subject, &request, first, units)),
                        refusal,
                    };
                }
            }
        }
        let start = first + ran;
        let waiting = || question::waiting(request.units.get(start..).unwrap_or_default());
        let fingerprints: Vec<_> = waiting()
            .map(|waiting| match waiting.sql {
                true => likeness(&self.facts(&waiting.text).facts, &waiting.text),
                false if waiting.terminal => format!("=terminal={}", digest_of(&waiting.text)),
                false => format!("={}", digest_of(&waiting.text)),
            })
            .collect();
        let otherwise = ask
            .otherwise
            .refusal(request.exchange, index(start), ask.asked);
        Decided::Ask {
            before: some(permitted(subject, &request, first, units)),
            question: Box::new(Question {
                otherwise,
                demands: demands.into(),
                held: permitted(subject, &request, start, held),
                fingerprint: fingerprints.join("+"),
                digest: question::digest(waiting()),
                request,
            }),
        }
    }

    fn unit(&self, subject: &Subject, exchange: ExchangeId, at: usize, unit: &Unit) -> Outcome {
        let outcome = match &unit.asked {
            Asked::Control => Outcome::Permit(PermittedUnit {
                statement: None,
                rules: Arc::default(),
                runs: false,
                would_refuse: None,
            }),
            Asked::Sql(asked) => self.sql(subject, asked),
            Asked::Ssh(asked) => self.ssh(subject, asked),
            Asked::Kubernetes(asked) => self.kubernetes(subject, asked),
            Asked::FunctionCall { oid } => self.function_call(subject, *oid),
            Asked::Undecidable(why) => {
                let words = words::undecidable(subject.identity.agent(), why);
                // What was not kept cannot be forwarded, in any mode.
                let kept =
                    words.code != Code::TooLarge && !matches!(why, Undecidable::NotServed(_));
                Outcome::refuse(Arc::new(words), None, None).final_unless(kept)
            }
        };
        match subject.mode {
            Mode::Observe => outcome.observed(exchange, index(at)),
            Mode::Enforce | Mode::Discover => outcome,
        }
    }

    /// Every text that a name may stand for must be permitted.
    fn sql(&self, subject: &Subject, asked: &SqlAsked) -> Outcome {
        let mut all: Option<Outcome> = None;
        for text in &asked.candidates {
            let known = self.facts(text);
            let verdict = self.verdict(subject, &known);
            let outcome = Outcome::of(&verdict, known.facts, text, asked.step);
            all = Some(match all {
                None => outcome,
                Some(before) => before.and(outcome),
            });
        }
        all.unwrap_or_else(|| {
            let nothing = Undecidable::UnknownName(String::new());
            let words = words::undecidable(subject.identity.agent(), &nothing);
            Outcome::refuse(Arc::new(words), None, None)
        })
    }

    fn facts(&self, text: &Arc<SqlText>) -> Known {
        if let Some(known) = self.lock().facts(text) {
            return known;
        }
        let shape = shape(&text.text);
        if let Some(shape) = &shape
            && let Some(known) = self.lock().shaped(shape)
        {
            return known;
        }
        let facts = self.parser.facts(&text.text);
        self.lock().keep_facts(text, shape, facts)
    }

    fn verdict(&self, subject: &Subject, known: &Known) -> Arc<Verdict> {
        if self.watches() {
            // What was said a moment ago holds no more: something has happened since.
            return Arc::new(self.judge(subject, &known.facts));
        }
        let who = {
            let mut cache = self.lock();
            let who = cache.who(subject);
            if let Some(verdict) = cache.verdict(known, who) {
                return verdict;
            }
            who
        };
        let verdict = Arc::new(self.judge(subject, &known.facts));
        self.lock().keep_verdict(known, who, &verdict);
        verdict
    }

    pub(super) fn policies(&self) -> &Policies {
        &self.policies
    }

    /// What a refusal says to do where no rule permits.
    pub(super) fn keep_to(&self) -> String {
        words::keep_to(&self.names)
    }

    /// A panic elsewhere leaves the caches valid: each change to them is one call.
    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// PostgreSQL's own functions for large objects are decided as calls by SQL. Any other function
    /// is known by its number alone, so nothing is known of it.
    fn function_call(&self, subject: &Subject, oid: u32) -> Outcome {
        if let Some(text) = fastpath::call(oid) {
            let candidates = [text].into_iter().collect();
            let asked = SqlAsked {
                step: SqlStep::Run,
                candidates,
                parameters: Arc::default(),
            };
            return match self.sql(subject, &asked) {
                // Nobody could be shown what it is called with.
                Outcome::Ask(ask) => {
                    Outcome::refuse(ask.otherwise, ask.asked, ask.permitted.statement)
                }
                other => other,
            };
        }
        let verb = Verb("FUNCTION CALL");
        let function = RelationName::new(None, &format!("oid:{oid}"));
        let mut facts = Facts {
            verbs: vec![verb],
            flags: vec![Flag::Opaque],
            functions: vec![function.clone()],
            opaque: true,
            statements: vec![Statement {
                verb,
                flags: vec![Flag::Opaque],
                accesses: vec![Access {
                    action: Action::Unknown,
                    verb,
                    object: Object::Function(function),
                }],
            }],
            ..Facts::default()
        };
        facts.copied.opaque = true;
        let verdict = self.judge(subject, &facts);
        let (rules, refused) = match verdict {
            Verdict::Permit(rules) => (rules, None),
            Verdict::Ask { otherwise, .. } => (Arc::default(), Some(otherwise)),
            Verdict::Refuse(words) => (Arc::default(), Some(words)),
        };
        let permitted = PermittedUnit {
            statement: Some(Arc::new(facts)),
            rules,
            runs: true,
            would_refuse: None,
        };
        match refused {
            None => Outcome::Permit(permitted),
            Some(words) => Outcome::refuse(words, None, permitted.statement),
        }
    }

    /// What the policies and the masks say. Refuse beats ask beats allow.
    fn judge(&self, subject: &Subject, facts: &Facts) -> Verdict {
        let agent = subject.identity.agent();
        let refuse = |words| Verdict::Refuse(Arc::new(words));
        if facts.has(Flag::GrammarState) {
            return refuse(words::grammar(agent));
        }
        let masks = self.masks(subject);
        let masked = masks.touched(facts);
        let reached = match subject.objects.reach(facts) {
            Ok(reached) => reached,
            Err(error) => return refuse(words::unfollowed(agent, &error)),
        };
        let mut rules = Vec::new();
        let mut ask: Option<(Vec<Arc<Demand>>, &Access)> = None;
        let query = Query {
            identity: &subject.identity,
            process: &subject.process,
            place: Place {
                resource: subject.resource.as_str(),
                database: &subject.database,
            },
            login: &subject.login,
            facts,
            masked: &masked,
            activity: self.watches().then_some(&subject.activity),
            picks: masks.picks(facts, &subject.derived),
            objects: &subject.objects,
            reached: &reached,
        };
        let mut inquiry = match self.policies.inquiry(query) {
            Ok(inquiry) => inquiry,
            Err(error) => return refuse(words::unaskable(agent, &error)),
        };
        for (at, statement) in facts.statements.iter().enumerate() {
            for access in statement.accesses.iter().chain(reached.through(at)) {
                match inquiry.ask(statement, access) {
                    Answer::Permit(more) => rules.extend(more),
                    Answer::Ask(more, asks) => {
                        rules.extend(more);
                        let (demands, _) = ask.get_or_insert((Vec::new(), access));
                        join(demands, asks);
                    }
                    answer => {
                        return refuse(self.refused(subject, facts, statement, access, answer));
                    }
                }
            }
            for access in reached.wholes(at) {
                let answer = inquiry.ask(statement, access);
                if matches!(answer, Answer::Forbid(_) | Answer::Error(..)) {
                    return refuse(self.refused(subject, facts, statement, access, answer));
                }
            }
        }
        if let Some(escape) = masks.escape(facts, subject) {
            let verb = facts.statements.first().map(|s| s.verb).unwrap_or_default();
            return refuse(words::masked(agent, verb, &escape));
        }
        rules.sort();
        rules.dedup();
        match ask {
            None => Verdict::Permit(rules.into()),
            Some((demands, access)) => Verdict::Ask {
                rules: rules.into(),
                otherwise: Arc::new(words::approval(agent, access, &demands)),
                demands: demands.into(),
            },
        }
    }

    pub(super) fn masks(&self, subject: &Subject) -> &Masks {
        self.masks.get(&subject.resource).unwrap_or(&self.none)
    }

    fn refused(
        &self,
        subject: &Subject,
        facts: &Facts,
        statement: &Statement,
        access: &Access,
        answer: Answer,
    ) -> Words {
        let agent = subject.identity.agent();
        let unbounded = statement.flags.contains(&Flag::Unbounded) && access.verb.0 != "TRUNCATE";
        match answer {
            Answer::Forbid(rule) => words::forbidden(agent, access, rule, unbounded),
            Answer::Error(rule, why) => words::failed(agent, access, rule, &why),
            Answer::Silent { qualify } => match &facts.unparsable {
                Some(why) => words::unparsable(agent, why),
                None => words::not_permitted(agent, access, qualify, &self.names),
            },
            Answer::Permit(_) | Answer::Ask(..) => {
                words::not_permitted(agent, access, false, &self.names)
            }
        }
    }
}

type Units = SmallVec<[PermittedUnit; 6]>;

fn index(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// Where unit `at` begins.
fn end_of(request: &Request, at: usize) -> usize {
    let before = at
        .checked_sub(1)
        .and_then(|before| request.units.get(before));
    before.map_or(0, |unit| unit.end.min(request.wire.len()))
}

/// Leave for these units, the first of which is unit `first` of the request.
fn permitted(subject: &Subject, request: &Request, first: usize, units: Units) -> Permitted {
    let bytes = end_of(request, first)..end_of(request, first + units.len());
    Permitted {
        session: subject.session,
        exchange: request.exchange,
        epochs: subject.epochs,
        wire: request.wire.slice(bytes),
        first: index(first),
        units,
    }
}

fn some(permitted: Permitted) -> Option<Permitted> {
    (!permitted.units.is_empty()).then_some(permitted)
}

/// What an approval of this statement covers besides itself: statements that differ in constants.
/// Where a constant may be code, or names a file, an account or a place, it covers the very text.
fn likeness(facts: &Facts, text: &SqlText) -> String {
    let mut accesses = facts.statements.iter().flat_map(|s| &s.accesses);
    let plain = accesses.all(|a| matches!(a.action, Action::Read | Action::Write));
    if plain && !facts.opaque && facts.files.is_empty() && facts.programs.is_empty() {
        return facts.fingerprint.clone();
    }
    format!("{}={}", facts.fingerprint, digest_of(text))
}

fn digest_of(text: &SqlText) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.text.as_bytes());
    crate::hex::encode(digest)
}
