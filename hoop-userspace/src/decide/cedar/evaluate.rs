//! One question to the policies, and what they say.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Context, Decision, Effect, Entities, EntityUid, PolicySet, Request,
    Response, RestrictedExpression,
};

use crate::attribute::Process;
use crate::decide::objects::{About, Reached};
use crate::decide::{
    Access, Action, Activity, Demand, Facts, Flag, Object, Objects, RelationName, Rule, Statement,
    Tally, Verb,
};
use crate::identify::Identity;

use super::Policies;
use super::entities::{self, Place, Unaskable, set, text};

/// Everything that a decision about one text depends on.
#[derive(Clone, Copy)]
pub(in crate::decide) struct Query<'a> {
    pub identity: &'a Identity,
    pub process: &'a Process,
    pub place: Place<'a>,
    pub login: &'a str,
    pub facts: &'a Facts,
    /// Relations with masked columns that the text may touch.
    pub masked: &'a [String],
    /// `None` where no policy speaks of it.
    pub activity: Option<&'a Activity>,
    /// A masked column has a say in which rows there are, how many, or in which order.
    pub picks: bool,
    /// What the catalog says of objects, and what of this text follows from it.
    pub objects: &'a Objects,
    pub reached: &'a Reached,
}

/// What the policies say of one access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::decide) enum Answer {
    Permit(Vec<Rule>),
    /// Each of these rules must have its approvals.
    Ask(Vec<Rule>, Vec<Arc<Demand>>),
    Forbid(Rule),
    /// No permit. `qualify` if one would cover the object in a schema of its own.
    Silent {
        qualify: bool,
    },
    /// A policy could not be evaluated.
    Error(Option<Rule>, String),
}

/// A text being put to the policies. What many accesses share is made once: a text may hold a
/// thousand accesses, and a context names all that the text touches.
pub(in crate::decide) struct Inquiry<'a> {
    policies: &'a Policies,
    query: Query<'a>,
    principal: EntityUid,
    entities: Entities,
    contexts: HashMap<(Verb, &'a [Flag], Verb, About), Context>,
}

impl Policies {
    pub(in crate::decide) fn inquiry<'a>(
        &'a self,
        query: Query<'a>,
    ) -> Result<Inquiry<'a>, Unaskable> {
        let (principal, agent) = entities::agent(query.identity)?;
        let entities = self.actions.clone().add_entities(agent, None);
        Ok(Inquiry {
            policies: self,
            query,
            principal,
            entities: entities.map_err(|e| Unaskable(e.to_string()))?,
            contexts: HashMap::new(),
        })
    }
}

impl<'a> Inquiry<'a> {
    /// Asks about an access in every place where its object may be: refuse beats ask beats allow.
    pub(in crate::decide) fn ask(&mut self, statement: &'a Statement, access: &Access) -> Answer {
        let context = match self.context(statement, access) {
            Ok(context) => context,
            Err(error) => return Answer::Error(None, error.to_string()),
        };
        let mut worst = None;
        let mut permitted = false;
        for schema in self.policies.places(&access.object) {
            let answer = or_error(self.ask_in(access, context.clone(), schema));
            permitted |= matches!(answer, Answer::Permit(_) | Answer::Ask(..));
            worst = Some(match worst {
                Some(worst) => severer(worst, answer),
                None => answer,
            });
        }
        match worst {
            Some(Answer::Silent { .. }) => Answer::Silent { qualify: permitted },
            Some(answer) => answer,
            None => Answer::Silent { qualify: false },
        }
    }

    fn context(&mut self, statement: &'a Statement, access: &Access) -> Result<Context, Unaskable> {
        let about = self.query.objects.about(&access.object);
        let key = (statement.verb, &*statement.flags, access.verb, about);
        if let Some(context) = self.contexts.get(&key) {
            return Ok(context.clone());
        }
        let context = context(self.query, statement, access, &key.3)?;
        self.contexts.insert(key, context.clone());
        Ok(context)
    }

