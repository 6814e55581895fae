//! A past that nobody lived: recordings, a ledger and a log of approvals for `cargo xtask bench
//! --console`, written by the code that writes real ones.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use smallvec::smallvec;
use time::OffsetDateTime;

use super::{Unusable, unusable};
use crate::ask::{ApprovalLog, Asking, Ballot, Caller, Desk, Shown, Terms, Ticket, Verdict, Voter};
use crate::attribute::Process;
use crate::config::{self, Bundle, Config, Durability, Mode};
use crate::decide::{Code, Decided, Decider, Demand, Permitted, Refusal, Retry, Scope, Subject};
use crate::identify::Identity;
use crate::ids::{Epochs, ExchangeId, QuestionId, SessionId};
use crate::keeper::folders;
use crate::keeper::journal::Entry;
use crate::mask::{HashKey, Masked, Masker, Masking, Rules};
use crate::record::{Header, IdentityNote, Ledger, SealingKey, Store};
use crate::terminate::{
    Asked, Column, Columns, End, Part, PartKind, Replies, Request, SqlAsked, SqlStep, SqlText,
    Stopped, Unit,
};
use crate::wire::postgres::rows::RowWriter;

const CONFIG: &str = r#"
[[agent]]
name = "past-bot"
cgroup = "agents.slice/past-bot.service"
issuer = "okta"
client_id = "past-bot"
token = { file = "/run/past-bot" }
[[resource]]
name = "orders"
protocol = "postgres"
hosts = ["db.prod.internal"]
port = 5432
tls = "disable"
login = { user = "hoop_orders", database = "shop" }
[policy]
use = ["no-destroy"]
[issuer.okta]
url = "https://okta.example"
audience = "api://hoop"
"#;

/// Sessions begin so far apart; the last of them a day ago.
const APART: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// One session in so many was refused something, and one in so many asked something.
const REFUSED: u32 = 10;
const ASKED: u32 = 10;
/// Questions that still wait.
const WAITING: u32 = 300;
const ROWS: u32 = 20;

/// What a page is opened of.
#[derive(Clone, Debug)]
pub struct Past {
    pub session: String,
    /// One that waits.
    pub question: String,
}

/// Fills a state folder as if so many sessions had been recorded: the recordings below it in
/// `recordings`, the ledgers where the keeper has them.
pub fn make(state: &Path, sessions: u32) -> Result<Past, Unusable> {
    let now = SystemTime::now();
    let session = recordings(state, sessions, now)?;
    let keeper = state.join(folders::KEEPER);
    ledger(&keeper, sessions)?;
    let question = approvals(&keeper, sessions / ASKED, now)?;
    Ok(Past {
        session: session.to_string(),
        question: question.to_string(),
    })
}

/// The id of the last.
fn recordings(state: &Path, count: u32, now: SystemTime) -> Result<SessionId, Unusable> {
    let bundle = Bundle::from_text("hoop.toml".as_ref(), CONFIG);
    let config = Config::from_bundle(&bundle)?;
    let Some(agent) = config.agents.first() else {
        return unusable("there is no agent");
    };
    let decider = Decider::new(&config)?;
    let identity = Arc::new(Identity::supposed(agent, Vec::new()));
    let settings = config::Record {
        directory: state.join("recordings"),
        durability: Durability::Kernel,
        result_bytes: 64 << 10,
    };
    std::fs::create_dir_all(state)?;
    let key = SealingKey::open(&state.join("past.key"))?;
    let store = Store::open(&settings, key)?;
    let mut last = SessionId::new(now, [0; 10]);
    for n in 0..count {
        let started = now - DAY - APART * (count - n);
        last = id(started, n);
        let subject = subject(last, &identity);
        let mut session = store.session(header(last, started, n))?;
        for (exchange, sql) in (0..).zip(statements(n)) {
            session.permitted(permitted(&decider, &subject, exchange, &sql)?)?;
        }
        session.masked(rows(2)?)?;
        if n % REFUSED == 0 {
            session.refusal(refusal(3))?;
        }
        session.ended(&End::Finished, Stopped::Idle)?;
    }
    Ok(last)
}

fn id(started: SystemTime, n: u32) -> SessionId {
    let [a, b, c, d] = n.to_be_bytes();
    SessionId::new(started, [0, 0, 0, 0, 0, 0, a, b, c, d])
}

