//! From events to what happened: wire bytes become statements, rows and errors again.
//!
//! Everything here comes out of a file: it is decoded with the bounded codecs of `wire`, and what
//! does not decode is left out rather than guessed.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::host::{self, HostEvent};
use super::read::{Recorded, SealState, Told};
use super::summary::{at, rfc3339};
use crate::record::{Cut, FoundNote, PermittedNote, RefusalNote, RepliesNote};
use crate::record::{Header, IdentityNote};
use crate::wire::postgres::frame::{HEADER, Header as FrameHeader};
use crate::wire::postgres::frontend::{self, Frontend};
use crate::wire::postgres::{backend, fields, rows};

/// One line of `hoop replay --json`. The keys are kept.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// RFC 3339.
    pub at: String,
    /// Microseconds since the recording began, by a clock that is never set.
    pub elapsed_us: u64,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Session(Value),
    Request {
        exchange: u64,
        verdict: &'static str,
        statements: Vec<Statement>,
        rules: Vec<String>,
        /// In observe mode: what enforce mode would have refused.
        would_refuse: Option<Refused>,
        /// What the decision was based on: a fingerprint of the text, verbs, whether code ran that
        /// is not seen.
        found: Vec<FoundNote>,
        bytes: u64,
        truncated: bool,
        /// SHA-256 of a request that was not kept whole.
        sha256: Option<String>,
    },
    Refusal {
        verdict: &'static str,
        #[serde(flatten)]
        refused: Refused,
    },
    Reply {
        exchange: u64,
        columns: Vec<String>,
        /// Values as text where they came as text; binary ones as `\x…`.
        rows: Vec<Vec<Option<String>>>,
        /// All rows of this batch, kept or not.
        row_count: u32,
        tags: Vec<String>,
        errors: Vec<Report>,
        notices: Vec<Report>,
        masked: u64,
        bytes: u64,
        truncated: bool,
    },
    Bulk {
        exchange: u64,
        bytes: u64,
        end: bool,
    },
    Cancel {
        exchange: Option<u64>,
    },
    /// The token was renewed; later requests were decided for these groups and scopes.
    Renewed {
        identity_epoch: u64,
        groups: Vec<String>,
        scopes: Vec<String>,
        expires: String,
    },
    /// People were asked, and the client was held.
    Question {
        exchange: u64,
        question: String,
        message: String,
        statements: Vec<String>,
        rules: Vec<String>,
        /// RFC 3339.
        until: String,
        joined: bool,
    },
    Answer {
        exchange: u64,
        question: Option<String>,
        /// `approved`, `refused`, `expired`, `cancelled`, `unavailable` or `changed`.
        outcome: String,
        by: Vec<Person>,
        scope: Option<String>,
        break_glass: bool,
        held_ms: u64,
    },
    End {
        end: String,
        reason: String,
        outcome: String,
        requests: u64,
        refusals: u64,
        rows: u64,
        bytes: u64,
    },
    Seal {
        key: String,
        good: bool,
    },
    Entry {
        entry: Value,
    },
    /// Of a session on a host.
    #[serde(untagged)]
    Host(HostEvent),
}

