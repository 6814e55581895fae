//! How a client calls itself, seen in passing while russh reads the same: russh tells it only once the
//! client was let in, and [`front`](super::front) must know before.
//!
//! A client is let in without being asked for anything, since its credentials prove nothing here. One
//! library takes that for a failure: libgit2, and so the built-in git of cargo and of others, asks with
//! the method `none` which methods there are, finds that it is in, and then wants a credential of none
//! of no kinds (`list_auth_methods` and `request_creds` in its `ssh_libssh2.c`). It names itself like
//! whatever else speaks through libssh2, so all of these are refused `none`, as servers do, and offer
//! what they have; anything is accepted.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// With the end of the line (RFC 4253, section 4.2).
const LONGEST: usize = 255;
/// What libssh2 calls itself, before its version.
const LIBSSH2: &[u8] = b"SSH-2.0-libssh2_";

/// A client's first line, once it has come.
#[derive(Clone, Debug, Default)]
pub struct Greeting(Arc<OnceLock<Vec<u8>>>);

impl Greeting {
    /// Whether the client must be asked for a credential to be content.
    pub fn wants_to_be_asked(&self) -> bool {
        self.0.get().is_some_and(|line| line.starts_with(LIBSSH2))
    }
}

/// A client's socket, from which its greeting is taken note of.
#[derive(Debug)]
pub struct Greeted<S> {
    socket: S,
    /// What has come of the first line; `None` behind it.
    line: Option<Vec<u8>>,
    greeting: Greeting,
}

impl<S> Greeted<S> {
    pub fn new(socket: S, greeting: Greeting) -> Self {
        Self {
            socket,
            line: Some(Vec::new()),
            greeting,
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        let Some(line) = &mut self.line else {
            return;
        };
        let end = memchr::memchr(b'\n', bytes);
        let room = LONGEST.saturating_sub(line.len());
        let new = end.unwrap_or(bytes.len()).min(room);
        line.extend_from_slice(bytes.get(..new).unwrap_or_default());
        if end.is_some() || line.len() >= LONGEST {
            // Set once: there is one first line.
            let _ = self.greeting.0.set(self.line.take().unwrap_or_default());
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.note(buffer.filled().get(before..).unwrap_or_default());
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use russh::client::{self, AuthResult};
    use russh::keys::ssh_key::private::Ed25519Keypair;
    use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
    use russh::{MethodKind, SshId};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::terminate::ssh::{Faces, Met, Reached, Room};

    struct Anyone;

    impl client::Handler for Anyone {
        type Error = russh::Error;

        async fn check_server_key(
            &mut self,
            _: &PublicKeyOrCertificate,
        ) -> Result<bool, Self::Error> {
            Ok(true)
        }
    }

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    /// A client of this name, and hoop, which meets it.
    async fn client(name: &'static str) -> (client::Handle<Anyone>, tokio::task::JoinHandle<Met>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let faces = Faces {
            key: key(7),
            certificate: None,
        };
        let reach = Arc::new(|_: &str, _: u32| Reached::Nothing);
        let met = tokio::spawn(async move {
            let met = Met::accept(ours, faces, reach, Room::default()).await;
            met.expect("a client")
        });
        let config = Arc::new(client::Config {
            client_id: SshId::Standard(Cow::Borrowed(name)),
            ..client::Config::default()
        });
        let handle = client::connect_stream(config, theirs, Anyone).await;
        (handle.unwrap(), met)
    }

    #[tokio::test]
    async fn whoever_minds_being_let_in_unasked_is_asked_and_let_in_with_anything() {
        const NAME: &str = "SSH-2.0-libssh2_1.11.1";
        for _ in 0..2 {
            let (mut client, met) = client(NAME).await;
            for _ in 0..2 {
                let AuthResult::Failure {
                    remaining_methods,
                    partial_success,
                } = client.authenticate_none("deploy").await.unwrap()
                else {
                    panic!("let in unasked");
                };
                assert!(!partial_success && !remaining_methods.contains(&MethodKind::None));
                for method in [
                    MethodKind::PublicKey,
                    MethodKind::Password,
                    MethodKind::KeyboardInteractive,
                ] {
                    assert!(remaining_methods.contains(&method), "{method:?}");
                }
            }
            let let_in = client.authenticate_password("deploy", "").await;
            assert!(let_in.unwrap().success());
            let met = met.await.unwrap();
            assert_eq!((met.user.as_str(), met.client.as_str()), ("deploy", NAME));
        }
        let (mut by_key, met) = client(NAME).await;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key(1)), None);
        let let_in = by_key.authenticate_publickey("deploy", key).await;
        assert!(let_in.unwrap().success());
        assert_eq!(met.await.unwrap().user, "deploy");
    }

    #[tokio::test]
    async fn everybody_else_needs_nothing() {
        for name in [
            "SSH-2.0-OpenSSH_9.2p1 Debian-2",
            "SSH-2.0-libssh_0.10.6",
            "SSH-2.0-xlibssh2_1.11.1",
        ] {
            let (mut client, met) = client(name).await;
            let let_in = client.authenticate_none("deploy").await.unwrap();
            assert!(let_in.success(), "{name}");
            assert_eq!(met.await.unwrap().client, name);
        }
    }

    #[tokio::test]
    async fn a_greeting_is_seen_however_it_is_cut_and_passes() {
        for (sent, asks) in [
            ("SSH-2.0-libssh2_1.10.0\r\nbinary\nmore", true),
            ("SSH-2.0-libssh2\r\nSSH-2.0-libssh2_1", false),
            ("SSH-2.0-other\nSSH-2.0-libssh2_1\n", false),
            ("SSH-2.0-libssh2_1", false),
        ] {
            for piece in [1, 2, 7, 64] {
                let (ours, mut theirs) = tokio::io::duplex(piece);
                let greeting = Greeting::default();
                let mut socket = Greeted::new(ours, greeting.clone());
                let sending = tokio::spawn(async move {
                    theirs.write_all(sent.as_bytes()).await.unwrap();
                });
                let mut heard = String::new();
                socket.read_to_string(&mut heard).await.unwrap();
                sending.await.unwrap();
                assert_eq!(heard, sent);
                assert_eq!(greeting.wants_to_be_asked(), asks, "{sent:?}");
            }
        }
        let mut endless = Greeted::new(tokio::io::empty(), Greeting::default());
        for _ in 0..1000 {
            endless.note(LIBSSH2);
        }
        assert!(endless.line.is_none() && endless.greeting.wants_to_be_asked());
    }
}
