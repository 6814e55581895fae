//! Rows that COPY sends: taken apart field by field, whatever messages they come in (PostgreSQL
//! manual, "COPY": text and CSV format).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::attribution::shown;
use super::catalog::Catalog;
use super::rules::HashKey;
use super::value;
use crate::config::How;
use crate::decide::{CopyForm, Item, Mark, Output};
use crate::ids::ExchangeId;
use crate::wire::postgres::frame::{self, HEADER, Header};

const COPY_DATA: u8 = b'd';
const TEXT: u32 = 25;

/// One COPY that sends masked columns, while it is under way.
#[derive(Debug)]
pub(super) struct Copying {
    place: (ExchangeId, u16),
    form: CopyForm,
    /// What each field may carry; nothing is known without.
    traced: Option<Arc<Output>>,
    most: usize,
    /// A message that is not complete.
    message: BytesMut,
    /// Rows that are not complete.
    rows: BytesMut,
    /// How far `rows` was looked at for the end of a row, and whether a quote is open there.
    seen: usize,
    quoted: bool,
    /// Bytes of a message above the cap that are still to come.
    dropped: usize,
    /// The rest of a row above the cap.
    skipping: bool,
    header: bool,
    /// For rows of the last number of fields: how each is masked.
    plan: Vec<Masked>,
}

/// How one field is masked.
#[derive(Clone, Debug)]
struct Masked {
    how: Option<How>,
    kind: u32,
}

impl Copying {
    pub(super) fn new(
        place: (ExchangeId, u16),
        form: CopyForm,
        traced: Option<Arc<Output>>,
        most: usize,
    ) -> Self {
        Self {
            place,
            header: form.header,
            form,
            traced,
            most,
            message: BytesMut::new(),
            rows: BytesMut::new(),
            seen: 0,
            quoted: false,
            dropped: 0,
            skipping: false,
            plan: Vec::new(),
        }
    }

    pub(super) fn place(&self) -> (ExchangeId, u16) {
        self.place
    }

    /// Takes whole or partial CopyData messages; appends messages of one row each. Returns how many
    /// values were replaced. A message that cannot be read ends what is passed on.
    pub(super) fn rewrite(
        &mut self,
        wire: &[u8],
        catalog: &Catalog,
        key: &HashKey,
        out: &mut BytesMut,
    ) -> u64 {
        let late = self.dropped.min(wire.len());
        self.dropped -= late;
        self.message
            .extend_from_slice(wire.get(late..).unwrap_or_default());
        let mut replaced = 0;
        while let Ok(Some(header)) = Header::peek(&self.message) {
            if header.tag != COPY_DATA {
                self.message.clear();
                break;
            }
            let length = header.wire_len();
            if length > self.most {
                // No row that long is taken apart.
                self.dropped = length.saturating_sub(self.message.len());
                let taken = length.min(self.message.len());
                let _ = self.message.split_to(taken);
                self.skipping = true;
                replaced += self.blank(out);
                self.skipping = false;
                continue;
            }
            if self.message.len() < length {
                break;
            }
            let message = self.message.split_to(length);
            self.rows
                .extend_from_slice(message.get(HEADER..).unwrap_or_default());
            replaced += self.complete_rows(catalog, key, out);
        }
        replaced
    }

    fn complete_rows(&mut self, catalog: &Catalog, key: &HashKey, out: &mut BytesMut) -> u64 {
        let mut replaced = 0;
        while let Some(end) = self.row_end() {
            let row = self.rows.split_to(end);
            (self.seen, self.quoted) = (0, false);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if std::mem::take(&mut self.header) {
                // Names, not values.
                send(&row, out);
                continue;
            }
            replaced += self.row(&row, catalog, key, out);
        }
        if self.rows.len() > self.most {
            self.rows.clear();
            (self.seen, self.quoted) = (0, false);
            if !std::mem::replace(&mut self.skipping, true) {
                replaced += self.blank(out);
            }
        }
        replaced
    }

    /// The first byte behind the first row, if it is complete.
    fn row_end(&mut self) -> Option<usize> {
        if !self.form.csv {
            let rest = self.rows.get(self.seen..).unwrap_or_default();
            let found = memchr::memchr(b'\n', rest);
            let end = found.map(|at| self.seen + at + 1);
            self.seen = self.rows.len();
            return end;
        }
        let form = &self.form;
        while let Some(byte) = self.rows.get(self.seen).copied() {
            if self.quoted && byte == form.escape {
                // An escaped quote or escape; a quote that is its own escape needs the next byte.
                match self.rows.get(self.seen + 1).copied() {
                    Some(next) if next == form.quote || next == form.escape => {
                        self.seen += 2;
                        continue;
                    }
                    Some(_) => {}
                    None => return None,
                }
            }
            self.seen += 1;
            if byte == form.quote {
                self.quoted = !self.quoted;
            } else if byte == b'\n' && !self.quoted {
                return Some(self.seen);
            }
        }
        None
    }

