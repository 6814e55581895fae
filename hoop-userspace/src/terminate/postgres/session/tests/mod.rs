//! Sessions against a server that follows PostgreSQL's message flow, and clients that do not.

mod flow;
mod hostile;
mod server;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use super::{Limits, Session};
use crate::decide::{Code, Refusal, Retry};
use crate::ids::AgentName;
use crate::terminate::postgres::{CancelTarget, Cancels};
use crate::terminate::{
    Asked, End, Event, Gate, Grant, PartKind, Protocol, Replies, Request, SessionError, SqlText,
    Stopped,
};
use crate::wire::postgres::frontend::{Bind, Frontend, Target, encode};
use crate::wire::postgres::{fields, frame};

pub use server::Fake;

/// What the loop saw, for tests to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Candidates of each statement that was asked about, and what was refused.
    Asked(Vec<Vec<String>>),
    Refused(u16),
    /// Units of rows with the labels of their columns.
    Rows(u16, u32, Option<Vec<String>>),
    Piece(bool, bool),
    Bulk(usize, bool),
    Cancel,
    Done,
}

/// A client's end of a session that a policy of one word guards: texts with `refuse` are refused.
pub struct Client {
    pub stream: DuplexStream,
    input: BytesMut,
    pub seen: watch::Receiver<Vec<Seen>>,
    pub end: tokio::task::JoinHandle<(Result<End, SessionError>, Stopped)>,
    pub cancels: Cancels,
}

pub const AGENT: &str = "a";

pub fn limits() -> Limits {
    Limits {
        max_message: 1 << 20,
        attribute: false,
    }
}

/// Starts a session between a client and a fake server.
pub fn start(fake: Fake, limits: Limits) -> Client {
    let (client, inner) = tokio::io::duplex(1 << 16);
    let (server, outer) = tokio::io::duplex(1 << 16);
    tokio::spawn(fake.serve(server));
    let cancels = Cancels::default();
    let registration = cancels.register(1, &AgentName::from(AGENT)).unwrap();
    let parameters = [("server_version".into(), "15.0".into())];
    let target = CancelTarget {
        address: ([127, 0, 0, 1], 1).into(),
        dial: std::sync::Arc::new(|address| Box::pin(tokio::net::TcpStream::connect(address))),
        tls: None,
        pid: 1,
        key: 1,
    };
    let session = Session::over(
        inner,
        outer,
        BytesMut::new(),
        &parameters,
        target,
        registration,
        limits,
    );
    let (tell, seen) = watch::channel(Vec::new());
    let end = tokio::spawn(drive(session, move |new| {
        tell.send_modify(|all| all.push(new))
    }));
    Client {
        stream: client,
        input: BytesMut::new(),
        seen,
        end,
        cancels,
    }
}

/// What `session.rs` does, with a policy of one word and no masks.
pub async fn drive<C, U>(
    mut session: Session<C, U>,
    mut tell: impl FnMut(Seen) + Send,
) -> (Result<End, SessionError>, Stopped)
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    U: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
{
    let end = loop {
        let event = match session.next(Gate::OPEN).await {
            Ok(event) => event,
            Err(error) => break Err(error),
        };
        let step = match event {
            Event::Request(request) => decide(&mut session, &request, &mut tell),
            Event::Bulk(exchange, bulk) => {
                tell(Seen::Bulk(bulk.wire.len(), bulk.end));
                session.more(&mut Grant::new(exchange), bulk)
            }
            Event::Replies(replies) => {
                note(&replies, &mut tell);
                session.client.push(replies.wire).map_err(super::ours)
            }
            Event::Cancel(_) => {
                tell(Seen::Cancel);
                session.cancel();
                Ok(())
            }
            Event::HalfClosed(_) | Event::Closed => break Ok(End::Finished),
            Event::Transferred(_) => unreachable!("PostgreSQL transfers no files"),
            Event::Impatient(_) => unreachable!("PostgreSQL has patience"),
        };
        if let Err(error) = step {
            break Err(error);
        }
    };
    let why = end
        .as_ref()
        .map_or_else(|e| End::Broken(e.to_string()), Clone::clone);
    let stopped = session.stop(&why).await;
    (end, stopped)
}

