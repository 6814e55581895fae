//! What was found out about statements and results, so that it is found out once.

use std::sync::Arc;

use super::Catalog;
use super::attribution::Touch;
use crate::config::How;
use crate::decide::{Facts, Output};
use crate::terminate::Columns;

/// What a part belongs to.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Statement(Arc<Statement>),
    /// Nothing that ran.
    Nothing,
    /// Nobody knows what.
    Unknown,
}

impl Found {
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Statement(one), Self::Statement(two)) => Arc::ptr_eq(one, two),
            (Self::Nothing, Self::Nothing) | (Self::Unknown, Self::Unknown) => true,
            _ => false,
        }
    }
}

impl Statement {
    pub(super) fn is(&self, facts: &Arc<Facts>, catalog: &Arc<Catalog>, unsettled: bool) -> bool {
        Arc::ptr_eq(&self.facts, facts)
            && Arc::ptr_eq(&self.catalog, catalog)
            && self.unsettled == unsettled
    }
}

/// What one statement may show, under one catalog.
#[derive(Debug)]
pub(super) struct Statement {
    pub facts: Arc<Facts>,
    pub catalog: Arc<Catalog>,
    /// Any name may mean something that the catalog does not show.
    pub unsettled: bool,
    pub touch: Touch,
    /// Column by column, where the text tells.
    pub traced: Option<Arc<Output>>,
}

/// How the columns of one result are masked. Holds the columns, so that their address is theirs.
#[derive(Debug)]
pub(super) struct Plan {
    pub columns: Arc<Columns>,
    pub known: Found,
    pub catalog: Arc<Catalog>,
    pub hows: Arc<[Option<How>]>,
}
