//! From protobuf to the JSON of the same object, so that what reads and masks objects reads one form.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Number, Value};

use super::reader::{Field, Malformed, Reader, Wire};
use super::schema::{Kinds, Known, Label, Type};
use super::{Envelope, MAX_DEPTH, MAX_VALUES, is_enveloped};

/// Fields of 32 bits that decisions depend on. Of all others of them, 64 bits are shown.
const SHORT: [&str; 2] = ["hostPort", "replicas"];

/// An object, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// As the API server would write it in JSON, but for the order of members. Bytes are base64.
    pub value: Value,
    /// Fields stand in it that this version does not know: not all of it is in `value`.
    pub incomplete: bool,
}

/// What is read into.
pub(super) struct Reading<'k> {
    pub kinds: &'k Kinds,
    pub incomplete: bool,
    left: usize,
}

impl<'k> Reading<'k> {
    pub fn new(kinds: &'k Kinds) -> Self {
        Self {
            kinds,
            incomplete: false,
            left: MAX_VALUES,
        }
    }

    /// The members of a message, put into an object.
    pub fn message(
        &mut self,
        index: usize,
        bytes: &[u8],
        into: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::Deep)?;
        let kinds = self.kinds;
        let message = kinds.message(index).ok_or(Malformed::Type)?;
        let mut reader = Reader::new(bytes);
        let mut inlined: Vec<u32> = Vec::new();
        while let Some(field) = reader.field()? {
            self.left = self.left.checked_sub(1).ok_or(Malformed::Many)?;
            let Some(known) = message.field(field.number) else {
                self.incomplete = true;
                continue;
            };
            match known.label {
                Label::One if known.name.is_empty() => {
                    // Merged by those who read protobuf, which nobody who writes it relies on.
                    if inlined.contains(&known.number) {
                        return Err(Malformed::Twice);
                    }
                    inlined.push(known.number);
                    let Type::Message(inner) = known.kind else {
                        return Err(Malformed::Type);
                    };
                    self.message(inner, bytes_of(&field)?, into, depth)?;
                }
                Label::One => {
                    let value = self.value(known, &field, depth)?;
                    if into.insert(known.name.into(), value).is_some() {
                        return Err(Malformed::Twice);
                    }
                }
                Label::Many => {
                    let list = into
                        .entry(known.name)
                        .or_insert_with(|| Value::Array(Vec::new()));
                    let list = list.as_array_mut().ok_or(Malformed::Twice)?;
                    match (known.kind, field.value) {
                        (Type::Integer | Type::Bool, Wire::Bytes(packed)) => {
                            let mut packed = Reader::new(packed);
                            while !packed.is_empty() {
                                self.left = self.left.checked_sub(1).ok_or(Malformed::Many)?;
                                let number = Wire::Varint(packed.varint()?);
                                let one = Field {
                                    value: number,
                                    ..field
                                };
                                list.push(self.value(known, &one, depth)?);
                            }
                        }
                        _ => list.push(self.value(known, &field, depth)?),
                    }
                }
                Label::Map => {
                    let (key, value) = entry(bytes_of(&field)?)?;
                    let value = match value {
                        Some(value) => self.value(known, &value, depth)?,
                        None => absent(known.kind),
                    };
                    let map = into
                        .entry(known.name)
                        .or_insert_with(|| Value::Object(Map::new()));
                    let map = map.as_object_mut().ok_or(Malformed::Twice)?;
                    if map.insert(key.into(), value).is_some() {
                        return Err(Malformed::Twice);
                    }
                }
            }
        }
        Ok(())
    }

    fn value(
        &mut self,
        known: &Known,
        field: &Field<'_>,
        depth: usize,
    ) -> Result<Value, Malformed> {
        Ok(match known.kind {
            Type::Text => Value::String(text(bytes_of(field)?)?.to_owned()),
            Type::Bytes => Value::String(BASE64_STANDARD.encode(bytes_of(field)?)),
            Type::Bool => Value::Bool(number_of(field)? != 0),
            Type::Integer => {
                let number = number_of(field)?;
                let number = match SHORT.contains(&known.name) {
                    true => short(number).into(),
                    false => number.cast_signed(),
                };
                Value::Number(number.into())
            }
            Type::Double => match field.value {
                Wire::Fixed64(bits) => {
                    Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
                }
                _ => return Err(Malformed::Type),
            },
            Type::Message(index) => {
                let mut object = Map::new();
                self.message(index, bytes_of(field)?, &mut object, depth)?;
                Value::Object(object)
            }
            Type::Raw => self.raw(raw_bytes(bytes_of(field)?)?, depth)?,
            Type::Quantity => {
                let inner = only(bytes_of(field)?, 1)?;
                let inner = inner.map_or(Ok(""), |f| text(bytes_of(&f)?))?;
                Value::String(inner.to_owned())
            }
            Type::IntOrString => int_or_string(bytes_of(field)?)?,
            Type::Time => Value::String(time(bytes_of(field)?)?),
            Type::Duration => {
                let inner = only(bytes_of(field)?, 1)?;
                let nanos = inner.map_or(Ok(0), |f| number_of(&f))?;
                Value::String(format!("{}ns", nanos.cast_signed()))
            }
            Type::List => {
                let mut reader = Reader::new(bytes_of(field)?);
                let mut list = Vec::new();
                while let Some(item) = reader.field()? {
                    self.left = self.left.checked_sub(1).ok_or(Malformed::Many)?;
                    match item.number {
                        1 => list.push(Value::String(text(bytes_of(&item)?)?.to_owned())),
                        _ => self.incomplete = true,
                    }
                }
                Value::Array(list)
            }
        })
    }

    /// An object within an object: in an envelope of its own, or JSON.
    fn raw(&mut self, bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
        if is_enveloped(bytes) {
            return self.enveloped(&Envelope::read(bytes)?, depth);
        }
        match crate::wire::kubernetes::json::parse(bytes) {
            Ok(value) => {
                let values = crate::wire::kubernetes::json::count(&value);
                self.left = self.left.checked_sub(values).ok_or(Malformed::Many)?;
                Ok(value)
            }
            Err(_) => {
                self.incomplete |= !bytes.is_empty();
                Ok(Value::Null)
            }
        }
    }

    /// The object of an envelope, with its kind. One of an unknown kind has nothing else.
    pub fn enveloped(&mut self, envelope: &Envelope<'_>, depth: usize) -> Result<Value, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::Deep)?;
        let mut object = Map::new();
        match self.kinds.of(envelope.api_version, envelope.kind) {
            Some(index) if envelope.is_plain() => {
                self.message(index, envelope.raw, &mut object, depth)?;
            }
            _ => self.incomplete = true,
        }
        let mut named = Map::new();
        named.insert("apiVersion".into(), envelope.api_version.into());
        named.insert("kind".into(), envelope.kind.into());
        // No message has members of these names at its top.
        named.extend(object);
        Ok(Value::Object(named))
    }
}

