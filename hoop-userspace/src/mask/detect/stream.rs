//! Text that comes in pieces: a terminal, a log that is followed, a body in chunks.
//!
//! What has come is held back until enough follows it to decide what it is, and never more than
//! [`HOLD`] bytes. The decisions are made over windows whose places depend on the text alone, so how
//! it was cut into pieces changes nothing. A caller whose reader waits (a prompt, an echo) calls
//! [`Stream::flush`] when nothing has come for a moment, at most 20 ms; a value that was flushed in
//! two is masked from where it could be recognised.
//!
//! Escape sequences of a terminal (ECMA-48) are no part of the text: a value that changes its colour
//! in the middle is found, and the sequences pass. The strings that some begin (a window's title, the
//! clipboard) are text like all else, and so is what only begins like a sequence.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::{Detectors, Hit, Id, Kind, Marks, secrets};

/// Bytes of text that are held back at most.
pub const HOLD: usize = 8 * 1024;
/// A value of up to this many bytes is found wherever the pieces end; a longer one is masked from
/// its beginning to where nothing of its kind can follow.
pub const LONGEST: usize = 2 * 1024;
/// What has left and is still looked at, for words and beginnings of values.
const CONTEXT: usize = 256;
/// No sequence is longer; what is would be a hiding place for text.
const SEQUENCE: usize = 64;
/// Nor are the numbers in it: cards and accounts have more digits.
const DIGITS: usize = 5;
/// Sequences that wait for the text around them, in bytes; then the text is decided as it is.
const ESCAPES: usize = 64 * 1024;
/// Bytes that one value may go on for, after its beginning was masked.
const TAIL: usize = 64 * 1024;
/// No shorter than the line that ends a key, and no longer than [`CONTEXT`].
const END_LINE: usize = 128;

/// One direction of one stream.
#[derive(Debug)]
pub struct Stream {
    detectors: Arc<Detectors>,
    escapes: Option<Escapes>,
    /// Context that has left, then what is held.
    text: Vec<u8>,
    sent: usize,
    /// A value that goes on.
    tail: Option<Tail>,
    keep_length: bool,
    marks: Marks,
    hits: Vec<Hit>,
}

#[derive(Debug)]
struct Tail {
    pem: bool,
    left: usize,
}

/// What is put in place of a value: the detector, the value, and where to write.
pub trait Replace: FnMut(Id, &[u8], &mut Vec<u8>) {}

impl<F: FnMut(Id, &[u8], &mut Vec<u8>)> Replace for F {}

impl Stream {
    /// A stream of bytes without escape sequences.
    pub fn bytes(detectors: Arc<Detectors>) -> Self {
        Self {
            detectors,
            escapes: None,
            text: Vec::new(),
            sent: 0,
            tail: None,
            keep_length: false,
            marks: Marks::default(),
            hits: Vec::new(),
        }
    }

    /// What goes on behind a value's beginning becomes as many `*`: for content whose lengths are
    /// said elsewhere.
    #[must_use]
    pub fn keeping_length(mut self) -> Self {
        self.keep_length = true;
        self
    }

    /// What a terminal is sent.
    pub fn terminal(detectors: Arc<Detectors>) -> Self {
        Self {
            escapes: Some(Escapes::default()),
            ..Self::bytes(detectors)
        }
    }

