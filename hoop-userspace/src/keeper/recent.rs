//! The newest entries of the keeper's ledgers, kept in memory for those who look at them.
//!
//! A ledger grows for as long as the keeper lives, and its chain can be followed from the beginning
//! alone: whoever showed its end would read all of it each time. So what is written is remembered,
//! as far as a page shows it, and what earlier keepers wrote is read once, when this one starts.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use super::lock;
use crate::replay::{Event, Reader, Story, rfc3339};

/// Entries that are shown.
const SHOWN: usize = 200;
/// Ledgers of one kind that are read back through, from the newest on: each start made one.
const READ_BACK: usize = 100;
/// Bytes of an entry that are remembered whole. Of a longer one, a question with its statements
/// most likely, its longest texts are cut.
const MAX_ENTRY: usize = 4096;
/// Characters that are left of such a text.
const CUT: usize = 400;

/// What people did, and what changed by it.
const OF_PEOPLE: [&str; 20] = [
    "admin",
    "signed_in",
    "kill",
    "frozen",
    "thawed",
    "suspended",
    "resumed",
    "reload",
    "started",
    "stopping",
    "upgrade_begun",
    "upgrade_refused",
    "upgraded",
    "break_glass",
    "bypass_opened",
    "bypass_ended",
    "approval_voted",
    "approval_settled",
    "approval_rejected",
    "approvals",
];

#[derive(Default)]
pub struct Recent(Mutex<Known>);

#[derive(Default)]
struct Known {
    now: Newest,
    /// Of earlier keepers.
    before: Newest,
    /// Ledgers that cannot be believed to their end, newest first.
    broken: Vec<Value>,
    /// The earlier ledgers were read.
    complete: bool,
}

/// Oldest first.
#[derive(Clone, Default)]
struct Newest {
    of_people: VecDeque<Noted>,
    all: VecDeque<Noted>,
}

#[derive(Clone)]
struct Noted {
    /// RFC 3339 in one form, which sorts by time.
    at: String,
    entry: Arc<Value>,
}

impl Recent {
    /// Takes over an entry that was written just now.
    pub fn note(&self, entry: &impl Serialize) {
        let Ok(entry) = serde_json::to_value(entry) else {
            return;
        };
        let noted = Noted {
            at: rfc3339(SystemTime::now()),
            entry: Arc::new(short(entry)),
        };
        lock(&self.0).now.push(noted);
    }

    /// Reads the ends of earlier ledgers, which are in the order in which they were begun. It blocks,
    /// for about a second where there are a hundred thousand entries.
    pub fn read_back(&self, ledgers: &[PathBuf]) {
        let (mut before, mut broken) = (Newest::default(), Vec::new());
        for kind in ["keeper-", "approvals-", "bypass-"] {
            let of_kind = ledgers.iter().rev().filter(|path| is_called(path, kind));
            let mut found = Newest::default();
            for path in of_kind.take(READ_BACK) {
                let mut older = Newest::default();
                if let Err(why) = older.read(path) {
                    broken.push(json!({
                        "at": "",
                        "entry": {
                            "event": "broken_ledger", "problem": why,
                            "ledger": path.file_name().map(|name| name.to_string_lossy()),
                        },
                    }));
                }
                found.put_before(older);
                if found.of_people.len() >= SHOWN {
                    break;
                }
            }
            before.merge(found);
        }
        let mut known = lock(&self.0);
        known.before = before;
        known.broken = broken;
        known.complete = true;
    }

    /// The newest entries, newest first; with `all` not only those of what people did. Above all: a
    /// ledger that was touched.
    pub fn shown(&self, all: bool) -> Value {
        let known = lock(&self.0);
        let now = known.now.of(all).iter().rev();
        let before = known.before.of(all).iter().rev();
        let mut newest: Vec<Noted> = now.chain(before).take(SHOWN).cloned().collect();
        let (broken, complete) = (known.broken.clone(), known.complete);
        drop(known);
        // Entries of two ledgers may stand in the order in which they came to be known.
        newest.sort_by(|a, b| b.at.cmp(&a.at));
        let newest = newest.iter();
        let newest = newest.map(|noted| json!({ "at": noted.at, "entry": *noted.entry }));
        let entries: Vec<Value> = broken.into_iter().chain(newest).take(SHOWN).collect();
        json!({ "entries": entries, "all": all, "complete": complete })
    }
}

impl Newest {
    fn of(&self, all: bool) -> &VecDeque<Noted> {
        if all { &self.all } else { &self.of_people }
    }

    fn push(&mut self, noted: Noted) {
        let event = noted.entry.get("event").and_then(Value::as_str);
        if event.is_some_and(|event| OF_PEOPLE.contains(&event)) {
            push(&mut self.of_people, noted.clone());
        }
        push(&mut self.all, noted);
    }

