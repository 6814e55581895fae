//! scp's old protocol within a session.
//!
//! Files that are sent to the server are decided one by one as they are announced: only then is it
//! known what they are called. Files that the server sends were named by the command, and were
//! decided with it. What went through each is told when it is complete.
//!
//! What the client sends next depends on what the server answered: behind a file that the server
//! does not take there is no content, but another record. So nothing goes to the server before it
//! has answered what it was sent last, and each answer counts as the server meant it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::{SmallVec, smallvec};

use super::flow::Flow;
use super::paths::place;
use crate::decide::Refusal;
use crate::ids::ExchangeId;
use crate::terminate::{
    Asked, Bulk, Event, FileAction, FilesAsked, Request, SshAsked, Transfer, Transferred,
    Undecidable, Unit,
};
use crate::wire::ssh::Malformed;
use crate::wire::ssh::channel::Message;
use crate::wire::ssh::scp::{Command, Record, Sender};

/// Folders within folders.
const MAX_DEPTH: usize = 256;
/// While more than this of the client's waits here, nothing is taken from it.
const WAITING: usize = 1 << 20;

pub(super) enum Scp {
    /// The server sends.
    Source(Box<Source>),
    /// The client sends.
    Sink(Box<Sink>),
}

pub(super) struct Source {
    /// What was asked for, where that is one file.
    path: Option<Arc<str>>,
    exchange: ExchangeId,
    sender: Sender,
    input: BytesMut,
    /// It says what is no record; nothing is told of what follows.
    lost: bool,
    open: Option<(Arc<str>, Flow)>,
}

pub(super) struct Sink {
    target: String,
    /// The target is a folder for certain.
    folder: bool,
    /// Folders that were entered.
    within: Vec<String>,
    sender: Sender,
    input: BytesMut,
    deciding: bool,
    /// The record that is being decided.
    asked: Option<Announced>,
    /// What the server has yet to answer.
    awaits: Option<Awaited>,
    /// It is in the middle of an answer's text.
    in_text: bool,
    /// Content of what is permitted belongs to this.
    granted: ExchangeId,
    open: Option<(Arc<str>, Flow)>,
    ended: bool,
    end_said: bool,
}

struct Announced {
    name: String,
    path: Arc<str>,
    folder: bool,
}

/// What the server answers with a zero, or with a text about what went wrong.
enum Awaited {
    /// That it was started.
    Start,
    /// A file or a folder, which it may not take.
    Record(Announced),
    /// Times, the end of a folder or of a file's content.
    Other,
}

impl Scp {
    pub fn of(command: &Command<'_>, exchange: ExchangeId) -> Self {
        match command {
            Command::Source(paths) => Self::Source(Box::new(Source {
                path: match &**paths {
                    [path] => Some(place(None, path).into()),
                    _ => None,
                },
                exchange,
                sender: Sender::default(),
                input: BytesMut::new(),
                lost: false,
                open: None,
            })),
            Command::Sink { path, folder } => Self::Sink(Box::new(Sink {
                target: place(None, path),
                folder: *folder,
                within: Vec::new(),
                sender: Sender::default(),
                input: BytesMut::new(),
                deciding: false,
                asked: None,
                awaits: Some(Awaited::Start),
                in_text: false,
                granted: exchange,
                open: None,
                ended: false,
                end_said: false,
            })),
        }
    }
}

impl Source {
    /// Takes note of what the server sends.
    pub fn take_from_server(&mut self, bytes: &[u8], events: &mut VecDeque<Event>) {
        if self.lost {
            return;
        }
        self.input.extend_from_slice(bytes);
        loop {
            match self.sender.take(&mut self.input) {
                Ok(Some(record)) => self.record(record, events),
                Ok(None) => return,
                Err(_) => {
                    self.lost = true;
                    self.input = BytesMut::new();
                    return;
                }
            }
        }
    }