    fn ask_in(&self, access: &Access, context: Context, schema: &str) -> Result<Answer, Unaskable> {
        let policies = self.policies;
        let (resource, within) = entities::object(self.query.place, &access.object, schema)?;
        let action = entities::uid("Action", access.action.as_str())?;
        // The shape of a question is the same for all, so that tests alone hold it to the schema.
        let checked = cfg!(debug_assertions).then_some(&policies.schema);
        let request = Request::new(self.principal.clone(), action, resource, context, checked)
            .map_err(|e| Unaskable(e.to_string()))?;
        let entities = self.entities.clone().add_entities(within, None);
        let entities = entities.map_err(|e| Unaskable(e.to_string()))?;
        let unknown = access.action == Action::Unknown;
        Ok(policies.judge(unknown, &request, &entities))
    }
}

impl Policies {
    /// What the policies say of a request; of what was not understood only by name. What a forbid
    /// holds back that people may lift needs its permit all the same, and then those people.
    pub(super) fn judge(&self, unknown: bool, request: &Request, entities: &Entities) -> Answer {
        let put = |set: &PolicySet| self.authorizer.is_authorized(request, set, entities);
        let response = put(&self.set);
        let (Some(lifted), Some((by, demands))) = (&self.lifted, self.liftable(&response)) else {
            return self.answer(unknown, &response);
        };
        let (mut rules, mut asks) = match self.answer(unknown, &put(lifted)) {
            Answer::Permit(rules) => (rules, Vec::new()),
            Answer::Ask(rules, asks) => (rules, asks),
            other => return other,
        };
        rules.extend(by);
        rules.sort();
        join(&mut asks, demands);
        Answer::Ask(rules, asks)
    }

    /// The rules that refused and what they demand of people, if each may be lifted by some.
    fn liftable(&self, response: &Response) -> Option<(Vec<Rule>, Vec<Arc<Demand>>)> {
        let failed = response.diagnostics().errors().next().is_some();
        if failed || response.decision() == Decision::Allow {
            return None;
        }
        let (mut rules, mut demands) = (Vec::new(), Vec::new());
        for id in response.diagnostics().reason() {
            let about = self.about.get(id)?;
            demands.push(about.asks.clone()?);
            rules.push(about.rule.clone());
        }
        (!rules.is_empty()).then_some((rules, demands))
    }

    fn places<'a>(&'a self, object: &'a Object) -> Vec<&'a str> {
        let schema = match object {
            Object::Table(RelationName { schema, name })
            | Object::Function(RelationName { schema, name }) => (schema, Some(name)),
            Object::Other { schema, class, .. } if in_schema(class) => (schema, None),
            _ => return vec!["?"],
        };
        match schema {
            (Some(schema), _) => vec![schema],
            (None, name) => {
                let own = name
                    .is_some_and(|name| name.starts_with("pg_"))
                    .then_some("pg_catalog");
                self.schemas.iter().map(|s| &**s).chain(own).collect()
            }
        }
    }

    /// What a response means; of what was not understood only by name.
    fn answer(&self, unknown: bool, response: &Response) -> Answer {
        // Cedar passes over a policy that fails, a forbid too; here it refuses.
        if let Some(error) = response.diagnostics().errors().next() {
            let AuthorizationError::PolicyEvaluationError(at) = error;
            let rule = self
                .about
                .get(at.policy_id())
                .map(|about| about.rule.clone());
            return Answer::Error(rule, at.inner().to_string());
        }
        let reasons = || {
            response
                .diagnostics()
                .reason()
                .filter_map(|id| self.about.get(id))
        };
        if response.decision() == Decision::Deny {
            let forbids = reasons().filter(|a| a.effect == Effect::Forbid);
            return match forbids.map(|a| a.rule.clone()).min() {
                Some(rule) => Answer::Forbid(rule),
                None => Answer::Silent { qualify: false },
            };
        }
        let counts = |named: bool| !unknown || named;
        let permits: Vec<_> = reasons().filter(|a| counts(a.names_unknown)).collect();
        let mut rules: Vec<_> = permits.iter().map(|a| a.rule.clone()).collect();
        rules.sort();
        let mut asks: Vec<_> = permits.iter().filter_map(|a| a.asks.clone()).collect();
        asks.sort_by(|a, b| a.rule.cmp(&b.rule));
        match (asks.is_empty(), rules.is_empty()) {
            (_, true) => Answer::Silent { qualify: false },
            (false, _) => Answer::Ask(rules, asks),
            (true, _) => Answer::Permit(rules),
        }
    }
}