/// Who answered, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Person {
    pub who: String,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Statement {
    /// `simple`, `prepare` or `run`; of SSH `exec`, `shell`, `subsystem`, `connect`
    /// or `sftp`; of Kubernetes `request`, and `exec` where it runs a command.
    pub step: &'static str,
    pub text: String,
    /// As bound: text, `\x…` for binary, null.
    pub parameters: Vec<Option<String>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    pub exchange: u64,
    pub unit: u16,
    pub text: Option<String>,
    pub message: String,
    pub rule: Option<String>,
    pub hint: String,
    /// The JSON line that the agent got.
    pub detail: Value,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// Follows one session: names of statements and columns of results carry over from line to line.
#[derive(Default)]
pub struct Story {
    statements: HashMap<Bytes, String>,
    portals: HashMap<Bytes, (String, Vec<Option<String>>)>,
    /// Formats of the result that was described last: rows may come in a later batch.
    binary: Vec<bool>,
    /// The session was SSH, or a request to an API server: both are told in the same messages.
    host: bool,
}

/// Names that a hostile recording may make this remember.
const MAX_NAMES: usize = 20_000;

impl Story {
    pub fn tell(&mut self, recorded: Recorded) -> Vec<Line> {
        let at = at(i128::from(recorded.times.at) * 1000);
        let elapsed_us = recorded.times.since;
        let events = match recorded.told {
            Told::Header(header) => {
                self.host = matches!(&*header.protocol, "ssh" | "kubernetes");
                vec![Event::Session(session(&header))]
            }
            Told::Permitted(note) if self.host => {
                let terminal = host::terminal(&note.wire.kept).map(Event::Host);
                terminal.into_iter().chain([self.request(&note)]).collect()
            }
            Told::Permitted(note) => vec![self.request(&note)],
            Told::Refused(note) => {
                vec![Event::Refusal {
                    verdict: "refuse",
                    refused: refused(note),
                }]
            }
            Told::Replies(note) if self.host => host::replies(&note),
            Told::Replies(note) => self.replies(&note),
            Told::Bulk(note) if self.host => host::bulk(&note),
            Told::Transfer(note) => vec![Event::Host(host::transfer(note))],
            Told::Bulk(note) => {
                vec![Event::Bulk {
                    exchange: note.exchange,
                    bytes: note.wire.length,
                    end: note.end,
                }]
            }
            Told::Cancel(exchange) => vec![Event::Cancel { exchange }],
            Told::Renewed(note) => vec![Event::Renewed {
                identity_epoch: note.identity_epoch,
                groups: note.groups,
                scopes: note.scopes,
                expires: rfc3339(note.expires),
            }],
            Told::Asked(note) => vec![Event::Question {
                exchange: note.exchange,
                question: note.question,
                message: note.message,
                statements: note.statements,
                rules: note.rules,
                until: rfc3339(note.until),
                joined: note.joined,
            }],
            Told::Answered(note) => {
                let person = |(who, reason)| Person { who, reason };
                vec![Event::Answer {
                    exchange: note.exchange,
                    question: note.question,
                    outcome: note.outcome,
                    by: note.by.into_iter().map(person).collect(),
                    scope: note.scope,
                    break_glass: note.break_glass,
                    held_ms: note.held,
                }]
            }
            Told::End(note) => vec![Event::End {
                end: note.kind,
                reason: note.reason,
                outcome: note.outcome,
                requests: note.requests,
                refusals: note.refusals,
                rows: note.rows,
                bytes: note.bytes,
            }],
            Told::Seal(note, state) => {
                vec![Event::Seal {
                    key: crate::hex::encode(note.public_key),
                    good: state == SealState::Good,
                }]
            }
            Told::Entry(entry) => vec![Event::Entry { entry }],
        };
        events
            .into_iter()
            .map(|event| Line {
                at: at.clone(),
                elapsed_us,
                event,
            })
            .collect()
    }

    fn request(&mut self, note: &PermittedNote<'_>) -> Event {
        let mut rules: Vec<String> = note.units.iter().flat_map(|u| u.rules.clone()).collect();
        rules.sort();
        rules.dedup();
        let would_refuse = note.units.iter().find_map(|u| u.would_refuse.clone());
        Event::Request {
            exchange: note.exchange,
            verdict: "allow",
            statements: match self.host {
                true => host::statements(&note.wire.kept),
                false => self.statements(&note.wire),
            },
            rules,
            would_refuse: would_refuse.map(refused),
            found: note.units.iter().filter_map(|u| u.found.clone()).collect(),
            bytes: note.wire.length,
            truncated: note.wire.digest.is_some(),
            sha256: note.wire.digest.map(crate::hex::encode),
        }
    }

    fn statements(&mut self, wire: &Cut<'_>) -> Vec<Statement> {
        let mut found = Vec::new();
        if self.statements.len() + self.portals.len() > MAX_NAMES {
            self.statements.clear();
            self.portals.clear();
        }
        for (tag, body) in messages(&wire.kept) {
            match frontend::decode(tag, Bytes::copy_from_slice(body)) {
                Ok(Frontend::Query(text)) => {
                    found.push(Statement {
                        step: "simple",
                        text: lossy(&text),
                        parameters: Vec::new(),
                    });
                }
                Ok(Frontend::Parse { name, text, .. }) => {
                    let text = lossy(&text);
                    self.statements.insert(name, text.clone());
                    found.push(Statement {
                        step: "prepare",
                        text,
                        parameters: Vec::new(),
                    });
                }
                Ok(Frontend::Bind(bind)) => {
                    let text = self
                        .statements
                        .get(&bind.statement)
                        .cloned()
                        .unwrap_or_default();
                    let values = bind.values.iter().enumerate();
                    let values =
                        values.map(|(i, v)| v.as_ref().map(|v| value(v, bind.is_binary(i))));
                    self.portals
                        .insert(bind.portal.clone(), (text, values.collect()));
                }
                Ok(Frontend::Execute { portal, .. }) => {
                    let (text, parameters) = self.portals.get(&portal).cloned().unwrap_or_default();
                    found.push(Statement {
                        step: "run",
                        text,
                        parameters,
                    });
                }
                _ => {}
            }
        }
        found.extend(unfinished(&wire.kept));
        found
    }

    fn replies(&mut self, note: &RepliesNote<'_>) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        let mut from = 0usize;
        // The recorder counts for the batch; it is said once.
        let mut masked = note.masked;
        for span in &note.spans {
            let end = from.saturating_add(usize::try_from(span.kept).unwrap_or(usize::MAX));
            let bytes = note.kept.get(from..end).unwrap_or_default();
            from = end;
            let mut reply = Reply::default();
            reply.read(bytes, &mut self.binary);
            let truncated = span.kept != span.length;
            match events.last_mut() {
                Some(Event::Reply {
                    exchange,
                    columns,
                    rows,
                    row_count,
                    tags,
                    errors,
                    notices,
                    bytes,
                    truncated: cut,
                    ..
                }) if *exchange == span.exchange => {
                    if columns.is_empty() {
                        *columns = reply.columns;
                    }
                    rows.extend(reply.rows);
                    *row_count = row_count.saturating_add(span.rows);
                    tags.extend(reply.tags);
                    errors.extend(reply.errors);
                    notices.extend(reply.notices);
                    *bytes = bytes.saturating_add(span.length);
                    *cut |= truncated;
                }
                _ => events.push(Event::Reply {
                    exchange: span.exchange,
                    columns: reply.columns,
                    rows: reply.rows,
                    row_count: span.rows,
                    tags: reply.tags,
                    errors: reply.errors,
                    notices: reply.notices,
                    masked: std::mem::take(&mut masked),
                    bytes: span.length,
                    truncated,
                }),
            }
        }
        events
    }
}

#[derive(Default)]
struct Reply {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
    tags: Vec<String>,
    errors: Vec<Report>,
    notices: Vec<Report>,
}

impl Reply {
    fn read(&mut self, wire: &[u8], binary: &mut Vec<bool>) {
        for (tag, body) in messages(wire) {
            match tag {
                backend::tag::ROW_DESCRIPTION => {
                    let Ok(described) = rows::description(Bytes::copy_from_slice(body)) else {
                        continue;
                    };
                    *binary = described.iter().map(|f| f.binary).collect();
                    self.columns = described.into_iter().map(|f| f.label).collect();
                }
                backend::tag::DATA_ROW => {
                    let Ok(values) = rows::values(body) else {
                        continue;
                    };
                    let values = values.map_while(Result::ok).enumerate();
                    let text = |(i, v): (usize, Option<&[u8]>)| {
                        v.map(|v| value(v, binary.get(i).copied().unwrap_or(false)))
                    };
                    self.rows.push(values.map(text).collect());
                }
                backend::tag::COMMAND_COMPLETE => {
                    self.tags
                        .push(lossy(body.strip_suffix(b"\0").unwrap_or(body)));
                }
                backend::tag::ERROR => self.errors.push(report(body)),
                backend::tag::NOTICE => self.notices.push(report(body)),
                _ => {}
            }
        }
    }
}

/// Whole messages, as far as there are any.
fn messages(wire: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let header = FrameHeader::peek(rest).ok()??;
        let (message, after) = rest.split_at_checked(header.wire_len())?;
        rest = after;
        Some((header.tag, message.get(HEADER..)?))
    })
}

