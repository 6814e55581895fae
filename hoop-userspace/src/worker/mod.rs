//! The unprivileged process: everything that an agent or a server sends is read here.

pub mod live;
pub mod privileges;
pub mod seccomp;

pub use privileges::PrivilegeError;

/// Why the worker cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
}

/// Runs until the keeper lets go of the socket that is this process's standard input.
pub fn run(user: &str) -> Result<(), WorkerError> {
    privileges::drop_all(user)?;
    Ok(())
}
