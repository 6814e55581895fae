//! Which verdicts other policies change, and what cannot be decided again.

use super::super::changes::{Change, Changes};
use super::super::policy::Verdict;
use super::{Scene, all, config};
use crate::config::Mode;
use crate::terminate::SqlText;
use crate::terminate::again::Lost;
use crate::wire::ssh::channel::Message;

fn replayed(scene: &Scene, packs: &[&str], policy: &str) -> Changes {
    let other = config(packs, policy);
    super::super::changes::changes(&scene.directory(), &scene.config, &other, &all()).unwrap()
}

fn verdicts(change: &Change) -> (Verdict, Verdict) {
    (change.was, change.becomes)
}

const NO_DELETES: &str = "@id(\"no-deletes\") forbid (principal, action in Action::\"sql\", resource)\n\
    when { context.verb == \"DELETE\" };";

fn mixed() -> Scene {
    let mut scene = Scene::new(&["ask-before-write"], "");
    for n in 0..3 {
        scene.session("orders", Mode::Enforce, |live| {
            live.sql("SELECT * FROM public.users WHERE id = 's3cret'");
            live.sql(&format!("DELETE FROM public.users WHERE id = {n}"));
            live.prepared("SELECT * FROM public.users");
            live.sql("SELECT pay_out()");
        });
    }
    scene.session("orders", Mode::Observe, |live| {
        live.sql("DELETE FROM public.users WHERE id = 7");
    });
    scene.session("web", Mode::Enforce, |live| {
        live.exec("ls /srv");
        live.exec("rm /srv/x");
        live.ssh(Message::Shell);
    });
    scene
}

#[test]
fn the_same_policies_change_nothing() {
    let scene = mixed();
    let found = replayed(&scene, &["ask-before-write"], "");
    assert_eq!(found.changes, []);
    assert_eq!((found.totals.decided, found.totals.changed), (16, 0));
    assert!(found.totals.not_decided.is_empty(), "{:?}", found.totals);
    assert_eq!(found.totals.unreadable, 0);
}

#[test]
fn each_verdict_that_changes_is_told_with_where_it_was() {
    let scene = mixed();
    let found = replayed(&scene, &["ask-before-write"], NO_DELETES);
    // Three that were asked about and one that was observed: the same shape and the same verdicts.
    let [change] = found.changes.as_slice() else {
        panic!("{:#?}", found.changes)
    };
    assert_eq!(verdicts(change), (Verdict::Ask, Verdict::Refuse));
    assert_eq!((change.count, change.sessions), (4, 4));
    assert_eq!(change.configured, Verdict::Ask);
    assert_eq!(change.shape, "delete from public.users where id = ?");
    assert_eq!(change.was_by, ["ask-before-write"]);
    assert_eq!(change.becomes_by, ["no-deletes"]);
    assert_eq!(change.code.as_deref(), Some("forbidden"));
    assert_eq!(change.example.exchange, 2);
    assert_eq!(found.totals.changed, 4);

    let found = replayed(&scene, &["read-only"], "");
    let told: Vec<_> = found
        .changes
        .iter()
        .map(|c| (c.shape.as_str(), verdicts(c)))
        .collect();
    assert_eq!(
        told,
        [
            (
                "delete from public.users where id = ?",
                (Verdict::Ask, Verdict::Refuse)
            ),
            ("rm", (Verdict::Ask, Verdict::Refuse)),
        ]
    );
    let json = serde_json::to_string(&found.changes).unwrap();
    assert!(!json.contains("s3cret"), "{json}");
}

#[test]
fn what_the_configured_policies_say_by_now_is_told_beside() {
    let mut scene = Scene::new(&["read-only"], "");
    scene.session("orders", Mode::Enforce, |live| live.sql("DELETE FROM t"));
    // Since then somebody has permitted it.
    scene.config = config(&[], "permit (principal, action, resource);");
    let found = replayed(&scene, &[], "permit (principal, action, resource);");
    assert_eq!(
        (found.changes[0].becomes, found.changes[0].configured),
        (Verdict::Allow, Verdict::Allow)
    );
}

