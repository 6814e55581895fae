//! Random queries whose taint is known from how they were made: no column that may carry a masked
//! value passes, and none that cannot is masked.

use proptest::prelude::*;

use super::*;

/// One table of six columns; which are masked is drawn.
const COLUMNS: usize = 6;

/// What the values of a column are, as the generator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taint {
    Clean,
    /// The masked value itself.
    Value,
    /// Made of one.
    Made,
}

impl Taint {
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Made, _) | (_, Self::Made) => Self::Made,
            (Self::Value, _) | (_, Self::Value) => Self::Value,
            _ => Self::Clean,
        }
    }

    fn made(self) -> Self {
        match self {
            Self::Clean => Self::Clean,
            _ => Self::Made,
        }
    }
}

struct Tables {
    masked: Vec<bool>,
}

impl World for Tables {
    fn relation(&self, _: &RelationName) -> Arc<Items> {
        let list = self.masked.iter().enumerate().map(|(at, masked)| Item {
            name: Some(format!("c{at}").into()),
            mark: match masked {
                true => Mark::Plain(How::Hash),
                false => Mark::Clean,
            },
            from: None,
        });
        Arc::new(Items::listed(list.collect()))
    }
}

/// A query's text with its columns' names and taints. Predicates are added at random: they decide
/// nothing about what columns carry.
#[derive(Clone, Debug)]
struct Made {
    sql: String,
    columns: Vec<(String, Taint)>,
}

/// Numbers to draw decisions from, so that a failing case shrinks.
struct Draws<'d> {
    numbers: &'d [u8],
    at: usize,
    names: usize,
    masked: &'d [bool],
}