    fn row(&mut self, row: &[u8], catalog: &Catalog, key: &HashKey, out: &mut BytesMut) -> u64 {
        let body = row.strip_suffix(b"\n").unwrap_or(row);
        let form = self.form.clone();
        let fields = match form.csv {
            true => csv_fields(body, &form),
            false => text_fields(body, &form),
        };
        if self.plan.len() != fields.len() {
            self.plan = self.planned(fields.len(), catalog);
        }
        let at = frame::begin(out, COPY_DATA);
        let mut replaced = 0;
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                out.put_u8(form.delimiter);
            }
            let masked = self.plan.get(index);
            match masked {
                Some(Masked { how: None, .. }) => out.put_slice(field),
                _ if **field == *form.null.as_bytes() => out.put_slice(field),
                masked => {
                    replaced += 1;
                    write(field, masked, &form, key, out);
                }
            }
        }
        out.put_u8(b'\n');
        frame::end(out, at);
        replaced
    }

    /// A row of NULLs in place of one that is too large.
    fn blank(&self, out: &mut BytesMut) -> u64 {
        let count = self.plan.len().max(1);
        let nulls = vec![&*self.form.null; count];
        let delimiter = char::from(self.form.delimiter).to_string();
        send(format!("{}\n", nulls.join(&delimiter)).as_bytes(), out);
        count as u64
    }

    fn planned(&self, count: usize, catalog: &Catalog) -> Vec<Masked> {
        let output = self.traced.as_ref();
        let items = output.and_then(|output| output.align(count, |_| None));
        let masked = |item: Item| {
            let kind = item
                .from
                .and_then(|(oid, number)| catalog.kind(oid, number));
            match (item.mark, kind) {
                (Mark::Plain(how), Some(kind)) => Masked {
                    how: Some(how),
                    kind,
                },
                // Of a type that is not known, no part is shown.
                (Mark::Plain(How::Partial), None) => Masked {
                    how: Some(How::Redact),
                    kind: TEXT,
                },
                (mark, _) => Masked {
                    how: shown(mark),
                    kind: TEXT,
                },
            }
        };
        match items {
            Some(items) => items.into_iter().map(masked).collect(),
            None => {
                let whole = Masked {
                    how: Some(How::Redact),
                    kind: TEXT,
                };
                vec![whole; count]
            }
        }
    }
}

fn send(row: &[u8], out: &mut BytesMut) {
    let at = frame::begin(out, COPY_DATA);
    out.put_slice(row);
    frame::end(out, at);
}

fn write(
    field: &[u8],
    masked: Option<&Masked>,
    form: &CopyForm,
    key: &HashKey,
    out: &mut BytesMut,
) {
    let whole = Masked {
        how: Some(How::Redact),
        kind: TEXT,
    };
    let Masked { how, kind } = masked.unwrap_or(&whole);
    let value = match form.csv {
        true => unquoted(field, form),
        false => unescaped(field),
    };
    let shown = match how {
        Some(how) => value::replace(how, *kind, false, &value, key),
        None => None,
    };
    match shown {
        None => out.put_slice(form.null.as_bytes()),
        Some(shown) if form.csv => quote(&shown, form, out),
        Some(shown) => escape(&shown, form, out),
    }
}

/// Cuts at delimiters that no backslash stands before.
fn text_fields<'r>(row: &'r [u8], form: &CopyForm) -> Vec<&'r [u8]> {
    let mut fields = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(byte) = row.get(at) {
        match byte {
            b'\\' => at += 2,
            byte if *byte == form.delimiter => {
                fields.push(row.get(start..at).unwrap_or_default());
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    fields.push(row.get(start..).unwrap_or_default());
    fields
}

/// Cuts at delimiters outside quotes.
fn csv_fields<'r>(row: &'r [u8], form: &CopyForm) -> Vec<&'r [u8]> {
    let mut fields = Vec::new();
    let (mut start, mut at, mut quoted) = (0, 0, false);
    while let Some(byte) = row.get(at).copied() {
        let next = row.get(at + 1).copied();
        if quoted && byte == form.escape && (next == Some(form.quote) || next == Some(form.escape))
        {
            at += 2;
            continue;
        }
        if byte == form.quote {
            quoted = !quoted;
        } else if byte == form.delimiter && !quoted {
            fields.push(row.get(start..at).unwrap_or_default());
            start = at + 1;
        }
        at += 1;
    }
    fields.push(row.get(start..).unwrap_or_default());
    fields
}

fn unescaped(field: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', field).is_none() {
        return Cow::Borrowed(field);
    }
    let mut value = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        value.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 0x08,
                Some(b'f') => 0x0c,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 0x0b,
                Some(other) => *other,
                None => b'\\',
            },
            other => *other,
        });
    }
    Cow::Owned(value)
}

fn unquoted<'f>(field: &'f [u8], form: &CopyForm) -> Cow<'f, [u8]> {
    let inner = field.strip_prefix(&[form.quote]);
    let Some(inner) = inner.and_then(|inner| inner.strip_suffix(&[form.quote])) else {
        return Cow::Borrowed(field);
    };
    let mut value = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(byte) = inner.get(at).copied() {
        let next = inner.get(at + 1).copied();
        let escaped =
            byte == form.escape && (next == Some(form.quote) || next == Some(form.escape));
        at += usize::from(escaped);
        value.push(inner.get(at).copied().unwrap_or(byte));
        at += 1;
    }
    Cow::Owned(value)
}

fn escape(value: &[u8], form: &CopyForm, out: &mut BytesMut) {
    for byte in value {
        match byte {
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            byte if *byte == b'\\' || *byte == form.delimiter => out.put_slice(&[b'\\', *byte]),
            byte => out.put_u8(*byte),
        }
    }
}

fn quote(value: &[u8], form: &CopyForm, out: &mut BytesMut) {
    let special =
        |byte: &u8| *byte == form.delimiter || *byte == form.quote || matches!(byte, b'\n' | b'\r');
    if !value.iter().any(special) && *value != *form.null.as_bytes() && !value.is_empty() {
        out.put_slice(value);
        return;
    }
    out.put_u8(form.quote);
    for byte in value {
        if *byte == form.quote || *byte == form.escape {
            out.put_u8(form.escape);
        }
        out.put_u8(*byte);
    }
    out.put_u8(form.quote);
}
