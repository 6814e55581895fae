//! The shells themselves judge what an argument is: `printf` prints what it was given.

use std::process::Command;

use proptest::prelude::*;

use super::*;

/// What the shell passes on after the format.
fn passed(shell: &str, folder: &std::path::Path, text: &str) -> Option<Vec<String>> {
    let output = Command::new(shell)
        .args(["-c", text])
        .current_dir(folder)
        .env_clear()
        .output()
        .unwrap_or_else(|error| panic!("{shell} is needed for this test: {error}"));
    let all = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| {
        let words = all.split_terminator('\0');
        words.map(str::to_owned).collect()
    })
}

/// What hoop says is passed, if it is certain of all.
fn found(text: &str) -> Option<Vec<String>> {
    let facts = facts(text);
    if facts.unparsable.is_some() {
        return None;
    }
    let last = facts.commands.last()?;
    assert_eq!(last.program.as_deref(), Some("printf"), "{text:?}");
    last.argv.iter().skip(2).cloned().collect()
}

fn word(bash: bool) -> impl Strategy<Value = String> {
    let text = "[ab ;|&<>()#~*?{},=/\\[\\]!-]{0,4}";
    let bare = prop::sample::select(vec![
        "a", "b1", "./x", "a=b", "a#b", "a/b", "-n", "--x=y", "%", "a,b", "a:b", "@", "+", "a~",
        "_", "x^y",
    ]);
    let single = text.prop_map(|text| format!("'{text}'"));
    let double = text.prop_map(|text| format!("\"{text}\""));
    let escaped = prop::sample::select(vec![
        "\\ ",
        "\\a",
        "\\$",
        "\\\\",
        "\\'",
        "\\\"",
        "\\*",
        "\\\n",
        "\\;",
        "\"\\$x\"",
        "\"\\a\"",
        "\"\\\\\"",
        "\"\\\"\"",
        "\"a\\\nb\"",
        "\"'\"",
        "'\"'",
        "'\\'",
        "\"\"",
        "''",
        "\"$\"",
        "$",
        "\"a$\"",
    ]);
    let variable = prop::sample::select(vec![
        "$x",
        "${x}",
        "\"$x\"",
        "\"${x}\"",
        "$x$y",
        "\"$x\"$y",
        "$y",
        "\"$y\"",
        "${x:-d}",
        "${e:-d}",
        "${e-d}",
        "\"${e:-d}\"",
        "${e:-d e}",
        "\"${e:-d e}\"",
        "$e",
        "\"$e\"",
        "a$e",
        "$s",
        "\"$s\"",
        "a${s}b",
        "${s:-x}",
        "$1",
        "\"$1\"",
        "$#$e",
        "\"$@\"",
        "$@",
        "${x?}",
    ]);
    let only_bash = prop::sample::select(vec![
        "$'a\\tb'",
        "$'\\x41\\102'",
        "$'a\\nb'",
        "$'\\e'",
        "$'\\u0041'",
        "$\"a b\"",
        "{a,b}",
        "a{b,c}d",
        "{a,b}{c,d}",
        "{a,{b,c}}",
        "{1..3}",
        "{c..a}",
        "{a..c}",
        "{a}",
        "{}",
        "a{b",
        "{a,b",
        "a}b",
        "{a,b}}",
        "{{a,b}}",
        "{,a}",
        "x{,y}z",
        "{\"a b\",c}",
        "{$x,b}",
        "{3..1}",
        "\\{a,b}",
        "'{a,b}'",
        "{a\\,b,c}",
    ]);
    let [bare, escaped, variable, only_bash] =
        [bare, escaped, variable, only_bash].map(|pieces| pieces.prop_map(str::to_owned));
    let piece = match bash {
        true => prop_oneof![bare, single, double, escaped, variable, only_bash].boxed(),
        false => prop_oneof![bare, single, double, escaped, variable].boxed(),
    };
    prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

fn line(bash: bool) -> impl Strategy<Value = String> {
    let values = prop::sample::select(vec![
        "a", "'a b'", "' a '", "'a  b'", "\"c\"d", "-x", "'a;b'", "'$y'",
    ]);
    let gap = prop::sample::select(vec![" ", "  ", "\t", " \\\n"]);
    (
        values.clone(),
        values,
        prop::collection::vec((gap, word(bash)), 0..5),
        prop::sample::select(vec!["", " # '", ";", "\n"]),
    )
        .prop_map(|(x, y, words, end)| {
            let words: String = words
                .into_iter()
                .map(|(gap, word)| format!("{gap}{word}"))
                .collect();
            format!("x={x}; y={y}; e=; s=' '; printf '%s\\0'{words}{end}")
        })
}

fn agree(shell: &str, bash: bool) {
    let folder = tempfile::tempdir().unwrap();
    let compared = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1_000));
    let outcome = runner.run(&line(bash), |text| {
        // To dash these are a dollar and a quote.
        let own = !bash && (text.contains("$'") || text.contains("$\""));
        if let Some(ours) = found(&text).filter(|_| !own) {
            // printf without arguments prints the format once.
            let ours = if ours.is_empty() {
                vec![String::new()]
            } else {
                ours
            };
            if let Some(theirs) = passed(shell, folder.path(), &text) {
                prop_assert_eq!(ours, theirs, "{}", text);
                compared.set(compared.get() + 1);
            } else {
                prop_assert!(false, "{shell} does not take {text:?}");
            }
        }
        Ok(())
    });
    outcome.unwrap();
    // Most are certain, or the test would show little.
    assert!(compared.get() > 500, "{}", compared.get());
}

#[test]
fn bash_passes_what_we_say() {
    agree("bash", true);
}

#[test]
fn dash_passes_what_we_say() {
    agree("dash", false);
}
