//! What happens on an SSH channel, as bytes: the one form in which it is decided, masked, recorded
//! and replayed. (SSH's own messages are encrypted and numbered; these are what they say.)
//!
//! A request to a Kubernetes API server is told in the same form: its head and content, the answer's,
//! and what is typed and printed where it opens streams.
//!
//! A message is a tag, the length of its body in four bytes, and the body. Numbers and strings in
//! a body are those of RFC 4251, section 5.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Fields, Malformed, put_string};

/// Tag and length.
pub const HEADER: usize = 5;
/// Nothing but a document is longer: SSH packets are not, and SFTP packets are bounded below it.
pub const MAX_BODY: usize = 512 << 10;
/// Terminal modes in a `pty-req`; there are fewer than 256 codes.
const MAX_MODES: usize = 256;
/// Of an answer that is masked as a whole; resources bound theirs below it.
pub const MAX_DOCUMENT: usize = 1 << 30;

/// One message. Texts stay bytes: SSH does not say in which encoding they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    // From the client, before something runs.
    Pty(Pty),
    Env {
        name: Bytes,
        value: Bytes,
    },
    // From the client: what is to run.
    Exec(Bytes),
    Shell,
    Subsystem(Bytes),
    /// A TCP connection from the server to somewhere (RFC 4254, 7.2).
    Connect {
        host: Bytes,
        port: u32,
    },
    // From the client, while it runs.
    Input(Bytes),
    InputEnd,
    Signal(Bytes),
    Resize(Size),
    /// An SFTP packet, its own length in front.
    SftpRequest(Bytes),
    // From the server.
    Output(Bytes),
    ErrorOutput(Bytes),
    OutputEnd,
    /// Of standard error, where that ends by itself.
    ErrorOutputEnd,
    Exit(u32),
    ExitSignal {
        signal: Bytes,
        core_dumped: bool,
        message: Bytes,
    },
    SftpReply(Bytes),
    // Of a request by HTTP: heads as `wire::kubernetes::http` writes them.
    RequestHead(Bytes),
    /// Content of a request, in order.
    Content(Bytes),
    ResponseHead(Bytes),
    /// A whole JSON object.
    Document(Bytes),
    /// What describes the server itself, in order: versions, schemas, health.
    Described(Bytes),
    /// A piece of what passes through one forwarded connection. An empty one that does not end it
    /// says that it was made.
    Forwarded(Forwarded),
    /// The server does not run what was asked for.
    Failed,
    Closed,
}

/// A terminal that the client asks for (RFC 4254, 6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pty {
    pub term: Bytes,
    pub size: Size,
    pub modes: Vec<(u8, u32)>,
}

/// In characters and in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub columns: u32,
    pub rows: u32,
    pub width: u32,
    pub height: u32,
}

/// See [`Message::Forwarded`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    pub flow: Flow,
    pub port: u16,
    /// Tells the connections of one session apart.
    pub number: u32,
    pub end: bool,
    pub bytes: Bytes,
}

/// Which way content goes, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// From the client.
    In,
    /// From the server.
    Out,
    /// Why the connection could not be made, in the server's words.
    Error,
    /// The same stream, closed by the client.
    ErrorIn,
}

impl Message {
    fn tag(&self) -> u8 {
        match self {
            Self::Pty(_) => b'T',
            Self::Env { .. } => b'V',
            Self::Exec(_) => b'X',
            Self::Shell => b'H',
            Self::Subsystem(_) => b'U',
            Self::Connect { .. } => b'N',
            Self::Input(_) => b'i',
            Self::InputEnd => b'j',
            Self::Signal(_) => b'K',
            Self::Resize(_) => b'W',
            Self::SftpRequest(_) => b'Q',
            Self::Output(_) => b'o',
            Self::ErrorOutput(_) => b'e',
            Self::OutputEnd => b'p',
            Self::ErrorOutputEnd => b'q',
            Self::Exit(_) => b'x',
            Self::ExitSignal { .. } => b'k',
            Self::SftpReply(_) => b'R',
            Self::RequestHead(_) => b'A',
            Self::Content(_) => b'B',
            Self::ResponseHead(_) => b'S',
            Self::Document(_) => b'D',
            Self::Described(_) => b'd',
            Self::Forwarded(_) => b'F',
            Self::Failed => b'f',
            Self::Closed => b'c',
        }
    }

