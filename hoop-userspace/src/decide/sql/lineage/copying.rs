//! COPY … TO: what it sends, and in which form.

use pg_raw_parse::nodes::{CopyStmt, DefElem};
use pg_raw_parse::{ConstValue, Node};

use crate::decide::lineage::{Body, CopyForm, From, Query, Select, Shown, Shows, Target};
use crate::decide::sql::walk::{names, relation_name};

use super::{Build, Result};

impl Build<'_> {
    pub(super) fn copy(&mut self, n: &CopyStmt) -> (Shows, Result<Option<Query>>) {
        if n.is_from {
            return (Shows::Nothing, Ok(None));
        }
        let shows = match (n.filename(), form(n)) {
            (Some(_), _) => Shows::Nothing,
            (None, Some(form)) => Shows::Copy(form),
            (None, None) => Shows::Other,
        };
        let query = match n.relation() {
            None => self.query(n.query()).map(Some),
            Some(_) => Ok(relation(n)),
        };
        (shows, query)
    }
}

/// COPY of a table, or of some of its columns, as the query that it amounts to.
fn relation(n: &CopyStmt) -> Option<Query> {
    let from = From::Relation {
        name: relation_name(n.relation()?),
        alias: None,
    };
    let columns = names(n.attlist().iter());
    let targets = match columns.is_empty() {
        true => vec![Target {
            name: None,
            shown: Shown::All(Vec::new()),
        }],
        false => columns
            .into_iter()
            .map(|name| Target {
                name: Some(name.into()),
                shown: Shown::Value(crate::decide::lineage::Expr::Column(vec![name.into()])),
            })
            .collect(),
    };
    Some(Query {
        body: Body::Select(Select {
            from: vec![from],
            targets,
            ..Select::default()
        }),
        ..Query::default()
    })
}

/// The form of COPY … TO STDOUT; `None` where masks cannot follow it: another encoding, options that
/// are not known.
pub(in crate::decide::sql) fn form(n: &CopyStmt) -> Option<CopyForm> {
    if n.is_from || n.is_program || n.filename().is_some() {
        return None;
    }
    let text = |option: &DefElem| word(option.arg());
    let mut format = None;
    for option in n.options().iter() {
        if option.defname() == Some("format") {
            format = Some(text(option)?.to_ascii_lowercase());
        }
    }
    let mut form = match format.as_deref() {
        None | Some("text") => CopyForm::text(),
        Some("csv") => CopyForm::csv(),
        Some("binary") => CopyForm::binary(),
        Some(_) => return None,
    };
    let mut escape = None;
    for option in n.options().iter() {
        match option.defname()? {
            "format" | "force_quote" | "freeze" => {}
            "delimiter" => form.delimiter = byte(&text(option)?)?,
            "null" => form.null = text(option)?.into(),
            "header" => form.header = switched_on(option)?,
            "quote" => form.quote = byte(&text(option)?)?,
            "escape" => escape = Some(byte(&text(option)?)?),
            "encoding" if is_utf8(&text(option)?) => {}
            _ => return None,
        }
    }
    form.escape = escape.unwrap_or(form.quote);
    // Written as it is, it would take the delimiter behind it for a part of the value.
    let dangles = !form.csv && form.null.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1;
    (!dangles).then_some(form)
}

fn word(node: Node<'_>) -> Option<String> {
    match node {
        Node::String(text) => text.sval().map(str::to_owned),
        Node::A_Const(value) => match value.val()? {
            ConstValue::String(text) => Some(text.to_owned()),
            _ => None,
        },
        _ => None,
    }
}

fn byte(text: &str) -> Option<u8> {
    match *text.as_bytes() {
        [byte] => Some(byte),
        _ => None,
    }
}

/// HEADER without a value is on; MATCH is for COPY FROM alone.
fn switched_on(option: &DefElem) -> Option<bool> {
    match option.arg() {
        Node::None => Some(true),
        Node::Boolean(value) => Some(value.boolval),
        Node::Integer(value) => match value.ival {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        node => match &*word(node)?.to_ascii_lowercase() {
            "true" | "on" => Some(true),
            "false" | "off" => Some(false),
            _ => None,
        },
    }
}

fn is_utf8(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(
        &*plain.to_ascii_lowercase(),
        "utf8" | "unicode" | "sqlascii" | "latin1" | "iso88591"
    )
}

/// Whether a statement sends rows by COPY in a form that masks can follow.
pub(in crate::decide::sql) fn copies_out(node: Node<'_>) -> bool {
    matches!(node, Node::CopyStmt(n) if form(n).is_some())
}
