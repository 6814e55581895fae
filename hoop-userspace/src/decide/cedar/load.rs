//! From files to a policy set that is valid: syntax, schema, annotations, names of rules.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Authorizer, Effect, Policy, PolicyId, PolicySet, Schema, ValidationMode,
    Validator,
};
use miette::Diagnostic;

use crate::config::{Config, PolicyFile};
use crate::decide::{Action, Rule};

use super::unmet::{Known, Unmet};
use super::{About, Policies, demanding, places};

/// Ready-made packs: `[policy] use` names them.
pub const PACKS: &[(&str, &str)] = &[
    (
        "read-only",
        include_str!("../../../policies/packs/read-only.cedar"),
    ),
    (
        "no-destroy",
        include_str!("../../../policies/packs/no-destroy.cedar"),
    ),
    (
        "ask-before-write",
        include_str!("../../../policies/packs/ask-before-write.cedar"),
    ),
    (
        "sql-starter",
        include_str!("../../../policies/packs/sql-starter.cedar"),
    ),
];

/// What policies may speak of.
pub const SCHEMA: &str = include_str!("../../../policies/schema.cedarschema");

/// Something that is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    /// A file of the policy directory, or `pack NAME`.
    pub file: String,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    pub column: usize,
    pub what: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.what),
        }
    }
}

pub(super) fn load(config: &Config) -> Result<Policies, Vec<PolicyProblem>> {
    let mut loader = Loader::of(config);
    for name in &config.policy.packs {
        loader.pack(name);
    }
    for file in &config.policy.files {
        loader.file(&file.name, file);
    }
    loader.finish()
}

struct Loader {
    set: PolicySet,
    about: HashMap<PolicyId, About>,
    origins: HashMap<PolicyId, Origin>,
    rules: HashSet<Rule>,
    problems: Vec<PolicyProblem>,
    unmet: Vec<PolicyProblem>,
    known: Known,
}

/// Where a policy came from.
#[derive(Clone)]
struct Origin {
    file: String,
    text: Arc<str>,
    start: usize,
}

impl Origin {
    fn problem(&self, offset: usize, what: String) -> PolicyProblem {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        PolicyProblem {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            what,
        }
    }

    fn line(&self) -> usize {
        self.problem(self.start, String::new()).line
    }
}

impl Loader {
    fn of(config: &Config) -> Self {
        Self {
            set: PolicySet::new(),
            about: HashMap::new(),
            origins: HashMap::new(),
            rules: HashSet::new(),
            problems: Vec::new(),
            unmet: Vec::new(),
            known: Known::of(config),
        }
    }

