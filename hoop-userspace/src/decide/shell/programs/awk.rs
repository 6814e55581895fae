//! `awk`: a program that can only compute and print is told from one that may do more.

use crate::decide::shell::facts::{FileVerb, ShellFlag};
use crate::decide::shell::field::Likeness;
use crate::decide::shell::walk::{Dark, Run, Walk};

impl Walk<'_> {
    pub(super) fn awk(&mut self, program: &str, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("awk") else {
            return self.unfamiliar(program, run, "");
        };
        // What follows the program is its own.
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), false);
        self.apply(spec, &taken, &mut run);
        if taken.unlisted.is_some() || taken.perhaps {
            return self.opaque(program, run, "its options are not understood");
        }
        let mut operands = taken.operands.iter();
        let Some(text) = operands.next() else {
            return self.push(Some(program.to_owned()), run);
        };
        match text.known() {
            None => return self.opaque(program, run, "its program is not known"),
            Some(text) if !only_prints(&text) => {
                return self.opaque(program, run, "its program may write files or run commands");
            }
            Some(_) => {}
        }
        for field in operands {
            let assignment = field.prefix().split_once('=').is_some_and(|(name, _)| {
                name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            });
            if field.option() == Likeness::Perhaps {
                run.flag(ShellFlag::Unresolved, "a path is not known");
            }
            if !assignment {
                self.file(&mut run, FileVerb::Read, field, false);
            }
        }
        self.push(Some(program.to_owned()), run)
    }
}

/// Whether nothing in the text could write, run, or read other files than its operands. Where a string or a pattern begins is not
/// always clear in awk, so that they count like the rest.
fn only_prints(text: &str) -> bool {
    let text = text.replace("||", "");
    const OTHERWISE: &[&str] = &["system", "getline", "ARGV", "ARGC", "SYMTAB"];
    if text.contains(['|', '@', '`']) || OTHERWISE.iter().any(|word| text.contains(word)) {
        return false;
    }
    // `>` after a print writes a file; before any it compares.
    match text.find("print") {
        Some(print) => !text.get(print..).unwrap_or_default().contains('>'),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::only_prints;

    #[test]
    fn programs_that_only_print() {
        for text in [
            "{print $1}",
            "$3 > 100 {print $1, $2}",
            "NR==1 || /x/",
            "{s+=$1} END {print s}",
        ] {
            assert!(only_prints(text), "{text}");
        }
        let more = [
            "{print > \"f\"}",
            "{print | \"sh\"}",
            "BEGIN{system(\"id\")}",
            "BEGIN{\"id\"|getline x}",
            "{print \"}\" > \"f\"}",
            "@load \"x\"",
            "BEGIN {ARGV[1] = \"/etc/shadow\"; ARGC = 2} {print}",
            "BEGIN {SYMTAB[\"x\"] = 1}",
            "function f() {} {printf(\"a\") >> \"f\"}",
        ];
        for text in more {
            assert!(!only_prints(text), "{text}");
        }
    }
}
