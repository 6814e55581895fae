//! Writes and COPY must not carry masked values to where no mask follows them.

use super::*;

const MASKS: &[&str] = &["public.users.ssn", "*.*.email"];

fn code(sql: &str) -> Option<Code> {
    let policy = (
        "all.cedar",
        "permit (principal, action in Action::\"sql\", resource);",
    );
    let decider = decider(&[], &[policy], MASKS);
    decider
        .explain(&subject(), text(sql))
        .refusal
        .map(|r| r.code)
}

#[test]
fn what_would_escape_is_refused() {
    for sql in [
        "COPY users TO STDOUT (ENCODING 'SJIS')",
        "COPY users TO STDOUT (FORMAT binary, ENCODING 'SJIS')",
        "COPY (SELECT ssn FROM users) TO '/tmp/x' BINARY",
        "COPY users TO STDOUT (NULL 'x\\')",
        "COPY users TO '/tmp/users'",
        "COPY (SELECT * FROM users) TO PROGRAM 'cat'",
        "COPY users TO STDOUT; COPY (SELECT ssn FROM users) TO STDOUT",
        "INSERT INTO t SELECT ssn FROM users",
        "INSERT INTO t SELECT * FROM users",
        "INSERT INTO t SELECT x FROM (SELECT ssn AS x FROM users) s",
        "INSERT INTO t VALUES ((SELECT ssn FROM users LIMIT 1))",
        "INSERT INTO t SELECT CASE WHEN ssn LIKE '1%' THEN 1 END FROM users",
        "INSERT INTO t SELECT max(email) FROM anything",
        "WITH s AS (SELECT * FROM users) INSERT INTO t SELECT * FROM s",
        "WITH s AS (DELETE FROM users RETURNING ssn) INSERT INTO t SELECT * FROM s",
        "UPDATE users SET note = ssn",
        "UPDATE users u SET note = upper(u.ssn) WHERE id = 1",
        "UPDATE t SET a = u.ssn FROM users u WHERE u.id = t.id",
        "UPDATE t SET (a, b) = (SELECT ssn, 1 FROM users)",
        "INSERT INTO users VALUES (1) ON CONFLICT (id) DO UPDATE SET note = users.ssn",
        "MERGE INTO t USING users u ON u.id = t.id WHEN MATCHED THEN UPDATE SET a = u.ssn",
        "SELECT ssn INTO t FROM users",
        "SELECT 1 AS a INTO t UNION SELECT length(ssn) FROM users",
        "CREATE TABLE t AS SELECT ssn FROM users",
        "CREATE MATERIALIZED VIEW v AS TABLE users",
        "INSERT INTO t SELECT pay_out()",
        "CREATE TABLE t AS EXECUTE p",
        "DO 'BEGIN END'",
        "SELECT query_to_xml('INSERT INTO t SELECT ssn FROM users', true, true, '')",
        "SELECT * FROM pg_stats",
        "SELECT stavalues1 FROM pg_catalog.pg_statistic",
        "SELECT * FROM pg_toast.pg_toast_16384",
        "EXPLAIN ANALYZE INSERT INTO t SELECT ssn FROM users",
        "PREPARE p AS INSERT INTO t SELECT ssn FROM users",
        "ALTER TABLE users RENAME COLUMN ssn TO harmless",
        "ALTER TABLE anything RENAME email TO harmless",
        "ALTER TABLE IF EXISTS ONLY public.users RENAME TO people",
        "ALTER VIEW users RENAME TO people",
        "ALTER TABLE users SET SCHEMA other",
        "ALTER SCHEMA public RENAME TO other",
        "ALTER TABLE users DETACH PARTITION users_1",
        "ALTER TABLE public.users DETACH PARTITION users_1 CONCURRENTLY",
        "ALTER TABLE users DETACH PARTITION users_1 FINALIZE",
        "ALTER TABLE users_1 NO INHERIT users",
        "ALTER TABLE users_1 ADD a int, NO INHERIT public.users",
        "ALTER TYPE person RENAME ATTRIBUTE ssn TO harmless CASCADE",
        "CREATE OR REPLACE VIEW v AS SELECT 1; REFRESH MATERIALIZED VIEW daily",
        "ALTER TABLE users ALTER name TYPE text USING ssn",
        "ALTER TABLE users ALTER name TYPE text USING users::text",
        "ALTER TABLE users ADD x text GENERATED ALWAYS AS (ssn || '') STORED",
    ] {
        assert_eq!(code(sql), Some(Code::MaskedRead), "{sql}");
    }
}

