//! What the parser found in a statement, before any policy looks at it.
//!
//! The serialised form is part of `hoop policy test`'s contract: keys are kept.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::lineage::Lineage;

/// Everything that is known of one SQL text from the text alone. Shared by every session that
/// sends the same text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Facts {
    /// Why the text could not be understood; everything else is empty then, and `opaque` is set.
    pub unparsable: Option<String>,
    /// SHA-256 of the text without comments, with literals replaced and words folded, in hex, its
    /// first 16 bytes. Equal for statements that differ in constants only.
    pub fingerprint: String,
    /// What the statements do, such as `SELECT` or `CREATE TABLE`; the verbs of statements within
    /// statements (a `DELETE` in a `WITH`) included. Sorted, without repeats, as all that follow.
    pub verbs: Vec<Verb>,
    pub flags: Vec<Flag>,
    /// Relations read, CTE names and aliases resolved away.
    pub reads: Vec<RelationName>,
    /// Relations written, created, altered or dropped.
    pub writes: Vec<RelationName>,
    /// Functions called, operators' functions excluded.
    pub functions: Vec<RelationName>,
    /// Columns that are read anywhere.
    pub columns: Vec<ColumnName>,
    /// What a write or a COPY moves out of the reach of the masks.
    pub copied: Copied,
    /// What goes by another name afterwards, under which no mask may know it.
    pub renamed: Vec<Renamed>,
    /// Settings that are set or reset.
    pub settings: Vec<Setting>,
    /// Files of the server that are read, written or loaded, and programs that it runs, where the
    /// text gives them as constants.
    pub files: Vec<String>,
    pub programs: Vec<String>,
    /// What rows may come from beyond `reads`: set by EXECUTE, FETCH, CALL, DO, functions that run
    /// text, functions that are not known to be free of table access.
    pub opaque: bool,
    /// In the order of the text.
    pub statements: Vec<Statement>,
    /// What the columns of its results are made of.
    #[serde(skip)]
    pub lineage: Arc<Lineage>,
}

impl Facts {
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.binary_search(&flag).is_ok()
    }

    /// Bytes that these facts take, generously estimated.
    pub(in crate::decide) fn weight(&self) -> usize {
        let accesses: usize = self.statements.iter().map(|s| 2 + s.accesses.len()).sum();
        let names = self.reads.len() + self.writes.len() + self.functions.len();
        let columns = self.columns.len()
            + self.copied.columns.len()
            + self.copied.relations.len()
            + self.renamed.len();
        let texts = self.settings.len() + self.files.len() + self.programs.len();
        1024 + 160 * (accesses + names + columns + texts) + 48 * self.lineage.size
    }

    /// What holds where either text may be the one that runs.
    pub(in crate::decide) fn either(&self, other: &Self) -> Self {
        fn both<T: Ord + Clone>(one: &[T], two: &[T]) -> Vec<T> {
            let mut all: Vec<T> = one.iter().chain(two).cloned().collect();
            all.sort_unstable();
            all.dedup();
            all
        }
        let copied = Copied {
            columns: both(&self.copied.columns, &other.copied.columns),
            relations: both(&self.copied.relations, &other.copied.relations),
            opaque: self.copied.opaque || other.copied.opaque,
        };
        Self {
            unparsable: self.unparsable.clone().or(other.unparsable.clone()),
            fingerprint: self.fingerprint.clone(),
            verbs: both(&self.verbs, &other.verbs),
            flags: both(&self.flags, &other.flags),
            reads: both(&self.reads, &other.reads),
            writes: both(&self.writes, &other.writes),
            functions: both(&self.functions, &other.functions),
            columns: both(&self.columns, &other.columns),
            copied,
            renamed: both(&self.renamed, &other.renamed),
            settings: both(&self.settings, &other.settings),
            files: both(&self.files, &other.files),
            programs: both(&self.programs, &other.programs),
            opaque: self.opaque || other.opaque,
            statements: self
                .statements
                .iter()
                .chain(&other.statements)
                .cloned()
                .collect(),
            lineage: Arc::new(self.lineage.either(&other.lineage)),
        }
    }
}

impl Statement {
    /// Whether it makes visible what a transaction defined that nobody here has seen, perhaps
    /// another session's.
    pub fn commits_unseen(&self) -> bool {
        self.verb.0 == "COMMIT PREPARED"
    }
}

/// One statement of a text. Each is decided by itself: every access needs its permit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Statement {
    pub verb: Verb,
    pub flags: Vec<Flag>,
    pub accesses: Vec<Access>,
}

/// One thing that is done to one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Access {
    pub action: Action,
    pub verb: Verb,
    #[serde(flatten)]
    pub object: Object,
}

/// The policy's action. The order is that of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Action {
    #[serde(rename = "sql:read")]
    Read,
    #[serde(rename = "sql:write")]
    Write,
    #[serde(rename = "sql:ddl")]
    Ddl,
    #[serde(rename = "sql:procedural")]
    Procedural,
    #[serde(rename = "sql:admin")]
    Admin,
    #[serde(rename = "sql:unknown")]
    Unknown,
}

