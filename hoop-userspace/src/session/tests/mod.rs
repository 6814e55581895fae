//! The loop alone: a protocol that plays a script, and real rules, masks and recordings.

mod asking;
mod freezing;
mod kubernetes;
mod scripted;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::activity::Activities;
use super::*;
use crate::ask::ToDesk;
use crate::attribute::Process;
use crate::config::{self, Bundle, Config, Durability, Mode, PolicyFile};
use crate::decide::{KnownRelation, Objects};
use crate::identify::Identity;
use crate::ids::SessionId;
use crate::mask::{HashKey, Relation, RelationKind};
use crate::record::{Header, IdentityNote, SealingKey, Store};
use crate::replay::{Reader, Told as Noted};
use scripted::{
    Journal, Scripted, Step, Told, done, done_by_flush, done_within, query, request, rows,
};

const READS: &str = "permit (principal, action == Action::\"sql:read\", resource);";
const ALL: &str = "permit (principal, action in Action::\"sql\", resource);";

fn rules(epoch: u64, policy: &str, masks: &[&str]) -> Arc<Rulebook> {
    let mut text = String::from(
        "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
         login = { user = \"hoop_orders\" }\n",
    );
    if !masks.is_empty() {
        text +=
            &format!("[[mask]]\nresource = \"orders\"\ncolumns = {masks:?}\nhow = \"redact\"\n");
    }
    text += "[policy]\nuse = []\n";
    let mut config = Config::from_bundle(&Bundle::from_text("hoop.toml".as_ref(), &text)).unwrap();
    config.policy.files = vec![PolicyFile {
        name: "test".into(),
        text: policy.into(),
    }];
    let masks = Rules::new(&config, &"orders".into(), &HashKey::new(&[1; 32]));
    Arc::new(Rulebook {
        epoch,
        decider: Arc::new(Decider::new(&config).unwrap().at_epoch(epoch)),
        masks,
        objects: None,
        remind: Duration::from_secs(60),
    })
}

fn subject() -> Subject {
    Subject {
        session: SessionId::from([7; 16]),
        identity: Arc::new(Identity::for_test("billing-bot", &["bots"])),
        process: Arc::new(Process::default()),
        resource: "orders".into(),
        database: "appdb".into(),
        login: "hoop_orders".into(),
        epochs: Epochs {
            policy: 0,
            identity: 4,
        },
        mode: Mode::Enforce,
        derived: Arc::default(),
        activity: Default::default(),
        objects: Arc::default(),
        unseen: Arc::default(),
    }
}

fn header() -> Header {
    Header {
        session: SessionId::from([7; 16]),
        started: SystemTime::now(),
        agent: Some("billing-bot".into()),
        mode: Mode::Enforce,
        identity: IdentityNote::Unverified { why: "test".into() },
        process: Process::default(),
        resource: Some("orders".into()),
        protocol: "postgres".into(),
        destination: ([127, 0, 0, 1], 5432).into(),
        observed: vec![],
        database: None,
        login: None,
        client_user: None,
        application: None,
        netns: None,
    }
}

/// Tables that are found only by looking them up.
struct Hidden {
    journal: Journal,
    known: Arc<Mutex<Arc<Catalog>>>,
    /// Decisions wait until something is known.
    owed: Arc<AtomicBool>,
    /// Look-ups fail.
    failing: Arc<AtomicBool>,
}

impl Catalogs for Hidden {
    fn current(&self) -> Arc<Catalog> {
        self.known.lock().unwrap().clone()
    }

    fn refresh(&self) -> LookUp {
        let (journal, known) = (self.journal.clone(), self.known.clone());
        let failing = self.failing.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if failing.load(Ordering::Relaxed) {
                return Arc::default();
            }
            let users = Relation {
                oid: 20_000,
                schema: "public".into(),
                name: "users".into(),
                kind: RelationKind::Table,
                columns: BTreeMap::from([(1, "email".into())]),
                parents: vec![],
                reads: vec![],
                opaque: false,
            };
            let view = KnownRelation {
                oid: 20_001,
                schema: "public".into(),
                name: "everyone".into(),
                reads: vec![20_000],
                ..KnownRelation::default()
            };
            let table = KnownRelation {
                oid: 20_000,
                schema: "public".into(),
                name: "users".into(),
                ..KnownRelation::default()
            };
            let objects = Objects::new([view, table], []).at_epoch(1);
            let catalog = Arc::new(Catalog::new([users]).with_objects(objects.into()));
            *known.lock().unwrap() = catalog.clone();
            journal.add(Told::LookedUp);
            catalog
        })
    }

    fn due(&self, changed: bool) -> Option<LookUp> {
        (changed || self.owed.load(Ordering::Relaxed) && self.current().is_empty())
            .then(|| self.refresh())
    }

    fn outdated(&self) {
        self.journal.outdated();
    }
}

