//! What SSH carries, without I/O: channel messages, SFTP packets and scp records.

pub mod channel;
pub mod scp;
pub mod sftp;

/// Bytes that are no message of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a message ends before it is complete")]
    Short,
    #[error("a message of {0} bytes is larger than any of its kind")]
    TooLarge(usize),
    #[error("there is no message of type {0}")]
    Unknown(u8),
    #[error("a message holds more than belongs to it")]
    Trailing,
    #[error("a request has the number {0} of one that was not answered yet")]
    Repeated(u32),
    #[error("a text is not valid UTF-8")]
    NotUtf8,
}

/// Takes fields off the front of a message, each after its bounds were checked (RFC 4251, 5).
pub(in crate::wire) struct Fields(pub bytes::Bytes);

impl Fields {
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// `string`: a length, then that many bytes.
    pub fn string(&mut self) -> Result<bytes::Bytes, Malformed> {
        let length = self.u32()? as usize;
        if length > self.0.len() {
            return Err(Malformed::Short);
        }
        Ok(self.0.split_to(length))
    }

    pub fn end(self) -> Result<(), Malformed> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Malformed::Trailing),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, _) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        let array = *first;
        let _ = self.0.split_to(N);
        Ok(array)
    }
}

/// Appends a `string`. What is longer than a message may be was refused before.
pub(in crate::wire) fn put_string(out: &mut bytes::BytesMut, bytes: &[u8]) {
    use bytes::BufMut;
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}
