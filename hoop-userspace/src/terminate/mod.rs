//! Stage 5: the client's protocol ends here.
//!
//! A [`Connection`] opens sessions; a session is a stream of exchanges, each one request and all
//! that answers it. `session.rs` drives any [`Protocol`] through the same loop.
//!
//! Adding a protocol is: `wire/NAME/` (codecs without I/O), a fuzz target per decoder,
//! `terminate/NAME/`, one match arm in `worker.rs`, one line in the contract suite.

pub mod again;
pub mod authority;
pub mod kubernetes;
pub mod postgres;
pub mod ssh;
pub mod tls;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::decide::{Permitted, Refusal};
use crate::ids::{ExchangeId, ResourceName};
use crate::mask::{Foreseen, Masked};
use crate::record::Recorded;

pub use kubernetes::KubernetesAsked;

/// One accepted socket after its handshake.
pub trait Connection: Send {
    type Session: Protocol;

    /// Waits for the next session on this connection.
    fn open(&mut self) -> impl Future<Output = Result<Opened<Self::Session>, SessionError>> + Send;
}

/// What a connection turned out to be, or opened.
pub enum Opened<S> {
    Session(Box<S>),
    /// A connection whose only purpose was to cancel another session's work, and did or did not find it.
    Cancel {
        found: bool,
    },
    Closed,
}

/// One session of a protocol. Only [`Protocol::next`] does I/O, on all four sides at once;
/// everything else enqueues, so no direction can wait for another.
pub trait Protocol: Send {
    /// Drives every direction until something happens that the loop must see.
    ///
    /// Cancel-safe: dropping the future loses nothing. Output that was enqueued is written, and
    /// replies are read, under every gate that permits them.
    fn next(&mut self, gate: Gate) -> impl Future<Output = Result<Event, SessionError>> + Send;

    /// Enqueues a permitted request for the server.
    fn forward(&mut self, request: Recorded<Permitted>) -> Result<Grant, SessionError>;

    /// Enqueues more of a permitted request: COPY data, standard input, an upload.
    fn more(&mut self, grant: &mut Grant, bulk: Bulk) -> Result<(), SessionError>;

    /// Enqueues replies for the client.
    fn reply(&mut self, reply: Recorded<Masked>) -> Result<(), SessionError>;

    /// Answers a request with a refusal, in its place in the order of exchanges, and leaves the
    /// server in the state that the client is told.
    fn refuse(&mut self, refusal: Recorded<Refusal>) -> Result<(), SessionError>;

    /// Tells the client something that is no answer. Whether there was room for it.
    fn notify(&mut self, exchange: ExchangeId, notice: &str) -> bool;

    /// Whether anything of this exchange, the last that something was enqueued of, is still to be
    /// answered: only then will its end be told.
    fn awaits(&self, _exchange: ExchangeId) -> bool {
        true
    }

    /// Whether the server may hold locks for this session while it waits.
    fn in_transaction(&self) -> bool;

    /// Finds out what the request that waits now would change, without changing it, where the server
    /// can tell and may be asked. It ends by itself within a few seconds.
    fn foresee(&self) -> Option<Foreseeing> {
        None
    }

    /// Asks the server to cancel what the session runs now. The session goes on.
    fn cancel(&mut self);

    /// Ends the session: tells the client why, cancels the work upstream, waits for it (bounded),
    /// closes both sides, and says what became of the work.
    fn stop(self, why: &End) -> impl Future<Output = Stopped> + Send
    where
        Self: Sized;
}

/// What a request would change; see [`Protocol::foresee`].
pub type Foreseeing = Pin<Box<dyn Future<Output = Foreseen> + Send>>;

/// Which sides [`Protocol::next`] may take from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    pub client: ClientGate,
    /// Whether replies may be read from the server.
    pub upstream: bool,
}