#[test]
fn what_an_approval_covers_is_no_change() {
    let ask = "@id(\"ask\") @approvers(\"dba\") @scope(\"session\")\n\
        permit (principal, action in Action::\"sql\", resource);";
    let mut scene = Scene::new(&[], ask);
    scene.session("orders", Mode::Enforce, |live| {
        live.sql("SELECT 1");
        live.answer(2, "approved");
        // As the loop forwards what an approval for the session covers: permitted by the rule that asks.
        let permissive = config(&[], "@id(\"ask\") permit (principal, action, resource);");
        let decider = crate::decide::Decider::new(&permissive).unwrap();
        let text = "SELECT 2";
        let mut wire = bytes::BytesMut::new();
        super::message(&mut wire, b'Q', format!("{text}\0").as_bytes());
        let unit = super::unit(wire.len(), crate::terminate::SqlStep::Simple, text);
        let request = crate::terminate::Request {
            exchange: crate::ids::ExchangeId(2),
            wire: wire.freeze(),
            units: smallvec::smallvec![unit],
        };
        let decided = decider.decide(&live.subject, request);
        live.take(decided, true);
    });
    let found = replayed(&scene, &[], ask);
    assert_eq!((found.totals.decided, found.totals.changed), (2, 0));
}

#[test]
fn a_question_to_other_people_is_a_change() {
    let ask = "@id(\"ask\") @approvers(\"dba\")\n\
        permit (principal, action in Action::\"sql\", resource);";
    let mut scene = Scene::new(&[], ask);
    scene.session("orders", Mode::Enforce, |live| live.sql("SELECT 1"));
    // Written otherwise, it demands the same.
    let same = ask.replace("resource)", "resource) when { true }");
    assert_eq!(replayed(&scene, &[], &same).totals.changed, 0);
    for (other, told) in [
        (
            ask.replace("dba", "everybody"),
            "ask: everybody for each statement",
        ),
        (
            format!("@scope(\"session\") {ask}"),
            "ask: dba for each session",
        ),
        (
            ask.replace("\"ask\"", "\"also\""),
            "also: dba for each statement",
        ),
    ] {
        let found = replayed(&scene, &[], &other);
        let [change] = found.changes.as_slice() else {
            panic!("{other}: {:#?}", found.changes)
        };
        assert_eq!(verdicts(change), (Verdict::Ask, Verdict::Ask));
        assert_eq!(change.demands, [told]);
    }
}

#[test]
fn a_rule_that_permitted_and_now_asks_is_a_change() {
    let permits = "@id(\"all\") permit (principal, action in Action::\"sql\", resource);";
    let mut scene = Scene::new(&[], permits);
    scene.session("orders", Mode::Enforce, |live| {
        live.sql("SELECT * FROM public.users");
    });
    let asks = format!("@approvers(\"dba\") {permits}");
    let found = replayed(&scene, &[], &asks);
    let [change] = found.changes.as_slice() else {
        panic!("{:#?}", found.changes)
    };
    assert_eq!(verdicts(change), (Verdict::Allow, Verdict::Ask));
    assert_eq!(
        (change.was_by.as_slice(), change.becomes_by.as_slice()),
        (&["all".to_owned()][..], &["all".to_owned()][..])
    );
}

#[test]
fn what_was_masked_is_not_decided_as_something_else() {
    let mut scene = Scene::new(&["no-destroy"], "");
    scene
        .config
        .masks
        .iter_mut()
        .for_each(|mask| mask.resource = "web".into());
    scene.session("web", Mode::Enforce, |live| {
        live.exec("ls /srv/ann@example.com");
        live.exec("rm -rf /srv/ann@example.com");
        live.exec("ls /srv");
    });
    let found = replayed(&scene, &["no-destroy"], "");
    assert_eq!(found.changes, []);
    let lost = found.totals.not_decided.get(&Lost::Redacted).copied();
    assert_eq!(
        (found.totals.decided, lost),
        (1, Some(2)),
        "{:?}",
        found.totals
    );
}

