//! What is traced where, in a small world of tables, by the real grammar.

mod random;

use std::sync::Arc;

use super::resolve::Resolved;
use super::*;
use crate::config::How;
use crate::decide::RelationName;
use crate::decide::sql::{Limits, Parser};

/// `users (id, name, ssn, email, born)`, of which `ssn` is shown in part and `email` not at all;
/// `orders (id, user_id, item, cents)`; `notes`, which is in two schemas with different columns;
/// PostgreSQL's own relations. Nothing is known of others.
struct Small;

fn listed(columns: &[&str]) -> Items {
    let list = columns.iter().map(|name| Item {
        name: Some((*name).into()),
        mark: match *name {
            "ssn" => Mark::Plain(How::Partial),
            "email" => Mark::Plain(How::Redact),
            _ => Mark::Clean,
        },
        from: None,
    });
    Items::listed(list.collect())
}

impl World for Small {
    fn relation(&self, name: &RelationName) -> Arc<Items> {
        Arc::new(match &*name.name {
            "users" => listed(&["id", "name", "ssn", "email", "born"]),
            "orders" => listed(&["id", "user_id", "item", "cents"]),
            "notes" => Items::one_of(vec![listed(&["id", "body"]), listed(&["ssn", "id"])]),
            name if name.starts_with("pg_") => Items::any(Mark::Clean),
            _ => Items::any(Mark::Whole),
        })
    }
}

fn resolved(sql: &str) -> Option<Resolved> {
    let facts = Parser::new(Limits::default()).facts(sql);
    assert_eq!(facts.unparsable, None, "{sql}");
    let mut queries = facts
        .lineage
        .statements
        .iter()
        .filter_map(|s| s.query.as_ref());
    queries.next()?.resolve(&Small)
}

/// One letter for each column: `.` passes, `p` and `r` by their rules, `W` whole; `*` in front of what
/// may be several.
fn shown(sql: &str) -> String {
    let Some(resolved) = resolved(sql) else {
        return "untraced".into();
    };
    let letter = |mark: &Mark| match mark {
        Mark::Clean => ".",
        Mark::Plain(How::Partial) => "p",
        Mark::Plain(_) => "r",
        Mark::Whole => "W",
    };
    let pieces = resolved.output.0.iter().map(|piece| match piece {
        Piece::One(item) => letter(&item.mark).to_owned(),
        Piece::Many(items) => format!("*{}", letter(&items.all())),
    });
    pieces.collect()
}

