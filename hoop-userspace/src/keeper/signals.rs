//! The signals that the keeper is told by: they are never lost, an upgrade in between or not.
//!
//! While one build becomes another they are blocked, so that those that arrive stay with the process
//! until the next build has its handlers. That holds only if no other thread takes them, so every
//! other thread of the keeper blocks them for good ([`not_here`]).

use std::io;

use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub struct Signals {
    pub hangup: Signal,
    pub terminate: Signal,
    pub interrupt: Signal,
}

impl Signals {
    /// From here on they are heard; those that an earlier build left, too.
    pub fn new() -> io::Result<Self> {
        let signals = Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        ours().thread_unblock()?;
        Ok(signals)
    }

    /// Whether one came that was not looked at yet. One to reload is left to the next build.
    pub async fn was_told_to_stop(&mut self) -> bool {
        let stop = tokio::select! {
            biased;
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            () = std::future::ready(()) => false,
        };
        let reload = tokio::select! {
            biased;
            _ = self.hangup.recv() => true,
            () = std::future::ready(()) => false,
        };
        if reload && let Err(errno) = nix::sys::signal::kill(nix::unistd::getpid(), Number::SIGHUP)
        {
            tracing::warn!(%errno, "a signal to reload was lost");
        }
        stop
    }
}

fn ours() -> SigSet {
    [Number::SIGHUP, Number::SIGTERM, Number::SIGINT]
        .into_iter()
        .collect()
}

/// For threads other than the first: they are not to take these signals.
pub fn not_here() {
    // Where it fails, one may be lost in the moment of an upgrade, and is sent again.
    let _ = ours().thread_block();
}

/// As long as it lives, signals wait.
pub struct Blocked(());

impl Blocked {
    pub fn new() -> nix::Result<Self> {
        ours().thread_block()?;
        Ok(Self(()))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = ours().thread_unblock();
    }
}
