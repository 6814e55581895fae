//! The wire format of protocol buffers, version 2, read without copying and within bounds.
//!
//! <https://protobuf.dev/programming-guides/encoding/>. Groups, which nothing in Kubernetes has, are
//! refused.

/// What is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the protobuf message ends within a field")]
    Short,
    #[error("a number of the protobuf message has more than 64 bits")]
    Varint,
    #[error("the protobuf message has a field of a kind that Kubernetes does not use")]
    WireType,
    #[error("a field of the protobuf message has no number")]
    Tag,
    #[error("a field of the protobuf message is not of the type that Kubernetes gives it")]
    Type,
    #[error("a text of the protobuf message is not UTF-8")]
    Utf8,
    #[error("a field of the protobuf message stands there twice")]
    Twice,
    #[error("the protobuf message is nested too deep")]
    Deep,
    #[error("the protobuf message has too many values")]
    Many,
    #[error("the object has no protobuf envelope")]
    Envelope,
}

/// One value as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire<'m> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// A text, bytes, a message, or packed numbers.
    Bytes(&'m [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'m> {
    /// From 1.
    pub number: u32,
    pub value: Wire<'m>,
    /// The whole field with its tag.
    pub raw: &'m [u8],
}

/// Goes through the fields of one message, in the order of the wire.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'m> {
    rest: &'m [u8],
}

impl<'m> Reader<'m> {
    pub fn new(message: &'m [u8]) -> Self {
        Self { rest: message }
    }

    /// `None` at the end.
    pub fn field(&mut self) -> Result<Option<Field<'m>>, Malformed> {
        let start = self.rest;
        if start.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed::Tag)?;
        if number == 0 || number >= 1 << 29 {
            return Err(Malformed::Tag);
        }
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Short)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Short)?;
                self.rest = rest;
                Wire::Bytes(bytes)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(Malformed::WireType),
        };
        let length = start.len() - self.rest.len();
        let raw = start.get(..length).ok_or(Malformed::Short)?;
        Ok(Some(Field { number, value, raw }))
    }

    /// A number of 1 to 10 bytes, the lowest seven bits first.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for at in 0..10 {
            let (byte, rest) = self.rest.split_first().ok_or(Malformed::Short)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if at == 9 && bits > 1 {
                return Err(Malformed::Varint);
            }
            number |= bits << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Varint)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

/// Appends a number.
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a field that is a number.
#[cfg(test)]
pub fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    put_varint(out, u64::from(field) << 3);
    put_varint(out, number);
}

/// Appends a field that is a text, bytes or a message.
pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_message_is_told() {
        for (message, error) in [
            (&[0x0a][..], Malformed::Short),
            (&[0x0a, 5, b'x'], Malformed::Short),
            (&[0x08, 0xff], Malformed::Short),
            (&[0x0b], Malformed::WireType),
            (&[0x00, 0], Malformed::Tag),
            (
                &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
                Malformed::Varint,
            ),
            (
                &[8, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 0],
                Malformed::Varint,
            ),
            // A length that no memory has.
            (
                &[0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
                Malformed::Short,
            ),
        ] {
            assert_eq!(Reader::new(message).field(), Err(error), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, field in 1_u32..1 << 29, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_number(&mut out, field, number);
            let first = out.len();
            put_bytes(&mut out, field, &bytes);
            let mut reader = Reader::new(&out);
            let one = reader.field().unwrap().unwrap();
            prop_assert_eq!((one.number, one.value, one.raw), (field, Wire::Varint(number), &out[..first]));
            let two = reader.field().unwrap().unwrap();
            prop_assert_eq!((two.number, two.value, two.raw), (field, Wire::Bytes(&bytes), &out[first..]));
            prop_assert_eq!(reader.field(), Ok(None));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while let Ok(Some(field)) = reader.field() {
                prop_assert!(!field.raw.is_empty());
            }
        }
    }
}
