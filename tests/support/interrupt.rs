//! Ctrl-C ends the world in order instead of at once.

use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use crate::place::Janitor;

/// Signals that would end the process, held back from the moment this is made.
pub struct Interrupt {
    signals: SigSet,
}

impl Interrupt {
    /// To be called before any thread starts: threads inherit what is held back.
    /// Programs would too; `enter` lets everything through again.
    pub fn hold() -> Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block().context("cannot hold back Ctrl-C")?;
        Ok(Self { signals })
    }

    /// Waits for one.
    pub fn wait(&self) -> Result<Signal> {
        self.signals.wait().context("cannot wait for Ctrl-C")
    }

    /// Ends the process when one arrives; the janitor then removes the world.
    pub fn end_process(self, janitor: Arc<Janitor>) {
        std::thread::spawn(move || {
            if let Ok(signal) = self.wait() {
                eprintln!("\nended by {signal}: removing the world");
                janitor.dismiss();
                std::process::exit(128 + signal as i32);
            }
        });
    }
}
