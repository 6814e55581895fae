//! What every page has around it.

use maud::{DOCTYPE, Markup, html};

use super::{Page, csrf};
use crate::console::routes::To;
use crate::console::serve::Asked;
use crate::console::text::visible;
use crate::handover::console::{Needs, Role};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Address, name, and who is shown it.
const PLACES: &[(&str, &str, Needs)] = &[
    ("/", "Now", Needs::See),
    ("/approvals", "Approvals", Needs::See),
    ("/sessions", "Sessions", Needs::See),
    ("/policy", "Policy", Needs::See),
    ("/masks", "Masks", Needs::See),
    ("/audit", "Audit", Needs::Audit),
];

pub fn layout(asked: &Asked<'_>, title: &str, problem: Option<&str>, body: &Markup) -> Markup {
    // A search or a recording that somebody reads does not change under the eyes.
    let lively = [Page::Now, Page::Inbox, Page::Question].map(To::Page);
    let live = asked.person.is_some() && lively.contains(&asked.route.to);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · hoop" }
                link rel="icon" href="/favicon.ico" type="image/svg+xml";
                link rel="stylesheet" href=(format!("/assets/style.css?v={VERSION}"));
                script src=(format!("/assets/console.js?v={VERSION}")) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (head(asked))
                main id="main" tabindex="-1" data-live[live] {
                    @if let Some(problem) = problem {
                        p.problem role="alert" { (visible(problem)) }
                    }
                    (body)
                }
            }
        }
    }
}

fn head(asked: &Asked<'_>) -> Markup {
    let here = asked.head.uri.path();
    let is_here = |place: &str| match place {
        "/" => here == "/",
        place => {
            here == place
                || here
                    .strip_prefix(place)
                    .is_some_and(|rest| rest.starts_with('/'))
        }
    };
    html! {
        header {
            a.name href="/" { "hoop" }
            @if let Some(person) = &asked.person {
                nav aria-label="Pages" {
                    @for (place, name, needs) in PLACES {
                        @if needs.met_by(&person.is.roles) {
                            a href=(place) aria-current=[is_here(place).then_some("page")] { (name) }
                        }
                    }
                }
                form.who method="post" action="/sign-out" {
                    (csrf(asked))
                    span title=(roles(&person.is.roles)) { (visible(&person.is.name)) }
                    button.quiet type="submit" { "Sign out" }
                }
            }
        }
    }
}

fn roles(roles: &[Role]) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    names.join(", ")
}
