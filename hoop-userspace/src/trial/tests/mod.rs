//! Sessions that are decided and recorded as live ones are, and then gone through again.

mod changes;
mod clusters;
mod expect;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::smallvec;

use super::recorded::Filter;
use crate::attribute::Process;
use crate::config::{self, Bundle, Config, Durability, Mode, PolicyFile};
use crate::decide::{Decided, Decider, Refusal, Subject};
use crate::identify::Identity;
use crate::ids::{Epochs, ExchangeId, SessionId};
use crate::mask::{HashKey, Masker, Masking, Rules};
use crate::record::{
    AnsweredNote, AskedNote, Header, IdentityNote, SealingKey, SessionRecorder, Store,
};
use crate::terminate::again::{Again, Recollection};
use crate::terminate::{
    Asked, Column, Columns, End, Part, PartKind, Replies, Request, SqlAsked, SqlStep, SqlText,
    Stopped, Unit,
};
use crate::wire::kubernetes::http::RequestHead;
use crate::wire::postgres::rows::RowWriter;
use crate::wire::ssh::channel::Message;

const CONFIG: &str = r#"
[issuer.okta]
url = "https://okta.example"
audience = "api://hoop"
[[agent]]
name = "bot"
cgroup = "agents.slice/bot.service"
issuer = "okta"
client_id = "bot"
token = { file = "/run/bot" }
[[resource]]
name = "orders"
protocol = "postgres"
hosts = ["db"]
login = { user = "hoop_orders", password = { credential = "not-there" } }
[[resource]]
name = "web"
protocol = "ssh"
hosts = ["web1"]
trust_on_first_use = true
login = { user = "deploy", password = { credential = "not-there" } }
[[resource]]
name = "prod"
protocol = "kubernetes"
hosts = ["k8s"]
login = { as_agent = true }
[[mask]]
resource = "orders"
detect = ["email"]
how = "redact"
"#;

/// Policies and what was recorded under them.
struct Scene {
    folder: tempfile::TempDir,
    config: Config,
    decider: Decider,
    store: Arc<Store>,
    sessions: u8,
    /// When sessions begin, a second apart.
    from: SystemTime,
}

fn config(packs: &[&str], policy: &str) -> Config {
    let bundle = Bundle::from_text("hoop.toml".as_ref(), CONFIG);
    // What is not read here opens nothing.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hoop.toml");
    std::fs::write(&path, &bundle.text).unwrap();
    let mut config = Bundle::without_secrets(&path).unwrap();
    config.policy.packs = packs.iter().map(|&pack| pack.to_owned()).collect();
    if !policy.is_empty() {
        config.policy.files = vec![PolicyFile {
            name: "own.cedar".into(),
            text: policy.into(),
        }];
    }
    config
}

impl Scene {
    fn new(packs: &[&str], policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(packs, policy);
        let settings = config::Record {
            directory: folder.path().join("recordings"),
            durability: Durability::Kernel,
            result_bytes: 1 << 10,
        };
        let key = SealingKey::open(&folder.path().join("seal.key")).unwrap();
        Self {
            decider: Decider::new(&config).unwrap(),
            store: Store::open(&settings, key).unwrap(),
            folder,
            config,
            sessions: 0,
            from: SystemTime::now() - Duration::from_secs(3600),
        }
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("recordings")
    }

