//! What the client of a PostgreSQL server sends and hears until it is logged in, and the little
//! more that hoop's own look-ups need: hoop is that client, upstream (protocol manual, "Message
//! Formats"). Sessions of agents go through the codecs beside this one.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::secret::Secret;

pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Protocol 3.0.
const VERSION: u32 = 3 << 16;

/// A row of a catalog look-up, or an error with all its fields, is far below this.
pub const MAX_MESSAGE: usize = 1 << 20;

const MAX_COLUMNS: usize = 1664;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginDecodeError {
    #[error("a message of {0} bytes")]
    TooLarge(usize),
    #[error("a malformed {0}")]
    Malformed(&'static str),
}

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    AuthenticationOk,
    CleartextPassword,
    Md5Password {
        salt: [u8; 4],
    },
    Sasl {
        mechanisms: Vec<String>,
    },
    SaslContinue(Bytes),
    SaslFinal(Bytes),
    /// Kerberos, GSSAPI, SSPI: not spoken here.
    OtherAuthentication(u32),
    ParameterStatus {
        name: String,
        value: String,
    },
    BackendKeyData {
        pid: u32,
        key: u32,
    },
    NegotiateProtocolVersion,
    Ready,
    Error(ServerError),
    Notice,
    Row(Vec<Option<Bytes>>),
    /// What a look-up needs to know no more about: descriptions, completions.
    Other(u8),
}

/// An ErrorResponse, without the fields that may quote data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    pub code: String,
    pub message: String,
}

/// Takes the next whole message off `input`; `None` while it is incomplete.
pub fn next(input: &mut BytesMut) -> Result<Option<Answer>, LoginDecodeError> {
    let Some((tag, length)) = header(input) else {
        return Ok(None);
    };
    let length = length as usize;
    if !(4..=MAX_MESSAGE).contains(&length) {
        return Err(LoginDecodeError::TooLarge(length));
    }
    if input.len() < 1 + length {
        return Ok(None);
    }
    let mut message = input.split_to(1 + length).freeze();
    message.advance(5);
    decode(tag, message).map(Some)
}

fn header(input: &[u8]) -> Option<(u8, u32)> {
    let (tag, rest) = input.split_first()?;
    let length = rest.first_chunk::<4>()?;
    Some((*tag, u32::from_be_bytes(*length)))
}

fn decode(tag: u8, mut body: Bytes) -> Result<Answer, LoginDecodeError> {
    const KEY: LoginDecodeError = LoginDecodeError::Malformed("BackendKeyData");
    Ok(match tag {
        b'R' => return authentication(body),
        b'S' => Answer::ParameterStatus {
            name: string(&mut body)?,
            value: string(&mut body)?,
        },
        b'K' if body.len() == 8 => Answer::BackendKeyData {
            pid: body.try_get_u32().map_err(|_| KEY)?,
            key: body.try_get_u32().map_err(|_| KEY)?,
        },
        b'K' => return Err(KEY),
        b'v' => Answer::NegotiateProtocolVersion,
        b'Z' => Answer::Ready,
        b'E' => Answer::Error(error(body)?),
        b'N' => Answer::Notice,
        b'D' => Answer::Row(row(body)?),
        other => Answer::Other(other),
    })
}

fn authentication(mut body: Bytes) -> Result<Answer, LoginDecodeError> {
    const BAD: LoginDecodeError = LoginDecodeError::Malformed("Authentication message");
    Ok(match body.try_get_u32().map_err(|_| BAD)? {
        0 => Answer::AuthenticationOk,
        3 => Answer::CleartextPassword,
        5 => Answer::Md5Password {
            salt: body.first_chunk().copied().ok_or(BAD)?,
        },
        10 => {
            let mut mechanisms = Vec::new();
            while body.len() > 1 && mechanisms.len() < 16 {
                mechanisms.push(string(&mut body)?);
            }
            Answer::Sasl { mechanisms }
        }
        11 => Answer::SaslContinue(body),
        12 => Answer::SaslFinal(body),
        other => Answer::OtherAuthentication(other),
    })
}

fn error(mut body: Bytes) -> Result<ServerError, LoginDecodeError> {
    let mut error = ServerError::default();
    while let Ok(field @ 1..) = body.try_get_u8() {
        let value = string(&mut body)?;
        match field {
            b'C' => error.code = value,
            b'M' => error.message = value,
            _ => {}
        }
    }
    Ok(error)
}

fn row(mut body: Bytes) -> Result<Vec<Option<Bytes>>, LoginDecodeError> {
    const BAD: LoginDecodeError = LoginDecodeError::Malformed("DataRow");
    let columns = usize::from(body.try_get_u16().map_err(|_| BAD)?);
    if columns > MAX_COLUMNS {
        return Err(BAD);
    }
    let mut row = Vec::with_capacity(columns);
    for _ in 0..columns {
        let length = body.try_get_i32().map_err(|_| BAD)?;
        row.push(match usize::try_from(length) {
            Err(_) => None,
            Ok(length) if length <= body.len() => Some(body.split_to(length)),
            Ok(_) => return Err(BAD),
        });
    }
    Ok(row)
}