    /// Reads a ledger, as far as its chain holds; why no further, if so.
    fn read(&mut self, path: &Path) -> Result<(), String> {
        let mut reader = Reader::open(path).map_err(|error| error.to_string())?;
        let mut story = Story::default();
        loop {
            let event = reader.next_event().map_err(|error| error.to_string())?;
            let Some(event) = event else {
                return Ok(());
            };
            for line in story.tell(event) {
                if let Event::Entry { entry } = line.event {
                    self.push(Noted {
                        at: line.at,
                        entry: Arc::new(short(entry)),
                    });
                }
            }
        }
    }

    /// Takes over what is older than all of this.
    fn put_before(&mut self, older: Newest) {
        for (own, older) in [
            (&mut self.of_people, older.of_people),
            (&mut self.all, older.all),
        ] {
            for noted in older.into_iter().rev() {
                if own.len() >= SHOWN {
                    break;
                }
                own.push_front(noted);
            }
        }
    }

    /// Takes over what another ledger has of the same time.
    fn merge(&mut self, other: Newest) {
        for (own, other) in [
            (&mut self.of_people, other.of_people),
            (&mut self.all, other.all),
        ] {
            own.extend(other);
            own.make_contiguous().sort_by(|a, b| a.at.cmp(&b.at));
            own.drain(..own.len().saturating_sub(SHOWN));
        }
    }
}

fn push(entries: &mut VecDeque<Noted>, noted: Noted) {
    if entries.len() >= SHOWN {
        entries.pop_front();
    }
    entries.push_back(noted);
}

fn is_called(path: &Path, kind: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(kind))
}

/// The entry, with its longest texts cut if it is a long one: the ledger has all of it.
fn short(mut entry: Value) -> Value {
    if entry.to_string().len() > MAX_ENTRY {
        cut(&mut entry);
    }
    entry
}

fn cut(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(CUT) {
                text.truncate(end);
                text.push('…');
            }
        }
        Value::Array(values) => values.iter_mut().for_each(cut),
        Value::Object(members) => members.values_mut().for_each(cut),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ledger;
    use crate::replay::ledgers;

    fn admin(n: usize) -> Value {
        json!({ "event": "admin", "who": "ada", "about": n.to_string() })
    }

    fn abouts(recent: &Recent, all: bool) -> Vec<String> {
        let shown = recent.shown(all);
        let entries = shown["entries"].as_array().unwrap().iter();
        let about = entries.map(|e| e["entry"]["about"].as_str().unwrap_or("-").to_owned());
        about.collect()
    }

    #[test]
    fn the_newest_entries_of_all_ledgers_are_shown_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..3 {
            let mut ledger = Ledger::open(folder.path(), "keeper").unwrap();
            for entry in 0..90 {
                ledger.append(&admin(n * 90 + entry)).unwrap();
                ledger.append(&json!({ "event": "seen" })).unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let recent = Recent::default();
        assert_eq!(recent.shown(false)["complete"], false);
        recent.note(&admin(1000));
        recent.note(&json!({ "event": "capture", "about": "hook" }));
        recent.read_back(&ledgers(folder.path()));
        let shown = abouts(&recent, false);
        assert_eq!(shown.len(), SHOWN);
        assert_eq!(&shown[..3], ["1000", "269", "268"]);
        assert_eq!(shown[SHOWN - 1], "71");
        let all = abouts(&recent, true);
        assert_eq!(&all[..4], ["hook", "1000", "-", "269"]);
        assert_eq!(recent.shown(true)["complete"], true);
    }

    #[test]
    fn a_ledger_that_was_touched_is_said_first_and_believed_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), "keeper").unwrap();
        for n in 0..300 {
            ledger.append(&admin(n)).unwrap();
        }
        drop(ledger);
        let path = ledgers(folder.path()).remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let recent = Recent::default();
        recent.read_back(&ledgers(folder.path()));
        let shown = recent.shown(false);
        assert_eq!(shown["entries"][0]["entry"]["event"], "broken_ledger");
        assert_eq!(shown["entries"][1]["entry"]["about"], "298");
    }

    #[test]
    fn a_long_entry_is_cut() {
        let recent = Recent::default();
        let long = "x".repeat(MAX_ENTRY);
        recent.note(&json!({ "event": "admin", "asking": { "statements": [{ "text": long }] } }));
        let shown = recent.shown(false);
        let text = &shown["entries"][0]["entry"]["asking"]["statements"][0]["text"];
        assert_eq!(text.as_str().unwrap().chars().count(), CUT + 1);
    }
}
