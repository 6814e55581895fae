//! What the masks leave of a value or a result that somebody supposes.
//!
//! A question is an object of JSON:
//!
//! - a value: `{"column": "public.users.ssn", "value": "123-45-6789", "type": "text"}`, or without
//!   `column` a value of no column's;
//! - a result: `{"sql": "SELECT …", "columns": […], "rows": [[…], …]}`, where a column is
//!   `{"table": "public.users", "column": "ssn", "type": "text"}`, or without `table` an expression.
//!   `relations` lists views and partitions: `{"name": "public.people", "kind": "view",
//!   "columns": […], "reads": ["public.users"], "parents": [], "definition": "SELECT …"}`; without its
//!   definition, a view of a masked table is masked whole.
//!
//! The answer to a value is `{"value": …, "masked": …}`, to a result `{"rows": …, "masked": n}`; either
//! names the detectors that found something: `"detected": ["card"]`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Unusable, unusable};
use crate::config::Config;
use crate::decide::{Decider, Definitions};
use crate::ids::{ExchangeId, ResourceName};
use crate::mask::{
    Catalog, FIRST_NORMAL_OID, HashKey, Masker, Masking, Relation, RelationKind, Rules,
};
use crate::terminate::{Column, Columns, Part, PartKind, Replies, SqlText};
use crate::wire::postgres::rows::{RowWriter, bodies, values};

type Result<T, E = Unusable> = std::result::Result<T, E>;

/// A key of its own: hashes are equal where a session's are, but are not those that it shows.
const KEY: [u8; 32] = *b"hoop mask test: not a secret key";

/// Masks by the rules of one resource.
pub struct Tester {
    rules: Arc<Rules>,
    decider: Decider,
    hasher: RandomState,
}

impl Tester {
    /// Of one resource of the configuration.
    pub fn new(config: &Config, resource: &str) -> Result<Self, Unusable> {
        let resource = ResourceName::from(resource);
        if !config.resources.iter().any(|r| r.name == resource) {
            return unusable(format!("there is no resource {:?}", resource.as_str()));
        }
        Ok(Self {
            rules: Rules::new(config, &resource, &HashKey::new(&KEY)),
            decider: Decider::new(config)?,
            hasher: RandomState::new(),
        })
    }

    /// Answers one object of JSON.
    pub fn answer(&self, line: &[u8]) -> Result<Answer> {
        let line = serde_json::from_slice(line).map_err(|error| {
            Unusable(format!(
                "not a value (column, value, type) nor a result (sql, columns, rows): {error}"
            ))
        })?;
        match line {
            Line::Value(one) => {
                let named = one.column.as_deref().map(|column| {
                    let parts = column.rsplit_once('.');
                    parts.ok_or_else(|| Unusable("a column is schema.table.column".into()))
                });
                let named = named.transpose()?;
                let result = OneResult {
                    sql: None,
                    columns: vec![OneColumn {
                        table: named.map(|(table, _)| table.to_owned()),
                        column: named.map(|(_, column)| column.to_owned()),
                        kind: one.kind,
                    }],
                    rows: vec![vec![one.value]],
                    relations: Vec::new(),
                };
                let detected = self.detected(&result);
                let (rows, masked) = self.mask(result)?;
                let value = rows.into_iter().flatten().next();
                Ok(Answer::Value {
                    value: value.unwrap_or_default(),
                    masked: masked > 0,
                    detected,
                })
            }
            Line::Result(result) => {
                let detected = self.detected(&result);
                let (rows, masked) = self.mask(result)?;
                Ok(Answer::Result {
                    rows,
                    masked,
                    detected,
                })
            }
        }
    }

    /// The detectors that find something, each once.
    fn detected(&self, result: &OneResult) -> Vec<String> {
        let Some(detection) = self.rules.detection() else {
            return Vec::new();
        };
        let mut names: Vec<String> = Vec::new();
        for (value, column) in result
            .rows
            .iter()
            .flat_map(|row| row.iter().zip(&result.columns))
        {
            let label = column.column.as_deref().unwrap_or_default();
            let text = as_text(value).unwrap_or_default();
            for name in detection.names_in(label, &text) {
                if !names.iter().any(|n| n == name) {
                    names.push(name.to_owned());
                }
            }
        }
        names
    }

