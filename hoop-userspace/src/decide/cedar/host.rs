//! Questions about hosts: what SSH asks for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Context, Entities, Request, RestrictedExpression};

use crate::attribute::Process;
use crate::decide::Activity;
use crate::decide::ssh::HostAction;
use crate::identify::Identity;

use super::entities::{self, Unaskable, entity, join, text, uid};
use super::evaluate::{activity, or_error, process};
use super::{Answer, Policies};

/// Who asks, and of which host.
#[derive(Clone, Copy)]
pub(in crate::decide) struct HostQuery<'a> {
    pub identity: &'a Identity,
    pub process: &'a Process,
    pub resource: &'a str,
    /// As the client calls it.
    pub host: &'a str,
    pub login: &'a str,
    /// `None` where no policy speaks of it.
    pub activity: Option<&'a Activity>,
}

/// What something is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::decide) enum HostObject {
    Host,
    Subsystem(Arc<str>),
    File {
        path: Arc<str>,
        /// Reading it may show a secret.
        secret: bool,
    },
    /// Where the host is to connect to.
    Endpoint(Arc<str>, u16),
}

impl Policies {
    pub(in crate::decide) fn ask_host(
        &self,
        query: HostQuery<'_>,
        action: HostAction,
        verb: &str,
        object: &HostObject,
    ) -> Answer {
        or_error(self.put(query, action, verb, object))
    }

    fn put(
        &self,
        query: HostQuery<'_>,
        action: HostAction,
        verb: &str,
        object: &HostObject,
    ) -> Result<Answer, Unaskable> {
        let broken = |e: &dyn std::fmt::Display| Unaskable(e.to_string());
        let (principal, mut all) = entities::agent(query.identity)?;
        let (host, around) = entities::host(query.resource, query.host, query.login)?;
        all.extend(around);
        let subject = match object {
            HostObject::File { path, secret } => {
                let file = uid("File", &join(&[query.resource, query.host, path]))?;
                let attributes = HashMap::from([
                    text("path", path),
                    text("host", query.host),
                    text("resource", query.resource),
                    text("login", query.login),
                    ("secret".into(), RestrictedExpression::new_bool(*secret)),
                ]);
                all.push(entity(file.clone(), attributes, HashSet::from([host]))?);
                file
            }
            _ => host,
        };
        let action = uid("Action", action.as_str())?;
        let context = context(query, verb, object)?;
        let checked = cfg!(debug_assertions).then_some(&self.schema);
        let request =
            Request::new(principal, action, subject, context, checked).map_err(|e| broken(&e))?;
        let entities: Entities = self
            .actions
            .clone()
            .add_entities(all, None)
            .map_err(|e| broken(&e))?;
        Ok(self.judge(false, &request, &entities))
    }
}

fn context(query: HostQuery<'_>, verb: &str, object: &HostObject) -> Result<Context, Unaskable> {
    let mut pairs = vec![
        text("verb", verb),
        text("resource", query.resource),
        text("host", query.host),
        text("login", query.login),
        ("process".into(), process(query.process)?),
        ("activity".into(), activity(query.activity, None)?),
    ];
    match object {
        HostObject::Host | HostObject::File { .. } => {}
        HostObject::Subsystem(name) => pairs.push(text("subsystem", name)),
        HostObject::Endpoint(host, port) => {
            pairs.push(text("to_host", host));
            pairs.push((
                "to_port".into(),
                RestrictedExpression::new_long(i64::from(*port)),
            ));
        }
    }
    Context::from_pairs(pairs).map_err(|e| Unaskable(e.to_string()))
}
