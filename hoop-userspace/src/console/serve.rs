//! What happens to a request, in order: its route, how often its address asks, where it comes from,
//! who asks, whether that person may, and only then what it wants.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ::http::request::Parts;
use ::http::{Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use super::fields::{Fields, cookie};
use super::guard::{Guard, Places, neighbour};
use super::link::Link;
use super::respond::{self, Answer};
use super::routes::{Asset, Found, ROUTES, Route, To, find};
use super::site::Site;
use super::{live, oidc, pages, recordings};
use crate::handover::console::{Denied, SignedIn, Wish};

/// Of a request's body.
const MAX_BODY: usize = 48 << 10;
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Of what an issuer reports, which is passed on when all of it is there.
const MAX_REPORT: usize = 256 << 10;
const REPORT_WITHIN: Duration = Duration::from_secs(5);
/// Reports at once, and of one address.
const REPORTS: usize = 16;
const REPORTS_OF_ONE: u32 = 4;
/// Statements that are parsed at once, for people who try a policy.
const TRIALS: usize = 2;

/// What outlives a configuration.
pub struct Server {
    pub link: Arc<Link>,
    pub changes: watch::Receiver<u64>,
    pub streams: Arc<Semaphore>,
    /// Of those, each session's.
    pub followed: Places<String>,
    pub trials: Arc<Semaphore>,
    reports: Semaphore,
    reporting: Places<IpAddr>,
    pub pending: oidc::Pending,
    pub index: recordings::Shared,
    guard: Guard,
}

impl Server {
    pub fn new(link: Arc<Link>, changes: watch::Receiver<u64>) -> Self {
        Self {
            link,
            changes,
            streams: live::places(),
            followed: Places::default(),
            trials: Arc::new(Semaphore::new(TRIALS)),
            reports: Semaphore::new(REPORTS),
            reporting: Places::default(),
            pending: oidc::Pending::default(),
            index: recordings::Shared::default(),
            guard: Guard::default(),
        }
    }
}

/// Who asks.
pub struct Person {
    pub is: SignedIn,
    /// What every form of this person's session carries.
    pub csrf: String,
}

/// A request of somebody's, and what it is about.
pub struct Asked<'r> {
    pub server: &'r Arc<Server>,
    pub site: &'r Arc<Site>,
    pub route: &'static Route,
    pub head: &'r Parts,
    pub parameter: &'r str,
    pub query: Fields,
    pub token: Option<String>,
    pub person: Option<Person>,
    /// Whether a page asks by itself: that keeps no session.
    pub background: bool,
}

impl Asked<'_> {
    /// Asks the keeper in this person's name.
    pub async fn ask(&self, wish: Wish) -> Result<Value, Denied> {
        self.ask_for_file(wish).await.map(|(value, _)| value)
    }

    /// The same, with what the keeper opened.
    pub async fn ask_for_file(&self, wish: Wish) -> Result<(Value, Option<OwnedFd>), Denied> {
        let (link, token) = (&self.server.link, self.token.as_deref());
        match self.background {
            true => link.ask_by_itself(token, wish).await,
            false => link.ask_for_file(token, wish).await,
        }
    }

    pub fn is_api(&self) -> bool {
        self.route.path.starts_with("/api/")
    }
}

/// Answers one request.
pub async fn serve<B>(
    server: &Arc<Server>,
    site: &Arc<Site>,
    peer: IpAddr,
    request: Request<B>,
) -> Answer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let mut answer = routed(server, site, peer, &head, body).await;
    respond::harden(&mut answer, site.is_secure());
    answer
}

