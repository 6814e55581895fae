//! A terminal session as it looked: as asciicast (version 2), or played at any speed.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::host::messages;
use super::read::{Recorded, Told};
use crate::wire::ssh::channel::{HEADER, Message, Size};

/// The size of a terminal that nobody named.
const USUAL: Size = Size {
    columns: 80,
    rows: 24,
    width: 0,
    height: 0,
};

/// What happened on the terminal, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Since the recording began.
    pub at: Duration,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Printed(Vec<u8>),
    Typed(Vec<u8>),
    Resized(u32, u32),
    /// So many bytes more were printed, which were not kept.
    Missing(u64),
}

/// Collects marks from what a recording tells.
#[derive(Default)]
pub struct Cast {
    started: u64,
    size: Option<Size>,
    command: Option<String>,
    marks: Vec<Mark>,
}

impl Cast {
    pub fn tell(&mut self, recorded: &Recorded) {
        let at = Duration::from_micros(recorded.times.since);
        match &recorded.told {
            Told::Header(header) => {
                let since = header.started.duration_since(std::time::UNIX_EPOCH);
                self.started = since.map_or(0, |d| d.as_secs());
            }
            Told::Permitted(note) => {
                self.messages(at, &note.wire.kept);
            }
            Told::Bulk(note) => {
                self.messages(at, &note.wire.kept);
            }
            Told::Replies(note) => {
                let mut from = 0usize;
                for span in &note.spans {
                    let kept = usize::try_from(span.kept).unwrap_or(usize::MAX);
                    let end = from.saturating_add(kept);
                    let rest = self.messages(at, note.kept.get(from..end).unwrap_or_default());
                    from = end;
                    self.missing(at, &rest, span.length.saturating_sub(span.kept));
                }
            }
            Told::Refused(note) => {
                let text = format!("hoop: {}\r\n", note.message);
                self.mark(at, What::Printed(text.into_bytes()));
            }
            _ => {}
        }
    }

    /// What is left is of a message that was cut.
    fn messages(&mut self, at: Duration, kept: &[u8]) -> Bytes {
        let (whole, rest) = messages(kept);
        for message in whole {
            match message {
                Message::Pty(pty) => self.size = Some(pty.size),
                Message::Exec(command) => {
                    self.command = Some(String::from_utf8_lossy(&command).into_owned());
                }
                Message::Resize(size) => {
                    self.mark(at, What::Resized(size.columns, size.rows));
                }
                Message::Input(bytes) => self.mark(at, What::Typed(bytes.to_vec())),
                Message::Output(bytes) | Message::ErrorOutput(bytes) => {
                    self.mark(at, What::Printed(bytes.to_vec()));
                }
                _ => {}
            }
        }
        rest
    }

    /// Of replies of which not all was kept: what there is of the last message.
    fn missing(&mut self, at: Duration, rest: &[u8], bytes: u64) {
        if bytes == 0 {
            return;
        }
        let printed = matches!(rest.first(), Some(b'o' | b'e'));
        if let (true, Some(text)) = (printed, rest.get(HEADER..)) {
            self.mark(at, What::Printed(text.to_vec()));
        }
        self.mark(at, What::Missing(bytes));
    }

    fn mark(&mut self, at: Duration, what: What) {
        self.marks.push(Mark { at, what });
    }

    /// What has been collected since it was taken last.
    pub fn take(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.marks)
    }

    /// Columns and rows of the terminal that was asked for; `None` without one.
    pub fn terminal(&self) -> Option<(u32, u32)> {
        self.size.map(|size| {
            let or = |number: u32, usual: u32| if number == 0 { usual } else { number };
            // A client that has no terminal itself may ask for one without a size.
            (or(size.columns, USUAL.columns), or(size.rows, USUAL.rows))
        })
    }

    /// What asciicast calls the header.
    pub fn head(&self) -> Value {
        let (columns, rows) = self.terminal().unwrap_or((USUAL.columns, USUAL.rows));
        let mut head = json!({
            "version": 2, "width": columns, "height": rows, "timestamp": self.started,
        });
        if let (Some(command), Some(head)) = (&self.command, head.as_object_mut()) {
            head.insert("command".into(), json!(command));
        }
        head
    }

    /// Writes it as asciicast, version 2.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.head())?;
        let (mut printed, mut typed) = (Vec::new(), Vec::new());
        for mark in &self.marks {
            let at = mark.at.as_secs_f64();
            let line = match &mark.what {
                What::Printed(bytes) => json!([at, "o", characters(&mut printed, bytes)]),
                What::Typed(bytes) => json!([at, "i", characters(&mut typed, bytes)]),
                What::Resized(columns, rows) => json!([at, "r", format!("{columns}x{rows}")]),
                What::Missing(bytes) => json!([at, "m", format!("{bytes} bytes were not kept")]),
            };
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    /// Prints it as it was printed, `speed` times as fast, from a moment on: what was printed
    /// before comes at once, so that the screen is as it was. `wait` is given each pause.
    pub fn play(
        &self,
        out: &mut impl Write,
        speed: f64,
        from: Duration,
        longest: Duration,
        mut wait: impl FnMut(Duration),
    ) -> io::Result<()> {
        let mut now = from;
        for mark in &self.marks {
            let What::Printed(bytes) = &mark.what else {
                continue;
            };
            if mark.at > now {
                out.flush()?;
                let pause = (mark.at - now).div_f64(speed.max(0.01));
                wait(pause.min(longest));
                now = mark.at;
            }
            out.write_all(bytes)?;
        }
        out.flush()
    }
}

/// What is whole of the characters so far; a part of one waits for its rest.
pub fn characters(left: &mut Vec<u8>, bytes: &[u8]) -> String {
    left.extend_from_slice(bytes);
    let whole = match std::str::from_utf8(left) {
        Ok(_) => left.len(),
        // The end of the text may be the beginning of a character.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => left.len(),
    };
    let text = left.drain(..whole).collect::<Vec<u8>>();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast() -> Cast {
        let mut cast = Cast::default();
        let second = Duration::from_secs(1);
        cast.size = Some(Size {
            columns: 100,
            rows: 30,
            ..Size::default()
        });
        cast.mark(second, What::Printed("é".as_bytes()[..1].to_vec()));
        cast.mark(second * 2, What::Printed("é".as_bytes()[1..].to_vec()));
        cast.mark(second * 3, What::Typed(b"q".to_vec()));
        cast.mark(second * 4, What::Resized(90, 20));
        cast.mark(second * 9, What::Printed(b"end".to_vec()));
        cast
    }

    #[test]
    fn it_is_asciicast_and_breaks_no_character() {
        let mut out = Vec::new();
        cast().write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"version":2,"width":100,"height":30,"timestamp":0}"#,
                r#"[1.0,"o",""]"#,
                r#"[2.0,"o","é"]"#,
                r#"[3.0,"i","q"]"#,
                r#"[4.0,"r","90x20"]"#,
                r#"[9.0,"o","end"]"#,
            ]
        );
    }

    #[test]
    fn it_plays_at_any_speed_from_any_moment() {
        let play = |speed, from| {
            let (mut out, mut pauses) = (Vec::new(), Vec::new());
            let longest = Duration::from_secs(3);
            cast()
                .play(&mut out, speed, Duration::from_secs(from), longest, |p| {
                    pauses.push(p.as_millis());
                })
                .unwrap();
            (String::from_utf8(out).unwrap(), pauses)
        };
        assert_eq!(play(1.0, 0), ("éend".into(), vec![1000, 1000, 3000]));
        assert_eq!(play(2.0, 5), ("éend".into(), vec![2000]));
    }
}
