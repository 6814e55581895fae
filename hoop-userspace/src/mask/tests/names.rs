//! FETCH and EXECUTE by what was declared and prepared.

use super::traced::{bench, labelled};
use super::*;

fn upper() -> Vec<Column> {
    vec![labelled("upper", 0, 0, TEXT)]
}

/// Whether the value of one column named `upper` passes, behind all but the last of these texts.
fn fetched(texts: &[&str]) -> bool {
    let mut bench = bench(How::Redact);
    // So that the catalog is known.
    bench.row(
        "SELECT id FROM users",
        vec![labelled("id", 20000, 1, TEXT)],
        &[Some("1")],
    );
    let (last, before) = texts.split_last().unwrap();
    for sql in before {
        bench.begin(sql);
    }
    bench.row(last, upper(), &[Some("x")]) == [Some("x".into())]
}

#[test]
fn a_cursor_shows_what_its_query_does() {
    let name = "DECLARE c CURSOR WITH HOLD FOR SELECT upper(name) FROM users";
    let ssn = "DECLARE c CURSOR FOR SELECT upper(ssn) FROM users";
    let fetch = "FETCH ALL FROM c";
    assert!(fetched(&[name, fetch]));
    assert!(fetched(&["BEGIN", name, name, "ROLLBACK", "FETCH NEXT c"]));
    assert!(fetched(&[
        name,
        "COMMIT",
        "MOVE 1 c",
        "FETCH BACKWARD 1 FROM c"
    ]));
    assert!(fetched(&[
        "DECLARE c CURSOR FOR SELECT upper(who) FROM people",
        fetch
    ]));
    for texts in [
        &[fetch][..],
        &[ssn, fetch],
        &["DECLARE d CURSOR FOR SELECT upper(name) FROM users", fetch],
        // One of them failed, or the first was closed: it is not known which.
        &[name, ssn, fetch],
        &[ssn, name, fetch],
        &[ssn, "CLOSE c", name, fetch],
        &[ssn, "ROLLBACK", name, fetch],
        // Unseen code may close it and open another of its name.
        &["SELECT own()", name, fetch],
        &[name, "SELECT own()", fetch],
        &[name, "CALL own()", fetch],
        // Two results, of which one is not the cursor's.
        &[name, "FETCH c; SELECT upper(ssn) FROM users"],
        &[name, "FETCH c; FETCH d"],
        // Of another shape.
        &["DECLARE c CURSOR FOR SELECT name, id FROM users", fetch],
        &["DECLARE c CURSOR FOR SELECT name FROM users", fetch],
        // A view of this moment.
        &[
            "CREATE VIEW v AS SELECT ssn AS name FROM users",
            "DECLARE c CURSOR FOR SELECT upper(name) FROM v",
            fetch,
        ],
        &["DECLARE c CURSOR FOR SELECT upper(code) FROM people", fetch],
    ] {
        assert!(!fetched(texts), "{texts:?}");
    }
}

#[test]
fn a_prepared_statement_shows_what_its_text_does() {
    let name = "PREPARE p AS SELECT upper(name) FROM users WHERE id = $1";
    assert!(fetched(&[name, "EXECUTE p(1)"]));
    assert!(
        fetched(&[
            name,
            "EXECUTE p(1)",
            "SELECT upper(name) FROM users WHERE ssn = ''"
        ]),
        "nothing unseen ran"
    );
    for texts in [
        &["EXECUTE p"][..],
        &["PREPARE p AS SELECT upper(ssn) FROM users", "EXECUTE p"],
        &[
            "PREPARE p AS SELECT upper(ssn) FROM users",
            "DEALLOCATE p",
            name,
            "EXECUTE p(1)",
        ],
        &["PREPARE p AS SELECT own()", "EXECUTE p"],
        &[name, "SELECT own()", "EXECUTE p(1)"],
        &[
            name,
            "CREATE OR REPLACE TEMP VIEW users AS SELECT ssn AS name FROM public.users",
            "EXECUTE p(1)",
        ],
        &[name, "EXPLAIN EXECUTE p(1)"],
        &["EXECUTE q", "SELECT upper(name) FROM users WHERE ssn = ''"],
    ] {
        assert!(!fetched(texts), "{texts:?}");
    }
}

#[test]
fn a_cursor_of_before_a_reload_shows_nothing_computed() {
    let mut bench = bench(How::Redact);
    bench.row(
        "SELECT id FROM users",
        vec![labelled("id", 20000, 1, TEXT)],
        &[Some("1")],
    );
    bench.begin("DECLARE c CURSOR WITH HOLD FOR SELECT upper(name) FROM users");
    let rules = Rules::of(
        [(pattern("public.users.name"), How::Redact)],
        &HashKey::new(&[5; 32]),
        1 << 20,
    );
    bench.masker.set_rules(rules);
    assert_eq!(
        bench.row("FETCH c", upper(), &[Some("x")]),
        [Some("[masked]".into())]
    );
}

#[test]
fn names_that_the_protocol_gives_are_not_the_texts() {
    let name = "DECLARE c CURSOR FOR SELECT upper(name) FROM users";
    let prepare = "PREPARE p AS SELECT upper(name) FROM users";
    let sent = |first: bool, message: &[u8], sql: &str, last: &str| {
        let mut bench = bench(How::Redact);
        bench.row(
            "SELECT id FROM users",
            vec![labelled("id", 20000, 1, TEXT)],
            &[Some("1")],
        );
        if !first {
            bench.begin(sql);
        }
        bench.begin_sent("SELECT 1", message);
        if first {
            bench.begin(sql);
        }
        bench.row(last, upper(), &[Some("x")]) == [Some("x".into())]
    };
    let frame = |tag: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    };
    for first in [true, false] {
        let unnamed = frame(b'B', b"\0s\0\0\0\0\0\0\0");
        assert!(sent(first, &unnamed, name, "FETCH c"));
        let bind = [unnamed, frame(b'B', b"c\0s\0\0\0\0\0\0\0")].concat();
        assert!(!sent(first, &bind, name, "FETCH c"));
        let other = frame(b'P', b"q\0SELECT 1\0\0\0");
        assert!(sent(first, &other, prepare, "EXECUTE p"));
        let parse = frame(b'P', b"p\0SELECT 1\0\0\0");
        assert!(!sent(first, &parse, prepare, "EXECUTE p"));
    }
}
