//! What waits for people, and one question in full.

use maud::{Markup, html};
use serde_json::Value;
use time::OffsetDateTime;

use super::{badge, csrf, each, is, may, word, words};
use crate::console::act::segment;
use crate::console::serve::Asked;
use crate::console::text::{ago, clock_of, cut, distance};
use crate::handover::console::Needs;

/// Questions that the keeper lists at once.
const PAGE: usize = 200;

pub fn inbox(asked: &Asked<'_>, questions: &Value) -> Markup {
    let all = asked.query.is_set("all");
    let from: usize = asked.query.get("from").parse().unwrap_or(0);
    let full = questions.as_array().is_some_and(|list| list.len() >= PAGE);
    let earlier = from.saturating_add(PAGE);
    let list: Vec<&Value> = questions.as_array().into_iter().flatten().collect();
    let state = |question: &Value| word(question, "/state");
    let (pending, rest): (Vec<&Value>, Vec<&Value>) = list
        .into_iter()
        .partition(|question| state(question) == "pending");
    html! {
        h1 { "Approvals" }
        section aria-labelledby="pending" {
            h2 id="pending" { "Waiting for an answer " span.count { (pending.len()) } }
            @if pending.is_empty() {
                p.empty { "Nothing waits. A statement that a rule asks about appears here by itself." }
            }
            ul.cards { @for question in pending.iter() { (card(question)) } }
        }
        section aria-labelledby="rest" {
            h2 id="rest" { (if all { "Answered, used and over" } else { "Approved, and may be used" }) }
            p { @if all {
                a href="/approvals" { "Only what may still be used" }
            } @else {
                a href="/approvals?all=1" { "What is over, too" }
            } }
            @if rest.is_empty() { p.empty { "None." } }
            ul.cards { @for question in rest.iter().rev() { (card(question)) } }
            @if full {
                p { a href=(format!("/approvals?{}from={earlier}", if all { "all=1&" } else { "" })) { "Earlier" } }
            }
        }
    }
}

fn card(question: &Value) -> Markup {
    let id = word(question, "/question");
    let now = OffsetDateTime::now_utc();
    let needs = words(question, "/needs");
    let pending = word(question, "/state") == "pending";
    html! {
        li.card {
            div.row {
                (badge(&word(question, "/state"))) " "
                a href=(format!("/approvals/{}", segment(&id))) {
                    strong { (word(question, "/agent")) } " on " (word(question, "/resource"))
                    " / " (word(question, "/database"))
                }
                span.note title=(clock_of(&word(question, "/asked"))) {
                    "asked " (ago(&word(question, "/asked"), now))
                    @if pending { ", until " (clock_of(&word(question, "/until"))) }
                }
            }
            pre tabindex="0" { (cut(&word(question, "/statement"), 400)) }
            div.row {
                @if !needs.is_empty() { span { "needs " (needs.join("; ")) } }
                @if is(question, "/in_transaction") { span.warn { "a transaction is open" } }
                @if pending && !is(question, "/awaited") { span.note { "its client has gone; it may come back" } }
                span.note { "rule " (words(question, "/rules").join(", ")) " · " code { (id) } }
            }
        }
    }
}

pub fn question(asked: &Asked<'_>, question: &Value) -> Markup {
    let state = word(question, "/state");
    let now = OffsetDateTime::now_utc();
    let until = word(question, "/until");
    html! {
        p { a href="/approvals" { "← Approvals" } }
        h1 { (word(question, "/asking/agent")) " asks " (badge(&state)) }
        p.lead { (word(question, "/message")) }
        @if is(question, "/in_transaction") && state == "pending" {
            p.warn { "Its transaction is open and may hold locks that others wait for." }
        }
        (statements(question))
        @if let Some(rows) = question.get("estimate").and_then(Value::as_u64) {
            p.note { "About " (rows) " rows, as the server's planner expects. It goes by statistics, and nothing was run." }
        }
        (change(question))
        (answering(asked, question, &state))
        section aria-labelledby="who" {
            h2 id="who" { "Who and where" }
            dl.facts {
                dt { "Agent" } dd { (word(question, "/asking/agent")) " (" (word(question, "/asking/subject")) ")" }
                dt { "Reaches" } dd {
                    (word(question, "/asking/resource")) ", database " (word(question, "/asking/database"))
                    ", as " (word(question, "/asking/login"))
                }
                dt { "Process" } dd { (processes(question)) }
                dt { "Cgroup" } dd { code { (word(question, "/asking/caller/cgroup")) } }
                dt { "Session" } dd {
                    a href=(format!("/sessions/{}", segment(&word(question, "/asking/session")))) {
                        code { (word(question, "/asking/session")) }
                    }
                }
                dt { "Asked" } dd { (clock_of(&word(question, "/asked"))) " (" (ago(&word(question, "/asked"), now)) ")" }
                dt { "Until" } dd { (clock_of(&until)) " (" (distance(&until, now)) ")" }
                @if !words(question, "/owners").is_empty() {
                    dt { "May not approve" } dd { (words(question, "/owners").join(", ")) }
                }
            }
        }
        (rules(question))
        (votes(question))
        (similar(question))
    }
}