/// What cannot be asked is an error, and so refused.
pub(super) fn or_error(answer: Result<Answer, Unaskable>) -> Answer {
    answer.unwrap_or_else(|error| Answer::Error(None, error.to_string()))
}

/// Classes of objects that lie in schemas; others belong to the database or the server.
fn in_schema(class: &str) -> bool {
    matches!(
        class,
        "type" | "domain" | "collation" | "conversion" | "operator" | "statistics" | "text_search"
    )
}

fn severity(answer: &Answer) -> u8 {
    match answer {
        Answer::Permit(_) => 0,
        Answer::Ask(..) => 1,
        Answer::Silent { .. } => 2,
        Answer::Forbid(_) => 3,
        Answer::Error(..) => 4,
    }
}

fn severer(one: Answer, other: Answer) -> Answer {
    match (one, other) {
        (Answer::Permit(mut one), Answer::Permit(other)) => {
            one.extend(other);
            one.sort();
            one.dedup();
            Answer::Permit(one)
        }
        // It may be either object, so the approvals for both are needed.
        (Answer::Ask(mut rules, mut asks), Answer::Ask(more, others)) => {
            rules.extend(more);
            rules.sort();
            rules.dedup();
            join(&mut asks, others);
            Answer::Ask(rules, asks)
        }
        (one, other) if severity(&other) > severity(&one) => other,
        (one, _) => one,
    }
}

/// Adds the demands of other rules.
pub(in crate::decide) fn join(
    demands: &mut Vec<Arc<Demand>>,
    more: impl IntoIterator<Item = Arc<Demand>>,
) {
    demands.extend(more);
    demands.sort_by(|a, b| a.rule.cmp(&b.rule));
    demands.dedup_by(|a, b| a.rule == b.rule);
}

fn context(
    query: Query<'_>,
    statement: &Statement,
    access: &Access,
    about: &About,
) -> Result<Context, Unaskable> {
    let Query {
        facts,
        place,
        reached,
        ..
    } = query;
    let names = |names: &[RelationName]| -> Vec<String> { names.iter().map(plain).collect() };
    let strings = |list: &[String]| set(list.iter().map(String::as_str));
    let base_reads: Vec<_> = reached.base_reads.iter().map(plain).collect();
    let pairs = [
        text("verb", access.verb.0),
        text("statement", statement.verb.0),
        (
            "flags".into(),
            set(statement.flags.iter().map(|f| f.as_str())),
        ),
        ("statements".into(), count(facts.statements.len())),
        ("verbs".into(), set(facts.verbs.iter().map(|v| v.0))),
        ("reads".into(), strings(&names(&facts.reads))),
        ("writes".into(), strings(&names(&facts.writes))),
        ("functions".into(), strings(&names(&facts.functions))),
        (
            "settings".into(),
            set(facts.settings.iter().map(|s| &*s.name)),
        ),
        ("files".into(), strings(&facts.files)),
        ("programs".into(), strings(&facts.programs)),
        ("masked".into(), strings(query.masked)),
        ("reads_masked_in_predicate".into(), boolean(query.picks)),
        ("opaque".into(), boolean(facts.opaque)),
        text("fingerprint", &facts.fingerprint),
        text("resource", place.resource),
        text("database", place.database),
        text("login", query.login),
        ("process".into(), process(query.process)?),
        (
            "activity".into(),
            activity(query.activity, Some(query.facts))?,
        ),
        ("catalog".into(), boolean(reached.known)),
        ("base_reads".into(), strings(&base_reads)),
        ("has_triggers".into(), boolean(reached.has_triggers)),
    ];
    let pairs = pairs.into_iter().chain(known(about)?);
    Context::from_pairs(pairs).map_err(|e| Unaskable(e.to_string()))
}