/// One session's surroundings.
struct World {
    directory: tempfile::TempDir,
    store: Arc<Store>,
    journal: Journal,
    rulebook: watch::Sender<Arc<Rulebook>>,
    identities: watch::Sender<Arc<Identity>>,
    ends: watch::Sender<Option<End>>,
    freezes: watch::Sender<Option<Freeze>>,
    questions: Option<mpsc::UnboundedReceiver<ToDesk>>,
    asker: Asker,
    owed: Arc<AtomicBool>,
    failing: Arc<AtomicBool>,
    context: Option<Context>,
}

impl World {
    fn new(durability: Durability, rules: Arc<Rulebook>) -> Self {
        Self::with(durability, rules, false)
    }

    /// Where decisions wait for the catalog if it is `owed`.
    fn with(durability: Durability, rules: Arc<Rulebook>, owed: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = config::Record {
            directory: directory.path().join("recordings"),
            durability,
            result_bytes: 1 << 16,
        };
        let key = SealingKey::open(&directory.path().join("key")).unwrap();
        let store = Store::open(&settings, key).unwrap();
        let (rulebook, reloads) = watch::channel(rules);
        let (ends, told) = watch::channel(None);
        let (freezes, frozen) = watch::channel(None);
        let (ask, questions) = mpsc::unbounded_channel();
        let journal = Journal::default();
        let catalogs = Hidden {
            journal: journal.clone(),
            known: Arc::default(),
            owed: Arc::new(owed.into()),
            failing: Arc::default(),
        };
        let (owed, failing) = (catalogs.owed.clone(), catalogs.failing.clone());
        let subject = subject();
        let (identities, renewed) = watch::channel(subject.identity.clone());
        let context = Context {
            subject,
            identity: renewed,
            rulebook: reloads,
            catalogs: Arc::new(catalogs),
            recorder: store.session(header()).unwrap(),
            asker: Asker::new(1, ask),
            watched: Activities::default().of(&"billing-bot".into()),
            ends: told,
            freezes: frozen,
        };
        Self {
            directory,
            store,
            journal,
            rulebook,
            identities,
            ends,
            freezes,
            questions: Some(questions),
            asker: context.asker.clone(),
            owed,
            failing,
            context: Some(context),
        }
    }

    fn play(&mut self, steps: Vec<Step>) -> impl Future<Output = End> + use<> {
        self.play_unanswered(steps, &[])
    }

    /// The same with a server that answers nothing of these exchanges.
    fn play_unanswered(
        &mut self,
        steps: Vec<Step>,
        unanswered: &[u64],
    ) -> impl Future<Output = End> + use<> {
        let mut protocol = Scripted::new(steps, self.journal.clone());
        protocol.unanswered = unanswered.to_vec();
        let run = run(protocol, self.context.take().unwrap());
        async {
            let limit = Duration::from_secs(10);
            tokio::time::timeout(limit, run).await.expect("hangs")
        }
    }

    /// What the recording tells, a word or two for each event.
    fn recorded(&self) -> Vec<String> {
        let files = Store::files(&self.directory.path().join("recordings"));
        let mut reader = Reader::open(&files[0]).unwrap();
        let mut all = Vec::new();
        while let Some(event) = reader.next_event().unwrap() {
            all.push(match event.told {
                Noted::Permitted(note) => format!("permitted {}", note.exchange),
                Noted::Refused(note) => format!("refused {}", note.exchange),
                Noted::Replies(_) => "replies".into(),
                Noted::Bulk(_) => "bulk".into(),
                Noted::Cancel(exchange) => format!("cancel {exchange:?}"),
                Noted::Renewed(note) => format!("renewed {}", note.identity_epoch),
                Noted::Asked(note) => format!("asked {}", note.exchange),
                Noted::Answered(note) => note.outcome,
                Noted::End(note) => format!("end {}", note.kind),
                _ => continue,
            });
        }
        all
    }
}