#[test]
fn what_does_not_is_permitted() {
    for sql in [
        "SELECT * FROM users",
        "COPY users TO STDOUT",
        "COPY users (id, ssn) TO STDOUT",
        "COPY (SELECT ssn FROM users) TO STDOUT",
        "COPY (SELECT * FROM users) TO STDOUT",
        "COPY (TABLE public.users) TO STDOUT",
        "COPY (SELECT u FROM users u) TO STDOUT",
        "COPY (SELECT to_json(u) FROM users u) TO STDOUT",
        "COPY (SELECT u.to_json FROM users u) TO STDOUT",
        "COPY (SELECT (u).ssn FROM users u) TO STDOUT",
        "COPY (SELECT b FROM users AS u(a, b)) TO STDOUT",
        "COPY (SELECT x FROM (users u JOIN t USING (id)) AS j(w, x)) TO STDOUT",
        "COPY (DELETE FROM users WHERE id = 1 RETURNING *) TO STDOUT",
        "COPY (UPDATE users SET id = 1 WHERE id = 1 RETURNING old) TO STDOUT",
        "COPY (SELECT 1 AS a UNION SELECT length(ssn) FROM users) TO STDOUT",
        "COPY users (id, name) TO STDOUT (FORMAT binary)",
        "SET search_path = ''; COPY users TO STDOUT",
        "COPY (SELECT id FROM users WHERE ssn = '1') TO STDOUT",
        "COPY other.users (ssn) TO STDOUT",
        "COPY users FROM STDIN",
        "INSERT INTO users (ssn, email) VALUES ('1', 'x@y.example')",
        "INSERT INTO t SELECT id, name FROM users WHERE ssn IS NOT NULL ORDER BY ssn",
        "INSERT INTO users VALUES (1) ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn",
        "UPDATE users SET ssn = 'x', seen = now() WHERE ssn = '1'",
        "UPDATE users SET note = 'x' WHERE id = 1 RETURNING *",
        "DELETE FROM users WHERE ssn = '1' RETURNING ssn",
        "CREATE TABLE t AS SELECT id, name FROM users",
        "CREATE VIEW v AS SELECT * FROM users",
        "ALTER TABLE users RENAME COLUMN name TO called",
        "ALTER TABLE other.users RENAME TO people",
        "ALTER TABLE orders RENAME TO purchases",
        "ALTER SCHEMA other RENAME TO another",
        "ALTER TABLE other.users DETACH PARTITION p",
        "REFRESH MATERIALIZED VIEW daily",
        "ALTER TABLE users NO INHERIT people",
        "ALTER TYPE person RENAME ATTRIBUTE name TO called CASCADE",
        "ALTER TABLE users ALTER name TYPE varchar USING name::varchar",
        "ALTER TABLE users ADD note text DEFAULT 'x'",
        "SELECT * FROM users FOR UPDATE",
    ] {
        assert_eq!(code(sql), None, "{sql}");
    }
}

#[test]
fn a_part_that_is_masked_as_its_whole_is_not_detached() {
    let policy = (
        "all.cedar",
        "permit (principal, action in Action::\"sql\", resource);",
    );
    let decider = decider(&[], &[policy], &["public.users.ssn"]);
    // The mask names what `users_eu` is a part of.
    let part = Derived {
        relation: RelationName::new(Some("public"), "users_eu_1"),
        columns: vec!["ssn".into()],
    };
    let knowing = Subject {
        derived: vec![part].into(),
        ..subject()
    };
    let code = |sql| decider.explain(&knowing, text(sql)).refusal.map(|r| r.code);
    let detach = "ALTER TABLE users_eu DETACH PARTITION users_eu_1";
    assert_eq!(code(detach), Some(Code::MaskedRead));
    assert_eq!(code("ALTER TABLE orders DETACH PARTITION orders_1"), None);
}

#[test]
fn policies_see_which_masked_tables_are_touched() {
    let policies = [
        ("a.cedar", "permit (principal, action, resource);"),
        (
            "b.cedar",
            "@id(\"ssn\") forbid (principal, action in Action::\"sql\", resource) when { context.masked.contains(\"users\") };",
        ),
    ];
    let decider = decider(&[], &policies, &["public.users.ssn"]);
    assert_eq!(verdict(&decider, "SELECT id FROM users"), "refuse");
    assert_eq!(verdict(&decider, "SELECT id FROM other.users"), "allow");
}

