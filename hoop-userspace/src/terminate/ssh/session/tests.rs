//! One channel between a client and a server that are both in this process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::ChannelMsg;
use russh::client;
use russh::keys::PrivateKey;
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::private::Ed25519Keypair;
use tokio::io::DuplexStream;

use super::{Session, State};
use crate::terminate::ssh::{Back, Backlog, Faces, Met, Reached, Recognise, Room};
use crate::terminate::{Event, Gate, Protocol, Side};
use crate::wire::ssh::channel::Message;

struct Anyone;

impl client::Handler for Anyone {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

impl Recognise for Anyone {
    fn recognise(&self, _: &PublicKeyOrCertificate) -> bool {
        true
    }
}

async fn meet(stream: DuplexStream) -> Met {
    let faces = Faces {
        key: PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32])),
        certificate: None,
    };
    let reach = Arc::new(|_: &str, _: u32| Reached::Nothing);
    let met = Met::accept(stream, faces, reach, Room::default()).await;
    met.expect("a client")
}

/// A channel as hoop has it, as the client has it, and what keeps both connections.
async fn channel() -> (Session, russh::Channel<client::Msg>, impl Sized) {
    let config = Arc::new(client::Config::default());
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let logging_in = async {
        let mut agent = client::connect_stream(config.clone(), theirs, Anyone)
            .await
            .unwrap();
        assert!(agent.authenticate_none("deploy").await.unwrap().success());
        // A handle is a future itself.
        (agent,)
    };
    let (mut met, (agent,)) = tokio::join!(meet(ours), logging_in);
    let opened = agent.channel_open_session().await.unwrap();
    let opening = met.openings.recv().await.unwrap();

    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (back, upstream) = Back::new(Arc::new(Anyone), Arc::<Backlog>::default());
    let logging_in = async {
        let mut handle = client::connect_stream(config, theirs, back).await.unwrap();
        assert!(handle.authenticate_none("hoop").await.unwrap().success());
        (handle,)
    };
    let (server, (handle,)) = tokio::join!(meet(ours), logging_in);
    let session = Session::new(opening, Arc::new(upstream(handle)));
    (session, opened, (met, agent, server))
}

/// What the server says comes as replies, which go to the client.
fn says(session: &mut Session, messages: Vec<Message>) {
    session.take_from_server(messages).unwrap();
    loop {
        match session.next_event(Gate::OPEN) {
            Some(Event::Replies(replies)) => {
                return session.send_to_client(replies.wire).unwrap();
            }
            Some(_) => {}
            None => panic!("no replies"),
        }
    }
}

async fn end(mut session: Session) -> bool {
    loop {
        match session.next(Gate::OPEN).await.unwrap() {
            Event::Closed => return true,
            Event::HalfClosed(Side::Client) => return false,
            _ => {}
        }
    }
}

async fn heard(channel: &mut russh::Channel<client::Msg>) -> Vec<ChannelMsg> {
    let mut heard = Vec::new();
    while let Some(message) = channel.wait().await {
        let last = matches!(message, ChannelMsg::Close);
        heard.push(message);
        if last {
            break;
        }
    }
    heard
}

/// Over a connection that it shares, OpenSSH's client closes a channel as soon as both sides have
/// said all: the status may be behind that.
#[tokio::test]
async fn a_status_that_waits_to_be_sent_outlives_the_clients_close() {
    let (mut session, mut channel, _kept) = channel().await;
    session.state = State::Running;
    session.take_from_client(vec![Message::InputEnd]).unwrap();
    says(
        &mut session,
        vec![
            Message::Output(Bytes::from_static(b"done\n")),
            Message::OutputEnd,
            Message::Exit(7),
            Message::Closed,
        ],
    );
    assert!(!session.client.is_idle(), "nothing was sent yet");
    session.take_from_client(vec![Message::Closed]).unwrap();
    let (closed, heard) = tokio::join!(end(session), heard(&mut channel));
    assert!(closed, "the session says that the client hung up");
    assert!(
        heard
            .iter()
            .any(|m| matches!(m, ChannelMsg::ExitStatus { exit_status: 7 })),
        "{heard:?}"
    );
}

/// russh says nothing on a channel that the client has closed: the status must come before whatever
/// may have it closed.
#[tokio::test]
async fn a_client_hears_of_the_status_before_the_end_of_the_output() {
    let (mut session, mut channel, _kept) = channel().await;
    session.state = State::Running;
    session.take_from_client(vec![Message::InputEnd]).unwrap();
    let output = Message::Output(Bytes::from_static(b"done\n"));
    says(&mut session, vec![output, Message::OutputEnd]);
    let moment = Duration::from_millis(50);
    let idle = tokio::time::timeout(moment, session.next(Gate::OPEN)).await;
    assert!(idle.is_err(), "the session goes on");
    let told = channel.wait().await;
    assert!(matches!(told, Some(ChannelMsg::Data { .. })), "{told:?}");
    assert!(tokio::time::timeout(moment, channel.wait()).await.is_err());
    says(&mut session, vec![Message::Exit(7), Message::Closed]);
    let (closed, heard) = tokio::join!(end(session), heard(&mut channel));
    assert!(closed);
    let expected = matches!(
        heard.as_slice(),
        [
            ChannelMsg::ExitStatus { exit_status: 7 },
            ChannelMsg::Eof,
            ChannelMsg::Close
        ]
    );
    assert!(expected, "{heard:?}");
}

/// One that may still send something learns soon that nothing more comes.
#[tokio::test]
async fn the_end_of_the_output_is_not_held_back_for_long() {
    let (mut session, mut channel, _kept) = channel().await;
    session.state = State::Running;
    says(&mut session, vec![Message::OutputEnd]);
    let heard = async {
        let heard = channel.wait().await;
        assert!(matches!(heard, Some(ChannelMsg::Eof)), "{heard:?}");
    };
    tokio::select! {
        () = heard => {}
        _ = end(session) => panic!("the session goes on"),
        () = tokio::time::sleep(Duration::from_secs(9)) => panic!("too late"),
    }
}

/// Whoever closes the channel while output is on its way wants none of it.
#[tokio::test]
async fn a_client_that_closes_before_the_output_has_ended_has_hung_up() {
    let (mut session, _channel, _kept) = channel().await;
    session.state = State::Running;
    session.take_from_client(vec![Message::InputEnd]).unwrap();
    says(
        &mut session,
        vec![Message::Output(Bytes::from_static(b"more"))],
    );
    session.take_from_client(vec![Message::Closed]).unwrap();
    assert!(!end(session).await);
}
