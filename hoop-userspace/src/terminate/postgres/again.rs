//! What recorded messages of PostgreSQL asked for: each is a unit, as it was when it was decided.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::terminate::again::{Again, Lost};
use crate::terminate::{Asked, SqlAsked, SqlStep, SqlText, Undecidable};
use crate::wire::postgres::frame::{HEADER, Header};
use crate::wire::postgres::frontend::{self, Frontend};

/// Bytes of names and texts that one recording may make this remember.
const MAX_HELD: usize = 32 << 20;

/// Which texts the names of statements and portals stand for. What cannot be told is absent.
#[derive(Debug, Default)]
pub struct Recollection {
    statements: HashMap<Vec<u8>, Option<Arc<SqlText>>>,
    portals: HashMap<Vec<u8>, Option<Arc<SqlText>>>,
    held: usize,
}

impl Recollection {
    /// One for each message; a message of which a part was kept is lost.
    pub(in crate::terminate) fn request(&mut self, kept: &[u8], whole: bool) -> Vec<Again> {
        let mut found = Vec::new();
        let mut rest = kept;
        while let Ok(Some(header)) = Header::peek(rest) {
            let Some((message, after)) = rest.split_at_checked(header.wire_len()) else {
                break;
            };
            rest = after;
            let body = message.get(HEADER..).unwrap_or_default();
            found.push(self.message(header.tag, body));
        }
        if !whole {
            found.push(Again::Lost(Lost::Cut));
        }
        found
    }

    fn message(&mut self, tag: u8, body: &[u8]) -> Again {
        let Ok(message) = frontend::decode(tag, Bytes::copy_from_slice(body)) else {
            return Again::Lost(Lost::Redacted);
        };
        let asked = match message {
            Frontend::Query(text) => asked(SqlStep::Simple, sql_text(&text)),
            Frontend::Parse { name, text, .. } => {
                self.hold(name.len() + text.len());
                self.statements.insert(name.to_vec(), sql_text(&text));
                return Again::Prepared;
            }
            Frontend::Bind(bind) => {
                self.hold(bind.portal.len());
                let text = self.statements.get(&*bind.statement).cloned();
                match text {
                    Some(text) => self.portals.insert(bind.portal.to_vec(), text),
                    None => self.portals.remove(&*bind.portal),
                };
                Asked::Control
            }
            Frontend::Execute { portal, .. } => match self.portals.get(&*portal) {
                Some(text) => asked(SqlStep::Run, text.clone()),
                None => return Again::Lost(Lost::Name),
            },
            Frontend::FunctionCall { oid } => Asked::FunctionCall { oid },
            _ => Asked::Control,
        };
        Again::Asked(asked)
    }

    /// Forgets everything rather than grow without bound: what runs by a name then is lost.
    fn hold(&mut self, more: usize) {
        self.held = self.held.saturating_add(more);
        if self.held > MAX_HELD {
            self.statements.clear();
            self.portals.clear();
            self.held = more;
        }
    }
}

fn sql_text(text: &[u8]) -> Option<Arc<SqlText>> {
    let text = std::str::from_utf8(text).ok()?;
    Some(SqlText::hashed(text))
}

/// `None` is a text that is not UTF-8.
fn asked(step: SqlStep, text: Option<Arc<SqlText>>) -> Asked {
    match text {
        None => Asked::Undecidable(Undecidable::NotUtf8),
        Some(text) if text.text.trim_ascii().is_empty() => Asked::Control,
        Some(text) => Asked::Sql(SqlAsked {
            step,
            candidates: [text].into_iter().collect(),
            parameters: Arc::default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};

    fn put(out: &mut BytesMut, tag: u8, body: &[u8]) {
        out.put_u8(tag);
        out.put_u32(u32::try_from(body.len() + 4).unwrap());
        out.extend_from_slice(body);
    }

    fn shown(again: &[Again]) -> Vec<String> {
        let one = |again: &Again| match again {
            Again::Asked(Asked::Sql(asked)) => {
                format!("{:?} {}", asked.step, asked.candidates[0].text)
            }
            Again::Asked(Asked::Control) => "control".to_owned(),
            Again::Asked(other) => format!("{other:?}"),
            Again::Prepared => "prepared".to_owned(),
            Again::Lost(why) => why.name().to_owned(),
        };
        again.iter().map(one).collect()
    }

    #[test]
    fn a_prepared_statement_is_known_when_it_runs_in_a_later_request() {
        let mut names = Recollection::default();
        let mut wire = BytesMut::new();
        put(&mut wire, b'P', b"s\0SELECT $1\0\0\0");
        put(&mut wire, b'S', b"");
        assert_eq!(shown(&names.request(&wire, true)), ["prepared", "control"]);
        let mut wire = BytesMut::new();
        put(&mut wire, b'B', b"\0s\0\0\0\0\0\0\0");
        put(&mut wire, b'E', b"\0\0\0\0\0");
        put(&mut wire, b'E', b"elsewhere\0\0\0\0\0");
        assert_eq!(
            shown(&names.request(&wire, true)),
            ["control", "Run SELECT $1", "name"]
        );
    }

    #[test]
    fn what_was_cut_is_lost_and_what_stands_before_it_is_not() {
        let mut names = Recollection::default();
        let mut wire = BytesMut::new();
        put(&mut wire, b'Q', b"SELECT 1\0");
        put(&mut wire, b'Q', b"SELECT 'long'\0");
        let kept = &wire[..wire.len() - 3];
        assert_eq!(
            shown(&names.request(kept, false)),
            ["Simple SELECT 1", "cut"]
        );
        let hostile = [b'Q', 0, 0, 0, 5, 0xff, b'B', 0, 0, 0, 5, 7];
        assert_eq!(shown(&names.request(&hostile, true)), ["redacted"; 2]);
    }

    #[test]
    fn a_text_in_no_utf8_is_what_it_was() {
        let mut wire = BytesMut::new();
        put(&mut wire, b'Q', b"SELECT '\xff'\0");
        put(&mut wire, b'Q', b" \0");
        let found = Recollection::default().request(&wire, true);
        assert!(matches!(
            found[0],
            Again::Asked(Asked::Undecidable(Undecidable::NotUtf8))
        ));
        assert!(matches!(found[1], Again::Asked(Asked::Control)));
    }
}
