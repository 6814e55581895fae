//! What a client sends once it is logged in.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;
use super::frame::{self, nothing_left, text};

/// Type bytes.
pub mod tag {
    pub const QUERY: u8 = b'Q';
    pub const PARSE: u8 = b'P';
    pub const BIND: u8 = b'B';
    pub const DESCRIBE: u8 = b'D';
    pub const EXECUTE: u8 = b'E';
    pub const CLOSE: u8 = b'C';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const SYNC: u8 = b'S';
    pub const FLUSH: u8 = b'H';
    pub const TERMINATE: u8 = b'X';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
}

/// A message whose fields matter. Texts are bytes here: whether they are UTF-8 is for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frontend {
    Query(Bytes),
    Parse {
        name: Bytes,
        text: Bytes,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target),
    Execute {
        portal: Bytes,
        most_rows: u32,
    },
    Close(Target),
    FunctionCall {
        oid: u32,
    },
    Sync,
    Flush,
    Terminate,
    CopyData(Bytes),
    CopyDone,
    CopyFail(Bytes),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    pub portal: Bytes,
    pub statement: Bytes,
    /// Format codes of the parameters: none (all text), one for all, or one for each.
    pub formats: Vec<i16>,
    /// `None` is NULL.
    pub values: Vec<Option<Bytes>>,
    /// Format codes of the result's columns, by the same rule.
    pub results: Vec<i16>,
}

impl Bind {
    pub fn is_binary(&self, parameter: usize) -> bool {
        format_of(&self.formats, parameter)
    }
}

/// Whether column or parameter `index` is binary under a list of format codes.
pub fn format_of(formats: &[i16], index: usize) -> bool {
    let format = match formats {
        [all] => Some(all),
        each => each.get(index),
    };
    format.is_some_and(|f| *f != 0)
}

/// What Describe and Close speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Statement(Bytes),
    Portal(Bytes),
}

/// Decodes a message's body.
pub fn decode(tag: u8, mut body: Bytes) -> Result<Frontend, WireError> {
    let (message, of) = match tag {
        tag::QUERY => (Frontend::Query(text(&mut body, "Query")?), "Query"),
        tag::PARSE => (parse(&mut body)?, "Parse"),
        tag::BIND => (Frontend::Bind(bind(&mut body)?), "Bind"),
        tag::DESCRIBE => (
            Frontend::Describe(target(&mut body, "Describe")?),
            "Describe",
        ),
        tag::CLOSE => (Frontend::Close(target(&mut body, "Close")?), "Close"),
        tag::EXECUTE => {
            let portal = text(&mut body, "Execute")?;
            let most_rows = body
                .try_get_u32()
                .map_err(|_| WireError::Truncated("Execute"))?;
            (Frontend::Execute { portal, most_rows }, "Execute")
        }
        tag::FUNCTION_CALL => return function_call(body),
        tag::SYNC => (Frontend::Sync, "Sync"),
        tag::FLUSH => (Frontend::Flush, "Flush"),
        tag::TERMINATE => (Frontend::Terminate, "Terminate"),
        tag::COPY_DATA => return Ok(Frontend::CopyData(body)),
        tag::COPY_DONE => (Frontend::CopyDone, "CopyDone"),
        tag::COPY_FAIL => (Frontend::CopyFail(text(&mut body, "CopyFail")?), "CopyFail"),
        other => return Err(WireError::UnknownType(other)),
    };
    nothing_left(&body, of)?;
    Ok(message)
}

fn parse(body: &mut Bytes) -> Result<Frontend, WireError> {
    const NAME: &str = "Parse";
    let name = text(body, NAME)?;
    let query = text(body, NAME)?;
    let count = count(body, 4, NAME)?;
    let mut types = Vec::with_capacity(count);
    for _ in 0..count {
        types.push(body.try_get_u32().map_err(|_| WireError::Truncated(NAME))?);
    }
    Ok(Frontend::Parse {
        name,
        text: query,
        types,
    })
}

