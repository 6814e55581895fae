//! The desk alone, told the time, and the worker's end with a keeper that is played.

mod foreseen;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration as Wait;

use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use tokio::sync::mpsc;

use super::*;
use crate::decide::{Demand, Scope};
use crate::ids::{QuestionId, SessionId};

const NOW: OffsetDateTime = datetime!(2026-11-26 12:00 UTC);
const TERMS: Terms = Terms {
    wait: Duration::minutes(15),
    wait_in_transaction: Duration::minutes(1),
    answer_for: Duration::minutes(10),
    keep: false,
};

fn demand(approvers: &[&[&str]], approvals: u8) -> Demand {
    let groups = approvers.iter();
    Demand {
        rule: "writes".into(),
        wording: String::new(),
        groups: groups
            .map(|clause| clause.iter().map(|g| (*g).to_owned()).collect())
            .collect(),
        approvals,
        wait: None,
        scope: Scope::Statement,
        lasts: 600,
        reason: false,
        break_glass: Vec::new(),
    }
}

fn asking(statement: &str, demand: &Demand) -> Asking {
    Asking {
        agent: "bot".into(),
        subject: "0oa1".into(),
        session: SessionId::from([1; 16]),
        resource: "orders".into(),
        database: "shop".into(),
        login: "app".into(),
        caller: Caller {
            pid: 7,
            uid: 1000,
            executable: None,
            command: "psql".into(),
            cgroup: "agents.slice/bot.service".into(),
            parents: Vec::new(),
        },
        message: "bot needs an approval".into(),
        statements: vec![Shown {
            text: statement.into(),
            parameters: Vec::new(),
        }],
        fingerprint: statement.split(' ').next().unwrap_or_default().into(),
        digest: statement.into(),
        demands: vec![demand.clone()],
        in_transaction: false,
    }
}

fn id(number: u64) -> QuestionId {
    QuestionId::new(number)
}

