//! Texts in which something else than a label stands in place of what was found.

use super::Detection;
use crate::config::How;
use crate::mask::detect::{Hit, Telling};

impl Detection {
    /// Whether anything is found in a text under a name, which may be empty.
    pub(in crate::mask) fn finds(&self, name: &str, text: &str) -> bool {
        !self.hits(name, text).is_empty()
    }

    /// The text with what `put` gives in place of each value that was found; `None` if nothing was.
    pub(in crate::mask) fn marked(
        &self,
        name: &str,
        text: &str,
        put: &mut dyn FnMut(&How, &str) -> String,
    ) -> Option<String> {
        let hits = self.hits(name, text);
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for hit in &hits {
            // Where a finding does not end at a character, all of the text is one.
            let parts = (text.get(at..hit.range.start), text.get(hit.range.clone()));
            let (Some(before), Some(value)) = parts else {
                return Some(put(self.how(hit.detector), text));
            };
            out.push_str(before);
            out.push_str(&put(self.how(hit.detector), value));
            at = hit.range.end;
        }
        out.push_str(text.get(at..).unwrap_or_default());
        (!hits.is_empty()).then_some(out)
    }

    fn hits(&self, name: &str, text: &str) -> Vec<Hit> {
        if text.is_empty() {
            return Vec::new();
        }
        match self.detectors.telling(name.as_bytes()) {
            Some(Telling::Value(id)) if self.detectors.is_password(id) => vec![Hit {
                range: 0..text.len(),
                detector: id,
            }],
            Some(_) => {
                let mut hits = Vec::new();
                self.under(name.as_bytes(), text.as_bytes(), &mut hits);
                hits
            }
            None => self.find(text.as_bytes()),
        }
    }
}
