//! What masks put in place of values, recognised in what is written.
//!
//! An object that was read through hoop and is written back would replace the values that its masks
//! hide. Every mask holds a marker for that reason; a write that holds one is refused, whoever made it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::protobuf::is_enveloped;
use super::{json, yaml};

/// What every marker begins with. Twelve bytes, so that base64 of what begins with it does too.
pub const BEGINS: &str = "hoop-masked-";

/// Hexadecimal digits behind it, at least.
pub const DIGITS: usize = 8;

/// Where a written body holds what a mask put in place of a value: writing it would replace the
/// value by its mask. A JSON pointer (RFC 6901) where the body can be read, else the form in which
/// it was found.
pub fn finds_masked(content_type: Option<&str>, body: &[u8]) -> Option<String> {
    let found = position(body).is_some();
    if is_enveloped(body) || content_type.is_some_and(|t| t.contains("protobuf")) {
        return found.then(|| "its protobuf form".to_owned());
    }
    // Escapes may hide it: `\u0068oop-…`. Without any, the bytes are all there is.
    if !found && !body.contains(&b'\\') {
        return None;
    }
    let value = json::parse(body).or_else(|_| yaml::parse(body)).ok();
    let mut path = String::new();
    match value.is_some_and(|value| find(&value, &mut path)) && !path.is_empty() {
        true => Some(path),
        false => found.then(|| "its text".to_owned()),
    }
}

/// Puts together the pointer to the first.
fn find(value: &Value, path: &mut String) -> bool {
    let at = path.len();
    let within = |name: &str, inner: &Value, path: &mut String| {
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let found = position(name.as_bytes()).is_some() || find(inner, path);
        if !found {
            path.truncate(at);
        }
        found
    };
    match value {
        Value::String(text) => position(text.as_bytes()).is_some(),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.any(|(index, item)| within(&index.to_string(), item, path))
        }
        Value::Object(members) => members
            .iter()
            .any(|(name, inner)| within(name, inner, path)),
        _ => false,
    }
}

/// Where a marker stands in bytes, as it is or in base64 at any of its three alignments.
pub fn position(bytes: &[u8]) -> Option<usize> {
    let plain = memchr::memmem::find_iter(bytes, BEGINS).find(|at| {
        let behind = bytes.get(at + BEGINS.len()..).unwrap_or_default();
        let digits = behind.iter().take(DIGITS);
        digits.filter(|b| b.is_ascii_hexdigit()).count() == DIGITS
    });
    plain.or_else(|| {
        let encoded = alignments();
        encoded
            .iter()
            .find_map(|needle| memchr::memmem::find(bytes, needle.as_bytes()))
    })
}

/// What base64 makes of the beginning behind nothing, one byte or two.
fn alignments() -> [String; 3] {
    [0, 1, 2].map(|before| {
        let text = [vec![0; before], BEGINS.as_bytes().to_vec()].concat();
        let whole = text.len() / 3 * 3;
        let encoded = BASE64_STANDARD.encode(text.get(..whole).unwrap_or_default());
        // The first character or two hold bits of what stands before.
        let own = [0, 2, 3].get(before).copied().unwrap_or(3);
        encoded.get(own..).unwrap_or_default().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_begins_like_one_is_none() {
        assert_eq!(position(b"hoop-masked-values are markers"), None);
        assert_eq!(position(b"see hoop-masked-0123abcd"), Some(4));
    }

    proptest! {
        #[test]
        fn in_base64_it_is_found_wherever_it_stands(before: Vec<u8>, behind: Vec<u8>) {
            let text = [&before[..], b"hoop-masked-0123abcd", &behind].concat();
            prop_assert!(position(&text).is_some());
            prop_assert!(position(BASE64_STANDARD.encode(text).as_bytes()).is_some());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = finds_masked(None, &bytes);
        }
    }
}