async fn routed<B>(
    server: &Arc<Server>,
    site: &Arc<Site>,
    peer: IpAddr,
    head: &Parts,
    body: B,
) -> Answer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !server.guard.may_ask(peer) {
        return respond::plain(StatusCode::TOO_MANY_REQUESTS, "too many requests\n");
    }
    let (route, parameter) = match find(&head.method, head.uri.path()) {
        Found::Route(at, parameter) => match ROUTES.get(at) {
            Some(route) => (route, parameter),
            None => return respond::plain(StatusCode::NOT_FOUND, "not found\n"),
        },
        Found::Method => {
            return respond::plain(StatusCode::METHOD_NOT_ALLOWED, "nothing does this here\n");
        }
        Found::Nothing => return respond::plain(StatusCode::NOT_FOUND, "not found\n"),
    };
    match route.to {
        // Proved by itself, and from elsewhere by its nature.
        To::Issuer => return report(server, site, peer, head, &parameter, body).await,
        To::Asset(asset) => return file(asset),
        _ => {}
    }
    let Some(body) = whole(body, MAX_BODY, BODY_WITHIN).await else {
        return respond::plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large\n");
    };
    if route.to == To::Slack {
        return super::api::slack(server, head, body).await;
    }
    if let Err(why) = comes_from_us(site, head) {
        return respond::plain(StatusCode::FORBIDDEN, why);
    }
    if let To::SignIn(step) = route.to
        && !server.guard.may_sign_in(peer, step)
    {
        return respond::plain(StatusCode::TOO_MANY_REQUESTS, "too many sign-ins\n");
    }
    let mut asked = Asked {
        server,
        site,
        route,
        head,
        parameter: &parameter,
        query: Fields::of_query(head),
        token: cookie(head, site.cookie()).map(str::to_owned),
        person: None,
        background: by_itself(route, head),
    };
    let answered = answer(&mut asked, &body).await;
    answered.unwrap_or_else(|denied| denied_answer(&asked, &denied))
}

async fn answer(asked: &mut Asked<'_>, body: &Bytes) -> Result<Answer, Denied> {
    asked.person = person(asked).await?;
    let needs = asked.route.needs;
    match &asked.person {
        _ if needs.met_by(&[]) => {}
        None => return Err(Denied::SignIn),
        Some(person) if !needs.met_by(&person.is.roles) => {
            return Err(Denied::Role(needs.words()));
        }
        Some(_) => {}
    }
    let fields = match asked.head.method == Method::POST {
        true => {
            let fields = Fields::of_body(asked.head, body);
            let fields = fields
                .ok_or_else(|| Denied::Bad("this is neither a form nor a JSON object".into()))?;
            if let Some(person) = &asked.person {
                is_meant(&person.csrf, asked.head, &fields)?;
            }
            fields
        }
        false => Fields::default(),
    };
    match asked.route.to {
        To::Page(page) => pages::page(asked, page, pages::Tried::default()).await,
        To::Data(data) => {
            let value = asked.fetch(data).await?;
            Ok(respond::json(StatusCode::OK, &value))
        }
        To::Call(act) => {
            let value = asked.act(act, &fields).await?;
            Ok(respond::json(StatusCode::OK, &value))
        }
        To::Form(act) => match asked.act(act, &fields).await {
            Ok(value) => match act.then(asked.parameter) {
                Some(place) => Ok(respond::redirect(&place)),
                None => pages::tried(asked, act, &fields, &value).await,
            },
            Err(denied @ (Denied::SignIn | Denied::Role(_))) => Err(denied),
            Err(denied) => pages::again(asked, act, &fields, &denied).await,
        },
        To::SignIn(step) => asked.sign_in(step, &fields).await,
        To::Changes => asked.changes().await,
        To::OpenApi => Ok(respond::json(StatusCode::OK, &super::api::document())),
        To::Follow => asked.follow().await,
        To::Watch => asked.watch().await,
        To::Slack | To::Issuer | To::Asset(_) => {
            Err(Denied::Absent("there is nothing here".into()))
        }
    }
}

/// Who asks, if the session still holds. Where nobody needs to, nobody is asked for.
async fn person(asked: &Asked<'_>) -> Result<Option<Person>, Denied> {
    if asked.token.is_none() {
        return Ok(None);
    }
    let is: SignedIn = match asked.ask(Wish::Whoami).await {
        Ok(value) => {
            serde_json::from_value(value).map_err(|error| Denied::Failed(error.to_string()))?
        }
        Err(Denied::SignIn | Denied::Role(_)) => return Ok(None),
        Err(denied) => return Err(denied),
    };
    let csrf = is.csrf.clone();
    Ok(Some(Person { is, csrf }))
}

/// What a page sends along when it asks by itself.
const BACKGROUND: &str = "x-hoop-background";

/// Whether a page asks, and nobody behind it. A stream is begun again by itself, too, and sooner than
/// a session ends.
fn by_itself(route: &Route, head: &Parts) -> bool {
    let stream = matches!(route.to, To::Changes | To::Follow | To::Watch);
    stream || (head.method == Method::GET && head.headers.contains_key(BACKGROUND))
}

