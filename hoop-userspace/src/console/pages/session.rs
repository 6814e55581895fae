//! One recording, from its header to its seal; what goes on is added as it happens.

use maud::{Markup, html};
use serde_json::Value;

use super::{badge, csrf, each, is, may, word, words};
use crate::console::act::segment;
use crate::console::serve::Asked;
use crate::console::text::{clock_of, cut, visible};
use crate::handover::console::Needs;

/// Rows of a result that are shown.
const ROWS: usize = 50;
/// Characters of one value.
const VALUE: usize = 200;

pub fn session(asked: &Asked<'_>, session: &Value) -> Markup {
    let id = word(session, "/session");
    let next = session.get("next").and_then(Value::as_u64);
    let from = session.get("from").and_then(Value::as_u64).unwrap_or(0);
    let shown = each(session, "/events").count() as u64;
    let over = is(session, "/over");
    let problem = word(session, "/problem");
    // The last page of what goes on is followed.
    let follow = (!over && next.is_none() && problem.is_empty())
        .then(|| format!("/sessions/{}/follow?from={}", segment(&id), from + shown));
    html! {
        p { a href="/sessions" { "← Sessions" } }
        h1 { (word(session, "/header/agent")) " on " (word(session, "/header/resource")) " "
            (badge(if over { "over" } else { "open" }))
        }
        @if !problem.is_empty() {
            p.problem role="alert" { "What follows cannot be believed: " (problem) }
        }
        (header(session))
        @if !over { (steering(asked, &id, is_frozen(session))) }
        (super::player::player(session, &id))
        section aria-labelledby="timeline" {
            h2 id="timeline" { "What happened" }
            @if from > 0 {
                p { a href=(format!("/sessions/{}", segment(&id))) { "From the beginning" } }
            }
            ol.timeline data-follow=[follow] {
                @for line in each(session, "/events") { (event(line)) }
            }
            @if let Some(next) = next {
                p { a.button href=(format!("/sessions/{}?from={next}", segment(&id))) { "What came then" } }
            } @else if !over {
                p.note role="status" data-state { "The session goes on, or its end was not recorded. Load the page again for what came since." }
            }
        }
    }
}

fn header(session: &Value) -> Markup {
    let host = word(session, "/header/protocol") == "ssh";
    let fact = |name: &str, path: &str| {
        let value = word(session, path);
        html! { @if !value.is_empty() { dt { (name) } dd { (value) } } }
    };
    html! {
        dl.facts {
            (fact("Session", "/session"))
            (fact("Began", "/header/started"))
            (fact("Identity", "/header/identity/subject"))
            (fact("Not identified", "/header/identity/why"))
            (fact("Client", "/header/identity/client_id"))
            (fact(if host { "Host" } else { "Database" }, "/header/database"))
            (fact("Logged in as", "/header/login"))
            (fact("Destination", "/header/destination"))
            (fact("Dialled in the network namespace", "/header/netns"))
            (fact("Program", "/header/process/executable"))
            @if each(session, "/header/process/argv").next().is_some() {
                dt { "Arguments" } dd { code { (words(session, "/header/process/argv").join(" ")) } }
            }
            (fact("Cgroup", "/header/process/cgroup"))
        }
    }
}

/// Whether an operator has it stand still, as far as this page of it tells.
fn is_frozen(session: &Value) -> bool {
    let freezes = each(session, "/events").filter_map(|line| {
        let none = word(line, "/question").is_empty();
        match word(line, "/event").as_str() {
            "question" if none => Some(true),
            "answer" if none => Some(false),
            _ => None,
        }
    });
    freezes.last().unwrap_or(false)
}

fn steering(asked: &Asked<'_>, id: &str, frozen: bool) -> Markup {
    html! {
        @if frozen {
            p.warn role="status" { "It stands still: nothing more of it runs until somebody lets it go on." }
        }
        @if may(asked, Needs::Administer) {
            @if frozen {
                details open {
                    summary { "Let this session go on…" }
                    form.act method="post" action=(format!("/sessions/{}/thaw", segment(id))) {
                        (csrf(asked))
                        label { "Why" input name="reason" required maxlength="200"; }
                        button.good type="submit" { "Let it go on" }
                    }
                }
            } @else {
                details {
                    summary { "Freeze this session…" }
                    form.act method="post" action=(format!("/sessions/{}/freeze", segment(id))) {
                        (csrf(asked))
                        label { "Why; the agent reads it" input name="reason" required maxlength="200"; }
                        button type="submit" { "Freeze it" }
                    }
                }
            }
            details {
                summary { "End this session…" }
                form.act method="post" action=(format!("/sessions/{}/kill", segment(id))) {
                    (csrf(asked))
                    label { "Why; the agent reads it" input name="reason" required maxlength="200"; }
                    button.danger type="submit" { "End it" }
                }
            }
        }
    }
}

/// One line of the timeline.
pub fn event(line: &Value) -> Markup {
    let at = word(line, "/at");
    let kind = word(line, "/event");
    html! {
        li class=(format!("event {kind}")) {
            time datetime=(at) title=(clock_of(&at)) { (at.get(11..23).unwrap_or(&at)) }
            div { (body(line, &kind)) }
        }
    }
}

