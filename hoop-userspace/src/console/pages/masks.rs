//! The masks that are in force, and what they leave of a value.

use maud::{Markup, html};
use serde_json::Value;

use super::policy::choice;
use super::{Tried, csrf, each, is, word, words};
use crate::console::serve::Asked;

pub fn masks(asked: &Asked<'_>, masks: &Value, tried: Tried<'_>) -> Markup {
    html! {
        h1 { "Masks" }
        section aria-labelledby="try" {
            h2 id="try" { "Try a value" }
            p.note { "The value is masked here and kept nowhere. Hashes are made with another key than sessions' are." }
            form.act method="post" action="/masks/test" autocomplete="off" {
                (csrf(asked))
                div.fields {
                    (choice(asked, tried, "resource", "Resource", &words(masks, "/resources")))
                    label { "Column; empty for none"
                        input name="column" value=(tried.field(asked, "column")) placeholder="public.users.ssn" maxlength="200";
                    }
                }
                label { "Value"
                    textarea name="value" rows="3" required { (tried.field(asked, "value")) }
                }
                button type="submit" { "Mask" }
            }
            @if let Some(result) = tried.result { (shown(result)) }
        }
        section aria-labelledby="rules" {
            h2 id="rules" { "What is in force" }
            @if each(masks, "/masks").next().is_none() {
                p.empty { "Nothing is masked: see [[mask]] in the configuration." }
            } @else {
                table.stack {
                    thead { tr {
                        th scope="col" { "Resource" } th scope="col" { "Columns" }
                        th scope="col" { "Detectors" } th scope="col" { "How" }
                    } }
                    tbody { @for mask in each(masks, "/masks") { tr {
                        th scope="row" data-label="Resource" { (word(mask, "/resource")) }
                        td data-label="Columns" { code { (words(mask, "/columns").join(", ")) } }
                        td data-label="Detectors" { (words(mask, "/detect").join(", ")) }
                        td data-label="How" { (word(mask, "/how")) }
                    } } }
                }
            }
        }
    }
}

fn shown(result: &Value) -> Markup {
    let detected = words(result, "/detected");
    html! {
        div.answer role="status" {
            h3 { (if is(result, "/masked") { "The agent would see" } else { "Nothing masks it: the agent would see it as it is" }) }
            @match result.get("value") {
                None | Some(Value::Null) => p.note { "NULL" },
                Some(_) => pre tabindex="0" { (word(result, "/value")) },
            }
            @if !detected.is_empty() { p { "Found: " (detected.join(", ")) } }
        }
    }
}
