//! From a connected socket to ReadyForQuery.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::BytesMut;
use lru::LruCache;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ForwardError;
use super::tls::{ServerTls, end_point};
use crate::config::Login;
use crate::secret::Secret;
use crate::terminate::postgres::UpstreamStream;
use crate::wire::postgres::fields::NOTICE;
use crate::wire::postgres::frame;
use crate::wire::postgres::login::{self as wire, Answer};
use crate::wire::scram::{
    AwaitServerFirst, Binding, Keys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError,
};

/// Without TLS a server that demands fewer iterations could be anyone, gathering proofs that are
/// cheap to guess passwords from (RFC 7677 §4).
const MIN_ITERATIONS_PLAIN: u32 = 4096;

/// Bytes that one read is offered.
const READ: usize = 2048;

const NONCE_BYTES: usize = 18;

/// Bytes of what a server notices during one login that are kept: it notices a line or two.
const MOST_NOTICED: usize = 64 << 10;

const CACHED_KEYS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// A server connection during login.
pub(super) struct Channel {
    pub stream: UpstreamStream,
    pub input: BytesMut,
}

/// What the server told about itself until ReadyForQuery.
#[derive(Default)]
pub(super) struct Greeting {
    pub parameters: Vec<(String, String)>,
    pub pid: u32,
    pub key: u32,
    /// NoticeResponses as they came: a setting that was cut, a collation of another version.
    pub noticed: BytesMut,
}

/// SCRAM keys of passwords already used: deriving one costs more than the rest of the connection.
pub(super) struct KeyCache(Mutex<LruCache<[u8; 32], Keys>>);

impl Channel {
    /// Secures the connection where `tls` says so. The server's one byte is read alone, so nothing
    /// that was sent in the clear after it can pass for what came by TLS (CVE-2021-23222).
    pub async fn open(
        mut stream: TcpStream,
        tls: Option<&ServerTls>,
    ) -> Result<Self, ForwardError> {
        let Some(tls) = tls else {
            return Ok(Self {
                stream: UpstreamStream::Plain(stream),
                input: BytesMut::new(),
            });
        };
        stream.write_all(&wire::SSL_REQUEST).await?;
        match stream.read_u8().await? {
            b'S' => {}
            b'N' => return Err(ForwardError::NoTls),
            _ => {
                return Err(ForwardError::Protocol(
                    "no answer to the request for TLS".into(),
                ));
            }
        }
        if matches!(stream.try_read(&mut [0; 1]), Ok(1..)) {
            return Err(ForwardError::Protocol(
                "bytes in the clear before TLS began".into(),
            ));
        }
        let stream = UpstreamStream::Tls(Box::new(tls.handshake(stream).await?));
        Ok(Self {
            stream,
            input: BytesMut::new(),
        })
    }

