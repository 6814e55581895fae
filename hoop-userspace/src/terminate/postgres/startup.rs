//! From an accepted socket to a client that knows it is let in, or why it is not.
//!
//! Everything that a client is refused for after this is said after AuthenticationOk: libpq under
//! `sslmode=prefer` takes an earlier FATAL as a reason to try again in plain text.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::cancels::{Cancels, NoKey};
use super::client::ClientStream;
use super::refusals;
use super::scram::{self, AgentPassword, ClientScramError};
use super::session::{self, Session};
use super::upstream::Upstream;
use crate::config::Resource;
use crate::decide::{Code, Refusal, Retry};
use crate::ids::{AgentName, ExchangeId};
use crate::terminate::tls::Offer;
use crate::wire::postgres::frame::Header;
use crate::wire::postgres::startup::{First, StartupMessage};
use crate::wire::postgres::{WireError, authentication, startup as wire};

/// From the first byte to AuthenticationOk.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// How long a refused client may take to hang up, so that it reads why.
const LINGER: Duration = Duration::from_secs(1);

/// First packets before the start-up message: GSSENCRequest, SSLRequest, and one to spare.
const MAX_PREAMBLE: usize = 3;

const TLS_HANDSHAKE: u8 = 0x16;
const ALPN: &[u8] = b"postgresql";

/// How a resource's clients are met.
#[derive(Clone)]
pub struct Terms {
    /// What a client that asks for TLS is offered.
    pub tls: Option<Offer>,
    pub allow_plain: bool,
    pub allow_replication: bool,
    pub agent_password: Option<AgentPassword>,
    /// Largest whole message held in memory, in bytes.
    pub max_message: usize,
}

impl Terms {
    /// `agent_password` is derived once per resource, not per connection.
    pub fn of(
        resource: &Resource,
        tls: Option<Offer>,
        agent_password: Option<AgentPassword>,
    ) -> Self {
        Self {
            tls,
            allow_plain: resource.allow_plain,
            allow_replication: resource.allow_replication,
            agent_password,
            max_message: resource.max_message,
        }
    }
}

/// What a connection turned out to be.
pub enum Arrived {
    /// A client that has been told AuthenticationOk and waits.
    Session(Box<Startup>),
    /// A connection whose only purpose is to cancel: see [`Cancels::cancel`]. It expects no answer.
    Cancel { pid: u32, key: Bytes },
}

/// A client that awaits its session.
pub struct Startup {
    stream: ClientStream,
    message: StartupMessage,
    terms: Terms,
}