/// What a held request would change: each line tells by a word, for who reads no colours or signs.
fn change(question: &Value) -> Markup {
    let note = word(question, "/change/note");
    let kind = word(question, "/change/kind");
    let diff = word(question, "/change/diff");
    html! {
        @if !note.is_empty() {
            section aria-labelledby="change" {
                h2 id="change" { "What it would change" }
                p class=[matches!(kind.as_str(), "refused" | "unknown").then_some("warn")] { (note) }
                @if !diff.is_empty() {
                    pre.diff tabindex="0" { @for line in diff.lines() { (changed(line)) "\n" } }
                    p.note { "As it was when this was asked, with masked values left out. Nothing was stored for it." }
                }
            }
        }
    }
}

fn changed(line: &str) -> Markup {
    match line.as_bytes().first() {
        Some(b'+') => html! { ins { (line) } },
        Some(b'-') => html! { del { (line) } },
        Some(b'@') => html! { span.note { (line) } },
        _ => html! { (line) },
    }
}

fn statements(question: &Value) -> Markup {
    html! {
        section aria-labelledby="what" {
            h2 id="what" { "What would run" }
            @for statement in each(question, "/asking/statements") {
                pre.statement tabindex="0" { (word(statement, "/text")) }
                @if each(statement, "/parameters").next().is_some() {
                    dl.facts { @for (at, value) in each(statement, "/parameters").enumerate() {
                        dt { "$" (at + 1) }
                        dd { @match value.as_str() {
                            Some(text) => code { (crate::console::text::visible(text)) },
                            None => span.note { "NULL" },
                        } }
                    } }
                }
            }
        }
    }
}

/// The process and its parents, the outermost first.
fn processes(question: &Value) -> Markup {
    let mut parents = words(question, "/asking/caller/parents");
    parents.reverse();
    html! {
        ol.tree {
            @for parent in &parents { li { code { (parent) } } }
            li { code { (word(question, "/asking/caller/command")) }
                span.note {
                    " pid " (word(question, "/asking/caller/pid")) ", uid " (word(question, "/asking/caller/uid"))
                    @if !word(question, "/asking/caller/executable").is_empty() {
                        ", " (word(question, "/asking/caller/executable"))
                    }
                }
            }
        }
    }
}

/// The buttons, for whoever may press them; else why there are none.
fn answering(asked: &Asked<'_>, question: &Value, state: &str) -> Markup {
    let id = segment(&word(question, "/question"));
    let needs = words(question, "/needs");
    let reason_needed = each(question, "/asking/demands").any(|demand| is(demand, "/reason"));
    let glass = each(question, "/asking/demands")
        .all(|demand| each(demand, "/break_glass").next().is_some());
    let standing = word(question, "/standing/reason");
    html! {
        section aria-labelledby="answer" {
            h2 id="answer" { "Answer" }
            @if !needs.is_empty() { p { "Needs " strong { (needs.join("; ")) } "." } }
            @if !standing.is_empty() { p { "Because: " (standing) } }
            @if !may(asked, Needs::Vote) {
                p.note { "You may see this, and not answer it: that needs the role approver." }
            } @else if state == "pending" {
                div.answers {
                    form.act method="post" action=(format!("/approvals/{id}/vote")) {
                        (csrf(asked))
                        input type="hidden" name="verdict" value="approve";
                        label { "Reason" @if reason_needed { " (the rule wants one)" }
                            textarea name="reason" rows="2" maxlength="1000" required[reason_needed] {}
                        }
                        p.note { "Covers " (covers(question)) "." }
                        @if glass {
                            label.check {
                                input type="checkbox" name="break_glass" value="on";
                                "Break glass: alone and at once; raises an alert and needs a reason"
                            }
                        }
                        button.good type="submit" { "Approve" }
                    }
                    form.act method="post" action=(format!("/approvals/{id}/vote")) {
                        (csrf(asked))
                        input type="hidden" name="verdict" value="refuse";
                        label { "Reason; the agent reads it"
                            textarea name="reason" rows="2" maxlength="1000" required {}
                        }
                        button.danger type="submit" { "Refuse" }
                    }
                }
            } @else if state == "approved" || state == "used" {
                form.act method="post" action=(format!("/approvals/{id}/revoke")) {
                    (csrf(asked))
                    label { "Reason; the agent reads it"
                        textarea name="reason" rows="2" maxlength="1000" required {}
                    }
                    p.note { "Ends what runs under this approval." }
                    button.danger type="submit" { "Revoke" }
                }
            } @else {
                p { "This question is " (state) ": nothing is to be done." }
            }
        }
    }
}

