//! The console's listener: accepted here, since only the keeper may bind; read by the worker.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use crate::handover::ToWorker;

/// For a worker to be there; a stranger may come again.
const WORKER_WITHIN: Duration = Duration::from_secs(1);

/// Binds the listener. Must be called within a tokio runtime.
pub fn bind(listen: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Hands every connection to the worker, for as long as the keeper lives.
pub async fn serve(parts: Arc<Parts>, listener: tokio::net::TcpListener) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the console cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let Some(channel) = parts.worker.ready(WORKER_WITHIN).await else {
            continue;
        };
        let sending = channel.send(&ToWorker::Console, Some(stream.as_fd()));
        let sent = tokio::time::timeout(WORKER_WITHIN, sending).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::debug!("a connection to the console could not be handed over");
        }
    }
}