    fn record(&mut self, record: Record, events: &mut VecDeque<Event>) {
        match record {
            Record::File { name, .. } => {
                let name = || String::from_utf8_lossy(&name).into_owned().into();
                let path = self.path.clone().unwrap_or_else(name);
                self.open = Some((path, Flow::default()));
            }
            Record::Content(content) => {
                if let Some((_, flow)) = &mut self.open {
                    flow.more(&content);
                }
            }
            Record::Complete { line } => self.end(line.first() == Some(&0), events),
            _ => {}
        }
    }

    pub fn end(&mut self, whole: bool, events: &mut VecDeque<Event>) {
        let exchange = self.exchange;
        if let Some((path, read)) = told(&mut self.open, whole) {
            events.push_back(Event::Transferred(Transfer {
                exchange,
                path,
                read,
                written: Transferred::default(),
            }));
        }
    }
}

fn told(open: &mut Option<(Arc<str>, Flow)>, whole: bool) -> Option<(Arc<str>, Transferred)> {
    let (path, mut flow) = open.take()?;
    if !whole {
        flow.broken();
    }
    Some((path, flow.end()))
}

impl Sink {
    pub fn take_from_client(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Takes note of what the server answers.
    pub fn take_from_server(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        for byte in bytes {
            match (self.in_text, byte) {
                (true, b'\n') => self.in_text = false,
                (true, _) => {}
                (false, 0) => self.answered()?,
                // As OpenSSH's client does, whatever else it is counts as a text.
                (false, first) => {
                    self.in_text = *first != b'\n';
                    self.objected();
                }
            }
        }
        Ok(())
    }

    fn answered(&mut self) -> Result<(), Malformed> {
        match self.awaits.take() {
            // It took something for a record that hoop did not: nobody knows what comes next.
            None => return Err(Malformed::Unknown(0)),
            Some(Awaited::Record(announced)) if announced.folder => {
                self.within.push(announced.name);
            }
            Some(Awaited::Record(announced)) => {
                self.open = Some((announced.path, Flow::default()));
            }
            Some(Awaited::Start | Awaited::Other) => {}
        }
        Ok(())
    }

    fn objected(&mut self) {
        match self.awaits.take() {
            // What a login's files print comes before scp says that it was started.
            Some(Awaited::Start) => self.awaits = Some(Awaited::Start),
            // It did not begin: what the client sends next is no content of it.
            Some(Awaited::Record(_)) => self.sender.skip(),
            // Of the end of a file it may have several things to say.
            Some(Awaited::Other) | None => {}
        }
    }

    pub fn end_of_input(&mut self) {
        self.ended = true;
    }

    pub fn is_busy(&self) -> bool {
        self.deciding || self.input.len() >= WAITING
    }

    /// Records of the client's in their order, until one has to be decided or answered.
    pub fn requests(
        &mut self,
        last: &mut ExchangeId,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Malformed> {
        let mut bulk = BytesMut::new();
        while !self.deciding && self.awaits.is_none() {
            let Some(record) = self.sender.take(&mut self.input)? else {
                break;
            };
            match record {
                Record::File { line, name, .. } => {
                    self.flush(&mut bulk, events);
                    self.announced(line, &name, false, last, events);
                }
                Record::Folder { line, name } => {
                    self.flush(&mut bulk, events);
                    self.announced(line, &name, true, last, events);
                }
                Record::Leave { line } => {
                    self.within.pop();
                    self.awaits = Some(Awaited::Other);
                    Message::Input(line).put(&mut bulk);
                }
                Record::Content(content) => {
                    if let Some((_, flow)) = &mut self.open {
                        flow.more(&content);
                    }
                    Message::Input(content).put(&mut bulk);
                }
                Record::Complete { line } => {
                    let whole = line.first() == Some(&0);
                    self.awaits = Some(Awaited::Other);
                    Message::Input(line).put(&mut bulk);
                    self.flush(&mut bulk, events);
                    self.complete(whole, events);
                }
                Record::Other { line } => {
                    // A text about what went wrong at the client is not answered.
                    if line.first() == Some(&b'T') {
                        self.awaits = Some(Awaited::Other);
                    }
                    Message::Input(line).put(&mut bulk);
                }
            }
        }
        if self.ended && !self.end_said && !self.deciding && self.awaits.is_none() {
            self.end_said = true;
            // A record that is not complete is none.
            Message::InputEnd.put(&mut bulk);
        }
        self.flush(&mut bulk, events);
        Ok(())
    }

    /// The last of the records of which nothing more comes.
    pub fn over(&self) -> ExchangeId {
        ExchangeId(self.granted.0.saturating_sub(1))
    }

    /// A file is complete, or the channel has ended before it was.
    pub fn complete(&mut self, whole: bool, events: &mut VecDeque<Event>) {
        let exchange = self.granted;
        if let Some((path, written)) = told(&mut self.open, whole) {
            events.push_back(Event::Transferred(Transfer {
                exchange,
                path,
                read: Transferred::default(),
                written,
            }));
        }
    }

    fn flush(&self, bulk: &mut BytesMut, events: &mut VecDeque<Event>) {
        if !bulk.is_empty() {
            let wire = bulk.split().freeze();
            let end = self.end_said;
            events.push_back(Event::Bulk(self.granted, Bulk { wire, end }));
        }
    }

    fn announced(
        &mut self,
        line: Bytes,
        name: &[u8],
        folder: bool,
        last: &mut ExchangeId,
        events: &mut VecDeque<Event>,
    ) {
        let shown = String::from_utf8_lossy(name);
        let paths = self.paths(&shown);
        self.asked = Some(Announced {
            path: paths.first().cloned().unwrap_or_default(),
            name: shown.into_owned(),
            folder,
        });
        let asked = match std::str::from_utf8(name) {
            Ok(_) if self.within.len() < MAX_DEPTH => {
                let action = match folder {
                    true => FileAction::MakeFolder,
                    false => FileAction::Write,
                };
                Asked::Ssh(SshAsked::Files(FilesAsked { action, paths }))
            }
            Ok(_) => Asked::Undecidable(Undecidable::UnknownOperation(
                "a folder so deep within folders".into(),
            )),
            Err(_) => Asked::Undecidable(Undecidable::NotUtf8),
        };
        self.deciding = true;
        *last = ExchangeId(last.0 + 1);
        let wire = Message::Input(line).to_bytes();
        let end = wire.len();
        events.push_back(Event::Request(Request {
            exchange: *last,
            wire,
            units: smallvec![Unit { end, asked }],
        }));
    }

    /// Where it may come to lie. A target that is no folder yet becomes the file, or the first
    /// folder, itself; only the server knows. Each place must be permitted.
    fn paths(&self, name: &str) -> SmallVec<[Arc<str>; 2]> {
        let within: Vec<&str> = self.within.iter().map(String::as_str).collect();
        let path = |folders: &[&str]| -> Arc<str> {
            let mut path = self.target.trim_end_matches('/').to_owned();
            for part in folders.iter().chain([&name]) {
                path.push('/');
                path.push_str(part);
            }
            path.into()
        };
        let mut paths = smallvec![path(&within)];
        if !self.folder {
            match within.split_first() {
                Some((_, rest)) => paths.push(path(rest)),
                None => paths.push(self.target.as_str().into()),
            }
        }
        paths
    }

    /// The record that was asked about goes to the server, which has the last word on it.
    pub fn permitted(&mut self, exchange: ExchangeId) {
        self.deciding = false;
        self.granted = exchange;
        self.awaits = Some(match self.asked.take() {
            Some(announced) => Awaited::Record(announced),
            None => Awaited::Other,
        });
    }

    /// Answers the record that was refused as a receiver does that cannot write the file: the sender
    /// goes on with the next.
    pub fn refused(&mut self, refusal: &Refusal) -> Bytes {
        self.deciding = false;
        self.asked = None;
        self.sender.skip();
        let words: String = format!("{}: {}", refusal.message, refusal.hint)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        Bytes::from(format!("\x01scp: hoop: {words}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ssh::scp::command;

    fn sink(text: &str) -> Sink {
        match Scp::of(&command(text).unwrap(), ExchangeId(1)) {
            Scp::Sink(sink) => *sink,
            Scp::Source(_) => panic!("{text} sends"),
        }
    }

    fn asked(events: &mut VecDeque<Event>) -> Vec<String> {
        let Some(Event::Request(request)) = events.pop_back() else {
            panic!("nothing is asked: {events:?}");
        };
        match &request.units[0].asked {
            Asked::Ssh(SshAsked::Files(files)) => {
                files.paths.iter().map(|path| path.to_string()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_file_is_decided_where_it_may_come_to_lie() {
        let mut scp = sink("scp -r -t /srv/up");
        let (mut last, mut events) = (ExchangeId(1), VecDeque::new());
        scp.take_from_client(b"D0755 0 d\nC0644 2 a\nhi\0E\nC0644 1 b\nx\0");
        scp.requests(&mut last, &mut events).unwrap();
        assert!(events.is_empty(), "the server was not heard of yet");
        scp.take_from_server(b"\0").unwrap();
        scp.requests(&mut last, &mut events).unwrap();
        assert_eq!(asked(&mut events), ["/srv/up/d", "/srv/up"]);
        scp.permitted(last);
        scp.take_from_server(b"\0").unwrap();
        scp.requests(&mut last, &mut events).unwrap();
        assert_eq!(asked(&mut events), ["/srv/up/d/a", "/srv/up/a"]);
        scp.permitted(last);
        // The file, its content, the end of the folder.
        for _ in 0..3 {
            scp.take_from_server(b"\0").unwrap();
            scp.requests(&mut last, &mut events).unwrap();
        }
        assert_eq!(asked(&mut events), ["/srv/up/b", "/srv/up"]);
        let transfer = events.iter().find_map(|e| match e {
            Event::Transferred(transfer) => Some(transfer),
            _ => None,
        });
        let transfer = transfer.unwrap();
        assert_eq!(
            (&*transfer.path, transfer.written.bytes),
            ("/srv/up/d/a", 2)
        );
        assert!(transfer.written.digest.is_some());
    }

    #[test]
    fn what_is_refused_is_skipped_and_the_rest_goes_on() {
        let mut scp = sink("scp -d -t up");
        let (mut last, mut events) = (ExchangeId(1), VecDeque::new());
        scp.take_from_server(b"\0").unwrap();
        scp.take_from_client(b"C0644 5 a\n");
        scp.requests(&mut last, &mut events).unwrap();
        assert_eq!(asked(&mut events), ["~/up/a"]);
        scp.deciding = false;
        scp.sender.skip();
        scp.take_from_client(b"C0644 1 b\n");
        scp.requests(&mut last, &mut events).unwrap();
        assert_eq!(asked(&mut events), ["~/up/b"]);
        assert_eq!(last, ExchangeId(3));
    }
    #[test]
    fn behind_what_the_server_does_not_take_there_is_no_content() {
        let mut scp = sink("scp -r -t /srv/up");
        let (mut last, mut events) = (ExchangeId(1), VecDeque::new());
        // What would be content of `a` is a record to a server that refuses it.
        scp.take_from_client(b"C0644 24 a\nC0600 9 authorized_keys\n");
        scp.take_from_server(b"motd\n\0").unwrap();
        scp.requests(&mut last, &mut events).unwrap();
        assert_eq!(asked(&mut events), ["/srv/up/a", "/srv/up"]);
        scp.permitted(last);
        scp.requests(&mut last, &mut events).unwrap();
        assert!(events.is_empty(), "{events:?}");
        scp.take_from_server(b"\x01scp: /srv/up/a: Is a").unwrap();
        scp.take_from_server(b" directory\n").unwrap();
        scp.requests(&mut last, &mut events).unwrap();
        assert_eq!(asked(&mut events)[0], "/srv/up/authorized_keys");
        // A folder that was not made is not entered.
        let mut scp = sink("scp -r -t /srv/up");
        scp.take_from_client(b"D0755 0 d\nC0644 1 x\n");
        scp.take_from_server(b"\0").unwrap();
        scp.requests(&mut last, &mut events).unwrap();
        scp.permitted(last);
        scp.take_from_server(b"\x01no\n").unwrap();
        scp.requests(&mut last, &mut events).unwrap();
        assert_eq!(asked(&mut events)[0], "/srv/up/x");
        assert!(sink("scp -t x").take_from_server(b"\0\0").is_err());
    }
}
