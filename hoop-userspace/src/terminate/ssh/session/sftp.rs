//! SFTP within a session: packets become requests that are decided, and what belongs to them.
//!
//! Every request that names a file is decided. What is then done by its handle (reading, writing,
//! closing) belongs to the permission of the request that opened it, and passes as bulk. hoop asks
//! the server once where relative paths begin, so that a policy sees whole paths.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::{SmallVec, smallvec};

use super::flow::Flow;
use crate::decide::Refusal;
use crate::ids::ExchangeId;
use crate::terminate::{
    Asked, Bulk, Event, FileAction, FilesAsked, Part, PartKind, Replies, Request, SshAsked,
    Transfer, Undecidable, Unit,
};
use crate::wire::ssh::Malformed;
use crate::wire::ssh::channel::Message;
use crate::wire::ssh::sftp::{self, OpenMode, Reply};

/// The number of hoop's own request; clients count from 0.
const OWN: u32 = 0xffff_ff00;
/// Requests whose answers are awaited, and open files: OpenSSH's server allows fewer of both.
const MAX_OPEN: usize = 4096;
/// Content that goes to the server as one piece of bulk.
const PIECE: usize = 256 << 10;

pub(super) struct Sftp {
    /// Bytes of the client's and of the server's that are no whole packet yet.
    from_client: BytesMut,
    from_server: BytesMut,
    packets: VecDeque<Bytes>,
    home: Home,
    /// A request is with the loop.
    deciding: bool,
    asked: Option<u32>,
    ended: bool,
    end_said: bool,
    /// The last request that was permitted; what follows belongs to it.
    granted: ExchangeId,
    /// Those before it of which the loop knows that nothing follows.
    over: ExchangeId,
    /// Requests that were taken from the client and not answered yet: two of one number could not
    /// be told apart by their answers.
    numbers: HashSet<u32>,
    pending: HashMap<u32, Pending>,
    open: HashMap<Bytes, Open>,
    transfers: VecDeque<Transfer>,
}

/// Where relative paths begin.
#[derive(PartialEq, Eq)]
enum Home {
    /// The client has not greeted yet.
    Unasked,
    /// Asked with the client's greeting: nothing is decided before the server's answer.
    Asked,
    /// `None`: the server did not say, and relative paths stay as they are, below `~`.
    Known(Option<String>),
}

/// What the server's answer will be about.
enum Pending {
    Opening {
        path: Arc<str>,
        exchange: ExchangeId,
    },
    Reading {
        handle: Bytes,
        offset: u64,
    },
    Closing {
        handle: Bytes,
    },
}

struct Open {
    /// CLOSE was forwarded: the server may give the handle to another file before its answer comes.
    closing: bool,
    path: Arc<str>,
    exchange: ExchangeId,
    read: Flow,
    written: Flow,
}

impl Sftp {
    pub fn begun_by(exchange: ExchangeId) -> Self {
        Self {
            from_client: BytesMut::new(),
            from_server: BytesMut::new(),
            packets: VecDeque::new(),
            home: Home::Unasked,
            deciding: false,
            asked: None,
            ended: false,
            end_said: false,
            granted: exchange,
            over: ExchangeId(0),
            numbers: HashSet::new(),
            pending: HashMap::new(),
            open: HashMap::new(),
            transfers: VecDeque::new(),
        }
    }

    pub fn take_from_client(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.from_client.extend_from_slice(bytes);
        while let Some(packet) = sftp::split(&mut self.from_client)? {
            self.packets.push_back(packet);
        }
        Ok(())
    }

    pub fn take_from_server(&mut self, bytes: &[u8]) {
        self.from_server.extend_from_slice(bytes);
    }

    /// The channel is closed: what went through files that are still open is told now.
    pub fn end(&mut self, events: &mut VecDeque<Event>) {
        let open: Vec<Bytes> = self.open.keys().cloned().collect();
        open.iter().for_each(|handle| self.close(handle));
        events.extend(self.transfers.drain(..).map(Event::Transferred));
    }

