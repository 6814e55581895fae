//! Which field of which message is what: `fields.txt`, compiled.

use std::collections::HashMap;

const TABLE: &str = include_str!("fields.txt");

/// Kinds of `meta.k8s.io` that every group has, under the group's own apiVersion.
const EVERYWHERE: [&str; 9] = [
    "WatchEvent",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "CreateOptions",
    "UpdateOptions",
    "PatchOptions",
    "Status",
    "List",
];

/// The kinds whose protobuf form is known: those of Kubernetes 1.37's stable groups. Compiled once and
/// shared.
#[derive(Debug)]
pub struct Kinds {
    messages: Vec<Message>,
    by_name: HashMap<Box<str>, usize>,
    /// apiVersion to package.
    packages: HashMap<&'static str, &'static str>,
}

#[derive(Debug, Default)]
pub(super) struct Message {
    /// By number.
    fields: Vec<Known>,
}

/// A field that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub number: u32,
    /// As JSON has it; empty where the message's fields stand in the object itself.
    pub name: &'static str,
    pub label: Label,
    pub kind: Type,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    One,
    Many,
    /// From strings.
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Bytes,
    Bool,
    Integer,
    Double,
    Message(usize),
    /// A message whose one field is an object in another form: JSON, or protobuf in an envelope.
    Raw,
    Quantity,
    IntOrString,
    Time,
    Duration,
    /// A message whose one field is a list of strings.
    List,
}

impl Default for Kinds {
    fn default() -> Self {
        Self::new()
    }
}

impl Kinds {
    /// The table is part of the program; a line that cannot be read would be missing, which a test
    /// excludes.
    pub fn new() -> Self {
        let lines = || {
            TABLE
                .lines()
                .filter(|l| !l.starts_with('#') && !l.is_empty())
        };
        let mut packages = HashMap::new();
        let mut by_name = HashMap::new();
        for line in lines() {
            match line.strip_prefix('@').map(|l| l.split_once(' ')) {
                Some(Some((package, version))) => {
                    // The first of a version: `core` comes behind `meta`, and is found first below.
                    packages.insert(version, package);
                }
                Some(None) => {}
                None => {
                    let name = line.split(' ').next().unwrap_or_default();
                    let next = by_name.len();
                    by_name.entry(name.into()).or_insert(next);
                }
            }
        }
        let messages = lines()
            .filter(|l| !l.starts_with('@'))
            .map(|line| message(line, &by_name));
        Self {
            messages: messages.collect(),
            packages,
            by_name,
        }
    }

    /// The message of a kind. `None` if it is not known.
    pub(super) fn of(&self, api_version: &str, kind: &str) -> Option<usize> {
        let named = |package: &str| self.by_name.get(&*format!("{package}.{kind}")).copied();
        let own = self.packages.get(api_version).and_then(|p| named(p));
        let meta = || {
            let everywhere = EVERYWHERE.contains(&kind)
                || api_version == "meta.k8s.io/v1" && kind.starts_with("PartialObjectMetadata")
                || api_version == "v1" && kind.starts_with("API");
            everywhere.then(|| named("meta")).flatten()
        };
        own.or_else(meta)
    }

    pub(super) fn message(&self, index: usize) -> Option<&Message> {
        self.messages.get(index)
    }
}

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&Known> {
        let at = self.fields.binary_search_by_key(&number, |f| f.number);
        self.fields.get(at.ok()?)
    }

    #[cfg(test)]
    pub(super) fn fields(&self) -> &[Known] {
        &self.fields
    }
}

fn message(line: &'static str, by_name: &HashMap<Box<str>, usize>) -> Message {
    let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
    let package = name.split('.').next().unwrap_or_default();
    let known = fields.split(' ').filter_map(|f| known(f, package, by_name));
    let mut fields: Vec<Known> = known.collect();
    fields.sort_by_key(|f| f.number);
    Message { fields }
}

fn known(
    written: &'static str,
    package: &str,
    by_name: &HashMap<Box<str>, usize>,
) -> Option<Known> {
    let mut parts = written.split(':');
    let (name, number, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let (label, kind) = match (kind.strip_prefix("[]"), kind.strip_prefix("{}")) {
        (Some(kind), _) => (Label::Many, kind),
        (_, Some(kind)) => (Label::Map, kind),
        _ => (Label::One, kind),
    };
    let kind = match kind {
        "s" => Type::Text,
        "y" => Type::Bytes,
        "b" => Type::Bool,
        "i" => Type::Integer,
        "d" => Type::Double,
        "%raw" => Type::Raw,
        "%qty" => Type::Quantity,
        "%ios" => Type::IntOrString,
        "%time" => Type::Time,
        "%dur" => Type::Duration,
        "%list" => Type::List,
        name => {
            let name = match name.strip_prefix('.') {
                Some(own) => format!("{package}.{own}"),
                None => name.to_owned(),
            };
            Type::Message(*by_name.get(&*name)?)
        }
    };
    Some(Known {
        number: number.parse().ok()?,
        name: name.strip_prefix('^').unwrap_or(name),
        label,
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        let kinds = Kinds::new();
        let written = TABLE.lines().filter(|l| !l.starts_with(['#', '@']));
        let mut count = 0;
        for (line, message) in written.zip(&kinds.messages) {
            let fields = line.split(' ').skip(1).filter(|f| !f.is_empty()).count();
            assert_eq!(message.fields().len(), fields, "{line}");
            let numbers: Vec<_> = message.fields().iter().map(|f| f.number).collect();
            assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{line}");
            count += 1;
        }
        assert_eq!(count, kinds.messages.len());
        assert_eq!(count, kinds.by_name.len());
        assert!(count > 600);
    }

    #[test]
    fn kinds_are_found_by_version_and_name() {
        let kinds = Kinds::new();
        for (version, kind) in [
            ("v1", "Secret"),
            ("v1", "SecretList"),
            ("v1", "Pod"),
            ("v1", "Status"),
            ("v1", "List"),
            ("apps/v1", "Deployment"),
            ("apps/v1", "DeleteOptions"),
            ("batch/v1", "CronJobList"),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
            ("meta.k8s.io/v1", "PartialObjectMetadataList"),
            ("autoscaling/v1", "Scale"),
        ] {
            assert!(kinds.of(version, kind).is_some(), "{version} {kind}");
        }
        for (version, kind) in [
            ("v1", "Deployment"),
            ("apps/v1", "Pod"),
            ("apps/v1", "PartialObjectMetadata"),
            ("example.com/v1", "Widget"),
            ("", ""),
        ] {
            assert!(kinds.of(version, kind).is_none(), "{version} {kind}");
        }
    }
}
