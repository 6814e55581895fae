//! Stage 12: what people see, and the HTTP API: a process of its own.
//!
//! It reads what strangers send over the network and what agents left in recordings, so it holds
//! as little as it can: no file of hoop's, no secret but its own two, no vote. Everything it shows
//! and does it asks the keeper for, in the name of whoever is signed in
//! (`docs/adr/the-console-is-a-process.md`). The order of what happens to a request is in
//! [`serve`]; which requests there are, in [`routes`].

mod act;
mod api;
mod cast;
mod data;
mod document;
mod fields;
mod guard;
mod http;
mod link;
mod live;
mod oidc;
mod pages;
mod plain;
mod recordings;
mod respond;
mod routes;
mod serve;
mod sign_in;
mod site;
#[cfg(test)]
mod tests;
mod text;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::{Bundle, Config};
use crate::handover::console::ToConsole;
use crate::handover::{Channel, ChannelError, Side};
use crate::worker::PrivilegeError;
use crate::worker::privileges;
use http::Listener;
use link::Link;
#[doc(hidden)]
pub use recordings::measure::searches;
use site::Site;
pub use site::tls;

/// Why the console's process cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error("the console cannot start: {0}")]
    Start(#[from] io::Error),
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

/// Runs until the keeper lets go of the socket that is this process's standard input.
pub fn run(user: &str) -> Result<(), ConsoleError> {
    let began = Instant::now();
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    privileges::drop_all(user)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(socket, began));
    runtime.shutdown_timeout(Duration::from_millis(500));
    served
}

async fn serve(socket: OwnedFd, began: Instant) -> Result<(), ConsoleError> {
    let channel = Arc::new(Channel::new(socket, Side::Worker)?);
    let link = Arc::new(Link::new(channel.clone()));
    let changes = watch::Sender::new(0_u64);
    let mut listener: Option<Listener> = None;
    while let Some((message, file)) = channel.receive::<ToConsole>().await? {
        match message {
            ToConsole::Configure { bundle } => match site(&bundle) {
                Ok(site) => match &listener {
                    Some(listener) => listener.set_site(site),
                    None => {
                        let made = Listener::new(site, link.clone(), changes.subscribe());
                        tokio::spawn(recordings::keep_fed(link.clone(), made.index()));
                        listener = Some(made);
                        let ms = began.elapsed().as_millis();
                        tracing::info!(ms, "the console is ready");
                    }
                },
                Err(why) => tracing::error!(why, "the console does not take its configuration"),
            },
            ToConsole::Connection => {
                if let (Some(listener), Some(socket)) = (&listener, file) {
                    listener.serve(std::net::TcpStream::from(socket));
                }
            }
            ToConsole::Answer { number, answer } => link.answered(number, answer, file),
            ToConsole::Changed => changes.send_modify(|count| *count += 1),
        }
    }
    Ok(())
}

fn site(bundle: &[u8]) -> Result<Site, String> {
    let bundle = Bundle::from_wire(bundle).map_err(|error| error.to_string())?;
    let config = Config::from_bundle(&bundle).map_err(|error| error.to_string())?;
    Site::new(config)
}
