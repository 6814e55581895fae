//! The contract suite, PostgreSQL: what real clients see through hoop is what they see past it,
//! and every statement of theirs is in a recording that verifies.

use std::path::PathBuf;
use std::sync::OnceLock;

use hoop_tests::{PATIENCE, Ran, Settings, WRITER, Who, World};
use serde_json::Value;

/// Without masks: what they change on purpose is compared elsewhere.
fn unmasked() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let settings = Settings {
            masks: Vec::new(),
            ..Settings::default()
        };
        World::start(settings).expect("a world without masks")
    })
}

/// Runs the program as the writing agent and past hoop, and returns both.
fn both(program: &str, arguments: &[&str], input: &str) -> (Ran, Ran) {
    let world = unmasked();
    let run = |who| {
        let mut command = world.command(who, program).unwrap();
        command.args(arguments).env("PGAPPNAME", "contract");
        hoop_tests::run(&mut command, input, PATIENCE).unwrap()
    };
    let direct = run(Who::Direct);
    (run(Who::Agent(WRITER)), direct)
}

fn same(program: &str, arguments: &[&str], input: &str) -> Ran {
    let (through, direct) = both(program, arguments, input);
    let what = format!("{program} {arguments:?}\n{input}");
    assert_eq!(
        through.stdout, direct.stdout,
        "output of {what}\n{}",
        through.stderr
    );
    assert_eq!(through.stderr, direct.stderr, "errors of {what}");
    assert_eq!(through.code, direct.code, "exit status of {what}");
    through
}

fn psql(options: &[&str], sql: &str) -> Ran {
    same("psql", &[&["-X"], options].concat(), sql)
}

fn python() -> String {
    let folder = hoop_tests::target().unwrap().join("python/bin/python");
    assert!(
        folder.exists(),
        "no Python drivers: `cargo xtask setup` installs them"
    );
    folder.display().to_string()
}

fn driver(name: &str) -> Vec<Value> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("python")
        .join(name);
    let ran = same(&python(), &["-B", &script.display().to_string()], "");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.json_lines().unwrap()
}

/// The newest recording of a session that holds this statement.
fn assert_recorded(statement: &str, verdict: &str) {
    let recording = unmasked().recording_of(statement).unwrap();
    let found = recording
        .statements()
        .into_iter()
        .find(|s| s.text.contains(statement))
        .unwrap();
    assert_eq!(found.verdict, verdict, "{statement}");
    assert_eq!(
        recording.verified.code,
        Some(0),
        "{}",
        recording.verified.stdout
    );
}

#[test]
fn psql_simple_queries() {
    psql(
        &[],
        "SELECT 1 AS one, 'two' AS two, NULL AS three;\n\\x\nSELECT now() - now() AS zero;\n",
    );
    psql(&["-A", "-t"], "SELECT 'marker of simple queries';");
    assert_recorded("marker of simple queries", "allow");
}

#[test]
fn psql_several_statements_in_one_string() {
    psql(&["-c", "SELECT 1; SELECT 2; SELECT 1/0; SELECT 3"], "");
}