fn voter(name: &str, groups: &[&str]) -> Voter {
    Voter {
        name: name.into(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        root: false,
        via: "test",
    }
}

fn ballot(verdict: Verdict, name: &str, groups: &[&str]) -> Ballot {
    Ballot {
        voter: voter(name, groups),
        verdict,
        reason: "because".into(),
        break_glass: false,
    }
}

fn approve(name: &str, groups: &[&str]) -> Ballot {
    ballot(Verdict::Approve, name, groups)
}

/// A desk with one question, 1, for which ticket 1 waits.
fn asked(demand: &Demand) -> Desk {
    let mut desk = Desk::new(TERMS);
    let step = put(&mut desk, 1, asking("DELETE 1", demand));
    assert!(matches!(step.say[..], [Heard::Asked { joined: false, .. }]));
    desk
}

/// Puts a question by the number of its ticket, which is also its own if it is a new one.
fn put(desk: &mut Desk, number: u64, asking: Asking) -> Step {
    let owners = vec!["olga".to_owned()];
    desk.ask(NOW, id(number), Ticket(number), asking, owners)
}

fn state(desk: &Desk, number: u64) -> State {
    desk.case(id(number)).unwrap().standing.state
}

fn answer(step: &Step) -> &Answer {
    match &step.say[..] {
        [Heard::Answered { answer, .. }] => answer,
        other => panic!("{other:?}"),
    }
}

fn approved(step: &Step) -> bool {
    matches!(answer(step), Answer::Approved { .. })
}

#[test]
fn counting() {
    const DBA: &[&str] = &["dba"];
    const SEC: &[&str] = &["security"];
    const BOTH: &[&str] = &["dba", "security"];
    const NONE: &[&str] = &["interns"];
    let either: &[&[&str]] = &[BOTH];
    let each: &[&[&str]] = &[DBA, SEC];
    // Which groups, how many people; who approves in this order; how many votes are taken, and
    // whether they suffice. Olga owns the agent.
    type Row<'a> = (
        &'a [&'a [&'a str]],
        u8,
        &'a [(&'a str, &'a [&'a str])],
        usize,
        bool,
    );
    let table: &[Row<'_>] = &[
        (&[DBA], 1, &[("ada", DBA)], 1, true),
        (&[DBA], 1, &[("sue", SEC)], 0, false),
        (&[DBA], 1, &[("ivan", NONE)], 0, false),
        (&[DBA], 1, &[("olga", DBA)], 0, false),
        (&[DBA], 2, &[("ada", DBA)], 1, false),
        (&[DBA], 2, &[("ada", DBA), ("ada", DBA)], 1, false),
        (&[DBA], 2, &[("ada", DBA), ("olga", DBA)], 1, false),
        (&[DBA], 2, &[("ada", DBA), ("bob", DBA)], 2, true),
        (either, 1, &[("sue", SEC)], 1, true),
        (either, 2, &[("ada", BOTH)], 1, false),
        (either, 2, &[("ada", DBA), ("sue", SEC)], 2, true),
        (either, 2, &[("ada", DBA), ("bob", DBA)], 2, true),
        (each, 2, &[("ada", DBA)], 1, false),
        (each, 2, &[("ada", DBA), ("bob", DBA)], 2, false),
        (each, 2, &[("ada", DBA), ("sue", SEC)], 2, true),
        (each, 2, &[("ada", BOTH)], 1, false),
        (each, 2, &[("ada", BOTH), ("ada", BOTH)], 1, false),
        (each, 2, &[("ada", BOTH), ("bob", DBA)], 2, true),
        (each, 2, &[("bob", DBA), ("ada", BOTH)], 2, true),
        (each, 2, &[("sue", SEC), ("ada", BOTH)], 2, true),
        (each, 2, &[("sue", SEC), ("olga", DBA)], 1, false),
        (each, 3, &[("ada", DBA), ("sue", SEC)], 2, false),
        (
            each,
            3,
            &[("ada", DBA), ("sue", SEC), ("bob", DBA)],
            3,
            true,
        ),
    ];
    for (groups, approvals, votes, taken, enough) in table {
        let mut desk = asked(&demand(groups, *approvals));
        let outcomes = votes.iter();
        let outcomes: Vec<_> = outcomes
            .map(|(name, groups)| desk.vote(NOW, id(1), approve(name, groups)))
            .collect();
        let row = format!("{groups:?} {approvals} {votes:?}: {outcomes:?}");
        assert_eq!(
            outcomes.iter().filter(|o| o.is_ok()).count(),
            *taken,
            "{row}"
        );
        let is = state(&desk, 1);
        let wanted = if *enough { State::Used } else { State::Pending };
        assert_eq!(is, wanted, "{row}");
    }
}

#[test]
fn each_of_several_rules_must_be_satisfied() {
    let mut both = asking("DELETE 1", &demand(&[&["dba"]], 1));
    both.demands.push(Demand {
        rule: "secrets".into(),
        ..demand(&[&["security"]], 1)
    });
    let mut desk = Desk::new(TERMS);
    put(&mut desk, 1, both);
    // One person may speak for each of two rules, but for one group within a rule.
    let step = desk.vote(NOW, id(1), approve("ada", &["dba"])).unwrap();
    assert!(step.say.is_empty());
    let step = desk
        .vote(NOW, id(1), approve("sue", &["security"]))
        .unwrap();
    assert!(approved(&step));
}

#[test]
fn an_approved_statement_is_written_as_used_and_said_once() {
    let mut desk = asked(&demand(&[&["dba"]], 1));
    let step = desk.vote(NOW, id(1), approve("ada", &["dba"])).unwrap();
    assert!(approved(&step));
    let states: Vec<_> = step
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::ApprovalSettled { standing, .. } => Some(standing.state),
            _ => None,
        })
        .collect();
    assert_eq!(states, [State::Approved, State::Used]);
    let again = desk.vote(NOW, id(1), approve("bob", &["dba"]));
    assert!(matches!(again, Err(VoteError::Settled(_, State::Used, _))));
    // The same request asks anew.
    let step = put(&mut desk, 2, asking("DELETE 1", &demand(&[&["dba"]], 1)));
    assert!(matches!(step.say[..], [Heard::Asked { joined: false, .. }]));
}

