//! `tests/corpus/shell.txt` and `shell-evasions.txt`: what runs, what stands out, and what the packs say.

use super::Shell;
use crate::decide::tests::on_host;
use crate::decide::{Decider, ShellFacts};

struct Line {
    class: String,
    flags: Option<Vec<String>>,
    programs: Option<Vec<String>>,
    text: String,
}

fn lines() -> Vec<Line> {
    let corpus = [
        include_str!("../../../../tests/corpus/shell.txt"),
        include_str!("../../../../tests/corpus/shell-evasions.txt"),
    ];
    let lines = corpus
        .iter()
        .flat_map(|file| file.lines())
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines = lines.map(|line| {
        let mut parts = line.splitn(3, '|');
        let mut class = parts.next().unwrap().split_whitespace();
        let programs = parts.next().unwrap().trim();
        let words = |text: &str, by: &[char]| {
            let mut words: Vec<_> = text
                .split(by)
                .filter(|w| !w.is_empty())
                .map(str::to_owned)
                .collect();
            words.sort();
            words
        };
        Line {
            class: class.next().unwrap().to_owned(),
            flags: class.next().map(|flags| words(flags, &[','])),
            programs: (programs != "*").then(|| words(programs, &[' '])),
            text: parts.next().unwrap()[1..]
                .replace('⏎', "\n")
                .replace('⇥', "\t"),
        }
    });
    lines.collect()
}

fn verdict(decider: &Decider, text: &str) -> &'static str {
    let explained = decider.explain_exec(&on_host(), text);
    match (explained.refusal, explained.asks) {
        (None, _) => "allow",
        (Some(_), true) => "ask",
        (Some(_), false) => "refuse",
    }
}

fn wrong(line: &Line, facts: &ShellFacts, verdicts: [&str; 3]) -> Option<String> {
    let expected = match &*line.class {
        "read" => ["allow", "allow", "allow"],
        "add" => ["refuse", "ask", "allow"],
        "change" => ["refuse", "ask", "refuse"],
        "unclear" => ["refuse", "refuse", "refuse"],
        other => panic!("{other} is no class"),
    };
    let flags: Vec<String> = facts.flags.iter().map(|f| f.as_str().to_owned()).collect();
    let mut sorted = flags.clone();
    sorted.sort();
    let right = verdicts == expected
        && line.flags.as_ref().is_none_or(|flags| *flags == sorted)
        && line
            .programs
            .as_ref()
            .is_none_or(|programs| *programs == facts.programs);
    (!right).then(|| {
        format!(
            "{:?}: {verdicts:?}, runs {:?}, flags {flags:?}, {:?}",
            line.text, facts.programs, facts.unparsable
        )
    })
}

#[test]
fn every_line() {
    let lines = lines();
    assert!(lines.len() >= 1_700, "{}", lines.len());
    let shell = Shell::new();
    let packs = ["read-only", "ask-before-write", "no-destroy"];
    let deciders = packs.map(|pack| crate::decide::tests::decider(&[pack], &[], &[]));
    let mut all = Vec::new();
    for line in &lines {
        let facts = shell.facts(&line.text, false);
        let verdicts = [0, 1, 2].map(|at| verdict(&deciders[at], &line.text));
        all.extend(wrong(line, &facts, verdicts).map(|w| format!("{} {w}", line.class)));
    }
    assert!(
        all.is_empty(),
        "{} of {}:\n{}",
        all.len(),
        lines.len(),
        all.join("\n")
    );
}