    fn mask(&self, result: OneResult) -> Result<(Vec<Vec<Value>>, u64)> {
        let world = World::of(&result)?;
        let sql = match &result.sql {
            Some(sql) => sql.clone(),
            None => world.reads_all(),
        };
        let text = Arc::new(SqlText {
            hash: self.hasher.hash_one(&sql),
            text: sql.into(),
        });
        let mut masker = Masker::new(self.rules.clone());
        let exchange = ExchangeId(1);
        masker.expect(exchange, [Some(self.decider.facts_of(&text))]);
        let columns = Arc::new(Columns {
            columns: world.columns(&result.columns)?,
        });
        let replies = rows(&result.rows, exchange, &columns)?;
        let catalog = Arc::new(world.catalog);
        let masked = match masker.mask(replies, &catalog) {
            Masking::Done(masked) => masked,
            // What is in no catalog is masked whole.
            Masking::NeedsCatalog(replies) => match masker.mask(replies, &catalog) {
                Masking::Done(masked) => masked,
                Masking::NeedsCatalog(_) => return unusable("the masks ask for ever"),
            },
        };
        let shown = bodies(masked.wire()).zip(&result.rows).map(|(body, row)| {
            let shown = values(body?)?.zip(row);
            shown.map(|(v, was)| Ok(shown_as(v?, was))).collect()
        });
        Ok((shown.collect::<Result<_>>()?, masked.values()))
    }
}

/// The relations that a question names.
struct World {
    oids: BTreeMap<String, u32>,
    catalog: Catalog,
}

impl World {
    fn of(result: &OneResult) -> Result<Self> {
        let given = result
            .relations
            .iter()
            .flat_map(|r| [&r.name].into_iter().chain(&r.reads).chain(&r.parents));
        let named = given.chain(result.columns.iter().filter_map(|c| c.table.as_ref()));
        let mut oids = BTreeMap::new();
        for name in named {
            let next = FIRST_NORMAL_OID + u32::try_from(oids.len())?;
            oids.entry(name.clone()).or_insert(next);
        }
        let mut relations = BTreeMap::new();
        for (name, oid) in &oids {
            relations.insert(*oid, relation(name, *oid, result, &oids)?);
        }
        let reader = Definitions::new();
        let mut definitions = Vec::new();
        for relation in &result.relations {
            if let (Some(text), Some(oid)) = (&relation.definition, oids.get(&relation.name)) {
                let query = reader.read(text);
                let query = query.ok_or_else(|| Unusable(format!("not a query: {text:?}")))?;
                definitions.push((*oid, Arc::new(query)));
            }
        }
        Ok(Self {
            catalog: Catalog::new(relations.into_values()).with_definitions(definitions),
            oids,
        })
    }

    fn reads_all(&self) -> String {
        let quoted = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
        let name = |name: &String| name.split('.').map(quoted).collect::<Vec<_>>().join(".");
        let names: Vec<_> = self.oids.keys().map(name).collect();
        match names.is_empty() {
            true => "SELECT 1".into(),
            false => format!("SELECT * FROM {}", names.join(", ")),
        }
    }

    fn columns(&self, columns: &[OneColumn]) -> Result<Vec<Column>> {
        let column = |one: &OneColumn| {
            let table = one.table.as_ref().and_then(|t| self.oids.get(t)).copied();
            let relation = table.and_then(|t| self.catalog.relation(t));
            let number = |name: &String| {
                let columns = relation?.columns.iter();
                let mut found = columns.filter(|(_, n)| ***n == **name);
                found.next().map(|(number, _)| *number)
            };
            Ok(Column {
                label: one.column.clone().unwrap_or_default(),
                table: table.unwrap_or(0),
                attribute: one.column.as_ref().and_then(number).unwrap_or(0),
                kind: one.kind.oid()?,
                binary: false,
            })
        };
        columns.iter().map(column).collect()
    }
}

