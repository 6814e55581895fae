//! `tar`, `dd` and `rsync`, whose arguments no table can tell of.

use crate::decide::shell::facts::{FileVerb, ShellFlag};
use crate::decide::shell::field::{Field, Likeness, Piece};
use crate::decide::shell::walk::{Dark, Run, Walk};

impl Walk<'_> {
    pub(super) fn tar(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("tar") else {
            return self.unfamiliar("tar", run, "");
        };
        let mut arguments = run.argv.get(1..).unwrap_or_default().to_vec();
        if let Some(first) = arguments.first_mut() {
            // The old form: letters without a dash, whose arguments follow in their order.
            if let Some(text) = first.known().filter(|_| first.option() == Likeness::No) {
                let valued = text.chars().filter(|c| "fCTXbg".contains(*c)).count();
                if valued > 1 || (valued == 1 && !text.ends_with(|c| "fCTXbg".contains(c))) {
                    let (plain, with): (String, String) =
                        text.chars().partition(|c| !"fCTXbg".contains(*c));
                    if valued > 1 || with.is_empty() {
                        return self.unfamiliar(
                            "tar",
                            run,
                            "the old form of its options is not followed",
                        );
                    }
                    *first = Field::text(&format!("-{plain}{with}"));
                } else {
                    *first = Field::text(&format!("-{text}"));
                }
            }
        }
        let taken = spec.take(&arguments, true);
        self.apply(spec, &taken, &mut run);
        if taken.unlisted.is_some() {
            return self.unfamiliar("tar", run, "one of its options is not known");
        }
        if taken.perhaps {
            run.flag(
                ShellFlag::Opaque,
                "an argument may be an option that runs a program",
            );
        }
        let archive = taken.value(&["-f", "--file"]).cloned();
        if let Some(archive) = &archive
            && archive.known().is_none_or(|name| name.contains(':'))
        {
            // On another host, through a program.
            run.flag(ShellFlag::Opaque, "the archive may be on another host");
        }
        let archive = archive.filter(|field| field.known().is_none_or(|name| name != "-"));
        let options = taken.options.iter().zip(&taken.before);
        let folders: Vec<_> = options
            .filter(|((name, _, _), _)| matches!(&**name, "-C" | "--directory"))
            .filter_map(|((_, _, folder), before)| Some((folder.clone()?, *before)))
            .collect();
        if folders.len() > 1 {
            run.flag(
                ShellFlag::Unresolved,
                "which of its files is in which folder is not followed",
            );
        }
        if taken.named(&["-T", "--files-from"]) {
            run.flag(ShellFlag::Unresolved, "which files it takes is not seen");
        }
        let extracts = taken.named(&["-x", "--extract", "--get"]);
        let to_stdout = taken.named(&["-O", "--to-stdout"]);
        let writes = taken.named(&["-c", "--create", "-r", "--append", "-u", "--update", "-A"]);
        if let Some(archive) = &archive {
            let verb = match writes {
                true => FileVerb::Write,
                false => FileVerb::Read,
            };
            self.file(&mut run, verb, archive, false);
        }
        if extracts && !to_stdout {
            if taken.named(&["-P", "--absolute-names"]) {
                run.flag(ShellFlag::Unresolved, "it writes wherever the archive says");
            }
            if folders.is_empty() {
                self.file(&mut run, FileVerb::Write, &Field::text("."), true);
            }
            for (folder, _) in &folders {
                self.file(&mut run, FileVerb::Write, folder, true);
            }
        }
        if writes {
            for (at, field) in taken.operands.iter().enumerate() {
                let rooted = field.prefix().starts_with('/')
                    || matches!(field.pieces.first(), Some(Piece::Home(_)));
                // A folder counts for what comes after it.
                let inside = folders
                    .iter()
                    .filter(|(_, before)| *before <= at && !rooted);
                let inside: Vec<_> = inside.map(|(folder, _)| folder.joined(field)).collect();
                for field in &inside {
                    self.file(&mut run, FileVerb::Read, field, true);
                }
                if inside.is_empty() {
                    self.file(&mut run, FileVerb::Read, field, true);
                }
            }
        }
        if !extracts && !writes && !taken.named(&["-t", "--list", "-d"]) {
            run.flag(ShellFlag::Unfamiliar, "what it does is not said");
        }
        self.push(Some("tar".into()), run)
    }

    pub(super) fn dd(&mut self, mut run: Run) -> Result<(), Dark> {
        for field in run.argv.get(1..).unwrap_or_default().to_vec() {
            let Some((name, _)) = field.prefix().split_once('=') else {
                if field
                    .known()
                    .is_none_or(|text| text != "--version" && text != "--help")
                {
                    run.flag(ShellFlag::Unresolved, "one of its operands is not known");
                }
                continue;
            };
            let value = field.after(name.len() + 1);
            match name {
                "if" => self.file(&mut run, FileVerb::Read, &value, false),
                "of" => self.file(&mut run, FileVerb::Write, &value, false),
                "bs" | "ibs" | "obs" | "count" | "skip" | "seek" | "conv" | "status" | "iflag"
                | "oflag" | "cbs" | "iseek" | "oseek" => {}
                _ => run.flag(ShellFlag::Unfamiliar, "one of its operands is not known"),
            }
        }
        self.push(Some("dd".into()), run)
    }

    pub(super) fn rsync(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("rsync") else {
            return self.unfamiliar("rsync", run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), true);
        self.apply(spec, &taken, &mut run);
        if taken.perhaps {
            run.flag(
                ShellFlag::Opaque,
                "an argument may be an option that runs a program",
            );
        }
        let remote = |field: &Field| {
            let colon = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(':'));
            field.pieces.iter().any(colon)
        };
        let perhaps = |field: &Field| field.many || field.has_unknown();
        if taken.operands.iter().any(|f| remote(f) || perhaps(f)) {
            run.flags.extend([ShellFlag::Network, ShellFlag::Elsewhere]);
        }
        if let Some((last, sources)) = taken.operands.split_last() {
            for source in sources.iter().filter(|field| !remote(field)) {
                self.file(&mut run, FileVerb::Read, source, true);
            }
            if !remote(last) && !sources.is_empty() {
                self.file(&mut run, FileVerb::Write, last, true);
            }
        }
        self.push(Some("rsync".into()), run)
    }
}
