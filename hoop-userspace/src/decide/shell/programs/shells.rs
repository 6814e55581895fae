//! Shells: what `-c` or a here-document gives them is a text like the first.

use crate::decide::shell::facts::{FileVerb, ShellFlag, Stdin};
use crate::decide::shell::field::{Field, Scalar};
use crate::decide::shell::state::State;
use crate::decide::shell::walk::{Dark, Run, Walk};

/// Letters that change nothing of what a text means.
const LETTERS: &str = "elxu";

impl Walk<'_> {
    pub(super) fn shell(&mut self, program: &str, mut run: Run) -> Result<(), Dark> {
        run.flag(ShellFlag::Interpreter, "");
        let mut arguments = run.argv.get(1..).unwrap_or_default().to_vec();
        let mut command = false;
        let mut stdin = false;
        while let Some(text) = arguments.first().and_then(Field::known) {
            if text == "--login" || text == "--noprofile" || text == "--norc" || text == "--posix" {
                arguments.remove(0);
                continue;
            }
            if text == "--" || text == "-" {
                arguments.remove(0);
                break;
            }
            if matches!(&*text, "--version" | "--help") {
                return self.push(Some(program.to_owned()), run);
            }
            if text.starts_with('+') {
                return self.opaque(program, run, "an option of the shell is not understood");
            }
            let Some(letters) = text.strip_prefix('-') else {
                break;
            };
            let known = |c: char| LETTERS.contains(c) || c == 'c' || c == 's' || c == 'o';
            if letters.starts_with('-') || !letters.chars().all(known) {
                return self.opaque(program, run, "an option of the shell is not understood");
            }
            command |= letters.contains('c');
            stdin |= letters.contains('s');
            arguments.remove(0);
            for _ in letters.matches('o') {
                match arguments.first().and_then(Field::known).as_deref() {
                    Some("pipefail" | "errexit" | "nounset" | "xtrace") => {
                        arguments.remove(0);
                    }
                    _ => {
                        return self.opaque(
                            program,
                            run,
                            "an option of the shell is not understood",
                        );
                    }
                }
            }
        }
        if command {
            let Some(text) = arguments.first().and_then(Field::known) else {
                return self.opaque(program, run, "the text after -c is not known");
            };
            return self.code(program, run, &text, arguments.get(2..).unwrap_or_default());
        }
        if !stdin && let Some(script) = arguments.first() {
            let script = script.clone();
            self.file(&mut run, FileVerb::Execute, &script, false);
            run.flag(ShellFlag::Unfamiliar, "what the script does is not seen");
            return self.push(Some(program.to_owned()), run);
        }
        match (self.around.stdin, self.around.input.clone()) {
            (Stdin::Text, Some(text)) => self.code(program, run, &text, &arguments),
            _ => self.opaque(program, run, "it runs what it reads"),
        }
    }

    /// Goes through a text that a new shell runs.
    pub(super) fn code(
        &mut self,
        program: &str,
        run: Run,
        text: &str,
        arguments: &[Field],
    ) -> Result<(), Dark> {
        let fixed = arguments.iter().all(|field| !field.many);
        let positional: Option<Vec<Scalar>> =
            fixed.then(|| arguments.iter().map(|f| f.pieces.clone()).collect());
        let mut around = self.around.clone();
        around.through.push(program.to_owned());
        around.flags.extend(run.flags.iter().copied());
        around.flags.insert(ShellFlag::Interpreter);
        around.why = run.why.clone().or(around.why);
        // What is left of it when a command reads it is not known.
        around.input = None;
        if !run.files.is_empty() {
            let mut redirect = run.clone();
            redirect.argv.clear();
            self.push(None, redirect)?;
        }
        let folder = self.state.folder.clone();
        self.apart(around, |walk| {
            walk.state = State {
                folder,
                ..State::fresh(positional)
            };
            walk.functions.clear();
            let found = walk.pushed;
            walk.text(text)?;
            // A shell that runs nothing was still started.
            match walk.pushed == found {
                true => walk.push(Some(program.to_owned()), run),
                false => Ok(()),
            }
        })
    }
}