impl Action {
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::Ddl,
        Self::Procedural,
        Self::Admin,
        Self::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "sql:read",
            Self::Write => "sql:write",
            Self::Ddl => "sql:ddl",
            Self::Procedural => "sql:procedural",
            Self::Admin => "sql:admin",
            Self::Unknown => "sql:unknown",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a statement acts on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Object {
    /// A table, view, sequence, index, foreign table or materialised view.
    Table(RelationName),
    Function(RelationName),
    Schema {
        name: Box<str>,
    },
    Setting {
        name: Box<str>,
    },
    /// Anything else that has a name: `class` says what (`type`, `extension`, `role`, `file` …).
    Other {
        class: &'static str,
        schema: Option<Box<str>>,
        name: Box<str>,
    },
    /// The database itself: a statement that names no object.
    Database,
    /// The whole server: roles, databases, the configuration.
    Server,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(name) => write!(f, "table {name}"),
            Self::Function(name) => write!(f, "function {name}"),
            Self::Schema { name } => write!(f, "schema {name}"),
            Self::Setting { name } => write!(f, "setting {name}"),
            Self::Other {
                class,
                schema,
                name,
            } => match schema {
                Some(schema) => write!(f, "{class} {schema}.{name}"),
                None => write!(f, "{class} {name}"),
            },
            Self::Database => f.write_str("the database"),
            Self::Server => f.write_str("the server"),
        }
    }
}

/// A name as written: schema if given, case folded as PostgreSQL folds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RelationName {
    pub schema: Option<Box<str>>,
    pub name: Box<str>,
}

impl RelationName {
    pub fn new(schema: Option<&str>, name: &str) -> Self {
        Self {
            schema: schema.map(Into::into),
            name: name.into(),
        }
    }
}

impl fmt::Display for RelationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A column that is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ColumnName {
    /// The relation, where the text alone tells.
    pub relation: Option<RelationName>,
    /// `None` is every column: `*`, or a reference to the whole row.
    pub column: Option<Box<str>>,
}

/// Where the masks cannot follow: values that a write stores or a COPY sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Copied {
    /// Columns whose values may be among them.
    pub columns: Vec<ColumnName>,
    /// Relations that these columns may belong to.
    pub relations: Vec<RelationName>,
    /// Values may come from what the text does not show.
    pub opaque: bool,
}

/// What a statement gives another name or place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Renamed {
    Column {
        relation: RelationName,
        column: Box<str>,
    },
    /// A table, view or foreign table gets another name or another schema.
    Table {
        relation: RelationName,
    },
    Schema {
        name: Box<str>,
    },
    /// A partition or an heir is one no longer: what holds for the whole holds for it no more.
    Detached {
        part: RelationName,
        whole: RelationName,
    },
    /// An attribute of a composite type, and so a column of every table that is made of the type.
    Attribute {
        name: Box<str>,
    },
}

impl fmt::Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column { relation, column } => write!(f, "column {relation}.{column}"),
            Self::Table { relation } => write!(f, "table {relation}"),
            Self::Schema { name } => write!(f, "schema {name}"),
            Self::Detached { part, whole } => write!(f, "{part}, a part of {whole},"),
            Self::Attribute { name } => write!(f, "attribute {name}"),
        }
    }
}

/// A setting and its new value, where that is a constant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Setting {
    pub name: Box<str>,
    pub value: Option<Box<str>>,
}

/// A statement's kind in SQL's own words, upper case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verb(pub &'static str);

impl Serialize for Verb {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.0)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What stands out in a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// More than one statement in the text.
    MultiStatement,
    /// A `WITH` query writes.
    WritesInCte,
    /// UPDATE or DELETE of every row: no WHERE, or one that is always true.
    Unbounded,
    /// Rows are locked: FOR UPDATE and its like.
    LocksRows,
    /// EXPLAIN that runs the statement.
    ExplainAnalyze,
    /// Files of the server.
    ServerFile,
    /// Programs on the server.
    ServerProgram,
    /// Code that is not seen runs: DO, EXECUTE, CALL, functions that run text or are not known.
    Opaque,
    /// Text is run as SQL, or code in another language: DO, `query_to_xml`, `dblink`.
    RunsText,
    /// DROP … CASCADE and its like: more goes than is named.
    Cascade,
    /// CREATE OR REPLACE.
    Replaces,
    /// Would make the server read other SQL than the parser does; always refused.
    GrammarState,
    /// Another role's rights.
    ChangesRole,
    /// What unqualified names mean changes.
    SearchPath,
    /// A function that only waits or burns time: `pg_sleep`.
    Delays,
}

impl Flag {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MultiStatement => "multi_statement",
            Self::WritesInCte => "writes_in_cte",
            Self::Unbounded => "unbounded",
            Self::LocksRows => "locks_rows",
            Self::ExplainAnalyze => "explain_analyze",
            Self::ServerFile => "server_file",
            Self::ServerProgram => "server_program",
            Self::Opaque => "opaque",
            Self::RunsText => "runs_text",
            Self::Cascade => "cascade",
            Self::Replaces => "replaces",
            Self::GrammarState => "grammar_state",
            Self::ChangesRole => "changes_role",
            Self::SearchPath => "search_path",
            Self::Delays => "delays",
        }
    }
}
