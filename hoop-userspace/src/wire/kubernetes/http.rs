//! Heads of HTTP messages as text: the one form in which a request is decided, recorded and
//! forwarded, and an answer masked and replayed.
//!
//! hoop takes HTTP/1.1 and HTTP/2 from clients and speaks either with servers; here both are the
//! text of HTTP/1.1 (RFC 9112, 2.1) without the empty line at the end. Nothing in it decides where
//! a body ends: that is told by the messages around it ([`crate::wire::ssh::channel`]).

use bytes::{BufMut, Bytes, BytesMut};

/// A head that has more headers was not made by hoop.
const MAX_HEADERS: usize = 128;

/// What a request asks for, and with which headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: String,
    /// Path and query as they were sent.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, Bytes)>,
}

/// How a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, Bytes)>,
}

/// A head that hoop did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head of HTTP is malformed")]
pub struct BadHead;

impl RequestHead {
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(self.method.as_bytes());
        out.put_u8(b' ');
        out.put_slice(self.target.as_bytes());
        out.put_slice(b" HTTP/1.1\r\n");
        put_headers(&self.headers, &mut out);
        out.freeze()
    }

    pub fn read(bytes: &Bytes) -> Result<Self, BadHead> {
        let (line, headers) = split(bytes)?;
        let line = std::str::from_utf8(&line).map_err(|_| BadHead)?;
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(BadHead);
        };
        Ok(Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
        })
    }

    /// The first of a name in lower case, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

impl ResponseHead {
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(format!("HTTP/1.1 {}\r\n", self.status).as_bytes());
        put_headers(&self.headers, &mut out);
        out.freeze()
    }

    pub fn read(bytes: &Bytes) -> Result<Self, BadHead> {
        let (line, headers) = split(bytes)?;
        let status = line.strip_prefix(b"HTTP/1.1 ").ok_or(BadHead)?;
        let status = std::str::from_utf8(status).map_err(|_| BadHead)?;
        Ok(Self {
            status: status.parse().map_err(|_| BadHead)?,
            headers,
        })
    }

    /// The first of a name in lower case, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

fn header<'h>(headers: &'h [(String, Bytes)], name: &str) -> Option<&'h str> {
    let (_, value) = headers.iter().find(|(known, _)| known == name)?;
    std::str::from_utf8(value).ok()
}

fn put_headers(headers: &[(String, Bytes)], out: &mut BytesMut) {
    for (name, value) in headers {
        out.put_slice(name.as_bytes());
        out.put_slice(b": ");
        out.put_slice(value);
        out.put_slice(b"\r\n");
    }
}

type Split = (Bytes, Vec<(String, Bytes)>);

fn split(bytes: &Bytes) -> Result<Split, BadHead> {
    let mut lines = Vec::new();
    let mut rest = bytes.clone();
    while let Some(at) = memchr::memmem::find(&rest, b"\r\n") {
        let line = rest.split_to(at);
        let _ = rest.split_to(2);
        lines.push(line);
        if lines.len() > MAX_HEADERS {
            return Err(BadHead);
        }
    }
    if !rest.is_empty() {
        return Err(BadHead);
    }
    let mut lines = lines.into_iter();
    let first = lines.next().ok_or(BadHead)?;
    let headers = lines.map(|mut line| {
        let at = memchr::memmem::find(&line, b": ").ok_or(BadHead)?;
        let name = line.split_to(at);
        let _ = line.split_to(2);
        let name = std::str::from_utf8(&name).map_err(|_| BadHead)?;
        Ok((name.to_owned(), line))
    });
    Ok((first, headers.collect::<Result<_, BadHead>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers() -> impl Strategy<Value = Vec<(String, Bytes)>> {
        let value = "[ -~]{0,20}".prop_map(|v| Bytes::from(v.into_bytes()));
        proptest::collection::vec(("[a-z-]{1,12}", value), 0..6)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            method in "[A-Z]{1,8}", target in "/[!-~]{0,40}", status in 100u16..600, headers in headers(),
        ) {
            let request = RequestHead { method, target, headers: headers.clone() };
            prop_assert_eq!(RequestHead::read(&request.to_bytes()), Ok(request));
            let response = ResponseHead { status, headers };
            prop_assert_eq!(ResponseHead::read(&response.to_bytes()), Ok(response));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = (RequestHead::read(&bytes), ResponseHead::read(&bytes));
        }
    }

    #[test]
    fn what_hoop_would_not_write_is_refused() {
        for text in [
            "",
            "GET / HTTP/1.1",
            "GET /a b HTTP/1.1\r\n",
            "GET /\r\n",
            "GET / HTTP/1.1\r\nx\r\n",
        ] {
            assert_eq!(
                RequestHead::read(&Bytes::from(text)),
                Err(BadHead),
                "{text:?}"
            );
        }
    }
}