/// A client that got no further. It has been told why, where it could understand.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    #[error("the client did not finish the handshake within {} s", HANDSHAKE.as_secs())]
    Timeout,
    #[error("the connection was lost during the handshake: {0}")]
    Io(#[from] io::Error),
    #[error("the client does not speak PostgreSQL's protocol: {0}")]
    Protocol(#[from] WireError),
    #[error("the client speaks {0}, not PostgreSQL's protocol")]
    OtherProtocol(&'static str),
    #[error("the client asks for protocol {major}.{minor}; 3.0 is spoken")]
    Version { major: u16, minor: u16 },
    #[error("bytes in the clear came before the TLS handshake: somebody may have put them there")]
    BufferedBeforeTls,
    #[error("TLS with the client failed: {0}")]
    Tls(#[source] io::Error),
    #[error("the client's direct TLS is not for PostgreSQL: it does not offer ALPN `postgresql`")]
    Alpn,
    #[error("the client speaks plain text, and the resource requires TLS")]
    Plain,
    #[error("the client's start-up message names no user")]
    NoUser,
    #[error(transparent)]
    Scram(#[from] ClientScramError),
}

/// A client that cannot be given a session with this server. Record the refusal, then hand it over
/// with [`Startup::refuse`].
pub struct NotReady {
    pub startup: Box<Startup>,
    pub refusal: Refusal,
}

impl Startup {
    /// Meets a client: TLS or not, start-up message, SCRAM where the resource has an
    /// `agent_password`, AuthenticationOk. Takes 20 s at most.
    pub async fn accept(stream: TcpStream, terms: Terms) -> Result<Arrived, StartupError> {
        match tokio::time::timeout(HANDSHAKE, meet(stream, terms)).await {
            Ok(arrived) => arrived,
            Err(_) => Err(StartupError::Timeout),
        }
    }

    pub fn user(&self) -> &str {
        self.message.get("user").unwrap_or_default()
    }

    /// The database asked for; PostgreSQL's default is the user's name.
    pub fn database(&self) -> &str {
        let asked = self.message.get("database").filter(|d| !d.is_empty());
        asked.unwrap_or_else(|| self.user())
    }

    /// All parameters in the client's order, `user` and `database` included.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.message.parameters
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, ClientStream::Tls(_))
    }

    /// What cannot be granted whatever the policy says. Ask before dialling the server.
    pub fn objection(&self) -> Option<Refusal> {
        let replication = self.message.get("replication").is_some_and(|v| {
            !matches!(
                v.to_ascii_lowercase().as_str(),
                "" | "0" | "f" | "false" | "n" | "no" | "off"
            )
        });
        if replication && !self.terms.allow_replication {
            return Some(refusal(
                "a replication connection is not allowed here".into(),
                "replication streams whole tables past policy and masks; \
                 an operator may set allow_replication on the resource",
            ));
        }
        let parameters = self.message.parameters.iter();
        let unreadable = parameters
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .find_map(unreadable);
        unreadable.map(|what| refusal(what, READABLE))
    }

    /// Hands the client its session with a server that is logged in.
    ///
    /// `attribute`: whether the masks need to know the columns of every row. Then rows whose
    /// columns the client does not ask for are described at hoop's own request.
    pub fn ready(
        self: Box<Self>,
        upstream: Upstream,
        cancels: &Cancels,
        agent: &AgentName,
        attribute: bool,
    ) -> Result<Session, NotReady> {
        let reported = upstream.parameters.iter();
        let unreadable = reported
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .find_map(unreadable);
        let objection = self
            .objection()
            .or_else(|| Some(refusal(unreadable?, READABLE)));
        if let Some(refusal) = objection {
            return Err(NotReady {
                startup: self,
                refusal,
            });
        }
        match cancels.register(upstream.cancel.pid, agent) {
            Ok(registration) => {
                let limits = session::Limits {
                    max_message: self.terms.max_message,
                    attribute,
                };
                Ok(Session::new(self.stream, upstream, registration, limits))
            }
            Err(NoKey) => {
                let refusal = refusal(NoKey.to_string(), "try again");
                Err(NotReady {
                    startup: self,
                    refusal,
                })
            }
        }
    }

    /// Tells the client why it gets no session, and waits a second for it to hang up.
    pub async fn refuse(mut self: Box<Self>, refusal: &Refusal) {
        farewell(&mut self.stream, &refusals::fatal(refusal)).await;
    }

    /// Tells the client that there is no session in the server's own words.
    pub async fn relay(mut self: Box<Self>, code: &str, message: &str) {
        farewell(&mut self.stream, &refusals::fatal_text(code, message)).await;
    }
}

/// SQL is read otherwise than the parser reads it under these settings.
pub(super) fn unreadable((name, value): (&str, &str)) -> Option<String> {
    let value = value.trim().trim_matches(['\'', '"']);
    let lower = value.to_ascii_lowercase();
    let readable = match name.to_ascii_lowercase().as_str() {
        "client_encoding" => {
            let plain: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
            matches!(plain.as_str(), "utf8" | "unicode" | "sqlascii" | "auto")
        }
        "standard_conforming_strings" => {
            matches!(lower.as_str(), "on" | "true" | "yes" | "1" | "t" | "y")
        }
        _ => return None,
    };
    (!readable)
        .then(|| format!("{name} = {value} makes the server read other SQL than was decided"))
}

const READABLE: &str = "use client_encoding UTF8 and standard_conforming_strings on; an operator can set the latter for hoop's login";

fn refusal(message: String, hint: &str) -> Refusal {
    Refusal {
        exchange: ExchangeId(0),
        unit: 0,
        code: Code::NotPermitted,
        message,
        rule: None,
        retry: Retry::Never,
        hint: hint.into(),
        approval: None,
        asked: None,
    }
}

async fn meet(stream: TcpStream, terms: Terms) -> Result<Arrived, StartupError> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first == [TLS_HANDSHAKE] {
        let tls = secure(stream, &terms).await?;
        if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(StartupError::Alpn);
        }
        return encrypted(tls, terms).await;
    }
    plain(stream, terms).await
}

