//! Requests to API servers: what a report says of them, its permits, and other policies over them.

use super::super::policy::{ApiRequest, Verdict};
use super::super::report::{Kind, Row};
use super::{Scene, all, config};
use crate::config::Mode;
use crate::terminate::again::Lost;

const PODS: &str = "/api/v1/namespaces/shop/pods";

fn rows(scene: &Scene) -> Vec<Row> {
    let report =
        super::super::report::report(&scene.directory(), &scene.config, true, &all(), 50).unwrap();
    assert_eq!(report.totals.unreadable, 0);
    report.rows
}

fn only<'r>(rows: &'r [Row], shape: &str) -> &'r Row {
    let mut found = rows.iter().filter(|row| row.shape == shape);
    let row = found.next().unwrap_or_else(|| panic!("{shape}: {rows:#?}"));
    assert_eq!(found.next(), None);
    row
}

/// What becomes of requests where a row's permit is among the policies.
fn says<'s>(scene: &'s Scene, row: &Row) -> impl Fn(&str, &str, &str) -> Verdict + use<'s> {
    let permit = row.permit.clone();
    let permit = permit.unwrap_or_else(|| panic!("no permit: {:?}", row.no_permit));
    let tester = scene.tester(&permit, "prod");
    move |method, target, body| {
        let mut request = ApiRequest::of(&format!("{method} {target}")).unwrap();
        if !body.is_empty() {
            request = request.with_body(None, body.into());
        }
        tester.request(&request).unwrap().verdict
    }
}

fn pod(image: &str, more: &str) -> String {
    format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"a\"}},\
         \"spec\":{{{more}\"containers\":[{{\"name\":\"c\",\"image\":\"{image}\"}}]}}}}"
    )
}

#[test]
fn a_permit_is_for_the_verb_the_kind_the_place_and_what_was_named() {
    let mut scene = Scene::new(&["read-only"], "");
    scene.session("prod", Mode::Enforce, |live| {
        live.api("DELETE", &format!("{PODS}/web-1"), "");
        live.api("DELETE", &format!("{PODS}/web-2"), "");
        live.api("POST", PODS, &pod("app:1", ""));
        live.api("POST", PODS, &pod("app:2", ""));
        live.api("GET", &format!("{PODS}/web-1"), "");
    });
    let rows = rows(&scene);
    let row = only(&rows, "delete pods in shop");
    assert_eq!((row.count, row.kind), (2, Kind::Refused));
    let then = says(&scene, row);
    assert_eq!(then("DELETE", &format!("{PODS}/web-2"), ""), Verdict::Allow);
    for neighbour in [
        format!("{PODS}/web-3"),
        PODS.to_owned(),
        "/api/v1/namespaces/till/pods/web-1".to_owned(),
        "/api/v1/namespaces/shop/services/web-1".to_owned(),
        format!("{PODS}/web-1?gracePeriodSeconds=0"),
    ] {
        let verdict = then("DELETE", &neighbour, "");
        assert_eq!(verdict, Verdict::Refuse, "{neighbour}");
    }
    let row = only(&rows, "create pods in shop");
    assert_eq!(row.count, 2);
    let then = says(&scene, row);
    assert_eq!(then("POST", PODS, &pod("app:1", "")), Verdict::Allow);
    for neighbour in [
        pod("other", ""),
        pod("app:1", "\"hostNetwork\":true,"),
        pod("app:1", "\"serviceAccountName\":\"admin\","),
        "{".to_owned(),
    ] {
        assert_eq!(
            then("POST", PODS, &neighbour),
            Verdict::Refuse,
            "{neighbour}"
        );
    }
}

#[test]
fn a_permit_of_exec_is_for_the_commands_that_ran() {
    let mut scene = Scene::new(&[], "");
    let exec = |command: &str| format!("{PODS}/web-1/exec?command={command}&stdout=true");
    scene.session("prod", Mode::Enforce, |live| {
        live.api("POST", &exec("date"), "");
        live.api("POST", &exec("sh"), "");
        live.api("GET", "/healthz", "");
        live.api("GET", &format!("{PODS}/web-1/proxy/metrics"), "");
        live.api("GET", "/api/v1/namespaces/shop/pods/web-1/log", "");
    });
    let rows = rows(&scene);
    let row = only(&rows, "create pods/exec in shop: date");
    let then = says(&scene, row);
    assert_eq!(then("POST", &exec("date"), ""), Verdict::Allow);
    for neighbour in [
        exec("id"),
        format!("{}&stdin=true", exec("date")),
        format!("{}&tty=true", exec("date")),
        exec("date").replace("web-1", "web-2"),
    ] {
        let verdict = then("POST", &neighbour, "");
        assert_eq!(verdict, Verdict::Refuse, "{neighbour}");
    }
    let shell = only(
        &rows,
        "create pods/exec in shop: sh, (more that is not seen)",
    );
    assert_eq!(shell.permit, None);
    assert!(shell.no_permit.as_ref().unwrap().contains("k8s:unknown"));
    let then = says(&scene, only(&rows, "get /healthz"));
    assert_eq!(then("GET", "/healthz", ""), Verdict::Allow);
    assert_eq!(then("GET", "/metrics", ""), Verdict::Refuse);
    assert_eq!(then("POST", "/healthz", ""), Verdict::Refuse);
    let then = says(&scene, only(&rows, "get pods/proxy in shop"));
    let behind = format!("{PODS}/web-1/proxy/metrics");
    assert_eq!(then("GET", &behind, ""), Verdict::Allow);
    assert_eq!(then("DELETE", &behind, ""), Verdict::Refuse);
    let then = says(&scene, only(&rows, "get pods/log in shop"));
    let log = format!("{PODS}/web-1/log");
    assert_eq!(then("GET", &log, ""), Verdict::Allow);
    assert_eq!(then("GET", &format!("{PODS}/web-1"), ""), Verdict::Refuse);
}

#[test]
fn requests_are_decided_again_under_other_policies() {
    let mut scene = Scene::new(&["ask-before-write"], "");
    let large = pod(&"x".repeat(20 << 10), "");
    scene.session("prod", Mode::Enforce, |live| {
        live.api("GET", PODS, "");
        live.api("DELETE", &format!("{PODS}/web-1"), "");
        live.api("POST", PODS, &pod("app:1", ""));
        live.api("POST", PODS, &large);
        live.api(
            "POST",
            "/api/v1/namespaces/shop/secrets",
            "{\"kind\":\"Secret\",\"apiVersion\":\"v1\"}",
        );
    });
    let replayed = |packs: &[&str], policy: &str| {
        let other = config(packs, policy);
        super::super::changes::changes(&scene.directory(), &scene.config, &other, &all()).unwrap()
    };
    let same = replayed(&["ask-before-write"], "");
    assert_eq!(same.changes, []);
    // Nobody sees the whole of a large body, nor anything of a Secret's.
    assert_eq!(same.totals.not_decided.get(&Lost::Cut), Some(&1));
    assert_eq!(same.totals.not_decided.get(&Lost::Redacted), Some(&1));
    assert_eq!(same.totals.decided, 3);
    let policy =
        "@id(\"none-gone\") forbid (principal, action == Action::\"k8s:delete\", resource);";
    let other = replayed(&["ask-before-write"], policy);
    let [change] = other.changes.as_slice() else {
        panic!("{:#?}", other.changes)
    };
    assert_eq!(
        (change.was, change.becomes),
        (Verdict::Ask, Verdict::Refuse)
    );
    assert_eq!(change.shape, "delete pods in shop");
    assert_eq!(change.becomes_by, ["none-gone"]);
}
