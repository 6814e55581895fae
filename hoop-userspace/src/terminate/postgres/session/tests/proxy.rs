//! A session between real clients and a real server, for trying things by hand:
//! `HOOP_TRY=15432:127.0.0.1:5432:user cargo test -p hoop-userspace --lib proxy -- --ignored`
//! listens on port 15432 and logs in to a server that trusts `user`.

use tokio::net::{TcpListener, TcpStream};

use super::*;
use std::path::Path;

use crate::config::Resource;
use crate::forward::fixture::{config, resource};
use crate::secret::Secret;
use crate::terminate::authority::{Authority, Destinations};
use crate::terminate::postgres::AgentPassword;
use crate::terminate::postgres::{Arrived, Startup, Terms, Upstream, UpstreamStream};
use crate::terminate::tls::Offers;
use crate::wire::postgres::login::{self, Answer};

async fn log_in(server: &str, user: &str, startup: &Startup) -> Upstream {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let parameters = [
        ("user", user),
        ("database", startup.database()),
        ("client_encoding", "UTF8"),
    ];
    stream
        .write_all(&login::startup(&parameters))
        .await
        .unwrap();
    let mut input = BytesMut::new();
    let (mut parameters, mut pid, mut key) = (vec![], 0, 0);
    loop {
        match login::next(&mut input).unwrap() {
            Some(Answer::ParameterStatus { name, value }) => parameters.push((name, value)),
            Some(Answer::BackendKeyData { pid: p, key: k }) => (pid, key) = (p, k),
            Some(Answer::Ready) => break,
            Some(Answer::Error(error)) => panic!("{error:?}"),
            Some(_) => {}
            None => assert!(stream.read_buf(&mut input).await.unwrap() > 0),
        }
    }
    let address = stream.peer_addr().unwrap();
    let cancel = CancelTarget {
        address,
        tls: None,
        pid,
        key,
    };
    let stream = UpstreamStream::Plain(stream);
    Upstream {
        stream,
        parameters,
        cancel,
        leftover: input,
    }
}

/// With TLS from a CA of its own (`HOOP_STATE`) and a dummy password (`HOOP_PASSWORD`).
fn terms() -> Terms {
    let localhost = Resource {
        max_message: 64 << 20,
        ..resource("try", &["127.0.0.0/8", "localhost"])
    };
    let tls = std::env::var("HOOP_STATE").ok().map(|state| {
        let destinations = Destinations::of(&config(vec![localhost.clone()]));
        let authority = Authority::open(Path::new(&state), &destinations).unwrap();
        let offers = Offers::new(Arc::new(authority));
        offers
            .offer(&localhost, None, [127, 0, 0, 1].into())
            .unwrap()
    });
    let password = std::env::var("HOOP_PASSWORD").ok();
    let password = password.map(|p| AgentPassword::derive(&Secret::new(p)).unwrap());
    Terms::of(&localhost, tls, password)
}

#[test]
#[ignore = "serves until it is interrupted"]
fn serve() {
    let Ok(told) = std::env::var("HOOP_TRY") else {
        return;
    };
    let mut parts = told.splitn(2, ':');
    let port: u16 = parts.next().unwrap().parse().unwrap();
    let (server, user) = parts.next().unwrap().rsplit_once(':').unwrap();
    let attribute = std::env::var_os("HOOP_ATTRIBUTE").is_some();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let cancels = Cancels::default();
        let terms = terms();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let terms = terms.clone();
            let (cancels, server, user) = (cancels.clone(), server.to_owned(), user.to_owned());
            tokio::spawn(async move {
                match Startup::accept(stream, terms).await {
                    Ok(Arrived::Session(startup)) => {
                        let upstream = log_in(&server, &user, &startup).await;
                        let agent = AgentName::from(AGENT);
                        match startup.ready(upstream, &cancels, &agent, attribute) {
                            Ok(session) => {
                                let (end, stopped) = drive(session, |_| {}).await;
                                eprintln!("{end:?} {stopped:?}");
                            }
                            Err(not) => not.startup.refuse(&not.refusal).await,
                        }
                    }
                    Ok(Arrived::Cancel { pid, key }) => {
                        let found = cancels.cancel(pid, &key, &AgentName::from(AGENT));
                        eprintln!("cancel {found}");
                    }
                    Err(error) => eprintln!("{error}"),
                }
            });
        }
    });
}
