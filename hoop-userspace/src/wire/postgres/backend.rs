//! What a server sends once the client is logged in, as far as its fields matter.

use bytes::{BufMut, Bytes, BytesMut};

use super::WireError;
use super::frame;

/// Type bytes.
pub mod tag {
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const ROW_DESCRIPTION: u8 = b'T';
    pub const NO_DATA: u8 = b'n';
    pub const DATA_ROW: u8 = b'D';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const EMPTY_QUERY: u8 = b'I';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const ERROR: u8 = b'E';
    pub const NOTICE: u8 = b'N';
    pub const READY: u8 = b'Z';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const NOTIFICATION: u8 = b'A';
    pub const FUNCTION_RESULT: u8 = b'V';
    pub const COPY_IN: u8 = b'G';
    pub const COPY_OUT: u8 = b'H';
    pub const COPY_BOTH: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
}

/// Where the server stands between two requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transaction {
    #[default]
    Idle,
    Open,
    Failed,
}

/// Decodes the body of ReadyForQuery.
pub fn ready(body: &[u8]) -> Result<Transaction, WireError> {
    match body {
        b"I" => Ok(Transaction::Idle),
        b"T" => Ok(Transaction::Open),
        b"E" => Ok(Transaction::Failed),
        _ => Err(WireError::Malformed("ReadyForQuery")),
    }
}

pub fn ready_message(transaction: Transaction) -> Bytes {
    let status = match transaction {
        Transaction::Idle => b"I",
        Transaction::Open => b"T",
        Transaction::Failed => b"E",
    };
    frame::message(tag::READY, &[status])
}

/// Decodes the body of ParameterStatus.
pub fn parameter(body: &[u8]) -> Result<(&str, &str), WireError> {
    const NAME: &str = "ParameterStatus";
    let end = memchr::memchr(0, body).ok_or(WireError::Truncated(NAME))?;
    let (name, rest) = body.split_at(end);
    let value = rest.get(1..).and_then(|v| v.strip_suffix(b"\0"));
    let value = value.ok_or(WireError::Truncated(NAME))?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| WireError::Malformed(NAME));
    match memchr::memchr(0, value) {
        None => Ok((text(name)?, text(value)?)),
        Some(_) => Err(WireError::Trailing(NAME)),
    }
}

pub fn parameter_message(name: &str, value: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(name.len() + value.len() + 7);
    let at = frame::begin(&mut out, tag::PARAMETER_STATUS);
    frame::put_text(&mut out, name);
    frame::put_text(&mut out, value);
    frame::end(&mut out, at);
    out.freeze()
}

pub fn key_message(pid: u32, key: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(13);
    let at = frame::begin(&mut out, b'K');
    out.put_u32(pid);
    out.put_u32(key);
    frame::end(&mut out, at);
    out.freeze()
}

/// The tag of CommandComplete, such as `SELECT 5`.
pub fn command(body: &[u8]) -> Result<&[u8], WireError> {
    let tag = body
        .strip_suffix(b"\0")
        .ok_or(WireError::Truncated("CommandComplete"))?;
    match memchr::memchr(0, tag) {
        None => Ok(tag),
        Some(_) => Err(WireError::Trailing("CommandComplete")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parameters_survive(name in "[^\0]{0,9}", value in "[^\0]{0,9}") {
            let message = parameter_message(&name, &value);
            prop_assert_eq!(parameter(&message[5..]), Ok((name.as_str(), value.as_str())));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = (parameter(&bytes), ready(&bytes), command(&bytes));
        }
    }

    #[test]
    fn states_survive() {
        for state in [Transaction::Idle, Transaction::Open, Transaction::Failed] {
            assert_eq!(ready(&ready_message(state)[5..]), Ok(state));
        }
        assert!(ready(b"II").is_err());
        assert_eq!(command(b"SELECT 5\0"), Ok(&b"SELECT 5"[..]));
    }
}
