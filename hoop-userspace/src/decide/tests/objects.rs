//! What the server's catalog adds to a decision.

use super::*;

const ALL: (&str, &str) = (
    "all.cedar",
    "permit (principal, action in Action::\"sql\", resource);",
);

fn relation(oid: u32, schema: &str, name: &str, reads: &[u32]) -> KnownRelation {
    KnownRelation {
        oid,
        schema: schema.into(),
        name: name.into(),
        owner: "dba".into(),
        reads: reads.into(),
        ..KnownRelation::default()
    }
}

fn function(name: &str, volatility: Volatility, security_definer: bool) -> KnownFunction {
    KnownFunction {
        schema: "public".into(),
        name: name.into(),
        owner: "dba".into(),
        volatility,
        security_definer,
        language: "sql".into(),
    }
}

fn known() -> Arc<Objects> {
    let audited = KnownRelation {
        acts: true,
        ..relation(3, "public", "audited", &[])
    };
    let part = KnownRelation {
        parents: vec![2],
        ..relation(4, "parts", "y2024", &[])
    };
    let relations = [
        relation(1, "reports", "pay", &[2]),
        relation(2, "hr", "salaries", &[]),
        audited,
        part,
    ];
    let functions = [
        function("total", Volatility::Immutable, false),
        function("charge", Volatility::Volatile, false),
        function("elevate", Volatility::Stable, true),
        function("<+>", Volatility::Immutable, false),
    ];
    Arc::new(Objects::new(relations, functions).at_epoch(1))
}

fn verdict(decider: &Decider, objects: &Arc<Objects>, sql: &str) -> &'static str {
    let subject = Subject {
        objects: objects.clone(),
        ..subject()
    };
    let explained = decider.explain(&subject, text(sql));
    match explained.refusal {
        None => "allow",
        Some(_) => "refuse",
    }
}

/// The verdict with the catalog, and without.
fn verdicts(policies: &[(&str, &str)], sql: &str) -> (&'static str, &'static str) {
    let decider = decider(&[], policies, &[]);
    let with = verdict(&decider, &known(), sql);
    (with, verdict(&decider, &Arc::default(), sql))
}

#[test]
fn a_view_needs_what_its_tables_need() {
    let reports = (
        "reports.cedar",
        "permit (principal, action == Action::\"sql:read\", resource) \
         when { resource in Schema::\"orders/appdb/reports\" };",
    );
    assert_eq!(
        verdicts(&[reports], "SELECT * FROM reports.pay"),
        ("refuse", "allow")
    );
    let through = (
        "through.cedar",
        "permit (principal, action == Action::\"sql:read\", resource) when { \
         context.verb == \"SELECT THROUGH VIEW\" && [\"reports.pay\"].containsAll(context.reads) };",
    );
    let both = [reports, through];
    assert_eq!(
        verdicts(&both, "SELECT * FROM reports.pay"),
        ("allow", "allow")
    );
    assert_eq!(
        verdicts(&both, "SELECT * FROM reports.pay, hr.salaries"),
        ("refuse", "refuse")
    );
    let nobody = (
        "nobody.cedar",
        "forbid (principal, action, resource is Table) when { resource.name == \"salaries\" };",
    );
    for sql in [
        "SELECT * FROM reports.pay",
        "SELECT * FROM pay",
        "COPY (TABLE reports.pay) TO STDOUT",
        "EXPLAIN SELECT * FROM reports.pay",
        "WITH a AS (SELECT * FROM reports.pay) SELECT 1 FROM a",
        "CREATE TABLE t AS TABLE reports.pay",
        "DELETE FROM reports.pay WHERE id = 1",
        "PREPARE p AS TABLE reports.pay",
    ] {
        assert_eq!(verdicts(&[ALL, nobody], sql), ("refuse", "allow"), "{sql}");
    }
}

