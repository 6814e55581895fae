//! JSON bodies as values: strict, so that nobody behind hoop can read another object in them.
//!
//! A key that stands twice is refused: the API server takes its last value, others the first, and a
//! decision must not depend on who is right. Depth and number of values are bounded.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Values of one body: with what they take in memory, some 100 MB.
pub const MAX_VALUES: usize = 1_000_000;

/// Why a body could not be read; fit for the agent to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no JSON that has one meaning: {0}")]
pub struct Unreadable(pub String);

/// Reads one document; nothing but space stands around it. Objects and arrays may stand within each
/// other 127 times.
pub fn parse(bytes: &[u8]) -> Result<Value, Unreadable> {
    let mut left = MAX_VALUES;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = One { left: &mut left };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| Unreadable(error.to_string()))
}

/// All values in one, itself included.
pub fn count(value: &Value) -> usize {
    let inner: usize = match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    };
    inner + 1
}

struct One<'c> {
    left: &'c mut usize,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.checked_sub(1) {
            Some(left) => *self.left = left,
            None => return Err(D::Error::custom("there are too many values")),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(One {
            left: &mut *self.left,
        })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(One {
                left: &mut *self.left,
            })?;
            if map.contains_key(&key) {
                let key: String = key.chars().take(80).collect();
                return Err(A::Error::custom(format!("the key {key:?} stands twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_has_one_meaning_is_read() {
        assert_eq!(
            parse(br#" {"a": [1, -2, 1.5, null, true, "x\u0041"], "b": {}} "#),
            Ok(json!({"a": [1, -2, 1.5, null, true, "xA"], "b": {}}))
        );
        for text in [
            "",
            "{",
            "{} {}",
            r#"{"a":1,"a":2}"#,
            r#"{"x":{"a":1,"b":2,"\u0061":3}}"#,
            "NaN",
            "{'a':1}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(parse(deep.as_bytes()).is_err());
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(parse(many.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn as_serde_json_reads_it(text in "[\\[\\]{}\",:a1.\\\\ -]{0,40}") {
            if let Ok(value) = parse(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
            }
        }
    }
}
