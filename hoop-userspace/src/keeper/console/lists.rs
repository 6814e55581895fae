//! Lists of questions, as pages show them: made once for each change, away from the keeper's one
//! thread, and handed out in pages.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::keeper::approvals::Clerk;
use crate::keeper::lock;

/// Questions on one page.
pub const PAGE: usize = 200;
/// Decisions that are shown beside a question like them.
const SIMILAR: usize = 8;

/// What was made last, and after which change.
#[derive(Default)]
pub struct Lists {
    live: Made,
    all: Made,
}

type Made = Mutex<Option<(u64, Arc<Vec<Value>>)>>;

impl Lists {
    /// All questions, or those that wait or may be used: oldest first, and those that wait after
    /// all others, so that the first page has them.
    pub async fn get(&self, clerk: &Arc<Clerk>, all: bool) -> Result<Arc<Vec<Value>>, String> {
        let made = if all { &self.all } else { &self.live };
        // Before the list: what changes meanwhile has it made once more, and is not missed.
        let count = *clerk.changes().borrow();
        let known = lock(made).clone();
        if let Some((at, list)) = known
            && at == count
        {
            return Ok(list);
        }
        let clerk = clerk.clone();
        let list = tokio::task::spawn_blocking(move || match clerk.list(all) {
            Value::Array(list) => list,
            _ => Vec::new(),
        });
        let mut list = list.await.map_err(|error| error.to_string())?;
        list.sort_by_key(is_pending);
        let list = Arc::new(list);
        *lock(made) = Some((count, list.clone()));
        Ok(list)
    }
}

fn is_pending(question: &Value) -> bool {
    question.get("state").and_then(Value::as_str) == Some("pending")
}

/// One page, in the list's order; `from` are left out, from the newest on.
pub fn page(list: &[Value], from: usize) -> Value {
    let wanted = list.iter().rev().skip(from).take(PAGE);
    let mut wanted: Vec<Value> = wanted.cloned().collect();
    wanted.reverse();
    Value::Array(wanted)
}

/// What was decided about the same agent and rules on the same resource: the same statement first,
/// newest first.
pub fn similar(question: &Value, all: &[Value]) -> Value {
    let is = |key: &str, other: &Value| question.get(key) == other.get(key);
    let mut found: Vec<&Value> = all
        .iter()
        .filter(|other| !is("question", other))
        .filter(|other| is("agent", other) && is("resource", other))
        .filter(|other| is("fingerprint", other) || is("rules", other))
        .filter(|other| !is_pending(other))
        .collect();
    found.reverse();
    found.sort_by_key(|other| !is("fingerprint", other));
    found.into_iter().take(SIMILAR).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn similar_questions_are_the_same_statement_first_and_then_the_same_rule() {
        let one = |question: &str, agent: &str, print: &str, rule: &str, state: &str| {
            json!({
                "question": question, "agent": agent, "resource": "orders",
                "fingerprint": print, "rules": [rule], "state": state,
            })
        };
        let asked = one("q", "bot", "f", "r", "pending");
        let all = [
            one("a", "bot", "f", "r", "refused"),
            one("b", "bot", "g", "r", "used"),
            one("c", "bot", "f", "s", "used"),
            one("d", "other", "f", "r", "used"),
            one("e", "bot", "f", "r", "pending"),
            one("g", "bot", "g", "s", "used"),
            asked.clone(),
        ];
        let found = similar(&asked, &all);
        let names: Vec<&str> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|q| q["question"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["c", "a", "b"]);
    }

    #[test]
    fn pages_are_the_newest_first_and_bounded() {
        let all: Vec<Value> = (0..450).map(Value::from).collect();
        let ends = |from| {
            let page = page(&all, from);
            let page = page.as_array().unwrap();
            let end = |value: Option<&Value>| value.and_then(Value::as_u64);
            (page.len(), end(page.first()), end(page.last()))
        };
        assert_eq!(ends(0), (200, Some(250), Some(449)));
        assert_eq!(ends(400), (50, Some(0), Some(49)));
        assert_eq!(ends(usize::MAX), (0, None, None));
    }
}
