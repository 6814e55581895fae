//! DataRow and RowDescription: walked in place, and rebuilt where a value is replaced.

use bytes::{BufMut, Bytes, BytesMut};

use super::WireError;
use super::frame::{self, HEADER};

const ROW: &str = "DataRow";
const DESCRIPTION: &str = "RowDescription";

/// Type byte of DataRow.
pub const DATA_ROW: u8 = b'D';
/// Type byte of RowDescription.
pub const ROW_DESCRIPTION: u8 = b'T';

/// The values of one row. `None` is NULL.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    left: u16,
    rest: &'a [u8],
}

/// Walks the body of a DataRow. The count is a claim until the values have been taken.
pub fn values(body: &[u8]) -> Result<Values<'_>, WireError> {
    let (count, rest) = body
        .split_first_chunk::<2>()
        .ok_or(WireError::Truncated(ROW))?;
    let left = u16::from_be_bytes(*count);
    // Each value takes four bytes at least.
    if usize::from(left) * 4 > rest.len() {
        return Err(WireError::Truncated(ROW));
    }
    Ok(Values { left, rest })
}

impl<'a> Values<'a> {
    /// How many values are left.
    pub fn count(&self) -> u16 {
        self.left
    }

    fn take(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        let (length, rest) = self
            .rest
            .split_first_chunk::<4>()
            .ok_or(WireError::Truncated(ROW))?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            self.rest = rest;
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| WireError::Malformed(ROW))?;
        let (value, rest) = rest
            .split_at_checked(length)
            .ok_or(WireError::Truncated(ROW))?;
        self.rest = rest;
        Ok(Some(value))
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<Option<&'a [u8]>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let trailing = !std::mem::take(&mut self.rest).is_empty();
            return trailing.then_some(Err(WireError::Trailing(ROW)));
        }
        self.left -= 1;
        let value = self.take();
        if value.is_err() {
            // The rest cannot be told apart; one error ends the walk.
            (self.left, self.rest) = (0, &[]);
        }
        Some(value)
    }
}

/// Appends one DataRow to a buffer, value by value.
#[derive(Debug)]
pub struct RowWriter<'b> {
    out: &'b mut BytesMut,
    at: usize,
    count: u16,
}

impl<'b> RowWriter<'b> {
    pub fn new(out: &'b mut BytesMut) -> Self {
        let at = frame::begin(out, DATA_ROW);
        out.put_u16(0);
        Self { out, at, count: 0 }
    }

    /// Values above 2 GiB do not exist on the wire; one is written as NULL.
    pub fn push(&mut self, value: Option<&[u8]>) {
        self.count = self.count.saturating_add(1);
        match value.and_then(|v| Some((v, i32::try_from(v.len()).ok()?))) {
            Some((value, length)) => {
                self.out.put_i32(length);
                self.out.put_slice(value);
            }
            None => self.out.put_i32(-1),
        }
    }

    pub fn finish(self) {
        let Self { out, at, count } = self;
        if let Some(slot) = out.get_mut(at + 4..at + 6) {
            slot.copy_from_slice(&count.to_be_bytes());
        }
        frame::end(out, at);
    }
}

/// One field of a RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub label: String,
    pub table: u32,
    pub attribute: i16,
    pub kind: u32,
    pub size: i16,
    pub modifier: i32,
    pub binary: bool,
}

/// Bytes of a field beside its label.
const FIELD: usize = 19;

/// Decodes the body of a RowDescription. Bytes of a label that are no UTF-8 are replaced.
pub fn description(mut body: Bytes) -> Result<Vec<Field>, WireError> {
    use bytes::Buf;
    let short = |_| WireError::Truncated(DESCRIPTION);
    let count = usize::from(body.try_get_u16().map_err(short)?);
    if count * FIELD > body.len() {
        return Err(WireError::Truncated(DESCRIPTION));
    }
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let label = frame::text(&mut body, DESCRIPTION)?;
        fields.push(Field {
            label: String::from_utf8_lossy(&label).into_owned(),
            table: body.try_get_u32().map_err(short)?,
            attribute: body.try_get_i16().map_err(short)?,
            kind: body.try_get_u32().map_err(short)?,
            size: body.try_get_i16().map_err(short)?,
            modifier: body.try_get_i32().map_err(short)?,
            binary: body.try_get_i16().map_err(short)? != 0,
        });
    }
    frame::nothing_left(&body, DESCRIPTION)?;
    Ok(fields)
}