    fn session(&mut self, resource: &str, mode: Mode, act: impl FnOnce(&mut Live<'_>)) {
        self.sessions += 1;
        let started = self.from + Duration::from_secs(self.sessions.into());
        let id = SessionId::new(started, [self.sessions; 10]);
        let (protocol, place, login) = match resource {
            "web" => ("ssh", "web1", "deploy"),
            "prod" => ("kubernetes", "k8s", "bot"),
            _ => ("postgres", "appdb", "hoop_orders"),
        };
        let header = Header {
            session: id,
            started,
            agent: Some("bot".into()),
            mode,
            identity: IdentityNote::Verified {
                kind: config::Kind::Service,
                confirmed: None,
                grace: None,
                issuer: "okta".into(),
                subject: "bot".into(),
                client_id: "bot".into(),
                groups: vec!["analysts".into()],
                scopes: Vec::new(),
                expires: started + Duration::from_secs(3600),
            },
            process: Process::default(),
            resource: Some(resource.into()),
            protocol: protocol.into(),
            destination: ([10, 0, 0, 1], 5432).into(),
            observed: Vec::new(),
            database: Some(place.into()),
            login: Some(login.into()),
            client_user: None,
            application: None,
            netns: None,
        };
        let identity = Identity::recorded("bot", &header.identity, None);
        let subject = Subject {
            session: id,
            identity: Arc::new(identity),
            process: Arc::default(),
            resource: resource.into(),
            database: header.database.clone().unwrap(),
            login: header.login.clone().unwrap(),
            epochs: Epochs::default(),
            mode,
            derived: Arc::default(),
            activity: Default::default(),
            objects: Arc::default(),
            unseen: Arc::default(),
        };
        let mut live = Live {
            recorder: self.store.session(header).unwrap(),
            scene: self,
            subject,
            exchange: 0,
        };
        let detection = live.rules().detection().cloned();
        live.recorder.redact(detection);
        act(&mut live);
        live.recorder.ended(&End::Finished, Stopped::Idle).unwrap();
    }

    /// What the policies say with some more of them.
    fn says(&self, more: &str, resource: &str, text: &str) -> super::policy::Verdict {
        self.tester(more, resource).text(text).unwrap().verdict
    }

    fn tester(&self, more: &str, resource: &str) -> super::policy::Tester {
        let mut config = self.config.clone();
        config.policy.files.push(PolicyFile {
            name: "more.cedar".into(),
            text: more.into(),
        });
        let supposed = super::policy::Supposed {
            agent: "bot".into(),
            resource: resource.into(),
            database: "appdb".into(),
            ..Default::default()
        };
        super::policy::Tester::new(&config, supposed).unwrap()
    }
}

/// A session that goes on.
struct Live<'s> {
    recorder: SessionRecorder,
    scene: &'s Scene,
    subject: Subject,
    exchange: u64,
}

fn message(out: &mut BytesMut, tag: u8, body: &[u8]) {
    out.put_u8(tag);
    out.put_u32(u32::try_from(body.len() + 4).unwrap());
    out.extend_from_slice(body);
}