/// A few hundred different ones, since agents repeat themselves, and parsing is not what takes time
/// here.
fn statements(n: u32) -> [String; 3] {
    let customer = n % 97;
    [
        format!(
            "SELECT id, note FROM public.orders_{} WHERE customer = {customer}",
            n % 7
        ),
        format!("INSERT INTO public.visits (at, customer) VALUES (now(), {customer})"),
        "SELECT count(*) FROM audit.events WHERE at > '2026-01-01'".to_owned(),
    ]
}

fn subject(session: SessionId, identity: &Arc<Identity>) -> Subject {
    Subject {
        session,
        identity: identity.clone(),
        process: Arc::default(),
        resource: "orders".into(),
        database: "shop".into(),
        login: "hoop_orders".into(),
        epochs: Epochs::default(),
        mode: Mode::Enforce,
        derived: Arc::default(),
        activity: Default::default(),
        objects: Arc::default(),
        unseen: Arc::default(),
    }
}

fn header(session: SessionId, started: SystemTime, n: u32) -> Header {
    let agent = format!("agent-{}", n % 20);
    Header {
        session,
        started,
        agent: Some(agent.clone()),
        mode: Mode::Enforce,
        identity: IdentityNote::Verified {
            kind: config::Kind::Service,
            confirmed: None,
            grace: None,
            issuer: "https://okta.example".into(),
            subject: agent.clone(),
            client_id: agent,
            groups: Vec::new(),
            scopes: Vec::new(),
            expires: started + DAY,
        },
        process: Process {
            pid: n,
            executable: Some("/usr/bin/psql".into()),
            argv: vec!["psql".into(), "shop".into()],
            ..Process::default()
        },
        resource: Some("orders".into()),
        protocol: "postgres".into(),
        destination: ([10, 0, 0, 1], 5432).into(),
        observed: vec!["db.prod.internal".into()],
        database: Some("shop".into()),
        login: Some("hoop_orders".into()),
        client_user: None,
        application: Some("psql".into()),
        netns: None,
    }
}

fn permitted(
    decider: &Decider,
    subject: &Subject,
    exchange: u64,
    sql: &str,
) -> Result<Permitted, Unusable> {
    let length = u32::try_from(sql.len() + 5)?;
    let mut wire = BytesMut::from(&b"Q"[..]);
    wire.extend_from_slice(&length.to_be_bytes());
    wire.extend_from_slice(sql.as_bytes());
    wire.extend_from_slice(b"\0");
    let asked = SqlAsked {
        step: SqlStep::Simple,
        candidates: smallvec![text(sql)],
        parameters: Arc::new([]),
    };
    let unit = Unit {
        end: wire.len(),
        asked: Asked::Sql(asked),
    };
    let request = Request {
        exchange: ExchangeId(exchange),
        units: smallvec![unit],
        wire: wire.freeze(),
    };
    match decider.decide(subject, request) {
        Decided::Permitted(permitted) => Ok(permitted),
        other => unusable(format!("{sql} is not permitted: {other:?}")),
    }
}

fn text(sql: &str) -> Arc<SqlText> {
    let mut hasher = DefaultHasher::new();
    sql.hash(&mut hasher);
    Arc::new(SqlText {
        text: sql.into(),
        hash: hasher.finish(),
    })
}

fn rows(exchange: u64) -> Result<Masked, Unusable> {
    let mut wire = BytesMut::new();
    for n in 0..ROWS {
        let mut row = RowWriter::new(&mut wire);
        row.push(Some(n.to_string().as_bytes()));
        row.push(Some(b"a note about an order, as long as notes are"));
        row.finish();
    }
    let column = |label: &str| Column {
        label: label.into(),
        table: 0,
        attribute: 0,
        kind: 25,
        binary: false,
    };
    let columns = Columns {
        columns: vec![column("id"), column("note")],
    };
    let exchange = ExchangeId(exchange);
    let kind = PartKind::Rows {
        count: ROWS,
        columns: Some(Arc::new(columns)),
    };
    let part = Part {
        exchange,
        unit: 0,
        end: wire.len(),
        kind,
    };
    let replies = Replies {
        wire: wire.freeze(),
        parts: vec![part],
    };
    let mut masker = Masker::new(Rules::of([], &HashKey::new(&[0; 32]), 1000));
    match masker.mask(replies, &Arc::default()) {
        Masking::Done(masked) => Ok(masked),
        Masking::NeedsCatalog(_) => unusable("nothing is masked, and yet a catalog is needed"),
    }
}

