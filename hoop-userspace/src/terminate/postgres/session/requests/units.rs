//! What each message of a client asks for, and which texts the names in it stand for.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Ends, StagedUnit, broken};
use crate::terminate::postgres::session::ledger::{Kind, Ledger};
use crate::terminate::postgres::session::names::{MAX_NAME, MAX_STATEMENTS, Portal, Statement};
use crate::terminate::postgres::session::sql_names::{self, Prepares};
use crate::terminate::{Asked, Parameter, SessionError, SqlAsked, SqlStep, SqlText, Undecidable};
use crate::wire::postgres::WireError;
use crate::wire::postgres::frontend::{self, Bind, Frontend, Target, tag};

/// Parameters up to this much are copied, so that a portal does not keep a read buffer alive.
const SMALL_BIND: usize = 4096;

/// Names that SQL gave to statements, remembered one by one up to this many.
const MAX_TAINTS: usize = 1024;

/// What decides the meaning of a client's next message.
#[derive(Debug)]
pub struct Units {
    /// Bytes of statement texts that names may hold.
    max_held: usize,
    /// Whether rows must be attributable.
    attribute: bool,
    /// Counts messages that change names, and runs of SQL PREPARE.
    number: u64,
    /// Counts Syncs.
    group: u64,
    /// Portals that the client described, with nothing run since.
    described: SmallVec<[Bytes; 1]>,
    taints: HashMap<Bytes, u64>,
    /// The last run of a PREPARE whose name is not known.
    tainted: u64,
    hasher: foldhash::fast::FixedState,
}

impl Units {
    pub fn new(max_held: usize, attribute: bool) -> Self {
        Self {
            max_held,
            attribute,
            number: 0,
            group: 1,
            described: SmallVec::new(),
            taints: HashMap::new(),
            tainted: 0,
            // Keyed by nothing secret: whoever looks a text up by its hash compares the text too.
            hasher: foldhash::fast::FixedState::default(),
        }
    }

    pub fn unit(
        &mut self,
        tag: u8,
        end: usize,
        body: Bytes,
        ledger: &mut Ledger,
    ) -> Result<(Asked, StagedUnit), SessionError> {
        let body = match tag {
            tag::BIND if body.len() <= SMALL_BIND => Bytes::copy_from_slice(&body),
            _ => body,
        };
        let message = frontend::decode(tag, body).map_err(broken)?;
        let mut unit = StagedUnit {
            end,
            kind: None,
            attribute: false,
            dropped: false,
            ends: Ends::No,
        };
        let asked = match message {
            Frontend::Query(text) => {
                unit.ends = Ends::Itself;
                let deallocates = sql_names::deallocates(&text);
                unit.kind = Some(Kind::Query { deallocates });
                self.query(&text)
            }
            Frontend::Parse { name, text, types } => {
                self.parse(&name, &text, types, ledger, &mut unit)
            }
            Frontend::Bind(bind) => self.bind(bind, ledger, &mut unit),
            Frontend::Execute { portal, .. } => self.execute(&portal, ledger, &mut unit),
            Frontend::Describe(target) => self.describe(target, &mut unit),
            Frontend::Close(target) => self.close(target, ledger, &mut unit),
            Frontend::FunctionCall { oid } => {
                self.described.clear();
                unit.ends = Ends::Itself;
                unit.kind = Some(Kind::FunctionCall);
                Asked::FunctionCall { oid }
            }
            Frontend::Sync => {
                unit.ends = Ends::Sync;
                unit.kind = Some(Kind::Sync);
                self.group += 1;
                self.described.clear();
                Asked::Control
            }
            Frontend::Flush => {
                unit.ends = Ends::Flush;
                Asked::Control
            }
            Frontend::Terminate
            | Frontend::CopyData(_)
            | Frontend::CopyDone
            | Frontend::CopyFail(_) => return Err(broken(WireError::UnknownType(tag))),
        };
        Ok((asked, unit))
    }

    fn query(&mut self, text: &Bytes) -> Asked {
        self.described.clear();
        if text.trim_ascii().is_empty() {
            return Asked::Control;
        }
        self.taint(&sql_names::prepares(text));
        match self.sql_text(text) {
            Some(text) => sql(SqlStep::Simple, [text], Arc::new([])),
            None => Asked::Undecidable(Undecidable::NotUtf8),
        }
    }

    fn parse(
        &mut self,
        name: &Bytes,
        text: &Bytes,
        types: Vec<u32>,
        ledger: &mut Ledger,
        unit: &mut StagedUnit,
    ) -> Asked {
        let name = kept(name);
        let number = self.next_number();
        unit.kind = Some(Kind::Parse {
            name: name.clone(),
            number,
        });
        if name.len() > MAX_NAME {
            return unknown(&name);
        }
        // The names are the server's memory as much as ours; drivers hold a few hundred.
        let most = self.max_held;
        let weight = text.len() + size_of_val(&*types);
        if ledger.statements.len() >= MAX_STATEMENTS || ledger.held + weight > most {
            let bytes = ledger.held + weight;
            return Asked::Undecidable(Undecidable::TooLarge { bytes, most });
        }
        let sql_text = self.sql_text(text);
        let statement = Statement {
            text: sql_text.clone(),
            types: types.into(),
            prepares: sql_names::prepares(text),
        };
        ledger.held += statement.weight();
        ledger
            .statements
            .propose(name, number, self.group, Some(Arc::new(statement)));
        match sql_text {
            Some(text) if text.text.trim_ascii().is_empty() => Asked::Control,
            Some(text) => sql(SqlStep::Prepare, [text], Arc::new([])),
            None => Asked::Undecidable(Undecidable::NotUtf8),
        }
    }