#[test]
fn a_name_that_was_taken_does_not_stand_for_another_text() {
    let policy = "permit (principal, action, resource);";
    let mut scene = Scene::new(&[], policy);
    scene.session("orders", Mode::Enforce, |live| {
        // Prepared under the name before; the server refuses to prepare another.
        let mut wire = bytes::BytesMut::new();
        super::message(&mut wire, b'P', b"s\0SELECT 1\0\0\0");
        let first = wire.len();
        super::message(&mut wire, b'B', b"\0s\0\0\0\0\0\0\0");
        let second = wire.len();
        super::message(&mut wire, b'E', b"\0\0\0\0\0");
        let control = crate::terminate::Unit {
            end: second,
            asked: crate::terminate::Asked::Control,
        };
        let units = vec![
            super::unit(first, crate::terminate::SqlStep::Prepare, "SELECT 1"),
            control,
            super::unit(wire.len(), crate::terminate::SqlStep::Run, "DELETE FROM t"),
        ];
        let decided = live.ask(wire.freeze(), units);
        live.take(decided, false);
    });
    let found = replayed(&scene, &[], policy);
    let lost = found.totals.not_decided.get(&Lost::Name).copied();
    assert_eq!((found.totals.decided, lost), (0, Some(1)));
}

#[test]
fn what_cannot_be_decided_again_is_counted_by_why() {
    let policy = "permit (principal, action, resource);\n\
        permit (principal, action == Action::\"sql:unknown\", resource);";
    let mut scene = Scene::new(&[], policy);
    scene.session("orders", Mode::Enforce, |live| {
        // Longer than a recording keeps.
        live.sql(&format!("SELECT '{}'", "x".repeat(5 << 20)));
        let refusal = crate::decide::Refusal {
            asked: Some(SqlText::hashed("x".repeat(2 << 20))),
            code: crate::decide::Code::Forbidden,
            ..crate::decide::Refusal::destination("bot", "10.0.0.1:5432", "none")
        };
        live.recorder.refusal(refusal).unwrap();
        // Not quoted, and so another statement once it is masked.
        live.sql("SELECT \"ann@example.com\" FROM t");
        live.sql("SELECT 'ann@example.com'");
        live.sql("SELECT a FROM t");
        let refusal = crate::decide::Refusal::destination("bot", "10.0.0.1:5432", "none");
        live.recorder.refusal(refusal).unwrap();
        let refusal = crate::decide::Refusal {
            asked: Some(SqlText::hashed("SELECT note FROM copied")),
            code: crate::decide::Code::MaskedRead,
            ..crate::decide::Refusal::destination("bot", "10.0.0.1:5432", "none")
        };
        live.recorder.refusal(refusal).unwrap();
    });
    let found = replayed(&scene, &[], policy);
    let count = |why| found.totals.not_decided.get(&why).copied();
    assert_eq!(count(Lost::Cut), Some(2), "{:?}", found.totals);
    assert_eq!(count(Lost::NoPolicy), Some(1), "{:?}", found.totals);
    assert_eq!(count(Lost::Masks), Some(1), "{:?}", found.totals);
    assert_eq!(count(Lost::Redacted), Some(1), "{:?}", found.totals);
    assert_eq!(found.totals.changed, 0, "{:#?}", found.changes);
    let active = "permit (principal, action, resource) when { context.activity.session.rows < 5 };";
    let active = active.replace("action,", "action in Action::\"sql\",");
    let found = replayed(&scene, &[], &active);
    assert!(found.totals.activity);
    assert!(found.totals.without_catalog > 0);
}
