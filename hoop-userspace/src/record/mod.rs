//! Stage 10: what happened, before it takes effect.

/// Proof that `T` was recorded. Built by this stage alone.
#[derive(Debug)]
pub struct Recorded<T>(T);

impl<T> Recorded<T> {
    pub fn get(&self) -> &T {
        &self.0
    }

    pub fn into_inner(self) -> T {
        self.0
    }
}
