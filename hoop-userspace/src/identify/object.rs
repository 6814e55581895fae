//! A JSON object in which no member stands twice: readers that take the first and readers that
//! take the last would otherwise see two different tokens.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

const MAX_MEMBERS: usize = 256;

#[derive(Debug)]
pub(super) struct Object(BTreeMap<String, Value>);

impl Object {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub fn get(&self, member: &str) -> Option<&Value> {
        self.0.get(member)
    }

    /// A member that must be a string if it is there.
    pub fn text(&self, member: &str) -> Result<Option<&str>, NotText> {
        match self.get(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(NotText),
        }
    }
}

pub(super) struct NotText;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if members.len() == MAX_MEMBERS || members.insert(name, value).is_some() {
                return Err(de::Error::custom(
                    "a member stands twice, or there are too many",
                ));
            }
        }
        Ok(Object(members))
    }
}
