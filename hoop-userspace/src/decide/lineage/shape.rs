//! The skeleton of a query: what names it reads, and which of them each column is made of.

use super::CopyForm;
use crate::decide::RelationName;

/// What is known of a text's results, statement by statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lineage {
    pub statements: Vec<Traced>,
    /// How many names, expressions and queries it holds.
    pub size: usize,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Traced {
    pub shows: Shows,
    /// `None` where there is none, or it is not understood.
    pub query: Option<Query>,
    /// What it defines or uses by name, other than relations.
    pub named: Option<Named>,
}

/// A cursor or prepared statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Named {
    /// The query's rows are a cursor's from now on.
    Declares(Box<str>),
    /// Its rows are a cursor's.
    Fetches(Box<str>),
    /// The query is a prepared statement from now on.
    Prepares(Box<str>),
    /// It runs a prepared statement.
    Executes(Box<str>),
}

/// What a statement sends back beside its completion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Shows {
    Nothing,
    /// The query's rows.
    Rows,
    /// The query's rows, by COPY.
    Copy(CopyForm),
    /// Rows that the query does not describe: a plan, a cursor's.
    Other,
}

impl Lineage {
    /// The statement whose rows the text's one result holds; `None` where it may have several, or
    /// rows that are not described.
    pub fn shown(&self) -> Option<&Traced> {
        let mut showing = self.statements.iter().filter(|s| s.shows != Shows::Nothing);
        let first = showing.next()?;
        (showing.next().is_none() && first.shows != Shows::Other).then_some(first)
    }

    /// The cursor or prepared statement whose rows the text's one result holds.
    pub fn shown_by_name(&self) -> Option<&Named> {
        let mut showing = self.statements.iter().filter(|s| s.shows != Shows::Nothing);
        let first = showing.next()?.named.as_ref();
        first.filter(|_| showing.next().is_none())
    }

    /// How the text's COPY sends rows, if it holds one.
    pub fn copy(&self) -> Option<&CopyForm> {
        let mut forms = self.statements.iter().filter_map(|s| match &s.shows {
            Shows::Copy(form) => Some(form),
            _ => None,
        });
        let first = forms.next()?;
        forms.next().is_none().then_some(first)
    }

    /// What holds where either text may be the one that runs.
    pub fn either(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let both = self.statements.iter().chain(&other.statements);
        Self {
            statements: both
                .map(|s| Traced {
                    shows: Shows::Other,
                    query: s.query.clone(),
                    named: None,
                })
                .collect(),
            size: self.size + other.size,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Query {
    pub with: Vec<Cte>,
    pub recursive: bool,
    pub body: Body,
    /// What orders, locks or bounds the rows; names of output columns count first.
    pub order: Vec<Pick>,
    /// Code that is not known runs somewhere in it.
    pub unknown: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cte {
    pub name: Box<str>,
    pub columns: Vec<Box<str>>,
    pub query: Query,
    /// Columns that SEARCH and CYCLE add, each made of any of the others.
    pub added: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    Select(Select),
    /// One expression for each column, which holds what every row has there.
    Values(Vec<Expr>, Vec<Pick>),
    /// UNION, INTERSECT, EXCEPT: any arm's rows may show.
    Arms {
        arms: Vec<Query>,
        distinct: bool,
    },
    Write(Box<Write>),
}

impl Default for Body {
    fn default() -> Self {
        Self::Select(Select::default())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Select {
    pub from: Vec<From>,
    pub targets: Vec<Target>,
    pub picks: Vec<Pick>,
    pub distinct: bool,
}

/// INSERT, UPDATE, DELETE, MERGE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    pub target: From,
    /// MERGE shows its source first.
    pub sources_first: bool,
    pub sources: Vec<From>,
    /// Names of the row before and after, and of the row that was to be inserted.
    pub rows: Vec<Box<str>>,
    /// What an INSERT takes its rows from.
    pub inner: Option<Query>,
    pub picks: Vec<Pick>,
    /// RETURNING.
    pub targets: Vec<Target>,
}

/// One entry of a target list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// `None` where it is not known what PostgreSQL calls it.
    pub name: Option<Box<str>>,
    pub shown: Shown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    Value(Expr),
    /// `*`, `t.*`, `s.t.*`.
    All(Vec<Box<str>>),
    /// `(…).*`.
    Fields(Expr),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// The value of one column as it is.
    Column(Vec<Box<str>>),
    /// The one value of a subquery as it is.
    Query(Box<Query>),
    /// What is made of these; of constants if there are none.
    Computed(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    Column(Vec<Box<str>>),
    All(Vec<Box<str>>),
    Query(Box<Query>),
    /// Code that is not known: it may return anything.
    Unknown,
}

/// What decides which rows there are, or in which order, without being among them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    Value(Expr),
    /// A bare name, which may be an output column's.
    Name(Box<str>),
    /// An output column by its number from 1.
    Position(usize),
    /// Runs, and its own predicates count; its value is not looked at.
    Inside(Expr),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum From {
    Relation {
        name: RelationName,
        alias: Option<Alias>,
    },
    Query {
        query: Box<Query>,
        alias: Option<Alias>,
        lateral: bool,
    },
    /// Rows made of these values: a function, XMLTABLE, JSON_TABLE.
    Function {
        value: Expr,
        alias: Option<Alias>,
        /// Columns of a column definition list.
        columns: Vec<Box<str>>,
    },
    Join(Box<Join>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Join {
    pub left: From,
    pub right: From,
    pub using: Vec<Box<str>>,
    pub natural: bool,
    pub alias: Option<Alias>,
    pub using_alias: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Alias {
    pub name: Box<str>,
    pub columns: Vec<Box<str>>,
}