#[test]
fn columns() {
    for (sql, expected) in [
        ("SELECT id, name, ssn, email FROM users", "..pr"),
        ("SELECT * FROM users", "..pr."),
        ("TABLE users", "..pr."),
        (
            "SELECT u.* FROM users u JOIN orders o ON o.user_id = u.id",
            "..pr.",
        ),
        ("SELECT o.*, u.ssn FROM users u, orders o", "....p"),
        ("SELECT ssn AS id, id AS ssn FROM users", "p."),
        ("SELECT a, c FROM users AS u(a, b, c)", ".p"),
        ("SELECT name || ssn, name || born::text FROM users", "W."),
        (
            "SELECT ssn::text, ssn COLLATE \"C\", id::text FROM users",
            "Wp.",
        ),
        (
            "SELECT upper(ssn), upper(name), lower(email) FROM users",
            "W.W",
        ),
        (
            "SELECT coalesce(ssn, ''), coalesce(name, '') FROM users",
            "W.",
        ),
        (
            "SELECT CASE WHEN ssn LIKE '1%' THEN 1 END, CASE WHEN id = 1 THEN name END FROM users",
            "W.",
        ),
        (
            "SELECT CASE id WHEN 1 THEN ssn ELSE name END FROM users",
            "W",
        ),
        ("SELECT ssn = '1', ssn IS NULL, id = 1 FROM users", "WW."),
        (
            "SELECT ARRAY[name, ssn], ARRAY[name], ROW(id, ssn), ROW(id, name) FROM users",
            "W.W.",
        ),
        (
            "SELECT row_to_json(u), to_jsonb(u.*), u, json_build_object('a', name) FROM users u",
            "WWW.",
        ),
        ("SELECT json_agg(u), json_agg(name) FROM users u", "W."),
        (
            "SELECT count(*), count(ssn), count(DISTINCT email), max(id), max(ssn) FROM users",
            "....W",
        ),
        (
            "SELECT string_agg(ssn, ','), string_agg(name, ',' ORDER BY ssn) FROM users",
            "W.",
        ),
        (
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM users",
            "W",
        ),
        (
            "SELECT lag(ssn) OVER (ORDER BY id), lag(name) OVER (ORDER BY ssn), row_number() OVER w FROM users WINDOW w AS (ORDER BY id)",
            "W..",
        ),
        ("SELECT x FROM (SELECT ssn AS x, id FROM users) s", "p"),
        (
            "SELECT x, y FROM (SELECT upper(ssn), name FROM users) AS s(x, y)",
            "W.",
        ),
        (
            "SELECT s.upper, s.name FROM (SELECT upper(ssn), name FROM users) s",
            "W.",
        ),
        (
            "SELECT s.\"?column?\", s.id FROM (SELECT ssn || '', id FROM users) s",
            "W.",
        ),
        (
            "WITH s AS (SELECT ssn, name AS n FROM users) SELECT n, ssn FROM s",
            ".p",
        ),
        (
            "WITH s(a, b) AS (TABLE users) SELECT a, b, ssn FROM s",
            "..p",
        ),
        ("WITH users AS (SELECT 1 AS ssn) SELECT ssn FROM users", "."),
        (
            "WITH s AS (SELECT ssn FROM users), t AS (SELECT ssn AS x FROM s) SELECT x FROM t",
            "p",
        ),
        (
            "WITH RECURSIVE r(n, v) AS (SELECT 1, name FROM users UNION ALL SELECT n + 1, v FROM r WHERE n < 3) SELECT * FROM r",
            "..",
        ),
        (
            "WITH RECURSIVE r(n, v) AS (SELECT 1, name FROM users UNION ALL SELECT n + 1, (SELECT ssn FROM users LIMIT 1) FROM r) SELECT n, v FROM r",
            ".p",
        ),
        (
            "WITH RECURSIVE r(a, b) AS (SELECT ssn, name FROM users UNION ALL SELECT b, a FROM r) SELECT a, b FROM r",
            "pp",
        ),
        (
            "WITH RECURSIVE r(a, b) AS (SELECT id, id FROM users UNION SELECT * FROM r) SEARCH DEPTH FIRST BY a SET o SELECT a, o FROM r",
            "..",
        ),
        (
            "WITH RECURSIVE r(a) AS (SELECT ssn FROM users UNION SELECT a FROM r) CYCLE a SET c USING p SELECT a, p FROM r",
            "pW",
        ),
        (
            "WITH d AS (DELETE FROM users RETURNING id, ssn) SELECT * FROM d",
            ".p",
        ),
        ("SELECT ssn FROM users UNION SELECT name FROM users", "p"),
        (
            "SELECT name, id FROM users UNION ALL SELECT email, 1 FROM users",
            "r.",
        ),
        ("SELECT ssn FROM users UNION SELECT email FROM users", "r"),
        (
            "SELECT id FROM users EXCEPT SELECT user_id FROM orders",
            ".",
        ),
        (
            "SELECT name FROM users INTERSECT SELECT ssn FROM users",
            "p",
        ),
        (
            "(SELECT 1, ssn FROM users ORDER BY 1) UNION ALL (SELECT 2, name FROM users)",
            ".p",
        ),
        ("VALUES (1, 'a'), (2, 'b')", ".."),
        (
            "VALUES (1, (SELECT ssn FROM users LIMIT 1)), (2, 'x')",
            ".p",
        ),
        (
            "SELECT v.b FROM users u, LATERAL (VALUES (u.ssn, u.name)) AS v(a, b)",
            ".",
        ),
        (
            "SELECT v.a FROM users u, LATERAL (SELECT u.ssn) AS v(a)",
            "p",
        ),
        (
            "SELECT v.a FROM users u CROSS JOIN LATERAL (SELECT ssn) AS v(a)",
            "p",
        ),
        (
            "SELECT (SELECT ssn FROM users LIMIT 1), (SELECT max(id) FROM users)",
            "p.",
        ),
        (
            "SELECT (SELECT u.ssn), (SELECT o.item FROM orders o WHERE o.user_id = u.id LIMIT 1) FROM users u",
            "p.",
        ),
        (
            "SELECT EXISTS (SELECT ssn FROM users), id IN (SELECT user_id FROM orders), name IN (SELECT ssn FROM users) FROM users",
            "..W",
        ),
        (
            "SELECT ARRAY(SELECT ssn FROM users), ARRAY(SELECT name FROM users)",
            "W.",
        ),
        ("SELECT * FROM users JOIN orders USING (id)", "..pr...."),
        (
            "SELECT id, ssn FROM users a FULL JOIN users b USING (id, ssn)",
            ".p",
        ),
        ("SELECT * FROM users NATURAL JOIN orders", "..pr...."),
        (
            "SELECT j.ssn, j.item FROM (users u JOIN orders o ON u.id = o.user_id) AS j",
            "p.",
        ),
        (
            "SELECT b FROM (users u JOIN orders o USING (id)) AS j(a, x, b)",
            "p",
        ),
        (
            "SELECT x.id FROM users u JOIN orders o USING (id) AS x",
            ".",
        ),
        (
            "SELECT g, n FROM generate_series(1, 3) g, users AS u(i, n)",
            "..",
        ),
        (
            "SELECT w FROM users u, unnest(string_to_array(u.ssn, '-')) AS w",
            "W",
        ),
        (
            "SELECT w FROM users u, unnest(string_to_array(u.name, '-')) AS w",
            ".",
        ),
        (
            "SELECT d.k, u.ssn FROM users u, json_to_record('{}') AS d(k int)",
            ".p",
        ),
        (
            "SELECT t.k FROM users u, XMLTABLE('/a' PASSING xmlparse(content u.ssn) COLUMNS k text) t",
            "W",
        ),
        ("SELECT relname, oid FROM pg_class", ".."),
        ("SELECT * FROM pg_class", "*."),
        ("SELECT c.*, u.ssn FROM pg_class c, users u", "*.p"),
        ("SELECT x FROM elsewhere", "W"),
        ("SELECT name, x FROM users, elsewhere", "WW"),
        ("SELECT users.name, elsewhere.x FROM users, elsewhere", ".W"),
        ("SELECT body, ssn, id FROM notes", ".p."),
        ("SELECT * FROM notes", "*p"),
        ("SELECT own(id), name FROM users", "W."),
        ("SELECT name FROM users WHERE own(id)", "."),
        ("SELECT id OPERATOR(public.+) 1, name FROM users", "W."),
        ("SELECT f.* FROM own() f", "*W"),
        ("SELECT u.own, (u).name FROM users u", "WW"),
        ("SELECT ctid, u.xmin, tableoid FROM users u", "..."),
        ("SELECT (u).* FROM users u", "*W"),
        (
            "INSERT INTO users (ssn) VALUES ('1') RETURNING id, ssn",
            ".p",
        ),
        ("INSERT INTO orders SELECT 1 RETURNING *", "...."),
        (
            "UPDATE users u SET name = 'x' FROM orders o WHERE o.user_id = u.id RETURNING *",
            "..pr.....",
        ),
        (
            "UPDATE users SET name = 'x' RETURNING old.ssn, new.name, ssn || 'x'",
            "p.W",
        ),
        ("DELETE FROM users USING orders RETURNING item, email", ".r"),
        (
            "MERGE INTO orders o USING users u ON u.id = o.user_id WHEN MATCHED THEN DELETE RETURNING u.ssn, o.item, merge_action()",
            "p..",
        ),
        ("SELECT $1, $2 || name FROM users", ".."),
        ("SELECT 1 WHERE EXISTS (SELECT ssn FROM users)", "."),
    ] {
        assert_eq!(shown(sql), expected, "{sql}");
    }
}

