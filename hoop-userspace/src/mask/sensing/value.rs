//! One value: what is found in it, and what stands in its place.

use super::forms::{self, Field, Form, Nested};
use super::{Detection, json};
use crate::config::How;
use crate::hex;
use crate::mask::detect::{Hit, Id, Marks, Signs};
use crate::mask::value;

/// Arrays in composites in arrays: deeper than this a value is looked at as a whole.
const DEPTH: usize = 4;

/// Of an array (PostgreSQL, `MAXDIM`).
const DIMENSIONS: usize = 6;

/// What becomes of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Null,
    Instead(Vec<u8>),
}

/// A nested value that is not what its type says.
struct Malformed;

impl Detection {
    pub(super) fn of_field(
        &self,
        field: &Field,
        signs: Signs,
        value: &[u8],
        hits: &mut Vec<Hit>,
    ) -> Found {
        if let Some(id) = field.always {
            return match self.how(id) {
                How::Null => Found::Null,
                _ if is_masked(value) => Found::Nothing,
                _ => {
                    let mut out = Vec::new();
                    self.show(id, value, &mut out);
                    Found::Instead(out)
                }
            };
        }
        match &field.label {
            Some(label) => self.named(label, field.form, value, hits),
            None => self.of_form(field.form, signs, value, hits, 0),
        }
    }

    pub(super) fn of_form(
        &self,
        form: Form,
        signs: Signs,
        value: &[u8],
        hits: &mut Vec<Hit>,
        depth: usize,
    ) -> Found {
        match form {
            Form::Always(_) => Found::Null,
            Form::Text => self.text(signs, value, hits),
            Form::Quoted => {
                self.detectors.scan(value, signs, hits);
                self.settled(value, hits, true)
            }
            Form::Bytes if is_text(value) => self.text(signs, value, hits),
            Form::Bytes => Found::Nothing,
            Form::Json => json::mask(self, signs, value, hits),
            Form::Jsonb => match value.split_first() {
                Some((version, document)) => match json::mask(self, signs, document, hits) {
                    Found::Instead(other) => Found::Instead([&[*version], &*other].concat()),
                    found => found,
                },
                None => Found::Nothing,
            },
            Form::Hex => self.hex(value, hits),
            Form::Nested(nested) => self.nested(nested, signs, value, hits, depth),
            Form::Number { kind, binary } => self.number(kind, binary, value),
            Form::Whole => self.whole(signs, value, hits),
        }
    }

    fn text(&self, signs: Signs, value: &[u8], hits: &mut Vec<Hit>) -> Found {
        self.detectors.scan(value, signs, hits);
        self.settled(value, hits, false)
    }

    /// A value under a name that helps: it is read as if the name stood in front of it.
    pub(super) fn named(
        &self,
        name: &[u8],
        form: Form,
        value: &[u8],
        hits: &mut Vec<Hit>,
    ) -> Found {
        match form {
            Form::Number { kind, binary } => return self.number(kind, binary, value),
            Form::Bytes if !is_text(value) => return Found::Nothing,
            _ => {}
        }
        self.under(name, value, hits);
        match form {
            Form::Whole if !hits.is_empty() => Found::Null,
            _ => self.settled(value, hits, form == Form::Quoted),
        }
    }

    /// Finds what there is in a value under a name.
    pub(super) fn under(&self, name: &[u8], value: &[u8], hits: &mut Vec<Hit>) {
        let text = [name, b": ", value].concat();
        let before = name.len() + 2;
        self.detectors.scan_all(&text, hits);
        hits.retain_mut(|hit| {
            hit.range.start = hit.range.start.saturating_sub(before);
            hit.range.end = hit.range.end.saturating_sub(before);
            hit.range.start < hit.range.end
        });
    }

