//! Questions about shell commands on a host.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};

use crate::attribute::Process;
use crate::decide::{Activity, FileAccess, ShellCommand, ShellFacts, ShellFlag};
use crate::identify::Identity;

use super::entities::{self, Unaskable, entity, join, set, text, uid};
use super::evaluate::{activity, or_error, process};
use super::{Answer, Policies};

pub(super) const UNKNOWN: &str = "ssh:unknown";
const EXEC: &str = "ssh:exec";

/// Who asks, of which host, for what.
#[derive(Clone, Copy)]
pub(in crate::decide) struct ExecQuery<'a> {
    pub identity: &'a Identity,
    pub process: &'a Process,
    pub resource: &'a str,
    /// As the client calls it.
    pub host: &'a str,
    pub login: &'a str,
    /// `None` where no policy speaks of it.
    pub activity: Option<&'a Activity>,
    pub facts: &'a ShellFacts,
    /// As it was sent.
    pub line: &'a str,
}

/// What a command acts on.
#[derive(Clone, Copy, Debug)]
pub(in crate::decide) enum ExecObject<'f> {
    /// The program that it is.
    Program(&'f str),
    File(&'f FileAccess),
}

/// A text being put to the policies.
pub(in crate::decide) struct ExecInquiry<'a> {
    policies: &'a Policies,
    query: ExecQuery<'a>,
    principal: EntityUid,
    host: EntityUid,
    entities: Entities,
}

impl Policies {
    pub(in crate::decide) fn exec<'a>(
        &'a self,
        query: ExecQuery<'a>,
    ) -> Result<ExecInquiry<'a>, Unaskable> {
        let (principal, mut all) = entities::agent(query.identity)?;
        let (host, around) = entities::host(query.resource, query.host, query.login)?;
        all.extend(around);
        let entities = self.actions.clone().add_entities(all, None);
        Ok(ExecInquiry {
            policies: self,
            query,
            principal,
            host,
            entities: entities.map_err(|e| Unaskable(e.to_string()))?,
        })
    }
}

impl ExecInquiry<'_> {
    /// Whether this command may do this.
    pub(in crate::decide) fn ask(&self, command: &ShellCommand, object: ExecObject<'_>) -> Answer {
        or_error(self.put(command, object))
    }

    /// Whether what was not understood may run; only a rule that names `ssh:unknown` says so.
    pub(in crate::decide) fn ask_unknown(&self) -> Answer {
        or_error(self.put_unknown())
    }

    fn put(&self, command: &ShellCommand, object: ExecObject<'_>) -> Result<Answer, Unaskable> {
        let query = self.query;
        let mut attributes = HashMap::from([
            text("host", query.host),
            text("resource", query.resource),
            text("login", query.login),
        ]);
        let (id, verb, exact) = match object {
            ExecObject::Program(name) => {
                attributes.extend([text("name", name)]);
                let id = uid("Command", &join(&[query.resource, query.host, name]))?;
                (id, "run", true)
            }
            ExecObject::File(file) => {
                let secret = RestrictedExpression::new_bool(file.secret);
                attributes.extend([text("path", &file.path), ("secret".into(), secret)]);
                let id = uid("File", &join(&[query.resource, query.host, &file.path]))?;
                (id, file.verb.as_str(), file.exact)
            }
        };
        let object = entity(id.clone(), attributes, HashSet::from([self.host.clone()]))?;
        let context = self.context(command, verb, exact)?;
        self.authorize(EXEC, id, context, Some(object))
    }

    fn put_unknown(&self) -> Result<Answer, Unaskable> {
        let query = self.query;
        let pairs = [
            text("verb", "exec"),
            text("command", query.line),
            text("resource", query.resource),
            text("host", query.host),
            text("login", query.login),
            ("process".into(), process(query.process)?),
            ("activity".into(), activity(query.activity, None)?),
        ];
        let context = Context::from_pairs(pairs).map_err(|e| Unaskable(e.to_string()))?;
        self.authorize(UNKNOWN, self.host.clone(), context, None)
    }

    fn authorize(
        &self,
        action: &str,
        resource: EntityUid,
        context: Context,
        object: Option<Entity>,
    ) -> Result<Answer, Unaskable> {
        let broken = |e: &dyn std::fmt::Display| Unaskable(e.to_string());
        let policies = self.policies;
        let unknown = action == UNKNOWN;
        let action = uid("Action", action)?;
        let checked = cfg!(debug_assertions).then_some(&policies.schema);
        let request = Request::new(self.principal.clone(), action, resource, context, checked)
            .map_err(|e| broken(&e))?;
        let entities = self.entities.clone().add_entities(object, None);
        let entities = entities.map_err(|e| broken(&e))?;
        Ok(policies.judge(unknown, &request, &entities))
    }

    fn context(
        &self,
        command: &ShellCommand,
        verb: &str,
        exact: bool,
    ) -> Result<Context, Unaskable> {
        let ExecQuery { facts, .. } = self.query;
        let strings = |list: &[String]| set(list.iter().map(String::as_str));
        let arguments = command.argv.iter().skip(1).flatten().map(String::as_str);
        let flags = |list: &[ShellFlag]| set(list.iter().map(|f| f.as_str()));
        let pairs = [
            text("verb", verb),
            text("command", command.exact_line().unwrap_or_default()),
            ("arguments".into(), set(arguments)),
            ("flags".into(), flags(&command.flags)),
            text("user", command.user.as_deref().unwrap_or(self.query.login)),
            ("through".into(), strings(&command.through)),
            ("exact".into(), RestrictedExpression::new_bool(exact)),
            ("programs".into(), strings(&facts.programs)),
            ("line_flags".into(), flags(&facts.flags)),
            ("reads".into(), strings(&facts.reads)),
            ("writes".into(), strings(&facts.writes)),
            ("deletes".into(), strings(&facts.deletes)),
            ("executes".into(), strings(&facts.executes)),
            text("line", self.query.line),
            text("resource", self.query.resource),
            text("host", self.query.host),
            text("login", self.query.login),
            ("process".into(), process(self.query.process)?),
            ("activity".into(), activity(self.query.activity, None)?),
        ];
        Context::from_pairs(pairs).map_err(|e| Unaskable(e.to_string()))
    }
}
