//! What stands in place of a value, valid for its type and format.

use std::borrow::Cow;

use super::rules::HashKey;
use crate::config::How;

/// Object ids of types (PostgreSQL's `pg_type.dat`) whose values are plain text in both formats:
/// name, text, unknown, bpchar, varchar.
const TEXT: [u32; 5] = [19, 25, 705, 1042, 1043];
const JSON: u32 = 114;
const JSONB: u32 = 3802;

const MASKED: &str = "[masked]";

/// Partial masks show this many characters of values that are longer than twice as many.
const SHOWN: usize = 4;

/// The value to send instead; `None` is NULL, where no valid value of the type says nothing.
pub(super) fn replace<'v>(
    how: &'v How,
    kind: u32,
    binary: bool,
    value: &[u8],
    key: &HashKey,
) -> Option<Cow<'v, [u8]>> {
    if TEXT.contains(&kind) {
        return text(how, value, key);
    }
    match (kind, how) {
        (_, How::Null) => None,
        (JSON, _) => Some(json(how, value, key, false)),
        (JSONB, _) => Some(json(how, value, key, binary)),
        _ => None,
    }
}

fn text<'v>(how: &'v How, value: &[u8], key: &HashKey) -> Option<Cow<'v, [u8]>> {
    Some(match how {
        How::Null => return None,
        How::Redact => Cow::Borrowed(MASKED.as_bytes()),
        How::Fixed(text) => Cow::Borrowed(text.as_bytes()),
        How::Hash => Cow::Owned(hex(&key.hash(value)).into_bytes()),
        How::Partial => Cow::Owned(partial(value)),
    })
}

/// A JSON string, in jsonb's binary format with its version before it.
fn json(how: &How, value: &[u8], key: &HashKey, versioned: bool) -> Cow<'static, [u8]> {
    let shown = match how {
        How::Fixed(text) => text.clone(),
        How::Hash => hex(&key.hash(value)),
        // The end of a document is no end of a value.
        _ => MASKED.into(),
    };
    let mut out = if versioned { vec![1] } else { Vec::new() };
    out.extend_from_slice(serde_json::Value::String(shown).to_string().as_bytes());
    Cow::Owned(out)
}

fn partial(value: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(value);
    let count = text.chars().count();
    if count <= 2 * SHOWN {
        return "*".repeat(count).into_bytes();
    }
    let hidden = count - SHOWN;
    let shown: String = text.chars().skip(hidden).collect();
    format!("{}{shown}", "*".repeat(hidden)).into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> HashKey {
        HashKey::new(&[3; 32])
    }

    #[test]
    fn each_way_on_text() {
        let card = b"4111111111111111";
        let shown = |how: &How| {
            replace(how, 25, false, card, &key()).map(|v| String::from_utf8(v.into()).unwrap())
        };
        assert_eq!(shown(&How::Redact).unwrap(), "[masked]");
        assert_eq!(shown(&How::Partial).unwrap(), "************1111");
        assert_eq!(shown(&How::Fixed("x".into())).unwrap(), "x");
        assert_eq!(shown(&How::Null), None);
        assert_eq!(shown(&How::Hash).unwrap().len(), 32);
        assert_eq!(shown(&How::Hash), shown(&How::Hash));
    }

    #[test]
    fn a_number_becomes_null_and_json_stays_json() {
        assert_eq!(replace(&How::Redact, 23, true, &[0, 0, 0, 7], &key()), None);
        let json = replace(&How::Partial, 114, false, br#"{"a":1}"#, &key()).unwrap();
        assert_eq!(&*json, br#""[masked]""#);
        let jsonb = replace(&How::Redact, 3802, true, b"\x01{}", &key()).unwrap();
        assert_eq!(&*jsonb, b"\x01\"[masked]\"");
    }

    proptest! {
        #[test]
        fn a_short_value_shows_nothing(value in "[a-z]{1,8}") {
            let out = replace(&How::Partial, 25, false, value.as_bytes(), &key()).unwrap();
            prop_assert!(out.iter().all(|b| *b == b'*'));
        }

        #[test]
        fn no_value_panics(value: Vec<u8>, kind in 0u32..4000, binary: bool) {
            for how in [How::Redact, How::Partial, How::Hash, How::Null, How::Fixed("é".into())] {
                let _ = replace(&how, kind, binary, &value, &key());
            }
        }
    }
}