    fn settled(&self, value: &[u8], hits: &[Hit], quoted: bool) -> Found {
        if hits.is_empty() {
            return Found::Nothing;
        }
        if hits
            .iter()
            .any(|h| matches!(self.how(h.detector), How::Null))
        {
            return Found::Null;
        }
        let mut out = self.replaced(value, hits);
        if quoted && hits.iter().any(|h| !self.fits_quoted(h.detector)) {
            // The operator's text would end an element of an array or a field of a row.
            out = Vec::with_capacity(value.len());
            let mut at = 0;
            for hit in hits {
                out.extend_from_slice(value.get(at..hit.range.start).unwrap_or_default());
                out.extend_from_slice(self.label(hit.detector).as_bytes());
                at = hit.range.end;
            }
            out.extend_from_slice(value.get(at..).unwrap_or_default());
        }
        Found::Instead(out)
    }

    fn fits_quoted(&self, id: Id) -> bool {
        match self.how(id) {
            How::Fixed(text) => text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.:@*+-".contains(&b)),
            _ => true,
        }
    }

    fn whole(&self, signs: Signs, value: &[u8], hits: &mut Vec<Hit>) -> Found {
        self.detectors.scan(value, signs, hits);
        match hits.is_empty() {
            true => Found::Nothing,
            false => Found::Null,
        }
    }

    /// `\x…`, where the bytes are text.
    fn hex(&self, value: &[u8], hits: &mut Vec<Hit>) -> Found {
        let Some(digits) = value.strip_prefix(b"\\x") else {
            // `bytea_output = 'escape'`
            return self.text(Signs::ALL, value, hits);
        };
        // Most are no text, which their beginning shows.
        let head = digits.get(..digits.len().min(128)).unwrap_or_default();
        if !hex::decode(head).is_some_and(|head| begins_text(&head)) {
            return Found::Nothing;
        }
        let Some(bytes) = hex::decode(digits).filter(|b| is_text(b)) else {
            return Found::Nothing;
        };
        let mut marks = Marks::default();
        self.detectors.look(&bytes, &mut marks);
        match self.text(marks.within(0..bytes.len()), &bytes, hits) {
            Found::Instead(other) => {
                Found::Instead([b"\\x", hex::encode(other).as_bytes()].concat())
            }
            found => found,
        }
    }

    pub(super) fn number(&self, kind: u32, binary: bool, value: &[u8]) -> Found {
        let digits = match (binary, kind) {
            (false, _) => Some(value.to_vec()),
            (true, 20) => {
                let bytes = value.first_chunk::<8>().filter(|_| value.len() == 8);
                bytes.map(|b| i64::from_be_bytes(*b).to_string().into_bytes())
            }
            (true, _) => numeric(value),
        };
        let digits = digits.filter(|d| d.iter().all(u8::is_ascii_digit));
        let Some(id) = digits.and_then(|d| self.detectors.of_number(&d)) else {
            return Found::Nothing;
        };
        match value::replace(self.how(id), kind, binary, value, &self.key) {
            Some(other) => Found::Instead(other.into_owned()),
            None => Found::Null,
        }
    }

    fn nested(
        &self,
        nested: Nested,
        signs: Signs,
        value: &[u8],
        hits: &mut Vec<Hit>,
        depth: usize,
    ) -> Found {
        let mut parts = Parts {
            detection: self,
            hits,
            depth,
            rest: value,
            out: Vec::with_capacity(value.len()),
            changed: false,
        };
        let walked = match nested {
            _ if depth >= DEPTH => Err(Malformed),
            Nested::Array => parts.array(),
            Nested::Composite => parts.composite(),
        };
        match walked {
            Ok(()) if parts.changed => Found::Instead(parts.out),
            Ok(()) => Found::Nothing,
            Err(Malformed) => self.whole(signs, value, hits),
        }
    }
}

/// Walks a nested value and writes it anew (PostgreSQL, `array_send` and `record_send`).
struct Parts<'p> {
    detection: &'p Detection,
    hits: &'p mut Vec<Hit>,
    depth: usize,
    rest: &'p [u8],
    out: Vec<u8>,
    changed: bool,
}

