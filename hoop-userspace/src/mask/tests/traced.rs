//! Column by column: through expressions, views, unions and COPY, with the server's part played.

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

pub(super) fn bench(how: How) -> Bench {
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

pub(super) fn labelled(label: &str, table: u32, attribute: i16, kind: u32) -> Column {
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
    // A look-up that failed shows nothing new.
    bench.masker.settle(&Arc::default());
    assert_eq!(
        bench.row(sql, upper(), &[Some("x")]),
        [Some("[masked]".into())]
    );
    bench.current = Arc::new(Catalog::clone(&bench.current));
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

#[test]
fn names_like_the_systems_own_are_its_own_only_if_it_has_them() {
    let upper = || vec![labelled("upper", 0, 0, TEXT)];
    let bench = || {
        let catalog = catalog(&[]).with_system(["pg_class".into()]);
        Bench::new(&["public.users.ssn"], How::Redact, catalog)
    };
    let row = |sql: &str| bench().row(sql, upper(), &[Some("x")]).remove(0).unwrap();
    assert_eq!(
        row("SELECT upper(a) FROM pg_class, users WHERE ssn = ''"),
        "x"
    );
    assert_eq!(
        row("SELECT upper(a) FROM pg_catalog.pg_made, users WHERE ssn = ''"),
        "x"
    );
    assert_eq!(
        row("SELECT upper(a) FROM pg_made"),
        "[masked]",
        "a view of this moment"
    );
    // Defined in this session: `pg_temp` comes before the system's own if the path says so.
    let mut bench = bench();
    bench.begin("CREATE TEMP VIEW pg_class AS SELECT ssn AS a FROM users");
    let masked = bench.row("SELECT upper(a) FROM pg_class", upper(), &[Some("x")]);
    assert_eq!(masked, [Some("[masked]".into())]);
    let own = bench.row(
        "SELECT upper(a) FROM pg_catalog.pg_class",
        upper(),
        &[Some("x")],
    );
    assert_eq!(own, [Some("x".into())]);
}

#[test]
fn rows_that_a_rule_returns_are_not_taken_for_another_statements() {
    let select = "SELECT upper(name) FROM users WHERE ssn = ''";
    let both = format!("INSERT INTO other VALUES (1, 'x'); {select}");
    let upper = || vec![labelled("upper", 0, 0, TEXT)];
    let shown = |catalog: Catalog, before: Option<&str>| {
        let mut bench = Bench::new(&["public.users.ssn"], How::Redact, catalog);
        before.map(|sql| bench.begin(sql));
        bench.row(&both, upper(), &[Some("x")]).remove(0).unwrap()
    };
    assert_eq!(shown(catalog(&[]), None), "x");
    let plain = catalog(&[]);
    let ruled = plain.relations().cloned().map(|relation| Relation {
        opaque: &*relation.name == "other",
        ..relation
    });
    assert_eq!(shown(Catalog::new(ruled), None), "[masked]");
    let rule =
        "CREATE RULE r AS ON INSERT TO other DO INSTEAD SELECT upper(ssn) AS upper FROM users";
    assert_eq!(shown(catalog(&[]), Some(rule)), "[masked]");
}
