//! Header blocks: names and values, compressed by one zlib stream for each direction of the whole
//! connection (SPDY/3, section 2.6.10).

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::DICTIONARY;
use super::{MAX_HEADER_BLOCK, MAX_HEADERS, SpdyError};

/// Names in lower case, each once. A value may hold several, separated by a zero byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Bytes, Bytes)>);

impl Headers {
    /// Checks what a peer would check: at most [`MAX_HEADERS`], names in lower case and never twice.
    pub fn new(pairs: Vec<(Bytes, Bytes)>) -> Result<Self, SpdyError> {
        if pairs.len() > MAX_HEADERS {
            let count = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
            return Err(SpdyError::HeaderCount(count));
        }
        let length: usize = pairs.iter().map(|(n, v)| 8 + n.len() + v.len()).sum();
        if length + 4 > MAX_HEADER_BLOCK {
            return Err(SpdyError::Inflated);
        }
        for (at, (name, _)) in pairs.iter().enumerate() {
            let plain = |byte: &u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
            if name.is_empty() || !name.iter().all(plain) {
                return Err(SpdyError::HeaderName);
            }
            if pairs.iter().take(at).any(|(other, _)| other == name) {
                return Err(SpdyError::HeaderTwice);
            }
        }
        Ok(Self(pairs))
    }

    /// The whole value, zero bytes included.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        let found = self.0.iter().find(|(known, _)| known == name.as_bytes());
        found.map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    fn put(&self, out: &mut BytesMut) {
        // Both are far below 4 GiB: `new` bounds them.
        let length = |bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        out.put_u32(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        for (name, value) in &self.0 {
            out.put_u32(length(name));
            out.extend_from_slice(name);
            out.put_u32(length(value));
            out.extend_from_slice(value);
        }
    }

    fn parse(mut block: Bytes) -> Result<Self, SpdyError> {
        let count = u32(&mut block)?;
        if count as usize > MAX_HEADERS {
            return Err(SpdyError::HeaderCount(count));
        }
        let mut pairs = Vec::with_capacity(count as usize);
        for _ in 0..count {
            pairs.push((text(&mut block)?, text(&mut block)?));
        }
        if !block.is_empty() {
            return Err(SpdyError::HeadersTrailing);
        }
        Self::new(pairs)
    }
}

fn u32(block: &mut Bytes) -> Result<u32, SpdyError> {
    let number = block.first_chunk::<4>().ok_or(SpdyError::HeadersShort)?;
    let number = u32::from_be_bytes(*number);
    let _ = block.split_to(4);
    Ok(number)
}

fn text(block: &mut Bytes) -> Result<Bytes, SpdyError> {
    let length = u32(block)? as usize;
    match length <= block.len() {
        true => Ok(block.split_to(length)),
        false => Err(SpdyError::HeadersShort),
    }
}

/// The zlib stream of what a peer sends.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Takes one whole block. After an error the stream's state is lost, and with it the connection.
    pub(super) fn headers(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        // One byte more than allowed, so that it shows when there is more.
        let mut plain = vec![0; MAX_HEADER_BLOCK + 1];
        let (mut taken, mut made) = (0, 0);
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let input = block.get(taken..).unwrap_or_default();
            let room = plain.get_mut(made..).unwrap_or_default();
            let result = self.0.decompress(input, room, FlushDecompress::Sync);
            taken += difference(before_in, self.0.total_in());
            made += difference(before_out, self.0.total_out());
            let status = match result {
                Ok(status) => status,
                Err(why) if why.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| SpdyError::Compression)?;
                    continue;
                }
                Err(_) => return Err(SpdyError::Compression),
            };
            if made > MAX_HEADER_BLOCK {
                return Err(SpdyError::Inflated);
            }
            // A stream that ends could carry no further block. One that makes no progress while
            // there is input is no stream.
            let moved = before_in != self.0.total_in() || before_out != self.0.total_out();
            match status {
                Status::StreamEnd => return Err(SpdyError::Compression),
                Status::Ok | Status::BufError if taken == block.len() => break,
                Status::Ok | Status::BufError if !moved => return Err(SpdyError::Compression),
                Status::Ok | Status::BufError => {}
            }
        }
        plain.truncate(made);
        Headers::parse(plain.into())
    }
}

/// The zlib stream of what is sent to a peer.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Result<Self, SpdyError> {
        // Blocks are a few words: the least of its levels finds all there is in the dictionary.
        let mut stream = Compress::new(Compression::fast(), true);
        stream
            .set_dictionary(DICTIONARY)
            .map_err(|_| SpdyError::Compression)?;
        Ok(Self(stream))
    }

    /// Appends one block, flushed so that the peer can read all of it (section 2.6.10.1).
    pub(super) fn headers(
        &mut self,
        headers: &Headers,
        out: &mut BytesMut,
    ) -> Result<(), SpdyError> {
        let mut plain = BytesMut::new();
        headers.put(&mut plain);
        let mut room = [0; 4096];
        let mut taken = 0;
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let input = plain.get(taken..).unwrap_or_default();
            self.0
                .compress(input, &mut room, FlushCompress::Sync)
                .map_err(|_| SpdyError::Compression)?;
            taken += difference(before_in, self.0.total_in());
            let made = difference(before_out, self.0.total_out());
            out.extend_from_slice(room.get(..made).unwrap_or_default());
            // Room that is not filled up means that all is flushed.
            if made < room.len() && taken == plain.len() {
                return Ok(());
            }
            if made == 0 {
                return Err(SpdyError::Compression);
            }
        }
    }
}

fn difference(before: u64, after: u64) -> usize {
    usize::try_from(after.saturating_sub(before)).unwrap_or(usize::MAX)
}