fn covers(question: &Value) -> String {
    let lasts = each(question, "/asking/demands")
        .filter_map(|demand| demand.pointer("/lasts")?.as_u64())
        .min();
    let minutes = lasts.map_or_else(String::new, |seconds| match seconds {
        s if s % 60 == 0 => format!(" for {} min", s / 60),
        s => format!(" for {s} s"),
    });
    match word(question, "/scope").as_str() {
        "fingerprint" => format!("statements that differ from it only in constants,{minutes}"),
        "session" => "whatever else asks by this rule in the same session".into(),
        "resource" => format!("whatever else asks by this rule on this resource,{minutes}"),
        _ => "this statement with these parameters, once".into(),
    }
}

fn rules(question: &Value) -> Markup {
    html! {
        section aria-labelledby="rules" {
            h2 id="rules" { "Why it asks" }
            ul { @for demand in each(question, "/asking/demands") {
                @let groups: Vec<String> = each(demand, "/groups")
                    .map(|clause| words(clause, "").join(" or "))
                    .collect();
                li {
                    "Rule " strong { (word(demand, "/rule")) } " wants "
                    (word(demand, "/approvals")) " of " (groups.join(", and "))
                    ", for this " (word(demand, "/scope")) "."
                }
            } }
        }
    }
}

fn votes(question: &Value) -> Markup {
    html! {
        section aria-labelledby="votes" {
            h2 id="votes" { "Who answered" }
            @if each(question, "/votes").next().is_none() {
                p.empty { "Nobody yet." }
            } @else {
                table.stack {
                    thead { tr {
                        th scope="col" { "Person" } th scope="col" { "Answer" }
                        th scope="col" { "Reason" } th scope="col" { "When" } th scope="col" { "By" }
                    } }
                    tbody { @for vote in each(question, "/votes") { tr {
                        th scope="row" data-label="Person" { (word(vote, "/who")) }
                        td data-label="Answer" {
                            (badge(match word(vote, "/verdict").as_str() { "approve" => "approved", _ => "refused" }))
                            @if is(vote, "/break_glass") { " " span.badge.bad { "break glass" } }
                        }
                        td data-label="Reason" { (word(vote, "/reason")) }
                        td data-label="When" { (clock_of(&word(vote, "/at"))) }
                        td data-label="By" { (word(vote, "/via")) }
                    } } }
                }
            }
        }
    }
}

fn similar(question: &Value) -> Markup {
    html! {
        section aria-labelledby="similar" {
            h2 id="similar" { "What was decided before" }
            @if each(question, "/similar").next().is_none() {
                p.empty { "Nothing like this was asked lately." }
            } @else {
                table.stack {
                    thead { tr {
                        th scope="col" { "Outcome" } th scope="col" { "Statement" }
                        th scope="col" { "By" } th scope="col" { "When" }
                    } }
                    tbody { @for other in each(question, "/similar") { tr {
                        td data-label="Outcome" {
                            a href=(format!("/approvals/{}", segment(&word(other, "/question")))) {
                                (badge(&word(other, "/state")))
                            }
                        }
                        td data-label="Statement" { code { (cut(&word(other, "/statement"), 120)) } }
                        td data-label="By" {
                            (word(other, "/by")) " " (words(other, "/approved_by").join(", "))
                            @if !word(other, "/reason").is_empty() { div.note { (word(other, "/reason")) } }
                        }
                        td data-label="When" { (clock_of(&word(other, "/settled"))) }
                    } } }
                }
            }
        }
    }
}