#[test]
fn what_forbids_a_table_forbids_its_partitions() {
    let nobody = (
        "nobody.cedar",
        "forbid (principal, action, resource) when { resource in Schema::\"orders/appdb/hr\" };",
    );
    let sql = "SELECT * FROM parts.y2024";
    assert_eq!(verdicts(&[ALL, nobody], sql), ("refuse", "allow"));
    let parts = (
        "parts.cedar",
        "permit (principal, action == Action::\"sql:read\", resource) \
         when { resource in Schema::\"orders/appdb/parts\" };",
    );
    assert_eq!(verdicts(&[parts], sql), ("allow", "allow"));
}

#[test]
fn functions_are_permitted_by_what_they_declare() {
    let computes = (
        "computes.cedar",
        "permit (principal, action == Action::\"sql:procedural\", resource is Function) when { \
         context has function && context.function.volatility != \"volatile\" && \
         !context.function.security_definer && \
         [\"sql\"].containsAll(context.function.languages) };",
    );
    let reads = (
        "reads.cedar",
        "permit (principal, action == Action::\"sql:read\", resource);",
    );
    let both = [computes, reads];
    for (sql, with) in [
        ("SELECT total(1)", "allow"),
        ("SELECT public.total(1)", "allow"),
        ("SELECT 1 <+> 2", "allow"),
        ("SELECT charge(1)", "refuse"),
        ("SELECT elevate()", "refuse"),
        ("SELECT elsewhere.total(1)", "refuse"),
        ("SELECT unheard_of()", "refuse"),
        ("SELECT total(charge(1))", "refuse"),
        ("CALL charge(1)", "refuse"),
        ("DO 'BEGIN END'", "refuse"),
    ] {
        assert_eq!(verdicts(&both, sql), (with, "refuse"), "{sql}");
    }
    let definers = (
        "definers.cedar",
        "forbid (principal, action, resource) when \
         { context has function && context.function.security_definer };",
    );
    assert_eq!(
        verdicts(&[ALL, definers], "SELECT elevate()"),
        ("refuse", "allow")
    );
}

#[test]
fn triggers_owners_and_the_catalog_itself_are_facts() {
    let quiet = (
        "quiet.cedar",
        "forbid (principal, action in Action::\"sql\", resource) when { context.has_triggers };",
    );
    let sql = "INSERT INTO audited VALUES (1)";
    assert_eq!(verdicts(&[ALL, quiet], sql), ("refuse", "allow"));
    assert_eq!(verdicts(&[ALL, quiet], "TABLE audited"), ("allow", "allow"));
    let owners = (
        "owners.cedar",
        "forbid (principal, action, resource) when \
         { context has owners && context.owners.contains(\"dba\") };",
    );
    assert_eq!(
        verdicts(&[ALL, owners], "SELECT * FROM audited"),
        ("refuse", "allow")
    );
    let strict = (
        "strict.cedar",
        "forbid (principal, action, resource is Table) unless { context.catalog };",
    );
    assert_eq!(
        verdicts(&[ALL, strict], "SELECT * FROM audited"),
        ("allow", "refuse")
    );
    let base = (
        "base.cedar",
        "forbid (principal, action in Action::\"sql\", resource) when { context.base_reads.contains(\"hr.salaries\") };",
    );
    assert_eq!(
        verdicts(&[ALL, base], "SELECT 1 FROM pay"),
        ("refuse", "allow")
    );
}

#[test]
fn a_verdict_holds_for_what_was_known() {
    let nobody = (
        "nobody.cedar",
        "forbid (principal, action, resource) when { resource in Schema::\"orders/appdb/hr\" };",
    );
    let decider = decider(&[], &[ALL, nobody], &[]);
    let sql = "SELECT * FROM reports.pay";
    let nothing = Arc::new(Objects::new([], []).at_epoch(2));
    for (objects, expected) in [
        (&known(), "refuse"),
        (&nothing, "allow"),
        (&known(), "refuse"),
        (&Arc::default(), "allow"),
        (&nothing, "allow"),
    ] {
        assert_eq!(verdict(&decider, objects, sql), expected);
    }
}
