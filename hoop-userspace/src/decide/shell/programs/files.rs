//! Programs whose files have other names than their arguments say.

use crate::decide::shell::facts::{FileVerb, ShellFlag};
use crate::decide::shell::field::{Field, Piece, push};
use crate::decide::shell::walk::{Dark, Run, Walk};

use super::options::{Effect, Taken};

impl Walk<'_> {
    /// What is written over is kept under another name, where that is asked for: `cp -b -S file x
    /// ~/.pro` makes `~/.profile`.
    pub(super) fn backups(&self, taken: &Taken, run: &mut Run) {
        if !taken.named(&["-b", "--backup", "-S", "--suffix"]) {
            return;
        }
        let suffix = taken.value(&["-S", "--suffix"]).cloned();
        let suffix = suffix.unwrap_or_else(|| Field::text("~"));
        let to = taken.value(&["-t", "--target-directory"]).cloned();
        let (sources, to) = match (to, taken.operands.split_last()) {
            (Some(to), _) => (taken.operands.as_slice(), to),
            (None, Some((last, sources))) => (sources, last.clone()),
            (None, None) => return,
        };
        for target in std::iter::once(to.clone()).chain(sources.iter().map(|s| to.holding(s))) {
            self.file(run, FileVerb::Write, &followed(&target, &suffix), false);
        }
    }

    /// `sed -i.bak`: with a star the suffix is the name's pattern, with a slash in another folder.
    pub(super) fn kept(&self, taken: &Taken, operands: &[Field], run: &mut Run) {
        let Some(suffix) = taken.value(&["-i", "--in-place"]) else {
            return;
        };
        match suffix.known() {
            Some(text) if !text.contains(['*', '/']) => {}
            _ => run.flag(
                ShellFlag::Unresolved,
                "under which name it keeps the original is not followed",
            ),
        }
        for field in operands {
            self.file(run, FileVerb::Write, &followed(field, suffix), false);
        }
    }

    /// `cp --parents etc/x /` writes `/etc/x`.
    pub(super) fn parents(&self, taken: &Taken, run: &mut Run) {
        if !taken.named(&["--parents"]) {
            return;
        }
        let to = taken
            .options
            .iter()
            .find(|(_, effects, _)| effects.contains(&Effect::File(FileVerb::Write)));
        let to = to.and_then(|(_, _, value)| value.clone());
        let (sources, to) = match (to, taken.operands.split_last()) {
            (Some(to), _) => (taken.operands.as_slice(), to),
            (None, Some((last, sources))) => (sources, last.clone()),
            (None, None) => return,
        };
        for source in sources {
            self.file(run, FileVerb::Write, &to.joined(source), false);
        }
    }

    /// gzip and its like: what they take away they have read, and what they make has a name of its
    /// own.
    pub(super) fn compress(&mut self, program: &str, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec(program) else {
            return self.unfamiliar(program, run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), true);
        let restores = program.contains("un") || taken.named(&["-d", "--decompress"]);
        let looks = taken.named(&["-t", "--test", "-l", "--list"]);
        let prints = taken.named(&["-c", "--stdout"]);
        if restores && taken.named(&["-N"]) {
            run.flag(
                ShellFlag::Unresolved,
                "which name it gives to the file is not known",
            );
        }
        let recursive = taken.named(&["-r"]);
        for field in &taken.operands {
            self.file(&mut run, FileVerb::Read, field, recursive);
            if restores && !looks && !prints {
                self.file(&mut run, FileVerb::Write, &restored(field), recursive);
            }
        }
        self.listed(program, program, run, 1)
    }

    /// `split` and `csplit` write files whose names begin as they are told.
    pub(super) fn split(&mut self, program: &str, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec(program) else {
            return self.unfamiliar(program, run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), true);
        let start = match program {
            "split" => taken.operands.get(1),
            _ => taken.value(&["-f"]),
        };
        if let Some(start) = start {
            let mut names = start.clone();
            push(&mut names.pieces, Piece::Glob("*".into()));
            self.file(&mut run, FileVerb::Write, &names, false);
        }
        self.listed(program, program, run, 1)
    }
}

/// The name with something behind it.
fn followed(field: &Field, suffix: &Field) -> Field {
    let mut field = field.clone();
    field.many |= suffix.many;
    for piece in &suffix.pieces {
        push(&mut field.pieces, piece.clone());
    }
    field
}

/// The name without its last extension.
fn restored(field: &Field) -> Field {
    let mut field = field.clone();
    if let Some(Piece::Text(text)) = field.pieces.last_mut()
        && let Some(dot) = text.rfind('.')
    {
        text.truncate(dot);
    }
    field
}
