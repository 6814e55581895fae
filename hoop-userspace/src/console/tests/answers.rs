//! What is answered: forms that count and forms that do not, and what no answer may carry.

use ::http::{Method, Request};
use bytes::Bytes;
use http_body_util::Full;

use super::{CSRF, Console, TOKEN, asked, text};
use crate::ask::Verdict;
use crate::handover::console::{Role, Wish};

fn changed(
    mut request: Request<Full<Bytes>>,
    header: &'static str,
    value: Option<&str>,
) -> Request<Full<Bytes>> {
    match value {
        Some(value) => {
            request.headers_mut().insert(header, value.parse().unwrap());
        }
        None => {
            request.headers_mut().remove(header);
        }
    }
    request
}

fn vote() -> Request<Full<Bytes>> {
    let form = format!("verdict=refuse&reason=no&csrf={CSRF}");
    asked(Method::POST, "/approvals/q1/vote", &form)
}

#[tokio::test]
async fn an_answer_counts_only_from_the_sessions_own_page() {
    let console = Console::with(Some(&[Role::Approver]));
    let refused = [
        changed(vote(), "origin", Some("https://evil.example")),
        changed(vote(), "origin", Some("null")),
        changed(vote(), "origin", None),
        changed(vote(), "host", Some("evil.example")),
        changed(
            changed(vote(), "origin", None),
            "sec-fetch-site",
            Some("cross-site"),
        ),
        changed(
            changed(vote(), "origin", None),
            "sec-fetch-site",
            Some("same-site"),
        ),
        changed(vote(), "content-type", Some("text/plain")),
        changed(
            vote(),
            "cookie",
            Some("__Host-hoop=0000000000000000000000000000000000000000000"),
        ),
        changed(vote(), "cookie", None),
        asked(
            Method::POST,
            "/approvals/q1/vote",
            "verdict=refuse&reason=no",
        ),
        asked(
            Method::POST,
            "/approvals/q1/vote",
            "verdict=refuse&reason=no&csrf=00",
        ),
        asked(
            Method::GET,
            "/approvals/q1/vote?verdict=refuse&reason=no",
            "",
        ),
    ];
    for request in refused {
        let shown = format!("{request:?}");
        let (status, said) = text(console.send(request).await).await;
        assert!(
            status >= 400 || said == "/sign-in",
            "{status} {said} {shown}"
        );
    }
    let votes = |wish: &Wish| matches!(wish, Wish::Vote { .. });
    assert!(!console.keeper.granted().iter().any(votes));

    let (status, place) = text(console.send(vote()).await).await;
    assert_eq!((status, &*place), (303, "/approvals/q1"));
    let expected = Wish::Vote {
        question: "q1".into(),
        verdict: Verdict::Refuse,
        reason: "no".into(),
        break_glass: false,
    };
    assert!(console.keeper.granted().contains(&expected));
}

#[tokio::test]
async fn the_api_takes_json_and_says_what_is_wrong() {
    let console = Console::with(Some(&[Role::Admin]));
    let call = |body: &str, token: &str| {
        let request = asked(Method::POST, "/api/v1/sessions/06c4/kill", body);
        let request = changed(request, "content-type", Some("application/json"));
        changed(request, "x-hoop-csrf", Some(token))
    };
    let good = CSRF;
    let (status, said) = text(console.send(call("{}", good)).await).await;
    assert_eq!(
        (status, &*said),
        (422, "{\"error\":\"this needs a reason\"}")
    );
    let (status, _) = text(console.send(call("{\"reason\":\"x\"}", "0")).await).await;
    assert_eq!(status, 422);
    let (status, said) = text(console.send(call("{\"reason\":\"x\"}", good)).await).await;
    assert_eq!(
        (status, &*said),
        (200, "{\"session\":\"06c4\",\"killed\":true}")
    );
    let (status, said) = Console::with(None).get("/api/v1/status").await;
    assert_eq!(
        (status, &*said),
        (401, "{\"error\":\"nobody is signed in\"}")
    );
    assert_eq!(console.get("/api/v1/nothing").await.0, 404);
}

