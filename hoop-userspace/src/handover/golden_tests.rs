//! What was once said between keeper and worker is still understood: `golden.jsonl` holds one of
//! each message as the first build that could be upgraded in place wrote it. Lines are added there,
//! and never changed: a worker that says them may still be at work.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{FromWorker, ToWorker};

const STORED: &str = include_str!("golden.jsonl");

fn understood<T: DeserializeOwned + Serialize>(stored: &Value) {
    let read: T = serde_json::from_value(stored.clone())
        .unwrap_or_else(|error| panic!("{stored} is not understood any more: {error}"));
    let written = serde_json::to_value(&read).unwrap();
    contains(&written, stored, stored);
}

/// Everything that was stored is still said by the same name; what was added since may be there.
fn contains(written: &Value, stored: &Value, whole: &Value) {
    match (written, stored) {
        (Value::Object(written), Value::Object(stored)) => {
            for (name, stored) in stored {
                let written = written
                    .get(name)
                    .unwrap_or_else(|| panic!("{name} of {whole} is not said any more"));
                contains(written, stored, whole);
            }
        }
        (Value::Array(written), Value::Array(stored)) => {
            assert_eq!(written.len(), stored.len(), "{whole}");
            for (written, stored) in written.iter().zip(stored) {
                contains(written, stored, whole);
            }
        }
        _ => assert_eq!(written, stored, "{whole}"),
    }
}

fn lines(to: &str) -> Vec<Value> {
    let lines = STORED.lines().filter(|line| !line.is_empty());
    let lines = lines.map(|line| serde_json::from_str::<BTreeMap<String, Value>>(line).unwrap());
    lines.filter_map(|mut line| line.remove(to)).collect()
}

fn names(lines: &[Value]) -> Vec<String> {
    let name = |line: &Value| match line {
        Value::String(name) => name.clone(),
        Value::Object(fields) => fields.keys().next().unwrap().clone(),
        other => panic!("{other} is no message"),
    };
    lines.iter().map(name).collect()
}

#[test]
fn what_keepers_said_is_understood() {
    let lines = lines("keeper");
    lines.iter().for_each(understood::<ToWorker>);
    let all = [
        "Configure",
        "Connection",
        "Console",
        "ListSessions",
        "Kill",
        "Freeze",
        "Suspended",
        "Token",
        "ListAgents",
        "Deliver",
        "Heard",
        "Drain",
        "Retire",
        "Cancel",
        "Reported",
        "Socket",
    ];
    let names = names(&lines);
    assert!(
        all.iter().all(|name| names.iter().any(|n| n == name)),
        "{names:?}"
    );
}

#[test]
fn what_workers_said_is_understood() {
    let lines = lines("worker");
    lines.iter().for_each(understood::<FromWorker>);
    let all = [
        "Configured",
        "Sessions",
        "Agents",
        "Suspend",
        "WantToken",
        "WantLogin",
        "WantSocket",
        "Steered",
        "Delivered",
        "Question",
        "Cancel",
        "Reported",
        "Event",
    ];
    let names = names(&lines);
    assert!(
        all.iter().all(|name| names.iter().any(|n| n == name)),
        "{names:?}"
    );
}

#[test]
fn fields_of_a_later_build_are_passed_over() {
    for (to, line) in [("keeper", lines("keeper")), ("worker", lines("worker"))] {
        for mut message in line {
            let Some(Value::Object(fields)) =
                message.as_object_mut().and_then(|m| m.values_mut().next())
            else {
                continue;
            };
            // Of a newtype of an enum this would be another message.
            if fields.len() == 1 && fields.values().all(|v| v.is_object() || v.is_string()) {
                continue;
            }
            fields.insert("later".into(), Value::from(7));
            match to {
                "keeper" => drop(serde_json::from_value::<ToWorker>(message).unwrap()),
                _ => drop(serde_json::from_value::<FromWorker>(message).unwrap()),
            }
        }
    }
}