fn forwarded(told: &[Told]) -> Vec<&str> {
    let wires = told.iter().filter_map(|t| match t {
        Told::Forwarded(wire) => Some(std::str::from_utf8(wire).unwrap()),
        _ => None,
    });
    wires.collect()
}

fn refusals(told: &[Told]) -> usize {
    told.iter()
        .filter(|t| matches!(t, Told::Refused(_)))
        .count()
}

fn place(told: &[Told], wanted: impl Fn(&Told) -> bool) -> usize {
    told.iter().position(wanted).expect("not told")
}

#[tokio::test]
async fn what_is_permitted_is_recorded_and_forwarded_and_what_is_not_is_refused() {
    let mut world = World::new(Durability::Kernel, rules(1, READS, &[]));
    let steps = vec![query(1, "SELECT 1"), done(1), query(2, "DELETE FROM users")];
    assert_eq!(world.play(steps).await, End::Finished);
    let told = world.journal.all();
    assert_eq!(forwarded(&told), ["SELECT 1"]);
    assert_eq!(refusals(&told), 1);
    assert_eq!(
        world.recorded(),
        ["permitted 1", "replies", "refused 2", "end finished"]
    );
}

#[tokio::test]
async fn units_before_a_refused_one_are_forwarded() {
    let mut world = World::new(Durability::Kernel, rules(1, READS, &[]));
    let units = ["SELECT 1", "DELETE FROM users", "SELECT 2"];
    let asked = Event::Request(request(1, &units));
    world.play(vec![asked.into()]).await;
    let told = world.journal.all();
    assert_eq!(forwarded(&told), ["SELECT 1"]);
    assert!(matches!(told[1], Told::Refused(_)), "{told:?}");
    assert_eq!(
        world.recorded(),
        ["permitted 1", "refused 1", "end finished"]
    );
}

#[tokio::test]
async fn replies_flow_while_a_verdict_waits_for_the_disk() {
    let mut world = World::new(Durability::Disk, rules(1, READS, &[]));
    let journal = world.journal.clone();
    let steps = vec![query(1, "SELECT 1"), done(0), query(2, "SELECT 2")];
    let play = world.play(steps);
    let disk = world.store.slow_disk();
    let (end, ()) = tokio::join!(play, async {
        journal.until(&Told::Waits(Gate::HELD)).await;
        let told = journal.all();
        assert!(matches!(told[0], Told::Replied(_)), "{told:?}");
        assert_eq!(forwarded(&told), [""; 0]);
        drop(disk);
    });
    assert_eq!(end, End::Finished);
    assert_eq!(forwarded(&journal.all()), ["SELECT 1", "SELECT 2"]);
}

#[tokio::test]
async fn a_reload_counts_from_the_next_statement() {
    let mut world = World::new(Durability::Kernel, rules(1, ALL, &[]));
    let rulebook = world.rulebook.clone();
    let reload = move || drop(rulebook.send_replace(rules(2, READS, &[])));
    let delete = "DELETE FROM users WHERE id = 1";
    let steps = vec![
        query(1, delete),
        done(1),
        Step::Do(Box::new(reload)),
        query(2, delete),
    ];
    world.play(steps).await;
    let told = world.journal.all();
    assert_eq!((forwarded(&told).len(), refusals(&told)), (1, 1));
}

#[tokio::test]
async fn a_renewed_identity_counts_from_the_next_statement_and_is_recorded() {
    let writers = "permit (principal in Group::\"writers\", action, resource);";
    let mut world = World::new(Durability::Kernel, rules(1, writers, &[]));
    let identities = world.identities.clone();
    let renewed = Identity::for_test("billing-bot", &["writers"]);
    let renew = move || drop(identities.send_replace(Arc::new(renewed)));
    let delete = "DELETE FROM users WHERE id = 1";
    let steps = vec![
        query(1, delete),
        Step::Do(Box::new(renew)),
        query(2, delete),
    ];
    world.play(steps).await;
    let told = world.journal.all();
    assert_eq!((forwarded(&told).len(), refusals(&told)), (1, 1));
    let recorded = world.recorded();
    assert_eq!(
        recorded,
        ["refused 1", "renewed 5", "permitted 2", "end finished"]
    );
}

