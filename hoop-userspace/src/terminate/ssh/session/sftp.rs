//! SFTP within a session: packets become requests that are decided, and what belongs to them.
//!
//! Every request that names a file is decided. What is then done by its handle (reading, writing,
//! closing) belongs to the permission of the request that opened it, and passes as bulk. hoop asks
//! the server once where relative paths begin, so that a policy sees whole paths.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::smallvec;

use super::flow::Flow;
use super::paths::{named, place, placed};
use crate::decide::Refusal;
use crate::ids::ExchangeId;
use crate::terminate::{
    Asked, Bulk, Event, FileAction, FilesAsked, Part, PartKind, Replies, Request, SshAsked,
    Transfer, Undecidable, Unit,
};
use crate::wire::ssh::Malformed;
use crate::wire::ssh::channel::Message;
use crate::wire::ssh::sftp::{self, Reply};

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

#[cfg(test)]
mod tests;