    /// Takes a piece; appends what can be decided.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>, mut replace: impl Replace) {
        let mut rest = piece;
        while !rest.is_empty() {
            // A large piece never makes more than a window's worth be held.
            let part = rest.get(..rest.len().min(HOLD)).unwrap_or_default();
            let taken = match &mut self.escapes {
                Some(escapes) => escapes.take(part, &mut self.text),
                None => {
                    self.text.extend_from_slice(part);
                    part.len()
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
            self.windows(out, &mut replace);
            if self.escapes.as_ref().is_some_and(Escapes::is_full) {
                self.all(self.held(), out, &mut replace);
                self.escapes
                    .iter_mut()
                    .for_each(|e| e.pass(usize::MAX, out));
            }
        }
        if self.held() == 0 {
            self.escapes
                .iter_mut()
                .for_each(|e| e.pass(usize::MAX, out));
        }
    }

    fn windows(&mut self, out: &mut Vec<u8>, replace: &mut impl Replace) {
        while self.held() > 0 {
            if self.tail.is_some() {
                if !self.swallow(false, out) {
                    return;
                }
            } else if self.held() >= HOLD {
                self.window(HOLD, HOLD - LONGEST, out, replace);
            } else {
                return;
            }
        }
    }

    /// Appends all that is held, for nothing more comes for the moment: to the last byte, half a
    /// character and half a sequence too. What looks like one may be the end of a message of a
    /// program's own protocol, whose reader answers before anything follows.
    pub fn flush(&mut self, out: &mut Vec<u8>, mut replace: impl Replace) {
        self.all(self.held(), out, &mut replace);
        if let Some(escapes) = &mut self.escapes {
            escapes.pass(usize::MAX, out);
            // The sequence still goes on, only what has come of it waits no longer.
            out.append(&mut escapes.open);
        }
    }

    /// Appends all that is held: nothing comes any more.
    pub fn finish(&mut self, out: &mut Vec<u8>, mut replace: impl Replace) {
        self.swallow(true, out);
        self.all(self.held(), out, &mut replace);
        if let Some(escapes) = &mut self.escapes {
            escapes.pass(usize::MAX, out);
            out.append(&mut escapes.open);
        }
    }

    /// Bytes of text that wait.
    pub fn held(&self) -> usize {
        self.text.len() - self.sent
    }

    /// Whether what waits ends with its line.
    pub fn ends_line(&self) -> bool {
        self.held() > 0 && self.text.last() == Some(&b'\n')
    }

    fn all(&mut self, length: usize, out: &mut Vec<u8>, replace: &mut impl Replace) {
        let mut length = length;
        while length > 0 {
            let before = self.held();
            if self.tail.is_some() {
                self.swallow(false, out);
            } else {
                self.window(length, length, out, replace);
            }
            let taken = before - self.held();
            if taken == 0 {
                break;
            }
            length = length.saturating_sub(taken);
        }
        if let Some(escapes) = &mut self.escapes {
            escapes.pass(self.sent, out);
        }
    }

    /// Looks at `length` held bytes and sends the first `decide`, or a little more or less: no value
    /// and no character is cut.
    fn window(
        &mut self,
        length: usize,
        decide: usize,
        out: &mut Vec<u8>,
        replace: &mut impl Replace,
    ) {
        let window = self.text.get(..self.sent + length).unwrap_or(&self.text);
        let mut hits = std::mem::take(&mut self.hits);
        hits.clear();
        self.detectors.look(window, &mut self.marks);
        if !self.marks.is_empty() {
            let signs = self.marks.within(0..window.len());
            self.detectors.scan(window, signs, &mut hits);
        }
        let mut end = self.sent + decide;
        if decide < length {
            while end > self.sent + 1 && window.get(end).is_some_and(|b| b & 0xc0 == 0x80) {
                end -= 1;
            }
        }
        let mut tail = None;
        for hit in &hits {
            if hit.range.start < end && hit.range.end > end {
                end = hit.range.end;
            }
            if hit.range.end == window.len() && hit.range.start < end {
                tail = Some(hit.detector);
            }
        }
        let mut at = self.sent;
        for hit in hits.iter().filter(|h| h.range.start < end) {
            if hit.range.end <= at {
                continue;
            }
            self.pass(at..hit.range.start, out);
            // The beginning of a value may have left, which lengths have been counted with.
            let from = match self.keep_length {
                true => hit.range.start.max(at),
                false => hit.range.start,
            };
            let value = self.text.get(from..hit.range.end).unwrap_or_default();
            replace(hit.detector, value, out);
            at = hit.range.end;
        }
        self.pass(at..end, out);
        self.hits = hits;
        // Only a value that reaches the end of what was there may go on.
        if let Some(detector) = tail.filter(|_| end == self.sent + length) {
            self.tail = self.goes_on(detector);
        }
        self.sent = end;
        self.forget();
    }

    fn goes_on(&self, detector: Id) -> Option<Tail> {
        let pem = self.detectors.kind(detector) == Some(Kind::PrivateKey);
        let long = pem
            || matches!(
                self.detectors.kind(detector),
                Some(Kind::Jwt | Kind::ApiKey | Kind::Token)
            );
        long.then_some(Tail { pem, left: TAIL })
    }

    /// Drops what belongs to a value whose beginning was masked. Whether there is more to look at.
    fn swallow(&mut self, last: bool, out: &mut Vec<u8>) -> bool {
        let Some(tail) = &mut self.tail else {
            return true;
        };
        let held = self.text.get(self.sent..).unwrap_or_default();
        let pem = tail.pem;
        let of_value = |b: &u8| match pem {
            true => secrets::is_key_body(b),
            false => b.is_ascii_alphanumeric() || b"_.-+/=~".contains(b),
        };
        let run = held.iter().take_while(|b| of_value(b)).count();
        let run = run.min(tail.left);
        // The line that ends a key may have begun in what was dropped before.
        let before = (TAIL - tail.left).min(END_LINE).min(self.sent);
        let body = self.text.get(self.sent - before..self.sent + run);
        let line = body.filter(|_| pem).and_then(end_line);
        let (drop, over) = match line {
            Some(end) => (end.saturating_sub(before), true),
            None => (run, run < held.len() || run == tail.left || last),
        };
        tail.left -= drop;
        if self.keep_length {
            out.resize(out.len() + drop, b'*');
        }
        self.sent += drop;
        if over {
            self.tail = None;
        }
        self.forget();
        over
    }

    fn pass(&mut self, range: Range<usize>, out: &mut Vec<u8>) {
        let Some(escapes) = &mut self.escapes else {
            out.extend_from_slice(self.text.get(range).unwrap_or_default());
            return;
        };
        let mut at = range.start;
        while let Some(place) = escapes.next().filter(|place| *place <= range.end) {
            let place = place.max(at);
            out.extend_from_slice(self.text.get(at..place).unwrap_or_default());
            escapes.pass(place, out);
            at = place;
        }
        out.extend_from_slice(self.text.get(at..range.end).unwrap_or_default());
    }

    /// Keeps as much of what has left as is still looked at.
    fn forget(&mut self) {
        let gone = self.sent.saturating_sub(CONTEXT);
        self.text.drain(..gone);
        self.sent -= gone;
        if let Some(escapes) = &mut self.escapes {
            escapes.forget(gone);
        }
    }
}

/// Where the line that ends a key ends: the first of those that are whole.
fn end_line(body: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(body, b"-----END ").find_map(|at| {
        let rest = body.get(at + 9..)?;
        let closed = memchr::memmem::find(rest.get(..rest.len().min(64))?, b"-----")?;
        Some(at + 9 + closed + 5)
    })
}

/// Escape sequences, taken out of the text and put back where they stood.
#[derive(Debug, Default)]
struct Escapes {
    state: State,
    /// A sequence whose end has not come, or what has come of it since a flush.
    open: Vec<u8>,
    /// Bytes of that sequence, and the digits at its end.
    length: usize,
    digits: usize,
    /// Whole ones, by their place in the text, and how many bytes they have.
    waiting: VecDeque<(usize, Vec<u8>)>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Intermediate,
    /// Behind CSI: parameters.
    Control,
    /// Behind them: intermediate bytes.
    ControlIntermediate,
}

impl Escapes {
    /// Takes a piece apart, up to where too much waits; returns how much was taken.
    fn take(&mut self, piece: &[u8], text: &mut Vec<u8>) -> usize {
        let mut rest = piece;
        while !rest.is_empty() && !self.is_full() {
            if self.state == State::Ground {
                let plain = memchr::memchr(0x1b, rest).unwrap_or(rest.len());
                text.extend_from_slice(rest.get(..plain).unwrap_or_default());
                rest = rest.get(plain..).unwrap_or_default();
            }
            let Some((byte, after)) = rest.split_first() else {
                break;
            };
            let Some(next) = self.after(*byte) else {
                // It is none, and this byte may begin another.
                text.append(&mut self.open);
                self.state = State::Ground;
                continue;
            };
            rest = after;
            self.open.push(*byte);
            self.state = next;
            if next == State::Ground {
                let whole = std::mem::take(&mut self.open);
                self.bytes += whole.len();
                self.waiting.push_back((text.len(), whole));
            }
        }
        piece.len() - rest.len()
    }

