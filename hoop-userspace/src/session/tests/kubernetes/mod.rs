//! Requests to an API server through the whole loop: a real client's HTTP on one side, a server that
//! is played on the other, and real rules, masks and recordings between them.

mod foresee;
mod streams;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use http::{Request as HttpRequest, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::mask::KubernetesMasks;
use crate::terminate::authority::{Authority, Destinations};
use crate::terminate::kubernetes::{
    Added, Answering, Front, Reach, Server, ServerError, Session as KubernetesSession,
};
use crate::terminate::tls::Offers;
use crate::wire::kubernetes::protobuf::Kinds;

const HOST: &str = "k8s.internal";
const READS: &str = r#"
permit (principal, action == Action::"k8s:get", resource);
permit (principal, action == Action::"k8s:list", resource);
permit (principal, action == Action::"k8s:watch", resource);
permit (principal, action == Action::"k8s:nonresource", resource);
@approvers("sre") @id("writes-ask") permit (principal, action == Action::"k8s:create", resource);
"#;

fn configuration() -> Config {
    let text = format!(
        "[[resource]]\nname = \"prod\"\nprotocol = \"kubernetes\"\nhosts = [\"{HOST}\"]\n\
         login = {{ as_agent = true }}\n[policy]\nuse = []\n"
    );
    Config::from_bundle(&Bundle::from_text("hoop.toml".as_ref(), &text)).unwrap()
}

fn rules(policy: &str) -> Arc<Rulebook> {
    let mut config = configuration();
    config.policy.files = vec![PolicyFile {
        name: "test".into(),
        text: policy.into(),
    }];
    let masks = Rules::new(&config, &"prod".into(), &HashKey::new(&[1; 32]));
    let kinds = Arc::new(Kinds::new());
    Arc::new(Rulebook {
        epoch: 1,
        decider: Arc::new(Decider::new(&config).unwrap().at_epoch(1)),
        objects: Some(Arc::new(KubernetesMasks::new(
            masks.clone(),
            Vec::new(),
            kinds,
        ))),
        masks,
        remind: Duration::from_secs(60),
    })
}

/// What the played server got, and what it answers.
#[derive(Default)]
struct Played {
    seen: Mutex<Vec<(String, http::HeaderMap, Bytes)>>,
}

pub(super) type Content = http_body_util::combinators::BoxBody<Bytes, Infallible>;

pub(super) fn full(text: impl Into<Bytes>) -> Content {
    Full::new(text.into()).boxed()
}

impl Played {
    async fn answer(self: Arc<Self>, request: HttpRequest<Incoming>) -> Response<Content> {
        if request.uri().path().ends_with("/exec") {
            return streams::serve(request);
        }
        if request.uri().path().ends_with("/portforward") {
            return streams::serve_forward(request);
        }
        let (parts, body) = request.into_parts();
        let line = format!("{} {}", parts.method, parts.uri);
        let content = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path().to_owned();
        let held = path.contains("/held") || path.contains("/apiservices/");
        let answer = match held {
            true => Some(foresee::serve(&parts, &content).await),
            false => None,
        };
        self.seen
            .lock()
            .unwrap()
            .push((line, parts.headers, content));
        if let Some(answer) = answer {
            return answer;
        }
        let json = |text: &str| {
            Response::builder()
                .header("content-type", "application/json")
                .header("x-internal", "not for the client")
                .body(full(text.to_owned()))
                .unwrap()
        };
        match &*path {
            "/api/v1/namespaces/shop/secrets/db" => json(
                r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db"},"data":{"password":"aHVudGVyMg=="}}"#,
            ),
            "/api/v1/namespaces/shop/pods" if parts.uri.query() == Some("watch=1") => {
                let (pieces, stream) = mpsc::unbounded_channel();
                tokio::spawn(async move {
                    for n in 0..3 {
                        let event = format!(
                            "{{\"type\":\"ADDED\",\"object\":{{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"p{n}\"}}}}}}\n"
                        );
                        // In two pieces: an object is told when it is whole.
                        let (one, other) = event.split_at(20);
                        for piece in [one, other] {
                            let frame = Frame::data(Bytes::from(piece.to_owned()));
                            pieces.send(Ok::<_, Infallible>(frame)).unwrap();
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                });
                let stream = Unbounded(stream);
                Response::builder()
                    .header("content-type", "application/json")
                    .body(BodyExt::boxed(stream))
                    .unwrap()
            }
            "/api/v1/namespaces/shop/pods/yaml" => Response::builder()
                .header("content-type", "application/yaml")
                .body(full("kind: Secret\n"))
                .unwrap(),
            "/api/v1/namespaces/shop/pods/broken" => json("{\"kind\":\"Pod\""),
            "/apis" => json(r#"{"kind":"APIGroupList"}"#),
            _ => json(r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"}}"#),
        }
    }
}

struct Unbounded(mpsc::UnboundedReceiver<Result<Frame<Bytes>, Infallible>>);

impl Body for Unbounded {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context)
    }
}

/// The way to it: a connection of HTTP/1.1 for each request.
struct Way(Arc<Played>);

impl Server for Way {
    fn send(&self, request: HttpRequest<Full<Bytes>>, _alone: bool) -> Answering {
        let played = self.0.clone();
        Box::pin(async move {
            let (client, server) = tokio::io::duplex(1 << 16);
            let service = service_fn(move |request| {
                let played = played.clone();
                async move { Ok::<_, Infallible>(played.answer(request).await) }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(server), service)
                .with_upgrades();
            tokio::spawn(serving);
            let failed = |e: hyper::Error| ServerError(e.to_string());
            let made = hyper::client::conn::http1::handshake(TokioIo::new(client)).await;
            let (mut sender, connection) = made.map_err(failed)?;
            tokio::spawn(connection.with_upgrades());
            sender.send_request(request).await.map_err(failed)
        })
    }
}

/// hoop, with one client's connection.
pub(super) struct Hoop {
    pub world: World,
    played: Arc<Played>,
    roots: RootCertStore,
    _state: tempfile::TempDir,
    offers: Offers,
    hold: Duration,
    /// As with `estimate = true`.
    foresees: Option<Arc<tokio::sync::Semaphore>>,
    /// Of the next session: each has a recording of its own.
    numbers: Arc<AtomicU8>,
}

impl Hoop {
    pub fn new(policy: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let destinations = Destinations::of(&configuration());
        let authority = Authority::open(state.path(), &destinations).unwrap();
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        Self {
            world: World::new(Durability::Kernel, rules(policy)),
            played: Arc::default(),
            roots,
            _state: state,
            offers: Offers::new(Arc::new(authority)),
            hold: Duration::from_secs(5),
            foresees: None,
            numbers: Arc::new(AtomicU8::new(100)),
        }
    }

    /// A connection whose requests are served as the worker serves them.
    async fn connect(&mut self, alpn: &[u8]) -> tokio_rustls::client::TlsStream<DuplexStream> {
        let (client, server) = tokio::io::duplex(1 << 16);
        let resource = configuration().resources.remove(0);
        let offer = self
            .offers
            .offer(&resource, Some(HOST), ([127, 0, 0, 1]).into());
        let offer = offer.unwrap();
        let served = Served {
            store: self.world.store.clone(),
            rulebook: self.world.rulebook.subscribe(),
            asker: self.world.asker.clone(),
            ends: self.world.ends.subscribe(),
            way: Arc::new(Way(self.played.clone())),
            hold: self.hold,
            foresees: self.foresees.clone(),
        };
        let numbers = self.numbers.clone();
        tokio::spawn(async move {
            let Ok(mut front) = Front::accept(server, &offer.config).await else {
                return;
            };
            while let Some(opening) = front.open().await {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(served.session(opening, number));
            }
        });
        let provider = rustls::crypto::ring::default_provider();
        let mut config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from(HOST).unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, client);
        connecting.await.unwrap()
    }

    pub async fn http1(&mut self) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
        let stream = self.connect(b"http/1.1").await;
        let made = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    async fn ask(&mut self, request: HttpRequest<Full<Bytes>>) -> (Response<()>, String) {
        let mut sender = self.http1().await;
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let content = body.collect().await.unwrap().to_bytes();
        let content = String::from_utf8(content.to_vec()).unwrap();
        (Response::from_parts(parts, ()), content)
    }

    async fn get(&mut self, target: &str) -> (Response<()>, String) {
        self.ask(request("GET", target, &[], "")).await
    }

    fn seen(&self) -> Vec<(String, http::HeaderMap, Bytes)> {
        std::mem::take(&mut *self.played.seen.lock().unwrap())
    }
}

struct Served {
    store: Arc<Store>,
    rulebook: watch::Receiver<Arc<Rulebook>>,
    asker: Asker,
    ends: watch::Receiver<Option<End>>,
    way: Arc<Way>,
    hold: Duration,
    foresees: Option<Arc<tokio::sync::Semaphore>>,
}

impl Served {
    fn session(
        &self,
        opening: crate::terminate::kubernetes::Opening,
        number: u8,
    ) -> impl Future<Output = End> + Send + use<> {
        let subject = Subject {
            resource: "prod".into(),
            database: HOST.into(),
            session: SessionId::from([number; 16]),
            ..subject()
        };
        let header = Header {
            protocol: "kubernetes".into(),
            session: subject.session,
            ..header()
        };
        let (_, renewed) = watch::channel(subject.identity.clone());
        let context = Context {
            subject,
            identity: renewed,
            rulebook: self.rulebook.clone(),
            catalogs: Arc::new(Nothing),
            recorder: self.store.session(header).unwrap(),
            asker: self.asker.clone(),
            watched: Activities::default().of(&"billing-bot".into()),
            ends: self.ends.clone(),
            freezes: watch::channel(None).1,
        };
        let reach = Reach {
            server: self.way.clone(),
            added: Added::from([(
                "impersonate-user".parse().unwrap(),
                "hoop:billing-bot".parse().unwrap(),
            )]),
            max_document: 1 << 20,
            patience: self.hold,
            foresees: self.foresees.clone(),
        };
        run(KubernetesSession::new(opening, reach), context)
    }
}

struct Nothing;

impl Catalogs for Nothing {
    fn current(&self) -> Arc<Catalog> {
        Arc::default()
    }
    fn refresh(&self) -> LookUp {
        Box::pin(std::future::ready(Arc::default()))
    }
    fn due(&self, _: bool) -> Option<LookUp> {
        None
    }
}

pub(super) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> HttpRequest<Full<Bytes>> {
    let mut builder = HttpRequest::builder()
        .method(method)
        .uri(target)
        .header("host", HOST);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

fn message(status: &str) -> String {
    let status: serde_json::Value = serde_json::from_str(status).unwrap();
    assert_eq!(
        (&status["kind"], &status["status"]),
        (&"Status".into(), &"Failure".into())
    );
    status["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_is_asked_in_hoops_name_and_its_answer_masked() {
    let mut hoop = Hoop::new(READS);
    let target = "/api/v1/namespaces/shop/secrets/db";
    let token = [
        ("authorization", "Bearer dummy"),
        ("user-agent", "kubectl/1.37"),
    ];
    let (head, content) = hoop.ask(request("GET", target, &token, "")).await;
    assert_eq!(head.status(), StatusCode::OK, "{content}");
    assert!(!head.headers().contains_key("x-internal"));
    let secret: serde_json::Value = serde_json::from_str(&content).unwrap();
    assert_eq!(secret["kind"], "Secret");
    assert!(!content.contains("aHVudGVyMg=="), "{content}");
    let seen = hoop.seen();
    let (line, headers, _) = &seen[0];
    assert_eq!(line, &format!("GET {target}"));
    assert!(!headers.contains_key("authorization"));
    assert_eq!(headers["impersonate-user"], "hoop:billing-bot");
    assert_eq!(headers["user-agent"], "kubectl/1.37");
    assert_eq!(headers["accept"], "application/json");
}

#[tokio::test]
async fn what_is_not_permitted_is_refused_as_kubernetes_does_and_never_sent() {
    let mut hoop = Hoop::new(READS);
    let (head, content) = hoop
        .ask(request(
            "DELETE",
            "/api/v1/namespaces/shop/pods/web",
            &[],
            "",
        ))
        .await;
    assert_eq!(head.status(), StatusCode::FORBIDDEN);
    assert!(message(&content).contains("billing-bot"), "{content}");
    let imitates = [("impersonate-user", "admin")];
    let (head, content) = hoop.ask(request("GET", "/apis", &imitates, "")).await;
    assert_eq!(head.status(), StatusCode::FORBIDDEN, "{content}");
    assert!(message(&content).contains("impersonate-user"), "{content}");
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf")];
    let list = "/api/v1/namespaces/shop/pods";
    let (head, content) = hoop.ask(request("GET", list, &protobuf, "")).await;
    assert_eq!(head.status(), StatusCode::FORBIDDEN, "{content}");
    let large = "x".repeat((3 << 20) + 1);
    let (head, _) = hoop.ask(request("POST", list, &[], &large)).await;
    assert_eq!(head.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(hoop.seen().is_empty());
}

#[tokio::test]
async fn a_watch_passes_object_by_object() {
    let mut hoop = Hoop::new(READS);
    let mut sender = hoop.http1().await;
    let watch = request("GET", "/api/v1/namespaces/shop/pods?watch=1", &[], "");
    let mut response = sender.send_request(watch).await.unwrap();
    let mut text = String::new();
    while let Some(frame) = response.body_mut().frame().await {
        let piece = frame.unwrap().into_data().unwrap();
        let piece = String::from_utf8(piece.to_vec()).unwrap();
        text.push_str(&piece);
    }
    let names: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| {
            event["object"]["metadata"]["name"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(names, ["p0", "p1", "p2"]);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_shown() {
    let mut hoop = Hoop::new(READS);
    let (head, content) = hoop.get("/api/v1/namespaces/shop/pods/yaml").await;
    assert_eq!(head.status(), StatusCode::BAD_GATEWAY);
    assert!(!content.contains("Secret"), "{content}");
    let (_, content) = hoop.get("/api/v1/namespaces/shop/pods/broken").await;
    assert!(message(&content).contains("cannot be masked"), "{content}");
}

#[tokio::test]
async fn requests_on_one_http2_connection_do_not_wait_for_each_other() {
    let mut hoop = Hoop::new(READS);
    let stream = hoop.connect(b"h2").await;
    let made = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = made.unwrap();
    tokio::spawn(connection);
    let whole = |method: &str, path: &str, body: &str| {
        let target = format!("https://{HOST}{path}");
        let kind = [("content-type", "application/json")];
        request(method, &target, &kind, body)
    };
    // It asks people, and nobody answers.
    let pod = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"}}"#;
    let held = sender.send_request(whole("POST", "/api/v1/namespaces/shop/pods", pod));
    let held = tokio::spawn(held);
    for _ in 0..3 {
        sender.ready().await.unwrap();
        let asked = sender.send_request(whole("GET", "/apis", ""));
        assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
    }
    assert!(!held.is_finished());
    held.abort();
    assert_eq!(hoop.seen().len(), 3);
}

#[tokio::test]
async fn hostile_bytes_end_the_connection_and_reach_nobody() {
    let mut hoop = Hoop::new(READS);
    for bytes in [
        "GET /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nTransfer-Encoding: identity\r\n\r\n",
        "GET http://elsewhere/api HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /api/v1/namespaces/shop/pods/web%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /api/v1/namespaces/shop/pods HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "\0\x01\x02\x03",
    ] {
        let mut stream = hoop.connect(b"http/1.1").await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(5), reading).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{bytes:?}: {answer}");
    }
    assert!(hoop.seen().is_empty());
}
