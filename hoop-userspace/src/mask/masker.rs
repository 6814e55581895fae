//! One session's masks.

use std::sync::Arc;

use crate::decide::Permitted;
use crate::terminate::Replies;

use super::{Catalog, Masked, Rules};

/// Masks one session's replies.
#[derive(Debug)]
pub struct Masker {
    rules: Arc<Rules>,
    observe: bool,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Masking {
    Done(Masked),
    /// A relation is not in the catalog: look again and come back with the same batch. What is
    /// unknown then is masked whole.
    NeedsCatalog(Replies),
}

impl Masker {
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            observe: false,
        }
    }

    /// In observe mode the client sees what the server sent; the recording is masked all the same.
    pub fn observe(&mut self, observe: bool) {
        self.observe = observe;
    }

    /// A reload: from the next batch on these rules count, for exchanges already begun too.
    pub fn set_rules(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
    }

    /// Remembers what a permitted request reads until its exchange is over. To be called before
    /// it is forwarded.
    pub fn begin(&mut self, _permitted: &Permitted) {}

    /// Masks a batch. Batches must come in the order in which the server sent them.
    pub fn mask(&mut self, replies: Replies, _catalog: &Arc<Catalog>) -> Masking {
        Masking::NeedsCatalog(replies)
    }
}
