//! Rows with values replaced.

use bytes::BytesMut;

use super::rules::HashKey;
use super::value;
use crate::config::How;
use crate::terminate::Columns;
use crate::wire::postgres::rows::{RowWriter, bodies, values};

/// Rebuilds rows; returns how many values were replaced. Without columns every value becomes NULL.
pub(super) fn rows(
    wire: &[u8],
    columns: Option<&Columns>,
    hows: Option<&[Option<How>]>,
    key: &HashKey,
    out: &mut BytesMut,
) -> u64 {
    let mut replaced = 0;
    for body in bodies(wire) {
        // A row that cannot be walked is not passed on, nor what follows it.
        let Ok(values) = body.and_then(values) else {
            break;
        };
        let mut row = RowWriter::new(out);
        for (index, value) in values.enumerate() {
            let Ok(value) = value else { break };
            let column = columns.and_then(|c| c.columns.get(index));
            match (value, column, hows.and_then(|h| h.get(index))) {
                (None, ..) => row.push(None),
                (value, Some(_), Some(None)) => row.push(value),
                (Some(value), Some(column), Some(Some(how))) => {
                    replaced += 1;
                    let shown = value::replace(how, column.kind, column.binary, value, key);
                    row.push(shown.as_deref());
                }
                _ => {
                    replaced += 1;
                    row.push(None);
                }
            }
        }
        row.finish();
    }
    replaced
}

/// A row of NULLs in place of one too large to be taken apart.
pub(super) fn blank(columns: Option<&Columns>, out: &mut BytesMut) -> u64 {
    let count = columns.map_or(0, |c| c.columns.len());
    let mut row = RowWriter::new(out);
    for _ in 0..count {
        row.push(None);
    }
    row.finish();
    count as u64
}
