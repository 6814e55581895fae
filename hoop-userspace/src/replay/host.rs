//! Sessions on hosts and requests to API servers: what was asked for, what was typed and printed,
//! which files moved, how a server answered.

use bytes::Bytes;
use serde::Serialize;

use super::story::{Event, Statement};
use crate::hex;
use crate::record::{BulkNote, FlowNote, RepliesNote, TransferNote};
use crate::wire::kubernetes::http::{RequestHead, ResponseHead};
use crate::wire::ssh::channel::{Flow as ChannelFlow, Forwarded, HEADER, Message};
use crate::wire::ssh::sftp::{self, Request};

/// A line of its own kind in `hoop replay --json`. The keys are kept.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum HostEvent {
    Output {
        exchange: u64,
        /// `stdout`, `stderr` or `body`.
        stream: &'static str,
        text: String,
        bytes: u64,
        /// Not all of it was kept.
        truncated: bool,
        masked: u64,
    },
    Input {
        exchange: u64,
        text: String,
        bytes: u64,
        truncated: bool,
    },
    Resize {
        columns: u32,
        rows: u32,
    },
    Signal {
        signal: String,
    },
    Exit {
        exchange: u64,
        status: Option<u32>,
        signal: Option<String>,
    },
    /// The head of an answer by HTTP. What follows is `output` of the stream `body`.
    Response {
        exchange: u64,
        status: u16,
        headers: Vec<(String, String)>,
    },
    /// What passed through a forwarded connection, in one piece.
    Forwarded {
        exchange: u64,
        port: u16,
        connection: u32,
        /// `in`, `out` or `error`.
        flow: &'static str,
        bytes: u64,
        end: bool,
        /// Why it was refused or could not be made.
        #[serde(skip_serializing_if = "String::is_empty")]
        why: String,
    },
    Transfer {
        exchange: u64,
        path: String,
        read: Flow,
        written: Flow,
    },
}

/// One direction of a transfer.
#[derive(Clone, Debug, Serialize)]
pub struct Flow {
    pub bytes: u64,
    /// Of the content, where it went through whole and in order.
    pub sha256: Option<String>,
}

/// What a request asked for.
pub(super) fn statements(kept: &[u8]) -> Vec<Statement> {
    let statement = |step, text: String| Statement {
        step,
        text,
        parameters: Vec::new(),
    };
    let mut variables = Vec::new();
    let mut content = Vec::new();
    let mut found = Vec::new();
    for message in messages(kept).0 {
        match message {
            Message::Env { name, value } => {
                variables.push(Some(format!("{}={}", lossy(&name), lossy(&value))));
            }
            // Of streams to an API server: nothing that was started with them.
            Message::Exec(command) if command.is_empty() => {}
            Message::Exec(command) => found.push(statement("exec", lossy(&command))),
            Message::RequestHead(head) => {
                if let Ok(head) = RequestHead::read(&head) {
                    let text = format!("{} {}", head.method, head.target);
                    found.push(statement("request", text));
                }
            }
            Message::Content(piece) => content.extend_from_slice(&piece),
            Message::Shell => found.push(statement("shell", "interactive shell".into())),
            Message::Subsystem(name) => found.push(statement("subsystem", lossy(&name))),
            Message::Connect { host, port } => {
                found.push(statement("connect", format!("{}:{port}", lossy(&host))));
            }
            Message::SftpRequest(packet) => {
                if let Ok(packet) = sftp::request(&packet) {
                    found.push(statement("sftp", operation(&packet.request)));
                }
            }
            _ => {}
        }
    }
    if !content.is_empty() {
        variables.push(Some(lossy(&Bytes::from(content))));
    }
    if let Some(first) = found.first_mut() {
        first.parameters = variables;
    }
    found
}

/// The terminal that a request came with.
pub(super) fn terminal(kept: &[u8]) -> Option<HostEvent> {
    messages(kept).0.into_iter().find_map(|m| match m {
        Message::Pty(pty) => Some(HostEvent::Resize {
            columns: pty.size.columns,
            rows: pty.size.rows,
        }),
        _ => None,
    })
}

fn operation(request: &Request) -> String {
    let one = |verb: &str, path: &Bytes| format!("{verb} {}", lossy(path));
    match request {
        Request::Open { path, mode } => match (mode.reads(), mode.writes()) {
            (true, true) => one("open for reading and writing", path),
            (_, true) => one("open for writing", path),
            _ => one("open for reading", path),
        },
        Request::OpenDir { path } => one("list", path),
        Request::Stat { path } => one("stat", path),
        Request::SetStat { path } => one("setstat", path),
        Request::Remove { path } => one("remove", path),
        Request::MakeDir { path } => one("mkdir", path),
        Request::RemoveDir { path } => one("rmdir", path),
        Request::Rename { from, to } => format!("rename {} {}", lossy(from), lossy(to)),
        Request::Link { one, other } => format!("link {} {}", lossy(one), lossy(other)),
        Request::SetHandle { .. } => "setstat of an open file".into(),
        other => format!("{other:?}"),
    }
}

