//! Facts from SQL text, by PostgreSQL's own grammar.
//!
//! Nothing here guesses: what the grammar or this module does not know is `sql:unknown`.

mod children;
mod definition;
mod found;
mod functions;
mod lineage;
mod query;
mod scan;
mod settings;
mod shape;
mod unbounded;
mod utility;
mod walk;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::decide::lineage::{Lineage, Query};
use crate::decide::{Access, Action, Copied, Facts, Flag, Object, Statement, Verb};

use functions::Functions;
pub(crate) use scan::Limits;
pub use scan::outline;
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

    /// A text, on a stack that is large enough for it.
    fn parse_apart(&self, text: &str) -> Result<Facts, String> {
        apart(text, || self.parse(text))
    }

    fn parse(&self, text: &str) -> Result<Facts, String> {
        guarded(|| self.collect(text))
    }

    fn collect(&self, text: &str) -> Result<Facts, String> {
        let tree = pg_raw_parse::parse(text).map_err(|e| {
            let why = e.to_string();
            why.strip_prefix("Invalid statement: ")
                .unwrap_or(&why)
                .to_owned()
        })?;
        let mut facts = Facts::default();
        let mut traced = Lineage::default();
        // With several, it would not be known whose rows are whose.
        let copies = tree.stmts().filter(|node| lineage::copies_out(*node));
        let follows_copy = copies.count() == 1;
        let mut accesses = 0;
        for statement in tree.stmts() {
            let found = Walk::statement(statement, &self.functions, follows_copy)
                .map_err(|e| e.to_string())?;
            found::add(&mut facts, found);
            let (statement, size) = lineage::trace(statement, &self.functions);
            traced.statements.push(statement);
            traced.size += size;
            accesses += facts.statements.last().map_or(0, |s| s.accesses.len());
            if accesses > MAX_ACCESSES {
                return Err(format!("it does more than {MAX_ACCESSES} things at once"));
            }
        }
        found::tidy(&mut facts);
        facts.lineage = Arc::new(traced);
        Ok(facts)
    }
}

/// Runs on a thread with a stack of its own where the text is large.
fn apart<T: Send>(
    text: &str,
    work: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    if text.len() <= LARGE {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(LARGE_STACK)
            .spawn_scoped(scope, work)
            .map_err(|_| "no thread could be started to parse it".to_owned())?;
        thread.join().unwrap_or_else(|_| Err(PANICKED.to_owned()))
    })
}

/// The bindings panic on lists that hold what their comments do not say; that text is then not
/// understood, which is all that is lost: nothing outlives the call.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(PANICKED.to_owned()))
}

/// Reads the definitions of views as the server words them.
#[derive(Debug)]
pub struct Definitions(Parser);

impl Definitions {
    #[expect(
        clippy::new_without_default,
        reason = "it reads lists of thousands of functions: nothing to make by the way"
    )]
    pub fn new() -> Self {
        Self(Parser::new(Limits::default()))
    }

    /// The skeleton of one; `None` where it is not understood.
    pub fn read(&self, text: &str) -> Option<Query> {
        let Parser { functions, limits } = &self.0;
        scan::scan(text, *limits).ok()?;
        let trace = || {
            let tree = pg_raw_parse::parse(text).map_err(|e| e.to_string())?;
            let mut statements = tree.stmts();
            let only = statements.next().filter(|_| statements.next().is_none());
            Ok(only.and_then(|statement| lineage::trace(statement, functions).0.query))
        };
        apart(text, || guarded(trace)).ok()?
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
