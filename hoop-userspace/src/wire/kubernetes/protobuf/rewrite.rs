//! Some values of an object replaced by others, in its protobuf form.
//!
//! What is replaced was found in the object's JSON: both are gone through together, and where they
//! differ from what they were, the other is written. Fields that are not known are left out: nobody
//! can say what they hold.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::reader::{Field, Malformed, Reader, put_bytes, put_number, put_varint};
use super::schema::{Kinds, Known, Label, Type};
use super::value::{bytes_of, entry, raw_bytes};
use super::{Envelope, MAX_DEPTH, is_enveloped};

const NULL: Value = Value::Null;

/// The number of `annotations` in `ObjectMeta`.
const ANNOTATIONS: u32 = 12;

/// The object of an envelope with what is in `new` in place of what is in `old`, which is what
/// [`super::decode`] made of it. Members that `new` lacks are left out; of those that it has more,
/// annotations are added.
pub(super) fn rewrite(
    kinds: &Kinds,
    envelope: &Envelope<'_>,
    old: &Value,
    new: &Value,
) -> Result<Vec<u8>, Malformed> {
    Rewriting { kinds }.enveloped(envelope, old, new, MAX_DEPTH)
}

struct Rewriting<'k> {
    kinds: &'k Kinds,
}

impl Rewriting<'_> {
    fn enveloped(
        &self,
        envelope: &Envelope<'_>,
        old: &Value,
        new: &Value,
        depth: usize,
    ) -> Result<Vec<u8>, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::Deep)?;
        let index = self
            .kinds
            .of(envelope.api_version, envelope.kind)
            .filter(|_| envelope.is_plain())
            .ok_or(Malformed::Type)?;
        let raw = self.message(index, envelope.raw, old, new, depth)?;
        Ok(envelope.with(&raw))
    }

    fn message(
        &self,
        index: usize,
        bytes: &[u8],
        old: &Value,
        new: &Value,
        depth: usize,
    ) -> Result<Vec<u8>, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::Deep)?;
        let message = self.kinds.message(index).ok_or(Malformed::Type)?;
        let mut out = Vec::with_capacity(bytes.len());
        let mut counts: Vec<(u32, usize)> = Vec::new();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field()? {
            let Some(known) = message.field(field.number) else {
                continue;
            };
            match known.label {
                Label::One if known.name.is_empty() => {
                    let Type::Message(inner) = known.kind else {
                        return Err(Malformed::Type);
                    };
                    let inner = self.message(inner, bytes_of(&field)?, old, new, depth)?;
                    put_bytes(&mut out, field.number, &inner);
                }
                Label::One => {
                    let (old, new) = (member(old, known.name), member(new, known.name));
                    self.field(known, &field, old, new, &mut out, depth)?;
                }
                Label::Many => {
                    let at = match counts.iter_mut().find(|(n, _)| *n == field.number) {
                        Some((_, at)) => {
                            *at += 1;
                            *at
                        }
                        None => {
                            counts.push((field.number, 0));
                            0
                        }
                    };
                    if matches!(known.kind, Type::Integer | Type::Bool) {
                        // Packed or not: numbers within lists stay as they are.
                        out.extend_from_slice(field.raw);
                        continue;
                    }
                    let (old, new) = (member(old, known.name), member(new, known.name));
                    let (old, new) = (old.and_then(|v| v.get(at)), new.and_then(|v| v.get(at)));
                    self.field(known, &field, old, new, &mut out, depth)?;
                }
                Label::Map => {
                    let (key, value) = entry(bytes_of(&field)?)?;
                    let of = |object| member(object, known.name).and_then(|v| member(v, key));
                    let (old, new) = (of(old), of(new));
                    if new.is_none() {
                        continue;
                    }
                    let mut written = Vec::new();
                    put_bytes(&mut written, 1, key.as_bytes());
                    if let Some(value) = value {
                        self.field(known, &value, old, new, &mut written, depth)?;
                    }
                    put_bytes(&mut out, field.number, &written);
                }
            }
        }
        if message.is_object_meta {
            annotations(old, new, &mut out);
        }
        Ok(out)
    }

    /// One field, or the value of an entry of a map.
    fn field(
        &self,
        known: &Known,
        field: &Field<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Malformed> {
        let Some(new) = new else {
            return Ok(());
        };
        let old = old.unwrap_or(&NULL);
        let number = field.number;
        if let Type::Message(index) = known.kind {
            let inner = self.message(index, bytes_of(field)?, old, new, depth)?;
            put_bytes(out, number, &inner);
            return Ok(());
        }
        if let Type::Raw = known.kind {
            let raw = raw_bytes(bytes_of(field)?)?;
            if is_enveloped(raw) {
                let envelope = Envelope::read(raw)?;
                let raw = self.enveloped(&envelope, old, new, depth)?;
                put_bytes(out, number, &within(1, &raw));
                return Ok(());
            }
        }
        if old == new {
            out.extend_from_slice(field.raw);
            return Ok(());
        }
        let text = new.as_str();
        match known.kind {
            Type::Text => put_bytes(out, number, text.ok_or(Malformed::Type)?.as_bytes()),
            Type::Bytes => {
                let bytes = BASE64_STANDARD.decode(text.ok_or(Malformed::Type)?);
                put_bytes(out, number, &bytes.map_err(|_| Malformed::Type)?);
            }
            Type::Bool => put_number(out, number, new.as_bool().unwrap_or_default().into()),
            Type::Integer => {
                let integer = new.as_i64().unwrap_or_default();
                put_number(out, number, integer.cast_unsigned());
            }
            Type::Double => {
                put_varint(out, u64::from(number) << 3 | 1);
                let bits = new.as_f64().unwrap_or_default().to_bits();
                out.extend_from_slice(&bits.to_le_bytes());
            }
            Type::Raw => put_bytes(out, number, &within(1, new.to_string().as_bytes())),
            Type::Quantity => {
                // Nothing but a number is one.
                put_bytes(out, number, &within(1, b"0"));
            }
            Type::IntOrString => {
                let mut inner = Vec::new();
                put_number(&mut inner, 1, 1);
                put_bytes(&mut inner, 3, text.unwrap_or_default().as_bytes());
                put_bytes(out, number, &inner);
            }
            // What is another now is no time.
            Type::Time | Type::Duration => put_bytes(out, number, &[]),
            Type::List => {
                let mut inner = Vec::new();
                for item in new.as_array().into_iter().flatten() {
                    put_bytes(&mut inner, 1, item.as_str().unwrap_or_default().as_bytes());
                }
                put_bytes(out, number, &inner);
            }
            Type::Message(_) => return Err(Malformed::Type),
        }
        Ok(())
    }
}

/// Annotations that were not there.
fn annotations(old: &Value, new: &Value, out: &mut Vec<u8>) {
    let empty = Map::new();
    let of = |object: &'_ Value| match member(object, "annotations") {
        Some(Value::Object(map)) => map.clone(),
        _ => empty.clone(),
    };
    let (old, new) = (of(old), of(new));
    for (key, value) in &new {
        if let (false, Some(value)) = (old.contains_key(key), value.as_str()) {
            let mut written = Vec::new();
            put_bytes(&mut written, 1, key.as_bytes());
            put_bytes(&mut written, 2, value.as_bytes());
            put_bytes(out, ANNOTATIONS, &written);
        }
    }
}

fn member<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    object.as_object()?.get(name)
}

fn within(field: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 8);
    put_bytes(&mut out, field, bytes);
    out
}