fn refusal(exchange: u64) -> Refusal {
    Refusal {
        exchange: ExchangeId(exchange),
        unit: 0,
        code: Code::Forbidden,
        message: "agent may not delete from public.users on orders".into(),
        rule: None,
        retry: Retry::Never,
        hint: "ask for less".into(),
        approval: None,
        asked: Some(text("DELETE FROM public.users")),
    }
}

/// One entry for each session, and of twenty one is of people.
fn ledger(folder: &Path, sessions: u32) -> Result<(), Unusable> {
    let mut ledger = Ledger::open(folder, "keeper")?;
    for n in 0..sessions {
        let entry = match n % 20 {
            0 => Entry::Admin {
                who: "ada".into(),
                via: "console".into(),
                action: "kill".into(),
                about: n.to_string(),
                reason: "it runs for too long".into(),
                problem: None,
            },
            _ => Entry::Worker {
                kind: "token".into(),
                detail: "a token was renewed".into(),
                session: Some(n.to_string()),
            },
        };
        ledger.append(&entry)?;
    }
    Ok(())
}

/// Questions that were answered and used, and some that wait; the id of one that waits.
fn approvals(folder: &Path, count: u32, now: SystemTime) -> Result<QuestionId, Unusable> {
    let wait = time::Duration::days(2);
    let mut desk = Desk::new(Terms {
        wait,
        wait_in_transaction: wait,
        answer_for: wait,
        keep: true,
    });
    let (mut log, _) = ApprovalLog::open(folder, &[], &mut desk)?;
    let now = OffsetDateTime::from(now);
    let mut last = QuestionId::new(0);
    for n in 0..count + WAITING {
        let at = now - time::Duration::seconds((count + WAITING - n).into());
        last = QuestionId::new(u64::from(n) + 1);
        let asked = desk.ask(at, last, Ticket(n.into()), asking(n), vec!["olga".into()]);
        let mut entries = asked.entries;
        if n < count {
            let ballot = Ballot {
                voter: Voter {
                    name: "ada".into(),
                    groups: vec!["dba".into()],
                    root: false,
                    via: "console",
                },
                verdict: Verdict::Approve,
                reason: "ticket 4711".into(),
                break_glass: false,
            };
            entries.extend(desk.vote(at, last, ballot)?.entries);
        }
        for entry in &entries {
            log.append(entry)?;
        }
    }
    Ok(last)
}

fn asking(n: u32) -> Asking {
    let agent = format!("agent-{}", n % 20);
    Asking {
        agent: agent.as_str().into(),
        subject: agent.clone(),
        session: id(SystemTime::UNIX_EPOCH, n),
        resource: "orders".into(),
        database: "shop".into(),
        login: "hoop_orders".into(),
        caller: Caller {
            pid: n,
            uid: 0,
            executable: Some("/usr/bin/psql".into()),
            command: "psql shop".into(),
            cgroup: format!("agents.slice/{agent}.service"),
            parents: vec!["python3".into(), "systemd".into()],
        },
        message: format!("{agent} wants to change public.users on orders"),
        statements: vec![Shown {
            text: format!("UPDATE public.users SET note = 'a note' WHERE id = {n}"),
            parameters: Vec::new(),
        }],
        fingerprint: format!("{:016x}", n % 50),
        digest: format!("{n:064x}"),
        demands: vec![Demand {
            rule: "changes".into(),
            wording: String::new(),
            groups: vec![vec!["dba".into()]],
            approvals: 1,
            wait: None,
            scope: Scope::Statement,
            lasts: 600,
            reason: false,
            break_glass: Vec::new(),
        }],
        in_transaction: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.map(|p| if p.is_dir() { files(&p) } else { 1 }).sum()
    }

    #[test]
    fn a_short_past_is_made_of_what_hoop_itself_permits_and_writes() {
        let state = tempfile::tempdir().unwrap();
        let past = make(state.path(), 40).unwrap();
        assert_eq!(files(&state.path().join("recordings")), 40);
        assert!(!past.session.is_empty() && !past.question.is_empty());
    }
}