async fn plain(mut stream: TcpStream, terms: Terms) -> Result<Arrived, StartupError> {
    for _ in 0..MAX_PREAMBLE {
        match first_packet(&mut stream).await? {
            First::SslRequest if terms.tls.is_some() => {
                // What is already here was sent before the answer: no client does that.
                if matches!(stream.try_read(&mut [0; 1]), Ok(1..)) {
                    return Err(StartupError::BufferedBeforeTls);
                }
                stream.write_all(b"S").await?;
                let tls = secure(stream, &terms).await?;
                return encrypted(tls, terms).await;
            }
            First::SslRequest | First::GssEncRequest => stream.write_all(b"N").await?,
            First::Cancel { pid, key } => return Ok(Arrived::Cancel { pid, key }),
            // Before AuthenticationOk for once: `sslmode=allow` then tries again with TLS.
            First::Startup(_) if !terms.allow_plain => {
                let text = "this resource requires TLS; connect with sslmode=require or better";
                farewell(&mut stream, &refusals::fatal_text("28000", text)).await;
                return Err(StartupError::Plain);
            }
            First::Startup(message) => {
                return authenticated(ClientStream::Plain(stream), message, terms).await;
            }
        }
    }
    Err(StartupError::Protocol(WireError::Malformed(
        "the start of the connection",
    )))
}

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

async fn secure(stream: TcpStream, terms: &Terms) -> Result<Tls, StartupError> {
    let Some(offer) = &terms.tls else {
        return Err(StartupError::OtherProtocol(
            "TLS, which this resource does not offer",
        ));
    };
    let acceptor = TlsAcceptor::from(offer.config.clone());
    acceptor.accept(stream).await.map_err(StartupError::Tls)
}

async fn encrypted(mut tls: Tls, terms: Terms) -> Result<Arrived, StartupError> {
    match first_packet(&mut tls).await? {
        First::Cancel { pid, key } => Ok(Arrived::Cancel { pid, key }),
        First::Startup(message) => {
            authenticated(ClientStream::Tls(Box::new(tls)), message, terms).await
        }
        First::SslRequest | First::GssEncRequest => Err(StartupError::Protocol(
            WireError::Malformed("a request for encryption inside TLS"),
        )),
    }
}

/// Reads exactly one packet: what follows it may belong to TLS.
async fn first_packet<S>(stream: &mut S) -> Result<First, StartupError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let Ok(claimed) = wire::claimed(length) else {
        return Err(other_protocol(stream, length).await);
    };
    let mut packet = vec![0; claimed.saturating_sub(4)];
    stream.read_exact(&mut packet).await?;
    Ok(wire::decode(packet.into())?)
}

