//! Masks by lineage: no masked value in any byte that a client receives, however it asks; and what is
//! not masked passes.

mod generator;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hoop_tests::{PATIENCE, Settings, TRUSTED, WRITER, Who, World};

/// Values that appear nowhere else. Windows of them are looked for, and what SQL can make of them.
const SENTINELS: [(&str, &str, &str); 4] = [
    ("Q7XKWVZJ4HG2", "YB9FDRLT6MNC", "83615294"),
    ("H3VWZ8KQXJ5P", "T2LGRNFB7YMD", "83615317"),
    ("ZK6JQWXV9PDH", "FM4RTLBNG8CY", "83615342"),
    ("J8ZXHVQK2WPD", "N5YLFTGMRB3C", "83615378"),
];

/// Of text, a window of this many characters is one too many: `partial` shows four.
const WINDOW: usize = 6;

const SCHEMA: &str = "
CREATE TABLE people (
    id int PRIMARY KEY, name text, ssn text, code text, pay int8, doc jsonb, note text, born date
);
CREATE TABLE visits (id int PRIMARY KEY, person int, place text, minutes int);
INSERT INTO visits SELECT g, 1 + g % 4, 'place ' || g, g * 7 FROM generate_series(1, 8) g;
CREATE VIEW everyone AS SELECT * FROM people;
CREATE VIEW named AS SELECT p.name AS who, p.ssn AS tag, upper(p.code) AS made, p.note FROM people p;
CREATE VIEW nested AS SELECT n.who, n.tag || '!' AS loud, n.note FROM named n;
CREATE VIEW united (a, b) AS SELECT name, note FROM people UNION ALL SELECT code, place FROM people, visits;
CREATE VIEW grouped AS SELECT v.place, count(*) AS times, max(p.ssn) AS top, min(p.name) AS first
    FROM people p JOIN visits v ON v.person = p.id GROUP BY v.place;
CREATE MATERIALIZED VIEW kept_names AS SELECT name, ssn FROM people;
CREATE TABLE payments (id int PRIMARY KEY, details jsonb, raw text);
";

/// Of documents, what stands at these paths.
const DOCUMENTS: &str = r#"
[[mask]]
resource = "orders"
columns = ["public.payments.details", "public.payments.raw"]
json = ["$.card.number", "$.holders[*].code", "$..pay"]
how = "partial"
"#;

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mask = |column: &str, how| (format!("public.people.{column}"), how);
        let settings = Settings {
            masks: vec![
                mask("ssn", "partial"),
                mask("code", "hash"),
                mask("pay", "redact"),
                mask("doc", "redact"),
            ],
            more: DOCUMENTS.to_owned(),
            ..Settings::default()
        };
        let world = World::start(settings).expect("a world with masks");
        let rows = SENTINELS.iter().zip(1..).map(|((ssn, code, pay), id)| {
            format!(
                "({id}, 'Name {id}', '{ssn}', '{code}', {pay}, \
                 '{{\"in\": \"{code}\", \"n\": {pay}}}', 'note {id}', '1990-01-0{id}')"
            )
        });
        let rows: Vec<_> = rows.collect();
        let fill = format!("INSERT INTO people VALUES {};", rows.join(", "));
        let refresh = "REFRESH MATERIALIZED VIEW kept_names;";
        let documents = SENTINELS.iter().zip(1..).map(|((ssn, code, pay), id)| {
            let document = format!(
                r#"{{"shop": "Shop {id}", "card": {{"number": "{ssn}"}}, "holders": [{{"code": "{code}"}}], "sums": {{"pay": {pay}}}}}"#
            );
            format!("({id}, '{document}', '{document}')")
        });
        let documents: Vec<_> = documents.collect();
        let documents = format!("INSERT INTO payments VALUES {};", documents.join(", "));
        let sql = format!("SET ROLE orders_app; {SCHEMA}{fill}{refresh}{documents}");
        world.postgres.ask(&sql).expect("tables with sentinels");
        world
    })
}