/// Encodes a RowDescription.
pub fn describe(fields: &[Field], out: &mut BytesMut) {
    let at = frame::begin(out, ROW_DESCRIPTION);
    out.put_u16(u16::try_from(fields.len()).unwrap_or(u16::MAX));
    for field in fields.iter().take(usize::from(u16::MAX)) {
        frame::put_text(out, &field.label);
        out.put_u32(field.table);
        out.put_i16(field.attribute);
        out.put_u32(field.kind);
        out.put_i16(field.size);
        out.put_i32(field.modifier);
        out.put_i16(i16::from(field.binary));
    }
    frame::end(out, at);
}

/// Walks back-to-back DataRow messages, such as a batch of rows: yields each one's body.
pub fn bodies(wire: &[u8]) -> impl Iterator<Item = Result<&[u8], WireError>> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let row = first_row(rest);
        rest = row.as_ref().map_or(&[], |(_, rest)| rest);
        Some(row.map(|(body, _)| body))
    })
}

fn first_row(wire: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let header = frame::Header::peek(wire)?.ok_or(WireError::Truncated(ROW))?;
    let (row, rest) = wire
        .split_at_checked(header.wire_len())
        .ok_or(WireError::Truncated(ROW))?;
    match (header.tag, row.get(HEADER..)) {
        (DATA_ROW, Some(body)) => Ok((body, rest)),
        _ => Err(WireError::Malformed(ROW)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field() -> impl Strategy<Value = Field> {
        let label = "[^\0]{0,12}";
        let numbers = (
            any::<u32>(),
            any::<i16>(),
            any::<u32>(),
            any::<i16>(),
            any::<i32>(),
        );
        (label, numbers, any::<bool>()).prop_map(|(label, n, binary)| {
            let (table, attribute, kind, size, modifier) = n;
            Field {
                label,
                table,
                attribute,
                kind,
                size,
                modifier,
                binary,
            }
        })
    }

    proptest! {
        #[test]
        fn rows_survive(rows in prop::collection::vec(
            prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..9), 0..6)
        ) {
            let mut out = BytesMut::new();
            for row in &rows {
                let mut writer = RowWriter::new(&mut out);
                row.iter().for_each(|v| writer.push(v.as_deref()));
                writer.finish();
            }
            let mut found = vec![];
            for body in bodies(&out) {
                let row: Result<Vec<_>, _> = values(body.unwrap()).unwrap().collect();
                found.push(row.unwrap().into_iter().map(|v| v.map(<[u8]>::to_vec)).collect::<Vec<_>>());
            }
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn descriptions_survive(fields in prop::collection::vec(field(), 0..6)) {
            let mut out = BytesMut::new();
            describe(&fields, &mut out);
            let (_, body) = frame::split(&mut out, 1 << 20).unwrap().unwrap();
            prop_assert_eq!(description(body).unwrap(), fields);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = description(bytes.clone().into());
            if let Ok(values) = values(&bytes) { values.for_each(drop); }
            bodies(&bytes).for_each(drop);
        }
    }

    #[test]
    fn a_walk_over_a_bad_row_ends() {
        assert!(values(b"\xff\xff").is_err());
        let claims = b"\0\x01\x7f\xff\xff\xff";
        assert_eq!(values(claims).unwrap().collect::<Vec<_>>().len(), 1);
        let trailing = b"\0\x01\0\0\0\x01ab";
        let walked: Vec<_> = values(trailing).unwrap().collect();
        assert_eq!(
            walked,
            [Ok(Some(&b"a"[..])), Err(WireError::Trailing("DataRow"))]
        );
    }
}