fn bind(body: &mut Bytes) -> Result<Bind, WireError> {
    const NAME: &str = "Bind";
    let portal = text(body, NAME)?;
    let statement = text(body, NAME)?;
    let formats = formats(body, NAME)?;
    let count = count(body, 4, NAME)?;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(value(body, NAME)?);
    }
    let results = self::formats(body, NAME)?;
    Ok(Bind {
        portal,
        statement,
        formats,
        values,
        results,
    })
}

/// The function is known by its object id alone; the arguments are walked, so that a message that
/// the server would refuse is refused here.
fn function_call(mut body: Bytes) -> Result<Frontend, WireError> {
    const NAME: &str = "FunctionCall";
    let oid = body.try_get_u32().map_err(|_| WireError::Truncated(NAME))?;
    formats(&mut body, NAME)?;
    for _ in 0..count(&mut body, 4, NAME)? {
        value(&mut body, NAME)?;
    }
    body.try_get_i16().map_err(|_| WireError::Truncated(NAME))?;
    nothing_left(&body, NAME)?;
    Ok(Frontend::FunctionCall { oid })
}

fn target(body: &mut Bytes, of: &'static str) -> Result<Target, WireError> {
    let kind = body.try_get_u8().map_err(|_| WireError::Truncated(of))?;
    let name = text(body, of)?;
    match kind {
        b'S' => Ok(Target::Statement(name)),
        b'P' => Ok(Target::Portal(name)),
        _ => Err(WireError::Malformed(of)),
    }
}

/// A claimed count, which the bytes that are there must be able to bear at `each` bytes or more.
fn count(body: &mut Bytes, each: usize, of: &'static str) -> Result<usize, WireError> {
    let count = usize::from(body.try_get_u16().map_err(|_| WireError::Truncated(of))?);
    match count * each <= body.len() {
        true => Ok(count),
        false => Err(WireError::Truncated(of)),
    }
}

fn formats(body: &mut Bytes, of: &'static str) -> Result<Vec<i16>, WireError> {
    let count = count(body, 2, of)?;
    let mut formats = Vec::with_capacity(count);
    for _ in 0..count {
        formats.push(body.try_get_i16().map_err(|_| WireError::Truncated(of))?);
    }
    Ok(formats)
}