/// Everything in which a masked value would show.
fn needles() -> Vec<(String, Vec<u8>)> {
    let mut needles = Vec::new();
    for (ssn, code, pay) in SENTINELS {
        for value in [ssn, code] {
            let reversed: String = value.chars().rev().collect();
            for text in [value.to_owned(), reversed] {
                for window in text.as_bytes().windows(WINDOW) {
                    needles.push((text.clone(), window.to_vec()));
                    needles.push((text.clone(), window.to_ascii_lowercase()));
                    let hex: String = window.iter().map(|b| format!("{b:02x}")).collect();
                    needles.push((text.clone(), hex.to_uppercase().into_bytes()));
                    needles.push((text.clone(), hex.into_bytes()));
                }
                // However the value is aligned in what is encoded.
                for skipped in 0..3 {
                    let encoded = BASE64.encode(&text.as_bytes()[skipped..]);
                    needles.push((text.clone(), encoded.as_bytes()[..8].to_vec()));
                }
            }
        }
        let number: i64 = pay.parse().unwrap();
        needles.push((pay.into(), pay.as_bytes().to_vec()));
        needles.push((pay.into(), pay.bytes().rev().collect()));
        needles.push((pay.into(), number.to_be_bytes().to_vec()));
        needles.push((pay.into(), format!("{number:x}").into_bytes()));
    }
    needles
}

fn leak(bytes: &[u8], needles: &[(String, Vec<u8>)]) -> Option<String> {
    let found = needles
        .iter()
        .find(|(_, needle)| bytes.windows(needle.len()).any(|window| window == needle));
    found.map(|(value, needle)| format!("{value} as {:?}", String::from_utf8_lossy(needle)))
}

struct Heard {
    sql: String,
    form: String,
    kinds: String,
    said: Vec<u8>,
}

/// All that came back for each statement in each form of the protocol.
fn heard(who: Who<'_>, statements: &[String]) -> Vec<Heard> {
    let folder = hoop_tests::target().unwrap().join("python/bin/python");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/masking.py");
    let mut python = world().command(who, &folder.display().to_string()).unwrap();
    python.arg("-B").arg(script);
    if who == Who::Direct {
        let source = world().place.address(TRUSTED);
        python.env("WIRE_SOURCE", source.to_string());
    }
    let input = serde_json::to_string(statements).unwrap();
    let ran = hoop_tests::run(&mut python, &input, PATIENCE)
        .unwrap()
        .ok()
        .unwrap();
    let lines = ran.json_lines().unwrap();
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
    lines
        .iter()
        .map(|line| Heard {
            sql: text(line, "sql"),
            form: text(line, "form"),
            kinds: text(line, "kinds"),
            said: BASE64.decode(text(line, "said")).unwrap(),
        })
        .collect()
}

