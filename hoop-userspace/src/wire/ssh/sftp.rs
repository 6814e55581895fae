//! SFTP version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions (its PROTOCOL file).
//!
//! Packets are forwarded as they came; what is decoded here is what a decision needs: which file,
//! and what is done to it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Fields, Malformed, put_string};

/// As OpenSSH's server has it: a larger packet is refused.
pub const MAX_PACKET: usize = 256 << 10;
/// The length in front of a packet.
pub const LENGTH: usize = 4;
/// Handles are at most this long (draft, section 6.2).
pub const MAX_HANDLE: usize = 256;

/// SSH_FILEXFER_ATTR_SIZE.
const ATTR_SIZE: u32 = 1;
/// SSH_FX_OK.
pub const OK: u32 = 0;
/// SSH_FX_PERMISSION_DENIED.
pub const PERMISSION_DENIED: u32 = 3;
/// SSH_FX_OP_UNSUPPORTED.
pub const UNSUPPORTED: u32 = 8;

/// A client's packet: its number and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub id: u32,
    pub request: Request,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Init {
        version: u32,
    },
    Open {
        path: Bytes,
        mode: OpenMode,
    },
    Close {
        handle: Bytes,
    },
    Read {
        handle: Bytes,
        offset: u64,
        length: u32,
    },
    Write {
        handle: Bytes,
        offset: u64,
        data: Bytes,
    },
    /// STAT, LSTAT, READLINK, statvfs: something about a path is told.
    Stat {
        path: Bytes,
    },
    /// REALPATH, expand-path: where a path leads is told.
    RealPath {
        path: Bytes,
    },
    /// Something about an open file is told, or it is flushed.
    Handle {
        handle: Bytes,
    },
    /// Of an open file or folder.
    SetHandle {
        handle: Bytes,
        /// That it is to have; `None`: it keeps its own.
        size: Option<u64>,
    },
    SetStat {
        path: Bytes,
    },
    OpenDir {
        path: Bytes,
    },
    ReadDir {
        handle: Bytes,
    },
    Remove {
        path: Bytes,
    },
    MakeDir {
        path: Bytes,
    },
    RemoveDir {
        path: Bytes,
    },
    Rename {
        from: Bytes,
        to: Bytes,
    },
    /// A symbolic or hard link. Implementations differ in which comes first.
    Link {
        one: Bytes,
        other: Bytes,
    },
    CopyData {
        from: Bytes,
        to: Bytes,
    },
    /// Which limits there are, or what accounts are called: nothing of a file is told.
    Question,
    /// An extension that is not known here.
    Unknown {
        name: Bytes,
    },
}

/// What a file is opened for (draft, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMode(pub u32);

impl OpenMode {
    const READ: u32 = 1;
    const WRITE: u32 = 2;
    const APPEND: u32 = 4;
    const CREATE: u32 = 8;
    const TRUNCATE: u32 = 16;

    pub fn reads(self) -> bool {
        self.0 & Self::READ != 0
    }

    /// Anything that may change the file, its being made included.
    pub fn writes(self) -> bool {
        let changing = Self::WRITE | Self::APPEND | Self::CREATE | Self::TRUNCATE;
        self.0 & changing != 0 || !self.reads()
    }
}

/// A server's packet, as far as it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Version,
    Status {
        id: u32,
        code: u32,
    },
    Handle {
        id: u32,
        handle: Bytes,
    },
    Data {
        id: u32,
        data: Bytes,
    },
    /// The first name of the list; a real path's answer has no other.
    Name {
        id: u32,
        first: Option<Bytes>,
    },
    Attributes {
        id: u32,
    },
    Extended {
        id: u32,
    },
}

/// Takes one whole packet off the front, its length included; `None` if it is not complete yet.
pub fn split(input: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
    let Some(length) = input.first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > MAX_PACKET {
        return Err(Malformed::TooLarge(length));
    }
    if length == 0 {
        return Err(Malformed::Short);
    }
    if input.len() < LENGTH + length {
        return Ok(None);
    }
    Ok(Some(input.split_to(LENGTH + length).freeze()))
}

