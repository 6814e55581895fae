//! Whole requests: units, prefixes, candidates, modes.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::*;
use crate::ask::Approval;
use crate::ids::ExchangeId;
use crate::terminate::{Asked, Parameter, Request, SqlAsked, SqlStep, SqlText, Undecidable, Unit};

fn sql(step: SqlStep, candidates: &[&str]) -> Asked {
    Asked::Sql(SqlAsked {
        step,
        candidates: candidates
            .iter()
            .map(|sql| text(sql))
            .collect::<SmallVec<[Arc<SqlText>; 1]>>(),
        parameters: Arc::default(),
    })
}

/// Ten bytes for each unit.
fn request(units: Vec<Asked>) -> Request {
    let units: SmallVec<[Unit; 6]> = units
        .into_iter()
        .enumerate()
        .map(|(at, asked)| Unit {
            end: (at + 1) * 10,
            asked,
        })
        .collect();
    let wire: Vec<u8> = (0..units.len() * 10).map(|at| at as u8).collect();
    Request {
        exchange: ExchangeId(9),
        wire: Bytes::from(wire),
        units,
    }
}

fn read_only() -> Decider {
    decider(&["read-only"], &[], &[])
}

#[test]
fn a_permitted_request_keeps_its_bytes() {
    let decided = read_only().decide(
        &subject(),
        request(vec![
            sql(SqlStep::Prepare, &["SELECT 1"]),
            sql(SqlStep::Run, &["SELECT 1"]),
            Asked::Control,
        ]),
    );
    let Decided::Permitted(permitted) = decided else {
        panic!("{decided:?}")
    };
    assert_eq!(permitted.wire().len(), 30);
    assert_eq!(permitted.exchange(), ExchangeId(9));
    assert_eq!(permitted.epochs(), subject().epochs);
    assert_eq!(permitted.session(), subject().session);
    let rules: Vec<_> = permitted.units().iter().map(|u| u.rules.len()).collect();
    assert_eq!(rules, [1, 1, 0]);
    assert!(permitted.units()[2].statement.is_none());
}

#[test]
fn what_is_before_a_refused_unit_may_go() {
    let units = vec![
        Asked::Control,
        sql(SqlStep::Run, &["SELECT 1"]),
        sql(SqlStep::Run, &["DELETE FROM a"]),
        Asked::Control,
    ];
    let decided = read_only().decide(&subject(), request(units));
    let Decided::Refused {
        before: Some(before),
        refusal,
    } = decided
    else {
        panic!("{decided:?}")
    };
    assert_eq!((before.wire().len(), before.units().len()), (20, 2));
    assert_eq!((refusal.unit, refusal.exchange), (2, ExchangeId(9)));
    assert_eq!(&*refusal.asked.unwrap().text, "DELETE FROM a");

    let decided = read_only().decide(
        &subject(),
        request(vec![sql(SqlStep::Simple, &["DELETE FROM a"])]),
    );
    assert!(matches!(decided, Decided::Refused { before: None, .. }));
}

#[test]
fn every_candidate_must_be_permitted() {
    let run = |candidates: &[&str]| {
        read_only().decide(&subject(), request(vec![sql(SqlStep::Run, candidates)]))
    };
    assert!(matches!(
        run(&["SELECT 1", "DELETE FROM a"]),
        Decided::Refused { .. }
    ));
    assert!(matches!(
        run(&["DELETE FROM a", "SELECT 1"]),
        Decided::Refused { .. }
    ));
    assert!(matches!(run(&[]), Decided::Refused { .. }));
    let Decided::Permitted(both) = run(&["SELECT * FROM a", "SELECT * FROM b"]) else {
        panic!()
    };
    let facts = both.units()[0].statement.as_ref().unwrap();
    assert_eq!(facts.reads.len(), 2, "either may be the one that runs");
}