#[test]
fn psql_errors_and_exit_status() {
    let script = "SELECT 1;\nSELECT nothing FROM nowhere;\nSELECT 2;\n";
    assert_eq!(psql(&[], script).code, Some(0));
    assert_eq!(psql(&["-v", "ON_ERROR_STOP=1"], script).code, Some(3));
    assert_eq!(psql(&["-c", "SELECT 1/0"], "").code, Some(1));
    psql(&["-v", "VERBOSITY=verbose"], "SELECT 'x'::int;\n");
    // What hoop cannot read it answers itself, under the server's own SQLSTATE and with its words.
    let verbose = ["-X", "-v", "VERBOSITY=verbose"];
    let (through, direct) = both("psql", &verbose, "SELECT * FROM users WHERE;\n");
    for ran in [&through, &direct] {
        assert!(ran.stderr.contains("42601"), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("syntax error at or near \";\""),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(through.code, direct.code);
}

#[test]
fn psql_transactions() {
    psql(
        &[],
        "BEGIN;\nINSERT INTO scratch VALUES (10, 'in a block');\nSELECT 1/0;\nSELECT 2;\nROLLBACK;\n\
         SELECT count(*) FROM scratch WHERE id = 10;\n\
         BEGIN;\nSAVEPOINT a;\nSELECT 1/0;\nROLLBACK TO a;\nSELECT 'alive';\nCOMMIT;\n",
    );
}

#[test]
fn psql_copy_in_and_out() {
    psql(
        &[],
        "CREATE TEMP TABLE t (a int, b text);\nCOPY t FROM STDIN;\n1\tone\n2\ttwo\n\\.\n\
         COPY t TO STDOUT WITH (FORMAT csv, HEADER);\n\\copy t to stdout\nSELECT sum(a) FROM t;\n",
    );
}

#[test]
fn psql_describes_tables() {
    psql(
        &[],
        "\\d orders\n\\dt\n\\l shop\n\\du orders_app\n\\conninfo\n",
    );
}

#[test]
fn psql_prepared_statements_and_cursors() {
    psql(
        &[],
        "PREPARE p(int) AS SELECT $1 + 1;\nEXECUTE p(41);\nDEALLOCATE p;\nEXECUTE p(1);\n\
         BEGIN;\nDECLARE c CURSOR FOR SELECT n FROM generate_series(1, 5) n;\nFETCH 2 FROM c;\n\
         MOVE 1 IN c;\nFETCH ALL FROM c;\nCLOSE c;\nCOMMIT;\nSELECT 1 \\gdesc\n",
    );
}

#[test]
fn psql_notices_and_notifications() {
    psql(
        &[],
        "DO $$ BEGIN RAISE NOTICE 'noticed'; END $$;\nDROP TABLE IF EXISTS never_was;\n",
    );
}

#[test]
fn psql_large_results() {
    let sql = "SELECT n, repeat('x', 200) FROM generate_series(1, 50000) n;";
    let ran = psql(&["-A", "-t"], sql);
    assert_eq!(ran.stdout.lines().count(), 50_000);
}

#[test]
fn psycopg_sees_the_same() {
    let lines = driver("through_psycopg.py");
    assert!(lines.len() > 15, "{lines:#?}");
    assert_recorded("CREATE TABLE psycopg_contract", "allow");
}

#[test]
fn asyncpg_sees_the_same() {
    let lines = driver("through_asyncpg.py");
    assert!(lines.len() > 10, "{lines:#?}");
    assert_recorded("CREATE TABLE asyncpg_contract", "allow");
}

#[test]
fn the_server_sees_only_hoops_own_login() {
    let world = World::shared();
    let sql = "SELECT usename, ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) \
               WHERE pid = pg_backend_pid()";
    let mut psql = world.command(Who::Agent(WRITER), "psql").unwrap();
    psql.args(["-X", "-A", "-t", "-c", sql])
        .env("PGUSER", "somebody")
        .env("PGPASSWORD", "guess");
    let ran = hoop_tests::run(&mut psql, "", PATIENCE)
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(ran.stdout.trim(), "orders_app|t");
}

#[test]
fn masked_columns_stay_masked_in_every_form() {
    let secrets = ["078-05-1120", "219-09-9999", "457-55-5462", "@shop.example"];
    let forms = [
        "SELECT * FROM users",
        "SELECT ssn AS id, email AS name FROM users",
        "SELECT upper(email) || ssn FROM users",
        "SELECT u.ssn FROM users u JOIN orders o ON o.user_id = u.id",
        "WITH x AS (SELECT * FROM users) SELECT * FROM x",
        "SELECT ssn FROM users UNION ALL SELECT email FROM users",
        "SELECT row_to_json(users) FROM users",
        "SELECT users FROM users",
        "SELECT (SELECT ssn FROM users LIMIT 1)",
        "SELECT string_agg(ssn, ',') FROM users",
        "COPY users TO STDOUT",
        "COPY (SELECT email FROM users) TO STDOUT",
        "DO $$ BEGIN RAISE NOTICE '%', (SELECT string_agg(ssn || email, ' ') FROM users); END $$",
        "SELECT ssn::int FROM users",
        "INSERT INTO scratch SELECT id, ssn FROM users RETURNING note",
        "CREATE TABLE copied AS SELECT * FROM users",
        "DECLARE c CURSOR WITH HOLD FOR SELECT ssn FROM users; FETCH ALL FROM c",
        "CREATE TEMP VIEW v AS SELECT ssn AS harmless FROM users; SELECT harmless FROM v",
        "PREPARE p AS SELECT email FROM users; EXECUTE p",
        "SELECT b || c FROM users AS x(a, b, c)",
        "SELECT x || y FROM (SELECT ssn, email FROM users) AS s(x, y)",
        "SELECT set_config('my.x', ssn, false) FROM users; SELECT current_setting('my.x')",
        "LISTEN c; SELECT pg_notify('c', email) FROM users; SELECT 1",
        "SELECT 1 FROM users WHERE ssn::int = 1",
        "EXPLAIN (ANALYZE, VERBOSE) SELECT ssn FROM users",
        // Errors that name a value as something that does not exist.
        "SELECT current_setting(ssn) FROM users",
        "SELECT current_setting(string_agg(name || '=' || ssn || ' ' || email, ', ')) FROM users",
        "SELECT ssn::regclass FROM users",
        "SELECT ssn::regproc FROM users",
        "SELECT ssn::regoper FROM users",
        "SELECT ssn::regnamespace FROM users",
        "SELECT email::tsquery FROM users",
        "SELECT cursor_to_xml(ssn::refcursor, 1, true, true, '') FROM users",
        "SELECT pg_database_size(ssn::name) FROM users",
        "SELECT 1 FROM users WHERE has_schema_privilege(ssn, 'usage')",
        "SELECT has_column_privilege('users', ssn, 'select') FROM users",
        "COPY (SELECT current_setting(ssn) FROM users) TO STDOUT",
        "EXPLAIN (ANALYZE) SELECT current_setting(ssn) FROM users",
        "DECLARE c CURSOR WITH HOLD FOR SELECT current_setting(ssn) FROM users; FETCH c",
    ];
    for who in [hoop_tests::READER, WRITER] {
        for form in forms {
            let ran = World::shared()
                .psql(Who::Agent(who), &["-c", form], "")
                .unwrap();
            for secret in secrets {
                let seen = format!("{}{}", ran.stdout, ran.stderr);
                assert!(!seen.contains(secret), "{who}: {form}\n{seen}");
            }
        }
    }
}

#[test]
fn no_recording_holds_what_was_masked() {
    let world = World::shared();
    let sql = "SELECT name, ssn, email FROM users";
    let ran = world
        .psql(Who::Agent(WRITER), &["-c", sql], "")
        .unwrap()
        .ok()
        .unwrap();
    assert!(ran.stdout.contains("Ada Byron") && !ran.stdout.contains("078-05-1120"));
    let recording = world.recording_of(sql).unwrap();
    assert!(
        recording.raw.contains("Ada Byron"),
        "rows as the agent saw them are recorded"
    );
    assert!(!recording.raw.contains("078-05-1120"), "{}", recording.raw);
    assert!(
        !recording.raw.contains("ada@shop.example"),
        "{}",
        recording.raw
    );
}
