//! Text that must not be printed, logged or recorded: tokens and credentials.
//!
//! It travels between keeper and worker by [`Secret::expose`] alone, so a search for that name
//! finds every place where a secret leaves its wrapper.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text. It implements neither `Display` nor `Serialize`; `Debug` prints a placeholder;
/// memory is overwritten when it is dropped.
///
/// ```compile_fail
/// println!("{}", hoop::secret::Secret::new("s3cr3t".into()));
/// ```
///
/// ```compile_fail
/// serde_json::to_string(&hoop::secret::Secret::new("s3cr3t".into()));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