impl Live<'_> {
    fn rules(&self) -> Arc<Rules> {
        Rules::new(
            &self.scene.config,
            &self.subject.resource,
            &HashKey::new(&[0; 32]),
        )
    }

    fn ask(&mut self, wire: Bytes, units: Vec<Unit>) -> Decided {
        self.exchange += 1;
        let request = Request {
            exchange: ExchangeId(self.exchange),
            wire,
            units: units.into(),
        };
        self.scene.decider.decide(&self.subject, request)
    }

    /// Records what was decided; a question is answered with an approval if `approved`.
    fn take(&mut self, decided: Decided, approved: bool) {
        match decided {
            Decided::Permitted(permitted) => {
                self.recorder.permitted(permitted).unwrap();
            }
            Decided::Refused { before, refusal } => {
                if let Some(before) = before {
                    self.recorder.permitted(before).unwrap();
                }
                self.recorder.refusal(refusal).unwrap();
            }
            Decided::Ask { question, .. } => {
                let note = AskedNote {
                    exchange: self.exchange,
                    question: "q".into(),
                    message: question.message().to_owned(),
                    statements: question
                        .waiting()
                        .map(|waiting| waiting.text.text.to_string())
                        .collect(),
                    rules: question.demands().iter().map(|d| d.rule.clone()).collect(),
                    until: SystemTime::now(),
                    joined: false,
                };
                self.recorder.asked(&note).unwrap();
                let outcome = if approved { "approved" } else { "refused" };
                self.answer(self.exchange, outcome);
                let refusal = question.unavailable("it is a test");
                let refusal = Refusal {
                    code: crate::decide::Code::ApprovalRefused,
                    ..refusal
                };
                self.recorder.refusal(refusal).unwrap();
            }
        }
    }

    /// What people said, or had said before.
    fn answer(&mut self, exchange: u64, outcome: &str) {
        let answered = AnsweredNote {
            exchange,
            question: Some("q".into()),
            outcome: outcome.into(),
            by: Vec::new(),
            scope: None,
            break_glass: false,
            held: 1,
        };
        self.recorder.answered(&answered).unwrap();
    }

    fn sql(&mut self, text: &str) {
        let mut wire = BytesMut::new();
        message(&mut wire, b'Q', format!("{text}\0").as_bytes());
        let unit = unit(wire.len(), SqlStep::Simple, text);
        let decided = self.ask(wire.freeze(), vec![unit]);
        self.take(decided, false);
    }

    /// Prepares and runs, as drivers do.
    fn prepared(&mut self, text: &str) {
        let mut wire = BytesMut::new();
        message(&mut wire, b'P', format!("\0{text}\0\0\0").as_bytes());
        let first = wire.len();
        message(&mut wire, b'B', b"\0\0\0\0\0\0\0\0");
        let second = wire.len();
        message(&mut wire, b'E', b"\0\0\0\0\0");
        let third = wire.len();
        message(&mut wire, b'S', b"");
        let control = |end| Unit {
            end,
            asked: Asked::Control,
        };
        let units = vec![
            unit(first, SqlStep::Prepare, text),
            control(second),
            unit(third, SqlStep::Run, text),
            control(wire.len()),
        ];
        let decided = self.ask(wire.freeze(), units);
        self.take(decided, false);
    }

    fn ssh(&mut self, message: Message) {
        let wire = message.to_bytes();
        let mut again = Recollection::new("ssh", "web1");
        let Some(Again::Asked(asked)) = again.request(&wire, true).pop() else {
            panic!("not asked for")
        };
        let unit = Unit {
            end: wire.len(),
            asked,
        };
        let decided = self.ask(wire, vec![unit]);
        self.take(decided, false);
    }

    /// A request to an API server, as its session makes it.
    fn api(&mut self, method: &str, target: &str, body: &str) {
        let upgrade = ["/exec", "/attach", "/portforward"]
            .iter()
            .any(|streams| target.contains(streams));
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let headers = match body.is_empty() {
            true => Vec::new(),
            false => vec![("content-type".to_owned(), kind.into())],
        };
        let head = RequestHead {
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
        };
        let mut wire = BytesMut::new();
        Message::RequestHead(head.to_bytes()).put(&mut wire);
        if !body.is_empty() {
            Message::Content(Bytes::copy_from_slice(body.as_bytes())).put(&mut wire);
        }
        if upgrade {
            Message::Exec(Bytes::new()).put(&mut wire);
        }
        let mut again = Recollection::new("kubernetes", "k8s");
        let Some(Again::Asked(asked)) = again.request(&wire, true).pop() else {
            panic!("not asked for")
        };
        let unit = Unit {
            end: wire.len(),
            asked,
        };
        let decided = self.ask(wire.freeze(), vec![unit]);
        self.take(decided, false);
    }

    fn exec(&mut self, text: &str) {
        self.ssh(Message::Exec(text.to_owned().into()));
    }

    /// One row came with an address in it.
    fn answered(&mut self, text: &str, value: &str) {
        let mut masker = Masker::new(self.rules());
        let exchange = ExchangeId(self.exchange);
        let facts = self.scene.decider.facts_of(&SqlText::hashed(text));
        masker.expect(exchange, [Some(facts)]);
        let mut wire = BytesMut::new();
        let mut row = RowWriter::new(&mut wire);
        row.push(Some(value.as_bytes()));
        row.finish();
        let column = Column {
            label: "note".into(),
            table: 0,
            attribute: 0,
            kind: 25,
            binary: false,
        };
        let columns = Some(Arc::new(Columns {
            columns: vec![column],
        }));
        let part = Part {
            exchange,
            unit: 0,
            end: wire.len(),
            kind: PartKind::Rows { count: 1, columns },
        };
        let replies = Replies {
            wire: wire.freeze(),
            parts: vec![part],
        };
        let masked = match masker.mask(replies, &Arc::default()) {
            Masking::Done(masked) => masked,
            Masking::NeedsCatalog(replies) => match masker.mask(replies, &Arc::default()) {
                Masking::Done(masked) => masked,
                Masking::NeedsCatalog(_) => panic!("asks for ever"),
            },
        };
        self.recorder.masked(masked).unwrap();
    }
}

fn unit(end: usize, step: SqlStep, text: &str) -> Unit {
    let asked = SqlAsked {
        step,
        candidates: smallvec![SqlText::hashed(text)],
        parameters: Arc::default(),
    };
    Unit {
        end,
        asked: Asked::Sql(asked),
    }
}

fn all() -> Filter {
    Filter::default()
}