#[test]
fn predicates() {
    let picks = [
        "SELECT id FROM users WHERE ssn = '1'",
        "SELECT id FROM users ORDER BY ssn",
        "SELECT id, ssn AS x FROM users ORDER BY x",
        "SELECT id, ssn FROM users ORDER BY 2",
        "SELECT count(*) FROM users GROUP BY ssn",
        "SELECT count(*) FROM users GROUP BY GROUPING SETS ((id), (id, ssn))",
        "SELECT count(*) FROM users GROUP BY name HAVING max(ssn) > '1'",
        "SELECT DISTINCT ssn FROM users",
        "SELECT DISTINCT ON (ssn) id FROM users",
        "SELECT row_number() OVER (ORDER BY ssn) FROM users",
        "SELECT row_number() OVER w FROM users WINDOW w AS (PARTITION BY ssn)",
        "SELECT count(*) FILTER (WHERE ssn LIKE '1%') FROM users",
        "SELECT count(DISTINCT ssn) FROM users",
        "SELECT string_agg(name, ',' ORDER BY ssn) FROM users",
        "SELECT CASE WHEN ssn LIKE '1%' THEN 1 END FROM users",
        "SELECT id FROM users LIMIT (SELECT length(ssn) FROM users LIMIT 1)",
        "SELECT id FROM users OFFSET (SELECT length(ssn) FROM users LIMIT 1)",
        "SELECT o.id FROM users u JOIN orders o ON o.item = u.ssn",
        "SELECT 1 FROM users a JOIN users b USING (ssn)",
        "SELECT 1 FROM users a NATURAL JOIN users b",
        "SELECT id FROM (SELECT id, ssn AS x FROM users) s WHERE x LIKE '1%'",
        "WITH s AS (SELECT id FROM users WHERE ssn LIKE '1%') SELECT * FROM s",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM users WHERE ssn = '1')",
        "SELECT id FROM orders WHERE item IN (SELECT ssn FROM users)",
        "SELECT ssn FROM users UNION SELECT name FROM users",
        "SELECT name FROM users EXCEPT ALL SELECT ssn FROM users",
        "SELECT id FROM users u WHERE u::text LIKE '%1%'",
        "SELECT g FROM users u, generate_series(1, length(u.ssn)) g",
        "UPDATE users SET name = 'x' WHERE ssn = '1'",
        "UPDATE users SET name = (SELECT 'x' FROM users WHERE ssn = '1')",
        "DELETE FROM users WHERE ssn = '1'",
        "INSERT INTO orders SELECT id FROM users WHERE ssn = '1'",
        "INSERT INTO users VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x' WHERE users.ssn = '1'",
        "MERGE INTO orders o USING users u ON u.ssn = o.item WHEN MATCHED THEN DELETE",
        "MERGE INTO orders o USING users u ON u.id = o.user_id WHEN MATCHED AND u.ssn = '1' THEN DELETE",
        "EXPLAIN SELECT id FROM users WHERE ssn = '1'",
        "DECLARE c CURSOR FOR SELECT id FROM users WHERE ssn = '1'",
        "PREPARE p AS SELECT id FROM users WHERE ssn = $1",
        "CREATE VIEW v AS SELECT id FROM users WHERE ssn = '1'",
        "CREATE TABLE t AS SELECT id FROM users WHERE ssn = '1'",
        "COPY (SELECT id FROM users WHERE ssn = '1') TO STDOUT",
    ];
    for sql in picks {
        assert!(resolved(sql).unwrap().picks, "{sql}");
    }
    let does_not = [
        "SELECT * FROM users",
        "SELECT ssn, email FROM users WHERE id = 1 ORDER BY name LIMIT 3",
        "SELECT DISTINCT name FROM users",
        "SELECT name, ssn FROM users ORDER BY 1",
        "SELECT upper(ssn) FROM users WHERE name LIKE 'A%'",
        "SELECT u.ssn FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.id",
        "SELECT 1 FROM orders WHERE user_id IN (SELECT id FROM users)",
        "SELECT ssn FROM users UNION ALL SELECT name FROM users",
        "SELECT string_agg(ssn, ',' ORDER BY id) FROM users",
        "UPDATE users SET ssn = 'x' WHERE id = 1",
        "INSERT INTO users (ssn) VALUES ('1') RETURNING ssn",
        "WITH ssn AS (SELECT 1 AS one) SELECT * FROM ssn ORDER BY one",
    ];
    for sql in does_not {
        assert!(!resolved(sql).unwrap().picks, "{sql}");
    }
}