fn decide<C, U>(
    session: &mut Session<C, U>,
    request: &Request,
    tell: &mut impl FnMut(Seen),
) -> Result<(), SessionError>
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    U: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
{
    let texts = |asked: &Asked| match asked {
        Asked::Sql(sql) => Some(
            sql.candidates
                .iter()
                .map(|c: &Arc<SqlText>| c.text.to_string())
                .collect(),
        ),
        _ => None,
    };
    tell(Seen::Asked(
        request
            .units
            .iter()
            .filter_map(|u| texts(&u.asked))
            .collect(),
    ));
    let refused = request.units.iter().position(|unit| match &unit.asked {
        Asked::Undecidable(_) => true,
        asked => texts(asked).is_some_and(|t: Vec<String>| t.iter().any(|t| t.contains("refuse"))),
    });
    let Some(at) = refused else {
        return session.carry(request.exchange, &request.wire);
    };
    tell(Seen::Refused(at as u16));
    if let Some(before) = at.checked_sub(1) {
        let end = request.units[before].end;
        session.carry(request.exchange, &request.wire.slice(..end))?;
    }
    session.forge(&Refusal {
        exchange: request.exchange,
        unit: at as u16,
        code: Code::NotPermitted,
        message: "refused by a word".into(),
        rule: None,
        retry: Retry::Never,
        hint: "say something else".into(),
        approval: None,
        asked: None,
    })
}

fn note(replies: &Replies, tell: &mut impl FnMut(Seen)) {
    let mut start = 0;
    for part in &replies.parts {
        assert!(part.end >= start && part.end <= replies.wire.len());
        start = part.end;
        match &part.kind {
            PartKind::Rows { count, columns } => {
                let labels = columns.as_ref();
                let labels = labels.map(|c| c.columns.iter().map(|c| c.label.clone()).collect());
                tell(Seen::Rows(part.unit, *count, labels));
            }
            PartKind::RowPiece { first, last, .. } => tell(Seen::Piece(*first, *last)),
            PartKind::Done => tell(Seen::Done),
            _ => {}
        }
    }
    assert_eq!(start, replies.wire.len());
}

impl Client {
    /// Starts a session and reads its greeting.
    pub async fn greeted(fake: Fake) -> Self {
        Self::with(fake, limits()).await
    }

    pub async fn with(fake: Fake, limits: Limits) -> Self {
        let mut client = start(fake, limits);
        assert_eq!(client.until_ready().await, ["S", "K", "Z:I"]);
        client
    }

    pub async fn send(&mut self, messages: &[Frontend]) {
        let mut out = BytesMut::new();
        messages.iter().for_each(|m| encode(m, &mut out));
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next message in short: type, and what tells one from another.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((tag, body)) = frame::split(&mut self.input, 1 << 30).unwrap() {
                return Some(short(tag, &body));
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn until_ready(&mut self) -> Vec<String> {
        let mut all = vec![];
        loop {
            let next = self.next().await.expect("the session goes on");
            let ready = next.starts_with('Z');
            all.push(next);
            if ready {
                return all;
            }
        }
    }

    pub async fn ask(&mut self, messages: &[Frontend]) -> Vec<String> {
        self.send(messages).await;
        self.until_ready().await
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }
}

fn short(tag: u8, body: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let tag = char::from(tag);
    match tag {
        'E' => {
            let field = |f| text(fields::field(body, f).unwrap_or_default());
            format!("E:{}:{}", field(b'C'), field(b'M'))
        }
        'Z' => format!("Z:{}", text(body)),
        'C' => format!("C:{}", text(body).trim_end_matches('\0')),
        tag => tag.to_string(),
    }
}

pub fn query(text: &'static str) -> Frontend {
    Frontend::Query(text.into())
}

pub fn parse(name: &'static str, text: &'static str) -> Frontend {
    Frontend::Parse {
        name: name.into(),
        text: text.into(),
        types: vec![],
    }
}

pub fn bind(portal: &'static str, statement: &'static str) -> Frontend {
    let (portal, statement) = (Bytes::from(portal), Bytes::from(statement));
    Frontend::Bind(Bind {
        portal,
        statement,
        ..Bind::default()
    })
}

pub fn execute(portal: &'static str) -> Frontend {
    Frontend::Execute {
        portal: portal.into(),
        most_rows: 0,
    }
}

pub fn describe(portal: &'static str) -> Frontend {
    Frontend::Describe(Target::Portal(portal.into()))
}
