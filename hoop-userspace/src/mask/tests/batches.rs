//! One way in which values come after another.

use super::*;

const USERS: u32 = 20001;
const VIEW: u32 = 20002;
const PART: u32 = 20003;
const ORDERS: u32 = 20004;
const SSN: &str = "123-45-6789";

fn bench(how: How) -> Bench {
    let view = Relation {
        kind: RelationKind::View,
        reads: vec![USERS],
        ..relation(VIEW, "people", &["id", "who"])
    };
    let part = Relation {
        parents: vec![USERS],
        ..relation(PART, "users_2026", &["ssn", "id"])
    };
    let catalog = Catalog::new([
        relation(USERS, "users", &["id", "ssn", "name"]),
        relation(ORDERS, "orders", &["id", "total"]),
        view,
        part,
    ])
    .with_system(["pg_class".into()]);
    Bench::new(&["public.users.ssn"], how, catalog)
}

fn one(bench: &mut Bench, sql: &str, column: Column) -> Option<String> {
    bench.row(sql, vec![column], &[Some(SSN)]).remove(0)
}

#[test]
fn a_column_is_known_by_its_table_whatever_it_is_called() {
    let mut bench = bench(How::Partial);
    let row = bench.row(
        "SELECT id AS ssn, ssn AS harmless, name FROM users",
        vec![
            column(USERS, 1, INT4),
            column(USERS, 2, TEXT),
            column(USERS, 3, TEXT),
        ],
        &[Some("1"), Some(SSN), Some("Ada")],
    );
    assert_eq!(
        row,
        [
            Some("1".into()),
            Some("*******6789".into()),
            Some("Ada".into())
        ]
    );
}

#[test]
fn partitions_and_views_are_masked_with_their_table() {
    let mut bench = bench(How::Hash);
    let of_part = one(
        &mut bench,
        "SELECT ssn FROM users_2026",
        column(PART, 1, TEXT),
    )
    .unwrap();
    let of_table = one(&mut bench, "SELECT ssn FROM users", column(USERS, 2, TEXT)).unwrap();
    assert_eq!(of_part, of_table, "joins still work");
    assert_eq!(of_part.len(), 32);
    let passes = one(
        &mut bench,
        "SELECT id FROM users_2026",
        column(PART, 2, TEXT),
    );
    assert_eq!(passes.as_deref(), Some(SSN));
    for (attribute, sql) in [(1, "SELECT id FROM people"), (2, "SELECT who FROM people")] {
        let of_view = one(&mut bench, sql, column(VIEW, attribute, TEXT));
        assert_eq!(of_view.as_deref(), Some("[masked]"));
    }
}

#[test]
fn expressions_are_masked_by_what_the_statement_reads() {
    for sql in [
        "SELECT lower(ssn) FROM users",
        "SELECT u FROM users u",
        "SELECT to_json(u) FROM users u",
        "SELECT b || '' FROM users AS u(a, b)",
        "SELECT x || '' FROM (users u JOIN orders o USING (id)) AS j(w, x)",
        "SELECT id FROM orders UNION SELECT length(ssn) FROM users",
        "SELECT (SELECT max(ssn) FROM public.users) FROM orders",
        "WITH s AS (SELECT * FROM users) SELECT max(s) FROM s",
        "SELECT who || '' FROM people",
        "SELECT made_in_this_transaction.x || '' FROM made_in_this_transaction",
        "EXECUTE p",
        "FETCH ALL FROM c",
        "SELECT ours(1)",
        "SELECT max(ssn) FROM users_2026",
    ] {
        let shown = one(&mut bench(How::Partial), sql, column(0, 0, TEXT));
        assert_eq!(shown.as_deref(), Some("[masked]"), "{sql}");
        let number = one(&mut bench(How::Partial), sql, column(0, 0, INT4));
        assert_eq!(number, None, "{sql}");
    }
    for sql in [
        "SELECT 1",
        "SELECT count(*) FROM users",
        "SELECT upper(name) FROM users",
        "SELECT max(total) FROM orders",
        "SELECT count(*) FROM pg_class",
    ] {
        let shown = one(&mut bench(How::Partial), sql, column(0, 0, TEXT));
        assert_eq!(shown.as_deref(), Some(SSN), "{sql}");
    }
}

#[test]
fn without_columns_or_a_statement_every_value_is_null() {
    let mut bench = bench(How::Partial);
    let exchange = bench.begin("SELECT ssn FROM users");
    let rows = PartKind::Rows {
        count: 1,
        columns: None,
    };
    let masked = bench.mask(batch(exchange, vec![(rows, data_row(&[Some(SSN)]))]));
    assert_eq!(shown(&masked), [None]);
    let rows = rows_part(vec![column(ORDERS, 1, TEXT)], 1);
    let masked = bench.mask(batch(ExchangeId(99), vec![(rows, data_row(&[Some(SSN)]))]));
    assert_eq!(shown(&masked), [Some("[masked]".into())]);
}

#[test]
fn copied_rows_are_not_passed_on() {
    let mut bench = bench(How::Partial);
    for (sql, passes) in [
        ("COPY users TO STDOUT", false),
        ("COPY (SELECT * FROM people) TO STDOUT", false),
        ("COPY orders TO STDOUT", true),
        ("COPY users (id, name) TO STDOUT", true),
    ] {
        let exchange = bench.begin(sql);
        let data = Bytes::from_static(b"d\0\0\0\x0b1\t123\n");
        let masked = bench.mask(batch(exchange, vec![(PartKind::Bulk, data.clone())]));
        assert_eq!(masked.wire().is_empty(), !passes, "{sql}");
        assert!(masked.wire().is_empty() || *masked.wire() == data, "{sql}");
    }
}

