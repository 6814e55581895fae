//! What the parser finds, text by text.

use super::*;

fn facts(text: &str) -> Facts {
    Parser::new(Limits::default()).facts(text)
}

#[test]
fn ctes_and_aliases_are_resolved_away() {
    let found = facts(
        "WITH d AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT x FROM d JOIN public.c USING (id)",
    );
    let names = |list: &[crate::decide::RelationName]| {
        list.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&found.reads), ["a", "public.c"]);
    assert_eq!(names(&found.writes), ["a", "b"]);
    assert!(found.has(Flag::WritesInCte) && found.has(Flag::Unbounded));
}

#[test]
fn deep_and_large_texts_come_back() {
    let parser = Parser::new(Limits::default());
    for text in [
        format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("SELECT {}1", "NOT ".repeat(100_000)),
        format!("SELECT 1{}", "+1".repeat(200_000)),
        format!("SELECT '{}'", "x".repeat(2 << 20)),
        format!("SELECT {}", "a.".repeat(100_000)),
        "SELECT 1\0; DROP TABLE users".to_owned(),
    ] {
        assert!(parser.facts(&text).unparsable.is_some(), "{:.40}", text);
    }
    // As deep as is read, on the thread with a large stack and on this one.
    for (depth, filler) in [(900, 0), (900, 100_000), (1_500, 0)] {
        let filler = "x".repeat(filler);
        for (open, close) in [
            ("(", ")"),
            ("NOT ", ""),
            ("- ", ""),
            ("CASE WHEN true THEN ", " END"),
        ] {
            let text = format!(
                "SELECT '{filler}', {}1{}",
                open.repeat(depth),
                close.repeat(depth)
            );
            assert_eq!(parser.facts(&text).unparsable, None, "{depth} {open}");
        }
        let text = format!("SELECT '{filler}'{}", " UNION SELECT '1'".repeat(depth));
        assert_eq!(parser.facts(&text).unparsable, None);
        let text = format!("SELECT '{filler}' WHERE 1 = 1{}", " OR 1 = 1".repeat(depth));
        assert_eq!(parser.facts(&text).unparsable, None);
    }
    let rows = vec!["(1, 'a', -2.5, now())"; 10_000].join(", ");
    let found = parser.facts(&format!("INSERT INTO t VALUES {rows}"));
    assert_eq!((found.unparsable, found.writes.len()), (None, 1));
}

#[test]
fn too_many_ctes_are_refused_quickly() {
    let ctes: Vec<_> = (0..2_000).map(|n| format!("c{n} AS (SELECT 1)")).collect();
    let found = facts(&format!("WITH {} SELECT 1", ctes.join(", ")));
    assert!(found.unparsable.unwrap().contains("WITH"));
}

#[test]
fn columns_are_attributed_where_the_text_tells() {
    let columns = |sql: &str| -> Vec<String> {
        let show = |c: &crate::decide::ColumnName| {
            let relation = c
                .relation
                .as_ref()
                .map_or("?".to_owned(), ToString::to_string);
            format!("{relation}.{}", c.column.as_deref().unwrap_or("*"))
        };
        facts(sql).columns.iter().map(show).collect()
    };
    assert_eq!(
        columns("SELECT ssn FROM public.users"),
        ["public.users.ssn"]
    );
    assert_eq!(
        columns("SELECT u.ssn, o.id, x FROM users u, orders o"),
        ["?.x", "orders.id", "users.ssn"]
    );
    assert_eq!(columns("SELECT * FROM users"), ["users.*"]);
    assert_eq!(columns("SELECT u FROM users u"), ["users.*"]);
    assert_eq!(columns("SELECT u.to_json FROM users u"), ["users.*"]);
    assert_eq!(
        columns("SELECT b FROM users AS u(a, b)"),
        ["users.*", "users.b"]
    );
    assert_eq!(
        columns("SELECT public.users.ssn FROM public.users"),
        ["public.users.ssn"]
    );
    assert_eq!(
        columns("WITH c AS (SELECT ssn AS x FROM users) SELECT x FROM c"),
        ["?.ssn", "?.x"]
    );
    assert_eq!(columns("UPDATE users SET a = 1 RETURNING old"), ["users.*"]);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(SELECT|INSERT|FROM|WITH|AS|DELETE|users|a|\\*|\\(|\\)|,|'x'|=|;|\\$1|[ ]|\n|E'|\\$\\$|/\\*|RETURNING|GRANT|ON|TO|DROP|TABLE|SET|EXPLAIN|COPY|PROGRAM){0,14}") {
        let found = facts(&text);
        proptest::prop_assert!(found.unparsable.is_some() || found.statements.iter().all(|s| !s.accesses.is_empty()));
    }
}

#[test]
fn texts_that_touch_very_much_are_refused() {
    let tables = |n: usize| {
        (0..n)
            .map(|n| format!("t{n}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(
        facts(&format!("SELECT 1 FROM {}", tables(900))).unparsable,
        None
    );
    let found = facts(&format!("SELECT 1 FROM {}", tables(1_100)));
    assert!(found.unparsable.unwrap().contains("1000"));
}
