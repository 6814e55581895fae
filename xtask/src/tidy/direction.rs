//! Who may name whom: the stages know each other's types, never each other's insides.

use super::Complaint;
use super::source::{Source, has_word};

const BASE: &str = "hoop-userspace/src/";

/// In the order in which a connection meets them.
const STAGES: &[&str] = &[
    "capture",
    "accept",
    "attribute",
    "identify",
    "terminate",
    "decide",
    "ask",
    "forward",
    "mask",
    "record",
    "replay",
];

/// What drives the stages; no stage may know its driver.
const DRIVERS: &[&str] = &["cli", "keeper", "worker", "session", "console", "trial"];

/// A protocol's folder inside a stage: its types count as the stage's own.
const PROTOCOLS: &[&str] = &["postgres", "ssh", "kubernetes"];

/// Stages that only compute. A clock, a file or a socket there would make a decision untestable.
const PURE: &[&str] = &["decide", "mask", "wire"];

const IMPURE: &[&str] = &[
    "tokio",
    "SystemTime",
    "Instant",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "std::fs",
    "std::process",
    "std::env",
];

/// Paths that depart from the rule: who names, what is named, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "accept",
        "capture::",
        "the two halves of one kernel interface; `unsafe` calls are capture's alone",
    ),
    (
        "capture",
        "attribute::cgroup2_mount",
        "one place knows where cgroup2 is mounted",
    ),
    (
        "record",
        "decide::outline",
        "one place knows which of a statement's words are constants",
    ),
];

pub fn check(source: &Source) -> Vec<Complaint> {
    let Some(path) = source.file.strip_prefix(BASE) else {
        return Vec::new();
    };
    if source.is_test() {
        return Vec::new();
    }
    let own = path.split(['/', '.']).next().unwrap_or_default();
    let mut complaints = pure(source, own);
    for (line, named) in named_paths(&source.code) {
        if let Some(what) = objection(own, &named) {
            complaints.push(source.complain(line, what));
        }
    }
    complaints
}

fn pure(source: &Source, own: &str) -> Vec<Complaint> {
    if !PURE.contains(&own) {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (number, line) in source.code.lines().enumerate() {
        for word in IMPURE.iter().filter(|word| has_word(line, word)) {
            let what = format!("`{word}` in {own}, which names no clock, file, socket or runtime");
            complaints.push(source.complain(number + 1, what));
        }
    }
    complaints
}

/// Why `own` may not name `path` (`["decide", "cache", "Key"]`), if it may not.
fn objection(own: &str, path: &[String]) -> Option<String> {
    let [other, inside @ ..] = path else {
        return None;
    };
    let (other, shown) = (other.as_str(), path.join("::"));
    let drives = DRIVERS.contains(&own) || own == "main" || own == "lib";
    if other == own
        || EXCEPTIONS
            .iter()
            .any(|(from, to, _)| *from == own && shown.starts_with(to))
    {
        return None;
    }
    if other == "cli" && own != "main" {
        return Some(format!("{own} names crate::{shown}: nothing imports cli"));
    }
    if drives {
        return None;
    }
    if DRIVERS.contains(&other) {
        return Some(format!(
            "{own} names crate::{shown}: a stage does not know its driver"
        ));
    }
    if !STAGES.contains(&other) {
        return None;
    }
    if !STAGES.contains(&own) {
        return vocabulary(own, other, inside, &shown);
    }
    if is_type(inside) {
        None
    } else {
        Some(insides(own, &shown))
    }
}

/// The shared vocabulary may carry a stage's output type (a handover carries a `Process`).
fn vocabulary(own: &str, other: &str, inside: &[String], shown: &str) -> Option<String> {
    if is_type(inside) && own != "wire" {
        return None;
    }
    Some(format!(
        "{own} names crate::{shown}: shared vocabulary does not depend on {other}"
    ))
}

fn insides(own: &str, shown: &str) -> String {
    format!("{own} names crate::{shown}: another stage's types may be named, its insides not")
}

fn is_type(inside: &[String]) -> bool {
    let upper = |name: &String| name.starts_with(|c: char| c.is_ascii_uppercase());
    match inside {
        [first, ..] if upper(first) => true,
        [protocol, second, ..] => PROTOCOLS.contains(&protocol.as_str()) && upper(second),
        _ => false,
    }
}

/// Every `crate::a::b` of the code with its line, braces expanded.
fn named_paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code.get(..at).unwrap_or_default();
        // `$crate::` and `mycrate::` are other things; pub(in crate::a) only restricts.
        let previous = before.chars().next_back().unwrap_or(' ');
        if previous.is_alphanumeric() || previous == '_' || before.ends_with("pub(in ") {
            continue;
        }
        let line = before.matches('\n').count() + 1;
        let rest = code.get(at + "crate::".len()..).unwrap_or_default();
        let mut found = Vec::new();
        expand(&mut Words { rest }, Vec::new(), &mut found);
        paths.extend(found.into_iter().map(|path| (line, path)));
    }
    paths
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }
    fn eat(&mut self, what: &str) -> bool {
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
    fn name(&mut self) -> &'a str {
        let part = |c: char| c.is_alphanumeric() || c == '_' || c == '*';
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        name
    }
}