    pub async fn send(&mut self, message: &[u8]) -> Result<(), ForwardError> {
        self.stream.write_all(message).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message that is no notice; an ErrorResponse is an error.
    pub async fn next(&mut self) -> Result<Answer, ForwardError> {
        loop {
            match self.hear().await? {
                Answer::Notice(_) => {}
                answer => return Ok(answer),
            }
        }
    }

    /// The next message; an ErrorResponse is an error.
    async fn hear(&mut self) -> Result<Answer, ForwardError> {
        loop {
            let answer = wire::next(&mut self.input)
                .map_err(|error| ForwardError::Protocol(error.to_string()))?;
            match answer {
                Some(Answer::Error(error)) => return Err(refused(error)),
                Some(answer) => return Ok(answer),
                None if self.read().await? > 0 => {}
                None => return Err(ForwardError::Io(std::io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<usize> {
        // The greeting is some hundred bytes; left to itself, an empty buffer takes 64 at a time.
        self.input.reserve(READ);
        self.stream.read_buf(&mut self.input).await
    }

    /// Authenticates and reads on until ReadyForQuery.
    pub async fn log_in(
        &mut self,
        login: &Login,
        startup: &[(&str, &str)],
        cache: &KeyCache,
    ) -> Result<Greeting, ForwardError> {
        self.send(&wire::startup(startup)).await?;
        self.authenticate(login, cache).await?;
        let mut greeting = Greeting::default();
        loop {
            match self.hear().await? {
                Answer::Notice(body) => greeting.notice(&body),
                Answer::ParameterStatus { name, value } => {
                    greeting.parameters.retain(|(known, _)| *known != name);
                    greeting.parameters.push((name, value));
                }
                Answer::BackendKeyData { pid, key } => (greeting.pid, greeting.key) = (pid, key),
                Answer::Ready => return Ok(greeting),
                other => return Err(unexpected(&other)),
            }
        }
    }

    async fn authenticate(&mut self, login: &Login, cache: &KeyCache) -> Result<(), ForwardError> {
        match self.next().await? {
            // The server trusts the address, or the certificate that TLS has shown it.
            Answer::AuthenticationOk => return Ok(()),
            Answer::CleartextPassword => {
                let password = password(login)?;
                if matches!(self.stream, UpstreamStream::Plain(_)) {
                    let why = "the server asks for the password in the clear, without TLS";
                    return Err(ForwardError::Login(why.into()));
                }
                self.send(&wire::cleartext(password)).await?;
            }
            Answer::Md5Password { salt } => {
                self.send(&wire::md5(&login.user, password(login)?, salt))
                    .await?;
            }
            Answer::Sasl { mechanisms } => {
                self.scram(password(login)?, &mechanisms, cache).await?;
            }
            Answer::OtherAuthentication(method) => {
                let why = format!(
                    "the server asks for authentication method {method} (Kerberos or the like), which hoop does not speak"
                );
                return Err(ForwardError::Login(why));
            }
            other => return Err(unexpected(&other)),
        }
        match self.next().await? {
            Answer::AuthenticationOk => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn scram(
        &mut self,
        password: &Secret,
        mechanisms: &[String],
        cache: &KeyCache,
    ) -> Result<(), ForwardError> {
        let binding = self.binding(mechanisms)?;
        let mechanism = binding.mechanism();
        let (client, first) = AwaitServerFirst::new(binding, nonce()?);
        self.send(&wire::sasl_initial(mechanism, &first)).await?;
        let Answer::SaslContinue(message) = self.next().await? else {
            return Err(ForwardError::Protocol("SCRAM was not continued".into()));
        };
        let exchange = client.server_first(&message)?;
        let plain = matches!(self.stream, UpstreamStream::Plain(_));
        if plain && exchange.iterations.get() < MIN_ITERATIONS_PLAIN {
            let why = "the server demands too few SCRAM iterations for a connection without TLS";
            return Err(ForwardError::Login(why.into()));
        }
        let keys = cache
            .get(password, &exchange.salt, exchange.iterations)
            .await?;
        let (client, last) = exchange.with_keys(&keys);
        self.send(&wire::sasl_response(&last)).await?;
        // AuthenticationOk alone would leave the server unproven.
        let Answer::SaslFinal(message) = self.next().await? else {
            return Err(ForwardError::Protocol(
                "the server did not prove the password".into(),
            ));
        };
        Ok(client.server_final(&message)?)
    }

    /// Binds to the server's certificate wherever both sides can.
    fn binding(&self, mechanisms: &[String]) -> Result<Binding, ForwardError> {
        let offers = |mechanism: &str| mechanisms.iter().any(|m| m == mechanism);
        let hash = match &self.stream {
            UpstreamStream::Plain(_) => None,
            UpstreamStream::Tls(stream) => {
                let certificates = stream.get_ref().1.peer_certificates();
                certificates
                    .and_then(|c| c.first())
                    .and_then(|c| end_point(c))
            }
        };
        match hash {
            Some(hash) if offers(SCRAM_SHA_256_PLUS) => Ok(Binding::EndPoint(hash)),
            _ if !offers(SCRAM_SHA_256) => {
                let why = format!("the server offers only {}", mechanisms.join(", "));
                Err(ForwardError::Login(why))
            }
            Some(_) => Ok(Binding::NotOffered),
            None => Ok(Binding::Unsupported),
        }
    }
}

impl Greeting {
    /// Keeps a notice for the client, unless the server goes on and on.
    fn notice(&mut self, body: &[u8]) {
        let message = frame::message(NOTICE, &[body]);
        if self.noticed.len() + message.len() <= MOST_NOTICED {
            self.noticed.extend_from_slice(&message);
        }
    }
}

impl KeyCache {
    pub fn new() -> Self {
        Self(Mutex::new(LruCache::new(CACHED_KEYS)))
    }

    async fn get(
        &self,
        password: &Secret,
        salt: &[u8],
        iterations: NonZeroU32,
    ) -> Result<Keys, ForwardError> {
        let mut name = digest::Context::new(&digest::SHA256);
        for part in [
            &(salt.len() as u64).to_be_bytes()[..],
            salt,
            &iterations.get().to_be_bytes(),
        ] {
            name.update(part);
        }
        name.update(password.expose().as_bytes());
        let name: [u8; 32] = name.finish().as_ref().try_into().unwrap_or([0; 32]);
        if let Some(keys) = self.lock().get(&name) {
            return Ok(keys.clone());
        }
        let (password, salt) = (password.clone(), salt.to_vec());
        // Up to half a second of computing must not hold other sessions up.
        let derive = move || Keys::derive(password.expose(), &salt, iterations);
        let keys = tokio::task::spawn_blocking(derive)
            .await
            .map_err(|error| ForwardError::Login(error.to_string()))?;
        self.lock().put(name, keys.clone());
        Ok(keys)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<[u8; 32], Keys>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn password(login: &Login) -> Result<&Secret, ForwardError> {
    login.password.as_ref().ok_or_else(|| {
        let why = "the server asks for a password, and the resource's login has none";
        ForwardError::Login(why.into())
    })
}

fn nonce() -> Result<String, ForwardError> {
    let mut bytes = [0; NONCE_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ForwardError::Login("the system has no randomness".into()))?;
    Ok(BASE64.encode(bytes))
}

/// The server's own words, cut to what a person reads and a terminal bears.
fn refused(error: wire::ServerError) -> ForwardError {
    let clean = |text: String, most| {
        text.chars()
            .filter(|c| !c.is_control())
            .take(most)
            .collect()
    };
    ForwardError::Server {
        code: clean(error.code, 5),
        message: clean(error.message, 300),
    }
}

fn unexpected(answer: &Answer) -> ForwardError {
    let what = match answer {
        Answer::Other(tag) => format!("an unexpected message of type {:?}", char::from(*tag)),
        Answer::NegotiateProtocolVersion => "it does not speak protocol 3.0".into(),
        _ => "a message out of its order".into(),
    };
    ForwardError::Protocol(what)
}

impl From<ScramError> for ForwardError {
    fn from(error: ScramError) -> Self {
        Self::Login(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_kept_up_to_a_bound() {
        let mut greeting = Greeting::default();
        greeting.notice(b"Mone\0\0");
        assert_eq!(&greeting.noticed[..], b"N\0\0\0\x0aMone\0\0");
        for _ in 0..1000 {
            greeting.notice(&[b'x'; 500]);
        }
        assert!(greeting.noticed.len() <= MOST_NOTICED);
        assert!(greeting.noticed.len() > MOST_NOTICED / 2);
    }
}
