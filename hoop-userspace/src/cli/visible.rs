//! What agents and servers have named, as it may stand on a terminal and in what is pasted from there.

/// The text with what is no letter to see written out, so that it neither moves the cursor, nor ends a
/// line or a comment, nor looks like another.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_hidden(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// What is no letter to see: it moves, ends or turns round the line, or shows nothing.
pub fn is_hidden(c: char) -> bool {
    let format = matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
    );
    c.is_control() || format
}