fn relation(
    name: &str,
    oid: u32,
    result: &OneResult,
    oids: &BTreeMap<String, u32>,
) -> Result<Relation> {
    let (schema, table) = name
        .split_once('.')
        .ok_or_else(|| Unusable(format!("{name:?} is not schema.table")))?;
    let given = result.relations.iter().find(|r| r.name == name);
    let listed = given.map(|r| r.columns.as_slice()).unwrap_or_default();
    let used = result
        .columns
        .iter()
        .filter(|c| c.table.as_deref() == Some(name));
    let used = used.filter_map(|c| c.column.as_ref());
    let mut columns: Vec<Box<str>> = Vec::new();
    for column in listed.iter().chain(used) {
        if !columns.iter().any(|c| **c == **column) {
            columns.push(column.as_str().into());
        }
    }
    let all = |names: &[String]| names.iter().filter_map(|n| oids.get(n)).copied().collect();
    Ok(Relation {
        oid,
        schema: schema.into(),
        name: table.into(),
        kind: match given.map(|r| r.kind) {
            Some(OneKind::View) => RelationKind::View,
            _ => RelationKind::Table,
        },
        columns: (1..).zip(columns).collect(),
        parents: given.map(|r| all(&r.parents)).unwrap_or_default(),
        reads: given.map(|r| all(&r.reads)).unwrap_or_default(),
        opaque: false,
    })
}

fn rows(rows: &[Vec<Value>], exchange: ExchangeId, columns: &Arc<Columns>) -> Result<Replies> {
    let mut wire = BytesMut::new();
    for row in rows {
        let (given, wanted) = (row.len(), columns.columns.len());
        if given != wanted {
            return unusable(format!("a row of {given} values, and {wanted} columns"));
        }
        let mut writer = RowWriter::new(&mut wire);
        for value in row {
            writer.push(as_text(value).as_deref().map(str::as_bytes));
        }
        writer.finish();
    }
    let kind = PartKind::Rows {
        count: u32::try_from(rows.len())?,
        columns: Some(columns.clone()),
    };
    let part = Part {
        exchange,
        unit: 0,
        end: wire.len(),
        kind,
    };
    Ok(Replies {
        wire: wire.freeze(),
        parts: vec![part],
    })
}

/// PostgreSQL's text format of what JSON can say.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// What was asked as a document is shown as one.
fn shown_as(shown: Option<&[u8]>, was: &Value) -> Value {
    let Some(shown) = shown else {
        return Value::Null;
    };
    if as_text(was).as_deref().map(str::as_bytes) == Some(shown) {
        return was.clone();
    }
    let document = (was.is_object() || was.is_array()).then(|| serde_json::from_slice(shown).ok());
    document
        .flatten()
        .unwrap_or_else(|| String::from_utf8_lossy(shown).into())
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Value(OneValue),
    Result(OneResult),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneValue {
    column: Option<String>,
    value: Value,
    #[serde(default, rename = "type")]
    kind: Kind,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneResult {
    sql: Option<String>,
    columns: Vec<OneColumn>,
    rows: Vec<Vec<Value>>,
    #[serde(default)]
    relations: Vec<OneRelation>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneColumn {
    table: Option<String>,
    column: Option<String>,
    #[serde(default, rename = "type")]
    kind: Kind,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneRelation {
    name: String,
    #[serde(default)]
    kind: OneKind,
    columns: Vec<String>,
    #[serde(default)]
    reads: Vec<String>,
    #[serde(default)]
    parents: Vec<String>,
    /// What a view is defined as.
    definition: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OneKind {
    #[default]
    Table,
    View,
}

/// A type by its name or its object id.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Kind {
    Oid(u32),
    Name(String),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Name("text".into())
    }
}

impl Kind {
    fn oid(&self) -> Result<u32> {
        let name = match self {
            Self::Oid(oid) => return Ok(*oid),
            Self::Name(name) => name.as_str(),
        };
        Ok(match name {
            "text" => 25,
            "varchar" | "character varying" => 1043,
            "char" | "bpchar" | "character" => 1042,
            "int2" | "smallint" => 21,
            "int4" | "int" | "integer" => 23,
            "int8" | "bigint" => 20,
            "uuid" => 2950,
            "json" => 114,
            "jsonb" => 3802,
            "bool" | "boolean" => 16,
            "bytea" => 17,
            "float4" | "real" => 700,
            "float8" | "double precision" => 701,
            "numeric" | "decimal" => 1700,
            "date" => 1082,
            "timestamp" => 1114,
            "timestamptz" => 1184,
            other => {
                return unusable(format!(
                    "unknown type {other:?}: give its object id instead"
                ));
            }
        })
    }
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Value {
        value: Value,
        masked: bool,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        detected: Vec<String>,
    },
    Result {
        rows: Vec<Vec<Value>>,
        /// Values that were replaced.
        masked: u64,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        detected: Vec<String>,
    },
    Error {
        error: String,
    },
}
