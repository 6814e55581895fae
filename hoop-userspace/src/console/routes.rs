//! The one table of what can be asked of the console: method, path, who may, and what answers.
//!
//! The document of the API and the tests of who may do what are made from it, so that no route can
//! be left out of either.

use ::http::Method;

use super::act::Act;
use super::data::Data;
use super::pages::Page;
use crate::handover::console::Needs;

pub struct Route {
    pub method: Method,
    /// Segments; `{…}` stands for one of any text.
    pub path: &'static str,
    pub needs: Needs,
    pub to: To,
}

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// A page for people.
    Page(Page),
    /// The data of the pages, as JSON.
    Data(Data),
    /// A form of a page, which leads to another page.
    Form(Act),
    /// The same by the API.
    Call(Act),
    SignIn(SignIn),
    Asset(Asset),
    /// What changes, as it does (server-sent events).
    Changes,
    /// A session's recording, as it grows.
    Follow,
    /// What its terminal shows, as it is printed.
    Watch,
    /// Slack's buttons.
    Slack,
    /// What issuers report; the worker's.
    Issuer,
    OpenApi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    Choose,
    /// The page behind a code of `hoop console login`.
    Code,
    Redeem,
    /// To the issuer, and back.
    Leave,
    Return,
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asset {
    Style,
    Script,
    Terminal,
    Player,
    Icon,
}

const fn get(path: &'static str, needs: Needs, to: To) -> Route {
    Route {
        method: Method::GET,
        path,
        needs,
        to,
    }
}

const fn post(path: &'static str, needs: Needs, to: To) -> Route {
    Route {
        method: Method::POST,
        path,
        needs,
        to,
    }
}

pub const ROUTES: &[Route] = &[
    get("/", Needs::See, To::Page(Page::Now)),
    get("/approvals", Needs::See, To::Page(Page::Inbox)),
    get(
        "/approvals/{question}",
        Needs::See,
        To::Page(Page::Question),
    ),
    post(
        "/approvals/{question}/vote",
        Needs::Vote,
        To::Form(Act::Vote),
    ),
    post(
        "/approvals/{question}/revoke",
        Needs::Vote,
        To::Form(Act::Revoke),
    ),
    get("/sessions", Needs::See, To::Page(Page::Sessions)),
    get("/sessions/{session}", Needs::See, To::Page(Page::Session)),
    get("/sessions/{session}/follow", Needs::See, To::Follow),
    get("/sessions/{session}/watch", Needs::See, To::Watch),
    get(
        "/sessions/{session}/transcript",
        Needs::See,
        To::Page(Page::Transcript),
    ),
    post(
        "/sessions/{session}/kill",
        Needs::Administer,
        To::Form(Act::Kill),
    ),
    post(
        "/sessions/{session}/freeze",
        Needs::Administer,
        To::Form(Act::Freeze),
    ),
    post(
        "/sessions/{session}/thaw",
        Needs::Administer,
        To::Form(Act::Thaw),
    ),
    get("/policy", Needs::See, To::Page(Page::Policy)),
    post("/policy/test", Needs::See, To::Form(Act::TryPolicy)),
    get("/masks", Needs::See, To::Page(Page::Masks)),
    post("/masks/test", Needs::See, To::Form(Act::TryMask)),
    get("/audit", Needs::Audit, To::Page(Page::Audit)),
    post(
        "/agents/{agent}/suspend",
        Needs::Administer,
        To::Form(Act::Suspend),
    ),
    post(
        "/agents/{agent}/resume",
        Needs::Administer,
        To::Form(Act::Resume),
    ),
    get("/changes", Needs::See, To::Changes),
    get("/sign-in", Needs::Nothing, To::SignIn(SignIn::Choose)),
    get("/sign-in/local", Needs::Nothing, To::SignIn(SignIn::Code)),
    post("/sign-in/local", Needs::Nothing, To::SignIn(SignIn::Redeem)),
    get("/sign-in/issuer", Needs::Nothing, To::SignIn(SignIn::Leave)),
    get(
        "/sign-in/callback",
        Needs::Nothing,
        To::SignIn(SignIn::Return),
    ),
    post("/sign-out", Needs::See, To::SignIn(SignIn::Out)),
    get("/assets/style.css", Needs::Nothing, To::Asset(Asset::Style)),
    get(
        "/assets/console.js",
        Needs::Nothing,
        To::Asset(Asset::Script),
    ),
    get(
        "/assets/terminal.js",
        Needs::Nothing,
        To::Asset(Asset::Terminal),
    ),
    get(
        "/assets/player.js",
        Needs::Nothing,
        To::Asset(Asset::Player),
    ),
    get("/favicon.ico", Needs::Nothing, To::Asset(Asset::Icon)),
    post("/slack/interact", Needs::Nothing, To::Slack),
    get("/events/{issuer}/hook", Needs::Nothing, To::Issuer),
    post("/events/{issuer}/hook", Needs::Nothing, To::Issuer),
    post("/events/{issuer}/set", Needs::Nothing, To::Issuer),
    get("/api/v1/openapi.json", Needs::See, To::OpenApi),
    get("/api/v1/whoami", Needs::See, To::Data(Data::Whoami)),
    get("/api/v1/status", Needs::See, To::Data(Data::Status)),
    get("/api/v1/approvals", Needs::See, To::Data(Data::Questions)),
    get(
        "/api/v1/approvals/{question}",
        Needs::See,
        To::Data(Data::Question),
    ),
    post(
        "/api/v1/approvals/{question}/vote",
        Needs::Vote,
        To::Call(Act::Vote),
    ),
    post(
        "/api/v1/approvals/{question}/revoke",
        Needs::Vote,
        To::Call(Act::Revoke),
    ),
    get("/api/v1/sessions", Needs::See, To::Data(Data::Sessions)),
    get(
        "/api/v1/sessions/{session}",
        Needs::See,
        To::Data(Data::Session),
    ),
    get(
        "/api/v1/sessions/{session}/cast",
        Needs::See,
        To::Data(Data::Cast),
    ),
    get("/api/v1/policy", Needs::See, To::Data(Data::Policy)),
    post("/api/v1/policy/test", Needs::See, To::Call(Act::TryPolicy)),
    get("/api/v1/masks", Needs::See, To::Data(Data::Masks)),
    post("/api/v1/masks/test", Needs::See, To::Call(Act::TryMask)),
    get("/api/v1/audit", Needs::Audit, To::Data(Data::Audit)),
    post(
        "/api/v1/sessions/{session}/kill",
        Needs::Administer,
        To::Call(Act::Kill),
    ),
    post(
        "/api/v1/sessions/{session}/freeze",
        Needs::Administer,
        To::Call(Act::Freeze),
    ),
    post(
        "/api/v1/sessions/{session}/thaw",
        Needs::Administer,
        To::Call(Act::Thaw),
    ),
    post(
        "/api/v1/agents/{agent}/suspend",
        Needs::Administer,
        To::Call(Act::Suspend),
    ),
    post(
        "/api/v1/agents/{agent}/resume",
        Needs::Administer,
        To::Call(Act::Resume),
    ),
];

