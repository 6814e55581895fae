//! The loop while people are asked: what is held, what flows on, and what each end leaves.

use super::*;
use crate::ask::{Answer, Heard, Said, Ticket, Withdrawn};
use crate::decide::Scope;
use crate::ids::QuestionId;

const ASKS: &str = "permit (principal, action == Action::\"sql:read\", resource);
    @id(\"writes\") @approvers(\"dba\") permit (principal, action == Action::\"sql:write\", resource);";
const DELETE: &str = "DELETE FROM users WHERE id = 1";

/// The keeper, played.
struct Keeper {
    questions: mpsc::UnboundedReceiver<ToDesk>,
    asker: Asker,
    journal: Journal,
}

impl Keeper {
    fn of(world: &mut World) -> Self {
        Self {
            questions: world.questions.take().unwrap(),
            asker: world.asker.clone(),
            journal: world.journal.clone(),
        }
    }

    async fn told(&mut self) -> ToDesk {
        let limit = Duration::from_secs(5);
        let told = tokio::time::timeout(limit, self.questions.recv()).await;
        told.expect("hangs").expect("gone")
    }

    /// Takes a question, and waits until its client has been told.
    async fn asked(&mut self) -> Ticket {
        let ToDesk::Ask { ticket, .. } = self.told().await else {
            panic!("no question");
        };
        self.asker.hear(Heard::Asked {
            ticket,
            question: QuestionId::new(7),
            until: SystemTime::now() + Duration::from_secs(60),
            joined: false,
        });
        let notified = |t: &Told| matches!(t, Told::Notified(text) if text.contains("0000000007"));
        while !self.journal.all().iter().any(notified) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ticket
    }

    fn answer(&self, ticket: Ticket, answer: Answer) {
        self.asker.hear(Heard::Answered {
            ticket,
            question: Some(QuestionId::new(7)),
            answer,
        });
    }

    fn approve(&self, ticket: Ticket, scope: Scope) {
        let said = vec![Said {
            who: "ada".into(),
            reason: "fine".into(),
        }];
        let answer = Answer::Approved {
            said,
            scope,
            until: None,
            break_glass: false,
        };
        self.answer(ticket, answer);
    }
}

#[tokio::test]
async fn an_approved_request_is_forwarded_after_the_disk_and_replies_flow_meanwhile() {
    let mut world = World::new(Durability::Kernel, rules(1, ASKS, &[]));
    let mut keeper = Keeper::of(&mut world);
    let steps = vec![query(1, DELETE), done(0), query(2, "SELECT 2")];
    let play = world.play(steps);
    let disk = world.store.slow_disk();
    let (end, ()) = tokio::join!(play, async {
        let ticket = keeper.asked().await;
        keeper.journal.until(&Told::Waits(Gate::HELD)).await;
        let replied = |t: &Told| matches!(t, Told::Replied(_));
        assert!(keeper.journal.all().iter().any(replied));
        keeper.approve(ticket, Scope::Statement);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(
            forwarded(&keeper.journal.all()),
            [""; 0],
            "it is not on the disk"
        );
        drop(disk);
    });
    assert_eq!(end, End::Finished);
    assert_eq!(forwarded(&keeper.journal.all()), [DELETE, "SELECT 2"]);
    let recorded = world.recorded();
    let first: Vec<&str> = recorded
        .iter()
        .map(String::as_str)
        .filter(|w| *w != "replies")
        .collect();
    assert_eq!(
        first[..4],
        ["asked 1", "approved", "permitted 1", "permitted 2"]
    );
}

#[tokio::test]
async fn other_answers_are_refusals_in_its_place() {
    let refused = Answer::Refused {
        by: "bob".into(),
        reason: "not today".into(),
    };
    for (answer, words, outcome) in [
        (refused, "bob refused: not today", "refused"),
        (Answer::Expired, "nobody answered in time", "expired"),
        (
            Answer::Unavailable("no log".into()),
            "no log",
            "unavailable",
        ),
    ] {
        let mut world = World::new(Durability::Kernel, rules(1, ASKS, &[]));
        let mut keeper = Keeper::of(&mut world);
        let units = ["SELECT 1", DELETE, "SELECT 2"];
        let play = world.play(vec![Event::Request(request(1, &units)).into()]);
        tokio::join!(play, async {
            let ticket = keeper.asked().await;
            assert_eq!(forwarded(&keeper.journal.all()), ["SELECT 1"]);
            keeper.answer(ticket, answer);
        });
        let told = world.journal.all();
        assert_eq!(forwarded(&told), ["SELECT 1"]);
        place(
            &told,
            |t| matches!(t, Told::Refused(why) if why.contains(words)),
        );
        assert_eq!(
            world.recorded(),
            [
                "permitted 1",
                "asked 1",
                outcome,
                "refused 1",
                "end finished"
            ]
        );
    }
}

#[tokio::test]
async fn a_cancel_takes_the_question_back_and_not_the_session() {
    let mut world = World::new(Durability::Kernel, rules(1, ASKS, &[]));
    let mut keeper = Keeper::of(&mut world);
    let steps = vec![
        query(1, DELETE),
        Event::Cancel(None).into(),
        query(2, "SELECT 2"),
    ];
    let (end, ()) = tokio::join!(world.play(steps), async {
        assert!(matches!(keeper.told().await, ToDesk::Ask { .. }));
        let back = keeper.told().await;
        let cancelled = matches!(
            back,
            ToDesk::Withdraw {
                how: Withdrawn::Cancelled(_),
                ..
            }
        );
        assert!(cancelled, "{back:?}");
    });
    assert_eq!(end, End::Finished);
    let told = world.journal.all();
    assert_eq!((forwarded(&told), refusals(&told)), (vec!["SELECT 2"], 1));
    assert!(
        !told.contains(&Told::Cancelled),
        "nothing runs at the server"
    );
}

#[tokio::test]
async fn a_cancel_between_the_approval_and_the_disk_takes_the_request_back() {
    let mut world = World::new(Durability::Kernel, rules(1, ASKS, &[]));
    let mut keeper = Keeper::of(&mut world);
    let (approved, now) = tokio::sync::watch::channel(false);
    let steps = vec![
        query(1, DELETE),
        Step::Until(now),
        Event::Cancel(None).into(),
        query(2, "SELECT 2"),
    ];
    let play = world.play(steps);
    let disk = world.store.slow_disk();
    let (end, ()) = tokio::join!(play, async {
        let ticket = keeper.asked().await;
        keeper.approve(ticket, Scope::Statement);
        tokio::time::sleep(Duration::from_millis(50)).await;
        approved.send_replace(true);
        let refused = |t: &Told| matches!(t, Told::Refused(why) if why.contains("cancelled"));
        while !keeper.journal.all().iter().any(refused) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(disk);
    });
    assert_eq!(end, End::Finished);
    let told = world.journal.all();
    assert_eq!(forwarded(&told), ["SELECT 2"]);
    assert!(!told.contains(&Told::Cancelled), "nothing ran");
    assert_eq!(
        world.recorded()[..5],
        [
            "asked 1",
            "approved",
            "permitted 1",
            "cancel None",
            "refused 1"
        ]
    );
}

#[tokio::test]
async fn a_cancel_while_the_database_is_looked_at_takes_the_request_back() {
    let mut world = World::new(Durability::Kernel, rules(1, ASKS, &[]));
    let owed = world.owed.clone();
    let mut keeper = Keeper::of(&mut world);
    let (approved, now) = tokio::sync::watch::channel(false);
    let steps = vec![
        query(1, DELETE),
        Step::Until(now),
        Event::Cancel(None).into(),
        query(2, "SELECT 2"),
    ];
    let play = world.play(steps);
    // However slow this test is, nothing passes in the meantime.
    let disk = world.store.slow_disk();
    let (end, ()) = tokio::join!(play, async {
        let ticket = keeper.asked().await;
        owed.store(true, Ordering::Relaxed);
        keeper.approve(ticket, Scope::Statement);
        tokio::time::sleep(Duration::from_millis(5)).await;
        approved.send_replace(true);
        let refused = |t: &Told| matches!(t, Told::Refused(why) if why.contains("cancelled"));
        while !keeper.journal.all().iter().any(refused) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(disk);
    });
    assert_eq!(end, End::Finished);
    let told = world.journal.all();
    assert_eq!(forwarded(&told), ["SELECT 2"]);
    assert_eq!(refusals(&told), 1, "{told:?}");
    assert!(!told.contains(&Told::Cancelled), "nothing ran");
}

#[tokio::test]
async fn what_ends_the_session_ends_the_waiting() {
    let drained = Withdrawn::Stopped;
    let killed = Withdrawn::Cancelled("the session ended: ops".into());
    for (end, how) in [(End::Drained, drained), (End::Killed("ops".into()), killed)] {
        let mut world = World::new(Durability::Kernel, rules(1, ASKS, &[]));
        let mut keeper = Keeper::of(&mut world);
        let ends = world.ends.clone();
        let play = world.play(vec![query(1, DELETE)]);
        let (ended, ()) = tokio::join!(play, async {
            keeper.asked().await;
            ends.send_replace(Some(end.clone()));
            let back = keeper.told().await;
            assert!(
                matches!(&back, ToDesk::Withdraw { how: h, .. } if *h == how),
                "{back:?}"
            );
        });
        assert_eq!(ended, end);
        let stays = |t: &Told| matches!(t, Told::Notified(text) if text.contains("stays open"));
        assert_eq!(world.journal.all().iter().any(stays), end == End::Drained);
    }
}

#[tokio::test]
async fn new_rules_count_for_what_waits() {
    // What they say, whether the question goes on, and what becomes of the request.
    let forbid = "forbid (principal, action, resource);";
    let other = "@approvers(\"security\") permit (principal, action, resource);";
    for (policy, goes_on, forwards) in [
        (ASKS, true, true),
        (ALL, false, true),
        (forbid, false, false),
        (other, false, true),
    ] {
        let mut world = World::new(Durability::Kernel, rules(1, ASKS, &[]));
        let mut keeper = Keeper::of(&mut world);
        let rulebook = world.rulebook.clone();
        let play = world.play(vec![query(1, DELETE)]);
        tokio::join!(play, async {
            let mut ticket = keeper.asked().await;
            rulebook.send_replace(rules(2, policy, &[]));
            if !goes_on {
                assert!(matches!(keeper.told().await, ToDesk::Withdraw { .. }));
                if policy != other {
                    return;
                }
                ticket = keeper.asked().await;
            }
            // The loop sees the new rules before the answer, or after it: both must hold.
            keeper.approve(ticket, Scope::Statement);
        });
        let told = world.journal.all();
        assert_eq!(
            forwarded(&told).len(),
            usize::from(forwards),
            "{policy}: {told:?}"
        );
        assert_eq!(refusals(&told), usize::from(!forwards), "{policy}");
    }
}

#[tokio::test]
async fn what_was_approved_is_decided_by_what_the_database_is_then() {
    let policy = format!(
        "{ASKS} forbid (principal, action, resource is Table) \
        when {{ resource.name == \"users\" }};"
    );
    let mut world = World::with(Durability::Kernel, rules(1, &policy, &[]), false);
    let owed = world.owed.clone();
    let mut keeper = Keeper::of(&mut world);
    let sql = "DELETE FROM everyone WHERE id = 1";
    let play = world.play(vec![query(1, sql)]);
    tokio::join!(play, async {
        let ticket = keeper.asked().await;
        // What was known is too old by now: a view of the forbidden table is found.
        owed.store(true, Ordering::Relaxed);
        keeper.approve(ticket, Scope::Statement);
    });
    let told = world.journal.all();
    place(&told, |t| *t == Told::LookedUp);
    assert_eq!(
        (forwarded(&told).len(), refusals(&told)),
        (0, 1),
        "{told:?}"
    );
}

#[tokio::test]
async fn what_runs_under_an_approval_is_known_until_it_is_done() {
    for (scope, still) in [(Scope::Statement, 0), (Scope::Session, 1)] {
        let mut world = World::new(Durability::Kernel, rules(1, ASKS, &[]));
        let mut keeper = Keeper::of(&mut world);
        let asker = world.asker.clone();
        let running = move || {
            let revoked = Heard::Revoked {
                question: QuestionId::new(7),
                why: "no".into(),
            };
            asker.hear(revoked).len()
        };
        let (before, after) = (running.clone(), running);
        let steps = vec![
            query(1, DELETE),
            query(2, "SELECT 2"),
            Step::Do(Box::new(move || assert_eq!(before(), 1))),
            done(1),
            Step::Do(Box::new(move || assert_eq!(after(), still))),
        ];
        let play = world.play(steps);
        tokio::join!(play, async {
            let ticket = keeper.asked().await;
            keeper.approve(ticket, scope);
        });
    }
}

#[tokio::test]
async fn a_thousand_that_wait_have_no_thread_each() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let world = World::new(Durability::Kernel, rules(1, ASKS, &[]));
    let (tell, questions) = mpsc::unbounded_channel();
    let asker = Asker::new(1, tell);
    let before = threads();
    let mut sessions = tokio::task::JoinSet::new();
    for number in 0..1000_u64 {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        let id = SessionId::from(id);
        let (_, rulebook) = watch::channel(rules_of(&world));
        let (ends, told) = watch::channel(None);
        let context = Context {
            subject: Subject {
                session: id,
                ..subject()
            },
            identity: watch::channel(subject().identity).1,
            rulebook,
            catalogs: Arc::new(Hidden {
                journal: world.journal.clone(),
                known: Arc::default(),
                owed: Arc::default(),
                failing: Arc::default(),
            }),
            recorder: world
                .store
                .session(Header {
                    session: id,
                    ..header()
                })
                .unwrap(),
            asker: asker.clone(),
            watched: Activities::default().of(&"billing-bot".into()),
            ends: told,
            freezes: watch::channel(None).1,
        };
        let steps = vec![query(1, DELETE)];
        let protocol = Scripted::new(steps, Journal::default());
        sessions.spawn(async move {
            let end = run(protocol, context).await;
            drop(ends);
            end
        });
    }
    let mut keeper = Keeper {
        questions,
        asker,
        journal: Journal::default(),
    };
    let mut tickets = Vec::new();
    for _ in 0..1000 {
        let ToDesk::Ask { ticket, .. } = keeper.told().await else {
            panic!("no question");
        };
        keeper.asker.hear(Heard::Asked {
            ticket,
            question: QuestionId::new(ticket.0),
            until: SystemTime::now() + Duration::from_secs(60),
            joined: false,
        });
        tickets.push(ticket);
    }
    // Other tests run beside this one, each on a thread or two.
    assert!(threads() < before + 100, "{} threads", threads());
    for ticket in tickets {
        keeper.approve(ticket, Scope::Statement);
    }
    while let Some(ended) = sessions.join_next().await {
        assert_eq!(ended.unwrap(), End::Finished);
    }
}

fn rules_of(world: &World) -> Arc<Rulebook> {
    world.rulebook.borrow().clone()
}
