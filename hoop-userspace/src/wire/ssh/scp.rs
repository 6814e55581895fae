//! scp's old protocol, which no document describes: records between two programs, and the command
//! line that starts the one at the server.
//!
//! Whoever sends files says `C0644 SIZE NAME` and then the content and a zero, `D0755 0 NAME` for a
//! folder and `E` for its end, `T…` for times, and a byte 1 or 2 with a text for what went wrong.
//! Whoever receives answers each with a zero, or with such a text.

use bytes::{Bytes, BytesMut};

use super::Malformed;

/// A record's line is no longer: a mode, a size and a name. Receivers read lines into 2,048 bytes, and
/// what stands behind those as the next record.
pub const MAX_LINE: usize = 1 << 10;
/// Content that is handed on at once.
const PIECE: usize = 256 << 10;

/// What the sender says next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// `C`: a file, whose content follows.
    File { line: Bytes, name: Bytes, size: u64 },
    /// `D`: a folder; what follows lies in it, up to its [`Record::Leave`].
    Folder { line: Bytes, name: Bytes },
    /// `E`.
    Leave { line: Bytes },
    /// `T`, or a text about what went wrong.
    Other { line: Bytes },
    /// Content of the last file.
    Content(Bytes),
    /// What stands behind the content: a zero, or a text about what went wrong with it.
    Complete { line: Bytes },
}

/// Takes what a sender says apart.
#[derive(Debug, Default)]
pub struct Sender {
    state: Awaiting,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Awaiting {
    #[default]
    Record,
    Content(u64),
    Completion,
}

impl Sender {
    /// Takes the next record off the front; `None` if it is not complete yet.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Option<Record>, Malformed> {
        match self.state {
            Awaiting::Content(left) => Ok(self.content(left, input)),
            Awaiting::Completion => self.completion(input),
            Awaiting::Record => self.record(input),
        }
    }

    /// The receiver does not want the file that was announced: its content will not come.
    pub fn skip(&mut self) {
        self.state = Awaiting::Record;
    }

    fn content(&mut self, left: u64, input: &mut BytesMut) -> Option<Record> {
        if input.is_empty() {
            return None;
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
        let content = input.split_to(input.len().min(most)).freeze();
        self.awaits(left.saturating_sub(content.len() as u64));
        Some(Record::Content(content))
    }

    fn awaits(&mut self, content: u64) {
        self.state = match content {
            0 => Awaiting::Completion,
            left => Awaiting::Content(left),
        };
    }

    fn completion(&mut self, input: &mut BytesMut) -> Result<Option<Record>, Malformed> {
        let line = match input.first() {
            None => return Ok(None),
            Some(0) => input.split_to(1).freeze(),
            Some(1 | 2) => match line(input)? {
                Some(line) => line,
                None => return Ok(None),
            },
            Some(other) => return Err(Malformed::Unknown(*other)),
        };
        self.state = Awaiting::Record;
        Ok(Some(Record::Complete { line }))
    }

    fn record(&mut self, input: &mut BytesMut) -> Result<Option<Record>, Malformed> {
        match input.first() {
            None => return Ok(None),
            Some(b'C' | b'D' | b'E' | b'T' | 1 | 2) => {}
            Some(other) => return Err(Malformed::Unknown(*other)),
        }
        let Some(line) = line(input)? else {
            return Ok(None);
        };
        Ok(Some(match line.first() {
            Some(b'C') => {
                let (size, name) = named(&line)?;
                self.awaits(size);
                Record::File { line, name, size }
            }
            Some(b'D') => {
                let (_, name) = named(&line)?;
                Record::Folder { line, name }
            }
            Some(b'E') => Record::Leave { line },
            _ => Record::Other { line },
        }))
    }
}

fn line(input: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
    match memchr::memchr(b'\n', input) {
        Some(end) if end < MAX_LINE => Ok(Some(input.split_to(end + 1).freeze())),
        None if input.len() < MAX_LINE => Ok(None),
        _ => Err(Malformed::TooLarge(input.len())),
    }
}

/// `C0644 17 name\n`: four octal digits, a decimal number, and what is left. A name that is no name
/// in a folder is refused, as every receiver refuses it.
fn named(line: &Bytes) -> Result<(u64, Bytes), Malformed> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let mode = parts.next().unwrap_or_default();
    let size = parts.next().ok_or(Malformed::Short)?;
    let name = parts.next().ok_or(Malformed::Short)?;
    let octal = mode.get(1..).unwrap_or_default();
    if octal.len() != 4 || !octal.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return Err(Malformed::Short);
    }
    let digits = !size.is_empty() && size.iter().all(u8::is_ascii_digit);
    let size = std::str::from_utf8(size).ok().filter(|_| digits);
    let size = size.and_then(|size| size.parse().ok());
    let size = size.ok_or(Malformed::TooLarge(usize::MAX))?;
    let name = name.strip_suffix(b"\n").unwrap_or(name);
    if name.is_empty() || name.contains(&b'/') || name.contains(&0) || matches!(name, b"." | b"..")
    {
        return Err(Malformed::Trailing);
    }
    Ok((size, line.slice_ref(name)))
}