#[test]
fn what_is_not_masked_is_not_copied() {
    let mut bench = bench(How::Partial);
    let exchange = bench.begin("SELECT total FROM orders");
    let row = data_row(&[Some("12")]);
    let replies = batch(
        exchange,
        vec![(rows_part(vec![column(ORDERS, 2, TEXT)], 1), row)],
    );
    let before = replies.wire.as_ptr();
    assert_eq!(bench.mask(replies).wire().as_ptr(), before);
}

#[test]
fn errors_keep_their_code_and_lose_what_may_quote_a_row() {
    let told = |sqls: &[&str], code| {
        let mut bench = bench(How::Partial);
        let mut wire = Bytes::new();
        for sql in sqls {
            let exchange = bench.begin(sql);
            let said = error(
                code,
                &format!("invalid: \"{SSN}\""),
                &format!("Key (ssn)=({SSN})"),
            );
            wire = bench
                .mask(batch(exchange, vec![(PartKind::Text, said)]))
                .wire()
                .clone();
        }
        assert!(holds(&wire, code.as_bytes()));
        holds(&wire, SSN.as_bytes())
    };
    assert!(!told(&["SELECT ssn::int FROM users"], "22P02"));
    assert!(!told(&["UPDATE users SET name = 'x'"], "23505"));
    assert!(!told(&["SELECT ssn FROM users", "COMMIT"], "23505"));
    assert!(!told(&["SELECT ssn FROM users", "COMMIT"], "P0001"));
    // Code that nobody has seen can give any error the name of a harmless one.
    assert!(!told(&["SELECT ours(1)"], "42601"));
    // It points nowhere: a function may have said it of a value.
    assert!(!told(&["SELECT nothing FROM users"], "42703"));
    assert!(told(&["SELECT name FROM users"], "42501"));
    assert!(told(&["SELECT total::date FROM orders"], "22007"));
}

#[test]
fn a_large_row_is_collected_or_replaced() {
    for (sql, table, size, whole) in [
        ("SELECT ssn FROM users", USERS, 1000, true),
        ("SELECT ssn FROM users", USERS, 2 << 20, false),
    ] {
        let mut bench = bench(How::Partial);
        let exchange = bench.begin(sql);
        let columns = Arc::new(Columns {
            columns: vec![column(table, 1, TEXT), column(table, 2, TEXT)],
        });
        let row = data_row(&[Some(&*"x".repeat(size)), Some(SSN)]);
        let total = u32::try_from(row.len()).unwrap();
        let mut seen = BytesMut::new();
        for start in (0..row.len()).step_by(400) {
            let piece = row.slice(start..row.len().min(start + 400));
            let kind = PartKind::RowPiece {
                first: start == 0,
                last: start + 400 >= row.len(),
                total,
                columns: Some(columns.clone()),
            };
            seen.extend_from_slice(bench.mask(batch(exchange, vec![(kind, piece)])).wire());
        }
        let body = bodies(&seen).next().unwrap().unwrap();
        let values: Vec<_> = values(body).unwrap().map(Result::unwrap).collect();
        match whole {
            true => assert_eq!(
                (values[0].unwrap().len(), values[1]),
                (size, Some(&b"*******6789"[..]))
            ),
            false => assert_eq!(values, [None, None]),
        }
    }
}

#[test]
fn what_an_observed_agent_sees_is_not_what_is_recorded() {
    let mut bench = bench(How::Partial);
    bench.masker.observe(true);
    let exchange = bench.begin("SELECT ssn FROM users");
    let rows = rows_part(vec![column(USERS, 2, TEXT)], 1);
    let masked = bench.mask(batch(exchange, vec![(rows, data_row(&[Some(SSN)]))]));
    assert!(holds(masked.wire(), SSN.as_bytes()));
    assert!(!holds(masked.record(), SSN.as_bytes()));
    assert_eq!(masked.values(), 1);
}

#[test]
fn a_catalog_that_expires_is_asked_for_again() {
    let mut bench = bench(How::Redact);
    for _ in 0..3 {
        let total = one(
            &mut bench,
            "SELECT total FROM orders",
            column(ORDERS, 2, TEXT),
        );
        assert_eq!(total.as_deref(), Some(SSN), "attributed again each time");
        bench.catalog = Arc::new(Catalog::clone(&bench.catalog));
        bench.current = Arc::default();
    }
}

#[test]
fn stricter_rules_count_at_once() {
    let mut bench = bench(How::Redact);
    let exchange = bench.begin("SELECT name FROM users");
    let rules = [(pattern("public.users.name"), How::Null)];
    bench
        .masker
        .set_rules(Rules::of(rules, &HashKey::new(&[1; 32]), 1000));
    let rows = rows_part(vec![column(USERS, 3, TEXT)], 1);
    let masked = bench.mask(batch(exchange, vec![(rows, data_row(&[Some("Ada")]))]));
    assert_eq!(shown(&masked), [None]);
}

#[test]
fn views_of_masked_tables_are_told_to_those_who_decide() {
    let mut bench = bench(How::Redact);
    assert!(bench.masker.derived(&Arc::default()).is_empty());
    let catalog = bench.catalog.clone();
    let named: Vec<String> = bench
        .masker
        .derived(&catalog)
        .iter()
        .map(|n| n.relation.to_string())
        .collect();
    // A partition has the columns of its table, under a name that no mask knows.
    assert_eq!(named, ["public.people", "public.users_2026"]);
    assert_eq!(
        bench.masker.derived(&Arc::default()).len(),
        2,
        "an expired catalog takes nothing back"
    );
}