fn body(line: &Value, kind: &str) -> Markup {
    match kind {
        "session" => html! { "The session began." },
        "request" => request(line),
        "refusal" => html! {
            (badge("refused")) " "
            @if !word(line, "/text").is_empty() { pre tabindex="0" { (word(line, "/text")) } }
            p { (word(line, "/message")) }
            p.note {
                @if !word(line, "/rule").is_empty() { "rule " (word(line, "/rule")) " · " }
                "hint: " (word(line, "/hint"))
            }
        },
        "reply" => reply(line),
        "question" if word(line, "/question").is_empty() => html! {
            (badge("frozen")) " " (word(line, "/message"))
            p.note { "It ends at " (clock_of(&word(line, "/until"))) " unless somebody lets it go on." }
        },
        "question" => html! {
            (badge("ask")) " people were asked: "
            a href=(format!("/approvals/{}", segment(&word(line, "/question")))) { (word(line, "/question")) }
            @for statement in words(line, "/statements") { pre tabindex="0" { (statement) } }
            p { (word(line, "/message")) }
        },
        "answer" => html! {
            (badge(&word(line, "/outcome"))) " after " (word(line, "/held_ms")) " ms"
            @if is(line, "/break_glass") { " " span.badge.bad { "break glass" } }
            @for person in each(line, "/by") {
                p { "by " (word(person, "/who"))
                    @if !word(person, "/reason").is_empty() { ": " (word(person, "/reason")) }
                }
            }
        },
        "bulk" => {
            html! { (word(line, "/bytes")) " bytes of content" @if is(line, "/end") { ", the last" } }
        }
        "cancel" => html! { "The client cancelled." },
        "renewed" => {
            html! { "The token was renewed; it holds until " (clock_of(&word(line, "/expires"))) }
        }
        "end" => html! {
            strong { (word(line, "/end")) }
            @if !word(line, "/reason").is_empty() { ": " (word(line, "/reason")) }
            p.note {
                (word(line, "/requests")) " ran, " (word(line, "/refusals")) " refused, "
                (word(line, "/rows")) " rows; the server: " (word(line, "/outcome"))
            }
        },
        "seal" => html! {
            @if is(line, "/good") { "Sealed by key " } @else { strong.warn { "The seal does not fit" } " of key " }
            code { (cut(&word(line, "/key"), 16)) }
        },
        _ => super::host::event(line, kind)
            .unwrap_or_else(|| html! { code { (visible(&line.to_string())) } }),
    }
}

fn request(line: &Value) -> Markup {
    let shown = each(line, "/statements").filter(|statement| word(statement, "/step") != "prepare");
    html! {
        @for statement in shown {
            pre tabindex="0" { (word(statement, "/text")) }
            @if each(statement, "/parameters").next().is_some() {
                p.note { @for (at, value) in each(statement, "/parameters").enumerate() {
                    "$" (at + 1) " = " @match value.as_str() {
                        Some(text) => code { (cut(&visible(text), VALUE)) },
                        None => "NULL",
                    } " "
                } }
            }
        }
        @if is(line, "/truncated") { p.note { "It was too long to be kept whole." } }
        p.note {
            (badge("allow"))
            @if each(line, "/rules").next().is_some() { " by " (words(line, "/rules").join(", ")) }
        }
        @if line.pointer("/would_refuse").is_some_and(Value::is_object) {
            p.warn { "Enforced, it would have been refused: " (word(line, "/would_refuse/message")) }
        }
    }
}

fn reply(line: &Value) -> Markup {
    let columns = words(line, "/columns");
    let rows = each(line, "/rows").count();
    let masked = line.get("masked").and_then(Value::as_u64).unwrap_or(0);
    html! {
        @if rows > 0 {
            div.result tabindex="0" role="group" aria-label="Result" {
                table {
                    @if !columns.is_empty() {
                        thead { tr { @for column in &columns { th scope="col" { (cut(column, 64)) } } } }
                    }
                    tbody { @for row in each(line, "/rows").take(ROWS) {
                        tr { @for value in each(row, "") {
                            td { @match value.as_str() {
                                Some(text) => (cut(&visible(text), VALUE)),
                                None => span.note { "NULL" },
                            } }
                        } }
                    } }
                }
            }
        }
        @if rows > ROWS || is(line, "/truncated") {
            p.note { (word(line, "/row_count")) " rows in this batch; not all are shown." }
        }
        p.note {
            (words(line, "/tags").join(", "))
            @if masked > 0 { " " span.badge.open { (masked) " masked" } }
        }
        @for report in each(line, "/errors").chain(each(line, "/notices")) {
            p { strong { (word(report, "/severity")) } " " (word(report, "/sqlstate")) ": " (word(report, "/message")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_session_is_frozen_until_it_is_let_go_on() {
        let freeze = json!({ "event": "question", "question": "" });
        let thaw = json!({ "event": "answer", "question": null, "outcome": "thawed" });
        let asked = json!({ "event": "question", "question": "k3v9t0m2qf" });
        let is = |events: &[&Value]| is_frozen(&json!({ "events": events }));
        assert!(!is(&[]));
        assert!(!is(&[&asked]));
        assert!(is(&[&asked, &freeze]));
        assert!(!is(&[&freeze, &thaw]));
        assert!(is(&[&freeze, &thaw, &freeze, &asked]));
    }
}
