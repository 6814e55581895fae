//! What the client of a PostgreSQL server sends and hears until it is logged in, and the little
//! more that hoop's own look-ups need: hoop is that client, upstream (protocol manual, "Message
//! Formats"). Sessions of agents go through the codecs beside this one.

use bytes::{Buf, Bytes, BytesMut};

use super::startup::{First, StartupMessage, encode};
use super::{WireError, authentication, backend, fields, frame, rows};
use crate::secret::Secret;

pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A row of a catalog look-up, or an error with all its fields, is far below this.
pub const MAX_MESSAGE: usize = 1 << 20;

/// PostgreSQL offers two at most.
const MAX_MECHANISMS: usize = 16;

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
    /// The body of a NoticeResponse.
    Notice(Bytes),
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
pub fn next(input: &mut BytesMut) -> Result<Option<Answer>, WireError> {
    let message = frame::split(input, MAX_MESSAGE)?;
    message.map(|(tag, body)| decode(tag, body)).transpose()
}

fn decode(tag: u8, mut body: Bytes) -> Result<Answer, WireError> {
    const KEY: WireError = WireError::Truncated("BackendKeyData");
    Ok(match tag {
        b'R' => return authentication(body),
        backend::tag::PARAMETER_STATUS => {
            let (name, value) = backend::parameter(&body)?;
            Answer::ParameterStatus {
                name: name.into(),
                value: value.into(),
            }
        }
        b'K' if body.len() > 8 => return Err(WireError::Trailing("BackendKeyData")),
        b'K' => Answer::BackendKeyData {
            pid: body.try_get_u32().map_err(|_| KEY)?,
            key: body.try_get_u32().map_err(|_| KEY)?,
        },
        b'v' => Answer::NegotiateProtocolVersion,
        backend::tag::READY => Answer::Ready,
        fields::ERROR => Answer::Error(error(&body)),
        fields::NOTICE => Answer::Notice(body),
        rows::DATA_ROW => {
            let values = rows::values(&body)?;
            let own = |value: Result<Option<&[u8]>, _>| Ok(value?.map(|v| body.slice_ref(v)));
            Answer::Row(values.map(own).collect::<Result<_, WireError>>()?)
        }
        other => Answer::Other(other),
    })
}

fn authentication(mut body: Bytes) -> Result<Answer, WireError> {
    const NAME: &str = "an authentication request";
    Ok(
        match body.try_get_u32().map_err(|_| WireError::Truncated(NAME))? {
            0 => Answer::AuthenticationOk,
            3 => Answer::CleartextPassword,
            5 => {
                let salt = body.first_chunk().copied();
                Answer::Md5Password {
                    salt: salt.ok_or(WireError::Truncated(NAME))?,
                }
            }
            10 => {
                let mut mechanisms = Vec::new();
                while body.len() > 1 && mechanisms.len() < MAX_MECHANISMS {
                    mechanisms.push(lossy(&frame::text(&mut body, NAME)?));
                }
                Answer::Sasl { mechanisms }
            }
            11 => Answer::SaslContinue(body),
            12 => Answer::SaslFinal(body),
            other => Answer::OtherAuthentication(other),
        },
    )
}

/// A malformed error is still an error: what can be read of it is.
fn error(body: &[u8]) -> ServerError {
    let field = |code| fields::field(body, code).map(lossy).unwrap_or_default();
    ServerError {
        code: field(b'C'),
        message: field(b'M'),
    }
}

/// Before a client encoding is agreed on, texts may be in any.
fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// StartupMessage, protocol 3.0.
pub fn startup(parameters: &[(&str, &str)]) -> Bytes {
    let own = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let parameters = parameters.iter().map(own).collect();
    encode(&First::Startup(StartupMessage {
        major: 3,
        minor: 0,
        parameters,
    }))
}

/// PasswordMessage with the password itself.
pub fn cleartext(password: &Secret) -> Bytes {
    frame::message(
        authentication::PASSWORD,
        &[password.expose().as_bytes(), b"\0"],
    )
}

/// PasswordMessage with `md5` + md5(md5(password + user) + salt).
pub fn md5(user: &str, password: &Secret, salt: [u8; 4]) -> Bytes {
    use md5::{Digest, Md5};
    let inner = crate::hex::encode(
        Md5::new()
            .chain_update(password.expose())
            .chain_update(user)
            .finalize(),
    );
    let outer = crate::hex::encode(Md5::new().chain_update(inner).chain_update(salt).finalize());
    frame::message(authentication::PASSWORD, &[b"md5", outer.as_bytes(), b"\0"])
}

pub fn sasl_initial(mechanism: &str, response: &str) -> Bytes {
    authentication::initial_response_message(mechanism, response.as_bytes())
}

pub fn sasl_response(response: &str) -> Bytes {
    frame::message(authentication::PASSWORD, &[response.as_bytes()])
}

pub fn query(sql: &str) -> Bytes {
    frame::message(b'Q', &[sql.as_bytes(), b"\0"])
}

pub fn terminate() -> Bytes {
    frame::message(b'X', &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], chunk: usize) -> Result<Vec<Answer>, WireError> {
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
            frame::message(
                b'R',
                &[
                    &10u32.to_be_bytes(),
                    b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
                ],
            ),
            frame::message(b'R', &[&5u32.to_be_bytes(), b"salt"]),
            frame::message(b'R', &[&0u32.to_be_bytes()]),
            frame::message(b'S', &[b"server_version\x0015.6\0"]),
            frame::message(b'K', &[&7u32.to_be_bytes(), &9u32.to_be_bytes()]),
            frame::message(b'E', &[b"SFATAL\0C28P01\0Mno\0Hsecret\0\0"]),
            frame::message(b'D', &[&[0, 2, 0, 0, 0, 1], b"x", &[0xff; 4]]),
            frame::message(b'Z', &[b"I"]),
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
        assert_eq!(&message[5..], b"md5bb41a296aab6baccb36ff243a562abff\0");
    }

    #[test]
    fn a_startup_message_cannot_be_extended_by_a_value() {
        let message = startup(&[("user", "a"), ("database", "b\0role\0admin")]);
        let end = b"user\0a\0database\0broleadmin\0\0";
        assert_eq!(&message[8..], end);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(tag: u8, body: Vec<u8>, raw: Vec<u8>) {
            for tag in [tag, b'R', b'D', b'E', b'S', b'K'] {
                let _ = next(&mut BytesMut::from(&frame::message(tag, &[&body])[..]));
            }
            let _ = next(&mut BytesMut::from(&raw[..]));
        }
    }
}
