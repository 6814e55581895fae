//! Trying things out, without touching any server: what `hoop policy test` and `hoop mask test` print,
//! and what the console shows; and what was recorded, gone through again: `hoop report`,
//! `hoop policy replay`.

pub mod changes;
mod decided;
pub mod expect;
pub mod mask;
mod narrow;
#[doc(hidden)]
pub mod past;
pub mod policy;
pub mod recorded;
pub mod report;
mod shape;
#[cfg(test)]
mod tests;

/// Why a trial makes no sense, in words for whoever supposed it.
///
/// Deliberately no error: whatever is one becomes this by `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable(pub String);

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Unusable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Says why.
fn unusable<T>(why: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable(why.into()))
}
