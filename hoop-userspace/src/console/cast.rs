//! What a session's terminal showed: asciicast (version 2), a page at a time and as it grows. What was
//! typed is left out: what of it was to be seen has been printed, and passed the masks on its way.

use serde_json::{Value, json};

use super::live::{Grow, MAX_TEXT, said};
use super::recordings;
use super::respond::Answer;
use super::serve::Asked;
use crate::handover::console::Denied;
use crate::replay::{Cast, Reader, Recorded, Told, What, characters};

/// Events on one page.
const EVENTS: usize = 4000;
/// Bytes of text on one page, but for its last event.
const TEXT: usize = 1 << 20;

impl Asked<'_> {
    /// One page, from an event on.
    pub async fn cast(&self) -> Result<Value, Denied> {
        let from = self.query.get("from").parse().unwrap_or(0);
        let reader = recordings::open(&self.server.link, self.parameter).await?;
        let session = self.parameter.to_owned();
        let read = tokio::task::spawn_blocking(move || page(reader, &session, from)).await;
        read.map_err(|error| Denied::Failed(error.to_string()))
    }

    /// The events from a number on, and those to come.
    pub async fn watch(&self) -> Result<Answer, Denied> {
        let from = self.query.get("from").parse().unwrap_or(0);
        let reader = recordings::open(&self.server.link, self.parameter).await?;
        self.grow(Watched {
            reader,
            screen: Screen::default(),
            seen: 0,
            from,
        })
    }
}

/// From what was recorded to asciicast's events.
#[derive(Default)]
struct Screen {
    cast: Cast,
    /// Other sessions have no terminal, and their bytes mean something else.
    host: bool,
    /// The size that it began with is told.
    sized: bool,
    /// The beginning of a character whose rest is yet to come.
    left: Vec<u8>,
}

impl Screen {
    /// `[seconds, kind, text]`, with the kind `o` for what was printed, `r` for the terminal's size
    /// and `m` for what is missing.
    fn tell(&mut self, recorded: &Recorded) -> Vec<Value> {
        if let Told::Header(header) = &recorded.told {
            self.host = header.protocol == "ssh";
        }
        if !self.host {
            return Vec::new();
        }
        self.cast.tell(recorded);
        let mut events = Vec::new();
        let marks = self.cast.take();
        if let Some((columns, rows)) = self.cast.terminal().filter(|_| !self.sized) {
            self.sized = true;
            let at = std::time::Duration::from_micros(recorded.times.since);
            events.push(json!([at.as_secs_f64(), "r", format!("{columns}x{rows}")]));
        }
        for mark in marks {
            let at = mark.at.as_secs_f64();
            match mark.what {
                What::Printed(bytes) => {
                    let text = characters(&mut self.left, &bytes);
                    if !text.is_empty() {
                        events.push(json!([at, "o", text]));
                    }
                }
                What::Resized(columns, rows) => {
                    events.push(json!([at, "r", format!("{columns}x{rows}")]));
                }
                What::Missing(bytes) => {
                    events.push(json!([at, "m", format!("{bytes} bytes were not kept")]));
                }
                What::Typed(_) => {}
            }
        }
        events
    }
}

fn page(mut reader: Reader, session: &str, from: usize) -> Value {
    let mut screen = Screen::default();
    let (mut events, mut seen, mut text, mut over) = (Vec::new(), 0_usize, 0_usize, false);
    let (mut problem, mut next) = (None, None);
    'read: loop {
        match reader.next_event() {
            Ok(Some(recorded)) => {
                over |= matches!(recorded.told, Told::Seal(..));
                for event in screen.tell(&recorded) {
                    seen += 1;
                    if seen <= from {
                        continue;
                    }
                    if events.len() >= EVENTS || text >= TEXT {
                        next = Some(from + events.len());
                        break 'read;
                    }
                    text += event.get(2).and_then(Value::as_str).map_or(0, str::len);
                    events.push(event);
                }
            }
            Ok(None) => break,
            // What stands before it is whole, and shown.
            Err(error) => {
                problem = Some(error.to_string());
                break;
            }
        }
    }
    let mut page = screen.cast.head();
    if let Some(page) = page.as_object_mut() {
        page.insert("session".into(), json!(session));
        page.insert("events".into(), Value::Array(events));
        page.insert("from".into(), json!(from));
        page.insert("next".into(), json!(next));
        page.insert("over".into(), json!(over));
        page.insert("problem".into(), json!(problem));
    }
    page
}

/// A recording that somebody watches.
struct Watched {
    reader: Reader,
    screen: Screen,
    seen: usize,
    from: usize,
}

