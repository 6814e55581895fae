//! What programs do with their arguments: a table, and code for those that no table can tell of.
//!
//! A program that is in neither is unfamiliar, and so is one with an option that the table does not
//! list: nothing is taken for harmless that is not known to be.

mod archive;
mod awk;
mod files;
mod find;
mod host;
mod interpreters;
mod options;
mod remote;
mod sed;
mod shells;
mod transfer;
mod users;
mod wrappers;

use std::collections::HashMap;

use super::builtins;
use super::facts::{FileVerb, ShellFlag, Stdin};
use super::field::{Field, Path, Piece};
use super::paths::{self, Places};
use super::walk::{Dark, Run, Walk};
use options::{Effect, Operands, Spec, Taken};
pub(super) use wrappers::joined;

const TABLE: &str = include_str!("table.txt");

#[derive(Debug)]
pub(super) struct Programs {
    specs: HashMap<String, Spec>,
    pub places: Places,
}

impl Programs {
    pub(super) fn new() -> Self {
        Self {
            specs: options::table(TABLE).into_iter().collect(),
            places: Places::new(),
        }
    }

    fn spec(&self, name: &str) -> Option<&Spec> {
        self.specs.get(name)
    }

    /// Whether the table has an entry for this program's subcommand.
    pub(in crate::decide::shell) fn has_subcommand(&self, program: &str, word: &str) -> bool {
        !word.contains(' ') && self.specs.contains_key(&format!("{program} {word}"))
    }
}

const UNKNOWN_PROGRAM: &str = "which program runs is not known";

