//! Looking through the index, newest first.

use memchr::memmem::Finder;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

use super::index::{Index, Known, Verdict};
use crate::console::fields::Fields;
use crate::ids::SessionId;

/// Sessions on one page.
const PAGE: usize = 50;

/// What is looked for; what is empty is not asked.
#[derive(Clone, Debug, Default)]
pub struct Search {
    pub agent: String,
    pub identity: String,
    pub resource: String,
    pub table: String,
    pub text: String,
    pub verdict: Option<Verdict>,
    /// Milliseconds since the epoch.
    pub since: Option<u64>,
    pub until: Option<u64>,
    /// Sessions before this one: the next page.
    pub before: Option<SessionId>,
}

impl Search {
    /// Of a query; which field makes no sense, if one does not.
    pub fn of(fields: &Fields) -> Result<Self, String> {
        let word = |name: &str| fields.get(name).trim().to_owned();
        let verdict = match fields.get("verdict") {
            "" => None,
            "allow" => Some(Verdict::Allow),
            "ask" => Some(Verdict::Ask),
            "refuse" => Some(Verdict::Refuse),
            other => return Err(format!("{other:?} is no verdict: allow, ask, refuse")),
        };
        let before = match fields.get("before") {
            "" => None,
            text => Some(
                text.parse::<SessionId>()
                    .map_err(|error| error.to_string())?,
            ),
        };
        Ok(Self {
            agent: word("agent"),
            identity: word("identity"),
            resource: word("resource"),
            table: word("table").to_lowercase(),
            text: word("text").to_lowercase(),
            verdict,
            since: moment(fields.get("since"))?,
            until: moment(fields.get("until"))?,
            before,
        })
    }

    /// One page of sessions, and where the next begins, if there is one.
    pub fn run(&self, index: &Index) -> Value {
        let names = index.names();
        let agents = names.holding(&self.agent);
        let identities = names.holding(&self.identity);
        let resources = names.holding(&self.resource);
        let text = Finder::new(self.text.as_bytes());
        let table = Finder::new(self.table.as_bytes());
        let has = |wanted: &str, set: &[bool], number: u32| {
            let known = usize::try_from(number)
                .ok()
                .and_then(|number| set.get(number));
            wanted.is_empty() || known.copied().unwrap_or(false)
        };
        let wanted = |known: &&Known| {
            self.in_time(known.session)
                && self
                    .verdict
                    .is_none_or(|verdict| verdict == known.verdict())
                && has(&self.agent, &agents, known.agent)
                && has(&self.identity, &identities, known.identity)
                && has(&self.resource, &resources, known.resource)
                && (self.text.is_empty() || text.find(&known.text).is_some())
                && (self.table.is_empty() || is_named(&table, &known.text))
        };
        let mut found: Vec<&Known> = index
            .entries()
            .rev()
            .filter(wanted)
            .take(PAGE + 1)
            .collect();
        let more = found.len() > PAGE;
        found.truncate(PAGE);
        let next = found
            .last()
            .filter(|_| more)
            .map(|known| known.session.to_string());
        json!({
            "sessions": found.iter().map(|known| shown(known, index)).collect::<Vec<_>>(),
            "next": next,
            "indexed": index.len(),
            "recorded": index.listed.max(index.len()),
            "without_text": index.textless(),
        })
    }

    fn in_time(&self, session: SessionId) -> bool {
        let at = began(session);
        self.before.is_none_or(|before| session < before)
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
    }
}

/// A session as lists show it. The keys are kept.
pub fn shown(known: &Known, index: &Index) -> Value {
    let names = index.names();
    let name = |number: u32| match names.name(number) {
        "" => Value::Null,
        name => json!(name),
    };
    let first = known
        .text
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    json!({
        "session": known.session.to_string(),
        "started": stamp(began(known.session)),
        "agent": name(known.agent),
        "identity": name(known.identity),
        "resource": name(known.resource),
        "database": name(known.database),
        "verdict": known.verdict(),
        "requests": known.requests,
        "refusals": known.refusals,
        "asked": known.asked,
        "rows": known.rows,
        "end": name(known.end),
        "sealed": known.sealed,
        "about": String::from_utf8_lossy(first.get(..120).unwrap_or(first)),
    })
}

/// A name by itself, not as a part of a longer one: `users` is in `public.users` and not in
/// `users_old`.
fn is_named(name: &Finder<'_>, text: &[u8]) -> bool {
    let part = |byte: Option<&u8>| {
        byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80)
    };
    name.find_iter(text).any(|at| {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        !part(before) && !part(text.get(at + name.needle().len()))
    })
}

