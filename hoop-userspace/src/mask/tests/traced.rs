//! Column by column: through expressions, views, unions and COPY, with the server's part played.

use proptest::prelude::*;

use super::*;
use crate::decide::Definitions;

/// `users (id, name, ssn)`; views over it as PostgreSQL words them.
fn catalog(views: &[(&str, &[&str], &str)]) -> Catalog {
    let users = relation(20000, "users", &["id", "name", "ssn"]);
    let other = relation(20001, "other", &["id", "note"]);
    let definitions = Definitions::new();
    let mut relations = vec![users, other];
    let mut defined = Vec::new();
    for (oid, (name, columns, sql)) in (20010..).zip(views) {
        let mut view = relation(oid, name, columns);
        view.kind = RelationKind::View;
        view.reads = vec![20000, 20001];
        relations.push(view);
        defined.extend(definitions.read(sql).map(|query| (oid, Arc::new(query))));
    }
    let texts = [(20000, 2), (20000, 3), (20010, 2), (20010, 3)];
    let kinds = texts.map(|column| (column, TEXT));
    Catalog::new(relations)
        .with_definitions(defined)
        .with_kinds(kinds)
}

fn bench(how: How) -> Bench {
    let views: &[(&str, &[&str], &str)] = &[
        (
            "people",
            &["id", "who", "code"],
            "SELECT users.id, users.name AS who, users.ssn AS code FROM public.users",
        ),
        (
            "joined",
            &["made", "note"],
            "SELECT (people.code || '!'::text) AS made, other.note FROM (public.people JOIN public.other ON ((people.id = other.id)))",
        ),
        (
            "mixed",
            &["x"],
            "SELECT users.ssn AS x FROM public.users UNION ALL SELECT other.note FROM public.other",
        ),
        ("unread", &["x"], "SELECT this is no definition"),
        (
            "shorter",
            &["x", "y"],
            "SELECT other.note AS x FROM public.other",
        ),
        ("misnamed", &["x"], "SELECT other.note FROM public.other"),
        (
            "some",
            &["name"],
            "SELECT users.name FROM public.users WHERE ((users.ssn)::integer > 5)",
        ),
    ];
    Bench::new(&["public.users.ssn"], how, catalog(views))
}

fn labelled(label: &str, table: u32, attribute: i16, kind: u32) -> Column {
    Column {
        label: label.into(),
        ..column(table, attribute, kind)
    }
}

/// Which columns of one row stay as they are.
fn passes(sql: &str, columns: Vec<Column>) -> Vec<bool> {
    let row = vec![Some("S3CR3T"); columns.len()];
    let shown = bench(How::Redact).row(sql, columns, &row);
    shown
        .iter()
        .map(|v| v.as_deref() == Some("S3CR3T"))
        .collect()
}

#[test]
fn expressions_over_other_columns_pass() {
    let sql = "SELECT upper(name), upper(ssn), id FROM users";
    let columns = vec![
        labelled("upper", 0, 0, TEXT),
        labelled("upper", 0, 0, TEXT),
        labelled("id", 20000, 1, TEXT),
    ];
    assert_eq!(passes(sql, columns), [true, false, true]);
    let sql = "SELECT ssn FROM users UNION ALL SELECT note FROM other";
    assert_eq!(passes(sql, vec![labelled("ssn", 0, 0, TEXT)]), [false]);
    let sql = "SELECT own(id), upper(name) FROM users WHERE ssn = '1'";
    let columns = vec![labelled("own", 0, 0, TEXT), labelled("upper", 0, 0, TEXT)];
    assert_eq!(
        passes(sql, columns),
        [false, true],
        "unseen code returns anything"
    );
}

#[test]
fn plain_values_keep_their_strategy() {
    let sql =
        "SELECT x, '' || x AS y FROM (SELECT ssn AS x FROM users UNION SELECT note FROM other) s";
    let columns = vec![labelled("x", 0, 0, TEXT), labelled("y", 0, 0, TEXT)];
    let row = [Some("078-05-1120"), Some("078-05-1120")];
    let shown = bench(How::Partial).row(sql, columns, &row);
    assert_eq!(shown, [Some("*******1120".into()), Some("[masked]".into())]);
}

#[test]
fn views_column_by_column() {
    let view = |oid, labels: &[&str]| -> Vec<Column> {
        let all = (1..).zip(labels);
        all.map(|(at, label)| labelled(label, oid, at, TEXT))
            .collect()
    };
    let people = passes("SELECT * FROM people", view(20010, &["id", "who", "code"]));
    assert_eq!(people, [true, true, false]);
    let joined = passes("SELECT * FROM joined", view(20011, &["made", "note"]));
    assert_eq!(joined, [false, true]);
    assert_eq!(passes("SELECT * FROM mixed", view(20012, &["x"])), [false]);
    // Not understood, of another width, under another name: whole.
    assert_eq!(passes("SELECT * FROM unread", view(20013, &["x"])), [false]);
    assert_eq!(
        passes("SELECT * FROM shorter", view(20014, &["x", "y"])),
        [false, false]
    );
    assert_eq!(
        passes("SELECT * FROM misnamed", view(20015, &["x"])),
        [false]
    );
    let made = vec![labelled("upper", 0, 0, TEXT), labelled("lower", 0, 0, TEXT)];
    let sql = "SELECT upper(who), lower(code) FROM people";
    assert_eq!(passes(sql, made), [true, false]);
}