    /// Appends the message.
    pub fn put(&self, out: &mut BytesMut) {
        out.put_u8(self.tag());
        let start = out.len();
        out.put_u32(0);
        self.put_body(out);
        let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(at) = out.get_mut(start..start + 4) {
            at.copy_from_slice(&length.to_be_bytes());
        }
    }

    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.put(&mut out);
        out.freeze()
    }

    fn put_body(&self, out: &mut BytesMut) {
        match self {
            Self::Pty(pty) => {
                put_string(out, &pty.term);
                put_size(out, pty.size);
                out.put_u32(u32::try_from(pty.modes.len()).unwrap_or(u32::MAX));
                for (code, value) in &pty.modes {
                    out.put_u8(*code);
                    out.put_u32(*value);
                }
            }
            Self::Env { name, value } => {
                put_string(out, name);
                put_string(out, value);
            }
            Self::Connect { host, port } => {
                put_string(out, host);
                out.put_u32(*port);
            }
            Self::Resize(size) => put_size(out, *size),
            Self::Exec(body)
            | Self::Subsystem(body)
            | Self::Input(body)
            | Self::Signal(body)
            | Self::SftpRequest(body)
            | Self::Output(body)
            | Self::ErrorOutput(body)
            | Self::SftpReply(body)
            | Self::RequestHead(body)
            | Self::Content(body)
            | Self::ResponseHead(body)
            | Self::Document(body)
            | Self::Described(body) => out.extend_from_slice(body),
            Self::Exit(status) => out.put_u32(*status),
            Self::Forwarded(piece) => {
                out.put_u8(match piece.flow {
                    Flow::In => 0,
                    Flow::Out => 1,
                    Flow::Error => 2,
                    Flow::ErrorIn => 3,
                });
                out.put_u8(u8::from(piece.end));
                out.put_u32(u32::from(piece.port));
                out.put_u32(piece.number);
                out.extend_from_slice(&piece.bytes);
            }
            Self::ExitSignal {
                signal,
                core_dumped,
                message,
            } => {
                put_string(out, signal);
                out.put_u8(u8::from(*core_dumped));
                put_string(out, message);
            }
            Self::Shell
            | Self::InputEnd
            | Self::OutputEnd
            | Self::ErrorOutputEnd
            | Self::Failed
            | Self::Closed => {}
        }
    }

    /// Takes one message off the front; `None` if it is not complete yet.
    pub fn take(from: &mut Bytes) -> Result<Option<Self>, Malformed> {
        let Some(&[tag, a, b, c, d]) = from.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let most = if tag == b'D' { MAX_DOCUMENT } else { MAX_BODY };
        if length > most {
            return Err(Malformed::TooLarge(length));
        }
        if from.len() < HEADER + length {
            return Ok(None);
        }
        let mut message = from.split_to(HEADER + length);
        let _ = message.split_to(HEADER);
        Self::decode(tag, message).map(Some)
    }

    fn decode(tag: u8, body: Bytes) -> Result<Self, Malformed> {
        let mut fields = Fields(body);
        let rest = |fields: &mut Fields| std::mem::take(&mut fields.0);
        let message = match tag {
            b'T' => Self::Pty(pty(&mut fields)?),
            b'V' => Self::Env {
                name: fields.string()?,
                value: fields.string()?,
            },
            b'X' => Self::Exec(rest(&mut fields)),
            b'H' => Self::Shell,
            b'U' => Self::Subsystem(rest(&mut fields)),
            b'N' => Self::Connect {
                host: fields.string()?,
                port: fields.u32()?,
            },
            b'i' => Self::Input(rest(&mut fields)),
            b'j' => Self::InputEnd,
            b'K' => Self::Signal(rest(&mut fields)),
            b'W' => Self::Resize(size(&mut fields)?),
            b'Q' => Self::SftpRequest(rest(&mut fields)),
            b'o' => Self::Output(rest(&mut fields)),
            b'e' => Self::ErrorOutput(rest(&mut fields)),
            b'p' => Self::OutputEnd,
            b'q' => Self::ErrorOutputEnd,
            b'x' => Self::Exit(fields.u32()?),
            b'k' => Self::ExitSignal {
                signal: fields.string()?,
                core_dumped: fields.u8()? != 0,
                message: fields.string()?,
            },
            b'R' => Self::SftpReply(rest(&mut fields)),
            b'A' => Self::RequestHead(rest(&mut fields)),
            b'B' => Self::Content(rest(&mut fields)),
            b'S' => Self::ResponseHead(rest(&mut fields)),
            b'D' => Self::Document(rest(&mut fields)),
            b'd' => Self::Described(rest(&mut fields)),
            b'F' => Self::Forwarded(Forwarded {
                flow: match fields.u8()? {
                    0 => Flow::In,
                    1 => Flow::Out,
                    2 => Flow::Error,
                    3 => Flow::ErrorIn,
                    other => return Err(Malformed::Unknown(other)),
                },
                end: fields.u8()? != 0,
                port: u16::try_from(fields.u32()?).map_err(|_| Malformed::TooLarge(65_536))?,
                number: fields.u32()?,
                bytes: rest(&mut fields),
            }),
            b'f' => Self::Failed,
            b'c' => Self::Closed,
            other => return Err(Malformed::Unknown(other)),
        };
        fields.end()?;
        Ok(message)
    }
}