fn body(packet: &Bytes) -> Result<(u8, Fields), Malformed> {
    let mut body = packet.clone();
    if body.len() < LENGTH {
        return Err(Malformed::Short);
    }
    body.advance(LENGTH);
    let mut fields = Fields(body);
    Ok((fields.u8()?, fields))
}

/// Reads a client's packet.
pub fn request(packet: &Bytes) -> Result<Packet, Malformed> {
    let (kind, mut fields) = body(packet)?;
    if kind == 1 {
        let version = fields.u32()?;
        let request = Request::Init { version };
        return Ok(Packet { id: 0, request });
    }
    let id = fields.u32()?;
    let request = match kind {
        3 => Request::Open {
            path: fields.string()?,
            mode: OpenMode(fields.u32()?),
        },
        4 => Request::Close {
            handle: handle(&mut fields)?,
        },
        5 => Request::Read {
            handle: handle(&mut fields)?,
            offset: fields.u64()?,
            length: fields.u32()?,
        },
        6 => Request::Write {
            handle: handle(&mut fields)?,
            offset: fields.u64()?,
            data: fields.string()?,
        },
        7 | 17 | 19 => Request::Stat {
            path: fields.string()?,
        },
        16 => Request::RealPath {
            path: fields.string()?,
        },
        8 => Request::Handle {
            handle: handle(&mut fields)?,
        },
        9 => Request::SetStat {
            path: fields.string()?,
        },
        10 => Request::SetHandle {
            handle: handle(&mut fields)?,
            size: match fields.u32()? & ATTR_SIZE {
                0 => None,
                _ => Some(fields.u64()?),
            },
        },
        11 => Request::OpenDir {
            path: fields.string()?,
        },
        12 => Request::ReadDir {
            handle: handle(&mut fields)?,
        },
        13 => Request::Remove {
            path: fields.string()?,
        },
        14 => Request::MakeDir {
            path: fields.string()?,
        },
        15 => Request::RemoveDir {
            path: fields.string()?,
        },
        18 => Request::Rename {
            from: fields.string()?,
            to: fields.string()?,
        },
        20 => Request::Link {
            one: fields.string()?,
            other: fields.string()?,
        },
        200 => extended(&mut fields)?,
        other => return Err(Malformed::Unknown(other)),
    };
    Ok(Packet { id, request })
}

fn extended(fields: &mut Fields) -> Result<Request, Malformed> {
    let name = fields.string()?;
    Ok(match &*name {
        b"posix-rename@openssh.com" => Request::Rename {
            from: fields.string()?,
            to: fields.string()?,
        },
        b"hardlink@openssh.com" => Request::Link {
            one: fields.string()?,
            other: fields.string()?,
        },
        b"expand-path@openssh.com" => match below_home(&fields.string()?) {
            Some(path) => Request::RealPath { path },
            None => Request::Unknown { name },
        },
        b"statvfs@openssh.com" => Request::Stat {
            path: fields.string()?,
        },
        b"fstatvfs@openssh.com" | b"fsync@openssh.com" => Request::Handle {
            handle: handle(fields)?,
        },
        b"lsetstat@openssh.com" => Request::SetStat {
            path: fields.string()?,
        },
        b"copy-data" => {
            let from = handle(fields)?;
            let (_, _) = (fields.u64()?, fields.u64()?);
            let to = handle(fields)?;
            Request::CopyData { from, to }
        }
        b"limits@openssh.com" | b"home-directory" | b"users-groups-by-id@openssh.com" => {
            Request::Question
        }
        _ => Request::Unknown { name },
    })
}

/// A path whose `~` stands for the home, from there; `None` for the home of somebody else.
fn below_home(path: &Bytes) -> Option<Bytes> {
    match path.as_ref() {
        [b'~'] => Some(Bytes::from_static(b".")),
        [b'~', b'/', ..] => Some([b"./", path.get(2..)?].concat().into()),
        [b'~', ..] => None,
        _ => Some(path.clone()),
    }
}