#[tokio::test]
async fn a_request_that_was_held_over_a_reload_is_refused() {
    let mut world = World::new(Durability::Disk, rules(1, READS, &[]));
    let journal = world.journal.clone();
    let play = world.play(vec![query(1, "SELECT 1")]);
    let disk = world.store.slow_disk();
    tokio::join!(play, async {
        journal.until(&Told::Waits(Gate::HELD)).await;
        world.rulebook.send_replace(rules(2, READS, &[]));
        drop(disk);
    });
    let told = journal.all();
    assert_eq!(forwarded(&told), [""; 0]);
    let changed = |t: &Told| matches!(t, Told::Refused(why) if why.contains("policy changed"));
    place(&told, changed);
    let recorded = world.recorded();
    assert_eq!(recorded, ["permitted 1", "refused 1", "end finished"]);
}

fn bulk(exchange: u64) -> Step {
    let bulk = Bulk {
        wire: Bytes::from_static(b"data"),
        end: false,
    };
    Event::Bulk(ExchangeId(exchange), bulk).into()
}

#[tokio::test]
async fn content_needs_a_grant() {
    let mut world = World::new(Durability::Kernel, rules(1, READS, &[]));
    let steps = vec![query(1, "SELECT 1"), bulk(1), done(1), bulk(1)];
    assert!(matches!(world.play(steps).await, End::Broken(_)));
    let told = world.journal.all();
    let more = told.iter().filter(|t| matches!(t, Told::More(_)));
    assert_eq!(more.count(), 1);
    assert_eq!(
        world.recorded(),
        ["permitted 1", "bulk", "replies", "end broken"]
    );
}

#[tokio::test]
async fn what_nothing_answers_leaves_no_grant() {
    // A grant that is left would let content through.
    let mut world = World::new(Durability::Kernel, rules(1, READS, &[]));
    let steps = vec![query(1, "SELECT 1"), query(2, "SELECT 2"), bulk(1), bulk(2)];
    let end = world.play_unanswered(steps, &[2]).await;
    assert!(matches!(end, End::Broken(_)));
    let told = world.journal.all();
    assert_eq!(forwarded(&told), ["SELECT 1", "SELECT 2"]);
    let more = told.iter().filter(|t| matches!(t, Told::More(_)));
    assert_eq!(more.count(), 1, "that of the first: {told:?}");
    // Nor does what stands before a refusal that is skipped with it.
    let mut world = World::new(Durability::Kernel, rules(1, READS, &[]));
    let units = ["SELECT 1", "DELETE FROM users"];
    let steps = vec![Event::Request(request(1, &units)).into(), bulk(1)];
    let end = world.play_unanswered(steps, &[1]).await;
    assert!(matches!(end, End::Broken(_)));
}

#[tokio::test]
async fn a_cancel_is_recorded_and_passed_on() {
    let mut world = World::new(Durability::Kernel, rules(1, READS, &[]));
    let cancel = Event::Cancel(Some(ExchangeId(1)));
    world.play(vec![query(1, "SELECT 1"), cancel.into()]).await;
    place(&world.journal.all(), |t| *t == Told::Cancelled);
    assert_eq!(
        world.recorded(),
        ["permitted 1", "cancel Some(1)", "end finished"]
    );
}

#[tokio::test]
async fn replies_wait_for_unknown_tables() {
    let mut world = World::new(Durability::Kernel, rules(1, ALL, &["public.users.email"]));
    let steps = vec![
        query(1, "SELECT email FROM users"),
        rows(1, 20_000, "secret@example.org"),
        done(1),
    ];
    assert_eq!(world.play(steps).await, End::Finished);
    let told = world.journal.all();
    let waits = Gate {
        upstream: false,
        ..Gate::OPEN
    };
    let waits = place(&told, |t| *t == Told::Waits(waits));
    let looked = place(&told, |t| *t == Told::LookedUp);
    let replied = place(&told, |t| matches!(t, Told::Replied(_)));
    assert!(waits < looked && looked < replied, "{told:?}");
    assert!(!format!("{told:?}").contains("secret"), "{told:?}");
}

#[tokio::test]
async fn tables_are_looked_up_again_after_they_may_have_changed() {
    let mut world = World::new(Durability::Kernel, rules(1, ALL, &["public.users.email"]));
    let steps = vec![
        query(1, "CREATE TABLE t (a int)"),
        done(1),
        query(2, "SELECT 1"),
        done(2),
    ];
    assert_eq!(world.play(steps).await, End::Finished);
    let told = world.journal.all();
    let looked = place(&told, |t| *t == Told::LookedUp);
    let replied = told.iter().rposition(|t| matches!(t, Told::Replied(_)));
    assert!(Some(looked) < replied, "{told:?}");
    let forwarded = told.iter().rposition(|t| matches!(t, Told::Forwarded(_)));
    assert!(Some(looked) < forwarded, "the client waits too: {told:?}");
}

