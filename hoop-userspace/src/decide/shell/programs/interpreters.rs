//! Interpreters of other languages: their code is not read.

use crate::decide::shell::facts::{FileVerb, ShellFlag};
use crate::decide::shell::field::{Field, Likeness};
use crate::decide::shell::walk::{Dark, Run, Walk};

const NAMES: &[&str] = &[
    "python",
    "pypy",
    "perl",
    "ruby",
    "irb",
    "node",
    "nodejs",
    "deno",
    "bun",
    "php",
    "lua",
    "luajit",
    "tclsh",
    "wish",
    "guile",
    "scheme",
    "racket",
    "ghci",
    "runghc",
    "R",
    "Rscript",
    "julia",
    "java",
    "groovy",
    "scala",
    "kotlin",
    "elixir",
    "iex",
    "erl",
    "escript",
    "ocaml",
    "fish",
    "csh",
    "tcsh",
    "pwsh",
    "powershell",
    "osascript",
    "m4",
    "gawk-lib",
    "jshell",
    "psh",
    "xonsh",
    "nu",
    "elvish",
    "octave",
];

pub(super) fn is_interpreter(program: &str) -> bool {
    let versionless =
        program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    NAMES.contains(&program) || NAMES.contains(&versionless)
}

impl Walk<'_> {
    pub(super) fn interpreter(&mut self, program: &str, mut run: Run) -> Result<(), Dark> {
        run.flag(ShellFlag::Interpreter, "");
        let first = run.argv.get(1).cloned();
        let text = first.as_ref().and_then(Field::known);
        let only = run.argv.len() == 2;
        match (first, text.as_deref()) {
            (_, Some("--version" | "-V" | "-v" | "--help" | "-h")) if only => {
                self.push(Some(program.to_owned()), run)
            }
            (_, Some("-m")) => self.unfamiliar(program, run, "what the module does is not seen"),
            (Some(script), text) if script.option() == Likeness::No && text != Some("-") => {
                self.file(&mut run, FileVerb::Execute, &script, false);
                self.unfamiliar(program, run, "what the script does is not seen")
            }
            _ => self.opaque(program, run, "the code that it runs is not read"),
        }
    }
}
