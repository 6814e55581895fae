//! Tests that documents name must exist: `path/to/file.rs::name_of_the_test` in backticks.

use super::Complaint;

/// `read` returns a file of the repository, if it is there.
pub fn check(file: &str, text: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    if !file.starts_with("docs/") {
        return complaints;
    }
    for (number, line) in text.lines().enumerate() {
        let mentions = line.split('`').skip(1).step_by(2);
        for (path, name) in mentions.filter_map(mentioned) {
            let exists = read(path).is_some_and(|code| code.contains(&format!("fn {name}(")));
            if !exists {
                complaints.push(Complaint {
                    file: file.to_owned(),
                    line: number + 1,
                    what: format!("names a test that does not exist: {path}::{name}"),
                });
            }
        }
    }
    complaints
}

/// File and function.
fn mentioned(words: &str) -> Option<(&str, &str)> {
    let (path, name) = words.split_once("::")?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (path.ends_with(".rs") && !name.is_empty() && name.chars().all(plain)).then_some((path, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_tests_are_looked_up() {
        let read = |path: &str| (path == "tests/a.rs").then(|| "fn one() {}".to_owned());
        let text =
            "| x | `tests/a.rs::one` |\n| y | `tests/a.rs::two`, `tests/b.rs::one` |\n`a::b`\n";
        let lines: Vec<_> = check("docs/A.md", text, read)
            .iter()
            .map(|c| c.line)
            .collect();
        assert_eq!(lines, [2, 2]);
        assert!(check("README.md", text, read).is_empty());
    }
}
