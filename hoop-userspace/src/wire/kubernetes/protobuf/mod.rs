//! The protobuf form of Kubernetes objects: `application/vnd.kubernetes.protobuf`.
//!
//! An object stands in an envelope (`runtime.Unknown` behind four bytes) that names its kind; what
//! is in it only those can read who know the kind's fields. They are known for the kinds of the
//! stable groups (`fields.txt`); everything else is unknown, and says so. Objects become the JSON
//! that the API server would write of them. They are read, never written: what an agent sends passes
//! as it came, and answers are asked for in JSON.

mod reader;
mod schema;
mod value;

pub use reader::Malformed;
pub use schema::Kinds;
pub use value::Decoded;

use reader::{Reader, put_bytes};
use value::{Reading, bytes_of, text};

/// What every object begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Messages within each other.
pub(crate) const MAX_DEPTH: usize = 64;

/// Values of one object, list or event.
pub(crate) const MAX_VALUES: usize = 1_000_000;

/// Whether bytes begin as an object does.
pub fn is_enveloped(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// `runtime.Unknown`: an object that is not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'m> {
    pub api_version: &'m str,
    pub kind: &'m str,
    pub raw: &'m [u8],
    pub content_encoding: &'m str,
    pub content_type: &'m str,
}

impl<'m> Envelope<'m> {
    /// Reads what stands around an object, and nothing of the object.
    pub fn read(bytes: &'m [u8]) -> Result<Self, Malformed> {
        let message = bytes.strip_prefix(&MAGIC).ok_or(Malformed::Envelope)?;
        let mut envelope = Self {
            api_version: "",
            kind: "",
            raw: &[],
            content_encoding: "",
            content_type: "",
        };
        let mut seen = 0_u8;
        let mut reader = Reader::new(message);
        while let Some(field) = reader.field()? {
            let bytes = bytes_of(&field)?;
            let bit = match field.number {
                1 => {
                    (envelope.api_version, envelope.kind) = type_meta(bytes)?;
                    1
                }
                2 => {
                    envelope.raw = bytes;
                    2
                }
                3 => {
                    envelope.content_encoding = text(bytes)?;
                    4
                }
                4 => {
                    envelope.content_type = text(bytes)?;
                    8
                }
                _ => return Err(Malformed::Type),
            };
            if seen & bit != 0 {
                return Err(Malformed::Twice);
            }
            seen |= bit;
        }
        Ok(envelope)
    }

    /// What is in it is protobuf as it stands: neither compressed nor in another form.
    pub fn is_plain(&self) -> bool {
        let types = ["", "application/vnd.kubernetes.protobuf"];
        self.content_encoding.is_empty() && types.contains(&self.content_type)
    }

    /// The same envelope around another object.
    pub fn with(&self, raw: &[u8]) -> Vec<u8> {
        let mut kind = Vec::new();
        put_bytes(&mut kind, 1, self.api_version.as_bytes());
        put_bytes(&mut kind, 2, self.kind.as_bytes());
        let mut out = MAGIC.to_vec();
        put_bytes(&mut out, 1, &kind);
        put_bytes(&mut out, 2, raw);
        // The API server writes both, empty as well.
        put_bytes(&mut out, 3, self.content_encoding.as_bytes());
        put_bytes(&mut out, 4, self.content_type.as_bytes());
        out
    }
}

fn type_meta(message: &[u8]) -> Result<(&str, &str), Malformed> {
    let (mut version, mut kind) = (None, None);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.field()? {
        let written = text(bytes_of(&field)?)?;
        let twice = match field.number {
            1 => version.replace(written),
            2 => kind.replace(written),
            _ => return Err(Malformed::Type),
        };
        if twice.is_some() {
            return Err(Malformed::Twice);
        }
    }
    Ok((version.unwrap_or_default(), kind.unwrap_or_default()))
}

impl Kinds {
    /// Reads an object. One of an unknown kind has its kind alone, and is incomplete.
    pub fn decode(&self, object: &[u8]) -> Result<Decoded, Malformed> {
        value::decode(self, &Envelope::read(object)?)
    }

    /// Reads a message whose kind is known otherwise: what [`Self::decode`] reads in an envelope.
    pub fn decode_bare(
        &self,
        api_version: &str,
        kind: &str,
        message: &[u8],
    ) -> Result<Decoded, Malformed> {
        let mut reading = Reading::new(self);
        let envelope = Envelope {
            api_version,
            kind,
            raw: message,
            content_encoding: "",
            content_type: "",
        };
        let value = reading.enveloped(&envelope, MAX_DEPTH)?;
        Ok(Decoded {
            value,
            incomplete: reading.incomplete,
        })
    }
}

#[cfg(test)]
mod tests;