/// PostgreSQL's own functions and relations go by their bare names.
fn plain(name: &RelationName) -> String {
    match name.schema.as_deref() {
        Some("pg_catalog") => name.name.to_string(),
        _ => name.to_string(),
    }
}

pub(super) fn process(process: &Process) -> Result<RestrictedExpression, Unaskable> {
    let executable = process
        .executable
        .as_ref()
        .map(|path| path.to_string_lossy());
    let optional = [
        ("executable", executable.as_deref()),
        ("unit", process.unit.as_deref()),
        ("container", process.container.as_deref()),
    ];
    let mut fields = vec![
        text("comm", &process.comm),
        text("cgroup", &process.cgroup),
        (
            "uid".into(),
            RestrictedExpression::new_long(process.uid.into()),
        ),
    ];
    fields.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some(text(name, value?))),
    );
    RestrictedExpression::new_record(fields).map_err(|e| Unaskable(e.to_string()))
}

/// `facts` are those of a text of SQL.
pub(super) fn activity(
    activity: Option<&Activity>,
    facts: Option<&Facts>,
) -> Result<RestrictedExpression, Unaskable> {
    let none = Tally::default();
    let tallies = [
        ("session", activity.map(|a| &a.session)),
        ("agent", activity.map(|a| &a.agent)),
    ];
    let mut fields = Vec::new();
    for (name, tally) in tallies {
        let new: Vec<String> = match (tally, facts) {
            (Some(tally), Some(facts)) => tally.new_tables(facts).map(plain).collect(),
            _ => Vec::new(),
        };
        let tally = tally.unwrap_or(&none);
        let counts = [
            ("statements", tally.statements),
            ("rows", tally.rows),
            ("bytes", tally.bytes),
            ("refusals", tally.refusals),
        ];
        let counts = counts.map(|(name, number)| (name.to_owned(), long(number)));
        let new = ("new_tables".into(), set(new.iter().map(String::as_str)));
        let record = RestrictedExpression::new_record(counts.into_iter().chain([new]));
        fields.push((
            name.to_owned(),
            record.map_err(|e| Unaskable(e.to_string()))?,
        ));
    }
    RestrictedExpression::new_record(fields).map_err(|e| Unaskable(e.to_string()))
}

fn long(number: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX))
}

/// What is known of the object, where anything is.
fn known(about: &About) -> Result<Vec<(String, RestrictedExpression)>, Unaskable> {
    let names = |names: &BTreeSet<Box<str>>| set(names.iter().map(|n| &**n));
    let mut pairs = Vec::new();
    if !about.owners.is_empty() {
        pairs.push(("owners".into(), names(&about.owners)));
    }
    if let Some(code) = &about.code {
        let fields = [
            text("volatility", code.volatility.as_str()),
            ("security_definer".into(), boolean(code.security_definer)),
            ("languages".into(), names(&code.languages)),
        ];
        let function = RestrictedExpression::new_record(fields);
        let function = function.map_err(|e| Unaskable(e.to_string()))?;
        pairs.push(("function".into(), function));
    }
    Ok(pairs)
}

fn boolean(value: bool) -> RestrictedExpression {
    RestrictedExpression::new_bool(value)
}

fn count(number: usize) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX))
}
