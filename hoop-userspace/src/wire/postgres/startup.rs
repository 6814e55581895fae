//! The first packets of a connection: they have a length and no type byte.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;
use super::frame;

const NAME: &str = "the start-up packet";

/// PostgreSQL's own limit, the length word included.
pub const MAX_STARTUP: usize = 10_000;

/// Length word and code: what every first packet has.
pub const MIN_STARTUP: usize = 8;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// A cancel key is at most this long (protocol 3.2).
const MAX_KEY: usize = 256;

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    SslRequest,
    GssEncRequest,
    Cancel { pid: u32, key: Bytes },
    Startup(StartupMessage),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupMessage {
    pub major: u16,
    pub minor: u16,
    /// In the client's order, repeated names included.
    pub parameters: Vec<(String, String)>,
}

impl StartupMessage {
    /// The last value that the client gave for `name`, as the server reads it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The length that the first four bytes claim, if a start-up packet may have it.
pub fn claimed(length: [u8; 4]) -> Result<usize, WireError> {
    match usize::try_from(u32::from_be_bytes(length)) {
        Ok(length @ MIN_STARTUP..=MAX_STARTUP) => Ok(length),
        _ => Err(WireError::Malformed(NAME)),
    }
}

/// Decodes a packet without its length word.
pub fn decode(mut packet: Bytes) -> Result<First, WireError> {
    let code = packet
        .try_get_u32()
        .map_err(|_| WireError::Truncated(NAME))?;
    match code {
        SSL if packet.is_empty() => Ok(First::SslRequest),
        GSS if packet.is_empty() => Ok(First::GssEncRequest),
        SSL | GSS => Err(WireError::Trailing(NAME)),
        CANCEL => cancel(packet),
        version => Ok(First::Startup(StartupMessage {
            major: (version >> 16) as u16,
            minor: version as u16,
            parameters: match version >> 16 {
                3 => parameters(packet)?,
                // What another major version says is unknown; the caller names the version.
                _ => Vec::new(),
            },
        })),
    }
}

fn cancel(mut packet: Bytes) -> Result<First, WireError> {
    let pid = packet
        .try_get_u32()
        .map_err(|_| WireError::Truncated("CancelRequest"))?;
    match packet.len() {
        4..=MAX_KEY => Ok(First::Cancel { pid, key: packet }),
        _ => Err(WireError::Malformed("CancelRequest")),
    }
}

fn parameters(mut packet: Bytes) -> Result<Vec<(String, String)>, WireError> {
    let mut parameters = Vec::new();
    loop {
        let name = text(&mut packet)?;
        if name.is_empty() {
            frame::nothing_left(&packet, NAME)?;
            return Ok(parameters);
        }
        parameters.push((name, text(&mut packet)?));
    }
}

fn text(packet: &mut Bytes) -> Result<String, WireError> {
    let bytes = frame::text(packet, NAME)?;
    String::from_utf8(bytes.into()).map_err(|_| WireError::Malformed(NAME))
}

/// Encodes a first packet. Zeros in texts are left out.
pub fn encode(first: &First) -> Bytes {
    let mut out = BytesMut::from(&[0; 4][..]);
    match first {
        First::SslRequest => out.put_u32(SSL),
        First::GssEncRequest => out.put_u32(GSS),
        First::Cancel { pid, key } => {
            out.put_u32(CANCEL);
            out.put_u32(*pid);
            out.put_slice(key);
        }
        First::Startup(startup) => {
            out.put_u16(startup.major);
            out.put_u16(startup.minor);
            for (name, value) in startup
                .parameters
                .iter()
                .filter(|(name, _)| !name.is_empty())
            {
                frame::put_text(&mut out, name);
                frame::put_text(&mut out, value);
            }
            out.put_u8(0);
        }
    }
    frame::end(&mut out, 0);
    out.freeze()
}

/// NegotiateProtocolVersion: the newest minor version, and the `_pq_.` options not known here.
pub fn negotiate(minor: u32, unknown: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    let at = frame::begin(&mut out, b'v');
    out.put_u32(minor);
    out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
    unknown
        .iter()
        .for_each(|name| frame::put_text(&mut out, name));
    frame::end(&mut out, at);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(first: &First) -> Result<First, WireError> {
        let mut wire = encode(first);
        let length = wire.split_to(4);
        assert_eq!(claimed(*length.first_chunk().unwrap())?, wire.len() + 4);
        decode(wire)
    }

    #[test]
    fn other_protocols_are_no_start() {
        for bytes in [
            b"GET ",
            b"SSH-",
            b"\x16\x03\x01\x02",
            b"\0\0\0\x07",
            b"\0\0\x27\x11",
        ] {
            assert!(claimed(*bytes).is_err());
        }
    }

    #[test]
    fn the_last_value_counts() {
        let parameters = vec![("user".into(), "a".into()), ("user".into(), "b".into())];
        let startup = StartupMessage {
            major: 3,
            minor: 0,
            parameters,
        };
        assert_eq!(startup.get("user"), Some("b"));
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(
            minor: u16, pid: u32, key in prop::collection::vec(any::<u8>(), 4..=256),
            parameters in prop::collection::vec(("[^\0]{1,9}", "[^\0]{0,9}"), 0..6),
        ) {
            for first in [
                First::SslRequest,
                First::GssEncRequest,
                First::Cancel { pid, key: key.into() },
                First::Startup(StartupMessage { major: 3, minor, parameters }),
            ] {
                prop_assert_eq!(round(&first), Ok(first));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = decode(bytes.into());
        }
    }
}
