//! The framing of watches in protobuf: every event behind its length, four bytes, highest first.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of one event: what an object may have at most, and room to spare.
pub const MAX_FRAME: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of a watch has {0} bytes, which is more than {MAX_FRAME}")]
pub struct TooLong(pub usize);

/// Takes the next whole event off what has been received. `None` while it is not complete.
pub fn split(received: &mut BytesMut) -> Result<Option<Bytes>, TooLong> {
    let Some(length) = received.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(TooLong(length));
    }
    if received.len() - 4 < length {
        return Ok(None);
    }
    received.advance(4);
    Ok(Some(received.split_to(length).freeze()))
}

/// An event behind its length.
pub fn frame(event: &[u8]) -> Result<Vec<u8>, TooLong> {
    let length = u32::try_from(event.len())
        .ok()
        .filter(|_| event.len() <= MAX_FRAME);
    let length = length.ok_or(TooLong(event.len()))?;
    Ok([&length.to_be_bytes(), event].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_come_whole_in_any_pieces(events: Vec<Vec<u8>>, piece in 1_usize..9) {
            let wire: Vec<u8> = events.iter().flat_map(|e| frame(e).unwrap()).collect();
            let (mut received, mut found) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(piece) {
                received.extend_from_slice(piece);
                while let Some(event) = split(&mut received).unwrap() {
                    found.push(event.to_vec());
                }
            }
            prop_assert_eq!(found, events);
            prop_assert!(received.is_empty());
        }
    }

    #[test]
    fn what_is_too_long_is_told_before_it_is_waited_for() {
        let mut received = BytesMut::from(&[0xff, 0, 0, 0][..]);
        assert_eq!(split(&mut received), Err(TooLong(0xff00_0000)));
        assert!(frame(&vec![0; MAX_FRAME + 1]).is_err());
    }
}
