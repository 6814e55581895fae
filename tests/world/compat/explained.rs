//! The table of explained differences in docs/COMPATIBILITY.md.

use anyhow::{Context, Result, bail};

use super::suites::fits;

/// The heading above the table.
const HEADING: &str = "## Differences";
/// What the reason of a difference begins with that is not seen in every run.
const TIMING: &str = "timing: ";

pub struct Explained {
    rows: Vec<Row>,
}

/// `| suite | test | why |`; a test that ends in `*` stands for all that begin so.
pub struct Row {
    pub number: usize,
    suite: String,
    test: String,
    pub why: String,
}

impl Explained {
    pub fn read() -> Result<Self> {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/COMPATIBILITY.md");
        Self::parse(&super::read(&path)?)
    }

    fn parse(text: &str) -> Result<Self> {
        let (_, after) = text
            .split_once(HEADING)
            .with_context(|| format!("no heading {HEADING:?}"))?;
        let rows = after
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
            .take_while(|line| line.starts_with('|'));
        let parse = |(number, line): (usize, &str)| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [suite, test, why] = cells.as_slice() else {
                bail!("not three cells: {line}");
            };
            Ok(Row {
                number,
                suite: (*suite).to_owned(),
                test: test.trim_matches('`').to_owned(),
                why: (*why).to_owned(),
            })
        };
        let rows = rows.enumerate().map(parse).collect::<Result<_>>()?;
        Ok(Self { rows })
    }

    pub fn of(&self, suite: &str, test: &str) -> Option<&Row> {
        let mut of_suite = self.rows.iter().filter(|row| row.suite == suite);
        of_suite.find(|row| fits(&row.test, test))
    }

    /// Rows of the suite that explain nothing that was seen. What goes by time may pass on a machine
    /// that is quick enough.
    pub fn unseen(&self, suite: &str, seen: &[usize]) -> Vec<String> {
        let unseen = |row: &&Row| {
            row.suite == suite && !seen.contains(&row.number) && !row.why.starts_with(TIMING)
        };
        self.rows
            .iter()
            .filter(unseen)
            .map(|row| format!("{suite}: {} is explained and does not differ", row.test))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let text = "# x\n| a | b | c |\n## Differences\nwords\n\n| suite | test | why |\n|---|---|---|\n\
                    | a | `t::one` | because |\n| a | `u::*` | all of them |\n| a | `v` | timing: at times |\n\n| b | x | y |\n";
        let explained = Explained::parse(text).unwrap();
        let why = |suite, test| explained.of(suite, test).map(|row| row.why.as_str());
        assert_eq!(why("a", "t::one"), Some("because"));
        assert_eq!(why("a", "t::one_more"), None);
        assert_eq!(why("a", "u::any"), Some("all of them"));
        assert_eq!(why("b", "x"), None);
        assert_eq!(explained.unseen("a", &[1]).len(), 1);
    }
}
