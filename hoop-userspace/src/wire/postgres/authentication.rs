//! Authentication as a server speaks it: the requests, and what a client answers with SASL.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;
use super::frame;

/// Type byte of every answer to an authentication request.
pub const PASSWORD: u8 = b'p';

/// The longest answer that is read before a client is logged in; PostgreSQL's own limit.
pub const MAX_ANSWER: usize = 65_536;

const AUTHENTICATION: u8 = b'R';
const OK: u32 = 0;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

pub fn ok() -> Bytes {
    frame::message(AUTHENTICATION, &[&OK.to_be_bytes()])
}

/// AuthenticationSASL: the mechanisms that may be chosen, best first.
pub fn sasl(mechanisms: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    let at = frame::begin(&mut out, AUTHENTICATION);
    out.put_u32(SASL);
    mechanisms.iter().for_each(|m| frame::put_text(&mut out, m));
    out.put_u8(0);
    frame::end(&mut out, at);
    out.freeze()
}

pub fn sasl_continue(data: &str) -> Bytes {
    frame::message(
        AUTHENTICATION,
        &[&SASL_CONTINUE.to_be_bytes(), data.as_bytes()],
    )
}

pub fn sasl_final(data: &str) -> Bytes {
    frame::message(
        AUTHENTICATION,
        &[&SASL_FINAL.to_be_bytes(), data.as_bytes()],
    )
}

/// Decodes SASLInitialResponse: the chosen mechanism and the client's first message.
pub fn initial_response(mut body: Bytes) -> Result<(String, Bytes), WireError> {
    const NAME: &str = "SASLInitialResponse";
    let mechanism = frame::text(&mut body, NAME)?;
    let mechanism = String::from_utf8(mechanism.into()).map_err(|_| WireError::Malformed(NAME))?;
    let length = body.try_get_i32().map_err(|_| WireError::Truncated(NAME))?;
    match usize::try_from(length) {
        Ok(length) if length == body.len() => Ok((mechanism, body)),
        _ => Err(WireError::Malformed(NAME)),
    }
}

/// Encodes SASLInitialResponse, for tests and for clients.
pub fn initial_response_message(mechanism: &str, data: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    let at = frame::begin(&mut out, PASSWORD);
    frame::put_text(&mut out, mechanism);
    out.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
    out.put_slice(data);
    frame::end(&mut out, at);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decode_undoes_encode(mechanism in "[^\0]{0,20}", data: Vec<u8>) {
            let body = initial_response_message(&mechanism, &data).slice(5..);
            prop_assert_eq!(initial_response(body), Ok((mechanism, data.into())));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = initial_response(bytes.into());
        }
    }
}
