//! `find`: tests that only look, and actions that do not.

use crate::decide::shell::facts::{FileVerb, ShellFlag, Stdin};
use crate::decide::shell::field::{Field, Likeness, Piece};
use crate::decide::shell::walk::{Dark, Run, Walk};

use super::users::inner_run;
use super::wrappers::replace;

/// Without an argument.
const ALONE: &[&str] = &[
    "(",
    ")",
    "!",
    ",",
    "-a",
    "-and",
    "-o",
    "-or",
    "-not",
    "-true",
    "-false",
    "-print",
    "-print0",
    "-ls",
    "-prune",
    "-quit",
    "-depth",
    "-d",
    "-daystart",
    "-follow",
    "-mount",
    "-xdev",
    "-empty",
    "-executable",
    "-readable",
    "-writable",
    "-nouser",
    "-nogroup",
    "-noleaf",
    "-warn",
    "-nowarn",
    "-ignore_readdir_race",
    "-noignore_readdir_race",
];

/// With one.
const WITH_ONE: &[&str] = &[
    "-name",
    "-iname",
    "-path",
    "-ipath",
    "-wholename",
    "-iwholename",
    "-regex",
    "-iregex",
    "-regextype",
    "-lname",
    "-ilname",
    "-type",
    "-xtype",
    "-size",
    "-mtime",
    "-atime",
    "-ctime",
    "-mmin",
    "-amin",
    "-cmin",
    "-newer",
    "-anewer",
    "-cnewer",
    "-user",
    "-group",
    "-uid",
    "-gid",
    "-perm",
    "-links",
    "-inum",
    "-samefile",
    "-maxdepth",
    "-mindepth",
    "-fstype",
    "-used",
    "-printf",
    "-newermt",
    "-newerct",
    "-newerat",
    "-context",
];

/// With one, which is a file that is written.
const WRITES: &[&str] = &["-fprint", "-fprint0", "-fls"];

impl Walk<'_> {
    pub(super) fn find(&mut self, mut run: Run) -> Result<(), Dark> {
        let arguments = run.argv.get(1..).unwrap_or_default().to_vec();
        let mut words = arguments.iter().peekable();
        while words.next_if(|f| is(f, &["-H", "-L", "-P"])).is_some() {}
        let mut starts = Vec::new();
        while let Some(start) = words.next_if(|field| begins_path(field)) {
            starts.push(start.clone());
        }
        if starts.is_empty() {
            starts.push(Field::text("."));
        }
        for start in &starts {
            match start.option() {
                Likeness::Perhaps => run.flag(
                    ShellFlag::Unresolved,
                    "an argument that may be an action is not known",
                ),
                _ => self.file(&mut run, FileVerb::List, start, true),
            }
        }
        while let Some(field) = words.next() {
            let Some(word) = field.known() else {
                run.flag(ShellFlag::Opaque, "one of its actions is not known");
                return self.push(Some("find".into()), run);
            };
            match word.as_str() {
                word if ALONE.contains(&word) => {}
                word if WITH_ONE.contains(&word) => {
                    if words.next().is_some_and(|field| field.many) {
                        run.flag(
                            ShellFlag::Unresolved,
                            "an unquoted pattern may become an action",
                        );
                    }
                }
                word if WRITES.contains(&word) || word == "-fprintf" => {
                    if let Some(to) = words.next() {
                        self.file(&mut run, FileVerb::Write, to, false);
                    }
                    if word == "-fprintf" {
                        words.next();
                    }
                }
                "-delete" => {
                    for start in &starts {
                        self.file(&mut run, FileVerb::Delete, start, true);
                    }
                }
                action @ ("-exec" | "-execdir" | "-ok" | "-okdir") => {
                    let mut argv: Vec<Field> = Vec::new();
                    for field in words.by_ref() {
                        let last = argv.last().is_some_and(|f| is(f, &["{}"]));
                        if is(field, &[";"]) || (last && is(field, &["+"])) {
                            break;
                        }
                        argv.push(field.clone());
                    }
                    self.each(&starts, &argv, action.ends_with("dir"), &run)?;
                }
                word => {
                    let why = format!("hoop does not know find's {word}");
                    run.flag(ShellFlag::Unfamiliar, &why);
                }
            }
        }
        self.push(Some("find".into()), run)
    }

    /// The command that is run for what was found below each start.
    fn each(
        &mut self,
        starts: &[Field],
        argv: &[Field],
        in_folder: bool,
        outer: &Run,
    ) -> Result<(), Dark> {
        if argv.is_empty() {
            return Ok(());
        }
        for start in starts {
            let mut argv = argv.to_vec();
            // A name below a start that is known begins as the start does: it is no option.
            let clear = !start.has_unknown() && start.option() == Likeness::No && !in_folder;
            for field in &mut argv {
                let whole = is(field, &["{}"]);
                replace(field, "{}", &Piece::Unknown);
                if whole && clear {
                    field.pieces = start.pieces.clone();
                    field.pieces.push(Piece::Below);
                }
            }
            let mut around = self.wrapped_around("find", &Run::default());
            around
                .flags
                .extend(outer.flags.iter().filter(|f| **f == ShellFlag::Opaque));
            (around.stdin, around.input) = (Stdin::Session, None);
            let run = inner_run(&argv);
            self.apart(around, |walk| {
                if in_folder {
                    walk.state.folder = crate::decide::shell::state::unknown();
                }
                walk.run(run)
            })?;
        }
        Ok(())
    }
}

fn is(field: &Field, words: &[&str]) -> bool {
    field.known().is_some_and(|text| words.contains(&&*text))
}

/// Paths come before the first word that is an option, a parenthesis or a negation.
fn begins_path(field: &Field) -> bool {
    field.option() != Likeness::Yes && !is(field, &["(", ")", "!", ","])
}
