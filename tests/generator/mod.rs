//! Statements over the tables of the masking scenario, drawn from a seed: always the same ones.

/// Columns of `people` and what is in sight of `visits`, by type.
const TEXTS: [&str; 4] = ["name", "ssn", "code", "note"];

/// A small generator of numbers (splitmix64): its quality matters less than that it stays the same.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

pub fn statements(seed: u64, count: usize) -> Vec<String> {
    let mut draws = Draws(seed);
    (0..count).map(|_| draws.statement()).collect()
}

impl Draws {
    fn statement(&mut self) -> String {
        let query = self.query(2);
        match self.below(16) {
            0 => format!("COPY ({query}) TO STDOUT"),
            1 => format!("COPY ({query}) TO STDOUT (FORMAT csv, HEADER)"),
            2 => format!("EXPLAIN (ANALYZE, VERBOSE, COSTS OFF, TIMING OFF, SUMMARY OFF) {query}"),
            3 => {
                let target = self.value("", 2);
                format!("UPDATE people SET note = note WHERE id = 1 RETURNING {target}, *")
            }
            4 => format!("SELECT {}::int FROM people", self.pick(&TEXTS)),
            5 => format!("{query} LIMIT 3"),
            _ => query,
        }
    }

    /// A query of two columns of text, `a` and `b`.
    fn query(&mut self, depth: usize) -> String {
        match if depth == 0 {
            self.below(4)
        } else {
            self.below(12)
        } {
            0 | 1 => {
                let (a, b) = (self.value("p.", 2), self.value("p.", 2));
                format!("SELECT {a} AS a, {b} AS b FROM people p")
            }
            2 => {
                let (a, b) = (self.value("p.", 1), self.value("p.", 1));
                let join = self.pick(&[
                    "people p JOIN visits v ON v.person = p.id",
                    "people p LEFT JOIN visits v ON v.place = p.ssn",
                    "people p CROSS JOIN visits v",
                    "people p JOIN people q USING (id)",
                    "everyone p NATURAL JOIN (SELECT id FROM visits) v",
                ]);
                format!("SELECT {a} AS a, {b} AS b FROM {join}")
            }
            3 => self.view(),
            4 => {
                let value = self.aggregate();
                let other = self.aggregate();
                format!("SELECT {value} AS a, {other} AS b FROM people p")
            }
            5 => {
                let inner = self.query(depth - 1);
                let (a, b) = (self.over("s.a"), self.over("s.b"));
                format!("SELECT {a} AS a, {b} AS b FROM ({inner}) AS s")
            }
            6 => {
                let inner = self.query(depth - 1);
                let b = self.over("y");
                format!("WITH s(x, y) AS ({inner}) SELECT x AS a, {b} AS b FROM s")
            }
            7 => {
                let (one, two) = (self.query(depth - 1), self.query(depth - 1));
                let word = self.pick(&["UNION ALL", "UNION", "EXCEPT", "INTERSECT"]);
                format!("SELECT * FROM (({one}) {word} ({two})) AS u")
            }
            8 => {
                let inner = self.query(depth - 1);
                format!(
                    "WITH RECURSIVE r(a, b, n) AS (SELECT a, b, 1 FROM ({inner}) AS i UNION \
                     SELECT b, a, n + 1 FROM r WHERE n < 3) SELECT a, b FROM r"
                )
            }
            9 => {
                let inner = self.query(depth - 1);
                let json = self.pick(&[
                    "row_to_json(s)::text",
                    "to_jsonb(s)::text",
                    "s::text",
                    "json_build_array(s.a)::text",
                    "concat(s.*)",
                    "array_to_string(ARRAY[s.b, s.a], '')",
                ]);
                format!("SELECT {json} AS a, s.b AS b FROM ({inner}) AS s")
            }
            10 => {
                let value = self.value("p.", 1);
                format!(
                    "SELECT l.x AS a, p.note AS b FROM people p CROSS JOIN LATERAL \
                     (SELECT {value} AS x UNION ALL SELECT p.name) AS l"
                )
            }
            _ => {
                let (value, other) = (self.value("p.", 1), self.value("q.", 1));
                let condition = self.value("q.", 1);
                format!(
                    "SELECT {value} AS a, (SELECT {other} FROM people q WHERE {condition} <> 'x' \
                     ORDER BY q.id LIMIT 1) AS b FROM people p"
                )
            }
        }
    }

    fn view(&mut self) -> String {
        let from = self.pick(&[
            "SELECT who AS a, tag AS b FROM named",
            "SELECT made AS a, note AS b FROM named",
            "SELECT loud AS a, who AS b FROM nested",
            "SELECT a, b FROM united",
            "SELECT top AS a, first AS b FROM grouped",
            "SELECT ssn AS a, name AS b FROM kept_names",
            "SELECT code AS a, pay::text AS b FROM everyone",
            "SELECT doc::text AS a, born::text AS b FROM everyone",
        ]);
        from.to_owned()
    }

    /// A value of text over the columns of `people`.
    fn value(&mut self, of: &str, depth: usize) -> String {
        match self.below(14) {
            0 => format!("({of}pay + 0)::text"),
            1 => format!("to_hex({of}pay)"),
            2 => format!("({of}doc ->> 'in')"),
            3 => format!("{of}doc::text"),
            _ if depth == 0 => format!("{of}{}", self.pick(&TEXTS)),
            4..=7 => {
                let inner = self.value(of, depth - 1);
                self.over(&inner)
            }
            8 => {
                let (one, two) = (self.value(of, depth - 1), self.value(of, depth - 1));
                format!("({one} || '-' || {two})")
            }
            9 => {
                let (one, two) = (self.value(of, depth - 1), self.value(of, depth - 1));
                format!("CASE WHEN {one} > 'Name 2' THEN {two} ELSE 'other' END")
            }
            _ => format!("{of}{}", self.pick(&TEXTS)),
        }
    }

    /// What SQL makes of a text without losing it.
    fn over(&mut self, value: &str) -> String {
        let made = self.pick(&[
            "V",
            "V",
            "reverse(V)",
            "lower(V)",
            "substr(V, 2, 9)",
            "encode(convert_to(V, 'UTF8'), 'hex')",
            "encode(convert_to(V, 'UTF8'), 'base64')",
            "convert_to(V, 'UTF8')::text",
            "coalesce(V, '')",
            "format('<%s>', V)",
            "concat_ws('/', V, 'x')",
            "quote_literal(V)",
            "to_json(V)::text",
            "json_build_object('k', V)::text",
            "ARRAY[V, 'x']::text",
            "ROW(V, 1)::text",
            "nullif(V, '')",
            "greatest(V, '')",
            "V COLLATE \"C\"",
            "(SELECT V)",
            "trim(V)",
            "repeat(V, 2)",
            "split_part(V || ',x', ',', 1)",
            "regexp_replace(V, '^.', '')",
            "xmlelement(name x, V)::text",
            "'constant'",
        ]);
        made.replace('V', value)
    }

    fn aggregate(&mut self) -> String {
        let value = self.value("p.", 1);
        let made = self.pick(&[
            "max(V)",
            "min(V)",
            "string_agg(V, ',')",
            "string_agg(V, ',' ORDER BY p.id)",
            "array_agg(V)::text",
            "json_agg(V)::text",
            "json_object_agg(p.id, V)::text",
            "json_agg(p)::text",
            "count(V)::text",
            "mode() WITHIN GROUP (ORDER BY V)",
            "(array_agg(V ORDER BY p.id))[1]",
            "max(V) FILTER (WHERE p.id > 1)",
        ]);
        made.replace('V', &value)
    }
}
