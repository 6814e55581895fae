//! What agents and people wrote, as it may be shown.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Text in which nothing hides: what turns the direction of writing, shows nothing or moves a
/// cursor is spelled out. Lines and tabs stay.
pub fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        '\r' => "\n".to_owned(),
        '\u{ad}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => c.escape_unicode().to_string(),
        c if c.is_control() => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.replace("\r\n", "\n").chars().map(shown).collect()
}

/// At most so many characters.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A time for people: UTC, to the second.
pub fn clock(time: OffsetDateTime) -> String {
    let form =
        time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    time.to_offset(time::UtcOffset::UTC)
        .format(form)
        .unwrap_or_default()
}

/// The same of RFC 3339; as it is where it is none.
pub fn clock_of(text: &str) -> String {
    OffsetDateTime::parse(text, &Rfc3339).map_or_else(|_| text.to_owned(), clock)
}

/// How long ago something was that has happened. By a clock that is a moment behind, it is now.
pub fn ago(text: &str, now: OffsetDateTime) -> String {
    let then = OffsetDateTime::parse(text, &Rfc3339);
    distance(text, then.map_or(now, |then| now.max(then)))
}

/// How long until then, or since: `in 4 min`, `now`, `3 h ago`.
pub fn distance(text: &str, now: OffsetDateTime) -> String {
    let Ok(then) = OffsetDateTime::parse(text, &Rfc3339) else {
        return String::new();
    };
    let seconds = (then - now).whole_seconds();
    if seconds == 0 {
        return "now".to_owned();
    }
    let span = match seconds.unsigned_abs() {
        s @ 0..=89 => format!("{s} s"),
        s @ 90..=5399 => format!("{} min", (s + 30) / 60),
        s @ 5400..=129_599 => format!("{} h", (s + 1800) / 3600),
        s => format!("{} days", s / 86_400),
    };
    match seconds > 0 {
        true => format!("in {span}"),
        false => format!("{span} ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn nothing_hides_in_a_statement() {
        let text = "DELETE\u{202e}\u{200b}\u{e0041}\u{1b}[2K\r\nFROM\tt\u{0}";
        let shown = visible(text);
        let sane = |c: char| !c.is_control() || c == '\n' || c == '\t';
        assert!(shown.chars().all(sane), "{shown:?}");
        assert!(
            shown.contains("\\u{202e}\\u{200b}\\u{e0041}\\u{1b}[2K\nFROM\tt"),
            "{shown:?}"
        );
    }

    #[test]
    fn distances_are_said_in_the_unit_that_fits() {
        let now = datetime!(2026-11-27 12:00 UTC);
        for (then, said) in [
            ("2026-11-27T12:00:30Z", "in 30 s"),
            ("2026-11-27T12:00:00Z", "now"),
            ("2026-11-27T12:10:00Z", "in 10 min"),
            ("2026-11-27T09:00:00Z", "3 h ago"),
            ("2026-11-20T12:00:00Z", "7 days ago"),
            ("never", ""),
        ] {
            assert_eq!(distance(then, now), said);
        }
        assert_eq!(ago("2026-11-27T12:00:01Z", now), "now");
        assert_eq!(ago("2026-11-27T11:59:20Z", now), "40 s ago");
        assert_eq!(ago("never", now), "");
        assert_eq!(cut("ädä", 2), "äd…");
        assert_eq!(clock_of("2026-11-27T12:00:30Z"), "2026-11-27 12:00:30 UTC");
    }
}