    pub fn end_of_input(&mut self) {
        self.ended = true;
    }

    /// Whether more from the client would only wait here.
    pub fn is_busy(&self) -> bool {
        self.packets.len() > 64 || self.numbers.len() > MAX_OPEN
    }

    /// Packets of the client's in their order, until one has to be decided.
    pub fn requests(
        &mut self,
        last: &mut ExchangeId,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Malformed> {
        let mut bulk = BytesMut::new();
        while !self.deciding && self.home != Home::Asked {
            let Some(packet) = self.packets.pop_front() else {
                break;
            };
            let decoded = sftp::request(&packet)?;
            let greets = matches!(decoded.request, sftp::Request::Init { .. });
            if !greets && (decoded.id == OWN || !self.numbers.insert(decoded.id)) {
                return Err(Malformed::Repeated(decoded.id));
            }
            match self.asked(&decoded.request) {
                None => {
                    Message::SftpRequest(packet).put(&mut bulk);
                    if greets && self.home == Home::Unasked {
                        self.home = Home::Asked;
                        Message::SftpRequest(sftp::real_path(OWN, ".")).put(&mut bulk);
                    }
                    if bulk.len() >= PIECE {
                        self.flush(&mut bulk, events);
                    }
                }
                Some(asked) => {
                    self.flush(&mut bulk, events);
                    self.deciding = true;
                    self.asked = Some(decoded.id);
                    *last = ExchangeId(last.0 + 1);
                    let wire = Message::SftpRequest(packet).to_bytes();
                    let end = wire.len();
                    events.push_back(Event::Request(Request {
                        exchange: *last,
                        wire,
                        units: smallvec![Unit { end, asked }],
                    }));
                }
            }
        }
        if self.ended && !self.end_said && self.packets.is_empty() && !self.deciding {
            self.end_said = true;
            Message::InputEnd.put(&mut bulk);
        }
        self.flush(&mut bulk, events);
        Ok(())
    }

    fn flush(&self, bulk: &mut BytesMut, events: &mut VecDeque<Event>) {
        if !bulk.is_empty() {
            let wire = bulk.split().freeze();
            let end = self.end_said;
            events.push_back(Event::Bulk(self.granted, Bulk { wire, end }));
        }
    }

    /// What must be decided; `None` for what belongs to a decision that was made.
    fn asked(&self, request: &sftp::Request) -> Option<Asked> {
        use sftp::Request as R;
        match request {
            R::Init { .. } | R::Question => None,
            // Where the login begins every client asks, and hoop did before.
            R::RealPath { path } if self.is_home(path) => None,
            R::Close { handle }
            | R::Read { handle, .. }
            | R::Write { handle, .. }
            | R::ReadDir { handle }
            | R::Handle { handle } => self.opened(handle),
            R::CopyData { from, to } => self.opened(from).or_else(|| self.opened(to)),
            R::SetHandle { handle, .. } => match self.open.get(handle).filter(|open| !open.closing)
            {
                Some(open) => Some(Asked::Ssh(SshAsked::Files(FilesAsked {
                    action: FileAction::SetStat,
                    paths: smallvec![open.path.clone()],
                }))),
                None => self.opened(handle),
            },
            R::Open { .. } | R::OpenDir { .. } if self.open.len() >= MAX_OPEN => {
                let what = format!("the opening of more than {MAX_OPEN} files");
                Some(Asked::Undecidable(Undecidable::UnknownOperation(what)))
            }
            R::Open { .. }
            | R::OpenDir { .. }
            | R::Stat { .. }
            | R::RealPath { .. }
            | R::SetStat { .. }
            | R::Remove { .. }
            | R::MakeDir { .. }
            | R::RemoveDir { .. }
            | R::Rename { .. }
            | R::Link { .. } => Some(match named(request) {
                Some((action, paths)) => self.files(action, &paths),
                None => Asked::Undecidable(Undecidable::UnknownOperation("this".into())),
            }),
            R::Unknown { name } => {
                let what = format!("the SFTP extension {:?}", String::from_utf8_lossy(name));
                Some(Asked::Undecidable(Undecidable::UnknownOperation(what)))
            }
        }
    }

    fn is_home(&self, path: &Bytes) -> bool {
        match (&self.home, path.as_ref()) {
            (Home::Known(_), b"" | b"." | b"./") => true,
            (Home::Known(Some(home)), path) => path == home.as_bytes(),
            _ => false,
        }
    }

    fn opened(&self, handle: &Bytes) -> Option<Asked> {
        let unknown = || {
            let what = "an SFTP request for a file that is not open".to_owned();
            Asked::Undecidable(Undecidable::UnknownOperation(what))
        };
        let open = self.open.get(handle).filter(|open| !open.closing);
        open.is_none().then(unknown)
    }

    fn files(&self, action: FileAction, paths: &[&Bytes]) -> Asked {
        match &self.home {
            Home::Known(home) => placed(home.as_deref(), action, paths),
            _ => {
                let what = "an SFTP request before the greeting".to_owned();
                Asked::Undecidable(Undecidable::UnknownOperation(what))
            }
        }
    }

    /// The loop has decided the request that it was given.
    pub fn decided(&mut self) {
        self.deciding = false;
        self.asked = None;
    }

    /// Takes note of a packet that goes to the server.
    pub fn forwarded(&mut self, packet: &Bytes, exchange: ExchangeId) {
        self.granted = exchange;
        // It was decoded once already.
        let Ok(sftp::Packet { id, request }) = sftp::request(packet) else {
            return;
        };
        match request {
            sftp::Request::Open { path, .. } | sftp::Request::OpenDir { path } => {
                let path = String::from_utf8_lossy(&path);
                let path = match &self.home {
                    Home::Known(home) => place(home.as_deref(), &path),
                    _ => path.into_owned(),
                };
                let path = path.into();
                self.pending.insert(id, Pending::Opening { path, exchange });
            }
            sftp::Request::Read { handle, offset, .. } => {
                self.pending.insert(id, Pending::Reading { handle, offset });
            }
            sftp::Request::Write {
                handle,
                offset,
                data,
            } => {
                if let Some(open) = self.open.get_mut(&handle) {
                    open.written.take(offset, &data);
                }
            }
            // What the file holds then is not what was written, or not all of it.
            sftp::Request::CopyData { to, .. } => {
                if let Some(open) = self.open.get_mut(&to) {
                    open.written.broken();
                }
            }
            // OpenSSH's client sets the size behind what it has written, which leaves that whole.
            sftp::Request::SetHandle {
                handle,
                size: Some(size),
            } => {
                if let Some(open) = self.open.get_mut(&handle)
                    && open.written.bytes != size
                {
                    open.written.broken();
                }
            }
            sftp::Request::Close { handle } => {
                if let Some(open) = self.open.get_mut(&handle) {
                    open.closing = true;
                }
                self.pending.insert(id, Pending::Closing { handle });
            }
            _ => {}
        }
    }

    /// Answers the request that was refused.
    pub fn refused(&mut self, refusal: &Refusal) -> Bytes {
        let id = self.asked.take().unwrap_or_default();
        self.numbers.remove(&id);
        self.deciding = false;
        let text = format!("{}: {}", refusal.message, refusal.hint);
        sftp::status(id, sftp::PERMISSION_DENIED, &text)
    }

    /// The server's packets so far, as one batch of replies.
    pub fn replies(&mut self, events: &mut VecDeque<Event>) -> Result<(), Malformed> {
        let mut wire = BytesMut::new();
        let mut parts: Vec<Part> = Vec::new();
        while let Some(packet) = sftp::split(&mut self.from_server)? {
            let reply = sftp::reply(&packet)?;
            let Some(kind) = self.understood(&reply) else {
                continue;
            };
            Message::SftpReply(packet).put(&mut wire);
            let end = wire.len();
            match parts.last_mut() {
                Some(last) if same(&last.kind, &kind) => last.end = end,
                _ => parts.push(Part {
                    exchange: self.granted,
                    unit: 0,
                    end,
                    kind,
                }),
            }
        }
        if !parts.is_empty() {
            self.end_earlier(&mut parts, wire.len());
            let wire = wire.freeze();
            events.push_back(Event::Replies(Replies { wire, parts }));
        }
        events.extend(self.transfers.drain(..).map(Event::Transferred));
        Ok(())
    }

    /// Nothing more comes for the requests before the last that was permitted.
    fn end_earlier(&mut self, parts: &mut Vec<Part>, end: usize) {
        let earlier = ExchangeId(self.granted.0.saturating_sub(1));
        if earlier.0 > self.over.0 {
            self.over = earlier;
            parts.push(Part {
                exchange: earlier,
                unit: 0,
                end,
                kind: PartKind::Done,
            });
        }
    }

    /// Takes note of an answer; `None` for the one to hoop's own question.
    fn understood(&mut self, reply: &Reply) -> Option<PartKind> {
        let id = match reply {
            Reply::Version => return Some(PartKind::Control),
            Reply::Status { id, .. }
            | Reply::Handle { id, .. }
            | Reply::Data { id, .. }
            | Reply::Name { id, .. }
            | Reply::Attributes { id }
            | Reply::Extended { id } => *id,
        };
        if id == OWN && self.home == Home::Asked {
            let home = match reply {
                Reply::Name { first, .. } => first.clone(),
                _ => None,
            };
            let home = home.and_then(|h| String::from_utf8(h.to_vec()).ok());
            self.home = Home::Known(home.filter(|h| h.starts_with('/')));
            return None;
        }
        self.numbers.remove(&id);
        let pending = self.pending.remove(&id);
        if let Reply::Data { data, .. } = reply {
            // Whatever it answers: this is content.
            match pending {
                Some(Pending::Reading { handle, offset }) => {
                    if let Some(open) = self.open.get_mut(&handle) {
                        open.read.take(offset, data);
                    }
                }
                Some(Pending::Closing { handle }) => self.close(&handle),
                Some(Pending::Opening { .. }) | None => {}
            }
            return Some(PartKind::File);
        }
        match (pending, reply) {
            (Some(Pending::Opening { path, exchange }), Reply::Handle { handle, .. }) => {
                // A server that answers out of order gave it away before it said that it is free.
                self.close(handle);
                self.pending
                    .retain(|_, p| !matches!(p, Pending::Closing { handle: h } if h == handle));
                let open = Open {
                    closing: false,
                    path,
                    exchange,
                    read: Flow::default(),
                    written: Flow::default(),
                };
                self.open.insert(handle.clone(), open);
            }
            (Some(Pending::Closing { handle }), _) => self.close(&handle),
            _ => {}
        }
        Some(PartKind::Control)
    }

    fn close(&mut self, handle: &Bytes) {
        let Some(open) = self.open.remove(handle) else {
            return;
        };
        if open.read.bytes > 0 || open.written.bytes > 0 {
            self.transfers.push_back(Transfer {
                exchange: open.exchange,
                path: open.path,
                read: open.read.end(),
                written: open.written.end(),
            });
        }
    }
}

fn same(one: &PartKind, other: &PartKind) -> bool {
    matches!(
        (one, other),
        (PartKind::File, PartKind::File) | (PartKind::Control, PartKind::Control)
    )
}

/// What a request does to which paths; `None` where it names none.
pub(in crate::terminate::ssh) fn named(
    request: &sftp::Request,
) -> Option<(FileAction, SmallVec<[&Bytes; 2]>)> {
    use sftp::Request as R;
    Some(match request {
        R::Open { path, mode } => (open_action(*mode), smallvec![path]),
        R::OpenDir { path } => (FileAction::List, smallvec![path]),
        R::Stat { path } | R::RealPath { path } => (FileAction::Stat, smallvec![path]),
        R::SetStat { path } => (FileAction::SetStat, smallvec![path]),
        R::Remove { path } => (FileAction::Remove, smallvec![path]),
        R::MakeDir { path } => (FileAction::MakeFolder, smallvec![path]),
        R::RemoveDir { path } => (FileAction::RemoveFolder, smallvec![path]),
        R::Rename { from, to } => (FileAction::Rename, smallvec![from, to]),
        R::Link { one, other } => (FileAction::Link, smallvec![one, other]),
        R::Init { .. }
        | R::Question
        | R::Close { .. }
        | R::Read { .. }
        | R::Write { .. }
        | R::ReadDir { .. }
        | R::Handle { .. }
        | R::SetHandle { .. }
        | R::CopyData { .. }
        | R::Unknown { .. } => return None,
    })
}

/// What is asked of files by these paths, where relative ones begin at `home`.
pub(in crate::terminate::ssh) fn placed(
    home: Option<&str>,
    action: FileAction,
    paths: &[&Bytes],
) -> Asked {
    let mut found: SmallVec<[Arc<str>; 2]> = SmallVec::new();
    for path in paths {
        match std::str::from_utf8(path) {
            Ok(path) => {
                let placed = place(home, path);
                // What is told of a path is no content, and clients ask that way where `..` is.
                if action != FileAction::Stat
                    && let Some(why) = unclear(path, &placed)
                {
                    return Asked::Undecidable(why);
                }
                found.push(placed.into());
            }
            Err(_) => return Asked::Undecidable(Undecidable::NotUtf8),
        }
    }
    Asked::Ssh(SshAsked::Files(FilesAsked {
        action,
        paths: found,
    }))
}

fn open_action(mode: OpenMode) -> FileAction {
    match (mode.reads(), mode.writes()) {
        (true, true) => FileAction::ReadWrite,
        (_, true) => FileAction::Write,
        (_, false) => FileAction::Read,
    }
}

/// Why only the server knows what a path is of: `..` behind a folder leads up from where that one
/// really is, if it is a link, and some folders of the kernel's lead anywhere.
pub(super) fn unclear(path: &str, placed: &str) -> Option<Undecidable> {
    let mut named = false;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if named => {
                let what =
                    format!("a path that goes up from a folder ({path}): name it from the top");
                return Some(Undecidable::UnknownOperation(what));
            }
            ".." => {}
            _ => named = true,
        }
    }
    let mut parts = placed.split('/').filter(|part| !part.is_empty());
    let leads = match parts.next() {
        Some("proc") => parts.any(|part| matches!(part, "root" | "cwd" | "fd" | "map_files")),
        Some("dev") => parts.next() == Some("fd"),
        _ => false,
    };
    leads.then(|| {
        let what = format!("a path that leads to what a process has open ({path})");
        Undecidable::UnknownOperation(what)
    })
}