    fn bind(&mut self, bind: Bind, ledger: &mut Ledger, unit: &mut StagedUnit) -> Asked {
        let name = kept(&bind.portal);
        let number = self.next_number();
        unit.kind = Some(Kind::Bind {
            portal: name.clone(),
            number,
        });
        if name.len() > MAX_NAME || bind.statement.len() > MAX_NAME {
            return unknown(if name.len() > MAX_NAME {
                &name
            } else {
                &bind.statement
            });
        }
        self.described.retain(|d| *d != name);
        let found = ledger.statements.find(&bind.statement, self.group);
        let tainted = self
            .taints
            .get(&bind.statement)
            .copied()
            .unwrap_or(0)
            .max(self.tainted);
        let statements = match !bind.statement.is_empty() && tainted >= found.since {
            // SQL may have put another statement under this name since.
            true => SmallVec::new(),
            false => found.candidates,
        };
        let parameters = bind.values.iter().enumerate();
        let parameters = parameters
            .map(|(i, value)| Parameter {
                binary: bind.is_binary(i),
                declared: declared(&statements, i),
                value: value.clone(),
            })
            .collect();
        let portal = Portal {
            statements,
            parameters,
        };
        ledger
            .portals
            .propose(name, number, self.group, Some(Arc::new(portal)));
        Asked::Control
    }

    fn execute(&mut self, portal: &Bytes, ledger: &mut Ledger, unit: &mut StagedUnit) -> Asked {
        let name = kept(portal);
        // Whatever runs may close a portal and declare another of its name.
        unit.attribute = self.attribute && !self.described.contains(&name);
        self.described.clear();
        let mut found = ledger.portals.find(&name, self.group).candidates;
        let bound = found
            .pop()
            .filter(|p| found.is_empty() && !p.statements.is_empty());
        let Some(bound) = bound else {
            unit.kind = Some(Kind::Execute {
                portal: name.clone(),
                deallocates: None,
            });
            return unknown(&name);
        };
        let first = bound.statements.first().and_then(|s| s.text.as_ref());
        let deallocates = first.and_then(|t| sql_names::deallocates(t.text.as_bytes()));
        unit.kind = Some(Kind::Execute {
            portal: name,
            deallocates,
        });
        let mut candidates: SmallVec<[Arc<SqlText>; 1]> = SmallVec::new();
        for statement in &bound.statements {
            self.taint(&statement.prepares);
            match &statement.text {
                Some(text) => candidates.push(text.clone()),
                None => return Asked::Undecidable(Undecidable::NotUtf8),
            }
        }
        if candidates.iter().all(|t| t.text.trim_ascii().is_empty()) {
            return Asked::Control;
        }
        sql(SqlStep::Run, candidates, bound.parameters.clone())
    }

    fn describe(&mut self, target: Target, unit: &mut StagedUnit) -> Asked {
        match target {
            Target::Statement(_) => unit.kind = Some(Kind::DescribeStatement),
            Target::Portal(name) => {
                let portal = kept(&name);
                self.described.push(portal.clone());
                unit.kind = Some(Kind::DescribePortal { portal });
            }
        }
        Asked::Control
    }

    fn close(&mut self, target: Target, ledger: &mut Ledger, unit: &mut StagedUnit) -> Asked {
        let number = self.next_number();
        let (name, statement) = match target {
            Target::Statement(name) => (kept(&name), true),
            Target::Portal(name) => (kept(&name), false),
        };
        let too_long = name.len() > MAX_NAME;
        unit.kind = Some(match statement {
            true => Kind::CloseStatement {
                name: name.clone(),
                number,
            },
            false => Kind::ClosePortal {
                name: name.clone(),
                number,
            },
        });
        match statement {
            _ if too_long => return unknown(&name),
            true => ledger.statements.propose(name, number, self.group, None),
            false => ledger.portals.propose(name, number, self.group, None),
        }
        Asked::Control
    }
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn taint(&mut self, prepares: &Prepares) {
        let number = match prepares {
            Prepares::None => return,
            _ => self.next_number(),
        };
        match prepares {
            Prepares::Names(names) if self.taints.len() + names.len() <= MAX_TAINTS => {
                self.taints
                    .extend(names.iter().map(|n| (n.clone(), number)));
            }
            _ => self.tainted = number,
        }
    }

    fn sql_text(&self, text: &[u8]) -> Option<Arc<SqlText>> {
        let text = std::str::from_utf8(text).ok()?;
        Some(Arc::new(SqlText {
            hash: self.hasher.hash_one(text),
            text: text.into(),
        }))
    }
}

/// The type that every text which may run declares for this parameter.
fn declared(statements: &[Arc<Statement>], parameter: usize) -> u32 {
    let of = |statement: &Arc<Statement>| statement.types.get(parameter).copied().unwrap_or(0);
    let first = statements.first().map_or(0, of);
    match statements.iter().all(|statement| of(statement) == first) {
        true => first,
        false => u32::MAX,
    }
}

/// Names are kept apart from the buffer that they were read into.
fn kept(name: &Bytes) -> Bytes {
    match name.is_empty() {
        true => Bytes::new(),
        false => Bytes::copy_from_slice(name),
    }
}

fn unknown(name: &[u8]) -> Asked {
    let name: String = String::from_utf8_lossy(name)
        .chars()
        .take(MAX_NAME + 1)
        .collect();
    Asked::Undecidable(Undecidable::UnknownName(name))
}

fn sql(
    step: SqlStep,
    candidates: impl IntoIterator<Item = Arc<SqlText>>,
    parameters: Arc<[Parameter]>,
) -> Asked {
    let candidates = candidates.into_iter().collect();
    Asked::Sql(SqlAsked {
        step,
        candidates,
        parameters,
    })
}