/// Reads one object.
pub(super) fn decode(kinds: &Kinds, envelope: &Envelope<'_>) -> Result<Decoded, Malformed> {
    let mut reading = Reading::new(kinds);
    let value = reading.enveloped(envelope, MAX_DEPTH)?;
    Ok(Decoded {
        value,
        incomplete: reading.incomplete,
    })
}

pub(super) fn bytes_of<'m>(field: &Field<'m>) -> Result<&'m [u8], Malformed> {
    match field.value {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(Malformed::Type),
    }
}

fn number_of(field: &Field<'_>) -> Result<u64, Malformed> {
    match field.value {
        Wire::Varint(number) => Ok(number),
        _ => Err(Malformed::Type),
    }
}

/// An `int32` as Go's decoder has it: what is above its 32 bits is dropped.
fn short(number: u64) -> i32 {
    let low = u32::try_from(number & u64::from(u32::MAX));
    low.unwrap_or_default().cast_signed()
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::Utf8)
}

/// Key and value of an entry of a map.
pub(super) fn entry(bytes: &[u8]) -> Result<(&str, Option<Field<'_>>), Malformed> {
    let mut reader = Reader::new(bytes);
    let (mut key, mut value) = (None, None);
    while let Some(field) = reader.field()? {
        let twice = match field.number {
            1 => key.replace(text(bytes_of(&field)?)?).is_some(),
            2 => value.replace(field).is_some(),
            _ => return Err(Malformed::Type),
        };
        if twice {
            return Err(Malformed::Twice);
        }
    }
    Ok((key.unwrap_or_default(), value))
}

/// What an entry of a map has whose value is not written.
fn absent(kind: Type) -> Value {
    match kind {
        Type::Message(_) => Value::Object(Map::new()),
        Type::List => Value::Array(Vec::new()),
        Type::Bool => Value::Bool(false),
        Type::Integer | Type::Double => Value::Number(0.into()),
        _ => Value::String(String::new()),
    }
}

/// The one field of a message that has no other.
fn only(message: &[u8], number: u32) -> Result<Option<Field<'_>>, Malformed> {
    let mut reader = Reader::new(message);
    let mut found = None;
    while let Some(field) = reader.field()? {
        if field.number == number && found.replace(field).is_some() {
            return Err(Malformed::Twice);
        }
    }
    Ok(found)
}

/// What stands in a message that holds an object in another form.
pub(super) fn raw_bytes(message: &[u8]) -> Result<&[u8], Malformed> {
    only(message, 1)?.map_or(Ok(&[]), |field| bytes_of(&field))
}

fn int_or_string(message: &[u8]) -> Result<Value, Malformed> {
    let kind = only(message, 1)?.map_or(Ok(0), |f| number_of(&f))?;
    Ok(match kind {
        0 => {
            let number = only(message, 2)?.map_or(Ok(0), |f| number_of(&f))?;
            Value::Number(short(number).into())
        }
        _ => {
            let written = only(message, 3)?.map_or(Ok(""), |f| text(bytes_of(&f)?))?;
            Value::String(written.to_owned())
        }
    })
}

/// Seconds and nanoseconds since 1970 as RFC 3339 has them.
fn time(message: &[u8]) -> Result<String, Malformed> {
    let seconds = only(message, 1)?.map_or(Ok(0), |f| number_of(&f))?;
    let seconds = seconds.cast_signed();
    let nanos = only(message, 2)?.map_or(Ok(0), |f| number_of(&f))? % 1_000_000_000;
    // Years 0 to 9999; nothing else can be written so.
    if !(-62_167_219_200..=253_402_300_799).contains(&seconds) {
        return Err(Malformed::Type);
    }
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let fraction = match nanos {
        0 => String::new(),
        nanos => format!(".{:06}", nanos / 1000),
    };
    Ok(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"
    ))
}

/// The Gregorian date of a day counted from 1970-01-01: years begin in March here, so that the day
/// that leap years add is their last.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_json_has_them() {
        let at = |seconds: i64, nanos: u64| {
            let mut message = Vec::new();
            super::super::reader::put_number(&mut message, 1, seconds.cast_unsigned());
            super::super::reader::put_number(&mut message, 2, nanos);
            time(&message)
        };
        for (seconds, nanos, written) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_767_225_599, 123_456_000, "2025-12-31T23:59:59.123456Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
            (253_402_300_799, 0, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(at(seconds, nanos).as_deref(), Ok(written));
        }
        assert_eq!(at(i64::MAX, 0), Err(Malformed::Type));
    }
}