/// Appends text that a program prints, at most [`MAX_BODY`] bytes, without a message in between.
pub fn put_text(error: bool, text: &[u8], out: &mut Vec<u8>) {
    let tag = if error { b'e' } else { b'o' };
    out.reserve(HEADER + text.len());
    out.push(tag);
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text);
}

fn put_size(out: &mut BytesMut, size: Size) {
    for number in [size.columns, size.rows, size.width, size.height] {
        out.put_u32(number);
    }
}

fn size(fields: &mut Fields) -> Result<Size, Malformed> {
    Ok(Size {
        columns: fields.u32()?,
        rows: fields.u32()?,
        width: fields.u32()?,
        height: fields.u32()?,
    })
}

fn pty(fields: &mut Fields) -> Result<Pty, Malformed> {
    let (term, size) = (fields.string()?, size(fields)?);
    let count = fields.u32()? as usize;
    if count > MAX_MODES {
        return Err(Malformed::TooLarge(count));
    }
    let modes = (0..count).map(|_| Ok((fields.u8()?, fields.u32()?)));
    let modes = modes.collect::<Result<_, Malformed>>()?;
    Ok(Pty { term, size, modes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn sizes() -> impl Strategy<Value = Size> {
        any::<(u32, u32, u32, u32)>().prop_map(|(columns, rows, width, height)| Size {
            columns,
            rows,
            width,
            height,
        })
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            (
                text(),
                sizes(),
                proptest::collection::vec(any::<(u8, u32)>(), 0..8)
            )
                .prop_map(|(term, size, modes)| Message::Pty(Pty {
                    term,
                    size,
                    modes
                })),
            (text(), text()).prop_map(|(name, value)| Message::Env { name, value }),
            text().prop_map(Message::Exec),
            Just(Message::Shell),
            text().prop_map(Message::Subsystem),
            (text(), any::<u32>()).prop_map(|(host, port)| Message::Connect { host, port }),
            text().prop_map(Message::Input),
            Just(Message::InputEnd),
            text().prop_map(Message::Signal),
            sizes().prop_map(Message::Resize),
            text().prop_map(Message::SftpRequest),
            text().prop_map(Message::Output),
            text().prop_map(Message::ErrorOutput),
            Just(Message::OutputEnd),
            Just(Message::ErrorOutputEnd),
            any::<u32>().prop_map(Message::Exit),
            (text(), any::<bool>(), text()).prop_map(|(signal, core_dumped, message)| {
                Message::ExitSignal {
                    signal,
                    core_dumped,
                    message,
                }
            }),
            text().prop_map(Message::SftpReply),
            text().prop_map(Message::RequestHead),
            text().prop_map(Message::Content),
            text().prop_map(Message::ResponseHead),
            text().prop_map(Message::Document),
            text().prop_map(Message::Described),
            (0usize..4, any::<(u16, u32, bool)>(), text()).prop_map(
                |(flow, (port, number, end), bytes)| {
                    let flows = [Flow::In, Flow::Out, Flow::Error, Flow::ErrorIn];
                    Message::Forwarded(Forwarded {
                        flow: flows[flow],
                        port,
                        number,
                        end,
                        bytes,
                    })
                }
            ),
            Just(Message::Failed),
            Just(Message::Closed),
        ]
    }

    proptest! {
        #[test]
        fn what_was_put_is_taken(messages in proptest::collection::vec(message(), 0..10)) {
            let mut out = BytesMut::new();
            messages.iter().for_each(|m| m.put(&mut out));
            let mut wire = out.freeze();
            let mut found = Vec::new();
            while let Some(message) = Message::take(&mut wire).unwrap() {
                found.push(message);
            }
            prop_assert_eq!(found, messages);
            prop_assert!(wire.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut wire = Bytes::from(bytes);
            while let Ok(Some(_)) = Message::take(&mut wire) {}
        }
    }

    #[test]
    fn a_length_that_no_message_has_is_refused_before_it_is_waited_for() {
        let mut wire = Bytes::from_static(b"o\xff\xff\xff\xff");
        assert!(matches!(
            Message::take(&mut wire),
            Err(Malformed::TooLarge(_))
        ));
    }
}