#[test]
fn what_is_too_large_is_given_up() {
    let mut sql = "SELECT * FROM users".to_owned();
    for _ in 0..20 {
        sql = format!("SELECT *, * FROM ({sql}) s");
    }
    assert_eq!(resolved(&sql), None, "columns double with each level");
    let deep = format!(
        "{}SELECT ssn FROM users{}",
        "SELECT * FROM (".repeat(90),
        ") s".repeat(90)
    );
    assert_eq!(shown(&deep), "untraced");
    let union = vec!["SELECT name FROM users"; 400].join(" UNION ALL ");
    assert_eq!(shown(&union), ".", "long is not deep");
}

#[test]
fn constants_make_no_difference() {
    let lineage = |sql: &str| Parser::new(Limits::default()).facts(sql).lineage;
    assert_eq!(
        lineage("SELECT name, 'a' || ssn FROM users WHERE id = 1 LIMIT 5"),
        lineage("SELECT name, 'b' || ssn FROM users WHERE id = 2 LIMIT 7")
    );
}

#[test]
fn results_are_told_apart() {
    let shown = |sql: &str| {
        let lineage = Parser::new(Limits::default()).facts(sql).lineage;
        lineage.shown().is_some_and(|traced| traced.query.is_some())
    };
    for sql in [
        "SELECT 1",
        "SET search_path = ''; SELECT 1",
        "BEGIN; INSERT INTO orders VALUES (1); SELECT 1; COMMIT",
        "COPY users TO STDOUT",
    ] {
        assert!(shown(sql), "{sql}");
    }
    for sql in [
        "SELECT 1; SELECT 2",
        "SHOW all",
        "SELECT 1; SHOW all",
        "FETCH ALL FROM c",
        "EXECUTE p",
        "EXPLAIN SELECT 1",
        "COPY users TO STDOUT (ENCODING 'SJIS')",
        "SELECT * INTO t FROM users",
        "CREATE TABLE t AS SELECT 1",
    ] {
        assert!(!shown(sql), "{sql}");
    }
}

