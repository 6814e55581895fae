//! Who may do what: every route for every role, and for nobody. The table is written down here a
//! second time, so that a change of it is a change of two places.

use ::http::Method;

use super::{CSRF, Console, asked, text};
use crate::console::routes::{ROUTES, Route};
use crate::handover::console::Role;

const ANYBODY: &[&str] = &[
    "GET /sign-in",
    "GET /sign-in/local",
    "POST /sign-in/local",
    "GET /sign-in/issuer",
    "GET /sign-in/callback",
    "GET /assets/style.css",
    "GET /assets/console.js",
    "GET /assets/terminal.js",
    "GET /assets/player.js",
    "GET /favicon.ico",
    // Proved by what they bring.
    "POST /slack/interact",
    "GET /events/{issuer}/hook",
    "POST /events/{issuer}/hook",
    "POST /events/{issuer}/set",
];

const APPROVERS: &[&str] = &[
    "POST /approvals/{question}/vote",
    "POST /approvals/{question}/revoke",
    "POST /api/v1/approvals/{question}/vote",
    "POST /api/v1/approvals/{question}/revoke",
];

const AUDITORS: &[&str] = &["GET /audit", "GET /api/v1/audit"];

const ADMINS: &[&str] = &[
    "POST /sessions/{session}/kill",
    "POST /sessions/{session}/freeze",
    "POST /sessions/{session}/thaw",
    "POST /agents/{agent}/suspend",
    "POST /agents/{agent}/resume",
    "POST /api/v1/sessions/{session}/kill",
    "POST /api/v1/sessions/{session}/freeze",
    "POST /api/v1/sessions/{session}/thaw",
    "POST /api/v1/agents/{agent}/suspend",
    "POST /api/v1/agents/{agent}/resume",
];

fn may(name: &str, role: Role) -> bool {
    let among = |list: &[&str]| list.contains(&name);
    match role {
        _ if among(ANYBODY) => true,
        Role::Viewer => !among(APPROVERS) && !among(AUDITORS) && !among(ADMINS),
        Role::Approver => !among(AUDITORS) && !among(ADMINS),
        Role::Auditor => !among(APPROVERS) && !among(ADMINS),
        Role::Admin => true,
    }
}

/// How the route answers whoever has these roles.
async fn status(route: &Route, roles: Option<&[Role]>) -> (u16, String) {
    let console = Console::with(roles);
    let path = route
        .path
        .replace("{session}", "06c4b9d1s0abcdefghjkmnpqrs");
    let path: Vec<&str> = path
        .split('/')
        .map(|s| if s.starts_with('{') { "bot" } else { s })
        .collect();
    let form = match route.method == Method::POST {
        true => format!(
            "csrf={CSRF}&verdict=approve&reason=x&code=right&agent=bot&resource=orders&sql=SELECT+1&value=x"
        ),
        false => String::new(),
    };
    text(
        console
            .send(asked(route.method.clone(), &path.join("/"), &form))
            .await,
    )
    .await
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    for route in ROUTES {
        let name = format!("{} {}", route.method, route.path);
        for role in Role::ALL {
            let (status, said) = status(route, Some(&[role])).await;
            let refused = status == 403 && !ANYBODY.contains(&&*name);
            assert_eq!(
                refused,
                !may(&name, role),
                "{name} for {role:?}: {status} {said}"
            );
            assert_ne!(status, 500, "{name}");
        }
        // A session without any role, which a reload can bring about, is as good as none.
        for roles in [None, Some(&[][..])] {
            let (status, said) = status(route, roles).await;
            let open = ANYBODY.contains(&&*name);
            let sent_away = status == 401 || (status == 303 && said.starts_with("/sign-in"));
            if !open {
                assert!(sent_away, "{name} for nobody: {status} {said}");
            }
        }
    }
}

#[test]
fn the_second_table_names_routes_that_are() {
    let names: Vec<String> = ROUTES
        .iter()
        .map(|r| format!("{} {}", r.method, r.path))
        .collect();
    for name in [ANYBODY, APPROVERS, AUDITORS, ADMINS].concat() {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}