#[test]
fn questions_come_when_it_runs() {
    let decider = decider(&["ask-before-write"], &[], &[]);
    let decide = |units| decider.decide(&subject(), request(units));
    let prepared = decide(vec![sql(SqlStep::Prepare, &["DELETE FROM a"])]);
    assert!(
        matches!(prepared, Decided::Permitted(_)),
        "nothing runs yet"
    );
    let refused = decide(vec![sql(SqlStep::Prepare, &["SELECT pay()"])]);
    assert!(
        matches!(refused, Decided::Refused { .. }),
        "what is refused is refused at once"
    );

    let asked = decide(vec![
        sql(SqlStep::Run, &["SELECT 1"]),
        sql(SqlStep::Prepare, &["DELETE FROM a"]),
        Asked::Control,
        sql(SqlStep::Run, &["DELETE FROM a"]),
        Asked::Control,
    ]);
    let Decided::Ask {
        before: Some(before),
        question,
    } = asked
    else {
        panic!("{asked:?}")
    };
    assert_eq!(before.wire().len(), 10);
    let texts: Vec<_> = question
        .waiting()
        .map(|w| w.text.text.to_string())
        .collect();
    assert_eq!(texts, ["DELETE FROM a"]);
    let [demand] = &question.demands()[..] else {
        panic!("{question:?}")
    };
    assert_eq!(demand.groups, [["hoop-approvers"]]);
    assert!(question.message().contains("DELETE on table a"));
    let approval = Approval::for_test(*question.digest());
    let held = question.settle(subject().epochs, approval).unwrap();
    assert_eq!(
        (&held.wire()[..2], held.wire().len(), held.first()),
        (&[10, 11][..], 40, 1),
        "held from what prepares it"
    );
    assert_eq!(held.units().len(), 4);

    let Decided::Ask { question, .. } = decide(vec![sql(SqlStep::Run, &["DELETE FROM a"])]) else {
        panic!()
    };
    let refusal = question.unavailable("everybody sleeps");
    assert_eq!(
        (refusal.code, refusal.retry, refusal.unit),
        (Code::ApprovalUnavailable, Retry::AfterApproval, 0)
    );
    assert!(refusal.message.contains("everybody sleeps"));

    let hopeless = decide(vec![
        sql(SqlStep::Run, &["DELETE FROM a"]),
        sql(SqlStep::Run, &["SELECT pay()"]),
    ]);
    let Decided::Refused {
        before: None,
        refusal,
    } = hopeless
    else {
        panic!("{hopeless:?}")
    };
    assert_eq!(
        (refusal.code, refusal.unit),
        (Code::NotPermitted, 0),
        "nobody is asked in vain"
    );
}

#[test]
fn a_question_is_settled_by_its_own_approval_under_its_own_rules() {
    let decider = decider(&["ask-before-write"], &[], &[]);
    let ask_as = |sql_text: &str, value: Option<&'static [u8]>, declared| {
        let asked = SqlAsked {
            step: SqlStep::Run,
            candidates: [text(sql_text)].into_iter().collect(),
            parameters: Arc::new([Parameter {
                binary: false,
                declared,
                value: value.map(Bytes::from_static),
            }]),
        };
        match decider.decide(&subject(), request(vec![Asked::Sql(asked)])) {
            Decided::Ask { question, .. } => question,
            other => panic!("{other:?}"),
        }
    };
    let ask = |sql_text: &str, value| ask_as(sql_text, value, 0);
    let delete = "DELETE FROM a WHERE id = $1";
    let digest = |q: &Question| *q.digest();
    let one = digest(&ask(delete, Some(b"1")));
    assert_eq!(digest(&ask(delete, Some(b"1"))), one);
    assert_ne!(
        digest(&ask_as(delete, Some(b"1"), 25)),
        one,
        "of another type"
    );
    for other in [
        ask(delete, Some(b"2")),
        ask(delete, None),
        ask(delete, Some(b"null")),
        ask("DELETE FROM a WHERE id = $1 ", Some(b"1")),
    ] {
        assert_ne!(digest(&other), one);
        assert!(
            other
                .settle(subject().epochs, Approval::for_test(one))
                .is_err()
        );
    }
    let later = Epochs {
        policy: 9,
        ..subject().epochs
    };
    let question = ask(delete, Some(b"1"));
    let question = question.settle(later, Approval::for_test(one)).unwrap_err();
    // Decided again, it asks again.
    let now = Subject {
        epochs: later,
        ..subject()
    };
    let Decided::Ask { question, .. } = decider.decide_again(&now, *question) else {
        panic!()
    };
    assert!(question.settle(later, Approval::for_test(one)).is_ok());
}