impl Walk<'_> {
    /// Looks a program up, and notes what it does. Shell functions and built-ins are not meant.
    pub(super) fn run(&mut self, run: Run) -> Result<(), Dark> {
        self.deeper(|walk| walk.run_program(run))
    }

    fn run_program(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(name) = run.argv.first().and_then(Field::known) else {
            run.flag(ShellFlag::Opaque, UNKNOWN_PROGRAM);
            return self.push(None, run);
        };
        // What a program that runs another took for its own option, or did not; an assignment
        // behind `time`; what is a word of some shell's grammar.
        let word = matches!(&*name, "!" | "repeat" | "foreach" | "nocorrect");
        if name.starts_with('-') || name.contains('=') || word {
            run.flag(ShellFlag::Opaque, UNKNOWN_PROGRAM);
            return self.push(None, run);
        }
        let mut program = name.as_str();
        if let Some((_, last)) = name.rsplit_once('/') {
            let system = |folder: &Vec<_>| {
                let path = Path::new(folder, &[Piece::Text(name.clone())]);
                paths::is_system(&path)
            };
            if !self.state.folder.iter().all(system) || last.is_empty() {
                let field = Field::text(&name);
                self.file(&mut run, FileVerb::Execute, &field, false);
                run.flag(
                    ShellFlag::Unfamiliar,
                    "the program is not one of the system's",
                );
                return self.push(Some(name), run);
            }
            program = last;
        }
        let program = program.to_owned();
        self.named(&program, run)
    }

    fn named(&mut self, program: &str, run: Run) -> Result<(), Dark> {
        match program {
            "busybox" | "toybox" if run.argv.len() > 1 => self.applet(program, run),
            "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "ksh93" | "mksh" | "rbash" => {
                self.shell(program, run)
            }
            "sudo" | "doas" | "pkexec" => self.sudo(program, run),
            "su" | "runuser" => self.su(program, run),
            "env" => self.env(run),
            "xargs" => self.xargs(run),
            "parallel" => self.opaque(program, run, "what parallel runs is not known"),
            "watch" => self.watch(run),
            "find" => self.find(run),
            "sed" => self.sed(run),
            "awk" | "gawk" | "mawk" | "nawk" => self.awk(program, run),
            "tar" => self.tar(run),
            "dd" => self.dd(run),
            "rsync" => self.rsync(run),
            "ssh" => self.ssh(run),
            "docker" | "podman" | "kubectl" if self.runs_inside(program, &run) => {
                self.container(program, run)
            }
            "cp" | "mv" | "ln" | "install" => self.copy(program, run),
            "gzip" | "bzip2" | "xz" | "zstd" | "lz4" | "compress" | "gunzip" | "bunzip2"
            | "unxz" | "unzstd" | "uncompress" => self.compress(program, run),
            "split" | "csplit" => self.split(program, run),
            "mount" => self.mount(run),
            "jq" => self.jq(run),
            "tee" => self.tee(run),
            "crontab" => self.crontab(run),
            "date" => self.date(run),
            "getent" => self.getent(run),
            "top" => self.top(run),
            "curl" => self.curl(run),
            "git" => self.git(run),
            "service" => self.service(run),
            "ps" => self.ps(run),
            _ if interpreters::is_interpreter(program) => self.interpreter(program, run),
            _ => self.listed(program, program, run, 1),
        }
    }

    fn applet(&mut self, program: &str, mut run: Run) -> Result<(), Dark> {
        let first = run.argv.get(1).and_then(Field::known);
        match first.as_deref() {
            Some("--list" | "--list-full" | "--help" | "--version") => {
                return self.push(Some(program.to_owned()), run);
            }
            // `--install` makes links.
            Some(option) if option.starts_with('-') => {
                return self.opaque(program, run, "one of its options is not known");
            }
            _ => {}
        }
        run.argv.remove(0);
        let mut around = self.around.clone();
        around.through.push(program.to_owned());
        self.apart(around, |walk| walk.run(run))
    }

    pub(super) fn opaque(&mut self, program: &str, mut run: Run, why: &str) -> Result<(), Dark> {
        run.flag(ShellFlag::Opaque, why);
        self.push(Some(program.to_owned()), run)
    }

    fn unfamiliar(&mut self, program: &str, mut run: Run, why: &str) -> Result<(), Dark> {
        run.flag(ShellFlag::Unfamiliar, why);
        self.push(Some(program.to_owned()), run)
    }

    /// By the table's entry for `key`, whose arguments begin at `from`.
    fn listed(&mut self, program: &str, key: &str, run: Run, from: usize) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec(key) else {
            let why = match key == program {
                true => format!("hoop does not know what {program} does"),
                false => format!("hoop does not know what {key} does"),
            };
            return self.unfamiliar(program, run, &why);
        };
        let arguments = run.argv.get(from..).unwrap_or_default().to_vec();
        match &spec.operands {
            Operands::Subcommand => {
                let taken = spec.take(&arguments, false);
                let mut run = run;
                run.unpaged |= key == "git" && taken.named(&["-P"]);
                self.apply(spec, &taken, &mut run);
                let Some(sub) = taken.operands.first() else {
                    return match key {
                        "git stash" => self.unfamiliar(program, run, "it puts changes away"),
                        "systemctl" | "loginctl" => {
                            self.listed(program, &format!("{key} {}", bare(key)), run, usize::MAX)
                        }
                        _ => self.push(Some(program.to_owned()), run),
                    };
                };
                let Some(sub) = sub.known() else {
                    return self.opaque(program, run, "which of its commands runs is not known");
                };
                let at = run.argv.len() - taken.operands.len();
                self.listed(program, &format!("{key} {sub}"), run, at + 1)
            }
            Operands::Wraps(own) => self.wrapped(program, spec, *own, run),
            _ => {
                let taken = spec.take(&arguments, true);
                let mut run = run;
                self.apply(spec, &taken, &mut run);
                self.operands(spec, &taken, &mut run);
                self.packages(key, &taken, &mut run);
                self.push(Some(program.to_owned()), run)
            }
        }
    }

    /// Notes what options do.
    fn apply(&self, spec: &Spec, taken: &Taken, run: &mut Run) {
        run.unpaged |= taken.named(&["--no-pager"]);
        if self.terminal && spec.pages && !run.unpaged {
            run.flag(
                ShellFlag::Opaque,
                "its pager runs what is typed, as there is a terminal: --no-pager prevents it",
            );
        }
        for flag in &spec.flags {
            run.flag(*flag, "");
        }
        if spec.flags.contains(&ShellFlag::Unfamiliar) || spec.flags.contains(&ShellFlag::Opaque) {
            run.flag(
                ShellFlag::Unfamiliar,
                "what it does with its arguments is not followed",
            );
        }
        if let Some(option) = &taken.unlisted
            && (!spec.any || taken.short_for)
        {
            let why = format!("hoop does not know its option {option}");
            run.flag(ShellFlag::Unfamiliar, &why);
        }
        if taken.perhaps && !spec.is_harmless() {
            run.flag(
                ShellFlag::Unresolved,
                "an argument that may be an option is not known",
            );
        }
        for (name, effects, value) in &taken.options {
            for effect in effects {
                match (effect, value) {
                    (Effect::Pattern, Some(field)) if name == "-f" || name == "--file" => {
                        self.file(run, FileVerb::Read, field, false);
                    }
                    (Effect::File(verb), Some(field)) => self.file(run, *verb, field, false),
                    (Effect::Flag(ShellFlag::Opaque), _) => {
                        run.flag(ShellFlag::Opaque, "one of its options runs code");
                    }
                    (Effect::Flag(flag), _) => run.flag(*flag, ""),
                    _ => {}
                }
            }
        }
    }

    fn operands(&self, spec: &Spec, taken: &Taken, run: &mut Run) {
        let recursive = spec.recursive || taken.recursive();
        let mut operands = taken.operands.as_slice();
        match &spec.operands {
            Operands::None => {
                if !operands.is_empty() {
                    run.flag(
                        ShellFlag::Unfamiliar,
                        "what it does with an operand is not known",
                    );
                }
            }
            Operands::First(first, rest) => {
                if !taken.has(|effect| *effect == Effect::Pattern)
                    && let Some((field, others)) = operands.split_first()
                {
                    if field.many && first != rest {
                        run.flag(
                            ShellFlag::Unresolved,
                            "which of its operands is which is not known",
                        );
                    }
                    if let Some(verb) = first {
                        self.file(run, *verb, field, recursive);
                    }
                    operands = others;
                }
                for field in operands {
                    if let Some(verb) = rest {
                        self.file(run, *verb, field, recursive);
                    }
                }
                // `grep -r x` reads the folder that it runs in; `rg x` does where nothing is piped
                // into it.
                let piped = spec.recursive && self.around.stdin != Stdin::Session;
                if recursive
                    && !piped
                    && operands.is_empty()
                    && (*first, *rest) == (None, Some(FileVerb::Read))
                {
                    self.file(run, FileVerb::Read, &Field::text("."), true);
                }
            }
            Operands::Last(rest, last) => {
                let named = |effects: &[Effect]| effects.contains(&Effect::File(*last));
                let to = taken.options.iter().find(|(_, effects, _)| named(effects));
                let mut to = to.and_then(|(_, _, value)| value.clone());
                if to.is_none()
                    && let Some((field, others)) = operands.split_last()
                {
                    if field.many {
                        run.flag(
                            ShellFlag::Unresolved,
                            "which of its operands is which is not known",
                        );
                    }
                    self.file(run, *last, field, false);
                    to = Some(field.clone());
                    operands = others;
                }
                let into = to.filter(|_| !taken.named(&["-T", "--no-target-directory"]));
                for field in operands {
                    self.file(run, *rest, field, recursive);
                    // Where the last is a folder, this is what is written.
                    if let Some(folder) = &into {
                        self.file(run, *last, &folder.holding(field), false);
                    }
                }
            }
            Operands::Subcommand | Operands::Wraps(_) => {}
        }
    }

    /// `cp` and its like with one operand, or with options that the table cannot tell apart.
    fn copy(&mut self, program: &str, mut run: Run) -> Result<(), Dark> {
        if program == "install" {
            let folders = |f: &Field| f.known().is_some_and(|a| a == "-d" || a == "--directory");
            if run.argv.iter().any(folders) {
                return self.unfamiliar(program, run, "install -d is not followed");
            }
        }
        let Some(spec) = self.programs.spec(program) else {
            return self.unfamiliar(program, run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), true);
        let links = taken.named(&["-l", "--link", "-s", "--symbolic-link"]);
        if program == "ln" || (program == "cp" && links) {
            self.linked(&taken, &mut run);
        }
        self.backups(&taken, &mut run);
        self.parents(&taken, &mut run);
        if program == "mv" {
            // Under another name it may be read by whoever could not under this.
            let into = taken.value(&["-t", "--target-directory"]).is_some();
            let sources = taken.operands.len() - usize::from(!into).min(taken.operands.len());
            for source in taken.operands.iter().take(sources) {
                self.file(&mut run, FileVerb::Read, source, false);
            }
        }
        if taken.operands.len() == 1 && program == "ln" {
            // The link is made here, under the same name.
            self.file(&mut run, FileVerb::Create, &Field::text("."), false);
            return self.push(Some(program.to_owned()), run);
        }
        self.listed(program, program, run, 1)
    }

    /// What a link leads to, and all below it, is from then on read and written under names that
    /// say nothing of it.
    fn linked(&self, taken: &Taken, run: &mut Run) {
        let folder = taken.value(&["-t", "--target-directory"]).cloned();
        let (sources, link) = match (folder, taken.operands.as_slice()) {
            (Some(folder), all) => (all, Some(folder)),
            (None, [rest @ .., last]) if !rest.is_empty() => (rest, Some(last.clone())),
            (None, all) => (all, None),
        };
        for source in sources {
            let mut places = vec![source.clone()];
            let rooted = source.prefix().starts_with('/')
                || matches!(source.pieces.first(), Some(Piece::Home(_)));
            if let Some(link) = link.as_ref().filter(|_| !rooted) {
                // A symbolic link's path begins where the link is: there, or in that folder.
                places.extend(link.parent().map(|folder| folder.joined(source)));
                places.push(link.joined(source));
            }
            for place in &places {
                self.file(run, FileVerb::Read, place, true);
                self.file(run, FileVerb::Append, place, false);
            }
        }
    }

    fn tee(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("tee") else {
            return self.unfamiliar("tee", run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), true);
        self.apply(spec, &taken, &mut run);
        let appends = taken.named(&["-a", "--append"]);
        let verb = match appends {
            true => FileVerb::Append,
            false => FileVerb::Write,
        };
        for field in &taken.operands {
            self.file(&mut run, verb, field, false);
        }
        self.push(Some("tee".into()), run)
    }

    /// An operand that is no format sets the clock.
    fn date(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("date") else {
            return self.unfamiliar("date", run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), true);
        if taken
            .operands
            .iter()
            .any(|field| !field.prefix().starts_with('+'))
        {
            run.flag(ShellFlag::Administers, "");
        }
        self.listed("date", "date", run, 1)
    }

    /// Some of its databases hold passwords.
    fn getent(&mut self, mut run: Run) -> Result<(), Dark> {
        let secret = |field: &Field| {
            let known = field.known();
            known.is_none_or(|name| name == "shadow" || name == "gshadow")
        };
        if run.argv.iter().skip(1).any(secret) {
            run.flag(ShellFlag::ReadsSecrets, "");
        }
        self.push(Some("getent".into()), run)
    }

    /// It takes commands unless it is told not to.
    fn top(&mut self, run: Run) -> Result<(), Dark> {
        let batch = run
            .argv
            .get(1)
            .is_some_and(|field| field.prefix().starts_with("-b"));
        match batch {
            true => self.listed("top", "top", run, 1),
            false => self.opaque("top", run, "what is typed into it is not decided"),
        }
    }

    /// `ps e` shows the environments of processes, where secrets are.
    fn ps(&mut self, mut run: Run) -> Result<(), Dark> {
        const LONG: &[&str] = &[
            "--sort",
            "--format",
            "--pid",
            "--ppid",
            "--quick-pid",
            "--user",
            "--group",
            "--tty",
        ];
        // A letter that takes a value takes the rest of the word, or the next one.
        let letters = |word: &str, valued: &str| match word.find(|c| valued.contains(c)) {
            Some(at) => (
                word.get(..at).unwrap_or_default().contains('e'),
                at + 1 == word.len(),
            ),
            None => (word.contains('e'), false),
        };
        let mut valued = false;
        for field in run.argv.get(1..).unwrap_or_default().to_vec() {
            let known = field.known();
            let Some(word) = known.as_deref().filter(|_| !valued) else {
                if !valued || field.many {
                    run.flag(ShellFlag::Unresolved, "one of its options is not known");
                }
                valued = false;
                continue;
            };
            if word.starts_with("--") {
                valued = LONG.contains(&word);
            } else if let Some(word) = word.strip_prefix('-') {
                (_, valued) = letters(word, "CGgOopqstuUk");
            } else {
                let shows;
                (shows, valued) = letters(word, "okptUOq");
                if shows {
                    run.flag(ShellFlag::ReadsSecrets, "");
                }
            }
        }
        self.listed("ps", "ps", run, 1)
    }

    /// Its program may begin with modules that it reads.
    fn jq(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("jq") else {
            return self.unfamiliar("jq", run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), true);
        let modules = |field: &Field| {
            let text = |piece: &Piece| match piece {
                Piece::Text(text) => text.contains("import") || text.contains("include"),
                _ => false,
            };
            field.many
                || matches!(field.pieces.first(), Some(Piece::Unknown))
                || field.pieces.iter().any(text)
        };
        if taken.operands.first().is_some_and(modules) {
            run.flag(
                ShellFlag::Unresolved,
                "which modules its program reads is not followed",
            );
        }
        self.listed("jq", "jq", run, 1)
    }

    /// `git diff` compares any two files, those of the folder that `-C` names.
    fn git(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("git") else {
            return self.unfamiliar("git", run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), false);
        let folders = taken.options.iter().filter(|(name, _, _)| name == "-C");
        let folders: Vec<_> = folders.filter_map(|(_, _, to)| to.clone()).collect();
        let around = self.around.clone();
        self.apart(around, |walk| {
            for to in &folders {
                walk.state.folder = builtins::within(&walk.state.folder, to);
            }
            // `git diff` and `git grep` show what lies there.
            if let Some(tree) = taken.value(&["--work-tree"]) {
                walk.file(&mut run, FileVerb::Read, tree, true);
            }
            walk.listed("git", "git", run, 1)
        })
    }

    /// Its operand is a script's name, which may lead out of the folder of scripts.
    fn service(&mut self, mut run: Run) -> Result<(), Dark> {
        let plain = |field: &Field| field.known().is_some_and(|name| !name.contains('/'));
        if !run.argv.iter().skip(1).take(1).all(plain) {
            run.flag(ShellFlag::Unfamiliar, "which script runs is not known");
        }
        self.listed("service", "service", run, 1)
    }

    /// `crontab -l` shows; anything else sets what runs later.
    fn crontab(&mut self, run: Run) -> Result<(), Dark> {
        let arguments: Option<Vec<_>> = run.argv.iter().skip(1).map(Field::known).collect();
        let arguments = arguments.unwrap_or_default();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        if matches!(arguments.as_slice(), ["-l"]) {
            return self.push(Some("crontab".into()), run);
        }
        let mut run = run;
        run.flags.extend([
            ShellFlag::Persistent,
            ShellFlag::Deletes,
            ShellFlag::WritesFiles,
        ]);
        self.opaque("crontab", run, "what runs later is not seen")
    }
}

/// What it does without a command.
fn bare(program: &str) -> &'static str {
    match program {
        "loginctl" => "list-sessions",
        _ => "list-units",
    }
}

#[cfg(test)]
pub(super) fn names() -> Vec<String> {
    let specs = options::table(TABLE);
    let mut names: Vec<_> = specs.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}
