//! What a forwarded connection begins with, as far as that tells its protocol.
//!
//! Through a port-forward a client reaches a server by an address that no resource has: what hoop
//! decides of a database or a host elsewhere, it does not see there. So connections are looked at
//! until it is known that they speak nothing that hoop governs by resources of its own. What is
//! within TLS cannot be told, but for clients that say it in their ClientHello.

use bytes::{Bytes, BytesMut};

use crate::wire::tls::{self, HelloError};

/// A protocol that resources govern, or one that nobody can tell from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Postgres,
    Ssh,
    /// What it is for is in a ClientHello that cannot be read: it may be any of them.
    UnreadableTls,
}

impl Spoken {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Ssh => "SSH",
            Self::UnreadableTls => "TLS that cannot be read",
        }
    }
}

/// The first bytes of a connection, as the client sends them.
#[derive(Debug, Default)]
pub struct Beginning(BytesMut);

/// What became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing yet: what came is held. Never with more than [`tls::MAX_HELLO`] bytes.
    More,
    /// Nothing that is governed: these bytes, all that came so far, may pass, and so may all that
    /// follow.
    Other(Bytes),
    Governed(Spoken),
}

enum Guess {
    More,
    Other,
    Is(Spoken),
}

impl Beginning {
    /// Takes what came; with `end` nothing follows.
    pub fn take(&mut self, bytes: &[u8], end: bool) -> Told {
        self.0.extend_from_slice(bytes);
        match guess(&self.0) {
            Guess::Is(spoken) => Told::Governed(spoken),
            Guess::More if !end => Told::More,
            Guess::More | Guess::Other => Told::Other(self.0.split().freeze()),
        }
    }
}

fn guess(bytes: &[u8]) -> Guess {
    match bytes.first() {
        None => Guess::More,
        Some(b'S') => ssh(bytes),
        Some(0) => postgres(bytes),
        Some(0x16) => hello(bytes),
        Some(_) => Guess::Other,
    }
}

/// The identification string of RFC 4253, 4.2. Clients send it first or after the server's: either
/// way it is the first that they send.
fn ssh(bytes: &[u8]) -> Guess {
    const BEGINS: &[u8] = b"SSH-";
    match (bytes.starts_with(BEGINS), BEGINS.starts_with(bytes)) {
        (true, _) => Guess::Is(Spoken::Ssh),
        (false, true) => Guess::More,
        (false, false) => Guess::Other,
    }
}

/// StartupMessage, CancelRequest, SSLRequest and GSSENCRequest: a length, and a version or a code
/// in its place.
fn postgres(bytes: &[u8]) -> Guess {
    /// Servers take no longer one (`MAX_STARTUP_PACKET_LENGTH`).
    const LONGEST: u32 = 10_000;
    let Some((head, _)) = bytes.split_first_chunk::<8>() else {
        let fits = |at: usize, fits: fn(u8) -> bool| bytes.get(at).is_none_or(|byte| fits(*byte));
        let begins = fits(1, |b| b == 0) && fits(4, |b| matches!(b, 0 | 4));
        return if begins { Guess::More } else { Guess::Other };
    };
    let [a, b, c, d, version @ ..] = *head;
    let length = u32::from_be_bytes([a, b, c, d]);
    let version = u32::from_be_bytes(version);
    let known = matches!(version >> 16, 2 | 3 | 1234);
    match known && (8..=LONGEST).contains(&length) {
        true => Guess::Is(Spoken::Postgres),
        false => Guess::Other,
    }
}

/// TLS from the first byte on: libpq then says what it is for.
fn hello(bytes: &[u8]) -> Guess {
    match tls::client_hello(bytes) {
        Ok(None) => Guess::More,
        Ok(Some(hello)) if hello.protocols.iter().any(|p| p == b"postgresql") => {
            Guess::Is(Spoken::Postgres)
        }
        Ok(Some(_)) | Err(HelloError::NotTls) => Guess::Other,
        // A server may take more than this reader does.
        Err(_) => Guess::Is(Spoken::UnreadableTls),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Told {
        Beginning::default().take(bytes, false)
    }

    const STARTUP: &[u8] = b"\0\0\0\x14\0\x03\0\0user\0joe\0\0";
    const SSL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

    #[test]
    fn what_resources_govern_is_known_by_its_first_bytes() {
        for (bytes, spoken) in [
            (STARTUP, Spoken::Postgres),
            (SSL, Spoken::Postgres),
            // CancelRequest, GSSENCRequest, and a version that is asked for in vain.
            (
                b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02",
                Spoken::Postgres,
            ),
            (b"\0\0\0\x08\x04\xd2\x16\x30", Spoken::Postgres),
            (b"\0\0\0\x14\0\x03\0\x02", Spoken::Postgres),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Spoken::Ssh),
            (b"SSH-1.99-x", Spoken::Ssh),
        ] {
            assert_eq!(whole(bytes), Told::Governed(spoken), "{bytes:?}");
        }
    }

    #[test]
    fn what_speaks_something_else_passes_as_it_came() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PING\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"SMTP",
            b"SSL",
            b"\0\x01binary",
            b"\0\0\0\x04\0\x03\0\0",
            b"\0\0\0\x14\0\x04\0\0",
            b"\x16\x02not TLS",
        ] {
            assert_eq!(whole(bytes), Told::Other(Bytes::copy_from_slice(bytes)));
        }
        assert_eq!(whole(b"SS"), Told::More);
        assert_eq!(
            Beginning::default().take(b"SS", true),
            Told::Other(Bytes::from_static(b"SS"))
        );
    }

    #[test]
    fn tls_that_cannot_be_read_is_refused() {
        for bytes in [
            // An empty record, a record above 16 KiB, and a handshake that is no ClientHello.
            &b"\x16\x03\x01\0\0"[..],
            b"\x16\x03\x01\xff\xff",
            b"\x16\x03\x01\0\x04\x02\0\0\0",
            // A ClientHello of a megabyte, and one without anything in it.
            b"\x16\x03\x01\0\x04\x01\x10\0\0",
            b"\x16\x03\x01\0\x04\x01\0\0\0",
        ] {
            let told = Told::Governed(Spoken::UnreadableTls);
            assert_eq!(whole(bytes), told, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_tells_the_same(bytes: Vec<u8>, which in 0_usize..4, piece in 1_usize..9) {
            let bytes = match which {
                0 => [STARTUP, &bytes].concat(),
                1 => [SSL, &bytes].concat(),
                2 => [b"SSH-2.0-", &bytes[..]].concat(),
                _ => bytes,
            };
            let mut beginning = Beginning::default();
            let mut passed = Vec::new();
            let mut governed = None;
            let mut rest = bytes.chunks(piece);
            for part in rest.by_ref() {
                match beginning.take(part, false) {
                    Told::More => continue,
                    Told::Other(bytes) => passed.extend_from_slice(&bytes),
                    Told::Governed(spoken) => governed = Some(spoken),
                }
                break;
            }
            if let (true, Told::Other(bytes)) = (passed.is_empty() && governed.is_none(), beginning.take(b"", true)) {
                passed.extend_from_slice(&bytes);
            }
            for part in rest {
                passed.extend_from_slice(part);
            }
            match whole(&bytes) {
                Told::Governed(spoken) => prop_assert_eq!(governed, Some(spoken)),
                Told::Other(_) | Told::More => {
                    prop_assert_eq!(governed, None);
                    prop_assert_eq!(passed, bytes);
                }
            }
        }
    }
}