#[tokio::test]
async fn no_other_session_believes_what_was_known_before_a_change() {
    let outdated = async |steps: Vec<Step>| {
        let mut world = World::new(Durability::Kernel, rules(1, ALL, &["public.users.email"]));
        assert_eq!(world.play(steps).await, End::Finished);
        world.journal.times_outdated()
    };
    assert_eq!(outdated(vec![query(1, "SELECT 1"), done(1)]).await, 0);
    let define = "CREATE TABLE t (a int)";
    // When it is sent, and when it is done.
    assert_eq!(outdated(vec![query(1, define), done(1)]).await, 2);
    // The session ends, and nobody has looked at what it did.
    assert_eq!(outdated(vec![query(1, define)]).await, 2);
    let steps = vec![
        query(1, "BEGIN"),
        done_within(1),
        query(2, define),
        done_within(2),
        query(3, define),
        done_within(3),
        query(4, "COMMIT"),
        done(4),
    ];
    assert_eq!(outdated(steps).await, 3);
    // Drivers set a savepoint for every statement: looking again each time would take longer than all of
    // these.
    let within = ["SAVEPOINT a", "SELECT 1", "RELEASE a", "ROLLBACK TO a"];
    let mut steps = vec![query(1, define), done_within(1)];
    for (n, text) in (2..).zip(within) {
        steps.extend([query(n, text), done_within(n)]);
    }
    steps.extend([query(6, "COMMIT"), done(6)]);
    assert_eq!(outdated(steps).await, 3);
}

const COPY_V: &str = "INSERT INTO kept SELECT a FROM v";

#[tokio::test]
async fn nothing_is_copied_out_of_what_was_defined_until_it_has_been_looked_at() {
    let mut world = World::new(Durability::Kernel, rules(1, ALL, &["public.users.email"]));
    let define = "CREATE VIEW v AS SELECT email AS a FROM users";
    let one_text = format!("{define}; {COPY_V}");
    let both = [define, COPY_V];
    let steps = vec![
        query(1, "SELECT * FROM users"),
        rows(1, 20_000, "x"),
        done(1),
        // In one text, in one request, in one transaction.
        query(2, &one_text),
        Event::Request(request(3, &both)).into(),
        done_within(3),
        query(4, COPY_V),
        query(5, "COMMIT"),
        done(5),
        // It has been looked at, and shows nothing masked as far as is known here.
        query(6, COPY_V),
    ];
    assert_eq!(world.play(steps).await, End::Finished);
    let told = world.journal.all();
    let expected = ["SELECT * FROM users", define, "COMMIT", COPY_V];
    assert_eq!(forwarded(&told), expected, "{told:?}");
    assert_eq!(refusals(&told), 3);
    let moment = |t: &Told| matches!(t, Told::Refused(why) if why.contains("defined a moment ago"));
    assert_eq!(told.iter().filter(|t| moment(t)).count(), 3, "{told:?}");
}

#[tokio::test]
async fn what_flush_ends_is_not_settled_before_its_transaction_is_over() {
    let mut world = World::new(Durability::Kernel, rules(1, ALL, &["public.users.email"]));
    let steps = vec![
        query(1, "SELECT * FROM users"),
        rows(1, 20_000, "x"),
        done(1),
        // DDL and Flush: the transaction that it began is open until Sync.
        query(2, "CREATE VIEW v AS SELECT email AS a FROM users"),
        done_by_flush(2),
        query(3, "SELECT 1"),
        done_by_flush(3),
        query(4, COPY_V),
        // As Sync does.
        query(5, "SELECT 2"),
        done(5),
        query(6, COPY_V),
    ];
    assert_eq!(world.play(steps).await, End::Finished);
    let told = world.journal.all();
    assert_eq!(refusals(&told), 1, "{told:?}");
    let looked = |t: &Told| *t == Told::LookedUp;
    let look_ups = told.iter().filter(|t| looked(t)).count();
    assert_eq!(look_ups, 2, "none within the transaction: {told:?}");
    let sync = place(&told, |t| *t == Told::Forwarded("SELECT 2".into()));
    let settled = told.iter().rposition(looked);
    assert!(settled > Some(sync), "{told:?}");
    assert_eq!(forwarded(&told).last(), Some(&COPY_V));
}

