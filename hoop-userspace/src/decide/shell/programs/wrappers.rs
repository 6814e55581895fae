//! Programs that run others: the table's, `env`, `xargs`, `watch`.

use crate::decide::shell::facts::{FileVerb, ShellFlag, Stdin};
use crate::decide::shell::field::{Field, Piece};
use crate::decide::shell::state::unknown;
use crate::decide::shell::walk::{Dark, Run, Walk};

use super::options::Spec;
use super::users::{assigned, inner_run, note, variable};

impl Walk<'_> {
    /// A program of the table that runs the rest of its arguments.
    pub(super) fn wrapped(
        &mut self,
        program: &str,
        spec: &Spec,
        own: usize,
        mut run: Run,
    ) -> Result<(), Dark> {
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), false);
        self.apply(spec, &taken, &mut run);
        let fixed = taken.operands.iter().take(own).all(|field| !field.many);
        let inner = taken.operands.get(own..).unwrap_or_default();
        if taken.unlisted.is_some() || taken.perhaps || !fixed {
            // Where its options end is not known, nor what it runs.
            return self.opaque(program, run, "its options are not understood");
        }
        if inner.is_empty() {
            let shells = matches!(program, "chroot" | "unshare" | "nsenter" | "setpriv");
            return match shells {
                true => self.opaque(program, run, "it opens a shell"),
                false => self.push(Some(program.to_owned()), run),
            };
        }
        if program == "flock"
            && let Some(lock) = taken.operands.first()
        {
            self.file(&mut run, FileVerb::Create, lock, false);
        }
        for (name, _, value) in &taken.options {
            if matches!(program, "strace" | "systemd-run")
                && matches!(&**name, "-E" | "--env" | "--setenv")
                && let Some(value) = value
            {
                variable(value, &mut run);
            }
        }
        let dollar = |field: &Field| field.known().is_none_or(|text| text.contains('$'));
        if program == "systemd-run" && inner.iter().any(dollar) {
            run.flag(
                ShellFlag::Opaque,
                "systemd puts variables into its arguments",
            );
        }
        self.wrapper(program, &run, inner)?;
        let around = self.wrapped_around(program, &run);
        // A service begins at the root or at home, another namespace wherever that says.
        let elsewhere = match program {
            "systemd-run" => !taken.named(&["-d", "--same-dir", "--scope"]),
            "nsenter" => true,
            "unshare" => taken.named(&["-R", "--root"]),
            "chroot" => taken.named(&["--skip-chdir"]),
            _ => false,
        };
        let run = inner_run(inner);
        self.apart(around, |walk| {
            if elsewhere {
                walk.state.folder = unknown();
            } else if program == "chroot" {
                walk.state.folder = vec![vec![Piece::Text("/".into())]];
            }
            walk.run(run)
        })
    }

    pub(super) fn env(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("env") else {
            return self.unfamiliar("env", run, "");
        };
        // `env -` is `env -i`.
        let arguments: Vec<_> = run.argv.iter().skip(1).cloned().collect();
        let dash = |field: &&Field| field.known().is_some_and(|text| text == "-");
        let arguments: Vec<_> = match arguments.first().as_ref().is_some_and(dash) {
            true => arguments.into_iter().skip(1).collect(),
            false => arguments,
        };
        let taken = spec.take(&arguments, false);
        self.apply(spec, &taken, &mut run);
        if taken.unlisted.is_some() || taken.perhaps {
            return self.opaque("env", run, "its options are not understood");
        }
        let mut inner = taken.operands.as_slice();
        while let Some((_, influence)) = inner.first().and_then(assigned) {
            note(&mut run, influence);
            inner = inner.get(1..).unwrap_or_default();
        }
        if inner.is_empty() {
            return self.push(Some("env".into()), run);
        }
        let around = self.wrapped_around("env", &run);
        let run = inner_run(inner);
        self.apart(around, |walk| walk.run(run))
    }

    /// Its input becomes arguments, which are not known.
    pub(super) fn xargs(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("xargs") else {
            return self.unfamiliar("xargs", run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), false);
        self.apply(spec, &taken, &mut run);
        if taken.unlisted.is_some() || taken.perhaps {
            return self.opaque("xargs", run, "its options are not understood");
        }
        let replaced = match taken.named(&["-I", "-i", "--replace"]) {
            false => None,
            true => match taken.value(&["-I", "-i", "--replace"]) {
                None => Some("{}".to_owned()),
                Some(field) => match field.known() {
                    Some(text) if !text.is_empty() => Some(text),
                    _ => return self.opaque("xargs", run, "what it replaces is not known"),
                },
            },
        };
        let mut argv = match taken.operands.is_empty() {
            true => vec![Field::text("echo")],
            false => taken.operands.clone(),
        };
        match replaced {
            Some(text) => {
                for field in &mut argv {
                    replace(field, &text, &Piece::Unknown);
                }
            }
            None => argv.push(Field::unknown(true)),
        }
        self.wrapper("xargs", &run, &taken.operands)?;
        let mut around = self.wrapped_around("xargs", &run);
        // The program's own input is empty.
        (around.stdin, around.input) = (Stdin::File, None);
        let run = inner_run(&argv);
        self.apart(around, |walk| walk.run(run))
    }

    /// Its arguments are a text for a shell, unless `-x` says otherwise.
    pub(super) fn watch(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("watch") else {
            return self.unfamiliar("watch", run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), false);
        self.apply(spec, &taken, &mut run);
        if taken.unlisted.is_some() || taken.perhaps {
            return self.opaque("watch", run, "its options are not understood");
        }
        if taken.named(&["-x", "--exec"]) {
            let around = self.wrapped_around("watch", &run);
            let run = inner_run(&taken.operands);
            return self.apart(around, |walk| walk.run(run));
        }
        match joined(&taken.operands) {
            Some(text) => self.code("watch", run, &text, &[]),
            None => self.opaque("watch", run, "what it runs is not known"),
        }
    }
}

/// Arguments with spaces between them, where all are known.
pub(in crate::decide::shell) fn joined(fields: &[Field]) -> Option<String> {
    let words: Option<Vec<_>> = fields.iter().map(Field::known).collect();
    words.map(|words| words.join(" "))
}

/// Puts a piece wherever the text stands.
pub(super) fn replace(field: &mut Field, text: &str, with: &Piece) {
    let mut pieces = Vec::new();
    for piece in &field.pieces {
        let Piece::Text(old) = piece else {
            pieces.push(piece.clone());
            continue;
        };
        for (at, part) in old.split(text).enumerate() {
            if at > 0 {
                pieces.push(with.clone());
            }
            if !part.is_empty() {
                pieces.push(Piece::Text(part.to_owned()));
            }
        }
    }
    field.pieces = pieces;
}