#[tokio::test]
async fn nothing_that_an_agent_wrote_becomes_markup() {
    let console = Console::with(Some(&Role::ALL));
    for path in ["/", "/approvals", "/approvals?all=1", "/approvals/q1"] {
        let (status, page) = console.get(path).await;
        assert_eq!(status, 200, "{path}: {page}");
        for bad in [
            "<script>alert",
            "<b>",
            "<i>",
            "<x>",
            "<3>",
            "\u{202e}",
            " style=",
            " onclick=",
        ] {
            assert!(!page.contains(bad), "{bad:?} in {path}");
        }
        assert!(page.starts_with("<!DOCTYPE html>"));
    }
    // What goes past hoop is said first, whatever is written in its reason.
    let (_, page) = console.get("/").await;
    assert!(page.contains("the glass is broken for bot") && page.contains("badge bad\">bypassed"));
    assert!(page.contains("&lt;the issuer is down&gt;"));
    let (_, page) = console.get("/approvals/q1").await;
    assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("\\u{202e}"));
    // Whoever reads no colours has the signs, and whoever hears the page the elements.
    let put = "<ins>+a: \\u{202e}&lt;script&gt;alert(2)&lt;/script&gt;</ins>";
    assert!(
        page.contains(put) && page.contains("<del>-a: &lt;i&gt;</del>"),
        "{page}"
    );
    assert!(page.contains("It would change &lt;b&gt;this&lt;/b&gt;."));
}

#[tokio::test]
async fn every_answer_forbids_what_no_page_needs() {
    let console = Console::with(Some(&[Role::Viewer]));
    for path in [
        "/",
        "/sign-in",
        "/assets/console.js",
        "/nothing",
        "/api/v1/status",
    ] {
        let answer = console.send(asked(Method::GET, path, "")).await;
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .map(|v| v.to_str().unwrap().to_owned())
        };
        let policy = header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"));
        assert!(header("strict-transport-security").is_some(), "{path}");
        let kept = header("cache-control").unwrap();
        assert_eq!(
            kept == "no-store",
            !path.starts_with("/assets"),
            "{path}: {kept}"
        );
    }
}

#[tokio::test]
async fn a_code_signs_in_with_a_cookie_that_no_script_reads() {
    let console = Console::with(None);
    let (status, page) = console.get("/sign-in/local?code=right").await;
    assert_eq!(status, 200);
    assert!(page.contains("value=\"right\""));
    assert!(
        console.keeper.granted().is_empty(),
        "looking uses nothing up"
    );
    let (status, _) = console.post("/sign-in/local", "code=wrong").await;
    assert_eq!(status, 422);
    let answer = console
        .send(asked(Method::POST, "/sign-in/local", "code=right"))
        .await;
    let cookie = answer
        .headers()
        .get("set-cookie")
        .unwrap()
        .to_str()
        .unwrap();
    let expected =
        format!("__Host-hoop={TOKEN}; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure");
    assert_eq!(cookie, expected);
    // Whoever guesses has few guesses.
    let mut last = 0;
    for _ in 0..30 {
        last = console.post("/sign-in/local", "code=wrong").await.0;
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn after_signing_in_one_is_where_one_wanted_to_be_and_nowhere_else() {
    let console = Console::with(Some(&[Role::Viewer]));
    for (next, place) in [
        ("/approvals/q1", "/approvals/q1"),
        ("https://evil.example", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("", "/"),
    ] {
        let path = format!("/sign-in?next={}", crate::console::act::segment(next));
        assert_eq!(console.get(&path).await, (303, place.to_owned()));
    }
    let nobody = Console::with(None);
    let (status, place) = nobody.get("/approvals?all=1").await;
    assert_eq!(
        (status, &*place),
        (303, "/sign-in?next=%2Fapprovals%3Fall%3D1")
    );
}

#[tokio::test]
async fn what_is_too_large_or_too_often_is_not_taken() {
    let console = Console::with(Some(&[Role::Approver]));
    let large = "x".repeat(60 << 10);
    assert_eq!(console.post("/approvals/q1/vote", &large).await.0, 413);
    let mut last = 0;
    for _ in 0..250 {
        last = console.get("/favicon.ico").await.0;
    }
    assert_eq!(last, 429);
}