    /// The state behind this byte of a sequence; `None` if it cannot be one.
    fn after(&mut self, byte: u8) -> Option<State> {
        if self.state == State::Ground {
            (self.length, self.digits) = (0, 0);
        }
        self.length += 1;
        self.digits = match byte.is_ascii_digit() {
            true => self.digits + 1,
            false => 0,
        };
        if self.length > SEQUENCE || self.digits > DIGITS {
            return None;
        }
        self.state.after(byte)
    }

    fn is_full(&self) -> bool {
        self.bytes >= ESCAPES
    }

    fn next(&self) -> Option<usize> {
        self.waiting.front().map(|(place, _)| *place)
    }

    /// Appends those that stand up to this place.
    fn pass(&mut self, up_to: usize, out: &mut Vec<u8>) {
        while self.next().is_some_and(|place| place <= up_to) {
            if let Some((_, sequence)) = self.waiting.pop_front() {
                self.bytes -= sequence.len();
                out.extend_from_slice(&sequence);
            }
        }
    }

    fn forget(&mut self, bytes: usize) {
        for (place, _) in &mut self.waiting {
            *place = place.saturating_sub(bytes);
        }
    }
}

impl State {
    /// ECMA-48, 5.3 and 5.4.
    fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Ground, 0x1b) => Self::Escape,
            (Self::Escape, b'[') => Self::Control,
            (Self::Escape, 0x20..=0x2f) => Self::Intermediate,
            // Digits that end a sequence are few, and more would hide one of a number.
            (Self::Escape, b'7' | b'8' | 0x3a..=0x7e) => Self::Ground,
            (Self::Intermediate, b'0' | b'8' | 0x3a..=0x7e) => Self::Ground,
            (Self::Control, 0x30..=0x3f) => Self::Control,
            (Self::Control | Self::ControlIntermediate, 0x20..=0x2f) => Self::ControlIntermediate,
            (Self::Control | Self::ControlIntermediate, 0x40..=0x7e) => Self::Ground,
            _ => return None,
        })
    }
}
