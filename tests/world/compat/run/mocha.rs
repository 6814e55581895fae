//! Suites of Node.js: mocha prints one line of JSON for each test as it ends.

use anyhow::Result;
use serde_json::Value;

use super::{Outcome, Outcomes, Run, Told};

pub fn run(run: &Run<'_>) -> Result<Told> {
    let mut files: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(run.place().join("test"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".js") {
            files.push(name);
        }
    }
    files.sort();
    let mut told = Told::default();
    // One by one: what one file leaves open or breaks is no other's affair.
    for file in files {
        if let Some(row) = run.suite.excluding(&format!("{file}: ")) {
            told.excluded.insert(row.test.clone());
            continue;
        }
        let mut command = run.command(&run.folder.join("node_modules/.bin/mocha"))?;
        command.args(["--no-config", "--reporter", "json-stream", "--exit"]);
        command.args(["--timeout", "20000"]).args(run.arguments());
        command.arg(format!("./test/{file}"));
        let (out, err) = (format!("{file}.out"), format!("{file}.err"));
        let out = run.bounded(&mut command, &out, &err)?;
        for (test, outcome) in printed(&super::super::read(&out)?, &file) {
            match run.suite.excluding(&test) {
                Some(row) => {
                    told.excluded.insert(row.test.clone());
                }
                None if run.wanted(&test) => {
                    told.outcomes.insert(test, outcome);
                }
                None => {}
            }
        }
    }
    Ok(told)
}

/// `["pass", {…}]` and `["fail", {…}]`; a file that was not ended failed as a whole.
fn printed(text: &str, file: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut ended = false;
    for line in text.lines() {
        let Ok(Value::Array(line)) = serde_json::from_str(line) else {
            continue;
        };
        let [event, told] = line.as_slice() else {
            continue;
        };
        let what = match event.as_str() {
            Some("pass") => "passed",
            Some("fail") => "failed",
            Some("end") => {
                ended = true;
                continue;
            }
            _ => continue,
        };
        let title = told["fullTitle"].as_str().unwrap_or_default();
        let why = told["err"].as_str().unwrap_or_default();
        let why: String = why
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(300)
            .collect();
        let test = format!("{file}: {title}");
        // Two tests may have one title: the worse outcome is theirs.
        if what == "failed" || !outcomes.contains_key(&test) {
            outcomes.insert(test, Outcome::new(what, &why));
        }
    }
    if !ended {
        outcomes.insert(
            format!("{file}: its end"),
            Outcome::new("hung", "the file did not end"),
        );
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_json_are_read() {
        let text = "[\"start\",{\"total\":2}]\nnoise\n[\"pass\",{\"fullTitle\":\"a b\"}]\n\
                    [\"fail\",{\"fullTitle\":\"a c\",\"err\":\"expected 1\\nmore\"}]\n[\"end\",{}]\n";
        let outcomes = printed(text, "x.js");
        assert_eq!(outcomes["x.js: a b"].what, "passed");
        assert_eq!(outcomes["x.js: a c"].why, "expected 1");
        assert_eq!(outcomes.len(), 2);
        assert_eq!(printed("", "x.js")["x.js: its end"].what, "hung");
    }
}
