//! What waits for the database to be looked at: requests that are decided by it, approvals that were
//! given meanwhile, replies whose tables are not known, and what the session itself has changed.

use std::sync::Arc;

use super::asking::Approved;
use super::{Ended, LookUp, Session};
use crate::decide::{Action, Facts, Permitted};
use crate::ids::ExchangeId;
use crate::mask::Catalog;
use crate::terminate::{Protocol, Replies, Request};

/// What waits for the catalog.
pub(super) struct Undecided {
    pub(super) what: Waiting,
    pub(super) looked_up: LookUp,
    /// The change by this session that it shows.
    pub(super) settles: Option<ExchangeId>,
    /// It is looked up because of a change by this session.
    pub(super) changed: bool,
}

impl Undecided {
    pub(super) fn is_approved(&self) -> bool {
        matches!(self.what, Waiting::Approved(_))
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "what holds it is boxed, and there is one at most"
)]
pub(super) enum Waiting {
    Request(Request),
    /// A question, and the approval that it has.
    Approved(Approved),
}

/// Replies that wait for the catalog.
pub(super) struct Stalled {
    pub(super) replies: Replies,
    pub(super) catalog: LookUp,
    /// The change by this session that the look-up shows.
    pub(super) settles: Option<ExchangeId>,
}

impl<P: Protocol> Session<P> {
    pub(super) fn wait_for_catalog(&mut self, what: Waiting, looked_up: LookUp) {
        // Only what has been committed is seen by a look-up.
        let settles = match self.grants.is_empty() && self.masker.is_idle() {
            true => self.changing.take(),
            false => None,
        };
        self.undecided = Some(Box::new(Undecided {
            what,
            looked_up,
            settles,
            changed: std::mem::take(&mut self.changed),
        }));
    }

    /// The look-up that something waited for has ended.
    pub(super) fn looked_at(
        &mut self,
        waited: Undecided,
        catalog: &Arc<Catalog>,
    ) -> Result<(), Ended> {
        self.settled(waited.settles, catalog);
        match waited.what {
            Waiting::Request(request) => self.decide(request),
            Waiting::Approved(approved) => self.release_approved(approved),
        }
    }

    /// Decisions go by what is known of the database now.
    pub(super) fn know(&mut self, catalog: &Arc<Catalog>) {
        let derived = self.masker.derived(catalog);
        if !Arc::ptr_eq(&self.subject.derived, derived) {
            self.subject.derived = derived.clone();
        }
        let unseen = self.masker.unseen(catalog);
        if !Arc::ptr_eq(&self.subject.unseen, unseen) {
            self.subject.unseen = unseen.clone();
        }
        self.subject.objects = catalog.objects().clone();
    }

    /// Notes a request after which the database has to be looked at again.
    pub(super) fn watch_for_changes(&mut self, permitted: &Permitted, runs_unseen: bool) {
        // Where values are masked, all that is not seen counts.
        let masks = !self.rules.masks.is_empty();
        let changes = redefines(permitted) || masks && runs_unseen;
        // Of several changes in one transaction none is there for others before it commits.
        if changes && self.changing.is_none() || self.changing.is_some() && ends(permitted) {
            self.catalogs.outdated();
        }
        if changes {
            self.changing = Some(permitted.exchange());
        }
    }

    /// The catalog has been looked up; the masker asks for each unknown table once.
    pub(super) fn resume(&mut self, catalog: &Arc<Catalog>) -> Result<(), Ended> {
        match self.stalled.take() {
            Some(stalled) => {
                self.settled(stalled.settles, catalog);
                self.replies(stalled.replies, catalog)
            }
            None => Ok(()),
        }
    }

    /// A look-up that should show a change by this session has ended.
    pub(super) fn settled(&mut self, change: Option<ExchangeId>, catalog: &Arc<Catalog>) {
        let Some(change) = change else { return };
        if !catalog.objects().is_known() {
            // It failed, and is owed still.
            self.changing = self.changing.or(Some(change));
            self.changed = true;
        } else if self.changing.is_none() {
            // Otherwise something is being changed again that this look-up need not show.
            self.masker.settle(catalog);
        }
    }
}

fn facts(permitted: &Permitted) -> impl Iterator<Item = &Facts> {
    let units = permitted.units().iter();
    units.filter_map(|u| u.statement.as_deref())
}

/// Definitions and rights; blocks and procedures are often scripts of these, and so is what a transaction
/// that was prepared brings.
fn redefines(permitted: &Permitted) -> bool {
    let mut statements = facts(permitted).flat_map(|f| &f.statements);
    statements.any(|s| {
        let mut actions = s.accesses.iter().map(|a| a.action);
        matches!(s.verb.0, "DO" | "CALL")
            || s.commits_unseen()
            || actions.any(|action| matches!(action, Action::Ddl | Action::Admin))
    })
}

/// Whether it may end a transaction by a statement.
fn ends(permitted: &Permitted) -> bool {
    let mut statements = facts(permitted).flat_map(|f| &f.statements);
    statements.any(|s| matches!(s.verb.0, "TRANSACTION" | "PREPARE TRANSACTION"))
}

pub(super) async fn decidable(
    undecided: &mut Option<Box<Undecided>>,
) -> (Box<Undecided>, Arc<Catalog>) {
    let catalog = match undecided {
        Some(waiting) => waiting.looked_up.as_mut().await,
        None => std::future::pending().await,
    };
    match undecided.take() {
        Some(waited) => (waited, catalog),
        None => std::future::pending().await,
    }
}

pub(super) async fn looked_up(stalled: &mut Option<Stalled>) -> Arc<Catalog> {
    match stalled {
        Some(stalled) => stalled.catalog.as_mut().await,
        None => std::future::pending().await,
    }
}