#[test]
fn views_of_masked_tables_count_as_the_tables() {
    let decider = decider(&["sql-starter"], &[], &["public.users.ssn"]);
    let view = Derived {
        relation: RelationName::new(Some("reports"), "people"),
        columns: vec!["x".into()],
    };
    let knowing = Subject {
        derived: vec![view].into(),
        ..subject()
    };
    let code = |subject: &Subject, sql| decider.explain(subject, text(sql)).refusal.map(|r| r.code);
    for sql in [
        "INSERT INTO t SELECT x FROM people",
        "REFRESH MATERIALIZED VIEW people",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY reports.people",
        "INSERT INTO t SELECT x FROM reports.people",
    ] {
        assert_eq!(code(&subject(), sql), None);
        assert_eq!(code(&knowing, sql), Some(Code::MaskedRead), "{sql}");
    }
    assert_eq!(
        code(&knowing, "INSERT INTO t SELECT x FROM other.people"),
        None
    );
    assert_eq!(code(&knowing, "SELECT x FROM people"), None);
    let other = "INSERT INTO t SELECT y FROM people WHERE x = '1'";
    assert_eq!(code(&knowing, other), None, "another column of the view");
    let all = "INSERT INTO t SELECT * FROM people";
    assert_eq!(code(&knowing, all), Some(Code::MaskedRead));
}

#[test]
fn functions_that_keep_what_they_are_given_carry_values_away() {
    for sql in [
        "SELECT set_config('my.x', ssn, false) FROM users",
        "SELECT set_config('my.x', (SELECT ssn FROM users LIMIT 1), false)",
        "SELECT set_config('my.x', to_json(u)::text, false) FROM users u",
        "SELECT pg_notify('c', ssn) FROM users",
        "SELECT pg_notify('c', email) FROM anything",
        "SELECT setval('s', ssn::bigint) FROM users",
        "SELECT pg_advisory_lock(ssn::bigint) FROM users",
        "SELECT pg_try_advisory_lock(length(u.ssn)) FROM users u",
        "SELECT lo_from_bytea(0, ssn::bytea) FROM users",
        "SELECT pg_logical_emit_message(false, 'x', ssn) FROM users",
        "SELECT id FROM users WHERE pg_notify('c', ssn) IS NULL",
        "SELECT set_config('my.x', s.x, false) FROM (SELECT ssn AS x FROM users) s",
        "WITH s AS (SELECT ssn AS x FROM users) SELECT pg_notify('c', x) FROM s",
        "SELECT pg_notify('c', row_to_json(s)::text) FROM (SELECT * FROM users) s",
    ] {
        assert_eq!(code(sql), Some(Code::MaskedRead), "{sql}");
    }
    for sql in [
        "SELECT set_config('my.x', 'y', false)",
        "SELECT pg_notify('c', name) FROM users WHERE id = 1",
        "SELECT set_config('my.x', $1, false), ssn FROM users",
        "SELECT setval('s', max(id)) FROM users",
        "SELECT pg_advisory_lock(id) FROM users",
    ] {
        assert_eq!(code(sql), None, "{sql}");
    }
}

#[test]
fn predicates_over_masked_columns_can_be_forbidden() {
    let policies = [
        ("a.cedar", "permit (principal, action, resource);"),
        (
            "b.cedar",
            "@id(\"no-questions\") forbid (principal, action in Action::\"sql\", resource) \
             when { context.reads_masked_in_predicate };",
        ),
    ];
    let decider = decider(&[], &policies, MASKS);
    let knowing = Subject {
        derived: vec![Derived {
            relation: RelationName::new(Some("public"), "people"),
            columns: vec!["code".into()],
        }]
        .into(),
        ..subject()
    };
    let asks = |sql: &str| {
        let explained = decider.explain(&knowing, text(sql));
        let forbidden = explained.refusal.is_some_and(|r| r.code == Code::Forbidden);
        assert_eq!(explained.picks, forbidden, "{sql}");
        forbidden
    };
    for sql in [
        "SELECT id FROM users WHERE ssn LIKE '1%'",
        "SELECT id FROM public.users ORDER BY ssn",
        "SELECT id FROM (SELECT id, ssn AS x FROM users) s WHERE x LIKE '1%'",
        "SELECT 1 FROM anything WHERE email = 'x'",
        "SELECT 1 FROM anything a WHERE a.email = 'x'",
        "SELECT 1 FROM people WHERE code = 'x'",
        "SELECT p.who FROM people p JOIN orders o ON o.item = p.code",
        "UPDATE orders SET item = 'x' FROM users WHERE ssn = '1'",
        "SELECT 1; SELECT id FROM users WHERE ssn = '1'",
        "COPY (SELECT id FROM users ORDER BY ssn) TO STDOUT",
        "EXPLAIN SELECT id FROM users WHERE ssn = '1'",
        "SELECT count(*) FROM users u WHERE u::text LIKE '%1%'",
    ] {
        assert!(asks(sql), "{sql}");
    }
    for sql in [
        "SELECT id, ssn FROM users WHERE id = 1 ORDER BY name",
        "SELECT id FROM other.users WHERE ssn = '1'",
        "SELECT who, code FROM people WHERE who = 'x'",
        "SELECT upper(ssn) FROM users",
        "INSERT INTO users (ssn) VALUES ('1')",
        "UPDATE users SET ssn = 'x' WHERE id = 1",
        "SELECT relname FROM pg_class WHERE relname = 'email'",
        "SHOW search_path",
    ] {
        assert!(!asks(sql), "{sql}");
    }
}

