//! A request's target as Go's `net/url` takes it apart, which is what the API server reads it with.

use super::{MAX_PARAMETERS, MAX_PATH, MAX_QUERY, RequestError};

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let symbol = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || symbol(b))
}

/// Decodes a path. Only escapes are replaced: dots, empty segments and plus signs stay, and an
/// escaped slash becomes one that separates like any other.
pub(super) fn path(raw: &str) -> Result<String, RequestError> {
    if raw.len() > MAX_PATH {
        return Err(RequestError::LongPath);
    }
    if has_control(raw) {
        return Err(RequestError::Control);
    }
    if raw != "*" && !raw.starts_with('/') {
        return Err(RequestError::Relative);
    }
    let bytes = unescape(raw, false).ok_or(RequestError::Escape)?;
    String::from_utf8(bytes).map_err(|_| RequestError::NotUtf8)
}

/// The parameters of a query in their order, decoded.
///
/// The server leaves out pairs that it can't decode, and goes on with the others; so does this, and
/// remembers that there were some.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    pub left_out: bool,
}

impl Query {
    pub fn read(raw: &str) -> Result<Self, RequestError> {
        if raw.len() > MAX_QUERY {
            return Err(RequestError::LongQuery);
        }
        if has_control(raw) {
            return Err(RequestError::Control);
        }
        let pairs = raw.split('&');
        if pairs.clone().nth(MAX_PARAMETERS).is_some() {
            return Err(RequestError::ManyParameters);
        }
        let mut query = Self::default();
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            match decode(pair) {
                Some(pair) => query.pairs.push(pair),
                None => query.left_out = true,
            }
        }
        Ok(query)
    }

    /// The first value of a parameter, which is the one that counts wherever one is wanted.
    pub fn first(&self, key: &str) -> Result<Option<&str>, RequestError> {
        self.all(key).next().transpose()
    }

    /// All values of a parameter.
    pub fn all(&self, key: &str) -> impl Iterator<Item = Result<&str, RequestError>> {
        let pairs = self.pairs.iter();
        pairs
            .filter(move |(name, _)| name == key.as_bytes())
            .map(|(_, value)| std::str::from_utf8(value).map_err(|_| RequestError::NotUtf8))
    }
}

/// One `key=value`. A semicolon separated parameters once, so Go takes it for nothing today.
fn decode(pair: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    if pair.contains(';') {
        return None;
    }
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Some((unescape(key, true)?, unescape(value, true)?))
}

/// Replaces `%xy`, and plus signs by spaces where those are meant; `None` where a percent sign
/// stands alone.
fn unescape(raw: &str, plus: bool) -> Option<Vec<u8>> {
    let mut bytes = raw.bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    Some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// What HTTP/1.1 can't carry in a request line.
fn has_control(raw: &str) -> bool {
    raw.bytes().any(|byte| byte <= b' ' || byte == 0x7f)
}