/// A zero-terminated string; what is not UTF-8 in it is replaced.
fn string(body: &mut Bytes) -> Result<String, LoginDecodeError> {
    let end = memchr::memchr(0, body).ok_or(LoginDecodeError::Malformed("string"))?;
    let text = body.split_to(end);
    body.advance(1);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// StartupMessage. Names and values must be free of zero bytes; those with one are left out.
pub fn startup(parameters: &[(&str, &str)]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u32(VERSION);
    for (name, value) in parameters {
        if !name.is_empty() && !name.contains('\0') && !value.contains('\0') {
            for text in [name, value] {
                body.put_slice(text.as_bytes());
                body.put_u8(0);
            }
        }
    }
    body.put_u8(0);
    let mut message = BytesMut::with_capacity(body.len() + 4);
    message.put_u32(body.len() as u32 + 4);
    message.unsplit(body);
    message
}

/// PasswordMessage with the password itself.
pub fn cleartext(password: &Secret) -> BytesMut {
    tagged(b'p', &[password.expose().as_bytes(), b"\0"])
}

/// PasswordMessage with `md5` + md5(md5(password + user) + salt).
pub fn md5(user: &str, password: &Secret, salt: [u8; 4]) -> BytesMut {
    use md5::{Digest, Md5};
    let inner = hex(&Md5::new()
        .chain_update(password.expose())
        .chain_update(user)
        .finalize());
    let outer = hex(&Md5::new().chain_update(inner).chain_update(salt).finalize());
    tagged(b'p', &[b"md5", outer.as_bytes(), b"\0"])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn sasl_initial(mechanism: &str, response: &str) -> BytesMut {
    let length = (response.len() as u32).to_be_bytes();
    tagged(
        b'p',
        &[mechanism.as_bytes(), b"\0", &length, response.as_bytes()],
    )
}

pub fn sasl_response(response: &str) -> BytesMut {
    tagged(b'p', &[response.as_bytes()])
}

pub fn query(sql: &str) -> BytesMut {
    tagged(b'Q', &[sql.as_bytes(), b"\0"])
}

pub fn terminate() -> BytesMut {
    tagged(b'X', &[])
}

fn tagged(tag: u8, parts: &[&[u8]]) -> BytesMut {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut message = BytesMut::with_capacity(length + 5);
    message.put_u8(tag);
    message.put_u32(length as u32 + 4);
    parts.iter().for_each(|p| message.put_slice(p));
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], chunk: usize) -> Result<Vec<Answer>, LoginDecodeError> {
        let mut input = BytesMut::new();
        let mut answers = Vec::new();
        for piece in bytes.chunks(chunk) {
            input.extend_from_slice(piece);
            while let Some(answer) = next(&mut input)? {
                answers.push(answer);
            }
        }
        Ok(answers)
    }

    #[test]
    fn a_login_is_read_however_it_is_cut() {
        let bytes = [
            tagged(
                b'R',
                &[
                    &10u32.to_be_bytes(),
                    b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
                ],
            ),
            tagged(b'R', &[&5u32.to_be_bytes(), b"salt"]),
            tagged(b'R', &[&0u32.to_be_bytes()]),
            tagged(b'S', &[b"server_version\x0015.6\0"]),
            tagged(b'K', &[&7u32.to_be_bytes(), &9u32.to_be_bytes()]),
            tagged(b'E', &[b"SFATAL\0C28P01\0Mno\0Hsecret\0\0"]),
            tagged(b'D', &[&[0, 2, 0, 0, 0, 1], b"x", &[0xff; 4]]),
            tagged(b'Z', &[b"I"]),
        ]
        .concat();
        let whole = all(&bytes, bytes.len()).unwrap();
        assert_eq!(whole.len(), 8);
        assert_eq!(whole[1], Answer::Md5Password { salt: *b"salt" });
        assert_eq!(
            whole[5],
            Answer::Error(ServerError {
                code: "28P01".into(),
                message: "no".into()
            })
        );
        assert_eq!(
            whole[6],
            Answer::Row(vec![Some(Bytes::from_static(b"x")), None])
        );
        for chunk in 1..20 {
            assert_eq!(all(&bytes, chunk).unwrap(), whole);
        }
    }

    #[test]
    fn md5_is_what_postgresql_stores_and_checks() {
        // echo -n secretpostgres | md5sum, then that text with the salt 01 02 03 04.
        let message = md5("postgres", &Secret::new("secret".into()), [1, 2, 3, 4]);
        assert_eq!(message.len(), 1 + 4 + 35 + 1);
        assert!(message[5..].starts_with(b"md5"));
    }

    #[test]
    fn a_startup_message_cannot_be_extended_by_a_value() {
        let message = startup(&[("user", "a"), ("database", "b\0role\0admin")]);
        assert_eq!(&message[..], b"\0\0\0\x10\0\x03\0\0user\0a\0\0");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tag: u8, body: Vec<u8>, raw: Vec<u8>) {
            let _ = next(&mut tagged(tag, &[&body]));
            let _ = next(&mut tagged(b'R', &[&body]));
            let _ = next(&mut tagged(b'D', &[&body]));
            let _ = next(&mut tagged(b'E', &[&body]));
            let _ = next(&mut BytesMut::from(&raw[..]));
        }
    }
}
