//! COPY field by field, in its three formats, however it is cut.

use proptest::prelude::*;

use super::traced::{bench, labelled};
use super::*;

pub(super) fn copied(sql: &str, how: How, rows: &str) -> String {
    let mut bench = bench(how);
    let exchange = bench.begin(sql);
    let messages: Vec<_> = rows.split_inclusive('\n').map(message).collect();
    let masked = bench.mask(batch(
        exchange,
        vec![(PartKind::Bulk, messages.concat().into())],
    ));
    content(masked.wire())
}

fn message(row: &str) -> Vec<u8> {
    let length = u32::try_from(row.len() + 4).unwrap();
    [b"d", &length.to_be_bytes()[..], row.as_bytes()].concat()
}

/// The content of CopyData messages.
fn content(mut wire: &[u8]) -> String {
    let mut content = Vec::new();
    while let Some((head, rest)) = wire.split_first_chunk::<5>() {
        assert_eq!(head[0], b'd');
        let length = u32::from_be_bytes(head[1..5].try_into().unwrap()) as usize - 4;
        let (row, rest) = rest.split_at(length);
        content.extend_from_slice(row);
        wire = rest;
    }
    assert!(wire.is_empty());
    String::from_utf8(content).unwrap()
}

#[test]
fn copy_is_masked_field_by_field() {
    for (sql, rows, expected) in [
        (
            "COPY users TO STDOUT",
            "1\tAda\t078-05-1120\n2\tGrace\t\\N\n",
            "1\tAda\t*******1120\n2\tGrace\t\\N\n",
        ),
        (
            "COPY users (ssn, id) TO STDOUT",
            "078-05-1120\t1\n",
            "*******1120\t1\n",
        ),
        (
            "COPY (SELECT upper(ssn), upper(name) FROM users) TO STDOUT",
            "a\tb\n",
            "[masked]\tb\n",
        ),
        (
            "COPY (SELECT * FROM people) TO STDOUT (FORMAT csv, HEADER)",
            "id,who,code\n1,\"A,b\",\"07\"\"8-05-1120\"\n",
            "id,who,code\n1,\"A,b\",********1120\n",
        ),
        (
            "COPY (SELECT code FROM people) TO STDOUT (FORMAT csv, DELIMITER '*')",
            "078-05-1120\n",
            "\"*******1120\"\n",
        ),
        (
            "COPY (SELECT name, ssn FROM users) TO STDOUT (DELIMITER '|', NULL '?')",
            "a\\|b|x\\|12345678\nc|?\n",
            "a\\|b|******5678\nc|*\n",
        ),
        (
            "COPY (SELECT note, (SELECT max(ssn) FROM users) FROM other) TO STDOUT",
            "x\ty\n",
            "x\t[masked]\n",
        ),
        // A string for NULL that a value may be written as tells neither from the other.
        (
            "COPY (SELECT name, ssn FROM users) TO STDOUT (NULL '078-05-1120')",
            "a\t078-05-1120\n078-05-1120\tx\n",
            "a\t*******1120\n078-05-1120\t*\n",
        ),
        (
            "COPY (SELECT name, ssn FROM users) TO STDOUT (FORMAT csv, NULL '078-05-1120')",
            "a,\"078-05-1120\"\na,078-05-1120\n",
            "a,*******1120\na,078-05-1120\n",
        ),
        // Not traced, or of another width than traced.
        (
            "COPY (SELECT own(), ssn FROM users) TO STDOUT",
            "x\ty\n",
            "[masked]\t*\n",
        ),
        ("COPY users TO STDOUT", "x\ty\n", "[masked]\t[masked]\n"),
        ("COPY unknown TO STDOUT", "x\t\\N\n", "[masked]\t\\N\n"),
    ] {
        assert_eq!(copied(sql, How::Partial, rows), expected, "{sql}");
    }
    let nulled = copied("COPY users TO STDOUT (FORMAT csv)", How::Null, "1,a,b\n");
    assert_eq!(nulled, "1,a,\n");
    let fixed = copied(
        "COPY users TO STDOUT",
        How::Fixed("a\tb\\".into()),
        "1\ta\tb\n",
    );
    assert_eq!(fixed, "1\ta\ta\\tb\\\\\n");
}

#[test]
fn copy_of_tables_without_masks_is_not_looked_at() {
    let odd = "any \\ thing\twithout an end";
    assert_eq!(copied("COPY other TO STDOUT", How::Redact, odd), odd);
}

