//! Reads a TLS ClientHello far enough to know whom the client asks for.
//!
//! Egress by name needs the server name before anything is dialled. Nothing is terminated here: the
//! bytes are read, judged and relayed as they stand (RFC 8446 §4.1.2 and §5.1, RFC 6066 §3,
//! RFC 7301).

/// The most bytes that a ClientHello may take, record headers included. Browsers send under 2 KiB,
/// post-quantum key shares included; a record holds at most 16 KiB.
pub const MAX_HELLO: usize = 32 * 1024;

const RECORD_HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;
/// RFC 8446 §5.1: a plaintext record's fragment.
const MAX_FRAGMENT: usize = 1 << 14;
const MAX_PROTOCOLS: usize = 32;

const CONTENT_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
/// RFC 9849.
const EXTENSION_ECH: u16 = 0xfe0d;

/// What a client says of itself before encryption starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name, in lower case and without a trailing dot; `None` where the client sent none.
    pub server_name: Option<String>,
    /// Application protocols in the client's order, reserved (GREASE) values left out.
    pub protocols: Vec<Vec<u8>>,
    /// The client offers Encrypted ClientHello, or pretends to: `server_name` may be a cover name.
    pub encrypted_hello: bool,
}

/// Why bytes are no ClientHello. There is no recovering from any of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    #[error("the client does not speak TLS")]
    NotTls,
    #[error("the TLS ClientHello is larger than {MAX_HELLO} bytes")]
    TooLarge,
    #[error("the TLS ClientHello is malformed: {0}")]
    Malformed(&'static str),
}

/// Reads the ClientHello at the start of `bytes`; `None` means that more bytes are needed, and
/// never comes once `bytes` holds [`MAX_HELLO`].
pub fn client_hello(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    match handshake(bytes)? {
        Some(body) => parse(&body).map(Some),
        None if bytes.len() >= MAX_HELLO => Err(HelloError::TooLarge),
        None => Ok(None),
    }
}

/// Joins the fragments of the first handshake message; `None` while it is incomplete.
fn handshake(bytes: &[u8]) -> Result<Option<Vec<u8>>, HelloError> {
    let mut rest = Reader(bytes);
    let mut message = Vec::new();
    let mut wanted = None;
    while !rest.0.is_empty() {
        let Some(fragment) = record(&mut rest)? else {
            return Ok(None);
        };
        message.extend_from_slice(fragment);
        if wanted.is_none() {
            wanted = message_length(&message)?;
        }
        if let Some(wanted) = wanted
            && message.len() >= wanted
        {
            message.truncate(wanted);
            message.drain(..HANDSHAKE_HEADER);
            return Ok(Some(message));
        }
    }
    Ok(None)
}

/// One record's fragment; `None` while it is incomplete. What is wrong with its header is said as
/// soon as the header's bytes are there, so that a client of another protocol does not wait.
fn record<'a>(rest: &mut Reader<'a>) -> Result<Option<&'a [u8]>, HelloError> {
    let header = rest.0;
    if header
        .first()
        .is_some_and(|kind| *kind != CONTENT_HANDSHAKE)
        || header.get(1).is_some_and(|major| *major != 3)
    {
        return Err(HelloError::NotTls);
    }
    let (Some(_), Some(length)) = (rest.take(RECORD_HEADER - 2), rest.u16()) else {
        return Ok(None);
    };
    match usize::from(length) {
        0 => Err(HelloError::Malformed("an empty handshake record")),
        length if length > MAX_FRAGMENT => Err(HelloError::Malformed("an oversized record")),
        length => Ok(rest.take(length)),
    }
}

/// The whole length of the handshake message that starts here, its header included.
fn message_length(message: &[u8]) -> Result<Option<usize>, HelloError> {
    let &[kind, high, middle, low, ..] = message else {
        return match message.first() {
            Some(kind) if *kind != CLIENT_HELLO => Err(HelloError::Malformed("not a ClientHello")),
            _ => Ok(None),
        };
    };
    if kind != CLIENT_HELLO {
        return Err(HelloError::Malformed("not a ClientHello"));
    }
    let length = u32::from_be_bytes([0, high, middle, low]) as usize + HANDSHAKE_HEADER;
    if length > MAX_HELLO {
        return Err(HelloError::TooLarge);
    }
    Ok(Some(length))
}

