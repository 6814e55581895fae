//! The connections of one port-forward, each looked at until it is known what it speaks.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::terminate::SessionError;
use crate::wire::kubernetes::channel::Forward;
use crate::wire::kubernetes::forwarded::{Beginning, Spoken, Told};

/// Connections that are remembered: those that are open, and those that were refused and that the
/// client has not closed.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Forwards(BTreeMap<Forward, State>);

#[derive(Debug)]
enum State {
    Awaits(Beginning),
    Passes,
    Refused,
}

/// What becomes of what a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// It is held until more is known, or belongs to a connection that was refused.
    Nothing,
    Passes(Bytes),
    /// The connection is refused, now.
    Governed(Spoken),
}

impl Forwards {
    pub fn typed(&mut self, to: Forward, bytes: &Bytes, end: bool) -> Result<Typed, SessionError> {
        if self.0.len() >= MOST && !self.0.contains_key(&to) {
            return Err(SessionError::ClientProtocol(format!(
                "more than {MOST} forwarded connections are open"
            )));
        }
        let state = self
            .0
            .entry(to)
            .or_insert_with(|| State::Awaits(Beginning::default()));
        let typed = match state {
            State::Passes => Typed::Passes(bytes.clone()),
            State::Refused => Typed::Nothing,
            State::Awaits(beginning) => match beginning.take(bytes, end) {
                Told::More => Typed::Nothing,
                Told::Other(bytes) => {
                    *state = State::Passes;
                    Typed::Passes(bytes)
                }
                Told::Governed(spoken) => {
                    *state = State::Refused;
                    Typed::Governed(spoken)
                }
            },
        };
        // Of one that was refused the server may still have something to say.
        if end && matches!(state, State::Passes) {
            self.0.remove(&to);
        }
        Ok(typed)
    }

    /// The client has closed it.
    pub fn over(&mut self, to: Forward) {
        self.0.remove(&to);
    }

    pub fn is_refused(&self, to: Forward) -> bool {
        matches!(self.0.get(&to), Some(State::Refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

    fn to(number: u32) -> Forward {
        Forward { port: 80, number }
    }

    #[test]
    fn each_connection_is_looked_at_by_itself() {
        let mut forwards = Forwards::default();
        let mut typed = |number, bytes: &'static [u8], end| {
            let typed = forwards.typed(to(number), &Bytes::from_static(bytes), end);
            typed.unwrap()
        };
        assert_eq!(typed(0, b"GET /", false), Typed::Passes("GET /".into()));
        assert_eq!(typed(1, &SSL[..5], false), Typed::Nothing);
        // Once something passes, all that follows does.
        let later = Typed::Passes(Bytes::from_static(SSL));
        assert_eq!(typed(0, SSL, true), later);
        assert_eq!(
            typed(1, &SSL[5..], false),
            Typed::Governed(Spoken::Postgres)
        );
        assert_eq!(typed(1, b"GET /", true), Typed::Nothing);
        assert_eq!(typed(2, b"SS", true), Typed::Passes("SS".into()));
        assert!(forwards.is_refused(to(1)) && !forwards.is_refused(to(0)));
        forwards.over(to(1));
        assert!(!forwards.is_refused(to(1)));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut forwards = Forwards::default();
        for number in 0..1024 {
            forwards.typed(to(number), &Bytes::new(), false).unwrap();
        }
        assert!(forwards.typed(to(2000), &Bytes::new(), false).is_err());
        assert!(forwards.typed(to(5), &Bytes::new(), true).is_ok());
        assert!(forwards.typed(to(2000), &Bytes::new(), false).is_ok());
    }
}