fn expand(words: &mut Words<'_>, mut prefix: Vec<String>, found: &mut Vec<Vec<String>>) {
    loop {
        if words.eat("{") {
            loop {
                words.space();
                if words.eat("}") || words.rest.is_empty() {
                    return;
                }
                let before = words.rest.len();
                expand(words, prefix.clone(), found);
                words.space();
                words.eat(",");
                if words.rest.len() == before {
                    return;
                }
            }
        }
        let name = words.name();
        if !name.is_empty() {
            prefix.push(name.to_owned());
        }
        if name.is_empty() || !words.eat("::") {
            break;
        }
    }
    words.space();
    if words.rest.starts_with("as ") {
        words.eat("as ");
        words.space();
        words.name();
    }
    found.push(prefix);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objections(file: &str, code: &str) -> usize {
        check(&Source::new(&format!("{BASE}{file}"), code)).len()
    }

    #[test]
    fn paths_are_expanded() {
        let paths = named_paths("\nuse crate::{a::B, c::{d::E as F, G}};\npub(in crate::x) y: z");
        let shown: Vec<String> = paths.iter().map(|(_, p)| p.join("::")).collect();
        assert_eq!(shown, ["a::B", "c::d::E", "c::G"]);
        assert_eq!(paths[0].0, 2);
    }

    #[test]
    fn types_of_other_stages_may_be_named_and_insides_not() {
        assert_eq!(
            objections("record/mod.rs", "use crate::decide::{Permitted, Refusal};"),
            0
        );
        assert_eq!(
            objections(
                "forward/mod.rs",
                "use crate::terminate::postgres::Upstream;"
            ),
            0
        );
        assert_eq!(
            objections("record/mod.rs", "use crate::decide::cache::Key;"),
            1
        );
        assert_eq!(
            objections("mask/rows.rs", "fn a() { crate::record::open() }"),
            1
        );
        assert_eq!(
            objections("decide/mod.rs", "use crate::decide::cache::Key;"),
            0
        );
    }

    #[test]
    fn stages_do_not_know_their_drivers() {
        assert_eq!(objections("record/mod.rs", "use crate::keeper::State;"), 1);
        assert_eq!(objections("worker/mod.rs", "use crate::cli::Output;"), 1);
        assert_eq!(
            objections("worker/mod.rs", "use crate::record::store::open;"),
            0
        );
        assert_eq!(objections("cli/run.rs", "use crate::keeper::run;"), 0);
    }

    #[test]
    fn pure_stages_only_compute() {
        assert_eq!(objections("decide/mod.rs", "use std::time::Instant;"), 1);
        assert_eq!(
            objections("wire/postgres/mod.rs", "use tokio::io::AsyncRead;"),
            1
        );
        assert_eq!(objections("mask/mod.rs", "use std::time::Duration;"), 0);
        assert_eq!(objections("forward/mod.rs", "use tokio::io::AsyncRead;"), 0);
        assert_eq!(
            objections(
                "wire/mod.rs",
                "#[cfg(test)]\nmod tests {\n    use tokio::io;\n}"
            ),
            0
        );
    }
}
