//! What stands in place of a value, valid for its type and format.

use std::borrow::Cow;

use super::document;
use super::path::JsonPath;
use super::rules::HashKey;
use crate::config::How;
use crate::hex;

/// Object ids of types (PostgreSQL's `pg_type.dat`) whose values are plain text in both formats:
/// name, text, unknown, varchar.
const TEXT: [u32; 4] = [19, 25, 705, 1043];
/// `character(n)`: text, filled up with spaces that mean nothing.
const BPCHAR: u32 = 1042;
const JSON: u32 = 114;
const JSONB: u32 = 3802;
const UUID: u32 = 2950;

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
    match how {
        How::Null => return None,
        How::Inside(paths) => return inside(paths, kind, binary, value, key),
        _ => {}
    }
    match kind {
        BPCHAR => Some(text(how, value.trim_ascii_end(), key)),
        JSON => Some(json(how, value, key)),
        JSONB if binary => Some(versioned(how, value, key)),
        JSONB => Some(json(how, value, key)),
        UUID => uuid(how, value, binary, key),
        _ if TEXT.contains(&kind) => Some(text(how, value, key)),
        _ => Integer::of(kind).and_then(|integer| integer.replace(how, value, binary, key)),
    }
}

/// A JSON document in a value of its own types or of a text type. What is none is masked whole.
fn inside(
    paths: &[(JsonPath, How)],
    kind: u32,
    binary: bool,
    value: &[u8],
    key: &HashKey,
) -> Option<Cow<'static, [u8]>> {
    let version: &[u8] = match (kind, binary) {
        (JSONB, true) => &[1],
        _ => &[],
    };
    let is_text = matches!(kind, JSON | JSONB | BPCHAR) || TEXT.contains(&kind);
    let document = value.strip_prefix(version).filter(|_| is_text);
    match document.and_then(|document| document::masked(document, paths, key)) {
        Some(masked) => Some(Cow::Owned([version, &masked].concat())),
        None => {
            let whole = replace(&How::Redact, kind, binary, value, key);
            whole.map(|whole| Cow::Owned(whole.into_owned()))
        }
    }
}

fn text<'v>(how: &'v How, value: &[u8], key: &HashKey) -> Cow<'v, [u8]> {
    match how {
        How::Null | How::Redact | How::Inside(_) => Cow::Borrowed(MASKED.as_bytes()),
        How::Fixed(text) => Cow::Borrowed(text.as_bytes()),
        How::Hash => Cow::Owned(hex::encode(key.hash(value)).into_bytes()),
        How::Partial => Cow::Owned(partial(value)),
    }
}

/// A JSON string.
fn json(how: &How, value: &[u8], key: &HashKey) -> Cow<'static, [u8]> {
    let shown = match how {
        How::Fixed(text) => text.clone(),
        How::Hash => hex::encode(key.hash(value)),
        // The end of a document is no end of a value.
        _ => MASKED.into(),
    };
    Cow::Owned(serde_json::Value::String(shown).to_string().into_bytes())
}

/// jsonb's binary format: the text, after a version. The hash is over the text alone, so that both
/// formats of one value have the same.
fn versioned(how: &How, value: &[u8], key: &HashKey) -> Cow<'static, [u8]> {
    let document = value.get(1..).unwrap_or_default();
    Cow::Owned([&[1], &*json(how, document, key)].concat())
}

/// Hashed, it is of version 8, which is for values of one's own making (RFC 9562, section 5.8).
fn uuid(how: &How, value: &[u8], binary: bool, key: &HashKey) -> Option<Cow<'static, [u8]>> {
    let bytes: [u8; 16] = match how {
        How::Hash => {
            let whole = if binary {
                value.to_vec()
            } else {
                uuid_bytes(value)?
            };
            let hash = u128::from_be_bytes(key.hash(&whole));
            let versioned = hash & !(0xf << 76) | 0x8 << 76;
            (versioned & !(0x3 << 62) | 0x2 << 62).to_be_bytes()
        }
        How::Fixed(text) => uuid_bytes(text.as_bytes())?.try_into().ok()?,
        _ => return None,
    };
    if binary {
        return Some(Cow::Owned(bytes.to_vec()));
    }
    let mut text = hex::encode(bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    Some(Cow::Owned(text.into_bytes()))
}

