//! Facts from SQL text, by PostgreSQL's own grammar.
//!
//! Nothing here guesses: what the grammar or this module does not know is `sql:unknown`.

mod children;
mod definition;
mod found;
mod functions;
mod query;
mod scan;
mod settings;
mod shape;
mod unbounded;
mod utility;
mod walk;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::decide::{Access, Action, Copied, Facts, Flag, Object, Statement, Verb};

use functions::Functions;
pub(crate) use scan::Limits;
pub use settings::keeps_grammar;
pub(super) use shape::{Shape, shape};
use walk::Walk;

/// Texts longer than this are parsed on a thread with a stack of its own.
const LARGE: usize = 16 << 10;
/// The parser's own functions recurse for some definitions, one frame for each level.
const LARGE_STACK: usize = 64 << 20;

/// Each access is put to the policies by itself, so that their number bounds what a text costs.
const MAX_ACCESSES: usize = 1_000;

/// Turns texts into facts.
#[derive(Debug)]
pub(crate) struct Parser {
    functions: Functions,
    limits: Limits,
}

impl Parser {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            functions: Functions::new(),
            limits,
        }
    }

    /// Never fails: what cannot be understood is `sql:unknown`.
    pub(crate) fn facts(&self, text: &str) -> Facts {
        let fingerprint = match scan::scan(text, self.limits) {
            Ok(fingerprint) => fingerprint,
            Err(why) => return unknown(String::new(), why.to_string()),
        };
        match self.parse_apart(text) {
            Ok(facts) => Facts {
                fingerprint,
                ..facts
            },
            Err(why) => unknown(fingerprint, why),
        }
    }

    fn parse_apart(&self, text: &str) -> Result<Facts, String> {
        if text.len() <= LARGE {
            return self.parse(text);
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .stack_size(LARGE_STACK)
                .spawn_scoped(scope, || self.parse(text))
                .map_err(|_| "no thread could be started to parse it".to_owned())?;
            thread.join().unwrap_or_else(|_| Err(PANICKED.to_owned()))
        })
    }

    fn parse(&self, text: &str) -> Result<Facts, String> {
        // The bindings panic on lists that hold what their comments do not say; that text is then
        // not understood, which is all that is lost: nothing outlives the call.
        catch_unwind(AssertUnwindSafe(|| self.collect(text)))
            .unwrap_or_else(|_| Err(PANICKED.to_owned()))
    }

    fn collect(&self, text: &str) -> Result<Facts, String> {
        let tree = pg_raw_parse::parse(text).map_err(|e| {
            let why = e.to_string();
            why.strip_prefix("Invalid statement: ")
                .unwrap_or(&why)
                .to_owned()
        })?;
        let mut facts = Facts::default();
        let mut accesses = 0;
        for statement in tree.stmts() {
            let found = Walk::statement(statement, &self.functions).map_err(|e| e.to_string())?;
            found::add(&mut facts, found);
            accesses += facts.statements.last().map_or(0, |s| s.accesses.len());
            if accesses > MAX_ACCESSES {
                return Err(format!("it does more than {MAX_ACCESSES} things at once"));
            }
        }
        found::tidy(&mut facts);
        Ok(facts)
    }
}

const PANICKED: &str = "it holds syntax that hoop does not know";

fn unknown(fingerprint: String, why: String) -> Facts {
    let verb = Verb("UNKNOWN");
    Facts {
        unparsable: Some(why),
        fingerprint,
        verbs: vec![verb],
        flags: vec![Flag::Opaque],
        opaque: true,
        statements: vec![Statement {
            verb,
            flags: vec![Flag::Opaque],
            accesses: vec![Access {
                action: Action::Unknown,
                verb,
                object: Object::Database,
            }],
        }],
        copied: Copied {
            opaque: true,
            ..Copied::default()
        },
        ..Facts::default()
    }
}

#[cfg(test)]
mod tests;
