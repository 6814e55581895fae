//! Cursors and prepared statements: FETCH and EXECUTE show what a statement before them defined.
//!
//! Whether a definition succeeded is not known here, nor whether a name was freed. So a name stands
//! for its query only while nothing else can have had it: every definition of it agrees, the protocol
//! gave it to nothing, and no code ran that is not seen.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::attribution::Attribution;
use crate::decide::{Access, Action, Facts, Named, Object, Output};
use crate::wire::postgres::frame::{HEADER, Header};

/// Names that are remembered; beyond that no name stands for anything.
const MAX_NAMES: usize = 256;

/// A longer name is cut by the server (PostgreSQL manual, "Identifiers and Key Words").
const MAX_NAME: usize = 62;

const PARSE: u8 = b'P';
const BIND: u8 = b'B';

#[derive(Debug, Default)]
pub(super) struct Names {
    /// What each cursor shows, found out when it was declared: its query goes on to mean what it
    /// meant then. `None` where that is not to be told.
    cursors: HashMap<Box<str>, Option<Output>>,
    /// Texts that prepare a statement; their names are found again at each use. `None` where
    /// there were several.
    prepared: HashMap<Box<str>, Option<Prepared>>,
    /// Names that Parse gave to statements.
    parsed: HashSet<Box<str>>,
    /// Any cursor, or any prepared statement, may be another by now.
    lost: Lost,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    cursors: bool,
    prepared: bool,
}

/// A statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Prepared {
    facts: std::sync::Arc<Facts>,
    at: usize,
}

impl Names {
    /// Takes note of the names that messages of the protocol give. Returns whether that changes what
    /// any name stands for.
    pub(super) fn sent(&mut self, wire: &Bytes) -> bool {
        let mut rest = &wire[..];
        let mut changed = false;
        while let Ok(Some(header)) = Header::peek(rest) {
            let body = rest.get(HEADER..header.wire_len()).unwrap_or_default();
            let end = memchr::memchr(0, body).unwrap_or(body.len());
            let name = body.get(..end).unwrap_or_default();
            match header.tag {
                BIND if !name.is_empty() => {
                    changed |= !std::mem::replace(&mut self.lost.cursors, true);
                }
                PARSE if !name.is_empty() => changed |= self.parse(name),
                _ => {}
            }
            rest = rest.get(header.wire_len()..).unwrap_or_default();
        }
        changed
    }

    fn parse(&mut self, name: &[u8]) -> bool {
        let Some(name) = std::str::from_utf8(name)
            .ok()
            .filter(|n| n.len() <= MAX_NAME)
        else {
            return !std::mem::replace(&mut self.lost.prepared, true);
        };
        if self.parsed.len() >= MAX_NAMES {
            self.parsed.clear();
            return !std::mem::replace(&mut self.lost.prepared, true);
        }
        self.parsed.insert(name.into()) && self.prepared.contains_key(name)
    }

    /// Takes note of what a text defines. Returns whether that changes what any name stands for.
    pub(super) fn add(
        &mut self,
        facts: &std::sync::Arc<Facts>,
        attribution: &Attribution<'_>,
    ) -> bool {
        let mut changed = false;
        if self.runs_unseen(facts) && !(self.lost.cursors && self.lost.prepared) {
            self.lost = Lost {
                cursors: true,
                prepared: true,
            };
            changed = true;
        }
        for (at, statement) in facts.lineage.statements.iter().enumerate() {
            match &statement.named {
                Some(Named::Declares(name)) => {
                    let query = statement.query.as_ref();
                    let output = query.and_then(|query| attribution.resolve(query));
                    changed |= define(&mut self.cursors, name, output, &mut self.lost.cursors);
                }
                Some(Named::Prepares(name)) => {
                    let prepared = Prepared {
                        facts: facts.clone(),
                        at,
                    };
                    let lost = &mut self.lost.prepared;
                    changed |= define(&mut self.prepared, name, Some(prepared), lost);
                }
                _ => {}
            }
        }
        changed
    }

    /// What the result of a FETCH or EXECUTE shows.
    pub(super) fn trace(&self, facts: &Facts, attribution: &Attribution<'_>) -> Option<Output> {
        match facts.lineage.shown_by_name()? {
            Named::Fetches(name) if !self.lost.cursors => self.cursors.get(name)?.clone(),
            Named::Executes(name) => {
                let prepared = self.prepared(name)?;
                let statement = prepared.facts.lineage.statements.get(prepared.at)?;
                attribution.resolve(statement.query.as_ref()?)
            }
            _ => None,
        }
    }

    fn prepared(&self, name: &str) -> Option<&Prepared> {
        let known = !self.lost.prepared && !self.parsed.contains(name);
        self.prepared.get(name).filter(|_| known)?.as_ref()
    }

    /// Whether a text may run code that nobody has seen: its own, or a prepared statement's.
    pub(super) fn runs_unseen(&self, facts: &Facts) -> bool {
        let mut accesses = facts.statements.iter().flat_map(|s| &s.accesses);
        accesses.any(|access| match &access.object {
            Object::Other { class, name, .. } if *class == "prepared_statement" => {
                let prepared = self.prepared(name);
                let texts = prepared.map(|prepared| &prepared.facts.statements);
                texts.is_none_or(|all| all.iter().flat_map(|s| &s.accesses).any(is_unseen))
            }
            _ => is_unseen(access),
        })
    }

    /// Other rules hold: what was found out under the old ones counts no more.
    pub(super) fn forget(&mut self) {
        self.cursors.values_mut().for_each(|shown| *shown = None);
    }
}

fn is_unseen(access: &Access) -> bool {
    matches!(access.action, Action::Procedural | Action::Unknown)
}

/// One more definition of a name.
fn define<T: PartialEq>(
    all: &mut HashMap<Box<str>, Option<T>>,
    name: &str,
    new: Option<T>,
    lost: &mut bool,
) -> bool {
    if *lost {
        return false;
    }
    if name.len() > MAX_NAME || all.len() >= MAX_NAMES && !all.contains_key(name) {
        all.clear();
        *lost = true;
        return true;
    }
    match all.get_mut(name) {
        Some(known) if *known == new => false,
        Some(known) => {
            *known = None;
            true
        }
        None => {
            all.insert(name.into(), new);
            true
        }
    }
}
