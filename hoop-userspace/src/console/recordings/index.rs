//! What is known of every recorded session, small enough to be looked through from end to end.
//!
//! No tree and no inverted list: a text search passes over some hundred bytes for each session,
//! which for a hundred thousand of them takes some ten milliseconds. It is built anew at every
//! start, from the recordings, which alone are proof.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use crate::ids::SessionId;
use crate::record::{Header, IdentityNote};
use crate::replay::{Event, Line, Recorded, Story, Told};

/// Bytes of a session's statements that are searched: each distinct one once.
const MAX_TEXT: usize = 4096;
/// Of one statement.
const MAX_STATEMENT: usize = 1024;
/// Of all sessions together. Past it the oldest sessions are found by their facts alone.
const MAX_TOTAL: usize = 192 << 20;

/// Sessions that are remembered; past it the oldest are forgotten, some at a time.
const MAX_SESSIONS: usize = 250_000;
const FORGOTTEN: usize = 1_000;

/// Sessions by their ids, and so by when they began.
#[derive(Default)]
pub struct Index {
    /// A deque, since the newest recordings are read first: each older one comes before all others.
    entries: VecDeque<Known>,
    names: Names,
    /// Bytes of text.
    total: usize,
    /// Sessions that there are, as far as the keeper has listed them.
    pub listed: usize,
    /// Entries from the first on whose text was given up.
    textless: usize,
}

/// One session. What is the same in many is kept once, in [`Names`].
#[derive(Clone, Debug)]
pub struct Known {
    pub session: SessionId,
    pub agent: u32,
    pub identity: u32,
    pub resource: u32,
    pub database: u32,
    pub end: u32,
    pub requests: u32,
    pub refusals: u32,
    pub asked: u32,
    pub rows: u64,
    pub sealed: bool,
    /// Lower case: statements, and what the header names.
    pub text: Vec<u8>,
}

/// What became of a session's statements, the worst of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allow,
    Ask,
    Refuse,
}

impl Known {
    pub fn verdict(&self) -> Verdict {
        match (self.refusals, self.asked) {
            (0, 0) => Verdict::Allow,
            (0, _) => Verdict::Ask,
            _ => Verdict::Refuse,
        }
    }
}

/// Names by number.
#[derive(Default)]
pub struct Names {
    by_name: HashMap<String, u32>,
    all: Vec<String>,
}

/// Past it, names are kept as the last one: an agent invents no end of databases.
const MAX_NAMES: usize = 100_000;

impl Names {
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        if self.all.len() >= MAX_NAMES {
            return u32::MAX;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(name.to_owned());
        self.by_name.insert(name.to_owned(), number);
        number
    }

    pub fn name(&self, number: u32) -> &str {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.all.get(number))
            .map_or("…", String::as_str)
    }

    /// Numbers of the names that hold this text.
    pub fn holding(&self, text: &str) -> Vec<bool> {
        let text = text.to_lowercase();
        self.all
            .iter()
            .map(|name| name.to_lowercase().contains(&text))
            .collect()
    }
}

impl Index {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The number of a name, which it gets here if it has none.
    pub fn number(&mut self, name: &str) -> u32 {
        self.names.number(name)
    }

    /// From the first on, sessions whose statements are not searched any more.
    pub fn textless(&self) -> usize {
        self.textless
    }

