//! An upstream connection that is logged in and idle: what `forward` hands to this stage.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::wire::postgres::login::SSL_REQUEST;

/// A server connection after its first ReadyForQuery.
pub struct Upstream {
    pub stream: UpstreamStream,
    /// ParameterStatus, in the server's order; a repeated name keeps its last value.
    pub parameters: Vec<(String, String)>,
    pub cancel: CancelTarget,
    /// What the client is still to hear: the server's notices during the login, and what it had
    /// already sent after ReadyForQuery.
    pub leftover: BytesMut,
}

pub enum UpstreamStream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Connects from the network that a session's server was dialled from.
pub type Dial = Arc<dyn Fn(SocketAddr) -> Dialling + Send + Sync>;
type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Where and how to ask the server to cancel what this session runs.
#[derive(Clone)]
pub struct CancelTarget {
    pub address: SocketAddr,
    pub dial: Dial,
    /// How the session's own connection was secured; the request goes the same way.
    pub tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    pub pid: u32,
    pub key: u32,
}

const CANCEL_CODE: u32 = 80_877_102;

impl CancelTarget {
    /// Sends CancelRequest on a connection of its own and waits until the server closes it, which
    /// it does once the signal is sent. That says nothing about whether the work was cancelled.
    pub async fn send(&self, within: Duration) -> io::Result<()> {
        tokio::time::timeout(within, self.ask())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn ask(&self) -> io::Result<()> {
        let mut stream = (self.dial)(self.address).await?;
        let Some((config, name)) = &self.tls else {
            return self.write(stream).await;
        };
        stream.write_all(&SSL_REQUEST).await?;
        if stream.read_u8().await? != b'S' {
            return Err(io::Error::other(
                "the server declined TLS for a CancelRequest",
            ));
        }
        let connector = TlsConnector::from(config.clone());
        self.write(connector.connect(name.clone(), stream).await?)
            .await
    }

    async fn write(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut request = [0; 16];
        let fields = [16, CANCEL_CODE, self.pid, self.key];
        for (slot, field) in request.chunks_exact_mut(4).zip(fields) {
            slot.copy_from_slice(&field.to_be_bytes());
        }
        stream.write_all(&request).await?;
        stream.flush().await?;
        // The server answers nothing; a close without TLS goodbye is how it ends, and is no error.
        let _ = stream.read(&mut [0; 1]).await;
        Ok(())
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
