//! A server that knows PostgreSQL's rules of transactions, names and skipping, and a few words:
//! `rows N`, `big N`, `copyin`, `copyout`, `hang`, `fail`, `begin`, `rollback`, `commit`. Anything
//! else is a command that succeeds. It keeps what was committed for tests to look at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::wire::postgres::backend::{self, Transaction};
use crate::wire::postgres::fields::{ERROR, Report};
use crate::wire::postgres::frontend::{Frontend, Target, decode};
use crate::wire::postgres::rows::{Field, RowWriter, describe};
use crate::wire::postgres::{copy, frame};

#[derive(Clone, Default)]
pub struct Fake {
    /// Texts that were run and committed.
    pub committed: Arc<Mutex<Vec<String>>>,
    /// Bytes of COPY data.
    pub copied: Arc<Mutex<Vec<u8>>>,
    /// Whether `refuse` in a text is an error of its own.
    pub refuses: bool,
    /// Every message that arrived, by type.
    pub arrived: Arc<Mutex<String>>,
}

struct State {
    fake: Fake,
    stream: DuplexStream,
    out: BytesMut,
    input: BytesMut,
    statements: HashMap<Bytes, String>,
    portals: HashMap<Bytes, String>,
    transaction: Transaction,
    uncommitted: Vec<String>,
    skipping: bool,
}