#[test]
fn a_row_above_the_cap_becomes_nulls() {
    let rules = Rules::of(
        [(pattern("public.users.ssn"), How::Redact)],
        &HashKey::new(&[5; 32]),
        64,
    );
    let mut bench = bench(How::Redact);
    bench.masker = Masker::new(rules);
    let exchange = bench.begin("COPY users TO STDOUT");
    let rows = [
        "1\ta\tb\n",
        &format!("2\ta\t{}\n", "S".repeat(200)),
        "3\ta\tb\n",
    ];
    let wire: Vec<u8> = rows.iter().flat_map(|row| message(row)).collect();
    let mut seen = Vec::new();
    for piece in wire.chunks(50) {
        let bytes = Bytes::copy_from_slice(piece);
        let masked = bench.mask(batch(exchange, vec![(PartKind::Bulk, bytes)]));
        seen.extend_from_slice(masked.wire());
    }
    assert_eq!(
        content(&seen),
        "1\ta\t[masked]\n\\N\t\\N\t\\N\n3\ta\t[masked]\n"
    );
}

/// As the server writes a value.
fn written(value: &str, csv: bool) -> String {
    if csv {
        return format!("\"{}\"", value.replace('"', "\"\""));
    }
    let mut out = String::new();
    for c in value.chars() {
        match c {
            '\\' => out += "\\\\",
            '\t' => out += "\\t",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            c => out.push(c),
        }
    }
    out
}

#[test]
fn a_reload_within_a_copy_counts_once_it_is_over() {
    let mut bench = bench(How::Redact);
    let exchange = bench.begin("COPY users TO STDOUT");
    let wire = message("1\ta\tS3CR3T\n");
    let piece = |bytes: &[u8]| vec![(PartKind::Bulk, Bytes::copy_from_slice(bytes))];
    let mut seen = bench
        .mask(batch(exchange, piece(&wire[..9])))
        .wire()
        .to_vec();
    let none = Rules::of([], &HashKey::new(&[5; 32]), 1 << 20);
    bench.masker.set_rules(none);
    seen.extend_from_slice(bench.mask(batch(exchange, piece(&wire[9..]))).wire());
    assert_eq!(content(&seen), "1\ta\t[masked]\n");
    let done = Bytes::from_static(b"Z\0\0\0\x05I");
    bench.mask(batch(exchange, vec![(PartKind::Done, done)]));
    assert_eq!(
        bench.row(
            "SELECT ssn FROM users",
            vec![labelled("ssn", 20000, 3, TEXT)],
            &[Some("S3CR3T")]
        ),
        [Some("S3CR3T".into())]
    );
}

fn tuple(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut row = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
    for field in fields {
        let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap());
        row.extend_from_slice(&length.to_be_bytes());
        row.extend_from_slice(field.unwrap_or_default());
    }
    row
}

fn messages(rows: &[Vec<u8>]) -> Vec<u8> {
    let message = |row: &Vec<u8>| {
        let length = u32::try_from(row.len() + 4).unwrap().to_be_bytes();
        [b"d", &length[..], row].concat()
    };
    rows.iter().flat_map(message).collect()
}

const BINARY: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What the agent sees of a COPY in binary format that comes in pieces.
fn binary(bench: &mut Bench, sql: &str, wire: &[u8], cut: usize) -> Vec<u8> {
    let exchange = bench.begin(sql);
    let mut seen = Vec::new();
    for piece in wire.chunks(cut) {
        let bytes = Bytes::copy_from_slice(piece);
        let masked = bench.mask(batch(exchange, vec![(PartKind::Bulk, bytes)]));
        seen.extend_from_slice(masked.wire());
    }
    seen
}

#[test]
fn binary_copy_is_masked_by_type_however_it_is_cut() {
    let sql = "COPY (SELECT id, ssn, name, length(ssn), id FROM users) TO STDOUT (FORMAT binary)";
    let row = |ssn: &[u8], length: Option<&[u8]>| {
        let four: &[u8] = &[0, 0, 0, 4];
        tuple(&[Some(four), Some(ssn), None, length, Some(four)])
    };
    let first = [BINARY, &row(b"078-05-1120", Some(&[0, 0, 0, 11]))].concat();
    let wire = messages(&[first, row(b"", None), vec![0xff, 0xff]]);
    let masked = [BINARY, &row(b"*******1120", None)].concat();
    let expected = messages(&[masked, row(b"", None), vec![0xff, 0xff]]);
    for cut in 1..=wire.len() {
        assert_eq!(
            binary(&mut bench(How::Partial), sql, &wire, cut),
            expected,
            "{cut}"
        );
    }
    // What is of no known type or origin becomes NULL, what is no COPY is not passed on.
    let unknown = "COPY unknown TO STDOUT (FORMAT binary)";
    let wire = messages(&[[BINARY, &tuple(&[Some(b"S3CR3T"), None])].concat()]);
    let nulls = messages(&[[BINARY, &tuple(&[None, None])].concat()]);
    assert_eq!(binary(&mut bench(How::Partial), unknown, &wire, 50), nulls);
    let broken = messages(&[b"PGCOPX".to_vec(), row(b"S3CR3T", None)]);
    assert_eq!(binary(&mut bench(How::Partial), sql, &broken, 7), b"");
    let behind = messages(&[[BINARY, &[0xff, 0xff], &row(b"S3CR3T", None)].concat()]);
    let end = messages(&[[BINARY, &[0xff, 0xff]].concat()]);
    assert_eq!(binary(&mut bench(How::Partial), sql, &behind, 7), end);
}

