//! The corpus in `tests/corpus/postgres`: what PostgreSQL does with a statement, against what is
//! found in its text. Its README says how a block reads.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use super::*;
use crate::decide::sql::{Limits, Parser};

const FAMILIES: &[(&str, &str)] = &[
    (
        "queries",
        include_str!("../../../tests/corpus/postgres/queries.txt"),
    ),
    (
        "writes",
        include_str!("../../../tests/corpus/postgres/writes.txt"),
    ),
    (
        "evasions",
        include_str!("../../../tests/corpus/postgres/evasions.txt"),
    ),
    (
        "functions",
        include_str!("../../../tests/corpus/postgres/functions.txt"),
    ),
    (
        "names",
        include_str!("../../../tests/corpus/postgres/names.txt"),
    ),
    (
        "sessions",
        include_str!("../../../tests/corpus/postgres/sessions.txt"),
    ),
    (
        "commands",
        include_str!("../../../tests/corpus/postgres/commands.txt"),
    ),
    (
        "newer",
        include_str!("../../../tests/corpus/postgres/newer.txt"),
    ),
];

type Names = BTreeSet<String>;

/// What is said of one statement, or found in it. Facts by the names that `hoop policy test` uses.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    accesses: Names,
    verbs: Names,
    functions: Names,
    flags: Names,
    settings: Names,
    files: Names,
    programs: Names,
    statements: usize,
    columns: Option<Names>,
    copied: Option<Names>,
}

/// One block of the corpus.
pub(super) struct Case {
    pub place: String,
    pub sql: String,
    said: Said,
}

pub(super) fn cases() -> Vec<Case> {
    let blocks = FAMILIES.iter().flat_map(|(family, text)| {
        let blocks = text.split("\n\n").map(str::trim).filter(|b| !b.is_empty());
        blocks.filter_map(move |block| case(family, block))
    });
    blocks.collect()
}

fn case(family: &str, block: &str) -> Option<Case> {
    let lines: Vec<&str> = block
        .lines()
        .skip_while(|line| line.starts_with("# "))
        .collect();
    let first = *lines.first()?;
    let place = format!("{family}: {first}");
    let told = lines.iter().position(|line| line.starts_with('='));
    let told = told.unwrap_or_else(|| panic!("{place}: nothing is said of it"));
    let sql = lines[..told].join("\n");
    let sql = match sql.starts_with('"') && told == 1 && sql.ends_with('"') {
        true => serde_json::from_str(&sql).unwrap(),
        false => sql,
    };
    let mut said = Said {
        statements: 1,
        ..Said::default()
    };
    let mut verbs = Names::new();
    for line in &lines[told..] {
        let (key, rest) = match line.strip_prefix('=') {
            Some(access) => ("=", access.trim()),
            None => line.split_once(':').unwrap_or((line, "")),
        };
        let rest = rest.trim();
        let list = || -> Names {
            let items = rest.split(", ").filter(|item| !item.is_empty());
            items.map(str::to_owned).collect()
        };
        match key {
            "=" if rest.is_empty() => said.statements = 0,
            "=" => {
                said.accesses.insert(rest.to_owned());
                verbs.extend(verb(rest));
            }
            "verbs" => verbs.extend(list()),
            "fn" => said.functions = list(),
            "flags" => said.flags = list(),
            "settings" => said.settings = list(),
            "files" => said.files = list(),
            // One program: it may hold commas.
            "programs" => said.programs = [rest.to_owned()].into(),
            "statements" => said.statements = rest.parse().unwrap(),
            "cols" => said.columns = Some(list()),
            "copied" => said.copied = Some(list()),
            "pg" | "oracle" => {}
            _ => panic!("{place}: {line:?} is not understood"),
        }
    }
    said.verbs = verbs;
    if said.accesses.iter().any(|a| a.starts_with("unknown ")) {
        said.flags.insert("opaque".into());
    }
    Some(Case { place, sql, said })
}

/// `read SELECT FOR UPDATE table users` has the verb `SELECT FOR UPDATE`.
fn verb(access: &str) -> Option<String> {
    let words = access.split(' ').skip(1);
    let capitals = words.take_while(|word| word.bytes().all(|b| b.is_ascii_uppercase()));
    Some(capitals.collect::<Vec<_>>().join(" "))
}

