//! Agents, resources and groups of approvers that policies name and the configuration does not
//! have: nothing that is wrong, since a file may serve many hosts, but most often a slip of the pen.
//!
//! Groups of agents are the issuer's, and tables, hosts and paths the server's: hoop does not know them.

use std::collections::BTreeSet;

use cedar_policy::{EntityUid, Policy};

use crate::config::Config;
use crate::decide::Demand;

use super::entities::escape;

/// Ids of these begin with the resource's name.
const WITHIN_A_RESOURCE: &[&str] = &[
    "Resource",
    "Database",
    "Schema",
    "Table",
    "Function",
    "Setting",
    "Object",
    "Host",
    "File",
    "Command",
    "Namespace",
    "Kind",
    "KubernetesObject",
    "ApiPath",
];

/// What a configuration has that policies can name.
pub(super) struct Known {
    agents: BTreeSet<String>,
    resources: BTreeSet<String>,
    approvers: BTreeSet<String>,
}

/// A name of a policy's that nothing has.
pub(super) struct Unmet {
    /// As the policy writes it.
    pub written: String,
    pub what: String,
}

impl Known {
    pub(super) fn of(config: &Config) -> Self {
        let agents = config.agents.iter();
        let resources = config.resources.iter();
        let mut approvers: BTreeSet<String> = config.approvals.groups.keys().cloned().collect();
        approvers.extend(config.approvers.iter().flat_map(|a| a.groups.clone()));
        let console = config.console.iter();
        approvers.extend(console.flat_map(|console| console.groups.keys().cloned()));
        Self {
            approvers,
            agents: agents.map(|a| a.name.as_str().to_owned()).collect(),
            resources: resources.map(|r| escape(r.name.as_str())).collect(),
        }
    }

    /// Each once.
    pub(super) fn unmet(&self, policy: &Policy, asks: Option<&Demand>) -> Vec<Unmet> {
        let mut found: Vec<Unmet> = Vec::new();
        let groups = asks.iter().flat_map(|demand| {
            let each = demand.groups.iter().flatten();
            each.chain(&demand.break_glass)
        });
        for group in groups.filter(|group| !self.approvers.contains(*group)) {
            let what = format!(
                "nobody can be in the group of approvers {group:?}: no [[approver]] is in it"
            );
            if !found.iter().any(|unmet| unmet.what == what) {
                found.push(Unmet {
                    written: group.clone(),
                    what,
                });
            }
        }
        for uid in policy.entity_literals() {
            if let Some(what) = self.lacks(&uid)
                && !found.iter().any(|unmet| unmet.what == what)
            {
                let written = uid.to_string();
                found.push(Unmet { written, what });
            }
        }
        found
    }

    fn lacks(&self, uid: &EntityUid) -> Option<String> {
        let kind = uid.type_name().to_string();
        let id = uid.id().unescaped();
        if kind == "Agent" {
            let known = self.agents.contains(id);
            return (!known).then(|| format!("no [[agent]] is called {id:?}"));
        }
        if !WITHIN_A_RESOURCE.contains(&kind.as_str()) {
            return None;
        }
        let resource = id.split('/').next().unwrap_or_default();
        let known = self.resources.contains(resource);
        (!known).then(|| format!("no [[resource]] is called {resource:?}"))
    }
}