#[test]
fn a_large_binary_row_becomes_nulls() {
    let rules = || {
        Rules::of(
            [(pattern("public.users.ssn"), How::Redact)],
            &HashKey::new(&[5; 32]),
            64,
        )
    };
    let sql = "COPY (SELECT name, ssn FROM users) TO STDOUT (FORMAT binary)";
    let small = tuple(&[Some(b"a"), Some(b"b")]);
    let large = tuple(&[Some(b"a"), Some(&[b'S'; 200])]);
    let shown = tuple(&[Some(b"a"), Some(b"[masked]")]);
    let wire = messages(&[
        [BINARY, &small].concat(),
        large.clone(),
        small.clone(),
        vec![0xff, 0xff],
    ]);
    let expected = messages(&[
        [BINARY, &shown].concat(),
        tuple(&[None, None]),
        shown,
        vec![0xff, 0xff],
    ]);
    for cut in 1..wire.len() {
        let mut bench = bench(How::Redact);
        bench.masker = Masker::new(rules());
        assert_eq!(binary(&mut bench, sql, &wire, cut), expected, "{cut}");
    }
    // The first comes with the header; nothing is known of what follows it.
    let mut bench = bench(How::Redact);
    bench.masker = Masker::new(rules());
    let wire = messages(&[[BINARY, &large].concat(), small]);
    assert_eq!(binary(&mut bench, sql, &wire, 50), b"");
}

proptest! {
    #[test]
    fn however_copy_is_cut_no_masked_value_is_in_it(
        rows in prop::collection::vec(("[a-z\"\\\\,\t\n]{0,9}", "[\"\\\\,\t\n]{0,4}"), 1..6),
        cut in 1usize..40,
        rechunked in any::<bool>(),
        csv in any::<bool>(),
    ) {
        let delimiter = if csv { "," } else { "\t" };
        let lines = rows.iter().map(|(name, secret)| {
            let secret = format!("{secret}S3CR3T{secret}");
            format!("1{delimiter}{}{delimiter}{}\n", written(name, csv), written(&secret, csv))
        });
        let lines: Vec<String> = lines.collect();
        let stream = lines.concat();
        let messages: Vec<u8> = match rechunked {
            // No server cuts rows in two, a proxy before it may.
            true => stream.as_bytes().chunks(cut).flat_map(|piece| {
                let length = (piece.len() as u32 + 4).to_be_bytes();
                [b"d", &length[..], piece].concat()
            }).collect(),
            false => lines.iter().flat_map(|line| message(line)).collect(),
        };
        let format = if csv { "csv" } else { "text" };
        let mut bench = bench(How::Redact);
        let exchange = bench.begin(&format!("COPY users TO STDOUT (FORMAT {format})"));
        let mut seen = Vec::new();
        for piece in messages.chunks(cut) {
            let bytes = Bytes::copy_from_slice(piece);
            let masked = bench.mask(batch(exchange, vec![(PartKind::Bulk, bytes)]));
            seen.extend_from_slice(masked.wire());
        }
        let expected = rows.iter().map(|(name, _)| {
            format!("1{delimiter}{}{delimiter}[masked]\n", written(name, csv))
        });
        prop_assert_eq!(content(&seen), expected.collect::<String>());
    }

    #[test]
    fn no_copied_bytes_panic(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        framed in any::<bool>(),
        csv in any::<bool>(),
    ) {
        let format = if csv { "csv, QUOTE 'x', ESCAPE 'y'" } else { "text" };
        let mut bench = bench(How::Partial);
        let exchange = bench.begin(&format!("COPY users TO STDOUT (FORMAT {format})"));
        for piece in pieces {
            let length = (piece.len() as u32 + 4).to_be_bytes();
            let wire = match framed {
                true => [b"d", &length[..], &piece].concat(),
                false => piece,
            };
            bench.mask(batch(exchange, vec![(PartKind::Bulk, wire.into())]));
        }
    }
}
