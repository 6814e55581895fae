//! Values that were masked in an object, looked for in its other texts.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde_json::{Map, Value};

use super::object::{NAMES, Work, Zone};
use crate::config::How;

/// Bytes of a value that are looked for. A text that holds so many of a longer one is masked whole.
pub(super) const LOOKED_FOR: usize = 1024;

/// Looks for all of them at once.
///
/// As an automaton of the contiguous kind, which takes some twenty bytes for each byte that is looked
/// for: a deterministic one may take a thousand times as many.
struct Search {
    /// Those that are looked for whole.
    short: AhoCorasick,
    /// Beginnings of longer ones.
    long: AhoCorasick,
}

impl Search {
    /// `None` if it cannot be made.
    fn new(known: &[Vec<u8>]) -> Option<Self> {
        let search = |long: bool| {
            AhoCorasick::builder()
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .match_kind(MatchKind::LeftmostLongest)
                .build(known.iter().filter(|k| (k.len() >= LOOKED_FOR) == long))
                .ok()
        };
        Some(Self {
            short: search(false)?,
            long: search(true)?,
        })
    }

    fn finds(&self, text: &str) -> bool {
        self.long.is_match(text) || self.short.is_match(text)
    }

    /// The text with `plain` in place of each; `None` where none is in it.
    fn hidden(&self, text: &str, plain: &str) -> Option<String> {
        // Where the rest of a longer one ends, nobody knows.
        if self.long.is_match(text) {
            return Some(plain.to_owned());
        }
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        for found in self.short.find_iter(text) {
            // A value that is no text may begin or end within a character.
            let Some(before) = text.get(from..found.start()) else {
                return Some(plain.to_owned());
            };
            out.push_str(before);
            out.push_str(plain);
            from = found.end();
        }
        if from == 0 {
            return None;
        }
        match text.get(from..) {
            Some(rest) => {
                out.push_str(rest);
                Some(out)
            }
            None => Some(plain.to_owned()),
        }
    }
}

impl Work<'_> {
    /// What was masked in an object may stand elsewhere in it: in annotations of other tools, in
    /// messages of controllers, in the keys of `managedFields`.
    pub(super) fn look_for_known(&mut self, object: &mut Map<String, Value>) {
        if self.known.is_empty() {
            return;
        }
        // What a mask shows is no value that is hidden.
        let plain = self.masks.marker.plain().as_bytes().to_vec();
        self.known
            .retain(|k| !plain.windows(k.len()).any(|w| w == k));
        let search = Search::new(&self.known);
        for (key, value) in object.iter_mut() {
            if NAMES.contains(&key.as_str()) {
                continue;
            }
            match &search {
                Some(search) => self.replace_known(search, value),
                None => self.whole(value, &How::Redact, Zone::Free),
            }
        }
    }

    fn replace_known(&mut self, search: &Search, value: &mut Value) {
        match value {
            Value::String(written) => {
                if let Some(other) = search.hidden(written, self.masks.marker.plain()) {
                    *written = other;
                    self.values += 1;
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.replace_known(search, item);
                }
            }
            Value::Object(members) => {
                if members.keys().any(|k| search.finds(k)) {
                    self.values += 1;
                    let plain = self.masks.marker.plain();
                    self.rename(members, |key| {
                        let hidden = search.finds(key);
                        hidden.then(|| match key.starts_with("v:") {
                            true => format!("v:\"{plain}\""),
                            false => plain.to_owned(),
                        })
                    });
                }
                for (key, member) in members.iter_mut() {
                    if !NAMES.contains(&key.as_str()) && key != "labels" {
                        self.replace_known(search, member);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "hoop-masked-0123abcd";

    fn search(known: &[&[u8]]) -> Search {
        Search::new(&known.iter().map(|k| k.to_vec()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn each_value_is_replaced_and_the_rest_stays() {
        let search = search(&[b"hunter2", b"hunter2-long"]);
        let hidden = |text: &str| search.hidden(text, PLAIN);
        assert_eq!(hidden("nothing"), None);
        assert_eq!(
            hidden("a hunter2-long, hunter2").unwrap(),
            format!("a {PLAIN}, {PLAIN}")
        );
    }

    #[test]
    fn a_text_that_holds_the_beginning_of_a_long_value_is_masked_whole() {
        let long = vec![b'x'; LOOKED_FOR];
        let search = search(&[&long, b"hunter2"]);
        let text = |count: usize| format!("hunter2{}yz hunter2", "x".repeat(count));
        assert_eq!(search.hidden(&text(LOOKED_FOR), PLAIN).unwrap(), PLAIN);
        let shorter = search.hidden(&text(LOOKED_FOR - 1), PLAIN).unwrap();
        assert!(shorter.contains("xyz") && !shorter.contains("hunter2"));
    }

    #[test]
    fn a_value_that_ends_within_a_character_hides_the_text() {
        let search = search(&["secretÃ".as_bytes().get(..7).unwrap()]);
        assert_eq!(search.hidden("a secretÄ b", PLAIN).unwrap(), PLAIN);
    }

    #[test]
    fn the_automaton_is_bounded_however_much_is_looked_for() {
        // As many values as are remembered, each as long as is looked for, of all bytes there are.
        let mut state = 1_u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let known: Vec<Vec<u8>> = (0..512)
            .map(|at| (0..LOOKED_FOR - at % 2).map(|_| byte()).collect())
            .collect();
        let search = Search::new(&known).unwrap();
        let taken = search.short.memory_usage() + search.long.memory_usage();
        assert!(taken < 32 << 20, "{taken}");
    }
}
