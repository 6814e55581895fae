//! hoop's other processes: the keeper starts itself again under another name, with a socket for
//! standard input.

use std::io;
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};

use crate::handover::{self, Channel, Side};

/// Starts the subcommand `role` as one that becomes the account `user`; says where it is spoken to.
pub fn spawn(role: &str, user: &str, arguments: &[String]) -> io::Result<(Child, Channel)> {
    let (ours, theirs) = handover::pair()?;
    // Itself, even where the file was replaced by an upgrade: all parts must be one build.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("hoop")
        .arg(role)
        .arg(format!("--user={user}"))
        .args(arguments)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| passed_on(name)))
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        // A terminal's interrupt is for the keeper, which then drains.
        .process_group(0)
        .kill_on_drop(true);
    Ok((command.spawn()?, Channel::new(ours, Side::Keeper)?))
}

/// How one ended.
pub fn how(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("its end could not be observed: {error}"),
    }
}

/// A child's environment: what changes how its log and its trust roots are found.
fn passed_on(name: &std::ffi::OsStr) -> bool {
    const PASSED: [&str; 5] = [
        "JOURNAL_STREAM",
        "RUST_BACKTRACE",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "TZ",
    ];
    PASSED.iter().any(|passed| name == *passed)
}
