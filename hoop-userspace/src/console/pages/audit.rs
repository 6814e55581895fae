//! What people did, from the keeper's chained ledgers.

use maud::{Markup, html};
use serde_json::Value;

use super::{each, is, word};
use crate::console::serve::Asked;
use crate::console::text::{clock_of, visible};

/// What is said in a column of its own.
const SAID: [&str; 5] = ["event", "who", "action", "reason", "why"];

pub fn audit(_: &Asked<'_>, audit: &Value) -> Markup {
    html! {
        h1 { "Audit" }
        p.note {
            "From ledgers that only root may read, each chained from entry to entry; "
            code { "hoop verify" } " follows the chains. The newest 200 are here, "
            code { "hoop events" } " prints all."
        }
        p { @if is(audit, "/all") {
            a href="/audit" { "Only what people did" }
        } @else {
            a href="/audit?all=1" { "Everything that was noted" }
        } }
        @if !is(audit, "/complete") {
            p.warn role="status" { "Earlier ledgers are being read; load the page again for what they hold." }
        }
        @if each(audit, "/entries").next().is_none() {
            p.empty { "Nothing was noted yet." }
        } @else {
            table.stack {
                thead { tr {
                    th scope="col" { "When" } th scope="col" { "Who" }
                    th scope="col" { "What" } th scope="col" { "About" }
                } }
                tbody { @for entry in each(audit, "/entries") { (row(entry)) } }
            }
        }
    }
}

fn row(line: &Value) -> Markup {
    let entry = line.get("entry").unwrap_or(&Value::Null);
    let action = word(entry, "/action");
    let said = [
        word(entry, "/reason"),
        word(entry, "/why"),
        word(entry, "/problem"),
    ];
    html! {
        tr {
            td data-label="When" { (clock_of(&word(line, "/at"))) }
            td data-label="Who" { (word(entry, "/who")) (word(entry, "/by")) }
            td data-label="What" {
                (word(entry, "/event").replace('_', " "))
                @if !action.is_empty() { ": " (action.replace('_', " ")) }
                @for said in said.iter().filter(|said| !said.is_empty()) { div.note { (said) } }
            }
            td data-label="About" { (about(entry)) }
        }
    }
}

/// The other members, as they are.
fn about(entry: &Value) -> Markup {
    let members = entry.as_object().into_iter().flatten();
    let members = members.filter(|(key, value)| {
        !SAID.contains(&key.as_str())
            && !matches!(key.as_str(), "by" | "problem")
            && !value.is_null()
            && *value != ""
    });
    html! {
        @for (key, value) in members {
            @let shown = match value {
                Value::String(text) => visible(text),
                other => visible(&other.to_string()),
            };
            div { span.note { (key) " " } (crate::console::text::cut(&shown, 200)) }
        }
    }
}
