//! Values that were masked in an object, looked for in its other texts.

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::{Map, Value};

use super::object::{NAMES, Work};

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
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&self.known);
        let Ok(search) = search else {
            return;
        };
        for (key, value) in object.iter_mut() {
            if !NAMES.contains(&key.as_str()) {
                self.replace_known(&search, value);
            }
        }
    }

    fn replace_known(&mut self, search: &AhoCorasick, value: &mut Value) {
        match value {
            Value::String(written) if search.is_match(written.as_str()) => {
                let plain = self.masks.marker.plain();
                let mut out = String::with_capacity(written.len());
                search.replace_all_with(written, &mut out, |_, _, out| {
                    out.push_str(plain);
                    true
                });
                *written = out;
                self.values += 1;
            }
            Value::Array(items) => {
                for item in items {
                    self.replace_known(search, item);
                }
            }
            Value::Object(members) => {
                if members.keys().any(|k| search.is_match(k.as_str())) {
                    self.values += 1;
                    let plain = self.masks.marker.plain();
                    self.rename(members, |key| {
                        let hidden = search.is_match(key);
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
