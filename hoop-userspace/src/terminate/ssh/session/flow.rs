//! What goes through one file in one direction: how much, and its digest.

use ring::digest::{Context, SHA256};

use crate::terminate::Transferred;

/// Content in one direction.
pub(super) struct Flow {
    pub bytes: u64,
    /// Gone once something was left out or came twice.
    digest: Option<Context>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            bytes: 0,
            digest: Some(Context::new(&SHA256)),
        }
    }
}

impl Flow {
    pub fn take(&mut self, offset: u64, data: &[u8]) {
        if offset != self.bytes {
            self.digest = None;
        }
        if let Some(digest) = &mut self.digest {
            digest.update(data);
        }
        self.bytes = self.bytes.saturating_add(data.len() as u64);
    }

    /// More of what comes in order.
    pub fn more(&mut self, data: &[u8]) {
        self.take(self.bytes, data);
    }

    /// It did not come whole.
    pub fn broken(&mut self) {
        self.digest = None;
    }

    pub fn end(self) -> Transferred {
        let digest = self.digest.map(Context::finish);
        Transferred {
            bytes: self.bytes,
            digest: digest.and_then(|d| d.as_ref().try_into().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_what_went_through_in_order() {
        let mut flow = Flow::default();
        flow.take(0, b"ab");
        flow.take(2, b"c");
        let whole = flow.end();
        let digest = ring::digest::digest(&SHA256, b"abc");
        assert_eq!(
            (whole.bytes, whole.digest.map(|d| d.to_vec())),
            (3, Some(digest.as_ref().to_vec()))
        );
        let mut gap = Flow::default();
        gap.take(0, b"ab");
        gap.take(9, b"c");
        assert_eq!(gap.end().digest, None);
    }
}
