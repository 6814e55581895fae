//! What must come to rest before another build takes over: while the gate is shut nothing new is
//! begun, and what was begun is counted until it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    shut: watch::Sender<bool>,
    within: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Inner {
            shut: watch::Sender::new(false),
            within: AtomicUsize::new(0),
        }))
    }
}

/// Something that was begun; it is over when this is dropped.
pub struct Entered(Gate);

/// As long as it lives, the gate is shut.
pub struct Shut(Gate);

impl Gate {
    pub fn enter(&self) -> Entered {
        self.0.within.fetch_add(1, Ordering::AcqRel);
        Entered(self.clone())
    }

    /// Resolves while the gate is open. Whoever goes on to [`Gate::enter`] without waiting is in.
    pub async fn open(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.0.shut.subscribe().wait_for(|shut| !*shut).await;
    }

    /// Resolves while the gate is shut.
    pub async fn shut(&self) {
        let _ = self.0.shut.subscribe().wait_for(|shut| *shut).await;
    }

    pub fn close(&self) -> Shut {
        self.0.shut.send_replace(true);
        Shut(self.clone())
    }

    /// What was begun and is not over.
    pub fn within(&self) -> usize {
        self.0.within.load(Ordering::Acquire)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.within.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        self.0.0.shut.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn nobody_enters_while_it_is_shut_and_those_within_are_counted() {
        let gate = Gate::default();
        gate.open().await;
        let entered = gate.enter();
        let shut = gate.close();
        gate.shut().await;
        assert_eq!(gate.within(), 1);
        let waits = tokio::spawn({
            let gate = gate.clone();
            async move {
                gate.open().await;
                gate.enter()
            }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waits.is_finished());
        drop(entered);
        assert_eq!(gate.within(), 0);
        drop(shut);
        let _entered = waits.await.unwrap();
        assert_eq!(gate.within(), 1);
    }
}
