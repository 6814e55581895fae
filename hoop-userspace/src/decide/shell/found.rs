//! What is kept of a command: its files, and what stands out.

use std::collections::BTreeSet;

use super::facts::{FileAccess, FileVerb, ShellCommand, ShellFlag};
use super::field::{Field, Path, Piece, Scalar};
use super::paths;
use super::walk::{Dark, Run, Walk};

/// Different commands found.
const MOST_COMMANDS: usize = 512;

impl Walk<'_> {
    /// Notes what is done to a file, and what that means.
    pub(super) fn file(&self, run: &mut Run, verb: FileVerb, field: &Field, recursive: bool) {
        // Standard input.
        if verb == FileVerb::Read && field.known().is_some_and(|name| name == "-") {
            return;
        }
        let below = field.pieces.contains(&Piece::Below);
        let upto = field
            .pieces
            .iter()
            .take_while(|piece| **piece != Piece::Below);
        let pieces: Scalar = upto.cloned().collect();
        for folder in &self.state.folder {
            // What is left out here is not decided: the text ends unknown.
            if self.spend().is_err() {
                return;
            }
            let path = Path::new(folder, &pieces);
            if self.spend_bytes(path.cost()).is_err() {
                return;
            }
            self.path(run, verb, &path, recursive || below);
        }
    }

    fn path(&self, run: &mut Run, verb: FileVerb, path: &Path, recursive: bool) {
        let writes = !matches!(verb, FileVerb::List | FileVerb::Read | FileVerb::Execute);
        if paths::is_network(path) {
            run.flag(ShellFlag::Network, "");
        }
        let passes = matches!(
            verb,
            FileVerb::List | FileVerb::Read | FileVerb::Create | FileVerb::Append | FileVerb::Write
        );
        if passes && paths::is_sink(path) {
            if let Some(number) = paths::descriptor(path) {
                self.descriptors.uses(number, verb);
            }
            return;
        }
        // What is read by way of /proc counts as a secret.
        let leads = paths::leads_on(path);
        if leads && (writes || verb == FileVerb::Read && path.show().starts_with("/dev/")) {
            run.flag(
                ShellFlag::Unresolved,
                "a path leads on through a descriptor or a process",
            );
        }
        if path.unknown {
            run.flag(ShellFlag::Unresolved, "a path is not known");
        }
        if path.climbs && verb != FileVerb::List {
            run.flag(
                ShellFlag::Unresolved,
                "a path goes up by .. and a link may lead it elsewhere",
            );
        }
        let places = &self.programs.places;
        let read = verb == FileVerb::Read && !path.unknown && !paths::is_network(path);
        if read && places.secret(path, recursive) {
            run.flag(ShellFlag::ReadsSecrets, "");
        }
        if writes {
            run.flags.insert(ShellFlag::WritesFiles);
            let below = recursive && verb == FileVerb::Write;
            if places.starts(path) || below && places.starts_below(path) {
                run.flags.insert(ShellFlag::Persistent);
            }
        }
        match verb {
            FileVerb::Delete | FileVerb::Write => {
                run.flags.insert(ShellFlag::Deletes);
            }
            FileVerb::Change => {
                run.flags.insert(ShellFlag::Grants);
            }
            _ => {}
        }
        let mut shown = path.show();
        if recursive {
            shown = format!("{}/**", shown.trim_end_matches('/'));
        }
        let access = FileAccess {
            verb,
            path: shown,
            exact: path.exact && !recursive,
            secret: places.secret(path, recursive),
        };
        if !run.files.contains(&access) {
            run.files.push(access);
        }
    }

    /// Keeps a command that was found.
    pub(super) fn push(&mut self, program: Option<String>, run: Run) -> Result<(), Dark> {
        let path = run
            .argv
            .first()
            .and_then(Field::known)
            .filter(|path| path.contains('/'));
        let mut flags: BTreeSet<_> = run.flags.union(&self.around.flags).copied().collect();
        if self.around.user.is_some() {
            flags.insert(ShellFlag::Privileged);
        }
        if self.state.exports && !run.argv.is_empty() {
            flags.insert(ShellFlag::Environment);
        }
        let mut files = run.files;
        files.sort();
        files.dedup();
        let line = line(&run.argv);
        self.spend_bytes(line.len())?;
        let command = ShellCommand {
            program,
            path,
            argv: run.argv.iter().map(|field| field.known()).collect(),
            line,
            user: self.around.user.clone(),
            through: self.around.through.clone(),
            stdin: self.around.stdin,
            flags: flags.into_iter().collect(),
            files,
            why: run.why.or_else(|| self.around.why.clone()),
        };
        self.pushed += 1;
        if self.commands.contains(&command) {
            return Ok(());
        }
        if self.commands.len() >= MOST_COMMANDS {
            return Err(Dark("it runs too many commands"));
        }
        self.commands.push(command);
        Ok(())
    }
}

/// Arguments as one line that a shell would read as the same.
fn line(argv: &[Field]) -> String {
    let words = argv.iter().map(|field| {
        let shown = field.show();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,~<>?*".contains(c);
        match field.known() {
            Some(text) if text.is_empty() || !text.chars().all(plain) => {
                format!("'{}'", text.replace('\'', "'\\''"))
            }
            _ => shown,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
