//! Who asks, on behalf of what, and where.

use std::sync::Arc;

use crate::attribute::Process;
use crate::config::Mode;
use crate::identify::Identity;
use crate::ids::{Epochs, ResourceName, SessionId};

use super::{Activity, Objects, RelationName, Unseen};

/// Everything about a session that decisions depend on, beside the request.
#[derive(Clone, Debug)]
pub struct Subject {
    pub session: SessionId,
    pub identity: Arc<Identity>,
    pub process: Arc<Process>,
    pub resource: ResourceName,
    /// The database that the session is connected to.
    pub database: String,
    /// The role that hoop logged in as.
    pub login: String,
    pub epochs: Epochs,
    pub mode: Mode,
    /// Views and their like whose columns carry masked values, as far as the catalog is known: these
    /// columns are decided about as the masked ones themselves.
    pub derived: Arc<[Derived]>,
    /// What the catalog does not show, where that counts: only masks ask for it.
    pub unseen: Arc<Unseen>,
    /// What the catalog says of the database's objects; nothing where it could not be looked up.
    pub objects: Arc<Objects>,
    /// What the session and its agent have done lately; nothing unless a policy asks.
    pub activity: Activity,
}

/// A relation with columns that no mask names and that carry masked values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Derived {
    /// With its schema.
    pub relation: RelationName,
    pub columns: Vec<Box<str>>,
}
