//! A session between real clients and a real server, for trying things by hand:
//! `HOOP_TRY=15432:127.0.0.1:5432:user cargo test -p hoop-userspace --lib proxy -- --ignored`
//! listens on port 15432 and logs in to a server that trusts `user`.

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::terminate::postgres::{Arrived, Startup, Terms, Upstream, UpstreamStream};
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

#[test]
#[ignore = "serves until it is interrupted"]
fn serve() {
    let told = std::env::var("HOOP_TRY").unwrap();
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
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (cancels, server, user) = (cancels.clone(), server.to_owned(), user.to_owned());
            tokio::spawn(async move {
                let terms = Terms {
                    tls: None,
                    allow_plain: true,
                    allow_replication: false,
                    agent_password: None,
                    max_message: 64 << 20,
                };
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
