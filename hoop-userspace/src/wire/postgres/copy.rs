//! COPY: the responses that begin it, and data in frames of hoop's own.

use bytes::{Buf, Bytes};

use super::WireError;
use super::frame;
use super::frontend::tag::COPY_DATA;

/// CopyInResponse, CopyOutResponse and CopyBothResponse alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyResponse {
    /// Whether the whole copy is in the binary format.
    pub binary: bool,
    pub columns: u16,
}

/// Decodes the body of the response that begins a COPY.
pub fn response(mut body: Bytes) -> Result<CopyResponse, WireError> {
    const NAME: &str = "CopyResponse";
    let short = |_| WireError::Truncated(NAME);
    let binary = body.try_get_u8().map_err(short)? != 0;
    let columns = body.try_get_u16().map_err(short)?;
    match body.len() == usize::from(columns) * 2 {
        true => Ok(CopyResponse { binary, columns }),
        false => Err(WireError::Malformed(NAME)),
    }
}

/// One CopyData. The server reads a copy's data as one stream, however it is cut into messages.
pub fn data(piece: &[u8]) -> Bytes {
    frame::message(COPY_DATA, &[piece])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_response_is_read() {
        let body = Bytes::from_static(b"\x01\0\x02\0\x01\0\x01");
        assert_eq!(
            response(body),
            Ok(CopyResponse {
                binary: true,
                columns: 2
            })
        );
        assert!(response(Bytes::from_static(b"\0\xff\xff")).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = response(bytes.into());
        }
    }
}
