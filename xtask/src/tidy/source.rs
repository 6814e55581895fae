//! Rules on one Rust file: its length, its first line, and words that it may not use.

use super::Complaint;

const LONGEST: usize = 800;

/// Places where memory is shared with the kernel or with C; `unsafe` anywhere else is a mistake.
const UNSAFE: &[&str] = &[
    "hoop-userspace/src/capture/",
    "hoop-ebpf/",
    "hoop-common/",
    // A signal's action, set before there is a second thread.
    "hoop-userspace/src/cli/pipe.rs",
];

/// What ends a process instead of refusing one connection.
const ENDINGS: &[&str] = &[
    ".unwrap()",
    ".unwrap_err()",
    ".expect(\"",
    "panic!(",
    "todo!(",
    "unimplemented!(",
];

/// In halves, so that this file passes.
const SKIPPED: &str = concat!("#[ig", "nore");

/// A file's text, and the same with comments, the insides of strings and test modules blanked.
///
/// Blanking keeps every line and column, so that a complaint points at the right place.
pub struct Source {
    pub file: String,
    pub text: String,
    pub code: String,
}

impl Source {
    pub fn new(file: &str, text: &str) -> Self {
        let code = without_tests(&blanked(text));
        Self {
            file: file.to_owned(),
            text: text.to_owned(),
            code,
        }
    }

    /// Whether the whole file is test code.
    pub fn is_test(&self) -> bool {
        let name = self.file.rsplit('/').next().unwrap_or_default();
        self.file.starts_with("tests/")
            || self.file.contains("/tests/")
            || self.file.contains("/fuzz/")
            || self.file.contains("/benches/")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
    }

    pub fn complain(&self, line: usize, what: impl Into<String>) -> Complaint {
        Complaint {
            file: self.file.clone(),
            line,
            what: what.into(),
        }
    }
}

pub fn check(source: &Source) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let lines = source.text.lines().count();
    if lines > LONGEST {
        complaints.push(source.complain(0, format!("{lines} lines; more than {LONGEST} hide")));
    }
    if !source.text.starts_with("//!") {
        complaints.push(source.complain(1, "does not open with `//!` saying what it is for"));
    }
    for (number, line) in source.code.lines().enumerate() {
        if line.trim_start().starts_with(SKIPPED) {
            complaints.push(source.complain(number + 1, "a test that never runs shows nothing"));
        }
    }
    if source.is_test() {
        return complaints;
    }
    for (number, line) in source.code.lines().enumerate() {
        // What a constant computes ends the compilation, not the process.
        let constant = line
            .trim_start()
            .trim_start_matches("pub ")
            .starts_with("const ");
        for ending in ENDINGS {
            if line.contains(ending) && !constant && !source.file.starts_with("hoop-ebpf/") {
                let what = format!("`{ending}` outside tests: refuse the connection instead");
                complaints.push(source.complain(number + 1, what));
            }
        }
        if has_word(line, "unsafe") && !UNSAFE.iter().any(|place| source.file.starts_with(place)) {
            let what = "`unsafe` outside its places";
            complaints.push(source.complain(number + 1, what));
        }
    }
    complaints
}

/// Whether the word stands there by itself, not as a part of a longer name.
pub fn has_word(line: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|s| s.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|s| s.chars().next());
        !part(before) && !part(after)
    })
}

/// Comments and the insides of literals become spaces; quotes and line ends stay.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = skipped(rest, out.chars().next_back()).unwrap_or(0);
        if length == 0 {
            out.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            continue;
        }
        let (piece, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        blank(piece, &mut out);
        rest = after;
    }
    out
}

fn blank(piece: &str, out: &mut String) {
    let quoted = piece.starts_with('"') && piece.len() > 1;
    let inside = if quoted {
        piece.get(1..piece.len() - 1).unwrap_or_default()
    } else {
        piece
    };
    if quoted {
        out.push('"');
    }
    out.extend(inside.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    if quoted {
        out.push('"');
    }
}

/// The length of the comment or literal that starts here, if one does.
fn skipped(rest: &str, before: Option<char>) -> Option<usize> {
    let word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest));
    }
    if !word && rest.starts_with('r') {
        return raw_string(rest);
    }
    if rest.starts_with('\'') {
        character(rest)
    } else {
        None
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let hashes = rest.get(1..)?.chars().take_while(|c| *c == '#').count();
    let body = rest.get(1 + hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let inside = body.find(&end)?;
    Some(1 + hashes + 1 + inside + end.len())
}

/// A character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let mut inside = rest.char_indices().skip(1);
    let (_, first) = inside.next()?;
    if first == '\\' {
        let close = rest.get(3..)?.find('\'')?;
        return Some(3 + close + 1);
    }
    match inside.next()? {
        (at, '\'') => Some(at + 1),
        _ => None,
    }
}

/// Items under `#[cfg(test)]` become blank, up to the closing brace at the same indentation.
fn without_tests(code: &str) -> String {
    let mut out = Vec::new();
    let mut closing: Option<String> = None;
    let mut pending = false;
    for line in code.lines() {
        let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        if let Some(close) = &closing {
            if line.trim_end() == close.as_str() {
                closing = None;
            }
            out.push("");
        } else if pending {
            let item = line.trim();
            if !item.starts_with("#[") && !item.is_empty() {
                pending = false;
                if item.ends_with('{') || !item.ends_with([';', '}', ',']) {
                    closing = Some(format!("{indent}}}"));
                }
            }
            out.push("");
        } else if line.trim().starts_with("#[cfg(test)]") {
            pending = true;
            out.push("");
        } else {
            out.push(line);
        }
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(file: &str, text: &str) -> Vec<(usize, String)> {
        check(&Source::new(file, text))
            .into_iter()
            .map(|c| (c.line, c.what))
            .collect()
    }

    #[test]
    fn comments_strings_and_lifetimes() {
        let code =
            blanked("a // .unwrap()\nb(\"panic!(\\\"\", 'x', '\\'', r#\"a\"b\"#) /* c */ <'a>");
        assert!(!code.contains("unwrap"));
        assert!(!code.contains("panic"));
        assert!(code.contains("<'a>"));
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn endings_are_found_outside_tests_only() {
        let text = "//! x\nfn a() { b.unwrap(); }\n#[cfg(test)]\nmod tests {\n    fn c() { d.unwrap() }\n}\nfn e() { f.expect(\"g\") }\n";
        let lines: Vec<usize> = complaints("hoop-userspace/src/a.rs", text)
            .into_iter()
            .map(|c| c.0)
            .collect();
        assert_eq!(lines, [2, 7]);
        assert_eq!(complaints("tests/support/a.rs", text), []);
    }

    #[test]
    fn unsafe_has_its_places() {
        let text = "//! x\nunsafe { a() }\n";
        assert_eq!(complaints("hoop-userspace/src/capture/map.rs", text), []);
        assert_eq!(complaints("hoop-userspace/src/mask/mod.rs", text).len(), 1);
        assert_eq!(
            complaints("xtask/src/a.rs", "//! x\n#![deny(unsafe_code)]\n"),
            []
        );
    }

    #[test]
    fn a_file_says_what_it_is_for_and_is_short() {
        assert_eq!(complaints("xtask/src/a.rs", "fn a() {}\n").len(), 1);
        let long = format!("//! x\n{}", "\n".repeat(LONGEST));
        assert_eq!(complaints("xtask/src/a.rs", &long).len(), 1);
    }
}
