//! The examples of docs/APPROVALS.md and docs/POLICY.md: each block of rules with the verdicts that
//! follow it, and each piece of configuration.

use super::*;

/// Fenced blocks: language and text.
pub(super) fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (None, Some((language, text))) => open = Some((language, text + line + "\n")),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn activity() {
    let text = include_str!("../../../../docs/POLICY.md");
    let about = |(language, text): &(String, String)| {
        language == "cedar" && text.contains("context.activity")
    };
    let mut blocks = blocks(text).into_iter().filter(about);
    let (Some((_, rules)), Some((_, freeze))) = (blocks.next(), blocks.next()) else {
        panic!("two examples");
    };
    let frozen = super::decider(&[], &[("documented", &rules), ("freeze", &freeze)], &[]);
    let mut busy = subject();
    busy.activity.session.rows = 1_000_001;
    let explained = frozen.explain(&busy, super::text("SELECT 1"));
    assert!(explained.asks && explained.refusal.unwrap().message.contains("oncall"));
    let decider = decider(&[], &[("documented", &rules)], &[]);
    let mut subject = subject();
    let rules = |subject: &Subject| {
        decider
            .explain(subject, super::text("SELECT 1"))
            .rules
            .len()
    };
    assert_eq!(rules(&subject), 1);
    subject.activity.agent.rows = 100_001;
    assert_eq!(rules(&subject), 2);
    subject.activity.session.refusals = 20;
    assert_eq!(rules(&subject), 1);
}

#[test]
fn approvals() {
    let text = include_str!("../../../../docs/APPROVALS.md");
    let mut rules = None;
    let (mut verdicts, mut configurations) = (0, 0);
    for (language, text) in blocks(text) {
        match language.as_str() {
            "cedar" => rules = Some(decider(&[], &[("documented", &text)], &[])),
            "toml" => {
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), &text).unwrap();
                Bundle::without_secrets(file.path()).unwrap();
                configurations += 1;
            }
            "" if text.starts_with("allow ") || text.starts_with("ask ") => {
                let rules = rules.as_ref().unwrap();
                for line in text.lines() {
                    let (expected, sql) = line.split_once(' ').unwrap();
                    assert_eq!(verdict(rules, sql.trim()), expected, "{sql}");
                    verdicts += 1;
                }
            }
            _ => {}
        }
    }
    assert!(
        verdicts > 8 && configurations > 0,
        "{verdicts} {configurations}"
    );
}

#[test]
fn shell_commands() {
    let text = include_str!("../../../../docs/POLICY.md");
    let (_, section) = text.split_once("## Shell commands").unwrap();
    let (section, _) = section.split_once("## Packs").unwrap();
    let mut rules = None;
    let mut verdicts = 0;
    for (language, text) in blocks(section) {
        match language.as_str() {
            "cedar" => rules = Some(decider(&[], &[("documented", &text)], &[])),
            "" if text.starts_with("allow ") => {
                let rules = rules.as_ref().unwrap();
                for line in text.lines() {
                    let (expected, command) = line.split_once(' ').unwrap();
                    let explained = rules.explain_exec(&on_host(), command.trim_start());
                    let said = match (explained.refusal, explained.asks) {
                        (None, _) => "allow",
                        (Some(_), true) => "ask",
                        (Some(_), false) => "refuse",
                    };
                    assert_eq!(said, expected, "{command}");
                    verdicts += 1;
                }
            }
            _ => {}
        }
    }
    assert!(verdicts > 15, "{verdicts}");
}

#[test]
fn kubernetes_requests() {
    let text = include_str!("../../../../docs/POLICY.md");
    let (_, section) = text.split_once("## Kubernetes requests").unwrap();
    let (section, _) = section.split_once("## How a refusal reads").unwrap();
    let mut rules = None;
    let mut verdicts = 0;
    for (language, text) in blocks(section) {
        match language.as_str() {
            "cedar" => rules = Some(decider(&[], &[("documented", &text)], &[])),
            "" if text.starts_with("allow ") => {
                let rules = rules.as_ref().unwrap();
                for line in text.lines() {
                    let (expected, request) = line.split_once(' ').unwrap();
                    let request = request.trim_start();
                    let (request, body) = match request.split_once(" {") {
                        Some((request, body)) => (request, format!("{{{body}")),
                        None => (request, String::new()),
                    };
                    let said = crate::decide::kubernetes::said(rules, request, &body);
                    assert_eq!(said, expected, "{line}");
                    verdicts += 1;
                }
            }
            _ => {}
        }
    }
    assert_eq!(verdicts, 10);
}
