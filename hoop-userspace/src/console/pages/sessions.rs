//! Looking for recorded sessions.

use maud::{Markup, html};
use serde_json::Value;

use super::{badge, each, word};
use crate::console::act::segment;
use crate::console::serve::Asked;
use crate::console::text::{clock_of, visible};

const FIELDS: [(&str, &str, &str); 7] = [
    ("text", "Text", "of a statement, program or argument"),
    ("agent", "Agent", ""),
    ("identity", "Identity", ""),
    ("resource", "Resource", ""),
    ("table", "Table", "as a statement names it"),
    ("since", "From", "2026-11-27"),
    ("until", "Until", "2026-11-28T14:00"),
];

pub fn sessions(asked: &Asked<'_>, found: &Value, problem: Option<&str>) -> Markup {
    html! {
        h1 { "Recorded sessions" }
        (form(asked))
        @if let Some(problem) = problem {
            p.problem role="alert" { (visible(problem)) }
        } @else {
            (state(found))
            (list(found))
            (pages(asked, found))
        }
    }
}

fn form(asked: &Asked<'_>) -> Markup {
    let verdict = asked.query.get("verdict");
    html! {
        form.search method="get" action="/sessions" role="search" {
            @for (name, label, hint) in FIELDS {
                label { (label)
                    input name=(name) value=(asked.query.get(name)) placeholder=(hint) maxlength="200";
                }
            }
            label { "Verdict"
                select name="verdict" {
                    @for (value, label) in [("", "any"), ("allow", "all allowed"), ("ask", "people were asked"), ("refuse", "something was refused")] {
                        option value=(value) selected[value == verdict] { (label) }
                    }
                }
            }
            div.row {
                button type="submit" { "Search" }
                a href="/sessions" { "Clear" }
            }
        }
    }
}

/// How much of what was recorded is looked through.
fn state(found: &Value) -> Markup {
    let number = |key: &str| found.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (indexed, recorded, textless) = (
        number("indexed"),
        number("recorded"),
        number("without_text"),
    );
    html! {
        @if indexed < recorded {
            p.warn role="status" {
                (indexed) " of " (recorded) " recordings are read since the console started; older ones follow."
            }
        } @else {
            p.note { (recorded) " sessions are recorded. Times are UTC." }
        }
        @if textless > 0 {
            p.note { "The statements of the " (textless) " oldest are not searched." }
        }
    }
}

fn list(found: &Value) -> Markup {
    html! {
        @if each(found, "/sessions").next().is_none() {
            p.empty { "No session is like that." }
        } @else {
            table.stack {
                thead { tr {
                    th scope="col" { "Began" }
                    th scope="col" { "Agent" }
                    th scope="col" { "To" }
                    th scope="col" { "Verdict" }
                    th scope="col" { "Statements" }
                    th scope="col" { "End" }
                } }
                tbody { @for session in each(found, "/sessions") { (row(session)) } }
            }
        }
    }
}

fn row(session: &Value) -> Markup {
    let verdict = word(session, "/verdict");
    let end = word(session, "/end");
    html! {
        tr {
            td data-label="Began" {
                a href=(format!("/sessions/{}", segment(&word(session, "/session")))) {
                    (clock_of(&word(session, "/started")))
                }
            }
            td data-label="Agent" { (word(session, "/agent")) div.note { (word(session, "/identity")) } }
            td data-label="To" { (word(session, "/resource")) div.note { (word(session, "/database")) } }
            td data-label="Verdict" { (badge(&verdict)) }
            td data-label="Statements" {
                (word(session, "/requests")) " ran, " (word(session, "/refusals")) " refused"
                div.note { (word(session, "/rows")) " rows" }
            }
            td data-label="End" {
                @if end.is_empty() { (badge("open")) } @else { (end) }
                @if !end.is_empty() && session.get("sealed") != Some(&Value::Bool(true)) { div.note { "not sealed" } }
            }
        }
    }
}

fn pages(asked: &Asked<'_>, found: &Value) -> Markup {
    let next = word(found, "/next");
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, ..) in FIELDS {
        query.append_pair(name, asked.query.get(name));
    }
    query.append_pair("verdict", asked.query.get("verdict"));
    query.append_pair("before", &next);
    html! {
        @if !next.is_empty() {
            p { a.button href=(format!("/sessions?{}", query.finish())) { "Older ones" } }
        }
    }
}
