//! The tables that the command prints, and what makes it fail.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Compared;
use super::explained::Explained;
use super::run::Outcomes;

/// The tables, and what makes the command fail.
pub fn report(all: &[Compared], explained: &Explained) -> (String, Vec<String>) {
    let mut text = String::from(HEAD);
    for compared in all {
        let _ = writeln!(text, "{}", compared.summary());
    }
    let mut complaints = Vec::new();
    text += "\nTests that differ, and why:\n\n| suite | test | direct | through hoop | why |\n|---|---|---|---|---|\n";
    for compared in all {
        differing(compared, explained, &mut text, &mut complaints);
    }
    text += "\nNeither passed nor skipped, on both sides alike, for want of what the suite expects of its server, its driver or the machine:\n\n";
    for compared in all {
        alike(compared, &mut text);
    }
    text += "\nRun on neither side:\n\n";
    for compared in all {
        let name = &compared.suite.name;
        for row in &compared.suite.excluded {
            let _ = writeln!(text, "- {name} `{}`: {}", row.test, row.why);
            if !compared.excluded.contains(&row.test) {
                complaints.push(format!(
                    "{name}: {} is excluded and does not exist",
                    row.test
                ));
            }
        }
    }
    text += "\nDiffered in one run and not in the next:\n\n";
    for compared in all {
        for test in &compared.unsteady {
            let _ = writeln!(text, "- {} `{test}`", compared.suite.name);
        }
    }
    (text, complaints)
}

const HEAD: &str = "| suite | tests of | client | tests | passed direct | passed through | differ | unsteady | time |\n\
                    |---|---|---|---|---|---|---|---|---|\n";

fn differing(
    compared: &Compared,
    explained: &Explained,
    text: &mut String,
    complaints: &mut Vec<String>,
) {
    let name = &compared.suite.name;
    let mut seen = Vec::new();
    for (test, direct, through) in different(&compared.direct, &compared.through) {
        let row = explained.of(name, test);
        seen.extend(row.map(|row| row.number));
        let said = [&compared.direct, &compared.through].map(|side| {
            let told = side.get(test);
            let why = told.map_or("", |o| match direct == through {
                true => &o.seen,
                false => &o.why,
            });
            why.replace('|', "\\|").replace('\n', " ⏎ ")
        });
        let why = match row {
            Some(row) => row.why.clone(),
            None => format!("UNEXPLAINED: {} / {}", said[0], said[1]),
        };
        let _ = writeln!(text, "| {name} | `{test}` | {direct} | {through} | {why} |");
        if row.is_none() {
            complaints.push(format!(
                "{name}: {test}: {direct} direct, {through} through hoop, and not explained: {} / {}",
                said[0], said[1]
            ));
        }
    }
    complaints.extend(explained.unseen(name, &seen));
}

fn alike(compared: &Compared, text: &mut String) {
    for (test, outcome) in &compared.direct {
        let fails = !matches!(&*outcome.what, "passed" | "skipped" | "xfailed");
        let same = compared
            .through
            .get(test)
            .is_some_and(|t| t.what == outcome.what);
        if fails && same {
            let name = &compared.suite.name;
            let _ = writeln!(text, "- {name} `{test}`: {}: {}", outcome.what, outcome.why);
        }
    }
}

/// Tests with two outcomes, or of which something else was seen; one that was not run on a side is
/// `absent` there.
pub fn different<'a>(
    direct: &'a Outcomes,
    through: &'a Outcomes,
) -> impl Iterator<Item = (&'a String, &'a str, &'a str)> {
    let mut all: BTreeMap<&String, [(&str, &str); 2]> = BTreeMap::new();
    for (at, side) in [direct, through].into_iter().enumerate() {
        for (test, outcome) in side {
            all.entry(test).or_insert([("absent", ""); 2])[at] = (&outcome.what, &outcome.seen);
        }
    }
    all.into_iter()
        .filter(|(_, [direct, through])| direct != through)
        .map(|(test, [direct, through])| (test, direct.0, through.0))
}

impl Compared {
    pub fn summary(&self) -> String {
        let passed = |side: &Outcomes| side.values().filter(|o| o.what == "passed").count();
        let tests = self.direct.keys().chain(self.through.keys());
        let tests: std::collections::BTreeSet<_> = tests.collect();
        format!(
            "| {} | {} {} | {} | {} | {} | {} | {} | {} | {:.0} s |",
            self.suite.name,
            self.suite.package,
            self.suite.version,
            self.suite.client,
            tests.len(),
            passed(&self.direct),
            passed(&self.through),
            different(&self.direct, &self.through).count(),
            self.unsteady.len(),
            self.seconds
        )
    }
}