/// What `scp` was started for at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'c> {
    /// `scp -f PATH…`: sends these files.
    Source(Vec<&'c str>),
    /// `scp -t PATH`: receives into this file, or into this folder.
    Sink {
        path: &'c str,
        /// `-d`: it must be a folder.
        folder: bool,
    },
}

/// Reads the command line as clients write it. `None` for anything else: for what a shell would not
/// take literally, and for whole folders that are sent, whose files nobody has named.
pub fn command(text: &str) -> Option<Command<'_>> {
    let literal =
        |c: char| c.is_ascii_alphanumeric() || " /._-+,:@%=".contains(c) || c as u32 > 159;
    if !text
        .chars()
        .all(|c| literal(c) && !c.is_whitespace() || c == ' ')
    {
        return None;
    }
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    if words.next()? != "scp" {
        return None;
    }
    let (mut sends, mut recursive, mut folder) = (None, false, false);
    let mut paths = Vec::new();
    let mut options = true;
    for word in words {
        match word.strip_prefix('-').filter(|_| options) {
            Some("-") => options = false,
            Some(flags) if !flags.is_empty() => {
                for flag in flags.chars() {
                    match flag {
                        'f' | 't' if sends.is_none() => sends = Some(flag == 'f'),
                        'r' => recursive = true,
                        'd' => folder = true,
                        'p' | 'v' | 'q' => {}
                        _ => return None,
                    }
                }
            }
            _ => {
                options = false;
                paths.push(word);
            }
        }
    }
    match (sends?, &*paths) {
        (_, []) => None,
        (true, _) => (!recursive).then_some(Command::Source(paths)),
        (false, [path]) => Some(Command::Sink { path, folder }),
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<Record>, Malformed> {
        let (mut sender, mut input) = (Sender::default(), BytesMut::new());
        let mut found = Vec::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(record) = sender.take(&mut input)? {
                match (found.last_mut(), record) {
                    (Some(Record::Content(before)), Record::Content(more)) => {
                        *before = [&**before, &*more].concat().into();
                    }
                    (_, record) => found.push(record),
                }
            }
        }
        Ok(found)
    }

    const WHOLE: &[u8] = b"T1 0 2 0\nD0755 0 d\nC0644 5 a b\nhello\0C0600 0 e\n\0E\n\x01gone\n";

    fn expected() -> Vec<Record> {
        let line = Bytes::from_static;
        vec![
            Record::Other {
                line: line(b"T1 0 2 0\n"),
            },
            Record::Folder {
                line: line(b"D0755 0 d\n"),
                name: line(b"d"),
            },
            Record::File {
                line: line(b"C0644 5 a b\n"),
                name: line(b"a b"),
                size: 5,
            },
            Record::Content(line(b"hello")),
            Record::Complete { line: line(b"\0") },
            Record::File {
                line: line(b"C0600 0 e\n"),
                name: line(b"e"),
                size: 0,
            },
            Record::Complete { line: line(b"\0") },
            Record::Leave { line: line(b"E\n") },
            Record::Other {
                line: line(b"\x01gone\n"),
            },
        ]
    }

    #[test]
    fn records_come_whole_whatever_the_pieces() {
        assert_eq!(all(&[WHOLE]), Ok(expected()));
        let bytes: Vec<&[u8]> = WHOLE.chunks(1).collect();
        assert_eq!(all(&bytes), Ok(expected()));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bytes in [
            &b"X\n"[..],
            b"C0644 5 ../x\n",
            b"C0644 5 ..\n",
            b"C0644 5 \n",
            b"C0644 -5 x\n",
            b"C0644 5x x\n",
            b"C9644 5 x\n",
            b"C0644 99999999999999999999999 x\n",
            b"C0644 1 x\nab",
        ] {
            assert!(all(&[bytes]).is_err(), "{bytes:?}");
        }
        let long = [b"C0644 5 ", &[b'x'; MAX_LINE][..]].concat();
        assert!(all(&[&long]).is_err());
    }

    #[test]
    fn scps_other_half_is_told_from_commands() {
        assert_eq!(
            command("scp -f /etc/motd"),
            Some(Command::Source(vec!["/etc/motd"]))
        );
        let both = Some(Command::Source(vec!["a", "/c"]));
        assert_eq!(command("scp -p -f -- a /c"), both);
        let receive = |path, folder| Some(Command::Sink { path, folder });
        assert_eq!(command("scp -v -t -- upload"), receive("upload", false));
        assert_eq!(command("scp -r -d -t upload"), receive("upload", true));
        for text in [
            "scp a host:b",
            "scp -f",
            "scp -t -f x",
            "scp -t a b",
            "scp -r -f folder",
            "scp -S x -f y",
            "scp -f *",
            "scp -f x; id",
            "scp -f $(id)",
            "scp -f 'x'",
            "scp -f x\nid",
            "scp -f x\u{85}id",
            "scp -f x\u{3000}id",
            "/usr/bin/scp -f x",
            "rsync --server . x",
            "",
        ] {
            assert_eq!(command(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = all(&[&bytes]);
            let _ = command(&String::from_utf8_lossy(&bytes));
        }
    }
}