    /// Oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Known> {
        self.entries.iter()
    }

    pub fn knows(&self, session: SessionId) -> bool {
        self.place(session).is_ok()
    }

    /// A session that begins to be known.
    pub fn begin(&mut self, header: &Header) {
        let names = &mut self.names;
        let mut number = |name: Option<&String>| names.number(name.map_or("", String::as_str));
        let (identity, client) = match &header.identity {
            IdentityNote::Verified {
                subject, client_id, ..
            } => (Some(subject), Some(client_id)),
            IdentityNote::Unverified { .. } => (None, None),
        };
        let known = Known {
            session: header.session,
            agent: number(header.agent.as_ref()),
            identity: number(identity),
            resource: number(header.resource.as_ref()),
            database: number(header.database.as_ref()),
            end: number(None),
            requests: 0,
            refusals: 0,
            asked: 0,
            rows: 0,
            sealed: false,
            text: Vec::new(),
        };
        self.put(known);
        let process = &header.process;
        let executable = process
            .executable
            .as_ref()
            .map(|path| path.display().to_string());
        let facts = [
            client.cloned(),
            executable,
            header.application.clone(),
            header.login.clone(),
        ];
        for fact in facts.into_iter().flatten().chain([process.argv.join(" ")]) {
            self.add(header.session, &fact);
        }
    }

    /// Puts a session in its place.
    pub fn put(&mut self, known: Known) {
        self.total += known.text.len();
        match self.place(known.session) {
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    self.total -= entry.text.len();
                    *entry = known;
                }
            }
            Err(at) => self.entries.insert(at, known),
        }
        if self.entries.len() > MAX_SESSIONS + FORGOTTEN {
            let gone = self.entries.drain(..FORGOTTEN);
            self.total -= gone.map(|entry| entry.text.len()).sum::<usize>();
            self.textless = self.textless.saturating_sub(FORGOTTEN);
        }
        self.bound();
    }

    /// Takes over one event of a session that is known.
    pub fn take(&mut self, session: SessionId, story: &mut Story, event: Recorded) {
        let Ok(at) = self.place(session) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        match &event.told {
            Told::Permitted(note) => {
                let more = u32::from(!note.is_connection());
                entry.requests = entry.requests.saturating_add(more);
            }
            Told::Refused(_) => entry.refusals = entry.refusals.saturating_add(1),
            // A freeze asks nobody anything.
            Told::Asked(note) if note.question.is_empty() => {}
            Told::Asked(_) => entry.asked = entry.asked.saturating_add(1),
            Told::Replies(replies) => {
                let rows: u64 = replies.spans.iter().map(|span| u64::from(span.rows)).sum();
                entry.rows = entry.rows.saturating_add(rows);
                // What was answered is not searched: it may be what nobody should find.
                return;
            }
            Told::End(end) => entry.end = self.names.number(&end.kind),
            Told::Seal(..) => entry.sealed = true,
            // What follows is told by the protocol that it names.
            Told::Header(_) => {}
            _ => return,
        }
        for line in story.tell(event) {
            for statement in statements(&line) {
                self.add(session, statement);
            }
        }
    }

    fn add(&mut self, session: SessionId, text: &str) {
        let Ok(at) = self.place(session) else {
            return;
        };
        if at < self.textless {
            return;
        }
        let Some(entry) = self.entries.get_mut(at) else {
            return;
        };
        let lower = text.to_lowercase();
        let lower = lower.as_bytes();
        let cut = lower.get(..MAX_STATEMENT).unwrap_or(lower);
        let room = MAX_TEXT.saturating_sub(entry.text.len() + 1);
        let known = memchr::memmem::find(&entry.text, cut).is_some();
        if cut.is_empty() || known || cut.len() > room {
            return;
        }
        entry.text.extend_from_slice(cut);
        // Nothing matches across two statements.
        entry.text.push(b'\n');
        self.total += cut.len() + 1;
        self.bound();
    }

    /// Gives up the text of the oldest.
    fn bound(&mut self) {
        while self.total > MAX_TOTAL {
            let Some(entry) = self.entries.get_mut(self.textless) else {
                return;
            };
            self.total -= entry.text.len();
            entry.text = Vec::new();
            self.textless += 1;
        }
    }

    fn place(&self, session: SessionId) -> Result<usize, usize> {
        self.entries
            .binary_search_by_key(&session, |entry| entry.session)
    }
}

/// The statements of an event, refused ones and those that were asked about too.
fn statements(line: &Line) -> Vec<&str> {
    match &line.event {
        Event::Request { statements, .. } => statements.iter().map(|s| &*s.text).collect(),
        Event::Refusal { refused, .. } => refused.text.as_deref().into_iter().collect(),
        Event::Question {
            statements,
            question,
            ..
        } => statements
            .iter()
            .chain([question])
            .map(String::as_str)
            .collect(),
        _ => Vec::new(),
    }
}
