//! Which columns and which findings of one resource are masked, and how.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{ColumnPattern, Config, How};
use crate::ids::ResourceName;

use super::catalog::{Catalog, Relation};
use super::detect::{Detector, Kind as DetectorKind};
use super::sensing::Detection;
use super::views::Views;

/// The `[[mask]]` entries of one resource, compiled. Shared by its sessions.
#[derive(Debug)]
pub struct Rules {
    entries: Vec<Entry>,
    detection: Option<Arc<Detection>>,
    key: HashKey,
    max_row: usize,
    /// What the columns of views are, by the catalogs that were last in use.
    views: Mutex<Vec<(Arc<Catalog>, Arc<Views>)>>,
}

/// What is masked on hosts and in clusters without being asked for: what lets whoever reads it in elsewhere.
const HOST_SECRETS: [DetectorKind; 4] = [
    DetectorKind::PrivateKey,
    DetectorKind::Jwt,
    DetectorKind::ApiKey,
    DetectorKind::ConnectionString,
];

/// Databases of one resource whose views are remembered.
const VIEWS: usize = 8;

#[derive(Debug)]
struct Entry {
    pattern: ColumnPattern,
    how: How,
}

/// What the `hash` strategy is keyed with: equal values stay equal for whoever holds the same key,
/// and nobody else can find a value by trying.
#[derive(Clone)]
pub struct HashKey(ring::hmac::Key);

impl HashKey {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key))
    }

    /// The first 16 bytes of HMAC-SHA-256 over the value's text form.
    pub(in crate::mask) fn hash(&self, value: &[u8]) -> [u8; 16] {
        let tag = ring::hmac::sign(&self.0, value);
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(…)")
    }
}

impl Rules {
    pub fn new(config: &Config, resource: &ResourceName, key: &HashKey) -> Arc<Self> {
        let masks = config.masks.iter().filter(|m| m.resource == *resource);
        let found = config.resources.iter().find(|r| r.name == *resource);
        let detectors = masks.clone().flat_map(|mask| {
            let detectors = mask.detect.iter().cloned();
            detectors.map(|detector| (detector, mask.how.clone()))
        });
        let mut detectors: Vec<_> = detectors.collect();
        if found.is_some_and(|r| r.ssh.is_some() || r.kubernetes.is_some()) {
            let named: Vec<_> = detectors.iter().map(|(d, _)| d.name().to_owned()).collect();
            let own = HOST_SECRETS.map(Detector::Kind);
            let own = own
                .into_iter()
                .filter(|d| !named.contains(&d.name().to_owned()));
            detectors.extend(own.map(|detector| (detector, How::Redact)));
        }
        let entries = masks.flat_map(|mask| {
            let inside = mask
                .json
                .iter()
                .map(|path| (path.clone(), mask.how.clone()));
            let how = match mask.json.is_empty() {
                true => mask.how.clone(),
                false => How::Inside(inside.collect()),
            };
            mask.columns.iter().map(move |pattern| Entry {
                pattern: pattern.clone(),
                how: how.clone(),
            })
        });
        let max_row = found.map_or(0, |r| r.max_message);
        Arc::new(Self {
            entries: entries.collect(),
            detection: Detection::new(detectors, key, max_row).map(Arc::new),
            key: key.clone(),
            max_row,
            views: Mutex::default(),
        })
    }

    /// The rules of a single list of patterns, as `hoop mask test` has them.
    pub fn of(
        columns: impl IntoIterator<Item = (ColumnPattern, How)>,
        key: &HashKey,
        max_row: usize,
    ) -> Arc<Self> {
        let entries = columns.into_iter();
        Arc::new(Self {
            entries: entries
                .map(|(pattern, how)| Entry { pattern, how })
                .collect(),
            detection: None,
            key: key.clone(),
            max_row,
            views: Mutex::default(),
        })
    }

    /// No column is masked by its name.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The detectors that are on.
    pub fn detection(&self) -> Option<&Arc<Detection>> {
        self.detection.as_ref()
    }

    /// Whether the columns of results must be known.
    pub fn needs_columns(&self) -> bool {
        !self.is_empty() || self.detection.is_some()
    }

    pub(in crate::mask) fn key(&self) -> &HashKey {
        &self.key
    }

    /// Bytes of one row that are collected before its values are replaced whole instead.
    pub(in crate::mask) fn max_row(&self) -> usize {
        self.max_row
    }

    /// How a column is masked. Where several rules match, the one that shows least counts, so that
    /// adding a rule never shows more.
    pub(in crate::mask) fn of_column(
        &self,
        schema: &str,
        table: &str,
        column: &str,
    ) -> Option<How> {
        let matching = self.entries.iter().filter(|e| {
            part(&e.pattern.schema, schema)
                && part(&e.pattern.table, table)
                && part(&e.pattern.column, column)
        });
        let mut hows = matching.map(|e| &e.how);
        let first = hows.next()?.clone();
        Some(hows.fold(first, How::and))
    }

    /// What the rules name of a relation, `None` where it is every column.
    pub(in crate::mask) fn of_relation(
        &self,
        schema: &str,
        table: &str,
    ) -> Vec<(Option<String>, How)> {
        let matching = self
            .entries
            .iter()
            .filter(|e| part(&e.pattern.schema, schema) && part(&e.pattern.table, table));
        let each = matching.map(|e| (e.pattern.column.clone(), e.how.clone()));
        each.collect()
    }

    /// What the columns of this catalog's views may carry: found out once for all sessions.
    pub(in crate::mask) fn views(&self, catalog: &Arc<Catalog>) -> Arc<Views> {
        if catalog.is_empty() {
            // Each is another: nothing to remember.
            return Arc::default();
        }
        let known = |views: &[(Arc<Catalog>, Arc<Views>)]| {
            let same = views.iter().find(|(c, _)| Arc::ptr_eq(c, catalog));
            same.map(|(_, views)| views.clone())
        };
        if let Some(views) = known(&self.lock()) {
            return views;
        }
        let views = Arc::new(Views::of(catalog, self));
        let mut all = self.lock();
        all.truncate(VIEWS - 1);
        all.insert(0, (catalog.clone(), views.clone()));
        views
    }

    /// A panic elsewhere leaves the list valid: each change to it is one call.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Arc<Catalog>, Arc<Views>)>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any column of the relation is masked by its own name.
    pub(in crate::mask) fn names(&self, relation: &Relation) -> bool {
        let mut columns = relation.columns.values();
        columns.any(|column| {
            self.of_column(&relation.schema, &relation.name, column)
                .is_some()
        })
    }
}

fn part(pattern: &Option<String>, name: &str) -> bool {
    pattern.as_deref().is_none_or(|pattern| pattern == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ColumnPattern {
        let mut parts = text.split('.').map(|p| (p != "*").then(|| p.to_owned()));
        ColumnPattern {
            schema: parts.next().flatten(),
            table: parts.next().flatten(),
            column: parts.next().flatten(),
        }
    }

    #[test]
    fn the_rule_that_shows_least_counts() {
        let key = HashKey::new(&[1; 32]);
        let rules = [
            (pattern("*.*.email"), How::Partial),
            (pattern("public.users.email"), How::Null),
            (pattern("public.users.ssn"), How::Hash),
        ];
        let rules = Rules::of(rules, &key, 1000);
        assert_eq!(rules.of_column("public", "users", "email"), Some(How::Null));
        assert_eq!(
            rules.of_column("other", "users", "email"),
            Some(How::Partial)
        );
        assert_eq!(rules.of_column("public", "users", "ssn"), Some(How::Hash));
        assert_eq!(rules.of_column("other", "users", "ssn"), None);
    }
}
