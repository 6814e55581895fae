//! Pages: rendered here, whole, so that they work without any script; the one script only has them
//! loaded again when something changed.

mod approvals;
mod audit;
mod host;
mod layout;
mod masks;
mod now;
mod player;
mod policy;
mod session;
mod sessions;
mod sign_in;

use ::http::StatusCode;
use maud::{Markup, html};
use serde_json::Value;

use super::act::Act;
use super::data::Data;
use super::fields::Fields;
use super::respond::{self, Answer};
use super::serve::Asked;
use super::text::visible;
use crate::handover::console::{Denied, Needs};
use layout::layout;
pub use session::event;
pub use sign_in::{code, sign_in};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Now,
    Inbox,
    Question,
    Sessions,
    Session,
    Transcript,
    Policy,
    Masks,
    Audit,
}

/// What somebody did on the page just now.
#[derive(Clone, Copy, Default)]
pub struct Tried<'t> {
    /// Why it did not count, if it did not.
    pub problem: Option<&'t str>,
    /// What was filled in.
    pub fields: Option<&'t Fields>,
    pub result: Option<&'t Value>,
}

impl Tried<'_> {
    /// What was filled in before, or stands in the query.
    fn field(&self, asked: &Asked<'_>, name: &str) -> String {
        self.fields.unwrap_or(&asked.query).get(name).to_owned()
    }
}

/// A page, with what came of its form.
pub async fn page(asked: &Asked<'_>, page: Page, tried: Tried<'_>) -> Result<Answer, Denied> {
    let (title, body) = match page {
        Page::Now => ("Now", now::now(asked, &asked.fetch(Data::Status).await?)),
        Page::Inbox => {
            let questions = asked.fetch(Data::Questions).await?;
            ("Approvals", approvals::inbox(asked, &questions))
        }
        Page::Question => {
            let question = asked.fetch(Data::Question).await?;
            ("Approval", approvals::question(asked, &question))
        }
        Page::Sessions => {
            // A field that makes no sense is said on the page, with the others as they were.
            match asked.fetch(Data::Sessions).await {
                Ok(found) => ("Sessions", sessions::sessions(asked, &found, None)),
                Err(Denied::Bad(why)) => (
                    "Sessions",
                    sessions::sessions(asked, &Value::Null, Some(&why)),
                ),
                Err(denied) => return Err(denied),
            }
        }
        Page::Session => {
            let session = asked.fetch(Data::Session).await?;
            ("Session", session::session(asked, &session))
        }
        Page::Transcript => {
            let cast = asked.fetch(Data::Cast).await?;
            ("Transcript", player::transcript(&cast))
        }
        Page::Policy => {
            let policy = asked.fetch(Data::Policy).await?;
            ("Policy", policy::policy(asked, &policy, tried))
        }
        Page::Masks => {
            let masks = asked.fetch(Data::Masks).await?;
            ("Masks", masks::masks(asked, &masks, tried))
        }
        Page::Audit => (
            "Audit",
            audit::audit(asked, &asked.fetch(Data::Audit).await?),
        ),
    };
    let problem = tried.problem;
    let status = match problem {
        None => StatusCode::OK,
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok(respond::html(status, layout(asked, title, problem, &body)))
}

/// The page whose form did not count, and why.
pub async fn again(
    asked: &Asked<'_>,
    act: Act,
    fields: &Fields,
    denied: &Denied,
) -> Result<Answer, Denied> {
    let why = denied.to_string();
    let tried = Tried {
        problem: Some(&why),
        fields: Some(fields),
        result: None,
    };
    page(asked, of(act), tried).await
}

/// The page whose form is answered on it.
pub async fn tried(
    asked: &Asked<'_>,
    act: Act,
    fields: &Fields,
    result: &Value,
) -> Result<Answer, Denied> {
    let tried = Tried {
        problem: None,
        fields: Some(fields),
        result: Some(result),
    };
    page(asked, of(act), tried).await
}

fn of(act: Act) -> Page {
    match act {
        Act::Vote | Act::Revoke => Page::Question,
        Act::Freeze | Act::Thaw => Page::Session,
        Act::Kill | Act::Suspend | Act::Resume => Page::Now,
        Act::TryPolicy => Page::Policy,
        Act::TryMask => Page::Masks,
    }
}

/// What is shown where something was not granted.
pub fn problem(asked: &Asked<'_>, denied: &Denied) -> Markup {
    let title = match denied {
        Denied::SignIn => "Not signed in",
        Denied::Role(_) => "Not yours to see",
        Denied::Absent(_) => "Not there",
        Denied::Bad(_) => "That did not count",
        Denied::Failed(_) => "Not now",
    };
    let body = html! {
        h1 { (title) }
        p.problem role="alert" { (visible(&denied.to_string())) }
        p { a href="/" { "Back to what goes on now" } }
    };
    layout(asked, title, None, &body)
}

// What the pages share.

fn word(value: &Value, path: &str) -> String {
    match value.pointer(path) {
        Some(Value::String(text)) => visible(text),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

fn each<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = &'v Value> {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn words(value: &Value, path: &str) -> Vec<String> {
    each(value, path)
        .filter_map(Value::as_str)
        .map(visible)
        .collect()
}

fn is(value: &Value, path: &str) -> bool {
    value.pointer(path) == Some(&Value::Bool(true))
}

/// Whether this person may do what needs that.
fn may(asked: &Asked<'_>, needs: Needs) -> bool {
    asked
        .person
        .as_ref()
        .is_some_and(|person| needs.met_by(&person.is.roles))
}

/// What every form carries.
fn csrf(asked: &Asked<'_>) -> Markup {
    let csrf = asked.person.as_ref().map_or("", |person| &person.csrf);
    html! { input type="hidden" name="csrf" value=(csrf); }
}

/// A state, coloured by what it means.
fn badge(state: &str) -> Markup {
    let kind = match state {
        "approved" | "used" | "enforce" | "allow" | "ready" | "attached" | "verified" => "good",
        "refused" | "refuse" | "revoked" | "suspended" | "broken" | "killed" | "detached"
        | "bypassed" => "bad",
        "pending" | "ask" | "observe" | "open" => "open",
        _ => "plain",
    };
    html! { span class=(format!("badge {kind}")) { (state) } }
}