/// A request that changes something carries what only the session's own pages know.
fn is_meant(csrf: &str, head: &Parts, fields: &Fields) -> Result<(), Denied> {
    let header = head
        .headers
        .get("x-hoop-csrf")
        .and_then(|value| value.to_str().ok());
    let given = header.unwrap_or(fields.get("csrf"));
    // By their digests, in a time that tells nothing of where they differ.
    let of = |text: &str| digest(&SHA256, text.as_bytes());
    let same = of(given).as_ref() == of(csrf).as_ref();
    match same && !csrf.is_empty() {
        true => Ok(()),
        false => Err(Denied::Bad(
            "the form is of another session: load the page again (API: send x-hoop-csrf, as /api/v1/whoami says)".into(),
        )),
    }
}

/// Refuses what another site has a browser send, and names that lead here by rebinding.
fn comes_from_us(site: &Site, head: &Parts) -> Result<(), &'static str> {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("host").or_else(|| head.uri.authority().map(|a| a.as_str()));
    if host.is_none_or(|host| !host.eq_ignore_ascii_case(&site.host)) {
        return Err("this is not the console's name: see [console] url\n");
    }
    if head.method == Method::GET || head.method == Method::HEAD {
        return Ok(());
    }
    match (text("origin"), text("sec-fetch-site")) {
        (Some(origin), _) if origin == site.origin => Ok(()),
        (Some(_), _) => Err("this comes from another site\n"),
        (None, Some("same-origin")) => Ok(()),
        // No browser in use leaves both out. Whoever carries no session does nothing in
        // anybody's name.
        (None, None) if cookie(head, site.cookie()).is_none() => Ok(()),
        _ => Err(
            "this does not say that it comes from the console (a program sends Origin: the console's address)\n",
        ),
    }
}

/// What is said where something was not granted.
fn denied_answer(asked: &Asked<'_>, denied: &Denied) -> Answer {
    let status = match denied {
        Denied::SignIn => StatusCode::UNAUTHORIZED,
        Denied::Role(_) => StatusCode::FORBIDDEN,
        Denied::Absent(_) => StatusCode::NOT_FOUND,
        Denied::Bad(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Denied::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    if asked.is_api() {
        return respond::json(status, &json!({ "error": denied.to_string() }));
    }
    match (denied, asked.route.to) {
        (Denied::SignIn, To::Page(_)) => {
            let place = asked
                .head
                .uri
                .path_and_query()
                .map_or("/", |place| place.as_str());
            respond::redirect(&format!("/sign-in?next={}", super::act::segment(place)))
        }
        (Denied::SignIn, To::Form(_)) => respond::redirect("/sign-in"),
        _ => respond::html(status, pages::problem(asked, denied)),
    }
}

/// Takes what an issuer reports: from whom hoop has an issuer, all of it and soon, a few at once. Only
/// then does the worker hear of it, whose places are few.
async fn report<B>(
    server: &Arc<Server>,
    site: &Arc<Site>,
    peer: IpAddr,
    head: &Parts,
    issuer: &str,
    body: B,
) -> Answer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !site.hears(issuer) {
        return respond::plain(StatusCode::NOT_FOUND, "not found\n");
    }
    let busy = || respond::plain(StatusCode::TOO_MANY_REQUESTS, "too many reports\n");
    let Some(_own) = server.reporting.take(neighbour(peer), REPORTS_OF_ONE) else {
        return busy();
    };
    let Ok(_place) = server.reports.try_acquire() else {
        return busy();
    };
    match whole(body, MAX_REPORT, REPORT_WITHIN).await {
        Some(body) => super::api::pass_on(server, head, body).await,
        None => respond::plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the report is too large, or too slow\n",
        ),
    }
}

async fn whole<B>(body: B, most: usize, within: Duration) -> Option<Bytes>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collecting = Limited::new(Box::pin(body), most).collect();
    let collected = tokio::time::timeout(within, collecting).await.ok()?;
    collected.ok().map(http_body_util::Collected::to_bytes)
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = concat!(
    include_str!("assets/style.css"),
    include_str!("assets/player.css")
);

fn file(asset: Asset) -> Answer {
    match asset {
        Asset::Style => respond::asset("text/css; charset=utf-8", STYLE),
        Asset::Script => respond::asset(SCRIPT, include_str!("assets/console.js")),
        Asset::Terminal => respond::asset(SCRIPT, include_str!("assets/terminal.js")),
        Asset::Player => respond::asset(SCRIPT, include_str!("assets/player.js")),
        Asset::Icon => respond::asset("image/svg+xml", include_str!("assets/icon.svg")),
    }
}