/// Whole numbers: of two, four or eight bytes.
struct Integer {
    bytes: usize,
}

impl Integer {
    fn of(kind: u32) -> Option<Self> {
        let bytes = match kind {
            21 => 2,
            23 => 4,
            20 => 8,
            _ => return None,
        };
        Some(Self { bytes })
    }

    /// A hash is a number of the type that is not negative; of the smaller types two values may
    /// well share one.
    fn replace(
        &self,
        how: &How,
        value: &[u8],
        binary: bool,
        key: &HashKey,
    ) -> Option<Cow<'static, [u8]>> {
        let bits = 8 * self.bytes as u32;
        let number = match how {
            How::Hash => {
                let number = if binary {
                    self.read(value)?
                } else {
                    decimal(value)?
                };
                let hash = key.hash(number.to_string().as_bytes());
                (u128::from_be_bytes(hash) >> (129 - bits)) as i64
            }
            How::Fixed(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        let most = i64::MAX >> (64 - bits);
        if number > most || number < -most - 1 {
            return None;
        }
        Some(Cow::Owned(match binary {
            true => number.to_be_bytes().get(8 - self.bytes..)?.to_vec(),
            false => number.to_string().into_bytes(),
        }))
    }

    fn read(&self, value: &[u8]) -> Option<i64> {
        Some(match self.bytes {
            2 => i16::from_be_bytes(value.try_into().ok()?).into(),
            4 => i32::from_be_bytes(value.try_into().ok()?).into(),
            _ => i64::from_be_bytes(value.try_into().ok()?),
        })
    }
}

fn decimal(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A uuid's bytes, of its text with or without dashes.
fn uuid_bytes(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|b| *b != b'-').collect();
    hex::decode(&digits).filter(|bytes| bytes.len() == 16)
}

pub(super) fn partial(value: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(value) else {
        // What its characters are is not known.
        return MASKED.into();
    };
    let count = text.chars().count();
    if count <= 2 * SHOWN {
        return "*".repeat(count).into_bytes();
    }
    let hidden = count - SHOWN;
    let shown: String = text.chars().skip(hidden).collect();
    format!("{}{shown}", "*".repeat(hidden)).into_bytes()
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
    fn both_formats_of_a_value_have_one_hash() {
        let hashed = |kind, binary, value: &[u8]| {
            replace(&How::Hash, kind, binary, value, &key())
                .unwrap()
                .into_owned()
        };
        for (kind, bytes) in [(21, 2), (23, 4), (20, 8)] {
            for number in [0i64, 7, -1, 30000] {
                let text = hashed(kind, false, number.to_string().as_bytes());
                let binary = hashed(kind, true, &number.to_be_bytes()[8 - bytes..]);
                let mut wide = [0; 8];
                wide[8 - bytes..].copy_from_slice(&binary);
                assert_eq!(text, i64::from_be_bytes(wide).to_string().as_bytes());
            }
        }
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let text = String::from_utf8(hashed(2950, false, uuid.as_bytes())).unwrap();
        let binary = hashed(2950, true, &uuid_bytes(uuid.as_bytes()).unwrap());
        assert_eq!(uuid_bytes(text.as_bytes()).unwrap(), binary);
        assert_eq!((text.len(), &text[14..15]), (36, "8"));
        assert_eq!(
            hashed(3802, true, b"\x01{}")[1..],
            hashed(3802, false, b"{}")[..]
        );
        assert_eq!(hashed(1042, false, b"ab   "), hashed(25, false, b"ab"));
    }

    #[test]
    fn a_fixed_number_must_fit_its_type() {
        let fixed = |text: &str, kind, binary| {
            let how = How::Fixed(text.into());
            replace(&how, kind, binary, b"", &key()).map(|v| v.into_owned())
        };
        assert_eq!(fixed("-1", 21, true), Some(vec![0xff, 0xff]));
        assert_eq!(fixed("32767", 21, false), Some(b"32767".to_vec()));
        assert_eq!(fixed("32768", 21, false), None);
        assert_eq!(fixed("x", 23, false), None);
        assert_eq!(fixed("x", 700, false), None);
        assert_eq!(
            fixed(&i64::MIN.to_string(), 20, false),
            Some(i64::MIN.to_string().into_bytes())
        );
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
