//! The terminal of a session on a host, played; and the same as text for whoever has no script or
//! does not see.

use maud::{Markup, html};
use serde_json::Value;

use super::{each, is, word};
use crate::console::act::segment;
use crate::console::plain::plain;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Bytes of text on one page.
const TEXT: usize = 2 << 20;
/// What the keyboard does, on the screen and on the slider.
const KEYS: &str = "Keys: space plays and pauses, ← and → go 5 seconds back and forth, < and > change the speed, Home and End go to the beginning and the end.";

/// Hidden until the script knows that there is something to play.
pub fn player(session: &Value, id: &str) -> Markup {
    if word(session, "/header/protocol") != "ssh" {
        return html! {};
    }
    let place = segment(id);
    let watch = (!is(session, "/over")).then(|| format!("/sessions/{place}/watch"));
    html! {
        section.player aria-labelledby="terminal" data-cast=(format!("/api/v1/sessions/{place}/cast"))
            data-watch=[watch] hidden {
            h2 id="terminal" { "Terminal" }
            // Its characters move about: the transcript is for whoever listens.
            div.screen role="group" tabindex="0" aria-label="The screen as it was; the transcript has its text" aria-describedby="keys" {
                pre aria-hidden="true" {}
            }
            div.controls {
                button type="button" data-play { "Play" }
                label.place {
                    span { "Time" }
                    input type="range" min="0" max="0" step="0.1" value="0" data-place;
                }
                span.clock data-clock { "0:00 / 0:00" }
                label.speed {
                    span { "Speed" }
                    select data-speed {
                        @for speed in ["0.5", "1", "2", "4", "8", "16"] {
                            option value=(speed) selected[speed == "1"] { (speed) "×" }
                        }
                    }
                }
                label.check { input type="checkbox" data-skip checked; "Skip pauses" }
                button.quiet type="button" data-now hidden { "Follow what goes on" }
            }
            p.note id="keys" { (KEYS) }
            p.note role="status" data-said {}
        }
        p { a href=(format!("/sessions/{place}/transcript")) { "What was printed, as text" } }
        script src=(format!("/assets/terminal.js?v={VERSION}")) defer {}
        script src=(format!("/assets/player.js?v={VERSION}")) defer {}
    }
}

/// What the terminal showed, from beginning to end, as lines.
pub fn transcript(cast: &Value) -> Markup {
    let id = word(cast, "/session");
    let place = segment(&id);
    let printed: String = each(cast, "/events")
        .filter(|event| word(event, "/1") == "o")
        .filter_map(|event| event.pointer("/2").and_then(Value::as_str))
        .collect();
    let missing = each(cast, "/events").any(|event| word(event, "/1") == "m");
    let (text, whole) = plain(&printed, TEXT);
    let problem = word(cast, "/problem");
    let from = cast.get("from").and_then(Value::as_u64).unwrap_or(0);
    let next = cast.get("next").and_then(Value::as_u64);
    html! {
        p { a href=(format!("/sessions/{place}")) { "← The session" } }
        h1 { "What was printed in " (id) }
        @if !word(cast, "/command").is_empty() {
            p { "By " code { (word(cast, "/command")) } }
        }
        @if !problem.is_empty() {
            p.problem role="alert" { "What follows cannot be believed: " (problem) }
        }
        @if from > 0 {
            p { a href=(format!("/sessions/{place}/transcript")) { "From the beginning" } }
        }
        @if missing || !whole { p.note { "Not all of it is here." } }
        @if text.trim().is_empty() {
            p.empty { "Nothing was printed here." }
        } @else {
            pre.transcript tabindex="0" { (text) }
        }
        @if let Some(next) = next {
            p { a.button href=(format!("/sessions/{place}/transcript?from={next}")) { "What came then" } }
        } @else if !is(cast, "/over") {
            p.note { "The session goes on, or its end was not recorded. Load the page again for what came since." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_transcript_is_what_was_printed_and_no_markup() {
        let cast = json!({
            "session": "06c4b9d1s0", "command": "cat <x>", "from": 0, "next": 4000, "over": false,
            "events": [
                [0.1, "r", "80x24"], [0.2, "o", "\u{1b}[1m<b>one</b>\r\n"], [0.3, "o", "two"],
                [0.4, "m", "7 bytes were not kept"],
            ],
        });
        let page = transcript(&cast).into_string();
        assert!(page.contains("&lt;b&gt;one&lt;/b&gt;\ntwo</pre>"), "{page}");
        assert!(page.contains("cat &lt;x&gt;") && page.contains("?from=4000"));
        assert!(page.contains("Not all of it is here"));
    }

    #[test]
    fn there_is_a_player_for_hosts_alone_and_what_is_over_is_not_watched() {
        let of = |protocol, over| {
            let session = json!({ "header": { "protocol": protocol }, "over": over });
            player(&session, "06c4b9d1s0").into_string()
        };
        assert_eq!(of("postgres", true), "");
        assert!(!of("ssh", true).contains("data-watch"));
        let open = of("ssh", false);
        assert!(
            open.contains(r#"data-watch="/sessions/06c4b9d1s0/watch""#),
            "{open}"
        );
    }
}