#[test]
fn no_masked_value_in_any_byte() {
    // `HOOP_CASES` for a long run.
    let cases = std::env::var("HOOP_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    let statements = generator::statements(0x5eed, cases.unwrap_or(240));
    let needles = needles();
    let answers = heard(Who::Agent(WRITER), &statements);
    assert_eq!(answers.len(), 3 * statements.len());
    let leaks: Vec<_> = answers
        .iter()
        .filter_map(|h| {
            Some(format!(
                "{}: {}\n  {}",
                h.form,
                h.sql,
                leak(&h.said, &needles)?
            ))
        })
        .collect();
    assert!(
        leaks.is_empty(),
        "{} leaks:\n{}",
        leaks.len(),
        leaks.join("\n")
    );
    // Not because nothing runs, and not because nothing would show: past hoop, many statements do.
    let ran = |all: &[Heard]| all.iter().filter(|h| !h.kinds.contains('E')).count();
    let direct = heard(Who::Direct, &statements);
    let shows = direct
        .iter()
        .filter(|h| leak(&h.said, &needles).is_some())
        .count();
    let counts = (ran(&answers), ran(&direct), shows, answers.len());
    assert!(
        counts.0 * 10 >= counts.1 * 9,
        "ran through hoop and past it: {counts:?}"
    );
    assert!(
        counts.1 * 10 >= counts.3 * 7 && shows * 3 >= counts.3,
        "{counts:?}"
    );
}

/// The rest of this file: what a statement shows of the row with the lowest key, in psql's unaligned
/// form. `NULL` is empty.
const SHOWN: &[(&str, &str)] = &[
    (
        "SELECT id, name, ssn, pay, note, born FROM people ORDER BY id",
        "1|Name 1|********4HG2||note 1|1990-01-01",
    ),
    ("SELECT * FROM visits ORDER BY id", "1|2|place 1|7"),
    ("SELECT ssn AS x FROM people ORDER BY id", "********4HG2"),
    (
        "SELECT p.note, p.ssn FROM people p ORDER BY p.id",
        "note 1|********4HG2",
    ),
    (
        "SELECT upper(name), upper(ssn) FROM people ORDER BY id",
        "NAME 1|[masked]",
    ),
    (
        "SELECT name || note FROM people ORDER BY id",
        "Name 1note 1",
    ),
    (
        "SELECT name || ssn, id + 1 FROM people ORDER BY id",
        "[masked]|2",
    ),
    (
        "SELECT born::text, id::text FROM people ORDER BY id",
        "1990-01-01|1",
    ),
    (
        "SELECT ssn::varchar, length(name) FROM people ORDER BY id",
        "[masked]|6",
    ),
    (
        "SELECT length(ssn), length(note) FROM people ORDER BY id",
        "|6",
    ),
    (
        "SELECT coalesce(note, 'x'), coalesce(ssn, 'x') FROM people ORDER BY id",
        "note 1|[masked]",
    ),
    (
        "SELECT CASE WHEN id = 1 THEN name ELSE 'x' END FROM people ORDER BY id",
        "Name 1",
    ),
    (
        "SELECT CASE WHEN id = 1 THEN ssn ELSE name END, note FROM people ORDER BY id",
        "[masked]|note 1",
    ),
    (
        "SELECT count(*), count(ssn), count(DISTINCT name) FROM people",
        "4|4|4",
    ),
    (
        "SELECT max(name), max(ssn), min(id) FROM people",
        "Name 4|[masked]|1",
    ),
    (
        "SELECT sum(p.id), avg(minutes)::int FROM people p, visits",
        "80|32",
    ),
    ("SELECT sum(pay), sum(id) FROM people", "|10"),
    (
        "SELECT string_agg(name, ',' ORDER BY id), string_agg(ssn, ',') FROM people",
        "Name 1,Name 2,Name 3,Name 4|[masked]",
    ),
    (
        "SELECT array_agg(id ORDER BY id), array_agg(name ORDER BY id) FROM people WHERE id < 3",
        "{1,2}|{\"Name 1\",\"Name 2\"}",
    ),
    (
        "SELECT json_agg(name ORDER BY id) FROM people WHERE id < 3",
        "[\"Name 1\", \"Name 2\"]",
    ),
    (
        "SELECT json_build_object('n', name), json_build_object('s', ssn) FROM people ORDER BY id",
        "{\"n\" : \"Name 1\"}|\"[masked]\"",
    ),
    (
        "SELECT to_jsonb(name), row_to_json(people) FROM people ORDER BY id",
        "\"Name 1\"|\"[masked]\"",
    ),
    (
        "SELECT row_to_json(v) FROM visits v ORDER BY id",
        "{\"id\":1,\"person\":2,\"place\":\"place 1\",\"minutes\":7}",
    ),
    (
        "SELECT row_to_json(s) FROM (SELECT id, name FROM people) s ORDER BY s.id",
        "{\"id\":1,\"name\":\"Name 1\"}",
    ),
    (
        "SELECT ARRAY[name, note], ARRAY[ssn] FROM people ORDER BY id",
        "{\"Name 1\",\"note 1\"}|",
    ),
    (
        "SELECT ROW(id, name)::text, note FROM people ORDER BY id",
        "(1,\"Name 1\")|note 1",
    ),
    (
        "SELECT x FROM (SELECT ssn AS x, id FROM people) s ORDER BY s.id",
        "********4HG2",
    ),
    (
        "SELECT n, t FROM (SELECT upper(name), ssn, id FROM people) AS s(n, t, i) ORDER BY i",
        "NAME 1|********4HG2",
    ),
    (
        "WITH s AS (SELECT * FROM people) SELECT upper(note), ssn FROM s ORDER BY id",
        "NOTE 1|********4HG2",
    ),
    (
        "WITH s(a, b) AS (SELECT name, ssn FROM people) SELECT a || '', b FROM s ORDER BY a",
        "Name 1|********4HG2",
    ),
    (
        "WITH a AS (SELECT id, ssn FROM people), b AS (SELECT * FROM a) SELECT id + 0, ssn FROM b ORDER BY 1",
        "1|********4HG2",
    ),
    (
        "WITH RECURSIVE r(n, v) AS (SELECT 1, name FROM people WHERE id = 1 UNION ALL SELECT n + 1, v FROM r WHERE n < 3) SELECT n, v || '' FROM r",
        "1|Name 1",
    ),
    (
        "SELECT ssn FROM people WHERE id = 1 UNION ALL SELECT place FROM visits WHERE id = 99",
        "********4HG2",
    ),
    (
        "SELECT name, id FROM people UNION ALL SELECT place, id FROM visits ORDER BY 1",
        "Name 1|1",
    ),
    (
        "SELECT name, ssn FROM people WHERE id = 1 UNION SELECT place, 'none' FROM visits WHERE id = 99",
        "Name 1|********4HG2",
    ),
    (
        "SELECT id FROM people EXCEPT SELECT id FROM visits WHERE id > 1",
        "1",
    ),
    (
        "SELECT name FROM people INTERSECT SELECT name FROM people ORDER BY 1",
        "Name 1",
    ),
    (
        "SELECT upper(p.name), v.place FROM people p JOIN visits v ON v.person = p.id ORDER BY v.id",
        "NAME 2|place 1",
    ),
    (
        "SELECT p.ssn, v.minutes * 2 FROM people p JOIN visits v USING (id) ORDER BY id",
        "********4HG2|14",
    ),
    (
        "SELECT id * 1, upper(place) FROM people FULL JOIN visits USING (id) ORDER BY id",
        "1|PLACE 1",
    ),
    (
        "SELECT * FROM (SELECT id, name FROM people) a NATURAL JOIN (SELECT id, place FROM visits) b ORDER BY id",
        "1|Name 1|place 1",
    ),
    (
        "SELECT j.name || '', j.ssn FROM (people p JOIN visits v ON v.id = p.id) AS j ORDER BY j.place",
        "Name 1|********4HG2",
    ),
    (
        "SELECT l.x, p.name FROM people p CROSS JOIN LATERAL (SELECT upper(p.note) AS x) l ORDER BY p.id",
        "NOTE 1|Name 1",
    ),
    (
        "SELECT l.x FROM people p, LATERAL (VALUES (p.ssn)) AS l(x) ORDER BY p.id",
        "********4HG2",
    ),
    (
        "SELECT g, upper(name) FROM people, generate_series(1, 2) g ORDER BY id, g",
        "1|NAME 1",
    ),
    (
        "SELECT w, name FROM people, unnest(string_to_array(note, ' ')) AS w ORDER BY id, w",
        "1|Name 1",
    ),
    (
        "SELECT w, name FROM people, regexp_split_to_table(ssn, 'X') AS w WHERE id = 1",
        "[masked]|Name 1",
    ),
    (
        "SELECT upper(name), (SELECT count(*) FROM visits v WHERE v.person = p.id) FROM people p ORDER BY id",
        "NAME 1|2",
    ),
    (
        "SELECT (SELECT p.ssn), (SELECT max(place) FROM visits) FROM people p ORDER BY id",
        "********4HG2|place 8",
    ),
    (
        "SELECT EXISTS (SELECT 1 FROM people WHERE ssn = 'x'), 1 + 1",
        "f|2",
    ),
    (
        "SELECT id IN (SELECT person FROM visits), name FROM people ORDER BY id",
        "t|Name 1",
    ),
    (
        "SELECT row_number() OVER (ORDER BY id), lag(name) OVER (ORDER BY id), ssn FROM people ORDER BY id OFFSET 1",
        "2|Name 1|********XJ5P",
    ),
    (
        "SELECT first_value(ssn) OVER (ORDER BY id), rank() OVER (ORDER BY name) FROM people ORDER BY id",
        "[masked]|1",
    ),
    (
        "SELECT name, count(*) FILTER (WHERE minutes > 7) FROM people p JOIN visits v ON v.person = p.id GROUP BY name ORDER BY 1",
        "Name 1|2",
    ),
    (
        "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY minutes) FROM visits, people",
        "28",
    ),
    (
        "SELECT who, tag, note FROM named ORDER BY who",
        "Name 1|********4HG2|note 1",
    ),
    (
        "SELECT who || '', upper(tag) FROM named ORDER BY who",
        "Name 1|[masked]",
    ),
    (
        "SELECT who, made FROM named ORDER BY who",
        "Name 1|[masked]",
    ),
    (
        "SELECT who, loud, upper(note) FROM nested ORDER BY who",
        "Name 1|[masked]|NOTE 1",
    ),
    (
        "SELECT id, upper(name), ssn, born FROM everyone ORDER BY id",
        "1|NAME 1|********4HG2|1990-01-01",
    ),
    ("SELECT b FROM united WHERE a = 'Name 1'", "note 1"),
    (
        "SELECT place, times, top, first FROM grouped ORDER BY place",
        "place 1|1|[masked]|Name 2",
    ),
    (
        "SELECT upper(name), ssn FROM kept_names ORDER BY name",
        "NAME 1|********4HG2",
    ),
    (
        "SELECT e.name || n.note, n.tag FROM everyone e JOIN named n ON n.who = e.name ORDER BY 1",
        "Name 1note 1|********4HG2",
    ),
    (
        "WITH s AS (SELECT who, tag FROM named) SELECT lower(who), tag FROM s ORDER BY 1",
        "name 1|********4HG2",
    ),
    (
        "SELECT tag FROM named UNION ALL SELECT place FROM visits WHERE id = 99",
        "********4HG2",
    ),
    ("VALUES (1, 'a'), (2, 'b')", "1|a"),
    (
        "VALUES ((SELECT ssn FROM people WHERE id = 1), 'a')",
        "********4HG2|a",
    ),
    (
        "UPDATE visits SET minutes = minutes WHERE id = 1 RETURNING id + 0, upper(place)",
        "1|PLACE 1",
    ),
    (
        "UPDATE people SET note = note WHERE id = 1 RETURNING upper(name), ssn, upper(ssn)",
        "NAME 1|********4HG2|[masked]",
    ),
    (
        "WITH u AS (UPDATE people SET note = note WHERE id = 1 RETURNING *) SELECT upper(name), ssn FROM u",
        "NAME 1|********4HG2",
    ),
    (
        "UPDATE visits v SET minutes = minutes FROM people p WHERE v.id = 1 AND p.id = 1 RETURNING p.ssn, upper(p.name)",
        "********4HG2|NAME 1",
    ),
    (
        "BEGIN; SELECT upper(name) || id FROM people ORDER BY id; COMMIT",
        "NAME 11",
    ),
    (
        "SET application_name = 'x'; SELECT upper(name), ssn FROM people ORDER BY id",
        "NAME 1|********4HG2",
    ),
    (
        "SELECT current_setting('server_version_num')::int > 1, upper(name) FROM people ORDER BY id",
        "t|NAME 1",
    ),
    (
        "SELECT relname::text || '', name FROM pg_class, people WHERE relname = 'people' ORDER BY id",
        "people|Name 1",
    ),
    (
        "COPY people (id, name, ssn) TO STDOUT",
        "1\tName 1\t********4HG2",
    ),
    (
        "COPY (SELECT id, upper(name), upper(ssn) FROM people ORDER BY id) TO STDOUT (FORMAT csv)",
        "1,NAME 1,[masked]",
    ),
    (
        "COPY (SELECT id, pay, born FROM people ORDER BY id) TO STDOUT (FORMAT csv)",
        "1,,1990-01-01",
    ),
    (
        "COPY (SELECT who, tag FROM named ORDER BY who) TO STDOUT (FORMAT csv, DELIMITER ';', FORCE_QUOTE *)",
        "\"Name 1\";********4HG2",
    ),
    (
        "COPY (SELECT upper(place), minutes FROM visits ORDER BY id) TO STDOUT",
        "PLACE 1\t7",
    ),
    (
        "BEGIN; DECLARE c CURSOR FOR SELECT upper(name), ssn, upper(ssn) FROM people ORDER BY id; FETCH 2 FROM c; COMMIT",
        "NAME 1|********4HG2|[masked]",
    ),
    (
        "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT lower(name), id FROM people ORDER BY id; COMMIT; FETCH 1 FROM held; CLOSE held",
        "name 1|1",
    ),
    (
        "PREPARE shown(int) AS SELECT lower(note), ssn, upper(ssn) FROM people WHERE id = $1; EXECUTE shown(1)",
        "note 1|********4HG2|[masked]",
    ),
];

#[test]
fn what_is_not_masked_passes_and_what_is_shows_its_strategy() {
    // Markers on lines of their own part the results.
    let script: String = SHOWN
        .iter()
        .enumerate()
        .map(|(at, (sql, _))| format!("\\echo =={at}\n{sql};\n"))
        .collect();
    let ran = world().psql(Who::Agent(WRITER), &[], &script).unwrap();
    assert_eq!(ran.stderr, "", "every statement runs");
    let mut results: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    let mut current = 0;
    for line in ran.stdout.lines() {
        match line.strip_prefix("==").and_then(|at| at.parse().ok()) {
            Some(at) => current = at,
            None => results.entry(current).or_default().push(line),
        }
    }
    let mut wrong = Vec::new();
    for (at, (sql, expected)) in SHOWN.iter().enumerate() {
        // In whatever order the server sends them.
        let rows = results.get(&at).cloned().unwrap_or_default();
        if !rows.contains(expected) {
            wrong.push(format!("{sql}\n  expected {expected}\n  shown    {rows:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        SHOWN.len(),
        wrong.join("\n")
    );
}

#[test]
fn hashes_are_equal_wherever_the_value_stands() {
    let sql = "SELECT code FROM people WHERE id = 1;\nSELECT x FROM (SELECT code AS x FROM people \
               WHERE id = 1 UNION SELECT 'x' WHERE false) s;\nCOPY (SELECT code FROM people WHERE id = 1) TO STDOUT;\n";
    let ran = world().psql(Who::Agent(WRITER), &[], sql).unwrap();
    let shown: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(shown.len(), 3, "{}{}", ran.stdout, ran.stderr);
    assert!(
        shown[0].len() == 32 && shown.iter().all(|hash| hash == &shown[0]),
        "{shown:?}"
    );
}

#[test]
fn a_view_made_in_an_open_transaction_hides_nothing() {
    let needles = needles();
    for script in [
        "BEGIN;\nCREATE TEMP VIEW visits AS SELECT id, ssn AS place FROM people;\nSELECT place || '' FROM visits;\nSELECT place FROM visits;\nROLLBACK;\n",
        "BEGIN;\nCREATE OR REPLACE VIEW named AS SELECT ssn AS who, ssn AS tag, code AS made, code AS note FROM people;\nSELECT who, note FROM named;\nSELECT who || '' FROM named;\nROLLBACK;\n",
        "BEGIN;\nALTER TABLE visits RENAME TO went;\nCREATE VIEW visits AS SELECT code AS place FROM people;\nSELECT upper(place) FROM visits;\nROLLBACK;\n",
        "CREATE VIEW later AS SELECT ssn AS a, upper(note) AS b FROM people;\nSELECT a, b FROM later;\nSELECT a || '' FROM later;\nDROP VIEW later;\n",
    ] {
        let ran = world().psql(Who::Agent(WRITER), &[], script).unwrap();
        let seen = format!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(leak(seen.as_bytes(), &needles), None, "{script}\n{seen}");
    }
    // And afterwards the tables are what they were.
    let ran = world()
        .psql(
            Who::Agent(WRITER),
            &[],
            "SELECT upper(place) FROM visits, people WHERE visits.id = 1 LIMIT 1;\n",
        )
        .unwrap();
    assert_eq!(ran.stdout, "PLACE 1\n", "{}", ran.stderr);
}

/// What psql hears of a script that goes through hoop.
fn said(script: &str) -> String {
    let ran = world().psql(Who::Agent(WRITER), &[], script).unwrap();
    format!("{}{}", ran.stdout, ran.stderr)
}

#[test]
fn nothing_is_copied_out_of_a_view_of_this_moment() {
    let needles = needles();
    said("CREATE TABLE kept (a text);\n");
    let define = "CREATE VIEW fresh AS SELECT ssn AS a FROM people";
    let copies = [
        "INSERT INTO kept SELECT a FROM fresh",
        "CREATE TABLE other_kept AS SELECT a FROM fresh",
        "SELECT set_config('my.kept', a, false) FROM fresh",
    ];
    for copy in copies {
        for script in [
            // In one text, and in one transaction.
            format!("{define}\\; {copy};\n"),
            format!("BEGIN;\n{define};\n{copy};\nCOMMIT;\n"),
        ] {
            let said = said(&script);
            assert!(said.contains("defined a moment ago"), "{script}{said}");
        }
    }
    for (script, runs) in [
        (format!("BEGIN;\n{define};\nCOPY (TABLE fresh) TO STDOUT;\nTABLE fresh;\nROLLBACK;\n"), true),
        (format!("{define}\\; COPY (TABLE fresh) TO STDOUT (FORMAT csv);\nDROP VIEW fresh;\n"), true),
        // Once it is known, it is known for what it is.
        (format!("{define};\nINSERT INTO kept SELECT a FROM fresh;\nDROP VIEW fresh;\n"), false),
        (
            "CREATE RULE r AS ON UPDATE TO people DO ALSO INSERT INTO kept SELECT old.ssn;\n".to_owned(),
            false,
        ),
        // What a rule returns is not the SELECT's beside it.
        (
            "CREATE RULE r AS ON INSERT TO kept DO INSTEAD SELECT upper(ssn) AS upper FROM people\\; \
             INSERT INTO kept VALUES ('x')\\; SELECT upper(name) FROM people;\n\
             INSERT INTO kept VALUES ('x')\\; SELECT upper(name) FROM people;\nDROP RULE r ON kept;\n"
                .to_owned(),
            true,
        ),
    ] {
        let said = said(&script);
        assert_eq!(leak(said.as_bytes(), &needles), None, "{script}{said}");
        assert_eq!(!said.contains("ERROR"), runs, "{script}{said}");
    }
    let kept = said("TABLE kept;\nSELECT current_setting('my.kept', true);\n");
    assert_eq!(leak(kept.as_bytes(), &needles), None, "{kept}");
    // What shows only its own rows is copied as ever.
    let own = said(
        "BEGIN;\nCREATE TEMP TABLE names AS SELECT name FROM people;\nALTER TABLE names ADD made text;\n\
         UPDATE names SET made = upper(name) WHERE name <> '';\nINSERT INTO kept SELECT made FROM names;\nROLLBACK;\n",
    );
    assert!(!own.contains("ERROR"), "{own}");
}

#[test]
fn binary_copy_is_masked_field_by_field() {
    let needles = needles();
    let copies = [
        "COPY people TO STDOUT (FORMAT binary)",
        "COPY (SELECT name, upper(ssn), code, pay, doc, row_to_json(p) FROM people p) TO STDOUT (FORMAT binary)",
        "COPY (TABLE named) TO STDOUT (FORMAT binary)",
        "COPY (SELECT who, made FROM named) TO STDOUT BINARY",
    ];
    for heard in heard(Who::Agent(WRITER), &copies.map(str::to_owned)) {
        let sql = format!("{}: {}", heard.form, heard.sql);
        assert!(
            heard.kinds.contains('d') && !heard.kinds.contains('E'),
            "{sql}"
        );
        assert_eq!(leak(&heard.said, &needles), None, "{sql}");
        assert!(heard.said.windows(6).any(|w| w == b"Name 1"), "{sql}");
    }
    // It is of the format, and every field of its type: it can be read again.
    let file = std::env::temp_dir().join(format!("hoop-copy-{}", std::process::id()));
    let file = file.display();
    let read = said(&format!(
        "\\copy people TO '{file}' (FORMAT binary)\nCREATE TEMP TABLE back (LIKE people);\n\
         \\copy back FROM '{file}' (FORMAT binary)\n\
         SELECT id, name, ssn, length(code), pay, doc, note FROM back ORDER BY id LIMIT 1;\n"
    ));
    let _ = std::fs::remove_file(file.to_string());
    assert_eq!(read, "1|Name 1|********4HG2|32||\"[masked]\"|note 1\n");
}

#[test]
fn documents_lose_what_paths_name_and_keep_the_rest() {
    let needles = needles();
    // What passes within the document, and what is computed from it and therefore masked whole.
    let within = [
        "TABLE payments",
        "SELECT details FROM payments",
        "SELECT p.raw FROM payments p ORDER BY id",
        "WITH x AS (SELECT details AS d FROM payments) SELECT d FROM x",
        "COPY payments TO STDOUT",
        "COPY payments TO STDOUT (FORMAT csv)",
        "COPY (SELECT details, raw FROM payments) TO STDOUT (FORMAT binary)",
        "UPDATE payments SET id = id WHERE id < 9 RETURNING details",
    ];
    let whole = [
        "SELECT details -> 'card' FROM payments",
        "SELECT details ->> 'shop' FROM payments",
        "SELECT details::text, raw || '' FROM payments",
        "SELECT jsonb_pretty(details) FROM payments",
        "SELECT row_to_json(p) FROM payments p",
        "SELECT jsonb_path_query(details, '$.**') FROM payments",
        "SELECT key, value FROM payments, jsonb_each(details)",
    ];
    for (statements, shows) in [(&within[..], true), (&whole[..], false)] {
        let statements: Vec<_> = statements.iter().map(|sql| (*sql).to_owned()).collect();
        for heard in heard(Who::Agent(WRITER), &statements) {
            let text = String::from_utf8_lossy(&heard.said);
            let sql = format!("{}: {}\n{text}", heard.form, heard.sql);
            assert!(!heard.kinds.contains('E'), "{sql}");
            assert_eq!(leak(&heard.said, &needles), None, "{sql}");
            let shown = heard.said.windows(6).any(|w| w == b"Shop 1");
            assert_eq!(shown, shows, "{sql}");
        }
    }
    // It is a document still, and what was masked in it shows its strategy.
    let shown = said(
        "SELECT details FROM payments ORDER BY id LIMIT 1;\n\
         SELECT raw FROM payments ORDER BY id LIMIT 1;\n",
    );
    assert_eq!(
        shown,
        "{\"card\": {\"number\": \"********4HG2\"}, \"shop\": \"Shop 1\", \"sums\": {\"pay\": \"********\"}, \
         \"holders\": [{\"code\": \"********6MNC\"}]}\n\
         {\"shop\": \"Shop 1\", \"card\": {\"number\": \"********4HG2\"}, \"holders\": [{\"code\": \"********6MNC\"}], \
         \"sums\": {\"pay\": \"********\"}}\n"
    );
}