#[test]
fn a_refusal_needs_a_reason_and_one_is_enough() {
    let mut desk = asked(&demand(&[&["dba"]], 2));
    let mut no = ballot(Verdict::Refuse, "ada", &["dba"]);
    no.reason = String::new();
    assert_eq!(desk.vote(NOW, id(1), no), Err(VoteError::ReasonNeeded));
    let stranger = ballot(Verdict::Refuse, "ivan", &[]);
    assert!(matches!(
        desk.vote(NOW, id(1), stranger),
        Err(VoteError::NotAsked(..))
    ));
    // Whose agent it is may refuse, though not approve.
    let step = desk
        .vote(NOW, id(1), ballot(Verdict::Refuse, "olga", &[]))
        .unwrap();
    let no = Answer::Refused {
        by: "olga".into(),
        reason: "because".into(),
    };
    assert_eq!(*answer(&step), no);
    assert_eq!(state(&desk, 1), State::Refused);
}

#[test]
fn nobody_answers_after_the_deadline() {
    let mut desk = asked(&demand(&[&["dba"]], 1));
    assert_eq!(desk.next_deadline(), Some(NOW + TERMS.wait));
    let late = NOW + TERMS.wait;
    let vote = desk.vote(late, id(1), approve("ada", &["dba"]));
    assert!(
        matches!(vote, Err(VoteError::Settled(_, State::Expired, _))),
        "{vote:?}"
    );
}

#[test]
fn an_open_transaction_waits_less() {
    let mut desk = Desk::new(Terms {
        keep: true,
        ..TERMS
    });
    let mut locked = asking("DELETE 1", &demand(&[&["dba"]], 1));
    locked.in_transaction = true;
    put(&mut desk, 1, locked);
    let step = desk.expire(NOW + TERMS.wait_in_transaction);
    assert_eq!(*answer(&step), Answer::Expired);
    assert_eq!(state(&desk, 1), State::Expired);
}

#[test]
fn what_a_hang_up_leaves() {
    let rule = demand(&[&["dba"]], 1);
    for (keep, how, left) in [
        (false, Withdrawn::HungUp, State::Cancelled),
        (true, Withdrawn::HungUp, State::Pending),
        (true, Withdrawn::Cancelled("no".into()), State::Cancelled),
        (false, Withdrawn::Stopped, State::Pending),
    ] {
        let mut desk = asked(&rule);
        desk.set_terms(Terms { keep, ..TERMS });
        desk.withdraw(NOW, Ticket(1), how.clone());
        assert_eq!(state(&desk, 1), left, "{keep} {how:?}");
    }
    // Nobody but the session could use it.
    let rule = Demand {
        scope: Scope::Session,
        ..rule
    };
    let mut desk = asked(&rule);
    desk.set_terms(Terms {
        keep: true,
        ..TERMS
    });
    desk.withdraw(NOW, Ticket(1), Withdrawn::HungUp);
    assert_eq!(state(&desk, 1), State::Cancelled);
}

#[test]
fn a_retry_joins_or_uses_the_answer_once() {
    let rule = demand(&[&["dba"]], 1);
    let mut desk = asked(&rule);
    desk.set_terms(Terms {
        keep: true,
        ..TERMS
    });
    // While one waits, another is another question.
    let step = put(&mut desk, 2, asking("DELETE 1", &rule));
    assert!(matches!(step.say[..], [Heard::Asked { joined: false, .. }]));
    desk.withdraw(NOW, Ticket(1), Withdrawn::HungUp);
    let step = put(&mut desk, 3, asking("DELETE 1", &rule));
    let joined = |step: &Step| matches!(step.say[..], [Heard::Asked { joined: true, question, .. }] if question == id(1));
    assert!(joined(&step), "{step:?}");
    desk.withdraw(NOW, Ticket(3), Withdrawn::HungUp);
    let step = desk.vote(NOW, id(1), approve("ada", &["dba"])).unwrap();
    assert!(step.say.is_empty());
    assert_eq!(state(&desk, 1), State::Approved);
    // Another statement is another matter, and so is another agent's.
    let step = put(&mut desk, 4, asking("DELETE 2", &rule));
    assert!(!matches!(step.say[..], [Heard::Answered { .. }]));
    let mut other = asking("DELETE 1", &rule);
    other.agent = "other".into();
    let step = put(&mut desk, 5, other);
    assert!(!matches!(step.say[..], [Heard::Answered { .. }]));
    let step = put(&mut desk, 6, asking("DELETE 1", &rule));
    assert!(approved(&step));
    assert_eq!(state(&desk, 1), State::Used);
}

