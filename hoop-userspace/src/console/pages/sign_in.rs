//! The ways in.

use maud::{Markup, html};

use super::layout::layout;
use crate::console::act::segment;
use crate::console::serve::Asked;
use crate::console::text::visible;

/// Which ways there are, and why the last one did not lead in.
pub fn sign_in(asked: &Asked<'_>, why: Option<&str>) -> Markup {
    let next = asked.query.get("next");
    let issuer = asked
        .site
        .oidc
        .as_ref()
        .map(|_| format!("/sign-in/issuer?next={}", segment(next)));
    let name = asked
        .site
        .config
        .console
        .as_ref()
        .and_then(|console| console.sign_in.as_ref());
    let name = name.map_or_else(String::new, |sign_in| sign_in.issuer.to_string());
    let body = html! {
        section.narrow {
            h1 { "Sign in" }
            @if let Some(why) = why {
                p.problem role="alert" { (visible(why)) }
            }
            @if let Some(issuer) = issuer {
                p { a.button href=(issuer) { "Sign in with " (name) } }
            }
            p.note {
                "On the host itself, " code { "hoop console login" }
                " prints an address that signs in whoever runs it."
            }
        }
    };
    layout(asked, "Sign in", None, &body)
}

/// The page behind a code: by GET it uses nothing up, so that whatever looks at addresses does not.
pub fn code(asked: &Asked<'_>) -> Markup {
    let body = html! {
        section.narrow {
            h1 { "Sign in as the account that asked" }
            form method="post" action="/sign-in/local" {
                input type="hidden" name="code" value=(asked.query.get("code"));
                button type="submit" { "Sign in" }
            }
            p.note { "The address works once, and for two minutes." }
        }
    };
    layout(asked, "Sign in", None, &body)
}