impl Gate {
    pub const OPEN: Self = Self {
        client: ClientGate::Open,
        upstream: true,
    };
    /// A request is held: replies flow, and of the client only cancel and hang-up are seen.
    pub const HELD: Self = Self {
        client: ClientGate::ControlOnly,
        upstream: true,
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientGate {
    Open,
    ControlOnly,
}

/// What [`Protocol::next`] saw.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made and taken apart once per batch: a box would cost more than the move"
)]
pub enum Event {
    Request(Request),
    /// More of a request that was forwarded before.
    Bulk(ExchangeId, Bulk),
    /// A batch of replies: as much as one read brought, never one event per row.
    Replies(Replies),
    /// The client asked to cancel what runs now, if anything does.
    Cancel(Option<ExchangeId>),
    /// A file was closed that had been open for reading or writing.
    Transferred(Transfer),
    HalfClosed(Side),
    /// The client can be held no longer: if people are being asked about the request, it is told how
    /// to come back for their answer.
    Impatient(ExchangeId),
    /// Both sides are done.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Upstream,
}

/// A request as it stood on the wire, and what it asks for, unit by unit.
///
/// A unit is the smallest part that can be decided alone (for PostgreSQL one message). Units lie
/// back to back in `wire`; when unit `k` is refused, the bytes before it may still be forwarded.
#[derive(Debug)]
pub struct Request {
    pub exchange: ExchangeId,
    pub wire: Bytes,
    pub units: SmallVec<[Unit; 6]>,
}

#[derive(Debug)]
pub struct Unit {
    /// Offset in [`Request::wire`] of the first byte after this unit.
    pub end: usize,
    pub asked: Asked,
}

/// What a unit asks for.
#[derive(Clone, Debug)]
pub enum Asked {
    Sql(SqlAsked),
    /// PostgreSQL's legacy FunctionCall: the function is known by its object id alone.
    FunctionCall {
        oid: u32,
    },
    /// What an SSH client asks for on one channel.
    Ssh(SshAsked),
    /// A request to a Kubernetes API server.
    Kubernetes(Arc<KubernetesAsked>),
    /// What cannot be decided, whatever the policy says.
    Undecidable(Undecidable),
    /// Nothing that needs a decision: Sync, Flush, Describe, Close, an empty query.
    Control,
}

/// Why a unit cannot be decided. The text is fit for the agent to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecidable {
    /// The message was not kept: its unit holds the header alone, and nothing can forward it.
    #[error("a message of {bytes} bytes is above the resource's max_message of {most} bytes")]
    TooLarge { bytes: usize, most: usize },
    /// What the statement or portal name stands for was made behind hoop's back, by SQL PREPARE or
    /// DECLARE, or cannot be told yet.
    #[error("it is not known what the prepared statement or cursor {0:?} stands for")]
    UnknownName(String),
    /// The parser would read another text than the server.
    #[error("the statement is not valid UTF-8")]
    NotUtf8,
    /// An SFTP request that hoop does not know, or one for a file that nobody opened.
    #[error("hoop does not know what {0} does")]
    UnknownOperation(String),
    /// A request by HTTP that hoop takes from nobody: there is nothing of it that could be forwarded.
    #[error("{0}")]
    NotServed(String),
}

/// What an SSH client asks for.
#[derive(Clone, Debug)]
pub enum SshAsked {
    /// A command for the shell of the login.
    Exec {
        text: Arc<SqlText>,
        /// It runs on a terminal, which the client types into: a pager that starts there runs what
        /// is typed.
        terminal: bool,
    },
    /// An interactive shell: what is typed into it is recorded and not decided.
    Shell,
    /// A program that the server knows by this name. SFTP is none of these: its requests are
    /// decided one by one.
    Subsystem(Arc<str>),
    /// Something done to files: a request of SFTP, or a copy by scp's old protocol.
    Files(FilesAsked),
    /// A connection from the server to somewhere (RFC 4254, 7.2).
    Connect {
        host: Arc<str>,
        port: u16,
        /// The resource that it would reach, past hoop.
        governed: Option<ResourceName>,
    },
}

impl SshAsked {
    /// Whether it is a command that the client types into.
    pub fn on_terminal(&self) -> bool {
        matches!(self, Self::Exec { terminal: true, .. })
    }

    /// What is asked for as one text, which people are shown: a command as it was sent, all else in
    /// words. Two requests with equal texts ask for the same, but for [`Self::on_terminal`].
    pub fn text(&self) -> Arc<SqlText> {
        SqlText::hashed(match self {
            Self::Exec { text, .. } => return text.clone(),
            Self::Shell => "interactive shell".to_owned(),
            Self::Subsystem(name) => format!("subsystem {name:?}"),
            Self::Connect { host, port, .. } => format!("connect {host}:{port}"),
            Self::Files(asked) => {
                let paths = asked.paths.iter().map(|path| quoted(path));
                let verb = match asked.action {
                    FileAction::ReadWrite => "read and write",
                    action => action.as_str(),
                };
                let words: Vec<_> = std::iter::once(verb.to_owned()).chain(paths).collect();
                words.join(" ")
            }
        })
    }
}