#[test]
fn an_answer_that_nobody_uses_expires() {
    let rule = demand(&[&["dba"]], 1);
    let mut desk = asked(&rule);
    desk.withdraw(NOW, Ticket(1), Withdrawn::Stopped);
    desk.vote(NOW, id(1), approve("ada", &["dba"])).unwrap();
    desk.expire(NOW + TERMS.answer_for);
    assert_eq!(state(&desk, 1), State::Expired);
}

#[test]
fn a_window_covers_what_its_scope_says_from_the_approval_on() {
    let cases = [
        (Scope::Fingerprint, "DELETE 2", true),
        (Scope::Fingerprint, "UPDATE 1", false),
        (Scope::Session, "UPDATE 1", true),
        (Scope::Resource, "UPDATE 1", true),
    ];
    for (scope, other, covered) in cases {
        let rule = Demand {
            scope,
            ..demand(&[&["dba"]], 1)
        };
        let mut desk = asked(&rule);
        let later = NOW + Duration::minutes(14);
        let step = desk.vote(later, id(1), approve("ada", &["dba"])).unwrap();
        assert!(approved(&step));
        assert_eq!(state(&desk, 1), State::Approved, "{scope}");
        let mut ask = |number, statement, now| {
            let asking = asking(statement, &rule);
            let step = desk.ask(now, id(number), Ticket(number), asking, Vec::new());
            matches!(step.say[..], [Heard::Answered { .. }])
        };
        assert_eq!(ask(2, other, later), covered, "{scope} {other}");
        assert!(ask(3, "DELETE 1", later + Duration::minutes(9)), "{scope}");
        let open = ask(4, "DELETE 1", later + Duration::minutes(10));
        assert_eq!(open, scope == Scope::Session, "{scope}");
    }
}

#[test]
fn rules_that_changed_are_asked_anew() {
    let rule = Demand {
        scope: Scope::Resource,
        ..demand(&[&["dba"]], 1)
    };
    let mut desk = asked(&rule);
    desk.vote(NOW, id(1), approve("ada", &["dba"])).unwrap();
    let stricter = Demand {
        approvals: 2,
        ..rule
    };
    let step = put(&mut desk, 2, asking("DELETE 1", &stricter));
    assert!(matches!(step.say[..], [Heard::Asked { .. }]));
}

#[test]
fn an_emergency_takes_one_person_with_a_reason() {
    let rule = Demand {
        break_glass: vec!["oncall".into()],
        ..demand(&[&["dba"], &["security"]], 3)
    };
    let mut desk = asked(&rule);
    let alone = |name: &str, groups: &[&str], reason: &str| Ballot {
        break_glass: true,
        reason: reason.into(),
        ..approve(name, groups)
    };
    for (ballot, why) in [
        (
            alone("ada", &["dba"], "fire"),
            VoteError::NoBreakGlass("ada".into()),
        ),
        (alone("joe", &["oncall"], ""), VoteError::ReasonNeeded),
        (
            alone("olga", &["oncall"], "fire"),
            VoteError::Own("olga".into()),
        ),
    ] {
        assert_eq!(desk.vote(NOW, id(1), ballot), Err(why));
    }
    let step = desk
        .vote(NOW, id(1), alone("joe", &["oncall"], "fire"))
        .unwrap();
    let Answer::Approved {
        break_glass: true,
        said,
        ..
    } = answer(&step)
    else {
        panic!("{step:?}");
    };
    assert_eq!(said[0].reason, "fire");
}

#[test]
fn an_approval_is_revoked_by_those_who_are_asked_and_by_root() {
    let rule = Demand {
        scope: Scope::Resource,
        ..demand(&[&["dba"]], 1)
    };
    let mut desk = asked(&rule);
    let dba = voter("bob", &["dba"]);
    let early = desk.revoke(NOW, id(1), &dba, "no".into());
    assert!(matches!(
        early,
        Err(VoteError::NotRevocable(_, State::Pending))
    ));
    desk.vote(NOW, id(1), approve("ada", &["dba"])).unwrap();
    let stranger = desk.revoke(NOW, id(1), &voter("ivan", &[]), "no".into());
    assert!(matches!(stranger, Err(VoteError::NotAsked(..))));
    let step = desk.revoke(NOW, id(1), &dba, "enough".into()).unwrap();
    assert!(matches!(&step.say[..], [Heard::Revoked { why, .. }] if why.contains("bob: enough")));
    let step = put(&mut desk, 2, asking("DELETE 1", &rule));
    assert!(matches!(step.say[..], [Heard::Asked { .. }]));
}