#[test]
fn observing_lets_pass_and_says_what_it_would_refuse() {
    let observer = Subject {
        mode: Mode::Observe,
        ..subject()
    };
    let units = vec![
        sql(SqlStep::Run, &["SELECT 1"]),
        sql(SqlStep::Run, &["DELETE FROM a"]),
        sql(SqlStep::Simple, &["SELEC"]),
        Asked::FunctionCall { oid: 1598 },
        Asked::Undecidable(Undecidable::NotUtf8),
    ];
    let decided = read_only().decide(&observer, request(units));
    let Decided::Permitted(permitted) = decided else {
        panic!("{decided:?}")
    };
    let marks: Vec<_> = permitted
        .units()
        .iter()
        .map(|u| u.would_refuse.as_ref().map(|r| (r.code, r.unit)))
        .collect();
    assert_eq!(
        marks,
        [
            None,
            Some((Code::NotPermitted, 1)),
            Some((Code::Unparsable, 2)),
            Some((Code::NotPermitted, 3)),
            Some((Code::Unparsable, 4)),
        ]
    );
    assert!(
        permitted.units()[2].statement.as_ref().unwrap().opaque,
        "the masks must know"
    );

    let asking = decider(&["ask-before-write"], &[], &[]).decide(
        &observer,
        request(vec![sql(SqlStep::Run, &["DELETE FROM a"])]),
    );
    let Decided::Permitted(permitted) = asking else {
        panic!("{asking:?}")
    };
    assert_eq!(
        permitted.units()[0].would_refuse.as_ref().unwrap().code,
        Code::ApprovalUnavailable
    );

    let lost = Asked::Undecidable(Undecidable::TooLarge { bytes: 9, most: 8 });
    let decided = read_only().decide(&observer, request(vec![lost]));
    assert!(
        matches!(decided, Decided::Refused { .. }),
        "what was not kept cannot be forwarded"
    );
}

#[test]
fn large_objects_by_number_are_decided_as_by_name() {
    let call = |oid| read_only().decide(&subject(), request(vec![Asked::FunctionCall { oid }]));
    // lo_open, loread
    for oid in [952, 954] {
        assert!(matches!(call(oid), Decided::Permitted(_)), "{oid}");
    }
    // lowrite, lo_unlink, lo_export
    for oid in [955, 964, 765] {
        assert!(matches!(call(oid), Decided::Refused { .. }), "{oid}");
    }
}

#[test]
fn functions_by_number_are_refused_unless_named() {
    let call = || request(vec![Asked::FunctionCall { oid: 1598 }]);
    assert!(matches!(
        read_only().decide(&subject(), call()),
        Decided::Refused { .. }
    ));
    let permit = (
        "p.cedar",
        r#"permit (principal, action == Action::"sql:unknown", resource);"#,
    );
    let decided = decider(&[], &[permit], &[]).decide(&subject(), call());
    assert!(matches!(decided, Decided::Permitted(_)));
}

#[test]
fn verdicts_are_kept_by_who_asks() {
    let permit = (
        "p.cedar",
        r#"permit (principal in Group::"bots", action in Action::"sql", resource in Database::"orders/appdb");"#,
    );
    let decider = decider(&[], &[permit], &[]);
    let decide = |subject: &Subject| {
        decider.decide(subject, request(vec![sql(SqlStep::Simple, &["SELECT 1"])]))
    };
    for _ in 0..3 {
        assert!(matches!(decide(&subject()), Decided::Permitted(_)));
        let other = Subject {
            database: "other".into(),
            ..subject()
        };
        assert!(matches!(decide(&other), Decided::Refused { .. }));
        let left = Arc::new(Identity::for_test("billing-bot", &[]));
        let left = Subject {
            identity: left,
            ..subject()
        };
        assert!(
            matches!(decide(&left), Decided::Refused { .. }),
            "no longer in the group"
        );
    }
}

#[test]
fn texts_that_differ_in_constants_share_their_facts() {
    let decider = read_only();
    let facts = |sql: &str| {
        let request = request(vec![sql_unit(sql)]);
        match decider.decide(&subject(), request) {
            Decided::Permitted(permitted) => permitted.units()[0].statement.clone().unwrap(),
            decided => panic!("{decided:?}"),
        }
    };
    assert!(Arc::ptr_eq(
        &facts("SELECT a FROM t WHERE b = 1"),
        &facts("SELECT a FROM t WHERE b = 2")
    ));
    assert!(!Arc::ptr_eq(
        &facts("SELECT a FROM t WHERE b = 1"),
        &facts("SELECT c FROM t WHERE b = 1")
    ));
    // Constants that facts hold keep them apart.
    assert!(!Arc::ptr_eq(
        &facts("SET timezone = 'UTC'"),
        &facts("SET timezone = 'CET'")
    ));
}

fn sql_unit(sql: &str) -> Asked {
    self::sql(SqlStep::Simple, &[sql])
}

#[test]
fn the_caches_are_bounded() {
    let decider = read_only();
    for n in 0..3_000 {
        let columns: Vec<_> = (0..200).map(|c| format!("c{n}_{c}")).collect();
        let sql = format!("SELECT {} FROM t{n}", columns.join(", "));
        let decided = decider.decide(&subject(), request(vec![sql_unit(&sql)]));
        assert!(matches!(decided, Decided::Permitted(_)));
    }
    let kept = format!("{decider:?}");
    let facts = kept
        .split("facts: ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    assert!(facts.unwrap().parse::<usize>().unwrap() < 2_000, "{kept}");
}