fn parse(body: &[u8]) -> Result<ClientHello, HelloError> {
    const SHORT: HelloError = HelloError::Malformed("it ends early");
    let mut rest = Reader(body);
    // Version and random.
    rest.take(2 + 32).ok_or(SHORT)?;
    // Session id, cipher suites, compression methods.
    rest.vector8().ok_or(SHORT)?;
    rest.vector16().ok_or(SHORT)?;
    rest.vector8().ok_or(SHORT)?;
    let mut hello = ClientHello::default();
    if rest.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Reader(rest.vector16().ok_or(SHORT)?);
    if !rest.0.is_empty() {
        return Err(HelloError::Malformed("bytes after the extensions"));
    }
    let mut seen = Seen::default();
    while !extensions.0.is_empty() {
        let kind = extensions.u16().ok_or(SHORT)?;
        let content = extensions.vector16().ok_or(SHORT)?;
        match kind {
            EXTENSION_SERVER_NAME => {
                once(&mut seen.server_name)?;
                hello.server_name = Some(server_name(content)?);
            }
            EXTENSION_ALPN => {
                once(&mut seen.alpn)?;
                hello.protocols = protocols(content)?;
            }
            EXTENSION_ECH => hello.encrypted_hello = true,
            // GREASE (RFC 8701) and everything else says nothing about whom the client asks for.
            _ => {}
        }
    }
    Ok(hello)
}

/// Which extensions were there. A repeated one must not be judged by one copy and obeyed by another.
#[derive(Default)]
struct Seen {
    server_name: bool,
    alpn: bool,
}

fn once(seen: &mut bool) -> Result<(), HelloError> {
    match std::mem::replace(seen, true) {
        true => Err(HelloError::Malformed("an extension appears twice")),
        false => Ok(()),
    }
}

/// RFC 6066 §3: one host name, in ASCII, no address.
fn server_name(content: &[u8]) -> Result<String, HelloError> {
    const BAD: HelloError = HelloError::Malformed("the server name is not one host name");
    let mut outer = Reader(content);
    let mut list = Reader(outer.vector16().ok_or(BAD)?);
    let kind = list.u8().ok_or(BAD)?;
    let name = list.vector16().ok_or(BAD)?;
    if kind != 0 || !list.0.is_empty() || !outer.0.is_empty() {
        return Err(BAD);
    }
    let name = std::str::from_utf8(name).map_err(|_| BAD)?;
    host_name(name).ok_or(BAD)
}

/// A host name as names are compared here: lower case, no trailing dot; `None` if it is none.
pub fn host_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = (1..=253).contains(&name.len())
        && name.split('.').all(|label| (1..=63).contains(&label.len()))
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    fits.then(|| name.to_ascii_lowercase())
}

fn protocols(content: &[u8]) -> Result<Vec<Vec<u8>>, HelloError> {
    const BAD: HelloError = HelloError::Malformed("the list of application protocols");
    let mut outer = Reader(content);
    let mut list = Reader(outer.vector16().ok_or(BAD)?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vector8().filter(|p| !p.is_empty()).ok_or(BAD)?;
        if is_grease(protocol) {
            continue;
        }
        if protocols.len() == MAX_PROTOCOLS {
            return Err(BAD);
        }
        protocols.push(protocol.to_vec());
    }
    Ok(protocols)
}