#[test]
fn an_approval_holds_for_no_other_wording_of_the_rule() {
    let rule = Demand {
        scope: Scope::Resource,
        wording: "a".into(),
        ..demand(&[&["dba"]], 1)
    };
    let mut desk = asked(&rule);
    desk.vote(NOW, id(1), approve("ada", &["dba"])).unwrap();
    let step = put(&mut desk, 2, asking("DELETE 2", &rule));
    assert!(matches!(answer(&step), Answer::Approved { .. }));
    let reworded = Demand {
        wording: "b".into(),
        ..rule
    };
    let step = put(&mut desk, 3, asking("DELETE 2", &reworded));
    assert!(matches!(step.say[..], [Heard::Asked { joined: false, .. }]));
}

#[test]
fn a_log_makes_the_same_desk_again() {
    let rule = demand(&[&["dba"]], 2);
    let mut desk = Desk::new(Terms {
        keep: true,
        ..TERMS
    });
    let mut log = Vec::new();
    log.extend(put(&mut desk, 1, asking("DELETE 1", &rule)).entries);
    log.extend(put(&mut desk, 2, asking("DELETE 2", &rule)).entries);
    let vote = |desk: &mut Desk, number, name| {
        let voted = desk.vote(NOW, id(number), approve(name, &["dba"]));
        voted.unwrap().entries
    };
    log.extend(vote(&mut desk, 1, "ada"));
    log.extend(vote(&mut desk, 2, "ada"));
    log.extend(vote(&mut desk, 2, "bob"));
    let tickets = [Ticket(1), Ticket(2)];
    log.extend(desk.worker_gone(NOW, &tickets, &HashSet::new()).entries);
    // As it is written.
    let written = log
        .iter()
        .map(|entry| serde_json::to_string(entry).unwrap());
    let read = written.map(|line| serde_json::from_str::<Entry>(&line).unwrap());
    let mut restored = Desk::new(TERMS);
    restored.restore(read);
    assert_eq!(sorted(&restored), sorted(&desk));
    assert_eq!(restored.pending(), 1);
    assert_eq!(
        restored.carried().len(),
        1,
        "what is over is not carried on"
    );
    // The vote that was given counts.
    let step = restored.vote(NOW, id(1), approve("bob", &["dba"])).unwrap();
    assert!(step.say.is_empty());
    let step = put(&mut restored, 3, asking("DELETE 1", &rule));
    assert!(approved(&step));
}

#[test]
fn a_log_on_disk_is_carried_on_and_one_that_was_changed_is_void() {
    let folder = tempfile::tempdir().unwrap();
    let files = || crate::replay::ledgers(folder.path());
    let rule = demand(&[&["dba"]], 1);
    let mut desk = Desk::new(TERMS);
    let (mut log, problem) = ApprovalLog::open(folder.path(), &files(), &mut desk).unwrap();
    assert!(problem.is_none());
    for entry in put(&mut desk, 1, asking("DELETE 1", &rule)).entries {
        log.append(&entry).unwrap();
    }
    drop(log);
    let mut next = Desk::new(TERMS);
    let (log, problem) = ApprovalLog::open(folder.path(), &files(), &mut next).unwrap();
    assert!(problem.is_none());
    assert_eq!(next.pending(), 1);
    drop(log);
    let newest = files().pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let at = bytes.windows(6).position(|w| w == b"DELETE").unwrap();
    bytes[at] = b'S';
    std::fs::write(&newest, bytes).unwrap();
    let mut void = Desk::new(TERMS);
    let (_, problem) = ApprovalLog::open(folder.path(), &files(), &mut void).unwrap();
    assert!(problem.is_some());
    assert_eq!(void.pending(), 0);
}

