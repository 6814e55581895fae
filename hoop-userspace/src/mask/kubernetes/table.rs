//! Rows of a Table (`meta.k8s.io`): cells are texts that the server made of an object's fields, and
//! which ones it does not say.

use serde_json::{Map, Value};

use super::object::Work;
use super::text;
use crate::config::How;

/// Fields that no column shows a value of: Secrets and ConfigMaps are counted.
const UNSHOWN: [&str; 3] = ["data", "stringData", "binaryData"];

impl Work<'_> {
    /// A row: its object, which may be all of it or its metadata alone, and its cells.
    pub(super) fn row(&mut self, row: &mut Map<String, Value>) {
        let metadata = row.get("object").and_then(|o| o.get("metadata"));
        let name = text(metadata.and_then(|m| m.get("name"))).to_owned();
        let namespace = match text(metadata.and_then(|m| m.get("namespace"))) {
            "" => self.place().namespace.to_owned(),
            named => named.to_owned(),
        };
        let kind = match text(row.get("object").and_then(|o| o.get("kind"))) {
            "PartialObjectMetadata" => String::new(),
            kind => kind.to_owned(),
        };
        // A cell that may show what a rule hides is hidden, but for the name.
        let rules = self.rules_of(&namespace, &kind);
        let hidden = rules
            .iter()
            .any(|(field, how)| shown_in_cells(field.as_deref(), how));
        for (member, value) in row.iter_mut() {
            match (member.as_str(), value) {
                ("object", Value::Object(object)) => self.object(object, None),
                ("cells", Value::Array(cells)) => {
                    for cell in cells {
                        let named = cell.as_str() == Some(&name);
                        if !named {
                            self.cell(cell, hidden);
                        }
                    }
                }
                (_, other) => self.cell(other, false),
            }
        }
    }
}

/// Whether a column may show what a rule on a field hides. None shows `env`.
fn shown_in_cells(field: Option<&str>, how: &How) -> bool {
    match (field, how) {
        (Some(field), _) if UNSHOWN.contains(&field) => false,
        (_, How::Inside(paths)) => paths.iter().any(|(path, _)| !path.names("env")),
        _ => true,
    }
}