/// Milliseconds since the epoch, which a session's id begins with.
pub fn began(session: SessionId) -> u64 {
    let millis = session.as_bytes().iter().take(6);
    millis.fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn stamp(millis: u64) -> String {
    let nanos = i128::from(millis) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// A day, a time as browsers' fields give it, or RFC 3339; all in UTC.
fn moment(text: &str) -> Result<Option<u64>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let day = time::macros::format_description!("[year]-[month]-[day]");
    let minute = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]");
    let parsed = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| {
            time::PrimitiveDateTime::parse(text, minute).map(time::PrimitiveDateTime::assume_utc)
        })
        .or_else(|_| Date::parse(text, day).map(|day| day.midnight().assume_utc()));
    let parsed =
        parsed.map_err(|_| format!("{text:?} is no time: write 2026-11-27 or 2026-11-27T14:00"))?;
    Ok(u64::try_from(parsed.unix_timestamp_nanos() / 1_000_000).ok())
}

#[cfg(test)]
mod tests {
    use super::super::measure::{id, index};
    use super::*;
    use std::time::{Duration, Instant};

    fn search(query: &str) -> Search {
        let head = ::http::Request::builder()
            .uri(format!("/?{query}"))
            .body(())
            .unwrap();
        Search::of(&Fields::of_query(&head.into_parts().0)).unwrap()
    }

    fn found(index: &Index, query: &str) -> Vec<String> {
        let found = search(query).run(index);
        let sessions = found["sessions"].as_array().unwrap().iter();
        sessions
            .map(|s| s["session"].as_str().unwrap().to_owned())
            .collect()
    }

    fn ids(numbers: &[u32]) -> Vec<String> {
        numbers.iter().map(|n| id(*n).to_string()).collect()
    }

    #[test]
    fn sessions_are_found_by_each_of_their_marks_newest_first() {
        let index = index(100);
        assert_eq!(found(&index, "agent=AGENT-3"), ids(&[83, 63, 43, 23, 3]));
        assert_eq!(found(&index, "text=CUSTOMER+%3D+42"), ids(&[42]));
        assert_eq!(
            found(&index, "agent=agent-7&verdict=ask"),
            Vec::<String>::new()
        );
        assert_eq!(
            found(&index, "verdict=refuse&since=2025-11-24T16:01:00Z"),
            ids(&[90, 80, 70, 60])
        );
        assert_eq!(found(&index, "table=users").len(), 50);
        assert_eq!(found(&index, "table=orders"), Vec::<String>::new());
        assert_eq!(
            found(&index, "table=public.orders_6&until=2025-11-24T16:00:20Z"),
            ids(&[13, 6])
        );
        assert_eq!(found(&index, "resource=nothing"), Vec::<String>::new());
        assert!(Search::of(&Fields::default()).is_ok());
    }

    #[test]
    fn pages_follow_each_other_without_gaps() {
        let index = index(120);
        let first = search("").run(&index);
        let next = first["next"].as_str().unwrap();
        assert_eq!(next, id(70).to_string());
        let second = search(&format!("before={next}")).run(&index);
        assert_eq!(second["sessions"][0]["session"], id(69).to_string());
        let third = search(&format!("before={}", second["next"].as_str().unwrap())).run(&index);
        assert_eq!(third["sessions"].as_array().unwrap().len(), 20);
        assert_eq!(third["next"], Value::Null);
    }

    /// Generous, because this is not optimised and others compute beside it; the bench says how
    /// fast it is.
    #[test]
    fn a_hundred_thousand_sessions_are_looked_through_in_no_time() {
        let index = index(100_000);
        for query in [
            "text=nothing+has+this",
            "table=nothing_has_this",
            "agent=nobody",
            "",
        ] {
            let began = Instant::now();
            search(query).run(&index);
            let took = began.elapsed();
            assert!(took < Duration::from_millis(1500), "{query}: {took:?}");
        }
    }

    #[test]
    fn nonsense_is_said_to_be_nonsense() {
        for query in ["verdict=maybe", "since=yesterday", "before=x"] {
            let head = ::http::Request::builder()
                .uri(format!("/?{query}"))
                .body(())
                .unwrap();
            assert!(
                Search::of(&Fields::of_query(&head.into_parts().0)).is_err(),
                "{query}"
            );
        }
    }
}
