//! Rows that COPY sends: taken apart field by field, whatever messages they come in (PostgreSQL
//! manual, "COPY": text, CSV and binary format).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::attribution::shown;
use super::catalog::Catalog;
use super::rules::HashKey;
use super::{tuples, value};
use crate::config::How;
use crate::decide::{CopyForm, Item, Mark, Output};
use crate::ids::ExchangeId;
use crate::wire::postgres::frame::{self, HEADER, Header};

const COPY_DATA: u8 = b'd';
const TEXT: u32 = 25;
/// Of no type: what is masked becomes NULL, because nothing else is sure to be a value.
const UNKNOWN: u32 = 0;

/// One COPY that sends masked columns, while it is under way.
#[derive(Debug)]
pub(super) struct Copying {
    place: (ExchangeId, u16),
    form: CopyForm,
    /// What each field may carry; nothing is known without.
    traced: Option<Arc<Output>>,
    /// What stands for NULL may be a value as well.
    ambiguous: bool,
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
    binary: Binary,
    /// The end, or what cannot be read: nothing behind it is passed on.
    over: bool,
    /// For rows of the last number of fields: how each is masked.
    plan: Vec<Masked>,
}

/// How far a COPY in binary format is.
#[derive(Debug, Default)]
struct Binary {
    /// The header, until a row takes it along: readers expect both in one message.
    header: BytesMut,
    begun: bool,
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
            ambiguous: is_ambiguous(&form),
            form,
            traced,
            most,
            message: BytesMut::new(),
            rows: BytesMut::new(),
            seen: 0,
            quoted: false,
            dropped: 0,
            skipping: false,
            binary: Binary::default(),
            over: false,
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
        while !self.over {
            let header = match Header::peek(&self.message) {
                Ok(Some(header)) if header.tag == COPY_DATA => header,
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => {
                    self.over = true;
                    break;
                }
            };
            let length = header.wire_len();
            if length > self.most && self.form.binary {
                if self.message.len() < HEADER + 2 {
                    break;
                }
                replaced += self.drop_tuple(length, out);
                continue;
            }
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
            replaced += match self.form.binary {
                true => self.complete_tuples(catalog, key, out),
                false => self.complete_rows(catalog, key, out),
            };
        }
        if self.over {
            self.message.clear();
        }
        replaced
    }

    fn complete_tuples(&mut self, catalog: &Catalog, key: &HashKey, out: &mut BytesMut) -> u64 {
        use tuples::Next;
        let mut replaced = 0;
        while !self.over {
            match tuples::next(&self.rows, self.binary.begun) {
                Next::Incomplete if self.rows.len() > self.most => self.over = true,
                Next::Incomplete => break,
                Next::Header(end) => {
                    self.binary.header = self.rows.split_to(end);
                    self.binary.begun = true;
                }
                Next::Row(end) => {
                    let row = self.rows.split_to(end);
                    replaced += self.tuple(&row, catalog, key, out);
                }
                Next::Trailer(end) => {
                    let trailer = self.rows.split_to(end);
                    let at = self.begin_tuple(out);
                    out.put_slice(&trailer);
                    frame::end(out, at);
                    self.over = true;
                }
                Next::Broken => self.over = true,
            }
        }
        if self.over {
            self.rows.clear();
        }
        replaced
    }

    fn begin_tuple(&mut self, out: &mut BytesMut) -> usize {
        let at = frame::begin(out, COPY_DATA);
        out.put_slice(&std::mem::take(&mut self.binary.header));
        at
    }

    fn tuple(&mut self, row: &[u8], catalog: &Catalog, key: &HashKey, out: &mut BytesMut) -> u64 {
        let fields = tuples::fields(row);
        if self.plan.len() != fields.len() {
            self.plan = self.planned(fields.len(), catalog);
        }
        let at = self.begin_tuple(out);
        tuples::begin(fields.len(), out);
        let mut replaced = 0;
        for (field, masked) in fields.iter().zip(&self.plan) {
            match (field, masked) {
                (None, _) => tuples::put(None, out),
                (Some(field), Masked { how: None, .. }) => tuples::put(Some(field), out),
                (
                    Some(field),
                    Masked {
                        how: Some(how),
                        kind,
                    },
                ) => {
                    replaced += 1;
                    let shown = value::replace(how, *kind, true, field, key);
                    tuples::put(shown.as_deref(), out);
                }
            }
        }
        frame::end(out, at);
        replaced
    }

    /// NULLs in place of a row in a message above the cap. The server sends each row in a message of
    /// its own; where another stands before it, nothing can be told any more.
    fn drop_tuple(&mut self, length: usize, out: &mut BytesMut) -> u64 {
        let row = self.message.get(HEADER..).unwrap_or_default();
        let count = tuples::count(row).and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|_| self.binary.begun && self.rows.is_empty());
        self.dropped = length.saturating_sub(self.message.len());
        let taken = length.min(self.message.len());
        let _ = self.message.split_to(taken);
        let Some(count) = count.filter(|_| !self.over) else {
            self.over = true;
            return 1;
        };
        let at = self.begin_tuple(out);
        tuples::begin(count, out);
        (0..count).for_each(|_| tuples::put(None, out));
        frame::end(out, at);
        count as u64
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
                _ if **field == *form.null.as_bytes() && !self.ambiguous => out.put_slice(field),
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
        let unknown = match self.form.binary {
            true => UNKNOWN,
            false => TEXT,
        };
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
                    kind: unknown,
                },
                (mark, _) => Masked {
                    how: shown(mark),
                    kind: unknown,
                },
            }
        };
        match items {
            Some(items) => items.into_iter().map(masked).collect(),
            None => {
                let whole = Masked {
                    how: Some(How::Redact),
                    kind: unknown,
                };
                vec![whole; count]
            }
        }
    }
}

/// Whether a value may be written as the string that stands for NULL. Whoever chooses that string
/// would see which values are equal to it. CSV puts such a value in quotes, and an empty one says no
/// more than NULL does.
fn is_ambiguous(form: &CopyForm) -> bool {
    let null = form.null.as_bytes();
    if form.csv || null.is_empty() {
        return false;
    }
    let mut written = BytesMut::new();
    escape(&unescaped(null), form, &mut written);
    written == null
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