    fn pack(&mut self, name: &str) {
        match PACKS.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => {
                let file = PolicyFile {
                    name: name.to_owned(),
                    text: (*text).to_owned(),
                };
                self.file(&format!("pack {name}"), &file);
            }
            None => {
                let known: Vec<_> = PACKS.iter().map(|(name, _)| *name).collect();
                self.problems.push(PolicyProblem {
                    file: format!("pack {name}"),
                    line: 0,
                    column: 0,
                    what: format!("there is no such pack; there are {}", known.join(", ")),
                });
            }
        }
    }

    fn file(&mut self, name: &str, file: &PolicyFile) {
        let origin = Origin {
            file: name.to_owned(),
            text: file.text.as_str().into(),
            start: 0,
        };
        let set = match PolicySet::from_str(&file.text) {
            Ok(set) => set,
            Err(errors) => {
                let found = errors
                    .iter()
                    .map(|e| origin.problem(offset(e).unwrap_or(0), say(e)));
                return self.problems.extend(found);
            }
        };
        if set.num_of_templates() > 0 {
            let what = "templates cannot be linked here: write the principal or resource itself";
            self.problems.push(origin.problem(0, what.to_owned()));
        }
        // In the order of the file: ids are `policy0`, `policy1`, …
        let mut policies: BTreeMap<usize, &Policy> = BTreeMap::new();
        for policy in set.policies() {
            let number = policy.id().to_string();
            let number = number
                .trim_start_matches("policy")
                .parse()
                .unwrap_or(usize::MAX);
            policies.insert(number, policy);
        }
        let mut from = 0;
        for policy in policies.into_values() {
            let text = policy.to_string();
            let rest = file.text.get(from..).unwrap_or_default();
            let start = rest.find(&text).map_or(from, |at| from + at);
            from = start + text.len();
            self.policy(
                policy,
                Origin {
                    start,
                    ..origin.clone()
                },
            );
        }
    }

    fn policy(&mut self, policy: &Policy, origin: Origin) {
        let rule = match policy.annotation("id") {
            Some(id) if !id.is_empty() => Rule(id.into()),
            _ => Rule(format!("{}:{}", origin.file, origin.line()).into()),
        };
        let id = PolicyId::new(format!("{}:{}", origin.file, origin.start));
        let mut fail = |what| self.problems.push(origin.problem(origin.start, what));
        if !self.rules.insert(rule.clone()) {
            fail(format!("there is another rule with the id {:?}", rule.0));
        }
        let asks = match demanding::demand(policy, &rule) {
            Ok(asks) => asks.map(Arc::new),
            Err(what) => return fail(what),
        };
        let about = About {
            rule,
            effect: policy.effect(),
            asks,
            names_unknown: names_unknown(&policy.action_constraint()),
        };
        for Unmet { written, what } in self.known.unmet(policy, about.asks.as_deref()) {
            let rest = origin.text.get(origin.start..).unwrap_or_default();
            let at = origin.start + rest.find(&written).unwrap_or(0);
            self.unmet.push(origin.problem(at, what));
        }
        if let Err(error) = self.set.add(policy.new_id(id.clone())) {
            return fail(say(&error));
        }
        self.about.insert(id.clone(), about);
        self.origins.insert(id, origin);
    }

    fn finish(mut self) -> Result<Policies, Vec<PolicyProblem>> {
        let broken = |e: &dyn fmt::Display| {
            vec![PolicyProblem {
                file: "schema.cedarschema".into(),
                line: 0,
                column: 0,
                what: e.to_string(),
            }]
        };
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|e| broken(&e))?;
        let actions = schema.action_entities().map_err(|e| broken(&e))?;
        let validated = Validator::new(schema.clone()).validate(&self.set, ValidationMode::Strict);
        for error in validated.validation_errors() {
            self.found(error.policy_id(), error);
        }
        // A rule that can never apply, or that looks like another than it is, is a mistake too.
        if validated.validation_passed() {
            for warning in validated.validation_warnings() {
                self.found(warning.policy_id(), warning);
            }
        }
        // The same mistake is found once for every action.
        let place = |p: &PolicyProblem| (p.file.clone(), p.line, p.column);
        self.problems
            .sort_by(|a, b| (place(a), &a.what).cmp(&(place(b), &b.what)));
        self.problems.dedup_by(|a, b| place(a) == place(b));
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        self.unmet.sort_by_key(place);
        let lifted = self.lifted();
        Ok(Policies {
            lifted,
            unmet: self.unmet,
            schemas: places::schemas(&self.set),
            watches: places::names(&self.set, "activity"),
            set: self.set,
            about: self.about,
            schema,
            actions,
            authorizer: Authorizer::new(),
        })
    }

    /// The policies without the forbids that people may lift, where there are such.
    fn lifted(&self) -> Option<PolicySet> {
        let mut set = self.set.clone();
        let mut any = false;
        for (id, about) in &self.about {
            if about.effect == Effect::Forbid && about.asks.is_some() {
                any |= set.remove_static(id.clone()).is_ok();
            }
        }
        any.then_some(set)
    }

    fn found(&mut self, policy: &PolicyId, error: &(impl Diagnostic + fmt::Display)) {
        if let Some(origin) = self.origins.get(policy) {
            let offset = offset(error).unwrap_or(origin.start);
            let what = say(error).replace(&format!("for policy `{policy}`, "), "");
            self.problems.push(origin.problem(offset, what));
        }
    }
}

fn offset(error: &impl Diagnostic) -> Option<usize> {
    error.labels()?.next().map(|label| label.offset())
}

fn say(error: &(impl Diagnostic + fmt::Display)) -> String {
    match error.help() {
        Some(help) => format!("{error} ({help})"),
        None => error.to_string(),
    }
}

/// Only a policy whose scope names `sql:unknown`, `ssh:unknown` or `k8s:unknown` may permit it.
fn names_unknown(constraint: &ActionConstraint) -> bool {
    let unknown = |action: &cedar_policy::EntityUid| {
        let names = [
            Action::Unknown.as_str(),
            super::exec::UNKNOWN,
            super::kubernetes::UNKNOWN,
        ];
        names.contains(&action.id().unescaped())
    };
    match constraint {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => unknown(action),
        ActionConstraint::In(actions) => actions.iter().any(unknown),
    }
}
