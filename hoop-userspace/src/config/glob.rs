//! Wildcards of cgroup patterns, one level of the path at a time: `*` any characters, `?` one.
//! Nothing else is special, so that systemd's escapes (`\x2d`) stand for themselves.

/// Whether the whole of `text`, which holds no slash, fits `pattern`.
/// Time is bounded by the product of the lengths, whatever the pattern.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last star has to swallow one more character.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits() {
        for (pattern, text) in [
            ("billing-bot*.service", "billing-bot@7.service"),
            ("billing-bot*.service", "billing-bot.service"),
            ("a\\x2db", "a\\x2db"),
            ("*", "x"),
            ("a*b*c", "aXbYbZc"),
            ("?", "ü"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a*b", "ac"), ("?", ""), ("", "a")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_fits_itself(text in "[a-z.@\\\\-]{0,12}") {
            prop_assert!(matches(&text, &text));
            let starred = format!("*{text}*");
            prop_assert!(matches(&starred, &text));
        }
    }
}