fn found(facts: &Facts) -> Said {
    let strings = |list: &[RelationName]| list.iter().map(ToString::to_string).collect();
    let column = |c: &ColumnName| {
        let relation = c
            .relation
            .as_ref()
            .map_or("?".to_owned(), ToString::to_string);
        format!("{relation}.{}", c.column.as_deref().unwrap_or("*"))
    };
    let accesses = facts.statements.iter().flat_map(|s| &s.accesses);
    let show = |a: &Access| {
        let action = a.action.as_str().trim_start_matches("sql:");
        format!("{action} {} {}", a.verb, a.object)
    };
    Said {
        accesses: accesses.map(show).collect(),
        verbs: facts.verbs.iter().map(ToString::to_string).collect(),
        functions: strings(&facts.functions),
        flags: facts.flags.iter().map(|f| f.as_str().to_owned()).collect(),
        settings: facts.settings.iter().map(|s| s.name.to_string()).collect(),
        files: facts.files.iter().cloned().collect(),
        programs: facts.programs.iter().cloned().collect(),
        statements: facts.statements.len(),
        columns: Some(facts.columns.iter().map(column).collect()),
        copied: Some(facts.copied.columns.iter().map(column).collect()),
    }
}

/// What is said and not found, and the other way round; empty if they agree.
fn differences(said: &Said, found: &Said) -> String {
    let mut text = String::new();
    let mut compare = |what: &str, said: &Names, found: &Names| {
        for missing in said.difference(found) {
            let _ = writeln!(text, "    {what}: not found: {missing}");
        }
        for extra in found.difference(said) {
            let _ = writeln!(text, "    {what}: not said:  {extra}");
        }
    };
    compare("access", &said.accesses, &found.accesses);
    compare("verb", &said.verbs, &found.verbs);
    compare("function", &said.functions, &found.functions);
    compare("flag", &said.flags, &found.flags);
    compare("setting", &said.settings, &found.settings);
    compare("file", &said.files, &found.files);
    compare("program", &said.programs, &found.programs);
    let none = Names::new();
    if let Some(columns) = &said.columns {
        compare("column", columns, found.columns.as_ref().unwrap_or(&none));
    }
    if let Some(copied) = &said.copied {
        compare("copied", copied, found.copied.as_ref().unwrap_or(&none));
    }
    if said.statements != found.statements {
        let _ = writeln!(
            text,
            "    statements: {} said, {} found",
            said.statements, found.statements
        );
    }
    text
}

#[test]
fn what_is_found_is_what_is_said() {
    let parser = Parser::new(Limits::default());
    let mut report = String::new();
    let (mut wrong, mut all) = (0, BTreeSet::new());
    for case in cases() {
        let facts = parser.facts(&case.sql);
        let text = differences(&case.said, &found(&facts));
        if !text.is_empty() {
            wrong += 1;
            let _ = writeln!(report, "  {}\n{text}", case.place);
        }
        assert!(all.insert(case.sql), "{} is there twice", case.place);
    }
    assert!(
        all.len() > 750,
        "{} statements: some were not read",
        all.len()
    );
    assert!(wrong == 0, "{wrong} of {} statements:\n{report}", all.len());
}

/// What follows from the accesses, and what other programs read.
#[test]
fn facts_agree_with_themselves_and_with_their_json() {
    let parser = Parser::new(Limits::default());
    for case in cases() {
        let facts = parser.facts(&case.sql);
        let json = serde_json::to_value(&facts).unwrap();
        let names = |key: &str| -> Names {
            let list = json[key].as_array().unwrap();
            list.iter().map(name).collect()
        };
        let mut reads = Names::new();
        let mut writes = Names::new();
        let statements = json["statements"].as_array().unwrap();
        for access in statements
            .iter()
            .flat_map(|s| s["accesses"].as_array().unwrap())
        {
            if access["kind"] == "table" {
                let reading = access["action"] == "sql:read";
                let names = if reading { &mut reads } else { &mut writes };
                names.insert(name(access));
            }
        }
        assert_eq!(names("reads"), reads, "{}", case.place);
        assert_eq!(names("writes"), writes, "{}", case.place);
        let flag = json["flags"].as_array().unwrap().contains(&"opaque".into());
        assert_eq!(json["opaque"], flag, "{}", case.place);
        assert!(
            !statements.is_empty() || case.said.statements == 0,
            "{}",
            case.place
        );
    }
}

fn name(value: &Value) -> String {
    let name = value["name"].as_str().unwrap();
    match value["schema"].as_str() {
        Some(schema) => format!("{schema}.{name}"),
        None => name.to_owned(),
    }
}
