//! JSON documents: strings and numbers one by one, each under its key. What comes out is JSON.

use std::ops::Range;

use super::Detection;
use super::value::Found;
use crate::config::How;
use crate::mask::detect::{Hit, Signs, Telling};

/// Masks what is found in a document. One that is no JSON, and holds something, becomes a string.
pub(super) fn mask(
    detection: &Detection,
    signs: Signs,
    document: &[u8],
    hits: &mut Vec<Hit>,
) -> Found {
    if signs.is_empty() {
        return Found::Nothing;
    }
    let mut walk = Walk {
        detection,
        hits,
        document,
        out: Vec::new(),
        copied: 0,
        key: Vec::new(),
        told: None,
    };
    match walk.all() {
        Some(()) if walk.copied == 0 => Found::Nothing,
        Some(()) => {
            walk.copy_up_to(document.len());
            Found::Instead(walk.out)
        }
        None => {
            detection.detectors.scan(document, signs, hits);
            match hits.is_empty() {
                true => Found::Nothing,
                false => Found::Instead(b"\"[masked]\"".to_vec()),
            }
        }
    }
}

struct Walk<'w> {
    detection: &'w Detection,
    hits: &'w mut Vec<Hit>,
    document: &'w [u8],
    out: Vec<u8>,
    /// How much of the document has been written to `out`.
    copied: usize,
    /// The key under which values stand.
    key: Vec<u8>,
    told: Option<Telling>,
}

impl Walk<'_> {
    /// `None` where the document is no JSON. Only what matters is checked: strings, numbers, keys.
    fn all(&mut self) -> Option<()> {
        let mut at = 0;
        while let Some(byte) = self.document.get(at) {
            at = match byte {
                b'"' => self.string(at)?,
                b'-' | b'0'..=b'9' => self.number(at),
                _ => at + 1,
            };
        }
        Some(())
    }

    fn string(&mut self, start: usize) -> Option<usize> {
        let end = closing(self.document, start)?;
        let written = self.document.get(start..end)?;
        let inside = self.document.get(start + 1..end - 1)?;
        let decoded: Vec<u8> = match memchr::memchr(b'\\', inside) {
            None => inside.to_vec(),
            Some(_) => serde_json::from_slice::<String>(written).ok()?.into_bytes(),
        };
        let after = self
            .document
            .get(end..)?
            .iter()
            .find(|b| !b.is_ascii_whitespace());
        if after == Some(&b':') {
            self.detection.detectors.scan_all(&decoded, self.hits);
            if !self.hits.is_empty() {
                let other = self.detection.replaced(&decoded, self.hits);
                self.put(start..end, &other);
            }
            self.told = self.detection.detectors.telling(&decoded);
            self.key = decoded;
        } else {
            self.value(start..end, &decoded);
        }
        Some(end)
    }

    fn number(&mut self, start: usize) -> usize {
        let rest = self.document.get(start..).unwrap_or_default();
        let of_number = |b: &&u8| b.is_ascii_digit() || b"+-.eE".contains(b);
        let end = start + rest.iter().take_while(of_number).count();
        let digits = self.document.get(start..end).unwrap_or_default().to_vec();
        self.value(start..end, &digits);
        end
    }

    fn value(&mut self, range: Range<usize>, value: &[u8]) {
        match self.told {
            Some(Telling::Value(id))
                if self.detection.detectors.is_password(id) && !value.is_empty() =>
            {
                self.hits.clear();
                self.hits.push(Hit {
                    range: 0..value.len(),
                    detector: id,
                });
            }
            Some(_) => {
                let key = std::mem::take(&mut self.key);
                self.detection.under(&key, value, self.hits);
                self.key = key;
            }
            None => self.detection.detectors.scan_all(value, self.hits),
        }
        if self.hits.is_empty() {
            return;
        }
        let null = |h: &Hit| matches!(self.detection.how(h.detector), How::Null);
        if self.hits.iter().any(null) {
            self.copy_up_to(range.start);
            self.out.extend_from_slice(b"null");
            self.copied = range.end;
            return;
        }
        let other = self.detection.replaced(value, self.hits);
        self.put(range, &other);
    }

    /// Writes a string in place of what stands there.
    fn put(&mut self, range: Range<usize>, other: &[u8]) {
        self.copy_up_to(range.start);
        let text = String::from_utf8_lossy(other).into_owned();
        let written = serde_json::Value::String(text).to_string();
        self.out.extend_from_slice(written.as_bytes());
        self.copied = range.end;
    }

    fn copy_up_to(&mut self, end: usize) {
        let rest = self.document.get(self.copied..end).unwrap_or_default();
        self.out.extend_from_slice(rest);
        self.copied = end;
    }
}

/// Behind the quote that closes the string that begins here.
fn closing(document: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        let found = memchr::memchr2(b'"', b'\\', document.get(at..)?)?;
        at += found;
        if document.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
}