impl<'p> Parts<'p> {
    fn array(&mut self) -> Result<(), Malformed> {
        let dimensions = usize::try_from(self.word()?).map_err(|_| Malformed)?;
        let nulls = self.out.len();
        self.word()?;
        let kind = self.word()?;
        if dimensions > DIMENSIONS {
            return Err(Malformed);
        }
        for _ in 0..2 * dimensions {
            self.word()?;
        }
        while !self.rest.is_empty() {
            if self.part(kind)?
                && let Some(flag) = self.out.get_mut(nulls + 3)
            {
                *flag |= 1;
            }
        }
        Ok(())
    }

    fn composite(&mut self) -> Result<(), Malformed> {
        let count = self.word()?;
        for _ in 0..count {
            let kind = self.word()?;
            self.part(kind)?;
        }
        self.rest.is_empty().then_some(()).ok_or(Malformed)
    }

    /// Copies a word of four bytes.
    fn word(&mut self) -> Result<u32, Malformed> {
        let (word, rest) = self.rest.split_first_chunk::<4>().ok_or(Malformed)?;
        self.rest = rest;
        self.out.extend_from_slice(word);
        Ok(u32::from_be_bytes(*word))
    }

    /// One part with its length before it; whether it is NULL now.
    fn part(&mut self, kind: u32) -> Result<bool, Malformed> {
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or(Malformed)?;
        if *length == [0xff; 4] {
            self.rest = rest;
            self.out.extend_from_slice(length);
            return Ok(true);
        }
        let count = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| Malformed)?;
        let (value, rest) = rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        let form = forms::part(&self.detection.detectors, kind);
        let found = form.map_or(Found::Nothing, |form| {
            let depth = self.depth + 1;
            self.detection
                .of_form(form, Signs::ALL, value, self.hits, depth)
        });
        let null = found == Found::Null;
        match &found {
            Found::Nothing => {
                self.out.extend_from_slice(length);
                self.out.extend_from_slice(value);
            }
            Found::Null => self.out.extend_from_slice(&[0xff; 4]),
            Found::Instead(other) => {
                let length = i32::try_from(other.len()).map_err(|_| Malformed)?;
                self.out.extend_from_slice(&length.to_be_bytes());
                self.out.extend_from_slice(other);
            }
        }
        self.changed |= found != Found::Nothing;
        Ok(null)
    }
}

/// A numeric's digits, if it is whole and positive (PostgreSQL, `numeric_send`): groups of four,
/// of which the first has the weight.
fn numeric(value: &[u8]) -> Option<Vec<u8>> {
    let mut words = value.chunks(2).map(|w| match w {
        [high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    });
    let count = words.next()??;
    let weight = words.next()??;
    let (sign, _scale) = (words.next()??, words.next()??);
    let groups: Vec<u16> = words.collect::<Option<_>>()?;
    // Nothing after the point; nineteen digits at most.
    if sign != 0 || weight > 4 || groups.len() != usize::from(count) || count > weight + 1 {
        return None;
    }
    let mut digits = String::new();
    for i in 0..=usize::from(weight) {
        let group = groups.get(i).copied().unwrap_or(0);
        digits.push_str(&match i {
            0 => group.to_string(),
            _ => format!("{group:04}"),
        });
    }
    Some(digits.into_bytes())
}

/// Whether bytes are text: UTF-8 without zeros.
pub(super) fn is_text(value: &[u8]) -> bool {
    memchr::memchr(0, value).is_none() && std::str::from_utf8(value).is_ok()
}

/// The same of a beginning, whose last character may be cut.
fn begins_text(value: &[u8]) -> bool {
    let cut = |e: std::str::Utf8Error| e.error_len().is_none();
    memchr::memchr(0, value).is_none() && std::str::from_utf8(value).map_or_else(cut, |_| true)
}

/// A value that was masked before is not masked again, so that its text stays what it is.
fn is_masked(value: &[u8]) -> bool {
    value.starts_with(b"[masked")
}