#[test]
fn messages_of_a_view_lose_what_they_quote_though_its_columns_pass() {
    let mut bench = bench(How::Redact);
    for sql in ["SELECT name FROM few", "SELECT upper(name) FROM few"] {
        let exchange = bench.begin(sql);
        let name = labelled("name", 20016, 1, TEXT);
        let said = error(
            "22P02",
            "invalid input syntax for type integer: \"S3CR3T\"",
            "S3CR3T",
        );
        let parts = vec![
            (rows_part(vec![name], 1), data_row(&[Some("Ada")])),
            (PartKind::Text, said),
        ];
        let masked = bench.mask(batch(exchange, parts));
        assert_eq!(shown(&masked), [Some("Ada".into())], "{sql}");
        assert!(
            holds(masked.wire(), b"22P02") && !holds(masked.wire(), b"S3CR3T"),
            "{sql}"
        );
    }
}

#[test]
fn a_result_of_another_shape_is_not_believed() {
    let sql = "SELECT upper(name), ssn FROM users";
    let of = |columns: Vec<Column>| passes(sql, columns);
    let upper = || labelled("upper", 0, 0, TEXT);
    assert_eq!(
        of(vec![upper(), labelled("ssn", 20000, 3, TEXT)]),
        [true, false]
    );
    // One column more, another label, another column of the table than the text says.
    let more = vec![
        upper(),
        labelled("ssn", 20000, 3, TEXT),
        labelled("x", 0, 0, TEXT),
    ];
    assert_eq!(of(more), [false, false, false]);
    assert_eq!(
        of(vec![
            labelled("lower", 0, 0, TEXT),
            labelled("ssn", 20000, 3, TEXT)
        ]),
        [false, false]
    );
    assert_eq!(
        of(vec![upper(), labelled("ssn", 20000, 1, TEXT)]),
        [false, true]
    );
}

#[test]
fn names_defined_in_an_open_transaction_mean_anything() {
    let sql = "SELECT upper(name) FROM users WHERE ssn = '1'";
    let upper = || vec![labelled("upper", 0, 0, TEXT)];
    let mut bench = bench(How::Redact);
    assert_eq!(bench.row(sql, upper(), &[Some("x")]), [Some("x".into())]);
    bench.begin("CREATE TEMP VIEW users AS SELECT ssn AS name FROM public.users");
    assert_eq!(
        bench.row(sql, upper(), &[Some("x")]),
        [Some("[masked]".into())]
    );
    let other = "SELECT upper(note), (SELECT max(code) FROM people) FROM other";
    let columns = vec![labelled("upper", 0, 0, TEXT), labelled("max", 0, 0, TEXT)];
    let shown = bench.row(other, columns, &[Some("x"), Some("x")]);
    assert_eq!(shown, [Some("x".into()), Some("[masked]".into())]);
    // The same catalog as before shows nothing new; another does.
    let same = bench.current.clone();
    bench.masker.derived(&same);
    bench.masker.settle(&same);
    assert_eq!(
        bench.row(sql, upper(), &[Some("x")]),
        [Some("[masked]".into())]
    );
    bench.current = Arc::new(Catalog::clone(&same));
    let newer = bench.current.clone();
    bench.masker.settle(&newer);
    assert_eq!(bench.row(sql, upper(), &[Some("x")]), [Some("x".into())]);
}

#[test]
fn unseen_code_may_define_anything_for_what_follows() {
    let mut bench = bench(How::Redact);
    let sql = "SELECT own(id), upper(name), ssn FROM users";
    let columns = || {
        vec![
            labelled("own", 0, 0, TEXT),
            labelled("upper", 0, 0, TEXT),
            labelled("ssn", 20000, 3, TEXT),
        ]
    };
    let row = [Some("x"); 3];
    let shown = bench.row(sql, columns(), &row);
    assert_eq!(shown[1].as_deref(), Some("x"));
    let shown = bench.row(sql, columns(), &row);
    assert_eq!(shown[1].as_deref(), Some("[masked]"));
}

fn copied(sql: &str, how: How, rows: &str) -> String {
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
            "a\\|b|******5678\nc|?\n",
        ),
        (
            "COPY (SELECT note, (SELECT max(ssn) FROM users) FROM other) TO STDOUT",
            "x\ty\n",
            "x\t[masked]\n",
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