/// Says so in the client's own protocol where that is easy.
async fn other_protocol<S>(stream: &mut S, first: [u8; 4]) -> StartupError
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
        Content-Type: text/plain\r\nContent-Length: 48\r\n\r\n\
        this is a PostgreSQL server; use a client of it\n";
    match &first {
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" | b"DELE" | b"PATC" | b"CONN" | b"PRI " => {
            farewell(stream, HTTP).await;
            StartupError::OtherProtocol("HTTP")
        }
        b"SSH-" => {
            farewell(stream, b"this is a PostgreSQL server, not SSH\r\n").await;
            StartupError::OtherProtocol("SSH")
        }
        _ => {
            let text = "invalid start-up packet: this is a PostgreSQL server";
            farewell(stream, &refusals::fatal_text("08P01", text)).await;
            StartupError::Protocol(WireError::Malformed("the start-up packet's length"))
        }
    }
}

async fn authenticated(
    mut stream: ClientStream,
    message: StartupMessage,
    terms: Terms,
) -> Result<Arrived, StartupError> {
    let (major, minor) = (message.major, message.minor);
    if major != 3 {
        let text = format!("unsupported frontend protocol {major}.{minor}: 3.0 is spoken");
        farewell(&mut stream, &refusals::fatal_text("0A000", &text)).await;
        return Err(StartupError::Version { major, minor });
    }
    let names = message.parameters.iter().map(|(name, _)| name.as_str());
    let unknown: Vec<&str> = names.filter(|n| n.starts_with("_pq_.")).collect();
    if minor > 0 || !unknown.is_empty() {
        stream.write_all(&wire::negotiate(0, &unknown)).await?;
    }
    if message.get("user").is_none_or(str::is_empty) {
        let text = "no PostgreSQL user name specified in startup packet";
        farewell(&mut stream, &refusals::fatal_text("28000", text)).await;
        return Err(StartupError::NoUser);
    }
    if let Some(password) = &terms.agent_password
        && let Err(error) = scram(&mut stream, password, &terms).await
    {
        let user = message.get("user").unwrap_or_default();
        let words = refusals::wrong_password(user, &error.to_string());
        farewell(&mut stream, &words).await;
        return Err(error);
    }
    stream.write_all(&authentication::ok()).await?;
    stream.flush().await?;
    Ok(Arrived::Session(Box::new(Startup {
        stream,
        message,
        terms,
    })))
}

async fn scram(
    stream: &mut ClientStream,
    password: &AgentPassword,
    terms: &Terms,
) -> Result<(), StartupError> {
    let end_point = match (&*stream, &terms.tls) {
        (ClientStream::Tls(_), Some(offer)) => Some(&*offer.end_point),
        _ => None,
    };
    stream
        .write_all(&authentication::sasl(scram::mechanisms(end_point)))
        .await?;
    stream.flush().await?;
    let (mechanism, first) = authentication::initial_response(answer(stream).await?)?;
    let (server, message) = scram::client_first(password, &mechanism, &first, end_point)?;
    stream
        .write_all(&authentication::sasl_continue(&message))
        .await?;
    stream.flush().await?;
    let message = server.client_final(&answer(stream).await?)?;
    stream
        .write_all(&authentication::sasl_final(&message))
        .await?;
    Ok(())
}

/// The body of the client's answer to an authentication request.
async fn answer(stream: &mut ClientStream) -> Result<Bytes, StartupError> {
    const NAME: &str = "the answer to the authentication request";
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let header = Header::peek(&head)?.ok_or(WireError::Truncated(NAME))?;
    if header.tag != authentication::PASSWORD {
        return Err(WireError::Malformed(NAME).into());
    }
    if header.body_len() > authentication::MAX_ANSWER {
        return Err(WireError::TooLarge(NAME).into());
    }
    let mut body = vec![0; header.body_len()];
    stream.read_exact(&mut body).await?;
    Ok(body.into())
}

/// The last words; closing at once could overtake them.
async fn farewell<S>(stream: &mut S, words: &[u8])
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let say = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        let mut scratch = [0; 1024];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that is gone already needs no words.
    let _ = tokio::time::timeout(LINGER, say).await;
}