impl Draws<'_> {
    fn below(&mut self, most: usize) -> usize {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(number) % most
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    fn query(&mut self, depth: usize) -> Made {
        match if depth == 0 { 0 } else { self.below(8) } {
            0..=4 => self.select(depth),
            5 => self.union(depth),
            6 => self.cte(depth),
            _ => self.recursive(depth),
        }
    }

    fn table(&mut self) -> Made {
        let columns = self.masked.iter().enumerate().map(|(at, masked)| {
            let taint = if *masked { Taint::Value } else { Taint::Clean };
            (format!("c{at}"), taint)
        });
        Made {
            sql: "TABLE t".into(),
            columns: columns.collect(),
        }
    }

    /// Something to select from: its text, and what is in sight by it, with qualifiers.
    fn from(&mut self, depth: usize) -> (String, Vec<(String, Taint)>) {
        let alias = self.name();
        let one = match if depth == 0 { 0 } else { self.below(3) } {
            0 => self.table(),
            _ => self.query(depth - 1),
        };
        let text = match one.sql == "TABLE t" {
            true => format!("t AS {alias}"),
            false => format!("({}) AS {alias}", one.sql),
        };
        let seen = |columns: &[(String, Taint)]| -> Vec<_> {
            let all = columns.iter();
            all.map(|(name, taint)| (format!("{alias}.{name}"), *taint))
                .collect()
        };
        if self.below(4) > 0 {
            return (text, seen(&one.columns));
        }
        // Under other names.
        let renamed: Vec<_> = one
            .columns
            .iter()
            .map(|(_, taint)| (self.name(), *taint))
            .collect();
        let names: Vec<_> = renamed.iter().map(|(name, _)| name.as_str()).collect();
        (format!("{text}({})", names.join(", ")), seen(&renamed))
    }

    fn select(&mut self, depth: usize) -> Made {
        let (mut from, mut seen) = self.from(depth);
        let mut lateral = Vec::new();
        for _ in 0..self.below(3) {
            let (text, more) = self.from(depth.saturating_sub(1));
            from = match self.below(3) {
                0 => format!("{from}, {text}"),
                1 => format!("{from} LEFT JOIN {text} ON true"),
                _ => format!("{from} CROSS JOIN {text}"),
            };
            lateral.extend(seen.clone());
            seen.extend(more);
        }
        if self.below(4) == 0 {
            let (value, taint) = self.value(&seen, 0);
            let alias = self.name();
            from += &format!(" CROSS JOIN LATERAL (SELECT {value}) AS {alias}(x)");
            seen.push((format!("{alias}.x"), taint));
        }
        let mut targets = Vec::new();
        let mut columns = Vec::new();
        for _ in 0..=self.below(4) {
            let (value, taint) = self.value(&seen, 2.min(depth + 1));
            let name = self.name();
            targets.push(format!("{value} AS {name}"));
            columns.push((name, taint));
        }
        let picked = self.below(seen.len());
        let tail = match (self.below(4), seen.get(picked)) {
            (0, Some((column, _))) => format!(" WHERE {column} IS NOT NULL"),
            (1, Some((column, _))) => format!(" ORDER BY {column}"),
            _ => String::new(),
        };
        Made {
            sql: format!("SELECT {} FROM {from}{tail}", targets.join(", ")),
            columns,
        }
    }

    fn value(&mut self, seen: &[(String, Taint)], depth: usize) -> (String, Taint) {
        let at = self.below(seen.len());
        let (column, taint) = seen.get(at).cloned().unwrap();
        if depth == 0 {
            return (column, taint);
        }
        match self.below(12) {
            0..=3 => (column, taint),
            4 => (format!("upper({column})"), taint.made()),
            5 => (format!("{column}::text"), taint.made()),
            6 => {
                let (other, more) = self.value(seen, depth - 1);
                (format!("({column} || {other})"), taint.or(more).made())
            }
            7 => {
                let (other, more) = self.value(seen, depth - 1);
                let sql = format!("CASE WHEN {column} = 'x' THEN {other} ELSE '' END");
                (sql, taint.or(more).made())
            }
            8 => (format!("(SELECT {column})"), taint),
            9 => (
                format!("array_to_string(ARRAY[{column}, ''], '')"),
                taint.made(),
            ),
            10 => (format!("row_to_json(ROW({column}))::text"), taint.made()),
            _ => ("'constant'".into(), Taint::Clean),
        }
    }

    fn union(&mut self, depth: usize) -> Made {
        let one = self.query(depth - 1);
        let mut two = self.query(depth - 1);
        while two.columns.len() < one.columns.len() {
            let again = self.table();
            two = self.widened(two, &again);
        }
        let shared = one.columns.len();
        let kept: Vec<_> = two.columns.iter().take(shared).collect();
        let names: Vec<_> = kept.iter().map(|(name, _)| name.as_str()).collect();
        let right = format!("SELECT {} FROM ({}) AS w", names.join(", "), two.sql);
        let columns = one.columns.iter().zip(kept);
        let columns = columns.map(|((name, a), (_, b))| (name.clone(), a.or(*b)));
        let word = ["UNION ALL", "UNION", "INTERSECT"][self.below(3)];
        Made {
            columns: columns.collect(),
            sql: format!("({}) {word} ({right})", one.sql),
        }
    }

    /// With the columns of a table behind its own.
    fn widened(&mut self, one: Made, two: &Made) -> Made {
        let names = two.columns.iter().map(|_| self.name());
        let names: Vec<_> = names.collect();
        let taken = names.iter().zip(&two.columns);
        let targets: Vec<_> = taken
            .map(|(name, (c, _))| format!("t.{c} AS {name}"))
            .collect();
        let sql = format!(
            "SELECT w.*, {} FROM ({}) AS w, t",
            targets.join(", "),
            one.sql
        );
        let more = names.into_iter().zip(two.columns.iter().map(|(_, t)| *t));
        Made {
            sql,
            columns: one.columns.into_iter().chain(more).collect(),
        }
    }

    fn cte(&mut self, depth: usize) -> Made {
        let inner = self.query(depth - 1);
        let name = self.name();
        Made {
            sql: format!("WITH {name} AS ({}) SELECT * FROM {name}", inner.sql),
            columns: inner.columns,
        }
    }

    /// A recursive query that turns its columns round in each step: after enough steps each may hold
    /// what any held.
    fn recursive(&mut self, depth: usize) -> Made {
        let inner = self.query(depth - 1);
        let name = self.name();
        let mut turned: Vec<_> = inner.columns.iter().map(|(n, _)| n.clone()).collect();
        turned.rotate_left(1);
        let all = inner
            .columns
            .iter()
            .fold(Taint::Clean, |a, (_, t)| a.or(*t));
        let columns: Vec<_> = inner
            .columns
            .iter()
            .map(|(n, _)| (n.clone(), all))
            .collect();
        let names: Vec<_> = columns.iter().map(|(n, _)| n.as_str()).collect();
        Made {
            sql: format!(
                "WITH RECURSIVE {name}({}) AS (({}) UNION SELECT {} FROM {name}) SELECT * FROM {name}",
                names.join(", "),
                inner.sql,
                turned.join(", ")
            ),
            columns,
        }
    }
}

fn cases() -> ProptestConfig {
    // `HOOP_CASES` for a long run.
    let cases = std::env::var("HOOP_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    ProptestConfig::with_cases(cases.unwrap_or(600))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn marks_are_what_the_taints_say(
        masked in prop::collection::vec(any::<bool>(), COLUMNS),
        numbers in prop::collection::vec(any::<u8>(), 0..160),
    ) {
        let mut draws = Draws { numbers: &numbers, at: 0, names: 0, masked: &masked };
        let made = draws.query(3);
        let facts = Parser::new(Limits::default()).facts(&made.sql);
        prop_assert_eq!(&facts.unparsable, &None, "{}", made.sql);
        let traced = facts.lineage.shown().unwrap();
        let query = traced.query.as_ref().unwrap();
        let resolved = query.resolve(&Tables { masked: masked.clone() });
        let output = resolved.unwrap().output;
        let items = output.align(made.columns.len(), |at| Some(&made.columns[at].0)).unwrap();
        for ((name, taint), item) in made.columns.iter().zip(items) {
            let expected = match taint {
                Taint::Clean => Mark::Clean,
                Taint::Value => Mark::Plain(How::Hash),
                Taint::Made => Mark::Whole,
            };
            prop_assert_eq!(&item.mark, &expected, "{} of {}", name, made.sql);
        }
    }
}
