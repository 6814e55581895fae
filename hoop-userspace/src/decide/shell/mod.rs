//! Facts from a shell text: which programs run, with which arguments, and what becomes of files.
//!
//! The text is what `ssh host TEXT` gives to the login's shell. It is parsed by a grammar of our own
//! (`docs/adr/shell-grammar.md` says why), gone through as a shell would, and every command is
//! looked up in a table of what programs do. Nothing here guesses: what is not understood for
//! certain, by every shell of the family alike, is `ssh:unknown`.

mod braces;
mod builtins;
mod environment;
mod expand;
mod facts;
mod field;
mod found;
mod paths;
mod programs;
mod redirect;
mod state;
mod syntax;
mod walk;

#[cfg(test)]
mod tests;

pub use facts::{FileAccess, FileVerb, ShellCommand, ShellFacts, ShellFlag, Stdin};

use field::{Field, Path, Piece};
use programs::Programs;
use state::unknown;
use walk::{Dark, Run, Walk};

/// Turns shell texts into facts.
#[derive(Debug)]
pub(super) struct Shell {
    programs: Programs,
}

impl Shell {
    pub(super) fn new() -> Self {
        Self {
            programs: Programs::new(),
        }
    }

    /// Whether reading the file at this path may show a secret. The path is from the top, or from
    /// the login's home by `~`.
    pub(super) fn is_secret(&self, path: &str) -> bool {
        let text = |text: &str| Piece::Text(text.to_owned());
        let home = path.strip_prefix('~');
        let home = home.filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let pieces = match home {
            Some(rest) => vec![Piece::Home(String::new()), text(rest)],
            None => vec![text(path)],
        };
        let path = Path::new(&[], &pieces);
        self.programs.places.secret(&path, false)
    }

    /// Where among a command's words that subcommand stands which the table knows it by.
    pub(super) fn subcommand(&self, command: &ShellCommand) -> Option<usize> {
        let program = command.program.as_deref()?;
        let known = |word: &Option<String>| {
            let word = word.as_deref().filter(|word| !word.starts_with('-'));
            word.is_some_and(|word| self.programs.has_subcommand(program, word))
        };
        let at = command.argv.iter().skip(1).position(known)?;
        Some(at + 1)
    }

    /// Never fails: what cannot be understood is `ssh:unknown`. With a terminal, programs that then
    /// start a pager run what is typed into it.
    pub(super) fn facts(&self, text: &str, terminal: bool) -> ShellFacts {
        let mut walk = Walk::new(&self.programs, terminal);
        let gone = walk.text(text);
        summed(walk, gone)
    }

    /// The same of a program that is started with these arguments as they are, its name the first of
    /// them. No shell reads them: none is a built-in, a word of the grammar, a pattern or a variable.
    /// Which folder it is started in is not known.
    pub(super) fn started(&self, arguments: &[String], terminal: bool) -> ShellFacts {
        let mut walk = Walk::new(&self.programs, terminal);
        walk.state.folder = unknown();
        let gone = match arguments.iter().any(|argument| argument.contains('\0')) {
            true => Err(Dark("it holds a zero byte")),
            false => walk
                .spend_bytes(arguments.iter().map(String::len).sum())
                .and_then(|()| {
                    walk.run(Run {
                        argv: arguments.iter().map(|text| Field::text(text)).collect(),
                        ..Run::default()
                    })
                }),
        };
        summed(walk, gone)
    }
}

fn summed(mut walk: Walk<'_>, gone: Result<(), Dark>) -> ShellFacts {
    let gone = gone.and_then(|()| walk.solvent());
    let why = gone.err().map(|dark| dark.0.to_owned());
    if why.is_none() && walk.commands.is_empty() {
        // What does nothing needs a permit as well.
        walk.commands.push(ShellCommand {
            program: Some(":".into()),
            argv: vec![Some(":".into())],
            line: ":".into(),
            ..ShellCommand::default()
        });
    }
    ShellFacts::summed(walk.commands, why)
}