/// As it is where nothing in it could be taken for its end.
fn quoted(path: &str) -> String {
    match path
        .chars()
        .all(|c| !c.is_whitespace() && !c.is_control() && c != '"')
    {
        true => path.to_owned(),
        false => format!("{path:?}"),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilesAsked {
    pub action: FileAction,
    /// As far as the request tells: absolute, without `.` and `..`. Symbolic links of the server
    /// are not followed.
    pub paths: SmallVec<[Arc<str>; 2]>,
}

/// What is done to a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileAction {
    /// Its content is read.
    Read,
    /// It is made, or its content changes.
    Write,
    /// Both, on one open file.
    ReadWrite,
    List,
    /// Something about it is told: size, owner, where a link leads.
    Stat,
    /// Owner, mode, times or size are set.
    SetStat,
    Remove,
    MakeFolder,
    RemoveFolder,
    Rename,
    Link,
}

impl FileAction {
    /// `context.verb` of a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write | Self::ReadWrite => "write",
            Self::List => "list",
            Self::Stat => "stat",
            Self::SetStat => "setstat",
            Self::Remove => "remove",
            Self::MakeFolder => "mkdir",
            Self::RemoveFolder => "rmdir",
            Self::Rename => "rename",
            Self::Link => "link",
        }
    }
}

/// Statement text that is prepared or run.
#[derive(Clone, Debug)]
pub struct SqlAsked {
    pub step: SqlStep,
    /// Every text that the statement or portal name may stand for, one at least. More than one only
    /// while an earlier Parse of the same name has not been confirmed by the server: the decision
    /// must hold for each of them.
    pub candidates: SmallVec<[Arc<SqlText>; 1]>,
    /// Parameters as the client bound them; empty for [`SqlStep::Simple`] and [`SqlStep::Prepare`].
    pub parameters: Arc<[Parameter]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlStep {
    /// A simple Query: may hold several statements, runs at once.
    Simple,
    /// Parse: names a statement; nothing runs. Refusals are given here, questions are not asked.
    Prepare,
    /// Execute: runs a portal with its parameters.
    Run,
}

/// A statement's text as the client sent it, with a hash for the caches.
#[derive(Debug, PartialEq, Eq)]
pub struct SqlText {
    pub text: Box<str>,
    pub hash: u64,
}

impl SqlText {
    /// Equal texts have equal hashes, in every session.
    pub fn hashed(text: impl Into<Box<str>>) -> Arc<Self> {
        let text = text.into();
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let first = digest.as_ref().first_chunk::<8>();
        Arc::new(Self {
            hash: first.map_or(0, |bytes| u64::from_be_bytes(*bytes)),
            text,
        })
    }
}

/// A bound parameter. `None` is SQL NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub binary: bool,
    /// The object id of the type that Parse declared for it; 0 leaves it to the server. `u32::MAX`
    /// where it is not known which of several texts will run.
    pub declared: u32,
    pub value: Option<Bytes>,
}

/// Opaque content that belongs to a request.
#[derive(Debug)]
pub struct Bulk {
    /// Wire bytes, framing included.
    pub wire: Bytes,
    /// The last of its request.
    pub end: bool,
}

/// What went through one open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The request that opened it.
    pub exchange: ExchangeId,
    pub path: Arc<str>,
    pub read: Transferred,
    pub written: Transferred,
}

/// One direction of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    pub bytes: u64,
    /// SHA-256, where it went through from beginning to end in order.
    pub digest: Option<[u8; 32]>,
}

/// Leave to send more of one forwarded request. Made by [`Protocol::forward`] alone.
#[derive(Debug)]
pub struct Grant {
    exchange: ExchangeId,
}

impl Grant {
    /// For implementations of [`Protocol::forward`]: the grant of the request just enqueued.
    pub(in crate::terminate) fn new(exchange: ExchangeId) -> Self {
        Self { exchange }
    }

    /// For the protocol that the loop's tests play.
    #[cfg(test)]
    pub(crate) fn for_test(exchange: ExchangeId) -> Self {
        Self::new(exchange)
    }