#[tokio::test]
async fn a_prepared_transaction_may_have_defined_anything() {
    let mut world = World::new(Durability::Kernel, rules(1, ALL, &["public.users.email"]));
    let steps = vec![
        query(1, "SELECT * FROM users"),
        rows(1, 20_000, "x"),
        done(1),
        query(2, "COMMIT PREPARED 'a'"),
        query(3, COPY_V),
        done(2),
        query(4, COPY_V),
    ];
    assert_eq!(world.play(steps).await, End::Finished);
    let told = world.journal.all();
    assert_eq!(refusals(&told), 1, "{told:?}");
    let looked = told.iter().filter(|t| **t == Told::LookedUp);
    assert_eq!(looked.count(), 2, "{told:?}");
    assert_eq!(forwarded(&told).last(), Some(&COPY_V));
}

#[tokio::test]
async fn nothing_is_copied_while_the_catalog_is_not_known() {
    let mut world = World::new(Durability::Kernel, rules(1, ALL, &["public.users.email"]));
    world.failing.store(true, Ordering::Relaxed);
    let failing = world.failing.clone();
    let steps = vec![
        query(1, COPY_V),
        query(2, "INSERT INTO kept VALUES (1)"),
        done(2),
        Step::Do(Box::new(move || failing.store(false, Ordering::Relaxed))),
        query(3, "CREATE TABLE t (a int)"),
        done(3),
        query(4, COPY_V),
    ];
    assert_eq!(world.play(steps).await, End::Finished);
    let told = world.journal.all();
    let expected = [
        "INSERT INTO kept VALUES (1)",
        "CREATE TABLE t (a int)",
        COPY_V,
    ];
    assert_eq!(forwarded(&told), expected, "{told:?}");
    let unread = |t: &Told| matches!(t, Told::Refused(why) if why.contains("cannot read the database's catalog"));
    place(&told, unread);
}

#[tokio::test]
async fn a_look_up_that_fails_settles_nothing() {
    let mut world = World::new(Durability::Kernel, rules(1, ALL, &["public.users.email"]));
    let (fail, mend) = (world.failing.clone(), world.failing.clone());
    let steps = vec![
        query(1, "SELECT * FROM users"),
        rows(1, 20_000, "x"),
        done(1),
        Step::Do(Box::new(move || fail.store(true, Ordering::Relaxed))),
        query(2, "CREATE VIEW v AS SELECT email AS a FROM users"),
        done(2),
        query(3, COPY_V),
        query(4, "SELECT 1"),
        Step::Do(Box::new(move || mend.store(false, Ordering::Relaxed))),
        done(4),
        query(5, COPY_V),
    ];
    assert_eq!(world.play(steps).await, End::Finished);
    let told = world.journal.all();
    assert_eq!(refusals(&told), 1, "{told:?}");
    assert_eq!(forwarded(&told).last(), Some(&COPY_V));
}

#[tokio::test]
async fn a_later_change_is_not_settled_by_the_look_up_for_an_earlier_one() {
    let mut world = World::new(Durability::Disk, rules(1, ALL, &["public.users.email"]));
    let journal = world.journal.clone();
    let define = "CREATE VIEW v AS SELECT email AS a FROM users";
    let mut steps = vec![query(1, "CREATE TABLE t (a int)")];
    // The second waits for the disk while the first is answered and looked up.
    steps.push(query(2, define));
    steps.push(done(1));
    steps.push(query(3, COPY_V));
    let play = world.play(steps);
    let disk = world.store.slow_disk();
    let (end, ()) = tokio::join!(play, async {
        journal.until(&Told::Waits(Gate::HELD)).await;
        drop(disk);
    });
    assert_eq!(end, End::Finished);
    let told = journal.all();
    assert_eq!(refusals(&told), 1, "{told:?}");
    assert!(!forwarded(&told).contains(&COPY_V), "{told:?}");
}

