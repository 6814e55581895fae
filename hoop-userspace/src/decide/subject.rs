//! Who asks, on behalf of what, and where.

use std::sync::Arc;

use crate::attribute::Process;
use crate::config::Mode;
use crate::identify::Identity;
use crate::ids::{Epochs, ResourceName, SessionId};

use super::{Objects, RelationName};

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
    /// Views and their like whose rows come from masked tables, with their schemas, as far as the
    /// catalog is known: what is copied from them is refused as from the tables themselves.
    pub derived: Arc<[RelationName]>,
    /// What the catalog says of the database's objects; nothing where it could not be looked up.
    pub objects: Arc<Objects>,
}