/// What a request leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Route(usize, String),
    /// There is such a path, but nothing that does this with it.
    Method,
    Nothing,
}

/// Finds the route, and what stood for its `{…}`, decoded.
pub fn find(method: &Method, path: &str) -> Found {
    // What is asked for without its body is asked for all the same.
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let mut known = false;
    for (at, route) in ROUTES.iter().enumerate() {
        let Some(parameter) = matches(route.path, path) else {
            continue;
        };
        if route.method == *method {
            return Found::Route(at, parameter);
        }
        known = true;
    }
    match known {
        true => Found::Method,
        false => Found::Nothing,
    }
}

fn matches(pattern: &str, path: &str) -> Option<String> {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    let mut parameter = String::new();
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(parameter),
            (Some(wanted), Some(found)) if wanted.starts_with('{') => {
                parameter = decoded(found)?;
            }
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return None,
        }
    }
}

/// A segment without its percent signs (RFC 3986 §2.1); `None` where that is no text, or empty.
fn decoded(segment: &str) -> Option<String> {
    // `+` is itself in a path.
    let segment = segment.replace('+', "%2B");
    let form = format!("x={segment}");
    let (_, text) = url::form_urlencoded::parse(form.as_bytes()).next()?;
    let sound = !text.is_empty() && text.len() <= 256 && !text.contains('\u{fffd}');
    sound.then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> Option<(To, String)> {
        match find(&method, path) {
            Found::Route(at, parameter) => Some((ROUTES[at].to, parameter)),
            _ => None,
        }
    }

    #[test]
    fn paths_lead_where_they_say() {
        let page = |page, parameter: &str| Some((To::Page(page), parameter.to_owned()));
        assert_eq!(found(Method::GET, "/"), page(Page::Now, ""));
        assert_eq!(found(Method::HEAD, "/approvals"), page(Page::Inbox, ""));
        assert_eq!(
            found(Method::GET, "/approvals/a%2Fb+c"),
            page(Page::Question, "a/b+c")
        );
        for path in [
            "/approvals/",
            "/approvals/a/b",
            "//",
            "",
            "/Approvals",
            "/approvals/%ff",
        ] {
            assert_eq!(found(Method::GET, path), None, "{path}");
        }
        assert_eq!(find(&Method::DELETE, "/approvals"), Found::Method);
        assert_eq!(find(&Method::GET, "/approvals/x/vote"), Found::Method);
    }

    #[test]
    fn no_two_routes_are_the_same() {
        for (at, route) in ROUTES.iter().enumerate() {
            let again = ROUTES.iter().skip(at + 1);
            let mut again = again.filter(|r| r.path == route.path && r.method == route.method);
            assert!(again.next().is_none(), "{} {}", route.method, route.path);
        }
    }
}