fn handle(fields: &mut Fields) -> Result<Bytes, Malformed> {
    let handle = fields.string()?;
    match handle.len() > MAX_HANDLE {
        true => Err(Malformed::TooLarge(handle.len())),
        false => Ok(handle),
    }
}

/// Reads a server's packet.
pub fn reply(packet: &Bytes) -> Result<Reply, Malformed> {
    let (kind, mut fields) = body(packet)?;
    if kind == 2 {
        return Ok(Reply::Version);
    }
    let id = fields.u32()?;
    Ok(match kind {
        101 => Reply::Status {
            id,
            code: fields.u32()?,
        },
        102 => Reply::Handle {
            id,
            handle: handle(&mut fields)?,
        },
        103 => Reply::Data {
            id,
            data: fields.string()?,
        },
        104 => {
            let first = match fields.u32()? {
                0 => None,
                _ => Some(fields.string()?),
            };
            Reply::Name { id, first }
        }
        105 => Reply::Attributes { id },
        201 => Reply::Extended { id },
        other => return Err(Malformed::Unknown(other)),
    })
}

/// SSH_FXP_DATA, whole.
#[cfg(test)]
pub fn data_for_test(id: u32, data: &[u8]) -> Bytes {
    packet(103, |out| {
        out.put_u32(id);
        put_string(out, data);
    })
}

/// SSH_FXP_STATUS, whole.
pub fn status(id: u32, code: u32, message: &str) -> Bytes {
    packet(101, |out| {
        out.put_u32(id);
        out.put_u32(code);
        put_string(out, message.as_bytes());
        put_string(out, b"en");
    })
}

/// SSH_FXP_REALPATH, whole.
pub fn real_path(id: u32, path: &str) -> Bytes {
    packet(16, |out| {
        out.put_u32(id);
        put_string(out, path.as_bytes());
    })
}

fn packet(kind: u8, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32(0);
    out.put_u8(kind);
    body(&mut out);
    let length = u32::try_from(out.len() - LENGTH).unwrap_or(u32::MAX);
    if let Some(at) = out.get_mut(..LENGTH) {
        at.copy_from_slice(&length.to_be_bytes());
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(path: &[u8], flags: u32) -> Bytes {
        packet(3, |out| {
            out.put_u32(7);
            put_string(out, path);
            out.put_u32(flags);
            out.put_u32(0);
        })
    }

    #[test]
    fn an_open_says_which_file_and_what_for() {
        let read = request(&open(b"/etc/motd", 1)).unwrap();
        assert_eq!(read.id, 7);
        let Request::Open { path, mode } = read.request else {
            panic!("{read:?}");
        };
        assert_eq!(&*path, b"/etc/motd");
        assert!(mode.reads() && !mode.writes());
        for flags in [2, 4, 8, 16, 3, 26, 0] {
            let Request::Open { mode, .. } = request(&open(b"x", flags)).unwrap().request else {
                panic!();
            };
            assert!(mode.writes(), "{flags}");
        }
    }

    #[test]
    fn a_status_of_ours_is_read_as_one() {
        let made = status(9, PERMISSION_DENIED, "no");
        let code = PERMISSION_DENIED;
        assert_eq!(reply(&made), Ok(Reply::Status { id: 9, code }));
    }

    #[test]
    fn packets_come_whole_whatever_the_pieces() {
        let mut stream = BytesMut::new();
        let all = [open(b"/a", 1), real_path(1, "."), open(b"/b", 2)];
        let mut found = Vec::new();
        for byte in all.iter().flat_map(|p| p.to_vec()) {
            stream.put_u8(byte);
            found.extend(split(&mut stream).unwrap());
        }
        assert_eq!(found, all);
        let mut large = BytesMut::from(&b"\x00\x10\x00\x01"[..]);
        assert!(matches!(split(&mut large), Err(Malformed::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let whole = Bytes::from(bytes.clone());
            let _ = request(&whole);
            let _ = reply(&whole);
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = split(&mut input) {}
        }
    }
}
