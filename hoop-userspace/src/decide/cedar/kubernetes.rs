//! Questions about requests to API servers.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entity, EntityUid, Request, RestrictedExpression};

use crate::attribute::Process;
use crate::decide::{Activity, KubernetesAction, KubernetesFacts, ShellFacts};
use crate::identify::Identity;

use super::entities::{self, Unaskable, entity, escape, join, set, text, uid};
use super::evaluate::{activity, process};
use super::{Answer, Policies};

pub(super) const UNKNOWN: &str = "k8s:unknown";

/// What the core group is called in the ids of entities.
const CORE: &str = "core";

/// Who asks, of which cluster, for what.
#[derive(Clone, Copy)]
pub(in crate::decide) struct ApiQuery<'a> {
    pub identity: &'a Identity,
    pub process: &'a Process,
    /// The cluster, as the configuration names it.
    pub resource: &'a str,
    /// As the client calls it.
    pub host: &'a str,
    pub login: &'a str,
    /// `None` where no policy speaks of it.
    pub activity: Option<&'a Activity>,
    pub facts: &'a KubernetesFacts,
    /// Of exec and attach: whether standard input and a terminal are asked for.
    pub streams: (bool, bool),
}

/// What something is done to.
#[derive(Clone, Copy, Debug)]
pub(in crate::decide) enum ApiObject<'f> {
    /// All of a kind, or one that has no name yet.
    Kind(&'f KubernetesFacts),
    Object(&'f KubernetesFacts),
    Path(&'f str),
}

impl<'f> ApiObject<'f> {
    pub(in crate::decide) fn of(facts: &'f KubernetesFacts) -> Self {
        match facts.action {
            KubernetesAction::NonResource => Self::Path(&facts.path),
            _ if facts.kind.is_empty() => Self::Path(&facts.path),
            _ if facts.name.is_empty() => Self::Kind(facts),
            _ => Self::Object(facts),
        }
    }
}

impl Policies {
    pub(in crate::decide) fn ask_api(
        &self,
        query: ApiQuery<'_>,
        action: KubernetesAction,
        object: &ApiObject<'_>,
    ) -> Answer {
        match self.put_api(query, action, object) {
            Ok(answer) => answer,
            Err(error) => Answer::Error(None, error.to_string()),
        }
    }

    fn put_api(
        &self,
        query: ApiQuery<'_>,
        action: KubernetesAction,
        object: &ApiObject<'_>,
    ) -> Result<Answer, Unaskable> {
        let broken = |e: &dyn std::fmt::Display| Unaskable(e.to_string());
        let (principal, mut all) = entities::agent(query.identity)?;
        let cluster = uid("Resource", &escape(query.resource))?;
        let named = HashMap::from([text("name", query.resource)]);
        all.push(entity(cluster.clone(), named, HashSet::new())?);
        let subject = put_object(&mut all, query.resource, cluster, object)?;
        let context = context(query, action)?;
        let unknown = action == KubernetesAction::Unknown;
        let action = uid("Action", action.as_str())?;
        let checked = cfg!(debug_assertions).then_some(&self.schema);
        let request =
            Request::new(principal, action, subject, context, checked).map_err(|e| broken(&e))?;
        let entities = self.actions.clone().add_entities(all, None);
        let entities = entities.map_err(|e| broken(&e))?;
        Ok(self.judge(unknown, &request, &entities))
    }
}

/// Adds the object and what it lies in; returns which it is.
fn put_object(
    all: &mut Vec<Entity>,
    resource: &str,
    cluster: EntityUid,
    object: &ApiObject<'_>,
) -> Result<EntityUid, Unaskable> {
    let (facts, named) = match object {
        ApiObject::Path(path) => {
            let id = uid("ApiPath", &join(&[resource, path]))?;
            let attributes = HashMap::from([text("path", path), text("resource", resource)]);
            all.push(entity(id.clone(), attributes, HashSet::from([cluster]))?);
            return Ok(id);
        }
        ApiObject::Kind(facts) => (facts, false),
        ApiObject::Object(facts) => (facts, true),
    };
    // What belongs to the cluster, and what is asked of all namespaces, lies in the cluster itself.
    let parent = match facts.namespace.as_str() {
        "" => cluster,
        namespace => {
            let id = uid("Namespace", &join(&[resource, namespace]))?;
            let attributes = HashMap::from([text("name", namespace), text("resource", resource)]);
            all.push(entity(id.clone(), attributes, HashSet::from([cluster]))?);
            id
        }
    };
    let group = if facts.group.is_empty() {
        CORE
    } else {
        &facts.group
    };
    let attributes = |name: &str| {
        HashMap::from([
            text("name", name),
            text("kind", &facts.kind),
            text("group", &facts.group),
            text("namespace", &facts.namespace),
            text("resource", resource),
        ])
    };
    let parts = [resource, &facts.namespace, group, &facts.kind];
    let kind = uid("Kind", &join(&parts))?;
    all.push(entity(
        kind.clone(),
        attributes(&facts.kind),
        HashSet::from([parent]),
    )?);
    if !named {
        return Ok(kind);
    }
    let [one, two, three, four] = parts;
    let id = uid(
        "KubernetesObject",
        &join(&[one, two, three, four, &facts.name]),
    )?;
    all.push(entity(
        id.clone(),
        attributes(&facts.name),
        HashSet::from([kind]),
    )?);
    Ok(id)
}

fn context(query: ApiQuery<'_>, action: KubernetesAction) -> Result<Context, Unaskable> {
    let facts = query.facts;
    let strings = |list: &[String]| set(list.iter().map(String::as_str));
    let boolean = RestrictedExpression::new_bool;
    let mut pairs = vec![
        text("verb", &facts.verb),
        text("group", &facts.group),
        text("version", &facts.version),
        text("kind", &facts.kind),
        text("subresource", &facts.subresource),
        text("namespace", &facts.namespace),
        text("name", &facts.name),
        text("path", &facts.path),
        text("label_selector", &facts.label_selector),
        text("field_selector", &facts.field_selector),
        text("field_manager", &facts.field_manager),
        text("patch", &facts.patch),
        text("container", &facts.container),
        text("proxy_path", &facts.proxy_path),
        ("dry_run".into(), boolean(facts.dry_run)),
        ("flags".into(), set(facts.flags.iter().map(|f| f.as_str()))),
        ("images".into(), strings(&facts.images)),
        ("service_accounts".into(), strings(&facts.service_accounts)),
        ("secrets".into(), strings(&facts.secrets)),
        ("config_maps".into(), strings(&facts.config_maps)),
        ("host_paths".into(), strings(&facts.host_paths)),
        ("capabilities".into(), strings(&facts.capabilities)),
        ("roles".into(), strings(&facts.roles)),
        ("subjects".into(), strings(&facts.subjects)),
        text("resource", query.resource),
        text("host", query.host),
        text("login", query.login),
        ("process".into(), process(query.process)?),
        ("activity".into(), activity(query.activity, None)?),
    ];
    let streams = [KubernetesAction::Exec, KubernetesAction::Attach];
    if streams.contains(&action) {
        let (stdin, tty) = query.streams;
        pairs.push(("stdin".into(), boolean(stdin)));
        pairs.push(("tty".into(), boolean(tty)));
    }
    if action == KubernetesAction::Exec {
        let none = ShellFacts::default();
        pairs.extend(command(facts.command.as_ref().unwrap_or(&none)));
    }
    Context::from_pairs(pairs).map_err(|e| Unaskable(e.to_string()))
}

/// What exec runs.
fn command(facts: &ShellFacts) -> Vec<(String, RestrictedExpression)> {
    let strings = |list: &[String]| set(list.iter().map(String::as_str));
    let first = facts.commands.first().filter(|_| facts.commands.len() == 1);
    let line = first.and_then(|command| command.exact_line());
    let arguments = first
        .into_iter()
        .flat_map(|c| c.argv.iter().skip(1).flatten());
    vec![
        text("command", line.unwrap_or_default()),
        ("arguments".into(), set(arguments.map(String::as_str))),
        ("programs".into(), strings(&facts.programs)),
        (
            "command_flags".into(),
            set(facts.flags.iter().map(|f| f.as_str())),
        ),
        ("reads".into(), strings(&facts.reads)),
        ("writes".into(), strings(&facts.writes)),
        ("deletes".into(), strings(&facts.deletes)),
        ("executes".into(), strings(&facts.executes)),
    ]
}
