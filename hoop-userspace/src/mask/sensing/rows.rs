//! Rows: fields around the marks of a batch.

use bytes::{BufMut, BytesMut};

use super::forms::{Field, Plan};
use super::value::Found;
use super::{Detection, Sensed, Sensor};
use crate::config::How;
use crate::mask::detect::Signs;
use crate::terminate::Columns;
use crate::wire::postgres::frame::HEADER;
use crate::wire::postgres::rows::{RowWriter, bodies, values};

/// A value that is replaced: its row, its column, and what stands there instead.
struct Replaced {
    row: usize,
    column: usize,
    value: Option<Vec<u8>>,
}

impl Sensor {
    /// Rows back to back, with what was found in them masked.
    pub(super) fn rows(
        &mut self,
        detection: &Detection,
        plan: &Plan,
        ruled: Option<&[Option<How>]>,
        bytes: &[u8],
    ) -> Sensed {
        if plan.is_empty() {
            return Sensed::Same;
        }
        detection.detectors.look(bytes, &mut self.marks);
        if self.marks.is_empty() && !plan.unmarked {
            return Sensed::Same;
        }
        let (replaced, walked) = self.find(detection, plan, ruled, bytes);
        if replaced.is_empty() && walked == bytes.len() {
            return Sensed::Same;
        }
        let count = replaced.len() as u64;
        // A row that cannot be walked is not passed on, nor what follows it.
        let rows = bytes.get(..walked).unwrap_or_default();
        Sensed::Other(rebuilt(rows, replaced), count)
    }

    /// What is to be replaced, and up to where the rows could be walked.
    fn find(
        &mut self,
        detection: &Detection,
        plan: &Plan,
        ruled: Option<&[Option<How>]>,
        bytes: &[u8],
    ) -> (Vec<Replaced>, usize) {
        let mut replaced = Vec::new();
        let mut walked = 0;
        for (row, body) in bodies(bytes).map_while(Result::ok).enumerate() {
            // The body's count of values, then each with its length before it.
            let mut at = walked + HEADER + 2;
            let Ok(values) = values(body) else { break };
            for (column, value) in values.enumerate() {
                at += 4;
                let Ok(value) = value else {
                    return (replaced, walked);
                };
                let Some(value) = value else { continue };
                let range = at..at + value.len();
                at = range.end;
                let Some(field) = plan.field(column) else {
                    continue;
                };
                let signs = self.marks.within(range);
                let idle = signs.is_empty() && field.waits_for_marks();
                let ruled = || match ruled.and_then(|r| r.get(column)) {
                    // What its paths do not name is left to the detectors.
                    Some(Some(how)) => !matches!(how, How::Inside(_)),
                    _ => false,
                };
                if idle || value.is_empty() || ruled() {
                    continue;
                }
                match self.value(detection, field, signs, value) {
                    Found::Nothing => {}
                    Found::Null => replaced.push(Replaced {
                        row,
                        column,
                        value: None,
                    }),
                    Found::Instead(value) => replaced.push(Replaced {
                        row,
                        column,
                        value: Some(value),
                    }),
                }
            }
            walked += HEADER + body.len();
        }
        (replaced, walked)
    }

    fn value(&mut self, detection: &Detection, field: &Field, signs: Signs, value: &[u8]) -> Found {
        detection.of_field(field, signs, value, &mut self.hits)
    }
}

/// The rows with values replaced; rows in which nothing is replaced are copied whole.
fn rebuilt(bytes: &[u8], replaced: Vec<Replaced>) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(bytes.len() + 32 * replaced.len());
    let mut replaced = replaced.into_iter().peekable();
    let mut start = 0;
    for (row, body) in bodies(bytes).map_while(Result::ok).enumerate() {
        let end = start + HEADER + body.len();
        if replaced.peek().is_none_or(|r| r.row != row) {
            out.put_slice(bytes.get(start..end).unwrap_or_default());
            start = end;
            continue;
        }
        start = end;
        let mut writer = RowWriter::new(&mut out);
        let values = values(body).into_iter().flatten().map_while(Result::ok);
        for (column, value) in values.enumerate() {
            match replaced.next_if(|r| (r.row, r.column) == (row, column)) {
                Some(other) => writer.push(other.value.as_deref()),
                None => writer.push(value),
            }
        }
        writer.finish();
    }
    out.to_vec()
}

/// A row of NULLs in place of one too large to be taken apart.
pub(super) fn blank(columns: Option<&Columns>) -> Sensed {
    let count = columns.map_or(0, |c| c.columns.len());
    let mut out = BytesMut::new();
    let mut row = RowWriter::new(&mut out);
    for _ in 0..count {
        row.push(None);
    }
    row.finish();
    Sensed::Other(out.to_vec(), count as u64)
}
