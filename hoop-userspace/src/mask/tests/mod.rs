//! The masker with real facts: statements are decided by the real parser, and a server is played.

mod batches;
mod copied;
mod documents;
mod names;
mod random;
mod traced;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use smallvec::smallvec;

use super::*;
use crate::attribute::Process;
use crate::config::{Bundle, Config, How, Mode, PolicyFile};
use crate::decide::{Decided, Decider, Permitted, Subject};
use crate::identify::Identity;
use crate::ids::{Epochs, ExchangeId, SessionId};
use crate::terminate::{
    Asked, Column, Columns, Part, PartKind, Replies, Request, SqlAsked, SqlStep, SqlText, Unit,
};
use crate::wire::postgres::fields::{ERROR, Report};
use crate::wire::postgres::rows::{RowWriter, bodies, values};

const TEXT: u32 = 25;
const INT4: u32 = 23;

struct Bench {
    masker: Masker,
    /// What a look-up would find, and what one has found.
    catalog: Arc<Catalog>,
    current: Arc<Catalog>,
    exchanges: u64,
}

impl Bench {
    fn new(masks: &[&str], how: How, catalog: Catalog) -> Self {
        let patterns = masks.iter().map(|m| (pattern(m), how.clone()));
        let rules = Rules::of(patterns, &HashKey::new(&[5; 32]), 1 << 20);
        Self {
            masker: Masker::new(rules),
            catalog: Arc::new(catalog),
            current: Arc::default(),
            exchanges: 0,
        }
    }

    fn begin(&mut self, sql: &str) -> ExchangeId {
        let permitted = self.permitted(sql);
        self.masker.begin(&permitted, &self.current);
        permitted.exchange()
    }

    /// The same with these bytes on the wire.
    fn begin_sent(&mut self, sql: &str, wire: &[u8]) {
        let permitted = self.permitted_as(sql, Bytes::copy_from_slice(wire));
        self.masker.begin(&permitted, &self.current);
    }

    fn permitted(&mut self, sql: &str) -> Permitted {
        self.permitted_as(sql, Bytes::from_static(b"Q"))
    }

    fn permitted_as(&mut self, sql: &str, wire: Bytes) -> Permitted {
        self.exchanges += 1;
        let text = Arc::new(SqlText {
            text: sql.into(),
            hash: sql
                .bytes()
                .fold(17, |h, b| h * 31 % 0xffff_ffff_ffff + u64::from(b)),
        });
        let asked = SqlAsked {
            step: SqlStep::Simple,
            candidates: smallvec![text],
            parameters: Arc::new([]),
        };
        let request = Request {
            exchange: ExchangeId(self.exchanges),
            units: smallvec![Unit {
                end: wire.len(),
                asked: Asked::Sql(asked)
            }],
            wire,
        };
        match decider().decide(&subject(), request) {
            Decided::Permitted(permitted) => permitted,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// Masks as `session.rs` does: a batch that needs the catalog comes again with it.
    fn mask(&mut self, replies: Replies) -> Masked {
        let replies = match self.masker.mask(replies, &self.current) {
            Masking::Done(masked) => return masked,
            Masking::NeedsCatalog(replies) => replies,
        };
        self.current = self.catalog.clone();
        match self.masker.mask(replies, &self.current) {
            Masking::Done(masked) => masked,
            Masking::NeedsCatalog(_) => panic!("the catalog was asked for twice"),
        }
    }

    /// What the agent sees of one row of one statement.
    fn row(
        &mut self,
        sql: &str,
        columns: Vec<Column>,
        row: &[Option<&str>],
    ) -> Vec<Option<String>> {
        let exchange = self.begin(sql);
        let replies = batch(exchange, vec![(rows_part(columns, 1), data_row(row))]);
        shown(&self.mask(replies))
    }
}

/// Permits everything: statements that masks forbid are refused elsewhere; here they must do no harm.
fn decider() -> &'static Decider {
    static DECIDER: OnceLock<Decider> = OnceLock::new();
    DECIDER.get_or_init(|| {
        let text = "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
             login = { user = \"hoop\" }\n";
        let bundle = Bundle::from_text(Path::new("hoop.toml"), text);
        let mut config = Config::from_bundle(&bundle).unwrap();
        config.policy.files = vec![PolicyFile {
            name: "all.cedar".into(),
            text: "permit (principal, action in Action::\"sql\", resource);".into(),
        }];
        Decider::new(&config).unwrap()
    })
}

fn subject() -> Subject {
    Subject {
        session: SessionId::from([7; 16]),
        identity: Arc::new(Identity::for_test("bot", &[])),
        process: Arc::new(Process::default()),
        resource: "orders".into(),
        database: "appdb".into(),
        login: "hoop".into(),
        epochs: Epochs::default(),
        mode: Mode::Enforce,
        derived: Arc::default(),
        activity: Default::default(),
        objects: Arc::default(),
        unseen: Arc::default(),
    }
}

fn pattern(text: &str) -> crate::config::ColumnPattern {
    let mut parts = text.split('.').map(|p| (p != "*").then(|| p.to_owned()));
    crate::config::ColumnPattern {
        schema: parts.next().flatten(),
        table: parts.next().flatten(),
        column: parts.next().flatten(),
    }
}

fn relation(oid: u32, name: &str, columns: &[&str]) -> Relation {
    let columns = (1..).zip(columns.iter().map(|c| (*c).into()));
    Relation {
        oid,
        schema: "public".into(),
        name: name.into(),
        kind: RelationKind::Table,
        columns: BTreeMap::from_iter(columns),
        parents: Vec::new(),
        reads: Vec::new(),
        opaque: false,
    }
}

fn column(table: u32, attribute: i16, kind: u32) -> Column {
    Column {
        label: "x".into(),
        table,
        attribute,
        kind,
        binary: false,
    }
}

fn rows_part(columns: Vec<Column>, count: u32) -> PartKind {
    PartKind::Rows {
        count,
        columns: Some(Arc::new(Columns { columns })),
    }
}

fn data_row<V: AsRef<[u8]>>(row: &[Option<V>]) -> Bytes {
    let mut out = BytesMut::new();
    let mut writer = RowWriter::new(&mut out);
    for value in row {
        writer.push(value.as_ref().map(AsRef::as_ref));
    }
    writer.finish();
    out.freeze()
}

fn error(code: &str, message: &str, detail: &str) -> Bytes {
    let report = Report {
        severity: "ERROR",
        code,
        message,
        detail: Some(detail),
        hint: None,
    };
    report.encode(ERROR)
}

fn batch(exchange: ExchangeId, parts: Vec<(PartKind, Bytes)>) -> Replies {
    let mut wire = BytesMut::new();
    let mut placed = Vec::new();
    for (kind, bytes) in parts {
        wire.extend_from_slice(&bytes);
        placed.push(Part {
            exchange,
            unit: 0,
            end: wire.len(),
            kind,
        });
    }
    Replies {
        wire: wire.freeze(),
        parts: placed,
    }
}

/// The values of the first row that the client gets.
fn shown(masked: &Masked) -> Vec<Option<String>> {
    let body = bodies(masked.wire()).next().unwrap().unwrap();
    let text = |v: Option<&[u8]>| v.map(|v| String::from_utf8_lossy(v).into_owned());
    values(body).unwrap().map(|v| text(v.unwrap())).collect()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|w| w == needle)
}