impl Grow for Watched {
    fn next(&mut self) -> (String, bool) {
        let (mut events, mut text) = (Vec::new(), 0_usize);
        let end = loop {
            match self.reader.next_event() {
                Ok(Some(recorded)) => {
                    let over = matches!(recorded.told, Told::Seal(..));
                    for event in self.screen.tell(&recorded) {
                        self.seen += 1;
                        if self.seen > self.from {
                            text += event.get(2).and_then(Value::as_str).map_or(0, str::len);
                            events.push(event);
                        }
                    }
                    if over {
                        break Some("the session has ended".to_owned());
                    }
                    if text > MAX_TEXT {
                        break None;
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        let mut told = String::new();
        if !events.is_empty() {
            told = said("cast", &Value::Array(events).to_string());
        }
        if let Some(end) = &end {
            told.push_str(&said("over", end));
        }
        (told, end.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::fields::Fields;
    use crate::record::{Cut, PermittedNote, RepliesNote, SpanNote, Times};
    use crate::record::{Header, IdentityNote};
    use crate::replay::Story;
    use crate::wire::ssh::channel::{Message, Pty, Size};
    use std::borrow::Cow;
    use std::time::{Duration, UNIX_EPOCH};

    fn at(seconds: u64, told: Told) -> Recorded {
        let times = Times {
            at: 0,
            since: seconds * 1_000_000,
        };
        Recorded { times, told }
    }

    fn header(protocol: &str) -> Told {
        Told::Header(Box::new(Header {
            session: crate::console::recordings::measure::id(1),
            started: UNIX_EPOCH + Duration::from_secs(1_764_000_000),
            agent: None,
            mode: crate::config::Mode::Enforce,
            identity: IdentityNote::Unverified { why: String::new() },
            process: crate::attribute::Process::default(),
            resource: None,
            protocol: protocol.into(),
            destination: ([127, 0, 0, 1], 22).into(),
            observed: Vec::new(),
            database: None,
            login: None,
            client_user: None,
            application: None,
            netns: None,
        }))
    }

    fn asked(messages: &[Message]) -> Told {
        let kept: Vec<u8> = messages.iter().flat_map(Message::to_bytes).collect();
        Told::Permitted(PermittedNote {
            exchange: 1,
            policy_epoch: 0,
            identity_epoch: 0,
            units: Vec::new(),
            wire: Cut {
                length: kept.len() as u64,
                digest: None,
                kept: Cow::Owned(kept),
            },
        })
    }

    fn printed(message: &Message, missing: usize) -> Told {
        let kept = message.to_bytes().to_vec();
        let length = kept.len() as u64;
        let kept = kept[..kept.len() - missing].to_vec();
        Told::Replies(RepliesNote {
            masked: 0,
            spans: vec![SpanNote {
                exchange: 1,
                rows: 0,
                length,
                kept: kept.len() as u64,
            }],
            kept: Cow::Owned(kept),
        })
    }

    #[test]
    fn a_terminals_events_are_told_at_their_times_whole_and_without_what_was_typed() {
        let mut screen = Screen::default();
        let size = Size {
            columns: 100,
            rows: 30,
            ..Size::default()
        };
        let pty = Message::Pty(Pty {
            term: bytes::Bytes::from_static(b"xterm"),
            size,
            modes: Vec::new(),
        });
        let output = |bytes: &'static [u8]| Message::Output(bytes::Bytes::from_static(bytes));
        let typed = Message::Input(bytes::Bytes::from_static(b"secret"));
        let told: Vec<Value> = [
            at(0, header("ssh")),
            at(1, asked(&[pty, Message::Shell, typed])),
            at(2, printed(&output("é".as_bytes().split_at(1).0), 0)),
            at(3, printed(&output("é".as_bytes().split_at(1).1), 0)),
            at(4, printed(&output(b"much more"), 5)),
        ]
        .iter()
        .flat_map(|recorded| screen.tell(recorded))
        .collect();
        let expected = json!([
            [1.0, "r", "100x30"],
            [3.0, "o", "é"],
            [4.0, "o", "much"],
            [4.0, "m", "5 bytes were not kept"],
        ]);
        assert_eq!(Value::Array(told), expected);
    }

    #[test]
    fn what_is_no_session_on_a_host_has_no_terminal() {
        let mut screen = Screen::default();
        screen.tell(&at(0, header("postgres")));
        let output = Message::Output(bytes::Bytes::from_static(b"not a row"));
        assert_eq!(
            screen.tell(&at(1, printed(&output, 0))),
            Vec::<Value>::new()
        );
    }

    /// The index is told the same events, and finds a session by what it ran.
    #[test]
    fn a_session_on_a_host_is_found_by_its_command() {
        let session = crate::console::recordings::measure::id(1);
        let (mut index, mut story) = (recordings::Index::default(), Story::default());
        if let Told::Header(header) = &header("ssh") {
            index.begin(header);
        }
        let command = Message::Exec(bytes::Bytes::from_static(b"uname -a"));
        for recorded in [at(0, header("ssh")), at(1, asked(&[command]))] {
            index.take(session, &mut story, recorded);
        }
        let search = recordings::Search::of(&Fields::of_text("text=uname+-a")).unwrap();
        assert_eq!(search.run(&index)["sessions"].as_array().unwrap().len(), 1);
    }
}