/// A path from the top, without `.`, `..` and doubled slashes. Where the home is not known, `~`
/// stands for it.
pub(super) fn place(home: Option<&str>, path: &str) -> String {
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", home.unwrap_or("~")),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            // Above an unknown home is nowhere that could be named.
            ".." if parts.last().is_none_or(|last| matches!(*last, "~" | "..")) => {
                if !whole.starts_with('/') {
                    parts.push("..");
                }
            }
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match whole.starts_with('/') {
        true => format!("/{joined}"),
        false => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_the_top() {
        let home = Some("/home/deploy");
        for (path, placed) in [
            ("notes", "/home/deploy/notes"),
            (".", "/home/deploy"),
            ("../../etc/passwd", "/etc/passwd"),
            ("../../../../etc", "/etc"),
            ("/a//b/./c/../d", "/a/b/d"),
            ("/", "/"),
            ("~/x", "/home/deploy/~/x"),
        ] {
            assert_eq!(place(home, path), placed, "{path}");
        }
        for (path, placed) in [
            ("notes", "~/notes"),
            ("", "~"),
            ("a/../b", "~/b"),
            ("../etc", "~/../etc"),
            ("../../etc", "~/../../etc"),
            ("/etc/../x", "/x"),
        ] {
            assert_eq!(place(None, path), placed, "{path}");
        }
    }
    #[test]
    fn paths_that_only_the_server_can_follow_are_not_decided() {
        let home = Some("/home/deploy");
        for path in [
            "/srv/app/../x",
            "link/../.ssh/x",
            concat!("/proc/self/root", "/etc/shadow"),
            "/proc/1/task/1/cwd/x",
            "/proc/self/fd/3",
            "/dev/fd/3",
        ] {
            assert!(unclear(path, &place(home, path)).is_some(), "{path}");
        }
        for path in [
            "../x",
            "./../../etc/x",
            "/../etc/x",
            "a/./b",
            concat!("/srv/root", "/x"),
            "/proc/cpuinfo",
        ] {
            assert!(unclear(path, &place(home, path)).is_none(), "{path}");
        }
    }

    /// `SSH_FXP_READ` of a handle, with this number.
    fn read(id: u32) -> Vec<u8> {
        let mut body = vec![5];
        body.extend(id.to_be_bytes());
        body.extend(1u32.to_be_bytes());
        body.push(b'h');
        body.extend(0u64.to_be_bytes());
        body.extend(9u32.to_be_bytes());
        let mut packet = (body.len() as u32).to_be_bytes().to_vec();
        packet.extend(body);
        packet
    }

    /// A request of this kind for a path or a handle.
    fn about(kind: u8, id: u32, what: &[u8], more: &[u8]) -> Vec<u8> {
        let mut body = vec![kind];
        body.extend(id.to_be_bytes());
        body.extend((what.len() as u32).to_be_bytes());
        body.extend(what);
        body.extend(more);
        let mut packet = (body.len() as u32).to_be_bytes().to_vec();
        packet.extend(body);
        packet
    }

    /// What is decided of it, if anything.
    fn asked(sftp: &Sftp, packet: &[u8]) -> Option<String> {
        let packet = Bytes::copy_from_slice(packet);
        let asked = sftp.asked(&sftp::request(&packet).unwrap().request)?;
        Some(match asked {
            Asked::Ssh(SshAsked::Files(files)) => {
                format!("{} {}", files.action.as_str(), files.paths.join(" "))
            }
            Asked::Undecidable(why) => why.to_string(),
            other => format!("{other:?}"),
        })
    }

    fn with_open(handle: &'static [u8]) -> Sftp {
        let mut sftp = Sftp::begun_by(ExchangeId(1));
        sftp.home = Home::Known(Some("/home/deploy".to_owned()));
        let open = Open {
            closing: false,
            path: "/srv/x".into(),
            exchange: ExchangeId(1),
            read: Flow::default(),
            written: Flow::default(),
        };
        sftp.open.insert(Bytes::from_static(handle), open);
        sftp
    }

    #[test]
    fn where_a_path_leads_is_a_question_about_the_path() {
        let sftp = with_open(b"h");
        for path in [".", "", "/home/deploy"] {
            assert_eq!(
                asked(&sftp, &about(16, 1, path.as_bytes(), b"")),
                None,
                "{path}"
            );
        }
        for (path, told) in [
            ("/etc/ssl", "stat /etc/ssl"),
            ("x", "stat /home/deploy/x"),
            ("..", "stat /home"),
        ] {
            let told = Some(told.to_owned());
            assert_eq!(asked(&sftp, &about(16, 1, path.as_bytes(), b"")), told);
        }
        let expand = |path: &str| {
            let mut more = (path.len() as u32).to_be_bytes().to_vec();
            more.extend(path.as_bytes());
            asked(&sftp, &about(200, 1, b"expand-path@openssh.com", &more))
        };
        assert_eq!(expand("~"), None);
        assert_eq!(expand("~/x").as_deref(), Some("stat /home/deploy/x"));
        assert!(expand("~root/x").unwrap().contains("does not know"));
    }

    /// The server may give the handle to another file before the client hears that it is closed.
    #[test]
    fn a_handle_that_is_being_closed_is_no_file() {
        let mut sftp = with_open(b"h");
        let mode = 0x0000_0004_0000_01b6u64.to_be_bytes();
        let change = about(10, 3, b"h", &mode);
        assert_eq!(asked(&sftp, &change).as_deref(), Some("setstat /srv/x"));
        let close = Bytes::from(about(4, 2, b"h", b""));
        sftp.forwarded(&close, ExchangeId(1));
        for packet in [change, about(4, 4, b"h", b""), read(5)] {
            let said = asked(&sftp, &packet).unwrap();
            assert!(said.contains("not open"), "{said}");
        }
        // Nor does the answer to CLOSE close what has the handle by then.
        let path = "/srv/y".into();
        let exchange = ExchangeId(2);
        sftp.pending.insert(9, Pending::Opening { path, exchange });
        let handle = Bytes::from_static(b"h");
        sftp.understood(&Reply::Handle { id: 9, handle });
        sftp.understood(&Reply::Status {
            id: 2,
            code: sftp::OK,
        });
        let change = about(10, 3, b"h", &mode);
        assert_eq!(asked(&sftp, &change).as_deref(), Some("setstat /srv/y"));
    }

    #[test]
    fn what_was_copied_or_cut_within_a_file_has_no_digest() {
        let mut sftp = with_open(b"h");
        let content = |id| {
            let mut more = 0u64.to_be_bytes().to_vec();
            more.extend(3u32.to_be_bytes());
            more.extend(b"abc");
            Bytes::from(about(6, id, b"h", &more))
        };
        sftp.forwarded(&content(1), ExchangeId(1));
        // Size 0 (SSH_FILEXFER_ATTR_SIZE).
        let cut = [&[0, 0, 0, 1][..], &[0; 8]].concat();
        let cut = Bytes::from(about(10, 2, b"h", &cut));
        sftp.forwarded(&cut, ExchangeId(1));
        sftp.close(&Bytes::from_static(b"h"));
        let told = sftp.transfers.pop_front().unwrap();
        assert_eq!((told.written.bytes, told.written.digest), (3, None));
        // Modes, and the size that it has, leave it as it is.
        let mode = [0, 0, 0, 4, 0, 0, 1, 0xa4];
        let whole = [&[0, 0, 0, 1][..], &3u64.to_be_bytes()].concat();
        for attributes in [&mode[..], &whole] {
            let mut sftp = with_open(b"h");
            sftp.forwarded(&content(1), ExchangeId(1));
            let packet = about(10, 2, b"h", attributes);
            sftp.forwarded(&Bytes::from(packet), ExchangeId(1));
            sftp.close(&Bytes::from_static(b"h"));
            let told = sftp.transfers.pop_front().unwrap();
            assert!(told.written.digest.is_some());
        }
    }

    #[test]
    fn a_number_is_not_used_again_before_its_answer_and_data_is_content() {
        let mut sftp = with_open(b"h");
        sftp.home = Home::Unasked;
        let (mut last, mut events) = (ExchangeId(1), VecDeque::new());
        sftp.take_from_client(&read(7)).unwrap();
        sftp.requests(&mut last, &mut events).unwrap();
        let data = Reply::Data {
            id: 7,
            data: Bytes::from_static(b"x"),
        };
        // Nothing was noted of it as forwarded, and content it is.
        assert!(matches!(sftp.understood(&data), Some(PartKind::File)));
        sftp.take_from_client(&read(7)).unwrap();
        sftp.requests(&mut last, &mut events).unwrap();
        sftp.take_from_client(&read(7)).unwrap();
        let again = sftp.requests(&mut last, &mut events);
        assert_eq!(again, Err(Malformed::Repeated(7)));
    }
}