#[test]
fn copy_forms() {
    let form = |options: &str| {
        let sql = format!("COPY users TO STDOUT {options}");
        let lineage = Parser::new(Limits::default()).facts(&sql).lineage;
        lineage.copy().cloned()
    };
    assert_eq!(form(""), Some(CopyForm::text()));
    let csv = CopyForm {
        header: true,
        delimiter: b';',
        ..CopyForm::csv()
    };
    assert_eq!(
        form("WITH (FORMAT csv, HEADER, DELIMITER ';')"),
        Some(csv.clone())
    );
    assert_eq!(form("CSV HEADER DELIMITER ';'"), Some(csv));
    let quoted = CopyForm {
        quote: b'\'',
        escape: b'\\',
        null: "NULL".into(),
        ..CopyForm::csv()
    };
    assert_eq!(
        form("(FORMAT csv, QUOTE '''', ESCAPE '\\', NULL 'NULL')"),
        Some(quoted)
    );
    assert_eq!(form("(FORMAT binary)"), Some(CopyForm::binary()));
    assert_eq!(form("BINARY"), Some(CopyForm::binary()));
    for options in [
        "(NULL 'x\\')",
        "(ENCODING 'SJIS')",
        "(FORMAT csv, HEADER match)",
        "(FORMAT other)",
    ] {
        assert_eq!(form(options), None, "{options}");
    }
}
