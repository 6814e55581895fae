//! What holds of every text.

use proptest::prelude::*;

use super::*;

/// Pieces that shells give a meaning to.
fn shellish() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "ls", "rm", "sh", "sudo", "eval", "find", "xargs", "x=", "$x", "${", "}", "$(", ")", "(",
        "`", "'", "\"", "\\", "\n", " ", "\t", ";", "&", "|", "<", ">", "<<", "<<<", "EOF", "{",
        ",", "*", "?", "[", "]", "~", "/", "-c", "-exec", "{}", "if", "then", "fi", "for", "in",
        "do", "done", "case", "esac", "function", "[[", "]]", "((", "))", "$'", "$\"", "#", "!",
        "=", "1", "a", "é", "\u{a0}", "-", "--", "@", ":-", "%",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// An argument and one way to write it.
fn argument() -> impl Strategy<Value = (String, String)> {
    let text = "[ a-zA-Z0-9_./:=,@%+*?$\"'\\\\~#&|;<>(){}\\[\\]-]{0,8}";
    (text, 0..4_usize).prop_map(|(text, style)| {
        let escaped = |c: char| match c.is_ascii_alphanumeric() {
            true => c.to_string(),
            false => format!("\\{c}"),
        };
        let written = match style {
            0 => format!("'{}'", text.replace('\'', "'\\''")),
            1 => {
                let inside: String = text
                    .chars()
                    .map(|c| {
                        if "$`\"\\".contains(c) {
                            format!("\\{c}")
                        } else {
                            c.to_string()
                        }
                    })
                    .collect();
                format!("\"{inside}\"")
            }
            2 if !text.is_empty() => text.chars().map(escaped).collect(),
            _ => {
                let inside: String = text.bytes().map(|b| format!("\\x{b:02x}")).collect();
                format!("$'{inside}'")
            }
        };
        (text, written)
    })
}

proptest! {
    #[test]
    fn any_text_ends_in_facts(text in ".{0,200}") {
        facts(&text);
    }

    #[test]
    fn any_shellish_text_ends_in_facts(text in shellish()) {
        let found = facts(&text);
        prop_assert_eq!(found.opaque, found.has(ShellFlag::Opaque));
        prop_assert!(found.unparsable.is_none() || found.opaque);
    }

    /// However an argument is written, it is the same one; and what stands around the command
    /// changes nothing.
    #[test]
    fn writing_does_not_matter(
        arguments in prop::collection::vec(argument(), 0..5),
        name in prop::sample::select(vec!["echo", "cat", "rm", "ls", "grep", "nosuch"]),
        quoted in any::<bool>(),
        gap in prop::sample::select(vec![" ", "\t", "  ", " \\\n "]),
        after in prop::sample::select(vec!["", " ", " # rm x", ";", "\n", " ;\n# x"]),
    ) {
        let plain: Vec<String> = arguments
            .iter()
            .map(|(text, _)| format!("'{}'", text.replace('\'', "'\\''")))
            .collect();
        let plain = facts(&format!("{name} {}", plain.join(" ")));
        let written: Vec<_> = arguments.iter().map(|(_, written)| written.as_str()).collect();
        let name = if quoted { format!("'{name}'") } else { name.to_owned() };
        let text = format!("{gap}{name}{gap}{}{after}", written.join(gap));
        prop_assert_eq!(facts(&text), plain, "{}", text);
    }

    /// What follows is found as it is found alone, wherever nothing before it changes anything.
    #[test]
    fn a_command_is_found_anywhere(
        before in prop::sample::select(vec!["ls; ", "ls | ", "ls && ", "true || ", "( ", "{ ls; }; ", "if ls; then ", "x=$("]),
    ) {
        let after = match before {
            "( " | "x=$(" => " )",
            "if ls; then " => "; fi",
            _ => "",
        };
        let found = facts(&format!("{before}rm -rf /srv/x{after}"));
        prop_assert_eq!(found.deletes, ["/srv/x/**"]);
    }
}