/// RFC 8701 §2: two equal bytes whose low half is `a`.
fn is_grease(protocol: &[u8]) -> bool {
    matches!(protocol, [a, b] if a == b && a & 0x0f == 0x0a)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        let mut out = kind.to_be_bytes().to_vec();
        out.extend(vector(content));
        out
    }

    fn vector(content: &[u8]) -> Vec<u8> {
        let mut out = (content.len() as u16).to_be_bytes().to_vec();
        out.extend(content);
        out
    }

    fn sni(name: &str) -> Vec<u8> {
        let mut entry = vec![0];
        entry.extend(vector(name.as_bytes()));
        extension(EXTENSION_SERVER_NAME, &vector(&entry))
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(vector(extensions));
        let mut out = vec![CLIENT_HELLO, 0];
        out.extend(vector(&body));
        out
    }

    /// The message in records of at most `size` bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message
            .chunks(size)
            .flat_map(|c| [vec![CONTENT_HANDSHAKE, 3, 1], vector(c)].concat())
            .collect()
    }

    #[test]
    fn what_rustls_sends_is_read() {
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = "API.llm.example".to_string().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        let hello = client_hello(&bytes).unwrap().unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("api.llm.example"));
        assert_eq!(hello.protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert!(!hello.encrypted_hello);
    }

    #[test]
    fn grease_and_encrypted_hello_are_noted() {
        let alpn = [2, 0x3a, 0x3a, 2, b'h', b'2'];
        let extensions = [
            extension(0x2a2a, &[]),
            extension(EXTENSION_ALPN, &vector(&alpn)),
            extension(EXTENSION_ECH, &[1, 2, 3]),
            sni("cover.example."),
        ]
        .concat();
        let hello = client_hello(&records(&message(&extensions), 1000))
            .unwrap()
            .unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("cover.example"));
        assert_eq!(hello.protocols, [b"h2".to_vec()]);
        assert!(hello.encrypted_hello);
    }

    #[test]
    fn a_second_name_is_refused() {
        let twice = [sni("a.example"), sni("b.example")].concat();
        assert_eq!(
            client_hello(&records(&message(&twice), 500)),
            Err(HelloError::Malformed("an extension appears twice"))
        );
    }

    #[test]
    fn other_protocols_are_told_apart_at_once() {
        for start in [
            b"G".as_slice(),
            b"SSH-2.0",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x16G",
        ] {
            assert_eq!(client_hello(start), Err(HelloError::NotTls));
        }
    }

    #[test]
    fn a_hello_without_end_is_bounded() {
        let huge = [vec![CLIENT_HELLO, 0xff, 0xff, 0xff], vec![0; 100]].concat();
        assert_eq!(client_hello(&records(&huge, 50)), Err(HelloError::TooLarge));
        let slow = records(&[CLIENT_HELLO, 0, 0x7f, 0xf0].repeat(8), 1).repeat(200);
        assert_eq!(client_hello(&slow[..MAX_HELLO]), Err(HelloError::TooLarge));
        let empty = [CONTENT_HANDSHAKE, 3, 1, 0, 0];
        assert!(client_hello(&empty).is_err());
    }

    #[test]
    fn names_that_are_none() {
        for name in ["", ".", "a..b", "a b", "a\0b", "ü.example", "-"] {
            let accepted = host_name(name).is_some();
            assert_eq!(accepted, name == "-", "{name:?}");
        }
        assert_eq!(host_name("A.Example."), Some("a.example".into()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = client_hello(&bytes);
            let _ = client_hello(&records(&bytes, 7));
            let _ = parse(&bytes);
        }

        #[test]
        fn any_fragmentation_and_any_prefix(
            name in "[a-z]{1,20}\\.[a-z]{2,5}",
            junk in proptest::collection::vec(any::<u8>(), 0..300),
            size in 1usize..600,
            tail: Vec<u8>,
        ) {
            let extensions = [extension(0x5a5a, &junk), sni(&name)].concat();
            let bytes = records(&message(&extensions), size);
            for end in 0..bytes.len() {
                prop_assert_eq!(client_hello(&bytes[..end]), Ok(None));
            }
            let with_tail = [bytes, tail].concat();
            let hello = client_hello(&with_tail).unwrap().unwrap();
            prop_assert_eq!(hello.server_name, Some(name));
        }
    }
}
