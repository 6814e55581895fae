//! A client that sends each text as it is, in one message, over the owner's socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hoop_tests::Postgres;

use super::fixture::Fixture;

/// The strongest lock that was taken on a relation. The order is that of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    Read,
    /// Rows are locked.
    Rows,
    Write,
    Define,
}

impl Lock {
    fn new(mode: &str) -> Self {
        match mode {
            "AccessShareLock" => Self::Read,
            "RowShareLock" => Self::Rows,
            "RowExclusiveLock" => Self::Write,
            _ => Self::Define,
        }
    }
}

pub struct Connection(UnixStream);

impl Connection {
    pub fn open(postgres: &Postgres, database: &str) -> Self {
        let socket = UnixStream::connect(postgres.socket().join(".s.PGSQL.5432")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut connection = Self(socket);
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        for text in ["user", "owner", "database", database] {
            startup.extend(text.as_bytes());
            startup.push(0);
        }
        startup.push(0);
        let length = u32::try_from(startup.len() + 4).unwrap().to_be_bytes();
        connection
            .0
            .write_all(&[&length[..], &startup].concat())
            .unwrap();
        connection.answer().unwrap();
        connection
    }

    /// The rows of a text, or the server's error.
    pub fn run(&mut self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        self.send(b'Q', &[sql.as_bytes(), &[0]].concat());
        self.answer()
    }

    /// Runs a text and takes it back; what it locked by the strongest lock on each relation.
    pub fn locks_of(
        &mut self,
        sql: &str,
        fixture: &Fixture,
    ) -> Result<BTreeMap<String, Lock>, String> {
        self.run("BEGIN; SAVEPOINT a").unwrap();
        let ran = self.run(sql);
        let locks = ran.and_then(|_| self.locks(fixture));
        self.run("ROLLBACK").ok();
        self.run("DISCARD ALL").unwrap();
        locks
    }

    fn locks(&mut self, fixture: &Fixture) -> Result<BTreeMap<String, Lock>, String> {
        let rows = self.run(
            "SELECT l.relation, n.nspname || '.' || c.relname, l.mode, c.relkind \
             FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation \
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' \
             AND l.relation >= 16384 AND l.database <> 0",
        )?;
        let mut locks = BTreeMap::new();
        for row in rows {
            // What a statement renames or drops goes by its old name.
            let Some(name) = fixture.name(&row[0]).or_else(|| made(&row[1], &row[3])) else {
                continue;
            };
            let lock = Lock::new(&row[2]);
            let strongest = locks.entry(name).or_insert(lock);
            *strongest = lock.max(*strongest);
        }
        Ok(locks)
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        self.0
            .write_all(&[&[kind][..], &length, body].concat())
            .unwrap();
    }

    fn answer(&mut self) -> Result<Vec<Vec<String>>, String> {
        let mut rows = Vec::new();
        let mut error = None;
        loop {
            let (kind, body) = self.message();
            match kind {
                b'D' => rows.push(row(&body)),
                b'E' => error = error.or(Some(message(&body))),
                // Nothing follows: no statement here brings data.
                b'G' => self.send(b'f', b"none\0"),
                b'Z' => return error.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    fn message(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let mut body = vec![0; length as usize - 4];
        self.0.read_exact(&mut body).unwrap();
        (head[0], body)
    }
}

/// The name of a relation that the statement made; indexes and what holds long values are not
/// named by statements.
fn made(name: &str, kind: &str) -> Option<String> {
    let (schema, name) = name.split_once('.')?;
    let counts = matches!(kind, "r" | "p" | "v" | "m" | "f" | "S") && schema != "pg_toast";
    let schema = match schema.starts_with("pg_temp_") {
        true => "pg_temp",
        false => schema,
    };
    counts.then(|| format!("{schema}.{name}"))
}

fn row(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut values = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        // -1 is NULL.
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let (value, after) = after.split_at(length);
        values.push(String::from_utf8_lossy(value).into_owned());
        rest = after;
    }
    values
}

/// SQLSTATE: the server's words vary.
fn message(body: &[u8]) -> String {
    let fields = body.split(|byte| *byte == 0);
    let code = fields
        .into_iter()
        .find(|field| field.first() == Some(&b'C'));
    String::from_utf8_lossy(code.map_or(b"".as_slice(), |code| &code[1..])).into_owned()
}
