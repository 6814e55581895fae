//! Asking destinations what they speak (`--probe`): a connection or two to each, without any account,
//! name or secret, and only to addresses that something on this host connected to.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, Stream,
};

use super::host::within;
use super::protocol::{HTTPS, KUBERNETES, POSTGRES, SSH};

/// Destinations that are asked, and the time for each.
pub const MOST: usize = 64;
const PATIENCE: Duration = Duration::from_secs(3);
/// For servers that speak first.
const GREETING: Duration = Duration::from_millis(500);
/// SSLRequest of PostgreSQL's protocol.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const LONGEST_ANSWER: usize = 64 << 10;

/// A destination, and the namespace that it is reached from; `None` for the own one.
pub struct Asked {
    pub destination: SocketAddr,
    pub door: Option<Arc<File>>,
}

/// What each says it speaks, all asked at once; `None` of what cannot be told. At most [`MOST`] are
/// asked.
pub fn probe(all: &[Asked]) -> Vec<Option<&'static str>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = all
            .iter()
            .take(MOST)
            .map(|asked| {
                std::thread::Builder::new().spawn_scoped(scope, move || match &asked.door {
                    None => ask(asked.destination),
                    Some(door) => within(door, || ask(asked.destination)).ok()?,
                })
            })
            .collect();
        let answers = threads.into_iter().map(|thread| thread.ok()?.join().ok()?);
        let mut answers: Vec<_> = answers.collect();
        answers.resize(all.len(), None);
        answers
    })
}

fn ask(destination: SocketAddr) -> Option<&'static str> {
    let until = Instant::now() + PATIENCE;
    plain(destination, until).or_else(|| encrypted(destination, until))
}

/// What a server says by itself, or to PostgreSQL's first question.
fn plain(destination: SocketAddr, until: Instant) -> Option<&'static str> {
    let mut stream = connect(destination, until)?;
    let greeting = read(&mut stream, until.min(Instant::now() + GREETING));
    if !greeting.is_empty() {
        return greeted(&greeting);
    }
    stream.write_all(&SSL_REQUEST).ok()?;
    // Half of the time is left for the other question.
    let middle = until.checked_sub(PATIENCE / 2)?;
    let answer = read(&mut stream, middle.max(Instant::now() + GREETING));
    matches!(answer.as_slice(), b"S" | b"N").then_some(POSTGRES)
}

fn greeted(greeting: &[u8]) -> Option<&'static str> {
    // Length, sequence 0 and version 10 of MySQL's protocol.
    let mysql = greeting.get(3..5) == Some(&[0, 10]);
    match greeting {
        [b'S', b'S', b'H', b'-', ..] => Some(SSH),
        [b'2', b'2', b'0', ..] => Some("smtp or ftp"),
        _ if mysql => Some("mysql"),
        _ => None,
    }
}

/// What is behind TLS: Kubernetes' API servers tell their version, or refuse in their own words.
fn encrypted(destination: SocketAddr, until: Instant) -> Option<&'static str> {
    let mut stream = connect(destination, until)?;
    let name = ServerName::IpAddress(destination.ip().into());
    let mut tls = ClientConnection::new(Arc::new(client().ok()?), name).ok()?;
    stream.set_write_timeout(Some(left(until)?)).ok()?;
    while tls.is_handshaking() {
        stream.set_read_timeout(Some(left(until)?)).ok()?;
        tls.complete_io(&mut stream).ok()?;
    }
    let request = format!(
        "GET /version HTTP/1.1\r\nHost: {destination}\r\nAccept: application/json\r\nUser-Agent: hoop-discover\r\nConnection: close\r\n\r\n"
    );
    let mut answer = Vec::new();
    let mut talk = Stream::new(&mut tls, &mut stream);
    if talk.write_all(request.as_bytes()).is_ok() {
        let mut buffer = [0; 4096];
        while answer.len() < LONGEST_ANSWER && over(&answer).is_none() {
            let Some(left) = left(until) else { break };
            if talk.sock.set_read_timeout(Some(left)).is_err() {
                break;
            }
            match talk.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => answer.extend(buffer.get(..length).unwrap_or_default()),
            }
        }
    }
    Some(over(&answer).unwrap_or(match answer.starts_with(b"HTTP/") {
        true => HTTPS,
        false => "tls",
    }))
}

/// Whether an answer says enough already.
fn over(answer: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let version = body.contains("\"gitVersion\"");
    let status = body.contains("\"kind\":\"Status\"") || body.contains("\"kind\": \"Status\"");
    let json = head.to_ascii_lowercase().contains("application/json");
    (head.starts_with("HTTP/") && json && (version || status)).then_some(KUBERNETES)
}

fn connect(destination: SocketAddr, until: Instant) -> Option<TcpStream> {
    TcpStream::connect_timeout(&destination, left(until)?).ok()
}

/// The first that comes.
fn read(stream: &mut TcpStream, until: Instant) -> Vec<u8> {
    let mut buffer = [0; 256];
    let Some(left) = left(until).filter(|left| stream.set_read_timeout(Some(*left)).is_ok()) else {
        return Vec::new();
    };
    let _ = left;
    loop {
        match stream.read(&mut buffer) {
            Ok(length) => return buffer.get(..length).unwrap_or_default().to_vec(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Vec::new(),
        }
    }
}

fn left(until: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

fn client() -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.enable_sni = false;
    Ok(config)
}

/// Whoever it is: nothing is told to it, and what it says is only shown.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that says `greeting`, and `answer` to what it is asked.
    fn server(greeting: &'static [u8], answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let _ = stream.write_all(greeting);
                let mut buffer = [0; 8];
                if stream.read_exact(&mut buffer).is_ok() && buffer == SSL_REQUEST {
                    let _ = stream.write_all(answer);
                }
            }
        });
        address
    }

    #[test]
    fn servers_say_what_they_are() {
        let nobody = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let all = [
            server(b"SSH-2.0-x\r\n", b""),
            server(b"", b"S"),
            server(b"\x4a\x00\x00\x00\x0a8.0", b""),
            server(b"", b"EFATAL"),
            nobody,
            silent.local_addr().unwrap(),
        ];
        let asked: Vec<Asked> = all
            .into_iter()
            .map(|destination| Asked {
                destination,
                door: None,
            })
            .collect();
        let began = Instant::now();
        let said = probe(&asked);
        assert_eq!(
            said,
            [Some(SSH), Some(POSTGRES), Some("mysql"), None, None, None]
        );
        assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
    }

    #[test]
    fn an_api_server_is_known_by_its_answer() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
        let version = format!("{head}{{\"gitVersion\": \"v1.37\"}}");
        assert_eq!(over(version.as_bytes()), Some(KUBERNETES));
        let refused = format!("{head}{{\"kind\":\"Status\",\"code\":401}}");
        assert_eq!(over(refused.as_bytes()), Some(KUBERNETES));
        assert_eq!(over(format!("{head}{{}}").as_bytes()), None);
        assert_eq!(over(b"\"gitVersion\""), None);
    }
}
