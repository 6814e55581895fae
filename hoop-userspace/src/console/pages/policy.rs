//! The policies that are in force, and what they say of a statement.

use maud::{Markup, html};
use serde_json::Value;

use super::{Tried, badge, csrf, each, word, words};
use crate::console::serve::Asked;

pub fn policy(asked: &Asked<'_>, policy: &Value, tried: Tried<'_>) -> Markup {
    html! {
        h1 { "Policy" }
        section aria-labelledby="try" {
            h2 id="try" { "Try a statement" }
            p.note { "Decided by the policies below, as if the agent sent it now. Nothing runs, and nothing is recorded." }
            form.act method="post" action="/policy/test" {
                (csrf(asked))
                div.fields {
                    (choice(asked, tried, "agent", "Agent", &words(policy, "/agents")))
                    (choice(asked, tried, "resource", "Resource", &words(policy, "/resources")))
                    label { "Database"
                        input name="database" value=(tried.field(asked, "database")) placeholder="postgres" maxlength="63";
                    }
                    label { "Groups of the agent"
                        input name="groups" value=(tried.field(asked, "groups")) placeholder="one, another" maxlength="500";
                    }
                }
                label { "Statement"
                    textarea name="sql" rows="4" required { (tried.field(asked, "sql")) }
                }
                button type="submit" { "Decide" }
            }
            @if let Some(result) = tried.result { (decision(result)) }
        }
        (texts(policy))
    }
}

pub fn choice(
    asked: &Asked<'_>,
    tried: Tried<'_>,
    name: &str,
    label: &str,
    among: &[String],
) -> Markup {
    let chosen = tried.field(asked, name);
    html! {
        label { (label)
            select name=(name) required {
                @for one in among { option selected[*one == chosen] { (one) } }
            }
        }
    }
}

fn decision(result: &Value) -> Markup {
    let verdict = word(result, "/verdict");
    let rules = words(result, "/rules");
    html! {
        div.answer role="status" {
            h3 { (badge(&verdict)) " " (match verdict.as_str() {
                "allow" => "It may run",
                "ask" => "People would be asked",
                _ => "It would be refused",
            }) }
            @if !word(result, "/message").is_empty() { p { (word(result, "/message")) } }
            @if rules.is_empty() {
                p.note { "No rule permits it, and none forbids it by name." }
            } @else {
                p { "Decided by " strong { (rules.join(", ")) } "." }
            }
            @if !word(result, "/refusal/hint").is_empty() { p.note { "The agent would read: " (word(result, "/refusal/hint")) } }
            @for statement in each(result, "/facts/statements") {
                ul { @for access in each(statement, "/accesses") {
                    li { (word(access, "/action")) ": " (word(access, "/verb")) " " (object(access)) }
                } }
            }
        }
    }
}

/// What a statement touches, as the parser found it.
fn object(access: &Value) -> String {
    let object = access.get("object").unwrap_or(&Value::Null);
    let parts = ["/schema", "/name", "/text"].map(|path| word(object, path));
    let named: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    match (object, named.is_empty()) {
        (Value::String(text), _) => crate::console::text::visible(text),
        (_, false) => named.join("."),
        _ => String::new(),
    }
}

fn texts(policy: &Value) -> Markup {
    let packs = each(policy, "/packs").map(|pack| ("Pack", pack));
    let files = each(policy, "/files").map(|file| ("File", file));
    let all: Vec<(&str, &Value)> = packs.chain(files).collect();
    html! {
        section aria-labelledby="texts" {
            h2 id="texts" { "What is in force" }
            @if all.is_empty() {
                p.empty { "No policy is in force: everything is refused. See [policy] in the configuration." }
            }
            @for (kind, text) in all {
                details {
                    summary { (kind) " " (word(text, "/name")) }
                    pre tabindex="0" { (word(text, "/text")) }
                }
            }
        }
    }
}
