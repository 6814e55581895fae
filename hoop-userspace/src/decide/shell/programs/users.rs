//! Programs that run others as another user.

use crate::decide::shell::environment::{self, Influence};
use crate::decide::shell::facts::ShellFlag;
use crate::decide::shell::field::Field;
use crate::decide::shell::walk::{Around, Dark, Run, Walk};

impl Walk<'_> {
    pub(super) fn sudo(&mut self, program: &str, mut run: Run) -> Result<(), Dark> {
        run.flag(ShellFlag::Privileged, "");
        let Some(spec) = self.programs.spec("sudo") else {
            return self.unfamiliar(program, run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), false);
        if taken.unlisted.is_some() || taken.perhaps {
            return self.opaque(program, run, "its options are not understood");
        }
        self.apply(spec, &taken, &mut run);
        let user = match taken.value(&["-u", "--user"]) {
            None => "root".to_owned(),
            Some(field) => match field.known().as_deref() {
                Some("#0" | "0") => "root".to_owned(),
                // A number is somebody by another name, and of one too large sudo made root.
                Some(user) if user.starts_with('#') || user.chars().all(|c| c.is_ascii_digit()) => {
                    return self.opaque(program, run, "as whom it runs is not known");
                }
                Some(user) => user.to_owned(),
                None => return self.opaque(program, run, "as whom it runs is not known"),
            },
        };
        let mut inner = taken.operands.as_slice();
        while let Some((name, influence)) = inner.first().and_then(assigned) {
            let _ = name;
            note(&mut run, influence);
            inner = inner.get(1..).unwrap_or_default();
        }
        let shell = taken.named(&["-i", "-s", "--login", "--shell"]);
        if inner.is_empty() {
            if shell {
                return self.opaque(program, run, "it opens a shell");
            }
            return self.push(Some(program.to_owned()), run);
        }
        // Of its arguments' characters the dollar alone is not escaped for the shell.
        let dollar = |field: &Field| field.known().is_none_or(|text| text.contains('$'));
        if shell && inner.iter().any(dollar) {
            run.flag(ShellFlag::Opaque, "a shell expands its arguments once more");
        }
        let mut around = self.wrapped_around(program, &run);
        around.user = Some(user);
        if taken.named(&["-S", "--stdin"]) {
            // A password is read first, if one is needed: what is left is not known.
            around.input = None;
        }
        if taken.named(&["-b", "--background"]) {
            around.flags.insert(ShellFlag::Background);
        }
        if shell {
            around.flags.insert(ShellFlag::Interpreter);
        }
        let run = inner_run(inner);
        self.apart(around, |walk| {
            if shell || program == "pkexec" {
                // That user's home, or folder, is where it begins.
                walk.state.folder = crate::decide::shell::state::unknown();
            }
            walk.run(run)
        })
    }

    pub(super) fn su(&mut self, program: &str, mut run: Run) -> Result<(), Dark> {
        run.flag(ShellFlag::Privileged, "");
        let arguments: Option<Vec<String>> = run.argv.iter().skip(1).map(Field::known).collect();
        let Some(arguments) = arguments else {
            return self.opaque(program, run, "its arguments are not known");
        };
        let (mut user, mut text, mut login) = (None, None, false);
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-" | "-l" | "--login" => login = true,
                "-c" | "--command" => text = words.next(),
                "-lc" => (login, text) = (true, words.next()),
                "-u" if program == "runuser" => user = words.next(),
                "-s" | "--shell" => {
                    let shell = words.next().map(String::as_str);
                    if !matches!(shell, Some("/bin/sh" | "/bin/bash" | "/bin/dash")) {
                        return self.opaque(program, run, "the shell it runs is not known");
                    }
                }
                word if word.starts_with('-') => {
                    return self.opaque(program, run, "its options are not understood");
                }
                _ if user.is_none() => user = Some(word),
                _ => return self.opaque(program, run, "what it runs is not known"),
            }
        }
        let Some(text) = text.cloned() else {
            return self.opaque(program, run, "it opens a shell");
        };
        let mut around = self.around.clone();
        around.user = Some(user.cloned().unwrap_or_else(|| "root".to_owned()));
        let program = program.to_owned();
        self.apart(around, |walk| {
            if login {
                walk.state.folder = crate::decide::shell::state::unknown();
            }
            walk.code(&program, run, &text, &[])
        })
    }

    /// A program that does more than start another is a command of its own: `chroot` decides which
    /// program it is that runs, `time -o` writes.
    pub(super) fn wrapper(
        &mut self,
        program: &str,
        run: &Run,
        inner: &[Field],
    ) -> Result<(), Dark> {
        if run.files.is_empty() && run.flags.is_empty() {
            return Ok(());
        }
        let mut own = run.clone();
        own.argv
            .truncate(run.argv.len().saturating_sub(inner.len()));
        self.push(Some(program.to_owned()), own)
    }

    /// What is around a command that `program` starts.
    pub(super) fn wrapped_around(&self, program: &str, run: &Run) -> Around {
        let mut around = self.around.clone();
        around.through.push(program.to_owned());
        around.flags.extend(run.flags.iter().copied());
        around.why = run.why.clone().or(around.why);
        around
    }
}

/// The command that a wrapper runs.
pub(super) fn inner_run(argv: &[Field]) -> Run {
    Run {
        argv: argv.to_vec(),
        ..Run::default()
    }
}

/// `NAME=value`, and what that variable does.
pub(super) fn assigned(field: &Field) -> Option<(String, Influence)> {
    let (name, value) = field.prefix().split_once('=')?;
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !plain {
        // A name that no shell knows; nor is it known what reads it.
        return Some((name.to_owned(), Influence::Code));
    }
    let number = field.known().is_some() && value.chars().all(|c| c.is_ascii_digit());
    if environment::is_evaluated(name) && !number {
        return Some((name.to_owned(), Influence::Code));
    }
    let none = field.known().is_some() && matches!(value, "" | "cat");
    let influence = match environment::of(name, None) {
        Influence::Code if none && name.ends_with("PAGER") => Influence::None,
        influence => influence,
    };
    Some((name.to_owned(), influence))
}

/// An option's `NAME=value`, or a name alone: what that variable does.
pub(super) fn variable(field: &Field, run: &mut Run) {
    let influence = match (assigned(field), field.known()) {
        (Some((_, influence)), _) => influence,
        (None, Some(name)) => environment::of(&name, None),
        (None, None) => Influence::Code,
    };
    note(run, influence);
}

pub(super) fn note(run: &mut Run, influence: Influence) {
    match influence {
        Influence::None => {}
        Influence::Some => run.flag(ShellFlag::Environment, ""),
        Influence::Code => run.flag(ShellFlag::Opaque, "a variable makes it run something else"),
    }
}