/// The statement in a message that was not kept whole, as far as it was.
fn unfinished(wire: &[u8]) -> Option<Statement> {
    let whole: usize = messages(wire).map(|(_, body)| HEADER + body.len()).sum();
    let rest = wire.get(whole..)?;
    let (tag, body) = (rest.first()?, rest.get(HEADER..)?);
    let (step, text) = match tag {
        b'Q' => ("simple", body),
        // A name comes first.
        b'P' => ("prepare", body.get(memchr::memchr(0, body)? + 1..)?),
        _ => return None,
    };
    Some(Statement {
        step,
        text: format!("{} …", lossy(text)),
        parameters: Vec::new(),
    })
}

fn report(body: &[u8]) -> Report {
    let text = |code| fields::field(body, code).map(lossy);
    Report {
        severity: text(b'V').or_else(|| text(b'S')).unwrap_or_default(),
        sqlstate: text(b'C').unwrap_or_default(),
        message: text(b'M').unwrap_or_default(),
        detail: text(b'D'),
        hint: text(b'H'),
    }
}

fn refused(note: RefusalNote) -> Refused {
    Refused {
        exchange: note.exchange,
        unit: note.unit,
        text: note.asked,
        message: note.message,
        rule: note.rule,
        hint: note.hint,
        detail: serde_json::from_str(&note.line).unwrap_or(Value::String(note.line)),
    }
}

fn session(header: &Header) -> Value {
    let identity = match &header.identity {
        IdentityNote::Verified {
            issuer,
            subject,
            client_id,
            groups,
            scopes,
            expires,
            kind,
            confirmed,
            grace,
        } => json!({
            "verified": true, "kind": kind.name(), "issuer": issuer, "subject": subject,
            "client_id": client_id, "groups": groups, "scopes": scopes,
            "expires": rfc3339(*expires), "confirmed": confirmed.map(rfc3339), "grace": grace,
        }),
        IdentityNote::Unverified { why } => json!({ "verified": false, "why": why }),
    };
    json!({
        "session": header.session.to_string(),
        "started": rfc3339(header.started),
        "agent": header.agent,
        "mode": header.mode,
        "identity": identity,
        "process": header.process,
        "resource": header.resource,
        "protocol": header.protocol,
        "destination": header.destination.to_string(),
        "observed": header.observed,
        "database": header.database,
        "login": header.login,
        "client_user": header.client_user,
        "application": header.application,
        "netns": header.netns,
    })
}

/// A value for people: text as it is, anything else in hexadecimal as PostgreSQL writes bytea.
fn value(bytes: &[u8], binary: bool) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !binary => text.to_owned(),
        _ => format!("\\x{}", crate::hex::encode(bytes)),
    }
}

fn lossy(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}