fn value(body: &mut Bytes, of: &'static str) -> Result<Option<Bytes>, WireError> {
    let length = body.try_get_i32().map_err(|_| WireError::Truncated(of))?;
    match usize::try_from(length) {
        Ok(length) if length <= body.len() => Ok(Some(body.split_to(length))),
        Ok(_) => Err(WireError::Truncated(of)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(WireError::Malformed(of)),
    }
}

/// Encodes a message. FunctionCall is written without arguments. Texts must be free of zeros:
/// what comes from [`decode`] is.
pub fn encode(message: &Frontend, out: &mut BytesMut) {
    let tag = tag_of(message);
    let at = frame::begin(out, tag);
    match message {
        Frontend::Query(text) | Frontend::CopyFail(text) => put(out, text),
        Frontend::Parse { name, text, types } => {
            put(out, name);
            put(out, text);
            out.put_u16(types.len() as u16);
            types.iter().for_each(|t| out.put_u32(*t));
        }
        Frontend::Bind(bind) => put_bind(out, bind),
        Frontend::Describe(target) | Frontend::Close(target) => match target {
            Target::Statement(name) => {
                out.put_u8(b'S');
                put(out, name);
            }
            Target::Portal(name) => {
                out.put_u8(b'P');
                put(out, name);
            }
        },
        Frontend::Execute { portal, most_rows } => {
            put(out, portal);
            out.put_u32(*most_rows);
        }
        Frontend::FunctionCall { oid } => {
            out.put_u32(*oid);
            out.put_slice(&[0; 6]);
        }
        Frontend::CopyData(data) => out.put_slice(data),
        Frontend::Sync | Frontend::Flush | Frontend::Terminate | Frontend::CopyDone => {}
    }
    frame::end(out, at);
}

fn tag_of(message: &Frontend) -> u8 {
    match message {
        Frontend::Query(_) => tag::QUERY,
        Frontend::Parse { .. } => tag::PARSE,
        Frontend::Bind(_) => tag::BIND,
        Frontend::Describe(_) => tag::DESCRIBE,
        Frontend::Execute { .. } => tag::EXECUTE,
        Frontend::Close(_) => tag::CLOSE,
        Frontend::FunctionCall { .. } => tag::FUNCTION_CALL,
        Frontend::Sync => tag::SYNC,
        Frontend::Flush => tag::FLUSH,
        Frontend::Terminate => tag::TERMINATE,
        Frontend::CopyData(_) => tag::COPY_DATA,
        Frontend::CopyDone => tag::COPY_DONE,
        Frontend::CopyFail(_) => tag::COPY_FAIL,
    }
}

fn put(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

fn put_formats(out: &mut BytesMut, formats: &[i16]) {
    out.put_u16(formats.len() as u16);
    formats.iter().for_each(|f| out.put_i16(*f));
}

fn put_bind(out: &mut BytesMut, bind: &Bind) {
    put(out, &bind.portal);
    put(out, &bind.statement);
    put_formats(out, &bind.formats);
    out.put_u16(bind.values.len() as u16);
    for value in &bind.values {
        match value {
            Some(value) => {
                out.put_u32(value.len() as u32);
                out.put_slice(value);
            }
            None => out.put_i32(-1),
        }
    }
    put_formats(out, &bind.results);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Bytes> {
        vec(1u8.., 0..9).prop_map(Bytes::from)
    }

    fn target() -> impl Strategy<Value = Target> {
        (any::<bool>(), name()).prop_map(|(s, n)| {
            if s {
                Target::Statement(n)
            } else {
                Target::Portal(n)
            }
        })
    }

    fn data() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn bind() -> impl Strategy<Value = Bind> {
        let values = vec(prop::option::of(data()), 0..5);
        let formats = || vec(0i16..2, 0..4);
        (name(), name(), formats(), values, formats()).prop_map(
            |(portal, statement, formats, values, results)| Bind {
                portal,
                statement,
                formats,
                values,
                results,
            },
        )
    }

    fn message() -> impl Strategy<Value = Frontend> {
        prop_oneof![
            name().prop_map(Frontend::Query),
            (name(), name(), vec(any::<u32>(), 0..4))
                .prop_map(|(name, text, types)| Frontend::Parse { name, text, types }),
            bind().prop_map(Frontend::Bind),
            target().prop_map(Frontend::Describe),
            target().prop_map(Frontend::Close),
            (name(), any::<u32>())
                .prop_map(|(portal, most_rows)| Frontend::Execute { portal, most_rows }),
            any::<u32>().prop_map(|oid| Frontend::FunctionCall { oid }),
            data().prop_map(Frontend::CopyData),
            name().prop_map(Frontend::CopyFail),
            Just(Frontend::Sync),
            Just(Frontend::Flush),
            Just(Frontend::Terminate),
            Just(Frontend::CopyDone),
        ]
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(message in message()) {
            let mut out = BytesMut::new();
            encode(&message, &mut out);
            let (tag, body) = frame::split(&mut out, 1 << 20).unwrap().unwrap();
            prop_assert_eq!(decode(tag, body), Ok(message));
        }

        #[test]
        fn cut_messages_are_errors(message in message(), cut in 1usize..40) {
            let mut out = BytesMut::new();
            encode(&message, &mut out);
            let (tag, body) = frame::split(&mut out, 1 << 20).unwrap().unwrap();
            if tag != tag::COPY_DATA && cut <= body.len() {
                prop_assert!(decode(tag, body.slice(..body.len() - cut)).is_err());
            }
        }

        #[test]
        fn no_bytes_panic(tag: u8, bytes: Vec<u8>) {
            let body = Bytes::from(bytes);
            let _ = decode(tag, body.clone());
            for tag in *b"QPBDECFSHXdcf" { let _ = decode(tag, body.clone()); }
        }
    }

    #[test]
    fn a_second_text_behind_the_first_is_refused() {
        let body = Bytes::from_static(b"select 1\0drop table x\0");
        assert_eq!(decode(tag::QUERY, body), Err(WireError::Trailing("Query")));
    }
}
