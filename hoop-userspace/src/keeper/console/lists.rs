//! Lists of questions, as pages show them: sorted once for each change, away from the keeper's one
//! thread, and put into words a page at a time.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::ask::{Case, State};
use crate::keeper::approvals::{Clerk, brief};
use crate::keeper::lock;

/// Questions on one page.
pub const PAGE: usize = 200;
/// Decisions that are shown beside a question like them.
const SIMILAR: usize = 8;

/// What was sorted last, and after which change.
#[derive(Default)]
pub struct Lists {
    live: Made,
    all: Made,
}

type Made = Mutex<Option<(u64, Arc<Vec<Arc<Case>>>)>>;

impl Lists {
    /// One page of all questions, or of those that wait or may be used: those that wait are on the
    /// first page. It may block.
    pub fn page(&self, clerk: &Clerk, all: bool, from: usize) -> Value {
        let list = self.get(clerk, all);
        page(&list, from).map(|case| brief(case)).collect()
    }

    /// Decisions about the like of a question. It may block.
    pub fn similar(&self, clerk: &Clerk, question: &Case) -> Value {
        let list = self.get(clerk, true);
        similar(question, &list).map(|case| brief(case)).collect()
    }

    /// Oldest first, and those that wait after all others.
    fn get(&self, clerk: &Clerk, all: bool) -> Arc<Vec<Arc<Case>>> {
        let made = if all { &self.all } else { &self.live };
        // Before the list: what changes meanwhile has it made once more, and is not missed.
        let count = *clerk.changes().borrow();
        let known = lock(made).clone();
        if let Some((at, list)) = known
            && at == count
        {
            return list;
        }
        let mut list = clerk.cases(all);
        list.sort_by_key(|case| is_pending(case));
        let list = Arc::new(list);
        *lock(made) = Some((count, list.clone()));
        list
    }
}

fn is_pending(case: &Case) -> bool {
    case.standing.state == State::Pending
}

/// One page, in the list's order; `from` are left out, from the newest on.
fn page<T>(list: &[T], from: usize) -> impl Iterator<Item = &T> {
    let end = list.len().saturating_sub(from);
    let begin = end.saturating_sub(PAGE);
    list.get(begin..end).unwrap_or_default().iter()
}

/// What was decided about the same agent and rules on the same resource: the same statement first,
/// newest first.
fn similar<'c>(question: &Case, all: &'c [Arc<Case>]) -> impl Iterator<Item = &'c Arc<Case>> {
    let asked = &question.asking;
    let rules = |case: &Case| -> Vec<String> {
        let demands = case.asking.demands.iter();
        demands.map(|demand| demand.rule.clone()).collect()
    };
    let wanted = rules(question);
    let same_text = |case: &Case| case.asking.fingerprint == asked.fingerprint;
    let mut found: Vec<&Arc<Case>> = all
        .iter()
        .rev()
        .filter(|case| case.id != question.id && !is_pending(case))
        .filter(|case| case.asking.agent == asked.agent && case.asking.resource == asked.resource)
        .filter(|case| same_text(case) || rules(case) == wanted)
        .collect();
    found.sort_by_key(|case| !same_text(case));
    found.into_iter().take(SIMILAR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn case(id: &str, agent: &str, print: &str, rule: &str, state: &str) -> Arc<Case> {
        let at = "2026-11-27T10:00:00Z";
        let case = json!({
            "id": id, "asked": at, "until": at, "owners": [], "votes": [],
            "standing": {
                "state": state, "at": at, "until": null, "by": null, "reason": "", "break_glass": false,
            },
            "asking": {
                "agent": agent, "subject": "0oa1", "resource": "orders", "database": "shop",
                "login": "hoop", "session": "06c4b9d1s0abcdefghjkmnpqrs", "message": "m",
                "caller": {
                    "pid": 1, "uid": 1, "executable": null, "command": "", "cgroup": "", "parents": [],
                },
                "statements": [], "fingerprint": print, "digest": "", "in_transaction": false,
                "demands": [{
                    "rule": rule, "groups": [["dba"]], "approvals": 1, "scope": "statement",
                    "lasts": 600, "wait": null, "reason": false, "comment": false, "break_glass": [],
                }],
            },
        });
        Arc::new(serde_json::from_value(case).unwrap())
    }

    #[test]
    fn similar_questions_are_the_same_statement_first_and_then_the_same_rule() {
        let ids: Vec<String> = (1..=7)
            .map(|n| crate::ids::QuestionId::new(n).to_string())
            .collect();
        let asked = case(&ids[6], "bot", "f", "r", "pending");
        let all = [
            case(&ids[0], "bot", "f", "r", "refused"),
            case(&ids[1], "bot", "g", "r", "used"),
            case(&ids[2], "bot", "f", "s", "used"),
            case(&ids[3], "other", "f", "r", "used"),
            case(&ids[4], "bot", "f", "r", "pending"),
            case(&ids[5], "bot", "g", "s", "used"),
            asked.clone(),
        ];
        let found: Vec<String> = similar(&asked, &all).map(|c| c.id.to_string()).collect();
        assert_eq!(found, [&*ids[2], &ids[0], &ids[1]]);
    }

    #[test]
    fn pages_are_the_newest_first_and_bounded() {
        let all: Vec<u32> = (0..450).collect();
        let ends = |from| {
            let page: Vec<&u32> = page(&all, from).collect();
            (page.len(), page.first().copied(), page.last().copied())
        };
        assert_eq!(ends(0), (200, Some(&250), Some(&449)));
        assert_eq!(ends(400), (50, Some(&0), Some(&49)));
        assert_eq!(ends(usize::MAX), (0, None, None));
    }
}