#[test]
fn what_the_catalog_does_not_show_is_not_copied_out_of() {
    let decider = decider(
        &[],
        &[("a.cedar", "permit (principal, action, resource);")],
        &["public.users.ssn"],
    );
    let seen = |unseen: Unseen, sql: &str| {
        let subject = Subject {
            unseen: Arc::new(unseen),
            ..subject()
        };
        let refusal = decider.explain(&subject, text(sql)).refusal;
        refusal.map(|r| (r.code, r.retry))
    };
    let again = Some((Code::MaskedRead, Retry::Again));
    let unread = Unseen::unread;
    for sql in [
        "INSERT INTO t SELECT a FROM v",
        "INSERT INTO t SELECT v FROM v",
        "CREATE TABLE t AS SELECT * FROM app.v",
        "COPY v TO '/tmp/x'",
        "UPDATE t SET a = v.a FROM v",
        "SELECT set_config('my.x', a, false) FROM v",
        "COPY (SELECT a FROM pg_made) TO '/tmp/x'",
    ] {
        assert_eq!(seen(unread(), sql), again, "{sql}");
        assert_eq!(seen(Unseen::default(), sql), None, "{sql}");
    }
    for sql in [
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t SELECT count(*) FROM v",
        "UPDATE v SET a = 1",
        "DELETE FROM v WHERE a = 1",
        "SELECT * FROM v",
        "COPY v TO STDOUT",
        "INSERT INTO t SELECT relname FROM pg_catalog.pg_class",
    ] {
        assert_eq!(seen(unread(), sql), None, "{sql}");
    }
    let mut defined = Unseen::default();
    defined.add(&decider.facts_of(&text("CREATE VIEW v AS SELECT ssn AS a FROM users")));
    let copies = "INSERT INTO t SELECT a FROM v";
    assert_eq!(seen(defined.clone(), copies), again);
    assert_eq!(seen(defined, "INSERT INTO t SELECT a FROM w"), None);
    for sql in [
        "CREATE VIEW v AS SELECT ssn AS a FROM users; INSERT INTO t SELECT a FROM v",
        "CREATE VIEW v AS SELECT ssn AS a FROM users; CREATE TABLE t AS SELECT a FROM v",
        "ALTER TABLE users INHERIT w; INSERT INTO t SELECT a FROM w",
        "ALTER VIEW a RENAME TO b; INSERT INTO t SELECT a FROM b",
    ] {
        assert_eq!(seen(Unseen::default(), sql), again, "{sql}");
    }
    for sql in [
        "CREATE TEMP TABLE x AS SELECT a FROM y; INSERT INTO t SELECT a FROM x",
        "ALTER TABLE x ADD COLUMN b text; UPDATE x SET b = a",
    ] {
        assert_eq!(seen(Unseen::default(), sql), None, "{sql}");
    }
}

#[test]
fn rules_copy_under_the_masks_eyes() {
    for sql in [
        "CREATE RULE r AS ON UPDATE TO users DO ALSO INSERT INTO t SELECT old.ssn",
        "CREATE RULE r AS ON UPDATE TO users DO ALSO INSERT INTO t SELECT old.*",
        "CREATE RULE r AS ON UPDATE TO users DO ALSO INSERT INTO t VALUES (old.ssn)",
        "CREATE RULE r AS ON DELETE TO users DO ALSO INSERT INTO t VALUES (old)",
        "CREATE RULE r AS ON INSERT TO t DO ALSO INSERT INTO u SELECT ssn FROM users",
        "CREATE RULE r AS ON UPDATE TO users DO ALSO NOTIFY x; CREATE RULE r AS ON UPDATE TO users DO ALSO UPDATE t SET a = old.ssn",
        "ALTER TABLE users ALTER made SET EXPRESSION AS (ssn || '')",
        "CREATE TABLE t (a text, b text GENERATED ALWAYS AS (a) STORED); INSERT INTO t SELECT ssn FROM users",
    ] {
        assert_eq!(code(sql), Some(Code::MaskedRead), "{sql}");
    }
    assert_eq!(
        code("CREATE RULE r AS ON UPDATE TO users DO ALSO INSERT INTO t VALUES (old.id)"),
        None
    );
    assert_eq!(
        code("ALTER TABLE users ALTER made SET EXPRESSION AS (name || '')"),
        None
    );
}
