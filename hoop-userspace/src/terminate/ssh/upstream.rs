//! The server's side of a connection, once `forward` has logged in.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use russh::client::{self, ChannelOpenHandle, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelId, Disconnect, Sig};
use tokio::sync::{Notify, watch};

use super::backlog::{Backlog, Hold};
use super::pipe::{Inlet, Outlet, pipe};
use super::session::{Lost, ToServer, signal_name};
use crate::wire::ssh::channel::Message;

/// What a server has to take its leave.
const GOODBYE: Duration = Duration::from_secs(1);

/// Says whether a server is the one that is meant.
pub trait Recognise: Send + Sync + 'static {
    fn recognise(&self, key: &PublicKeyOrCertificate) -> bool;
}

/// A server that hoop has logged in to. Ends when it is dropped.
pub struct Upstream {
    handle: Handle<Back>,
    arrivals: Arc<Arrivals>,
    gone: watch::Receiver<()>,
    _hold: Hold,
}

/// What the callbacks of one server connection are made with.
pub struct Back {
    recognise: Arc<dyn Recognise>,
    channels: HashMap<ChannelId, Inlet>,
    arrivals: Arc<Arrivals>,
    backlog: Arc<Backlog>,
    /// Goes with the connection.
    _here: watch::Sender<()>,
}

/// Channels that the server has confirmed and whose session has not come for them yet.
#[derive(Default)]
struct Arrivals {
    waiting: Mutex<HashMap<ChannelId, Outlet>>,
    came: Notify,
}

impl Back {
    /// The callbacks, and what becomes an [`Upstream`] with the handle of the login.
    pub fn new(
        recognise: Arc<dyn Recognise>,
        backlog: Arc<Backlog>,
    ) -> (Self, impl FnOnce(Handle<Self>) -> Upstream) {
        let arrivals = Arc::<Arrivals>::default();
        let (here, gone) = watch::channel(());
        let hold = Hold(backlog.clone());
        let back = Self {
            recognise,
            channels: HashMap::new(),
            arrivals: arrivals.clone(),
            backlog,
            _here: here,
        };
        let upstream = move |handle| Upstream {
            handle,
            arrivals,
            gone,
            _hold: hold,
        };
        (back, upstream)
    }

    fn put(&self, channel: ChannelId, message: Message) {
        if let Some(inlet) = self.channels.get(&channel) {
            inlet.put(message);
        }
    }
}

impl Upstream {
    pub(super) async fn open_session(&self) -> Result<(ToServer, Outlet), russh::Error> {
        self.arrived(self.handle.channel_open_session().await?)
            .await
    }

    pub(super) async fn connect(
        &self,
        host: String,
        port: u32,
    ) -> Result<(ToServer, Outlet), russh::Error> {
        // Where the agent's client is, is nobody's business.
        let opened = self
            .handle
            .channel_open_direct_tcpip(host, port, "127.0.0.1", 0);
        self.arrived(opened.await?).await
    }

    async fn arrived(
        &self,
        channel: Channel<client::Msg>,
    ) -> Result<(ToServer, Outlet), russh::Error> {
        let (_, write) = channel.split();
        loop {
            let came = self.arrivals.came.notified();
            let mut came = std::pin::pin!(came);
            came.as_mut().enable();
            if let Some(heard) = self.arrivals.take(write.id()) {
                return Ok((ToServer { write }, heard));
            }
            came.await;
        }
    }

    /// Waits until the connection is gone.
    pub(super) async fn gone(&self) {
        // Nothing is ever sent: an error says that the callbacks are gone.
        while self.gone.clone().changed().await.is_ok() {}
    }

    /// Says goodbye; the connection ends when this is dropped.
    pub async fn leave(&self) {
        let left = self
            .handle
            .disconnect(Disconnect::ByApplication, "the session is over", "en");
        // Whoever is gone needs no goodbye.
        if left.await.is_ok() {
            let _ = tokio::time::timeout(GOODBYE, self.gone()).await;
        }
    }
}

impl Arrivals {
    fn take(&self, id: ChannelId) -> Option<Outlet> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&id)
    }
}

fn refuse(reply: ChannelOpenHandle) -> impl Future<Output = Result<(), russh::Error>> + Send {
    // A handle that is dropped rejects: no server opens a channel to an agent.
    drop(reply);
    std::future::ready(Ok(()))
}

impl client::Handler for Back {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(self.recognise.recognise(key))
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let (inlet, outlet) = pipe(&self.backlog);
        self.channels.insert(id, inlet);
        let mut waiting = self
            .arrivals
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.insert(id, outlet);
        drop(waiting);
        self.arrivals.came.notify_waiters();
        Ok(())
    }

    async fn channel_failure(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Message::Failed);
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        if let Some(inlet) = self.channels.remove(&channel) {
            inlet.put(Message::Closed);
        }
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Message::OutputEnd);
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Message::Output(Bytes::copy_from_slice(data)));
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _code: u32,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Message::ErrorOutput(Bytes::copy_from_slice(data)));
        Ok(())
    }

    async fn exit_status(
        &mut self,
        channel: ChannelId,
        status: u32,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Message::Exit(status));
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        core_dumped: bool,
        message: &str,
        _language: &str,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let message = Message::ExitSignal {
            signal: signal_name(&signal),
            core_dumped,
            message: Bytes::copy_from_slice(message.as_bytes()),
        };
        self.put(channel, message);
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<client::Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<client::Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<client::Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<client::Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<client::Msg>,
        _host: &str,
        _port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<client::Msg>,
        _path: &str,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<client::Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }
}

impl From<russh::Error> for Lost {
    fn from(_: russh::Error) -> Self {
        Self
    }
}
