//! COPY's binary format (PostgreSQL manual, "COPY", "Binary Format"): a header, rows, a trailer.

use bytes::{BufMut, BytesMut};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Flags of which no reader may take one that it does not know.
const CRITICAL: u32 = 0xffff_0000;
/// The fields of a row that ends the data.
const TRAILER: i16 = -1;

/// What stands at the beginning of what has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More bytes are needed to tell.
    Incomplete,
    /// It ends before this byte.
    Header(usize),
    Row(usize),
    Trailer(usize),
    /// It is not of this format.
    Broken,
}

/// `begun` is whether the header has been seen.
pub(super) fn next(bytes: &[u8], begun: bool) -> Next {
    match begun {
        true => row(bytes),
        false => header(bytes),
    }
}

fn header(bytes: &[u8]) -> Next {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes.get(..known) != SIGNATURE.get(..known) {
        return Next::Broken;
    }
    let after = bytes.get(SIGNATURE.len()..).unwrap_or_default();
    let Some((flags, after)) = after.split_first_chunk::<4>() else {
        return Next::Incomplete;
    };
    if u32::from_be_bytes(*flags) & CRITICAL != 0 {
        return Next::Broken;
    }
    let Some(extension) = after.first_chunk::<4>() else {
        return Next::Incomplete;
    };
    let end = usize::try_from(u32::from_be_bytes(*extension));
    let end = end.ok().and_then(|e| e.checked_add(SIGNATURE.len() + 8));
    match end {
        Some(end) if end <= bytes.len() => Next::Header(end),
        Some(_) => Next::Incomplete,
        None => Next::Broken,
    }
}

fn row(bytes: &[u8]) -> Next {
    let Some(count) = count(bytes) else {
        return Next::Incomplete;
    };
    if count == TRAILER {
        return Next::Trailer(2);
    }
    let Ok(count) = u16::try_from(count) else {
        return Next::Broken;
    };
    let mut at = 2;
    for _ in 0..count {
        let Some(length) = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>) else {
            return Next::Incomplete;
        };
        let length = match i32::from_be_bytes(*length) {
            -1 => 0,
            length => match usize::try_from(length) {
                Ok(length) => length,
                Err(_) => return Next::Broken,
            },
        };
        at = at.saturating_add(4).saturating_add(length);
        if at > bytes.len() {
            return Next::Incomplete;
        }
    }
    Next::Row(at)
}

/// How many fields a row says it has.
pub(super) fn count(row: &[u8]) -> Option<i16> {
    row.first_chunk::<2>()
        .map(|count| i16::from_be_bytes(*count))
}

/// The fields of a whole row; `None` is NULL.
pub(super) fn fields(row: &[u8]) -> Vec<Option<&[u8]>> {
    let mut rest = row.get(2..).unwrap_or_default();
    let mut fields = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        fields.push(length.map(|length| after.get(..length).unwrap_or_default()));
        rest = after.get(length.unwrap_or(0)..).unwrap_or_default();
    }
    fields
}

/// Appends how many fields follow.
pub(super) fn begin(count: usize, out: &mut BytesMut) {
    // As many as a row can have.
    out.put_u16(u16::try_from(count).unwrap_or(0));
}

/// Appends one field.
pub(super) fn put(field: Option<&[u8]>, out: &mut BytesMut) {
    let length = field.and_then(|field| i32::try_from(field.len()).ok());
    match (field, length) {
        (Some(field), Some(length)) => {
            out.put_i32(length);
            out.put_slice(field);
        }
        _ => out.put_i32(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

    #[test]
    fn each_piece_is_told_and_no_half_of_one() {
        let row = b"\0\x02\0\0\0\x01x\xff\xff\xff\xff";
        for (whole, begun, expected) in [
            (HEADER, false, Next::Header(19)),
            (&row[..], true, Next::Row(11)),
            (b"\xff\xff", true, Next::Trailer(2)),
        ] {
            assert_eq!(next(whole, begun), expected);
            for cut in 0..whole.len() {
                assert_eq!(next(&whole[..cut], begun), Next::Incomplete);
            }
        }
        assert_eq!(fields(row), [Some(&b"x"[..]), None]);
        let mut again = BytesMut::new();
        begin(2, &mut again);
        fields(row).into_iter().for_each(|f| put(f, &mut again));
        assert_eq!(again, row[..]);
    }

    #[test]
    fn what_is_not_of_the_format_is_told() {
        assert_eq!(next(b"PGCOPX", false), Next::Broken);
        let oids = b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0";
        assert_eq!(next(oids, false), Next::Broken);
        assert_eq!(next(b"\xff\xfe", true), Next::Broken);
        assert_eq!(next(b"\0\x01\xff\xff\xff\xfe", true), Next::Broken);
    }
}
