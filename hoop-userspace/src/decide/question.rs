//! A request that people must settle first.

use std::sync::Arc;

use ring::digest::{Context, SHA256};
use smallvec::{SmallVec, smallvec};

use crate::ask::Approval;
use crate::ids::{Epochs, ExchangeId};
use crate::terminate::{Asked, Parameter, Request, SqlStep, SqlText, Unit};

use super::{Code, Demand, Permitted, Refusal, Retry};

/// What is held until people have answered. It becomes a [`Permitted`] by their approval alone, and
/// then exactly what they were asked about.
///
/// ```compile_fail
/// fn forward(q: hoop::decide::Question) -> hoop::decide::Permitted { q.held }
/// ```
#[derive(Debug)]
pub struct Question {
    /// The refusal that stands if nobody can be asked; its message says what is asked for.
    pub(in crate::decide) otherwise: Refusal,
    pub(in crate::decide) demands: Arc<[Arc<Demand>]>,
    pub(in crate::decide) held: Permitted,
    /// The whole request, to be decided again if the rules change meanwhile.
    pub(in crate::decide) request: Request,
    pub(in crate::decide) fingerprint: String,
    pub(in crate::decide) digest: [u8; 32],
}

/// A statement or command that waits, with what was bound to it.
#[derive(Clone, Debug)]
pub struct Waiting<'q> {
    pub text: Arc<SqlText>,
    pub parameters: &'q [Parameter],
    /// Statements are alike that differ in constants only. Of what is no SQL only the very same is.
    pub sql: bool,
    /// A command that is typed into: approved without a terminal, it is not approved with one.
    pub terminal: bool,
}

impl Question {
    /// Who wants to do what, and whose approval it needs, in one sentence.
    pub fn message(&self) -> &str {
        &self.otherwise.message
    }

    /// What the rules that ask demand: all of it.
    pub fn demands(&self) -> &Arc<[Arc<Demand>]> {
        &self.demands
    }

    pub fn exchange(&self) -> ExchangeId {
        self.held.exchange
    }

    /// The rules and the identity under which it asks.
    pub fn epochs(&self) -> Epochs {
        self.held.epochs
    }

    /// The statements that would run.
    pub fn waiting(&self) -> impl Iterator<Item = Waiting<'_>> {
        let first = usize::from(self.held.first);
        waiting(self.request.units.get(first..).unwrap_or_default())
    }

    /// The statement, if it is one plain query or change of rows that nothing was bound to and no
    /// unseen code runs in: what a server may be asked to plan.
    pub fn plannable(&self) -> Option<Arc<SqlText>> {
        const PLAIN: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"];
        let mut waiting = self.waiting();
        let (only, None) = (waiting.next()?, waiting.next()) else {
            return None;
        };
        let first = usize::from(self.held.first);
        let units = self.held.units().iter().skip(first);
        let mut facts = units.filter_map(|unit| unit.statement.as_deref());
        let (facts, None) = (facts.next()?, facts.next()) else {
            return None;
        };
        let plain = match facts.statements.as_slice() {
            [statement] => PLAIN.contains(&statement.verb.0),
            _ => false,
        };
        (plain && only.sql && !facts.opaque && only.parameters.is_empty()).then_some(only.text)
    }

    /// The same for questions whose statements differ in constants only.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// SHA-256 of the statements and their parameters: the same for a request that does the same.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The permission to forward what was held, if it was approved and the rules are still those
    /// that asked. Otherwise the question comes back, to be decided again.
    pub fn settle(self, now: Epochs, approval: Approval) -> Result<Permitted, Box<Self>> {
        if approval.digest() == &self.digest && self.held.epochs == now {
            Ok(self.held)
        } else {
            Err(Box::new(self))
        }
    }

    /// The answer where nobody can be asked.
    pub fn unavailable(self, why: &str) -> Refusal {
        let message = format!("{}, and nobody can be asked: {why}", self.message());
        self.refuse(
            Code::ApprovalUnavailable,
            Retry::AfterApproval,
            message,
            None,
        )
    }

    /// Any other answer that is no approval; `approval` is the question's id.
    pub fn refuse(
        self,
        code: Code,
        retry: Retry,
        message: String,
        approval: Option<String>,
    ) -> Refusal {
        let hint = match code {
            Code::ApprovalRefused => "do without it, or talk to whoever refused",
            Code::ApprovalExpired => {
                "nobody answered in time; ask somebody to be there, then send it again"
            }
            Code::Cancelled => "send it again to ask anew",
            _ => "ask the operator, or do without it",
        };
        Refusal {
            code,
            retry,
            message,
            hint: hint.into(),
            approval,
            ..self.otherwise
        }
    }
}

/// What runs among units, as people are shown it.
pub(super) fn waiting(units: &[Unit]) -> impl Iterator<Item = Waiting<'_>> {
    units.iter().flat_map(|unit| -> SmallVec<[Waiting<'_>; 1]> {
        match &unit.asked {
            Asked::Sql(asked) if asked.step != SqlStep::Prepare => asked
                .candidates
                .iter()
                .map(|text| Waiting {
                    text: text.clone(),
                    parameters: &asked.parameters,
                    sql: true,
                    terminal: false,
                })
                .collect(),
            Asked::Ssh(asked) => smallvec![Waiting {
                text: asked.text(),
                parameters: &[],
                sql: false,
                terminal: asked.on_terminal(),
            }],
            Asked::Kubernetes(asked) => smallvec![Waiting {
                text: asked.text(),
                parameters: &[],
                sql: false,
                terminal: asked.upgrade && asked.options.tty,
            }],
            _ => SmallVec::new(),
        }
    })
}

/// Whether a unit runs something, so that locks may be held once it was forwarded.
pub(super) fn runs(unit: &Unit) -> bool {
    match &unit.asked {
        Asked::Sql(asked) => asked.step != SqlStep::Prepare,
        Asked::FunctionCall { .. } | Asked::Ssh(_) | Asked::Kubernetes(_) => true,
        Asked::Undecidable(_) | Asked::Control => false,
    }
}

pub(super) fn digest<'q>(statements: impl Iterator<Item = Waiting<'q>>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut put = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    for statement in statements {
        put(statement.text.text.as_bytes());
        if statement.terminal {
            put(b"on a terminal");
        }
        put(&(statement.parameters.len() as u64).to_be_bytes());
        for parameter in statement.parameters {
            // The same bytes are another value under another type, and may choose another function.
            put(&parameter.declared.to_be_bytes());
            match &parameter.value {
                None => put(b"null"),
                Some(value) => {
                    put(if parameter.binary { b"binary" } else { b"text" });
                    put(value);
                }
            }
        }
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