#[test]
fn one_agent_cannot_ask_without_end() {
    let rule = demand(&[&["dba"]], 1);
    let mut desk = Desk::new(TERMS);
    let mut last = Step::default();
    for number in 0..=2000 {
        last = put(
            &mut desk,
            number,
            asking(&format!("DELETE {number}"), &rule),
        );
    }
    assert!(matches!(answer(&last), Answer::Unavailable(_)));
    assert_eq!(desk.pending(), 2000);
}

async fn told(told: &mut mpsc::UnboundedReceiver<ToDesk>) -> ToDesk {
    let next = tokio::time::timeout(Wait::from_secs(5), told.recv()).await;
    next.unwrap().unwrap()
}

#[tokio::test]
async fn the_asker_binds_an_answer_to_what_it_asked() {
    let (tell, mut keeper) = mpsc::unbounded_channel();
    let asker = Asker::new(u64::MAX, tell);
    let rule = demand(&[&["dba"]], 1);
    let mut pending = asker.ask(asking("DELETE 1", &rule), [9; 32], Wait::from_secs(60));
    let worker = asker.clone();
    let play = async {
        let ToDesk::Ask { ticket, .. } = told(&mut keeper).await else {
            panic!("no question");
        };
        let answer = Answer::Approved {
            said: Vec::new(),
            scope: Scope::Statement,
            until: None,
            break_glass: false,
        };
        let heard = |question| Heard::Answered {
            ticket,
            question,
            answer: answer.clone(),
        };
        worker.hear(heard(Some(id(1))));
        // Heard once.
        assert!(worker.hear(heard(Some(id(2)))).is_empty());
    };
    let (news, ()) = tokio::join!(pending.next(), play);
    let News::Answered(
        Some(_),
        Outcome::Approved {
            approval, under, ..
        },
    ) = news
    else {
        panic!("{news:?}");
    };
    assert_eq!(approval.digest(), &[9; 32]);
    let revoked = || Heard::Revoked {
        question: id(1),
        why: "no".into(),
    };
    let session = SessionId::from([1; 16]);
    assert_eq!(asker.hear(revoked()), [(session, "no".to_owned())]);
    drop(under);
    assert!(asker.hear(revoked()).is_empty());
    drop(pending);
    assert!(
        keeper.try_recv().is_err(),
        "what is answered is not taken back"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_question_back() {
    let (tell, mut keeper) = mpsc::unbounded_channel();
    let asker = Asker::new(1, tell);
    let rule = demand(&[&["dba"]], 1);
    let mut pending = asker.ask(asking("DELETE 1", &rule), [9; 32], Wait::from_millis(5));
    assert!(matches!(pending.next().await, News::Remind));
    assert!(matches!(told(&mut keeper).await, ToDesk::Ask { .. }));
    drop(pending);
    let back = told(&mut keeper).await;
    assert!(matches!(
        back,
        ToDesk::Withdraw {
            how: Withdrawn::HungUp,
            ..
        }
    ));
}

const STATEMENTS: notice::Extras<'_> = notice::Extras {
    statements: true,
    buttons: None,
    console: None,
};

#[test]
fn channels_show_statements_only_where_they_are_told_to() {
    let desk = asked(&demand(&[&["dba"]], 1));
    let case = desk.case(id(1)).unwrap();
    for (body, shown) in [
        (notice::webhook(case, Happened::Asked, false), false),
        (notice::webhook(case, Happened::Asked, true), true),
        (
            notice::slack(case, Happened::Asked, notice::Extras::default()),
            false,
        ),
        (notice::slack(case, Happened::Asked, STATEMENTS), true),
    ] {
        let text = body.to_string();
        assert_eq!(text.contains("DELETE 1"), shown, "{text}");
        assert!(
            text.contains(&id(1).to_string()) && text.contains("dba"),
            "{text}"
        );
    }
    let slack = notice::slack(case, Happened::BreakGlass, STATEMENTS);
    let blocks = slack["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50, "Slack takes no more");
    let plain = |block: &serde_json::Value| block["text"]["type"] != "mrkdwn";
    assert!(
        blocks.iter().all(plain),
        "nothing that an agent wrote becomes a link"
    );
}

#[test]
fn an_estimate_is_for_the_question_that_waits_and_is_in_the_log() {
    let mut desk = asked(&demand(&[&["dba"]], 1));
    let step = desk.estimated(Ticket(1), 42);
    let expected = Entry::ApprovalEstimated {
        question: id(1),
        rows: 42,
    };
    assert_eq!(
        (step.entries.as_slice(), step.say.len()),
        (&[expected][..], 0)
    );
    assert_eq!(desk.case(id(1)).unwrap().estimate, Some(42));
    assert_eq!(desk.estimated(Ticket(9), 1), Step::default());
    let mut log = desk.carried();
    log.extend(step.entries);
    let mut restored = Desk::new(TERMS);
    restored.restore(log);
    assert_eq!(restored.case(id(1)).unwrap().estimate, Some(42));
    desk.vote(NOW, id(1), approve("ada", &["dba"])).unwrap();
    // Too late: what was answered was answered without.
    assert_eq!(desk.estimated(Ticket(1), 7), Step::default());
}

#[tokio::test]
async fn a_question_that_the_keeper_does_not_take_is_refused_and_taken_back() {
    let (tell, mut questions) = mpsc::unbounded_channel();
    let asker = Asker::patient(1, tell, Wait::from_millis(50));
    let one = demand(&[&["dba"]], 1);
    let mut pending = asker.ask(asking("DELETE 1", &one), [7; 32], Wait::from_secs(3600));
    let News::Answered(None, Outcome::Unavailable(why)) = pending.next().await else {
        panic!("it was not refused");
    };
    assert!(why.contains("did not take"), "{why}");
    assert!(matches!(questions.recv().await, Some(ToDesk::Ask { .. })));
    let taken_back = questions.recv().await;
    assert!(
        matches!(
            taken_back,
            Some(ToDesk::Withdraw {
                how: Withdrawn::Cancelled(_),
                ..
            })
        ),
        "{taken_back:?}"
    );
}

fn sorted(desk: &Desk) -> Vec<Arc<Case>> {
    let mut cases: Vec<_> = desk.cases().cloned().collect();
    cases.sort_by_key(|case| case.age());
    cases
}

#[test]
fn who_waits_is_taken_over_and_answered() {
    let rule = demand(&[&["dba"]], 1);
    let mut before = asked(&rule);
    put(&mut before, 2, asking("DELETE 2", &rule));
    let held = before.held();
    assert_eq!(held.len(), 2);
    // The next keeper's, from the log.
    let mut after = Desk::new(TERMS);
    let written = before.carried().into_iter();
    let written = written.map(|entry| serde_json::to_string(&entry).unwrap());
    after.restore(written.map(|line| serde_json::from_str::<Entry>(&line).unwrap()));
    assert_eq!(after.pending(), 2);
    for held in &held {
        assert!(after.hold(*held));
        assert!(!after.hold(*held), "twice");
    }
    let unknown = Held {
        question: id(99),
        ..held[0]
    };
    assert!(!after.hold(unknown));
    let step = after.vote(NOW, id(1), approve("ada", &["dba"])).unwrap();
    assert!(matches!(
        &step.say[..],
        [Heard::Answered {
            ticket: Ticket(1),
            answer: Answer::Approved { .. },
            ..
        }]
    ));
    assert_eq!(state(&after, 1), State::Used);
    // Nobody waits for what was answered.
    assert!(
        !after.hold(
            held.iter()
                .copied()
                .find(|h| h.ticket == Ticket(1))
                .unwrap()
        )
    );
    assert_eq!(after.held().len(), 1);
}

#[test]
fn a_worker_takes_only_its_own_clients_and_sessions_along() {
    let rule = Demand {
        scope: Scope::Session,
        ..demand(&[&["dba"]], 1)
    };
    let mut desk = asked(&rule);
    let other = Asking {
        session: SessionId::from([2; 16]),
        ..asking("DELETE 2", &rule)
    };
    put(&mut desk, 2, other);
    for number in [1, 2] {
        desk.vote(NOW, id(number), approve("ada", &["dba"]))
            .unwrap();
    }
    let first = SessionId::from([1; 16]);
    assert_eq!(desk.sessions().len(), 2);
    desk.worker_gone(NOW, &[Ticket(1)], &HashSet::from([first]));
    assert_eq!(state(&desk, 1), State::Expired);
    assert_eq!(state(&desk, 2), State::Approved);
    assert_eq!(desk.sessions(), HashSet::from([SessionId::from([2; 16])]));
}
