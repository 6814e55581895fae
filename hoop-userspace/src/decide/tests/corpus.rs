//! The specification of the facts and of each pack: what is found in, and said of, every statement
//! in `tests/corpus`.

use serde::Deserialize;

use super::*;
use crate::decide::sql::{Limits, Parser};

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Found {
    sql: String,
    verbs: Vec<String>,
    flags: Vec<String>,
    reads: Vec<String>,
    writes: Vec<String>,
    functions: Vec<String>,
    actions: Vec<String>,
    opaque: bool,
}

#[derive(Deserialize)]
struct Decided {
    sql: String,
    verdict: String,
    rules: Vec<String>,
}

fn lines<T: for<'a> Deserialize<'a>>(text: &str) -> Vec<T> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn strings<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn facts() {
    let parser = Parser::new(Limits::default());
    for expected in lines::<Found>(include_str!("../../../tests/corpus/facts.jsonl")) {
        let facts = parser.facts(&expected.sql);
        let accesses = facts.statements.iter().flat_map(|s| &s.accesses);
        let mut actions: Vec<_> = accesses.map(|a| a.action.to_string()).collect();
        actions.sort();
        actions.dedup();
        let found = Found {
            sql: expected.sql.clone(),
            verbs: strings(&facts.verbs),
            flags: facts.flags.iter().map(|f| f.as_str().to_owned()).collect(),
            reads: strings(&facts.reads),
            writes: strings(&facts.writes),
            functions: strings(&facts.functions),
            actions,
            opaque: facts.opaque,
        };
        assert_eq!(found, expected);
    }
}

fn pack(name: &str, text: &str) {
    let decider = decider(&[name], &[], &[]);
    let expected: Vec<Decided> = lines(text);
    assert!(expected.len() > 300);
    for line in expected {
        let explained = decider.explain(&subject(), super::text(&line.sql));
        let rules: Vec<_> = explained.rules.iter().map(|r| r.0.to_string()).collect();
        assert_eq!(
            verdict(&decider, &line.sql),
            line.verdict,
            "{name}: {}",
            line.sql
        );
        assert_eq!(rules, line.rules, "{name}: {}", line.sql);
    }
}

#[test]
fn read_only() {
    pack(
        "read-only",
        include_str!("../../../tests/corpus/read-only.jsonl"),
    );
}

#[test]
fn no_destroy() {
    pack(
        "no-destroy",
        include_str!("../../../tests/corpus/no-destroy.jsonl"),
    );
}

#[test]
fn ask_before_write() {
    pack(
        "ask-before-write",
        include_str!("../../../tests/corpus/ask-before-write.jsonl"),
    );
}

#[test]
fn sql_starter() {
    pack(
        "sql-starter",
        include_str!("../../../tests/corpus/sql-starter.jsonl"),
    );
}
