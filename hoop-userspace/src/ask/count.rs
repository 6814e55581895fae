//! Whether the votes are enough. One person counts once: for one of a rule's groups, however many
//! the person is in, and however often the person votes.

use super::case::{Verdict, Vote};
use crate::decide::Demand;

/// What a rule still lacks, in words; `None` when it has what it demands.
pub fn missing(demand: &Demand, votes: &[Vote]) -> Option<String> {
    let approvals: Vec<&Vote> = votes
        .iter()
        .filter(|v| v.verdict == Verdict::Approve)
        .collect();
    if approvals.iter().any(|v| alone(demand, v)) {
        return None;
    }
    let mut people: Vec<&Vote> = Vec::new();
    for vote in approvals {
        let counts = demand.groups.iter().any(|clause| is_of(vote, clause));
        if counts && !people.iter().any(|p| p.who == vote.who) {
            people.push(vote);
        }
    }
    let unfilled = unfilled(&demand.groups, &people);
    let open = usize::from(demand.approvals).saturating_sub(people.len());
    match (unfilled.as_slice(), open) {
        ([], 0) => None,
        ([], 1) => Some(format!("one more of {}", any(demand))),
        ([], n) => Some(format!("{n} more of {}", any(demand))),
        (clauses, open) => {
            let mut words: Vec<String> = clauses.iter().map(|c| c.join(" or ")).collect();
            if open > clauses.len() {
                words.push(format!("{} more", open - clauses.len()));
            }
            Some(words.join(", and "))
        }
    }
}

/// Whether this vote suffices by itself.
fn alone(demand: &Demand, vote: &Vote) -> bool {
    vote.break_glass && is_of(vote, &demand.break_glass)
}

fn is_of(vote: &Vote, groups: &[String]) -> bool {
    vote.groups.iter().any(|group| groups.contains(group))
}

fn any(demand: &Demand) -> String {
    let mut groups: Vec<&str> = demand.groups.iter().flatten().map(String::as_str).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.join(" or ")
}

/// The clauses that no person is left for, when people are spread over them as well as can be
/// (bipartite matching, by augmenting paths).
fn unfilled<'d>(clauses: &'d [Vec<String>], people: &[&Vote]) -> Vec<&'d [String]> {
    let mut holds: Vec<Option<usize>> = vec![None; people.len()];
    let mut empty = Vec::new();
    for (at, clause) in clauses.iter().enumerate() {
        let mut tried = vec![false; people.len()];
        if !place(at, clauses, people, &mut holds, &mut tried) {
            empty.push(clause.as_slice());
        }
    }
    empty
}

fn place(
    clause: usize,
    clauses: &[Vec<String>],
    people: &[&Vote],
    holds: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    let Some(groups) = clauses.get(clause) else {
        return false;
    };
    for (person, vote) in people.iter().enumerate() {
        let fits = is_of(vote, groups) && !tried.get(person).copied().unwrap_or(true);
        if !fits {
            continue;
        }
        if let Some(tried) = tried.get_mut(person) {
            *tried = true;
        }
        let other = holds.get(person).copied().flatten();
        if other.is_none_or(|other| place(other, clauses, people, holds, tried)) {
            if let Some(slot) = holds.get_mut(person) {
                *slot = Some(clause);
            }
            return true;
        }
    }
    false
}
