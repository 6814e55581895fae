//! The console from a request to its answer, with a keeper that is played.

mod answers;
mod keeper;
mod roles;
mod schema;

use std::net::IpAddr;
use std::sync::Arc;

use ::http::{Method, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::sync::watch;

use super::serve::{Server, serve};
use super::site::Site;
use crate::config::{Bundle, Config};
use crate::handover::console::Role;

const CONFIG: &str = r#"
    [[agent]]
    name = "bot"
    cgroup = "agents.slice/bot.service"
    issuer = "okta"
    client_id = "bot"
    token = { file = "/run/token" }
    [[resource]]
    name = "orders"
    protocol = "postgres"
    hosts = ["db.prod.internal"]
    port = 5432
    tls = "disable"
    login = { user = "hoop_orders" }
    [[mask]]
    resource = "orders"
    columns = ["public.users.ssn"]
    how = "partial"
    [policy]
    use = ["read-only"]
    [issuer.okta]
    url = "http://127.0.0.1:1"
    audience = "api://hoop"
    [console]
    listen = "127.0.0.1:8443"
    url = "https://hoop.example"
    issuer = "okta"
    client_id = "hoop-console"
"#;

/// A session's token, as long as a real one.
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789a";

/// What the session's forms carry.
const CSRF: &str = "abcdef0123456789abcdef0123456789abcdef01234";

/// The console, before a keeper that knows the session for these roles; `None`: knows nobody.
struct Console {
    server: Arc<Server>,
    site: Arc<Site>,
    /// What was wished for and granted.
    keeper: keeper::Played,
}

impl Console {
    fn with(roles: Option<&[Role]>) -> Self {
        Self::of(roles, CONFIG)
    }

    fn of(roles: Option<&[Role]>, config: &str) -> Self {
        let bundle = Bundle::from_text("hoop.toml".as_ref(), config);
        let config = Config::from_bundle(&bundle).unwrap();
        let (link, keeper) = keeper::play(roles.map(<[Role]>::to_vec));
        let changes = watch::Sender::new(0).subscribe();
        Self {
            server: Arc::new(Server::new(link, changes)),
            site: Arc::new(Site::new(config).unwrap()),
            keeper,
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<super::respond::Body> {
        serve(
            &self.server,
            &self.site,
            IpAddr::from([127, 0, 0, 1]),
            request,
        )
        .await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        text(self.send(asked(Method::GET, path, "")).await).await
    }

    async fn post(&self, path: &str, form: &str) -> (u16, String) {
        let form = format!("{form}&csrf={CSRF}");
        text(self.send(asked(Method::POST, path, &form)).await).await
    }
}

/// As the console's own page sends it.
fn asked(method: Method, path: &str, form: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "hoop.example")
        .header("origin", "https://hoop.example")
        .header("cookie", format!("other=1; __Host-hoop={TOKEN}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(form.to_owned()))
        .unwrap()
}

async fn text(answer: Response<super::respond::Body>) -> (u16, String) {
    let status = answer.status().as_u16();
    let place = answer.headers().get("location").cloned();
    let stream = answer
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind == "text/event-stream");
    if stream {
        return (status, "events".into());
    }
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    match place {
        Some(place) => (status, place.to_str().unwrap().to_owned()),
        None => (status, body),
    }
}
