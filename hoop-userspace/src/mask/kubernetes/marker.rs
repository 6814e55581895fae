//! What stands in place of a masked value: a text that is recognised when it comes back.
//!
//! Whoever reads an object often writes it again, with something else in it changed. The mask would
//! then replace the value that it hides. So every mask holds a marker, which is looked for in everything
//! that is written ([`crate::wire::kubernetes::marker`]).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::config::How;
use crate::hex;
use crate::mask::rules::HashKey;
use crate::mask::value::partial;
use crate::wire::kubernetes::marker::{BEGINS, DIGITS};

/// The annotation that an object gets which holds a masked value that is no text.
pub(super) const ANNOTATION: &str = "hoop-masked";

/// Characters of a value that a partial mask shows nothing of.
const SHORT: usize = 8;

/// The markers of one resource.
#[derive(Debug)]
pub(super) struct Marker {
    key: HashKey,
    plain: String,
}

impl Marker {
    pub(super) fn new(key: &HashKey) -> Self {
        let tag = hex::encode(key.hash(b"kubernetes: what a mask put here"));
        let tag: String = tag.chars().take(DIGITS).collect();
        Self {
            key: key.clone(),
            plain: format!("{BEGINS}{tag}"),
        }
    }

    /// Tells nothing of the value. It fits wherever a name, a label or a text does.
    pub(super) fn plain(&self) -> &str {
        &self.plain
    }

    /// In place of one text. Nothing becomes null: null, written back, deletes.
    pub(super) fn of(&self, how: &How, value: &[u8]) -> String {
        match how {
            How::Hash => format!("{BEGINS}{}", hex::encode(self.key.hash(value))),
            How::Fixed(text) => format!("{}-{text}", self.plain),
            How::Partial if value.len() > SHORT => {
                let shown = String::from_utf8(partial(value)).unwrap_or_default();
                let shown = shown.trim_start_matches('*');
                match shown.is_empty() || shown.len() > 16 {
                    true => self.plain.clone(),
                    false => format!("{}-{shown}", self.plain),
                }
            }
            How::Partial | How::Redact | How::Null | How::Inside(_) => self.plain.clone(),
        }
    }

    /// The same for a value that stands there in base64.
    pub(super) fn encoded(&self, how: &How, value: &[u8]) -> String {
        BASE64_STANDARD.encode(self.of(how, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kubernetes::marker::position;

    fn marker() -> Marker {
        Marker::new(&HashKey::new(&[4; 32]))
    }

    #[test]
    fn each_way_is_recognised_and_tells_no_more_than_it_should() {
        for how in [
            How::Redact,
            How::Null,
            How::Hash,
            How::Partial,
            How::Fixed("x".into()),
        ] {
            let shown = marker().of(&how, b"correct horse battery");
            assert_eq!(position(shown.as_bytes()), Some(0), "{shown}");
            assert_eq!(how == How::Partial, shown.contains("tery"), "{shown}");
        }
        assert_eq!(marker().of(&How::Partial, b"12345678"), marker().plain());
        assert_eq!(marker().plain().len(), 20);
        assert_eq!(position(b"hoop-masked-values are markers"), None);
    }
}
