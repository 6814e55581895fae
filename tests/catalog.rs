//! What the catalog adds to decisions, at a real server: views, partitions, functions, triggers,
//! changes by the session itself, and a server that has no second connection to give.

use std::sync::OnceLock;

use hoop_tests::{AgentSettings, READER, Ran, Settings, Who, World};

const POLICY: &str = r#"
@id("most")
permit (principal, action in [Action::"sql:read", Action::"sql:write", Action::"sql:ddl"], resource);

@id("declared")
permit (principal, action == Action::"sql:procedural", resource is Function)
when {
    context has function && context.function.volatility == "immutable" &&
    !context.function.security_definer && ["sql"].containsAll(context.function.languages)
};

@id("salaries")
forbid (principal, action, resource is Table)
when { resource.schema == "hr" && resource.name == "salaries" };

@id("quiet")
forbid (principal, action == Action::"sql:write", resource) when { context.has_triggers };
"#;

/// As the role that hoop logs in with: it owns what it makes.
const SCHEMA: &str = "
SET ROLE orders_app;
CREATE SCHEMA hr;
CREATE TABLE hr.salaries (id int, amount int) PARTITION BY RANGE (id);
CREATE TABLE hr.first PARTITION OF hr.salaries FOR VALUES FROM (0) TO (100);
INSERT INTO hr.salaries VALUES (1, 90000);
CREATE VIEW pay AS SELECT amount FROM hr.salaries;
CREATE MATERIALIZED VIEW total AS SELECT sum(amount) FROM pay;
CREATE VIEW harmless AS SELECT name FROM users;
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION raised() RETURNS int LANGUAGE sql IMMUTABLE SECURITY DEFINER AS 'SELECT 1';
CREATE FUNCTION roll() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 4';
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE FUNCTION initials(users) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT left($1.name, 1)';
CREATE TABLE audited (id int);
CREATE TRIGGER stamp BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION stamp();
";

fn start() -> World {
    let settings = Settings {
        agents: vec![AgentSettings::new(READER)],
        masks: Vec::new(),
        packs: Vec::new(),
        policies: vec![("catalog.cedar", POLICY.to_owned())],
        ..Settings::default()
    };
    let world = World::start(settings).expect("a world");
    world.postgres.ask(SCHEMA).unwrap();
    world
}

/// Nothing drops it: the janitor removes it at the end.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(start)
}

fn run(options: &[&str], sql: &str) -> Ran {
    world().psql(Who::Agent(READER), options, sql).unwrap()
}

fn answers(sql: &str, answer: &str) {
    let ran = run(&[], sql);
    assert_eq!(ran.stdout.trim_end(), answer, "{sql}: {}", ran.stderr);
    assert_eq!(ran.stderr, "", "{sql}");
}

fn refused(sql: &str, words: &str) {
    let ran = run(&[], sql);
    assert_eq!(ran.stdout, "", "{sql}");
    assert!(ran.stderr.contains(words), "{sql}: {}", ran.stderr);
}

#[test]
fn tables_are_closed_behind_views_and_as_partitions() {
    answers("SELECT name FROM harmless ORDER BY 1 LIMIT 1", "Ada Byron");
    answers("SELECT count(*) FROM users", "3");
    let through = "SELECT THROUGH VIEW on table hr.salaries: rule \"salaries\" forbids it";
    for sql in [
        "SELECT * FROM pay",
        "SELECT * FROM public.pay",
        "TABLE total",
        "COPY (SELECT * FROM pay) TO STDOUT",
        "WITH p AS (SELECT amount FROM pay) SELECT max(amount) FROM p",
        "CREATE TABLE kept AS SELECT * FROM pay",
    ] {
        refused(sql, through);
    }
    refused("UPDATE pay SET amount = 1 WHERE amount = 2", "hr.salaries");
    refused(
        "SELECT * FROM hr.first",
        "may not run SELECT on table hr.salaries",
    );
    let kept = world()
        .postgres
        .ask("SELECT amount FROM hr.salaries")
        .unwrap();
    assert_eq!(kept, "90000");
}

#[test]
fn functions_are_permitted_by_what_they_declare() {
    answers("SELECT twice(21)", "42");
    answers("SELECT public.twice(id) FROM users WHERE id = 1", "2");
    refused("SELECT raised()", "SELECT on function raised");
    refused("SELECT roll()", "SELECT on function roll");
    refused("SELECT twice(roll())", "function roll");
    refused("SELECT missing()", "function missing");
    // Written like a column.
    refused("SELECT u.initials FROM users u", "function initials");
    answers("SELECT u.id FROM users u WHERE u.id = 1", "1");
}

#[test]
fn triggers_are_seen() {
    refused(
        "INSERT INTO audited VALUES (1)",
        "rule \"quiet\" forbids it",
    );
    answers("SELECT count(*) FROM audited", "0");
    answers(
        "INSERT INTO scratch VALUES (61, 'x') RETURNING id;\nDELETE FROM scratch WHERE id = 61;",
        "61",
    );
}

#[test]
fn a_session_sees_its_own_changes_and_others_see_them_in_their_turn() {
    let ran = run(
        &[],
        "SELECT count(*) FROM users;\n\
         CREATE FUNCTION thrice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 3';\n\
         SELECT thrice(2);\n\
         BEGIN;\n\
         CREATE OR REPLACE FUNCTION thrice(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 5';\n\
         COMMIT;\n\
         SELECT thrice(2);\n\
         DROP FUNCTION thrice(int);\n",
    );
    assert_eq!(ran.stdout, "3\n6\n", "{}", ran.stderr);
    assert!(ran.stderr.contains("function thrice"), "{}", ran.stderr);
}

/// The login may hold one connection: the session's own. Decisions are made without the catalog,
/// and say so.
#[test]
fn a_catalog_out_of_reach_holds_nothing_up() {
    let world = start();
    let limit = |n| format!("ALTER ROLE orders_app CONNECTION LIMIT {n}");
    world.postgres.ask(&limit(1)).unwrap();
    let run = |sql| world.psql(Who::Agent(READER), &[], sql).unwrap();
    let ran = run("SELECT amount FROM pay;\nSELECT amount FROM pay;\nSELECT twice(21);\n");
    assert_eq!(ran.stdout, "90000\n90000\n", "{}", ran.stderr);
    assert!(ran.stderr.contains("function twice"), "{}", ran.stderr);
}
