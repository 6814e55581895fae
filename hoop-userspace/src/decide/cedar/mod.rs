//! Policies in Cedar: loaded and validated once, then asked about one access at a time.

mod demanding;
mod entities;
mod evaluate;
mod exec;
mod host;
mod kubernetes;
mod load;
mod places;
mod unmet;

pub(super) use entities::Place;
pub(super) use evaluate::{Answer, Query, join};
pub(super) use exec::{ExecObject, ExecQuery};
pub(super) use host::{HostObject, HostQuery};
pub(super) use kubernetes::{ApiObject, ApiQuery};
pub use load::{PACKS, PolicyProblem, SCHEMA};

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{Authorizer, Effect, Entities, PolicyId, PolicySet, Schema};

use crate::config::Config;
use crate::decide::{Demand, Rule};

/// The policies of one configuration, compiled.
pub(super) struct Policies {
    set: PolicySet,
    /// The same without the forbids that ask; `None` where there are none.
    lifted: Option<PolicySet>,
    about: HashMap<PolicyId, About>,
    schema: Schema,
    actions: Entities,
    authorizer: Authorizer,
    /// Schemas that the policies speak of, in which an unqualified name may be.
    schemas: Vec<Box<str>>,
    /// Some policy speaks of activity.
    watches: bool,
    /// Names of agents and resources that the configuration does not have.
    unmet: Vec<PolicyProblem>,
}

/// What is known of a policy beside its text.
struct About {
    rule: Rule,
    effect: Effect,
    /// Set on a permit that asks, and on a forbid that people may lift.
    asks: Option<Arc<Demand>>,
    names_unknown: bool,
}

impl Policies {
    pub(super) fn new(config: &Config) -> Result<Self, Vec<PolicyProblem>> {
        load::load(config)
    }

    pub(super) fn unmet(&self) -> &[PolicyProblem] {
        &self.unmet
    }

    pub(super) fn watches(&self) -> bool {
        self.watches
    }
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies")
            .field("count", &self.about.len())
            .finish_non_exhaustive()
    }
}