type Failed = (&'static str, String);

impl Fake {
    pub async fn serve(self, stream: DuplexStream) {
        let mut state = State {
            fake: self,
            stream,
            out: BytesMut::new(),
            input: BytesMut::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            transaction: Transaction::Idle,
            uncommitted: vec![],
            skipping: false,
        };
        while let Some(message) = state.next().await {
            match message {
                Frontend::Terminate => return,
                Frontend::Sync => state.sync(),
                Frontend::Flush => {}
                _ if state.skipping => continue,
                message => state.message(message).await,
            }
            let out = state.out.split();
            if state.stream.write_all(&out).await.is_err() {
                return;
            }
        }
    }

    pub fn committed(&self) -> Vec<String> {
        self.committed.lock().unwrap().clone()
    }
}

impl State {
    async fn next(&mut self) -> Option<Frontend> {
        loop {
            if let Some((tag, body)) = frame::split(&mut self.input, 1 << 30).unwrap() {
                self.fake.arrived.lock().unwrap().push(char::from(tag));
                return Some(decode(tag, body).unwrap());
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    fn refuses(&self, query: &str) -> bool {
        self.fake.refuses && query.contains("refuse")
    }

    fn sync(&mut self) {
        self.skipping = false;
        if self.transaction == Transaction::Idle {
            self.commit();
        }
        self.ready();
    }

    fn commit(&mut self) {
        self.fake
            .committed
            .lock()
            .unwrap()
            .append(&mut self.uncommitted);
        self.portals.clear();
    }

    fn ready(&mut self) {
        self.out.extend(backend::ready_message(self.transaction));
    }

    async fn message(&mut self, message: Frontend) {
        let simple = matches!(message, Frontend::Query(_) | Frontend::FunctionCall { .. });
        if let Err((code, message)) = self.obey(message).await {
            let report = Report {
                severity: "ERROR",
                code,
                message: &message,
                ..Report::default()
            };
            self.out.extend(report.encode(ERROR));
            self.uncommitted.clear();
            if self.transaction == Transaction::Open {
                self.transaction = Transaction::Failed;
            }
            self.skipping = !simple;
        }
        if simple {
            if self.transaction == Transaction::Idle {
                self.commit();
            }
            self.ready();
        }
    }

    async fn obey(&mut self, message: Frontend) -> Result<(), Failed> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let missing =
            |what: &str, name: &Bytes| format!("{what} \"{}\" does not exist", text(name));
        match message {
            Frontend::Query(query) => self.run(&text(&query), true).await?,
            Frontend::Parse {
                name, text: query, ..
            } => {
                if text(&query).contains("syntax") || self.refuses(&text(&query)) {
                    return Err(("42601", "syntax error".into()));
                }
                if !name.is_empty() && self.statements.contains_key(&name) {
                    return Err(("42P05", "already exists".into()));
                }
                self.statements.insert(name, text(&query));
                self.say(b'1');
            }
            Frontend::Bind(bind) => {
                let found = self.statements.get(&bind.statement);
                let Some(found) = found else {
                    return Err(("26000", missing("prepared statement", &bind.statement)));
                };
                self.portals.insert(bind.portal, found.clone());
                self.say(b'2');
            }
            Frontend::Execute { portal, .. } => {
                let Some(query) = self.portals.get(&portal).cloned() else {
                    return Err(("34000", missing("portal", &portal)));
                };
                self.run(&query, false).await?;
            }
            Frontend::Describe(Target::Portal(portal)) => {
                let Some(query) = self.portals.get(&portal).cloned() else {
                    return Err(("34000", missing("portal", &portal)));
                };
                self.describe(&query);
            }
            Frontend::Describe(Target::Statement(_)) => self.say(b'n'),
            Frontend::Close(target) => {
                match target {
                    Target::Statement(name) => self.statements.remove(&name),
                    Target::Portal(name) => self.portals.remove(&name),
                };
                self.say(b'3');
            }
            Frontend::FunctionCall { .. } => self.out.extend(frame::message(b'V', &[&[0xff; 4]])),
            _ => {}
        }
        Ok(())
    }

    fn say(&mut self, tag: u8) {
        self.out.extend(frame::message(tag, &[]));
    }

    fn describe(&mut self, query: &str) {
        if query.starts_with("rows") || query.starts_with("big") {
            let label = query.to_owned();
            let field = Field {
                label,
                table: 1,
                attribute: 1,
                kind: 25,
                size: -1,
                modifier: -1,
                binary: false,
            };
            describe(&[field], &mut self.out);
        } else {
            self.say(b'n');
        }
    }

    async fn run(&mut self, query: &str, simple: bool) -> Result<(), Failed> {
        let number = |prefix| {
            query
                .strip_prefix(prefix)
                .and_then(|n: &str| n.trim().parse::<usize>().ok())
        };
        if query.starts_with("hoop_refused") || query.starts_with("syntax") || self.refuses(query) {
            return Err(("42601", "syntax error at or near".into()));
        }
        if self.transaction == Transaction::Failed && query != "rollback" {
            return Err(("25P02", "current transaction is aborted".into()));
        }
        if simple && (query.starts_with("rows") || query.starts_with("big")) {
            self.describe(query);
        }
        match query {
            "fail" => return Err(("22012", "division by zero".into())),
            "begin" => self.transaction = Transaction::Open,
            "commit" => {
                self.transaction = Transaction::Idle;
                self.commit();
            }
            "rollback" => {
                self.transaction = Transaction::Idle;
                self.uncommitted.clear();
            }
            "hang" => {
                let out = self.out.split();
                let _ = self.stream.write_all(&out).await;
                tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                return Err(("57014", "canceling statement due to user request".into()));
            }
            "set client_encoding" => {
                self.out
                    .extend(backend::parameter_message("client_encoding", "SJIS"));
            }
            "copyin" => return self.copy_in().await,
            "copyout" => {
                self.out.extend(frame::message(b'H', &[&[0, 0, 0]]));
                (0..3).for_each(|_| self.out.extend(copy::data(b"line\n")));
                self.say(b'c');
            }
            _ => {}
        }
        let value = vec![b'x'; number("big").unwrap_or(5)];
        let rows = number("rows").unwrap_or(usize::from(number("big").is_some()));
        for _ in 0..rows {
            let mut writer = RowWriter::new(&mut self.out);
            writer.push(Some(&value));
            writer.finish();
        }
        self.uncommitted.push(query.into());
        let tag = format!("{}\0", query.to_ascii_uppercase());
        self.out.extend(frame::message(b'C', &[tag.as_bytes()]));
        Ok(())
    }

    async fn copy_in(&mut self) -> Result<(), Failed> {
        self.out.extend(frame::message(b'G', &[&[0, 0, 0]]));
        let out = self.out.split();
        let _ = self.stream.write_all(&out).await;
        let mut data = vec![];
        loop {
            match self.next().await {
                Some(Frontend::CopyData(piece)) if piece.starts_with(b"bad") => {
                    return Err(("22P04", "bad data".into()));
                }
                Some(Frontend::CopyData(piece)) => data.extend(piece),
                Some(Frontend::CopyDone) => break,
                Some(Frontend::CopyFail(_)) => return Err(("57014", "COPY failed".into())),
                Some(Frontend::Sync | Frontend::Flush) => {}
                _ => return Err(("08P01", "unexpected message during COPY".into())),
            }
        }
        self.fake.copied.lock().unwrap().extend(data);
        self.uncommitted.push("copyin".into());
        self.out.extend(frame::message(b'C', &[b"COPY 1\0"]));
        Ok(())
    }
}
