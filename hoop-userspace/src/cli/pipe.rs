//! What happens when nobody reads the output any more.

use nix::sys::signal::{SigHandler, Signal, signal};

/// Lets `hoop replay … | head` end quietly when `head` does. The standard library has writes to a
/// closed pipe fail instead, which a daemon wants and a command line does not.
pub fn end_with_the_reader() {
    // SAFETY: the default action runs no code of ours, and no thread has been started yet.
    let set = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    // Where it fails, a closed pipe is reported as an error.
    let _ = set;
}
