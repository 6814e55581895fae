//! SPDY/3.1 frames as Kubernetes speaks them: exec, attach and port-forward of kubectl up to 1.30,
//! between API server and nodes to this day, and inside WebSocket messages for port-forward.
//!
//! Frames are those of SPDY draft 3.1, sections 2.2 and 2.6. What the draft has and no Kubernetes
//! peer sends (CREDENTIAL, unknown types and flags) is refused: what is not understood is not
//! passed on. Flow control (section 2.6.8) is read and not kept, as both ends of Kubernetes do it:
//! a WINDOW_UPDATE is never sent and never waited for; TCP holds back who sends too much.

mod decode;
mod dictionary;
mod encode;
mod headers;

use bytes::Bytes;

pub use decode::Decoder;
pub use encode::Encoder;
pub use headers::Headers;

/// The version in every control frame; SPDY/3.1 says 3 there.
const VERSION: u16 = 3;
/// Type or stream, then flags and length.
const HEADER: usize = 8;
/// Marks a control frame, in its first byte's highest bit.
const CONTROL: u32 = 0x8000_0000;

/// A control frame's longest payload. Those of Kubernetes are below 200 bytes.
pub const MAX_CONTROL: usize = 64 << 10;
/// A header block's length once it is inflated.
pub const MAX_HEADER_BLOCK: usize = 16 << 10;
/// Names and values in one header block.
pub const MAX_HEADERS: usize = 64;
/// A DATA frame's longest payload: its length has 24 bits (section 2.2.2).
pub const MAX_DATA: usize = (1 << 24) - 1;

/// Why bytes are no SPDY connection of Kubernetes. None is recoverable: after any of them the two
/// ends disagree about where a frame begins or about the state of the compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    #[error("a frame has SPDY version {0}; Kubernetes speaks 3")]
    Version(u16),
    #[error("a control frame has the unknown type {0}")]
    Type(u16),
    #[error("a frame of type {kind} has the unknown flags {flags:#04x}")]
    Flags { kind: u16, flags: u8 },
    #[error("a frame of type {kind} has {length} bytes, which it cannot have")]
    Length { kind: u16, length: usize },
    #[error("a frame names stream {0:#x}, which is no stream's number")]
    StreamId(u32),
    #[error("a stream is reset for no reason: its status is 0")]
    Status,
    #[error("a ping has no number")]
    Ping,
    #[error("a header block is not compressed as SPDY/3 asks for")]
    Compression,
    #[error("a header block inflates to more than {MAX_HEADER_BLOCK} bytes")]
    Inflated,
    #[error("a header block ends before its headers do")]
    HeadersShort,
    #[error("a header block goes on after its last header")]
    HeadersTrailing,
    #[error("a header block has {0} headers; at most {MAX_HEADERS} are read")]
    HeaderCount(u32),
    #[error("a header's name is empty or not in lower case")]
    HeaderName,
    #[error("a header block has the same name twice")]
    HeaderTwice,
}

/// The number of a stream: 31 bits, never 0; odd if the client opened it (section 2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    pub fn new(number: u32) -> Result<Self, SpdyError> {
        match number {
            1..CONTROL => Ok(Self(number)),
            _ => Err(SpdyError::StreamId(number)),
        }
    }

    pub fn get(self) -> u32 {
        self.0
    }

    pub fn is_clients(self) -> bool {
        self.0 % 2 == 1
    }
}

/// RST_STREAM, section 2.6.3.
pub mod status {
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INVALID_STREAM: u32 = 2;
    pub const REFUSED_STREAM: u32 = 3;
    pub const CANCEL: u32 = 5;
    pub const INTERNAL_ERROR: u32 = 6;
}

/// GOAWAY, section 2.6.6.
pub mod goaway {
    pub const OK: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
}

/// One frame; of DATA, a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream(SynStream),
    SynReply {
        id: StreamId,
        fin: bool,
        headers: Headers,
    },
    RstStream {
        id: StreamId,
        /// See [`status`]; never 0.
        status: u32,
    },
    Settings {
        /// What was persisted before is to be forgotten.
        clear: bool,
        entries: Vec<Setting>,
    },
    /// Odd if the client asks. Who gets one of the other's numbers sends it back.
    Ping(u32),
    GoAway {
        /// The last stream that the sender took; 0 if none.
        last: u32,
        /// See [`goaway`].
        status: u32,
    },
    Headers {
        id: StreamId,
        fin: bool,
        headers: Headers,
    },
    WindowUpdate {
        /// 0 stands for the whole connection (SPDY/3.1).
        id: u32,
        delta: u32,
    },
    /// What of a DATA frame is there. `fin` comes with the last piece of the frame.
    Data {
        id: StreamId,
        fin: bool,
        bytes: Bytes,
    },
}

/// Section 2.6.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynStream {
    pub id: StreamId,
    /// The sender will send nothing on it.
    pub fin: bool,
    /// The other end may send nothing on it.
    pub unidirectional: bool,
    /// The stream that this one belongs to; 0 if none.
    pub associated: u32,
    /// 0 is the highest, 7 the lowest.
    pub priority: u8,
    pub headers: Headers,
}

/// Section 2.6.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub flags: u8,
    /// 24 bits.
    pub id: u32,
    pub value: u32,
}

/// Types of control frames.
mod kind {
    pub const DATA: u16 = 0;
    pub const SYN_STREAM: u16 = 1;
    pub const SYN_REPLY: u16 = 2;
    pub const RST_STREAM: u16 = 3;
    pub const SETTINGS: u16 = 4;
    pub const PING: u16 = 6;
    pub const GOAWAY: u16 = 7;
    pub const HEADERS: u16 = 8;
    pub const WINDOW_UPDATE: u16 = 9;
}

/// Flags of SYN_STREAM, SYN_REPLY, HEADERS and DATA.
const FIN: u8 = 1;
/// Of SYN_STREAM.
const UNIDIRECTIONAL: u8 = 2;
/// Of SETTINGS.
const CLEAR: u8 = 1;

#[cfg(test)]
mod tests;