#[tokio::test]
async fn what_ends_a_session_does_not_wait_for_the_disk() {
    for why in [End::Killed("ops".into()), End::Identity("revoked".into())] {
        let mut world = World::new(Durability::Disk, rules(1, READS, &[]));
        let journal = world.journal.clone();
        let play = world.play(vec![query(1, "SELECT 1")]);
        let disk = world.store.slow_disk();
        let (end, ()) = tokio::join!(play, async {
            journal.until(&Told::Waits(Gate::HELD)).await;
            world.ends.send_replace(Some(why.clone()));
            journal.until(&Told::Stopped(why.clone())).await;
            drop(disk);
        });
        assert_eq!(end, why);
        assert_eq!(forwarded(&journal.all()), [""; 0]);
    }
}

#[tokio::test]
async fn nothing_is_forwarded_that_cannot_be_recorded() {
    for sql in ["SELECT 1", "DELETE FROM users"] {
        let mut world = World::new(Durability::Kernel, rules(1, READS, &[]));
        let context = world.context.as_mut().unwrap();
        context.recorder.break_for_test();
        let end = world.play(vec![query(1, sql)]).await;
        assert!(matches!(end, End::Unrecordable(_)));
        assert_eq!(world.journal.all(), [Told::Stopped(end)]);
    }
}

const NO_USERS: &str = "permit (principal, action in Action::\"sql\", resource);\n\
    forbid (principal, action, resource is Table) when { resource.name == \"users\" };";

#[tokio::test]
async fn a_decision_waits_for_what_stands_under_a_view() {
    let mut world = World::with(Durability::Kernel, rules(1, NO_USERS, &[]), true);
    let steps = vec![
        query(1, "SELECT now()"),
        done(1),
        query(2, "SELECT * FROM everyone"),
        query(3, "SELECT * FROM orders"),
    ];
    assert_eq!(world.play(steps).await, End::Finished);
    let told = world.journal.all();
    assert_eq!(forwarded(&told), ["SELECT now()", "SELECT * FROM orders"]);
    let first = place(&told, |t| matches!(t, Told::Forwarded(_)));
    let looked = place(&told, |t| *t == Told::LookedUp);
    let refused = place(&told, |t| matches!(t, Told::Refused(_)));
    assert!(
        first < looked && looked < refused,
        "what no table counts for waits for none: {told:?}"
    );
    let waits = Told::Waits(Gate {
        client: ClientGate::ControlOnly,
        upstream: true,
    });
    assert_eq!(told.get(looked - 1), Some(&waits), "the client is held");
    assert_eq!(told.iter().filter(|t| **t == Told::LookedUp).count(), 1);
}

#[tokio::test]
async fn a_decision_waits_for_a_change_of_its_own_session() {
    let mut world = World::new(Durability::Kernel, rules(1, ALL, &[]));
    let texts = [
        ("BEGIN", true),
        ("CREATE VIEW v AS SELECT 1", true),
        ("SELECT * FROM v", true),
        ("COMMIT", false),
        ("SELECT * FROM v", false),
        ("DROP VIEW v", false),
        ("SELECT * FROM v", false),
        ("SELECT * FROM v", false),
    ];
    let steps = (1..)
        .zip(texts)
        .flat_map(|(n, (text, within))| match within {
            true => [query(n, text), done_within(n)],
            false => [query(n, text), done(n)],
        });
    assert_eq!(world.play(steps.collect()).await, End::Finished);
    let told = world.journal.all();
    let order: Vec<_> = told
        .iter()
        .filter_map(|t| match t {
            Told::Forwarded(wire) => Some(std::str::from_utf8(wire).unwrap()),
            Told::LookedUp => Some("looked up"),
            _ => None,
        })
        .collect();
    // Before it is committed, a look-up would not see it.
    let expected = [
        "BEGIN",
        "CREATE VIEW v AS SELECT 1",
        "SELECT * FROM v",
        "COMMIT",
        "looked up",
        "SELECT * FROM v",
        "DROP VIEW v",
        "looked up",
        "SELECT * FROM v",
        "SELECT * FROM v",
    ];
    assert_eq!(order, expected);
}

/// On a busy machine the rest of a value may have been there in time, and nobody had looked.
#[tokio::test]
async fn what_has_come_goes_before_what_is_held_back_but_not_for_ever() {
    let mut until = Box::pin(tokio::time::sleep(HELD_BACK));
    until.as_mut().await;
    let mut printing = Some(Printing { until, turns: 0 });
    let mut came = 0;
    loop {
        tokio::select! {
            biased;
            () = printed(&mut printing) => break,
            () = std::future::ready(()) => came += 1,
        }
    }
    assert_eq!(came, TURNS);
}
