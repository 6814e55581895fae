//! What a terminal was sent, as lines that can be read without one.

use super::text::visible;

/// Columns of a line; what goes beyond begins another.
const COLUMNS: usize = 4096;
/// Spaces that moving the cursor may come to, of all lines together.
const MOVED: usize = 64 << 10;

/// The text alone: no colours, no titles; a line that is written over as it was last, whatever was
/// placed elsewhere on the screen as a line of its own. Not longer than some `most` bytes; whether
/// that was all.
pub fn plain(text: &str, most: usize) -> (String, bool) {
    let mut paper = Paper::default();
    let mut state = State::Text;
    for c in text.chars() {
        if paper.text.len() > most {
            return (visible(&paper.text), false);
        }
        state = match (state, c) {
            (State::Told, '\u{7}' | '\u{18}' | '\u{1a}') => State::Text,
            (State::Told, c) if c != '\u{1b}' => State::Told,
            (_, '\u{1b}') => State::Escape,
            (State::Escape, '[') => State::Sequence(0, true),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::Told,
            (State::Escape, ' '..='/') => State::Escape,
            (State::Escape, 'D' | 'E' | 'c') => {
                paper.end();
                State::Text
            }
            (State::Escape, _) => State::Text,
            (State::Sequence(number, true), '0'..='9') => {
                let digit = c.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
                let number = number * 10 + digit.unwrap_or(0);
                State::Sequence(number.min(COLUMNS), true)
            }
            (State::Sequence(number, _), ' '..='?') => State::Sequence(number, false),
            (State::Sequence(number, _), '@'..='~') => {
                paper.run(c, number);
                State::Text
            }
            (_, c) => {
                paper.put(c);
                State::Text
            }
        };
    }
    let whole = paper.text.len() <= most;
    paper.last();
    (visible(&paper.text), whole)
}

#[derive(Clone, Copy)]
enum State {
    Text,
    Escape,
    /// Its first number, and whether that may go on.
    Sequence(usize, bool),
    /// What is told to the terminal and not shown: titles, links.
    Told,
}

#[derive(Default)]
struct Paper {
    text: String,
    line: Vec<char>,
    at: usize,
    moved: usize,
}

impl Paper {
    fn put(&mut self, c: char) {
        match c {
            '\n' | '\u{b}' | '\u{c}' => self.end(),
            '\r' => self.at = 0,
            '\u{8}' => self.at = self.at.saturating_sub(1),
            '\t' => self.forward(8 - self.at % 8),
            c if c.is_control() => {}
            c => {
                if self.at >= COLUMNS {
                    self.end();
                }
                while self.line.len() < self.at {
                    self.line.push(' ');
                }
                match self.line.get_mut(self.at) {
                    Some(place) => *place = c,
                    None => self.line.push(c),
                }
                self.at += 1;
            }
        }
    }

    fn forward(&mut self, columns: usize) {
        let columns = columns.min(MOVED.saturating_sub(self.moved)).max(1);
        self.moved += columns;
        self.at = (self.at + columns).min(COLUMNS);
    }

    fn run(&mut self, last: char, number: usize) {
        let count = number.max(1);
        match last {
            'C' | 'a' => self.forward(count),
            'D' => self.at = self.at.saturating_sub(count),
            'G' | '`' if count <= self.at => self.at = count - 1,
            'G' | '`' => self.forward(count - 1 - self.at),
            'J' | 'K' if number == 0 => self.line.truncate(self.at),
            'K' if number == 2 => self.line.clear(),
            'P' => {
                let end = (self.at + count).min(self.line.len());
                self.line.drain(self.at.min(end)..end);
            }
            '@' => {
                let count = count.min(COLUMNS.saturating_sub(self.line.len()));
                let count = count.min(MOVED.saturating_sub(self.moved));
                let at = self.at.min(self.line.len());
                self.line.splice(at..at, std::iter::repeat_n(' ', count));
                self.moved += count;
            }
            // Elsewhere on the screen.
            'A' | 'B' | 'E' | 'F' | 'H' | 'J' | 'd' | 'f' if !self.line.is_empty() => self.end(),
            _ => {}
        }
    }

    fn end(&mut self) {
        self.last();
        self.text.push('\n');
    }

    fn last(&mut self) {
        let line: String = self.line.drain(..).collect();
        self.text.push_str(line.trim_end());
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_can_be_read() {
        for (sent, read) in [
            ("one\r\ntwo\n", "one\ntwo\n"),
            (
                "\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}text",
                "red text",
            ),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("50%\r100%\r\n", "100%\n"),
            ("lx\u{8}s -l\u{8}\u{8}\u{1b}[K", "ls"),
            ("abc\u{1b}[2D\u{1b}[PX", "aX"),
            ("a\tb", "a       b"),
            ("top\u{1b}[10;1Hbottom", "top\nbottom"),
            ("\u{1b}[?2004h$ \u{1b}(Bls", "$ ls"),
            ("hidden\u{202e}\u{7}\u{0}", "hidden\\u{202e}"),
        ] {
            assert_eq!(plain(sent, 1000), (read.to_owned(), true), "{sent:?}");
        }
    }

    #[test]
    fn little_makes_no_much() {
        let (text, _) = plain(&"\u{1b}[4000Cx\n\u{1b}[4000@y\r".repeat(10_000), 1 << 20);
        assert!(text.len() < 3 << 20, "{}", text.len());
        let (text, whole) = plain(&"0123456789\n".repeat(100), 100);
        assert!(!whole && text.len() < 200);
    }
}