    pub fn exchange(&self) -> ExchangeId {
        self.exchange
    }
}

/// Replies that have not passed the masks: back-to-back parts of one buffer. They reach the client
/// only as [`Masked`].
#[derive(Debug)]
pub struct Replies {
    pub wire: Bytes,
    pub parts: Vec<Part>,
}

#[derive(Debug)]
pub struct Part {
    pub exchange: ExchangeId,
    /// Index of the unit of the request that this answers. Parts that answer none (a notification,
    /// a parameter's new value) carry the exchange that was last begun and unit 0.
    pub unit: u16,
    /// Offset in [`Replies::wire`] of the first byte after this part.
    pub end: usize,
    pub kind: PartKind,
}

/// What a part is, which decides how it can be masked.
#[derive(Debug)]
pub enum PartKind {
    /// A description of the rows that follow or of a prepared statement.
    Columns(Arc<Columns>),
    /// `count` whole rows, back to back. `columns` is `None` where the server was never asked to
    /// describe them: they cannot be attributed.
    Rows {
        count: u32,
        columns: Option<Arc<Columns>>,
    },
    /// A piece of one row too large to wait for. `total` is the row's length on the wire; masks
    /// that touch it collect the pieces up to their cap.
    RowPiece {
        first: bool,
        last: bool,
        total: u32,
        columns: Option<Arc<Columns>>,
    },
    /// An error or a notice: text that may quote values.
    Text,
    /// Opaque content: COPY data. `unit`'s facts say whether it may pass.
    Bulk,
    /// What a program prints: messages of [`crate::wire::ssh::channel`].
    Output(Printed),
    /// Content of a file that the client was permitted to read, in such messages.
    File,
    /// Part of an answer by HTTP, in the same messages.
    Http(HttpPart),
    /// A value that the server sent outside any result: a notification's payload.
    Loose,
    /// A fixed shape without content of its own: completion tags, state, acknowledgements.
    Control,
    /// The same, and the exchange is over.
    Done,
}

/// Part of an answer by HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpPart {
    /// Status and headers.
    Head,
    /// A whole JSON object; or, where a command could not be run, why not.
    Document,
    /// What the server says of itself and its API: nothing that anybody stored.
    Description,
    /// What comes through a forwarded connection: lengths must stay what they are.
    Forwarded,
}

/// What the output of a program is, which decides how it is masked and how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// A terminal's: with escape sequences, and kept whole.
    Terminal,
    Text,
    /// A protocol of its own, such as rsync's: lengths must stay what they are.
    Framed,
}

/// The columns of a result.
#[derive(Debug, PartialEq, Eq)]
pub struct Columns {
    pub columns: Vec<Column>,
}

/// PostgreSQL RowDescription, field by field (protocol manual, "Message Formats").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub label: String,
    /// Object id of the table the column comes from, 0 for an expression.
    pub table: u32,
    /// Attribute number in that table, 0 for an expression.
    pub attribute: i16,
    /// Object id of the data type.
    pub kind: u32,
    /// Whether values come in binary; in a description of a statement this is not known yet.
    pub binary: bool,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Client or server closed in the ordinary way.
    Finished,
    /// The identity no longer holds: expired, revoked, or could not be re-checked.
    Identity(String),
    /// An operator ended it.
    Killed(String),
    /// hoop is stopping and the drain's deadline passed.
    Drained,
    /// Something could not be recorded.
    Unrecordable(String),
    /// Client or server broke the protocol, or a connection was lost.
    Broken(String),
}

/// What became of the work that ran when the session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing ran.
    Idle,
    /// The server confirmed that the work was cancelled.
    Cancelled,
    /// The work completed before the cancel reached it.
    Completed,
    /// The server did not say in time.
    Unknown,
}

/// A session that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the client broke the protocol: {0}")]
    ClientProtocol(String),
    #[error("the server broke the protocol: {0}")]
    UpstreamProtocol(String),
    #[error("the client's connection failed: {0}")]
    ClientIo(#[source] std::io::Error),
    /// The server now reads SQL otherwise than the parser does.
    #[error("what this session sends can no longer be understood: {0}")]
    Unfollowable(String),
    #[error("the server's connection failed: {0}")]
    UpstreamIo(#[source] std::io::Error),
}
