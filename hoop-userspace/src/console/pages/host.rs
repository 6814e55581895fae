//! What happens in a session on a host: what was printed and typed, which files moved, how it ended.

use maud::{Markup, html};
use serde_json::Value;

use super::{badge, is, word};
use crate::console::plain::plain;

/// Of what was printed or typed at once, in bytes: the transcript has the rest.
const SHOWN: usize = 4096;

/// One line of the timeline; `None` where it is of no session on a host.
pub fn event(line: &Value, kind: &str) -> Option<Markup> {
    Some(match kind {
        "output" => printed(line),
        "input" => html! {
            p.note { "typed, " (bytes(line, "/bytes")) }
            (text(line))
        },
        "resize" if word(line, "/columns") == "0" => html! {
            p.note { "A terminal, of no size that the client knows." }
        },
        "resize" => html! {
            p.note { "The terminal has " (word(line, "/columns")) " columns and " (word(line, "/rows")) " rows." }
        },
        "signal" => {
            html! { p { "The client sent the signal " code { (word(line, "/signal")) } "." } }
        }
        "exit" => exit(line),
        "transfer" => html! {
            p { (badge("file")) " " code { (word(line, "/path")) } }
            (flow(line, "read", "read by the agent"))
            (flow(line, "written", "written by the agent"))
        },
        _ => return None,
    })
}

fn printed(line: &Value) -> Markup {
    let masked = line.get("masked").and_then(Value::as_u64).unwrap_or(0);
    html! {
        (text(line))
        p.note {
            (word(line, "/stream")) ", " (bytes(line, "/bytes"))
            @if masked > 0 { " " span.badge.open { (masked) " masked" } }
            @if is(line, "/truncated") { " · not all of it was kept" }
        }
    }
}

fn text(line: &Value) -> Markup {
    let text = line.get("text").and_then(Value::as_str).unwrap_or_default();
    let (shown, whole) = plain(text, SHOWN);
    html! {
        @if !shown.trim().is_empty() {
            pre tabindex="0" { (shown) @if !whole { "…" } }
        }
    }
}

fn exit(line: &Value) -> Markup {
    let status = line.get("status").and_then(Value::as_u64);
    html! {
        @match status {
            Some(0) => p { "It ended well: status 0." },
            Some(status) => p { "It ended with status " strong { (status) } "." },
            None => p { "It was ended by the signal " strong { (word(line, "/signal")) } "." },
        }
    }
}

fn bytes(line: &Value, path: &str) -> String {
    match word(line, path).as_str() {
        "1" => "1 byte".to_owned(),
        count => format!("{count} bytes"),
    }
}

fn flow(line: &Value, way: &str, words: &str) -> Markup {
    let count = bytes(line, &format!("/{way}/bytes"));
    let digest = word(line, &format!("/{way}/sha256"));
    html! {
        @if count != "0 bytes" {
            p.note {
                (count) " " (words)
                @if !digest.is_empty() { ", SHA-256 " code { (digest) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(line: &Value) -> String {
        let kind = word(line, "/event");
        event(line, &kind).unwrap().into_string()
    }

    #[test]
    fn what_happens_on_a_host_is_told_in_words_and_nothing_of_it_is_markup() {
        let printed = shown(&json!({
            "event": "output", "stream": "stdout", "bytes": 31, "masked": 2, "truncated": true,
            "text": "\u{1b}[31m<script>alert(1)</script>\u{1b}[0m\r\n",
        }));
        assert!(
            printed.contains("&lt;script&gt;alert(1)&lt;/script&gt;\n</pre>"),
            "{printed}"
        );
        assert!(printed.contains("2 masked") && printed.contains("not all"));
        let moved = shown(&json!({
            "event": "transfer", "path": "/srv/<x>",
            "read": { "bytes": 0, "sha256": null }, "written": { "bytes": 7, "sha256": "ab" },
        }));
        assert!(moved.contains("/srv/&lt;x&gt;") && moved.contains("7 bytes written"));
        assert!(!moved.contains("read by"), "{moved}");
        assert!(shown(&json!({ "event": "exit", "status": 3 })).contains("status <strong>3"));
        let ended = shown(&json!({ "event": "exit", "status": null, "signal": "KILL" }));
        assert!(ended.contains("KILL"));
        assert!(event(&json!({}), "reply").is_none());
    }
}