pub(super) fn replies(note: &RepliesNote<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut from = 0usize;
    let mut masked = note.masked;
    for span in &note.spans {
        let end = from.saturating_add(usize::try_from(span.kept).unwrap_or(usize::MAX));
        let bytes = note.kept.get(from..end).unwrap_or_default();
        from = end;
        let truncated = span.kept != span.length;
        let before = events.len();
        let (whole, rest) = messages(bytes);
        let mut printed = |stream, content: &[u8], bytes: u64, truncated| {
            events.push(Event::Host(HostEvent::Output {
                exchange: span.exchange,
                stream,
                text: lossy(content),
                bytes,
                truncated,
                masked: std::mem::take(&mut masked),
            }));
        };
        let mut others = Vec::new();
        for message in whole {
            match message {
                Message::Output(text) => printed("stdout", &text, text.len() as u64, false),
                Message::ErrorOutput(text) => printed("stderr", &text, text.len() as u64, false),
                Message::Document(text) | Message::Described(text) => {
                    printed("body", &text, text.len() as u64, false);
                }
                Message::ResponseHead(head) => {
                    others.extend(
                        ResponseHead::read(&head)
                            .ok()
                            .map(|head| response(span.exchange, head)),
                    );
                }
                Message::Forwarded(piece) => others.push(forwarded(span.exchange, &piece)),
                Message::Exit(status) => others.push(HostEvent::Exit {
                    exchange: span.exchange,
                    status: Some(status),
                    signal: None,
                }),
                Message::ExitSignal { signal, .. } => others.push(HostEvent::Exit {
                    exchange: span.exchange,
                    status: None,
                    signal: Some(lossy(&signal)),
                }),
                _ => {}
            }
        }
        if truncated {
            let known: u64 = events
                .iter()
                .skip(before)
                .map(|event| match event {
                    Event::Host(HostEvent::Output { bytes, .. }) => *bytes,
                    _ => 0,
                })
                .sum();
            events.push(Event::Host(HostEvent::Output {
                exchange: span.exchange,
                stream: match rest.first() {
                    Some(b'D' | b'd') => "body",
                    _ => "stdout",
                },
                text: lossy(rest.get(HEADER..).unwrap_or_default()),
                bytes: span.length.saturating_sub(known),
                truncated: true,
                masked: std::mem::take(&mut masked),
            }));
        }
        events.extend(others.into_iter().map(Event::Host));
    }
    events
}

pub(super) fn bulk(note: &BulkNote<'_>) -> Vec<Event> {
    let truncated = note.wire.digest.is_some();
    let (whole, rest) = messages(&note.wire.kept);
    let mut text = Vec::new();
    let mut events = Vec::new();
    let mut sftp = false;
    for message in whole {
        match message {
            Message::Input(bytes) => text.extend_from_slice(&bytes),
            Message::Resize(size) => events.push(Event::Host(HostEvent::Resize {
                columns: size.columns,
                rows: size.rows,
            })),
            Message::Signal(name) => events.push(Event::Host(HostEvent::Signal {
                signal: lossy(&name),
            })),
            Message::SftpRequest(_) => sftp = true,
            Message::Forwarded(piece) => {
                events.push(Event::Host(forwarded(note.exchange, &piece)));
            }
            _ => {}
        }
    }
    let cut = rest.first() == Some(&b'i');
    if cut {
        text.extend_from_slice(rest.get(HEADER..).unwrap_or_default());
    }
    // What belongs to an open file is told when that is closed.
    if !sftp && (!text.is_empty() || truncated && cut) {
        events.push(Event::Host(HostEvent::Input {
            exchange: note.exchange,
            text: lossy(&text),
            bytes: note.wire.length,
            truncated,
        }));
    }
    events
}

fn response(exchange: u64, head: ResponseHead) -> HostEvent {
    let headers = head.headers.into_iter();
    HostEvent::Response {
        exchange,
        status: head.status,
        headers: headers.map(|(name, value)| (name, lossy(&value))).collect(),
    }
}

fn forwarded(exchange: u64, piece: &Forwarded) -> HostEvent {
    HostEvent::Forwarded {
        exchange,
        port: piece.port,
        connection: piece.number,
        flow: match piece.flow {
            ChannelFlow::In | ChannelFlow::ErrorIn => "in",
            ChannelFlow::Out => "out",
            ChannelFlow::Error => "error",
        },
        bytes: piece.bytes.len() as u64,
        end: piece.end,
        why: match piece.flow {
            ChannelFlow::Error => lossy(&piece.bytes),
            _ => String::new(),
        },
    }
}

pub(super) fn transfer(note: TransferNote) -> HostEvent {
    let flow = |flow: FlowNote| Flow {
        bytes: flow.bytes,
        sha256: flow.digest.map(hex::encode),
    };
    HostEvent::Transfer {
        exchange: note.exchange,
        path: note.path,
        read: flow(note.read),
        written: flow(note.written),
    }
}

/// Whole messages, and what is left of one that was cut.
pub(super) fn messages(kept: &[u8]) -> (Vec<Message>, Bytes) {
    let mut rest = Bytes::copy_from_slice(kept);
    let mut found = Vec::new();
    while let Ok(Some(message)) = Message::take(&mut rest) {
        found.push(message);
    }
    (found, rest)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
