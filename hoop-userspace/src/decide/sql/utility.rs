//! Every statement that is no query, wherever it stands: what it is called, what it acts on, and
//! whose action that is.

use pg_raw_parse::nodes::{
    CopyStmt, DefElem, DropStmt, ExplainStmt, LockStmt, RangeVar, VariableSetStmt,
};
use pg_raw_parse::raw::DropBehavior::DROP_CASCADE;
use pg_raw_parse::raw::TransactionStmtKind::{
    TRANS_STMT_COMMIT_PREPARED, TRANS_STMT_PREPARE, TRANS_STMT_RELEASE,
    TRANS_STMT_ROLLBACK_PREPARED, TRANS_STMT_ROLLBACK_TO, TRANS_STMT_SAVEPOINT,
};
use pg_raw_parse::raw::VariableSetKind::{VAR_RESET_ALL, VAR_SET_MULTI, VAR_SET_VALUE};
use pg_raw_parse::{ConstValue, Node};

use crate::decide::{Action, ColumnName, Flag, Object, Verb};

use super::definition;
use super::lineage::copy_form;
use super::settings::Value;
use super::walk::{Context, Lost, Relations, Walk, constant, relation_name};

/// What a statement is called; `None` for what is no statement.
pub(super) fn verb(node: Node<'_>) -> Option<Verb> {
    Some(Verb(match node {
        Node::SelectStmt(_) => "SELECT",
        Node::InsertStmt(_) => "INSERT",
        Node::UpdateStmt(_) => "UPDATE",
        Node::DeleteStmt(_) => "DELETE",
        Node::MergeStmt(_) => "MERGE",
        Node::CopyStmt(n) if n.is_from => "COPY FROM",
        Node::CopyStmt(_) => "COPY TO",
        Node::ExplainStmt(_) => "EXPLAIN",
        Node::VariableSetStmt(_) => "SET",
        Node::VariableShowStmt(_) => "SHOW",
        Node::TransactionStmt(n) => match n.kind {
            TRANS_STMT_PREPARE => "PREPARE TRANSACTION",
            TRANS_STMT_COMMIT_PREPARED => "COMMIT PREPARED",
            TRANS_STMT_ROLLBACK_PREPARED => "ROLLBACK PREPARED",
            // Within a transaction, which goes on.
            TRANS_STMT_SAVEPOINT | TRANS_STMT_RELEASE | TRANS_STMT_ROLLBACK_TO => "SAVEPOINT",
            _ => "TRANSACTION",
        },
        Node::DeclareCursorStmt(_) => "DECLARE",
        Node::FetchStmt(_) => "FETCH",
        Node::ClosePortalStmt(_) => "CLOSE",
        Node::PrepareStmt(_) => "PREPARE",
        Node::ExecuteStmt(_) => "EXECUTE",
        Node::DeallocateStmt(_) => "DEALLOCATE",
        Node::DoStmt(_) => "DO",
        Node::CallStmt(_) => "CALL",
        Node::TruncateStmt(_) => "TRUNCATE",
        Node::LockStmt(_) => "LOCK",
        Node::ListenStmt(_) => "LISTEN",
        Node::UnlistenStmt(_) => "UNLISTEN",
        Node::NotifyStmt(_) => "NOTIFY",
        Node::DiscardStmt(_) => "DISCARD",
        Node::ConstraintsSetStmt(_) => "SET CONSTRAINTS",
        Node::LoadStmt(_) => "LOAD",
        Node::AlterSystemStmt(_) => "ALTER SYSTEM",
        Node::CreateTableAsStmt(_) => "CREATE TABLE AS",
        _ => return definition::of(node).map(|(verb, _)| Verb(verb)),
    }))
}

/// Returns whether `node` is a statement of these.
pub(super) fn visit<'a>(
    walk: &mut Walk<'a, '_>,
    node: Node<'a>,
    context: Context,
) -> Result<bool, Lost> {
    let inner = context.inner();
    match node {
        Node::CopyStmt(n) => copy(walk, n, inner),
        Node::ExplainStmt(n) => explain(walk, n, inner),
        Node::VariableSetStmt(n) => set(walk, n),
        Node::LockStmt(n) => lock(walk, n, inner),
        Node::PrepareStmt(n) => walk.push(n.query(), inner),
        Node::DeclareCursorStmt(n) => walk.push(n.query(), inner),
        Node::VariableShowStmt(n) => {
            let name = n.name().unwrap_or_default().to_ascii_lowercase().into();
            on(walk, Action::Read, "SHOW", Object::Setting { name });
        }
        Node::TransactionStmt(n) if n.gid().is_some() => {
            // Outlives the session, and may be another's.
            let verb = verb(node).unwrap_or_default();
            on(walk, Action::Write, verb.0, Object::Database);
        }
        Node::TransactionStmt(_)
        | Node::ClosePortalStmt(_)
        | Node::DeallocateStmt(_)
        | Node::DiscardStmt(_)
        | Node::UnlistenStmt(_)
        | Node::ConstraintsSetStmt(_) => {
            let verb = verb(node).unwrap_or_default();
            on(walk, Action::Read, verb.0, Object::Database);
        }
        Node::FetchStmt(_) => {
            opaque(walk, context, &[Flag::Opaque]);
            on(walk, Action::Read, "FETCH", Object::Database);
        }
        Node::ExecuteStmt(n) => {
            opaque(walk, context, &[Flag::Opaque]);
            let statement = other("prepared_statement", n.name());
            on(walk, Action::Procedural, "EXECUTE", statement);
            walk.push_all(n.params().iter(), inner);
        }
        Node::DoStmt(_) => {
            opaque(walk, context.copied(true), &[Flag::Opaque, Flag::RunsText]);
            on(walk, Action::Procedural, "DO", Object::Database);
        }
        Node::CallStmt(n) => {
            opaque(walk, context, &[Flag::Opaque]);
            walk.push(n.funccall(), inner);
        }
        Node::TruncateStmt(n) => {
            walk.found.flags.insert(Flag::Unbounded);
            cascade(walk, n.behavior == DROP_CASCADE);
            walk.push_all(
                n.relations().iter(),
                changed(inner, Action::Write, "TRUNCATE"),
            );
        }
        Node::ListenStmt(n) => {
            on(
                walk,
                Action::Read,
                "LISTEN",
                other("channel", n.conditionname()),
            );
        }
        Node::NotifyStmt(n) => {
            on(
                walk,
                Action::Write,
                "NOTIFY",
                other("channel", n.conditionname()),
            );
        }
        Node::LoadStmt(n) => server_file(walk, "LOAD", n.filename()),
        Node::AlterSystemStmt(n) => {
            on(walk, Action::Admin, "ALTER SYSTEM", Object::Server);
            walk.push(n.setstmt(), inner);
        }
        Node::CreateTableAsStmt(n) => {
            walk.push(n.into(), changed(inner, Action::Ddl, "CREATE TABLE AS"));
            walk.push(n.query(), inner.copied(true));
        }
        Node::DropStmt(n) => drop(walk, n),
        _ => return definition::visit(walk, node, inner),
    }
    Ok(true)
}

pub(super) fn on(walk: &mut Walk<'_, '_>, action: Action, verb: &'static str, object: Object) {
    walk.found.access(action, Verb(verb), object);
}

pub(super) fn changed(context: Context, action: Action, verb: &'static str) -> Context {
    let (action, verb) = match context.planned {
        true => (Action::Read, "EXPLAIN"),
        false => (action, verb),
    };
    Context {
        relations: Relations::Changed(action, Verb(verb)),
        ..context
    }
}

pub(super) fn other(class: &'static str, name: Option<&str>) -> Object {
    Object::Other {
        class,
        schema: None,
        name: name.unwrap_or_default().into(),
    }
}

pub(super) fn cascade(walk: &mut Walk<'_, '_>, cascades: bool) {
    if cascades {
        walk.found.flags.insert(Flag::Cascade);
    }
}

fn opaque(walk: &mut Walk<'_, '_>, context: Context, flags: &[Flag]) {
    walk.found.opaque = true;
    walk.found.copied_opaque |= context.copied;
    walk.found.flags.extend(flags);
}

fn server_file(walk: &mut Walk<'_, '_>, verb: &'static str, name: Option<&str>) {
    walk.found.flags.insert(Flag::ServerFile);
    walk.found.files.extend(name.map(str::to_owned));
    on(walk, Action::Admin, verb, other("file", name));
}

fn copy<'a>(walk: &mut Walk<'a, '_>, n: &'a CopyStmt, context: Context) {
    let verb = if n.is_from { "COPY FROM" } else { "COPY TO" };
    if n.is_program {
        walk.found.flags.insert(Flag::ServerProgram);
        walk.found.programs.extend(n.filename().map(str::to_owned));
        on(walk, Action::Admin, verb, other("program", n.filename()));
    } else if n.filename().is_some() {
        server_file(walk, verb, n.filename());
    }
    walk.push_all(n.options().iter(), context);
    walk.push(n.where_clause(), context);
    let copied = context.copied(!(walk.follows_copy && copy_form(n).is_some()));
    walk.push(n.query(), copied);
    if let Some(relation) = n.relation() {
        if n.is_from {
            walk.push(relation, changed(context, Action::Write, verb));
        } else {
            copy_to(walk, n, relation, copied);
        }
    }
}

/// COPY of a relation, or of some of its columns.
fn copy_to<'a>(walk: &mut Walk<'a, '_>, n: &'a CopyStmt, relation: &'a RangeVar, context: Context) {
    let name = relation_name(relation);
    walk.reads(Verb("COPY TO"), name.clone(), context);
    let mut sends = |column: Option<&str>| {
        let column = ColumnName {
            relation: Some(name.clone()),
            column: column.map(Into::into),
        };
        walk.found.sends(column, context.copied);
    };
    let columns = n.attlist();
    if columns.is_empty() {
        sends(None);
    }
    columns.iter().for_each(|column| sends(column.as_str()));
}

fn explain<'a>(walk: &mut Walk<'a, '_>, n: &'a ExplainStmt, context: Context) {
    let runs = n.options().iter().any(runs);
    if runs {
        walk.found.flags.insert(Flag::ExplainAnalyze);
    }
    let planned = context.planned || !runs;
    walk.push(n.query(), Context { planned, ..context });
}

/// ANALYZE, unless it is plainly switched off.
fn runs(option: &DefElem) -> bool {
    option.defname() == Some("analyze")
        && !matches!(
            option
                .arg()
                .as_str()
                .map(str::to_ascii_lowercase)
                .as_deref(),
            Some("off" | "false" | "0")
        )
        && !matches!(option.arg(), Node::Integer(n) if n.ival == 0)
        && !matches!(option.arg(), Node::Boolean(n) if !n.boolval)
}

fn lock<'a>(walk: &mut Walk<'a, '_>, n: &'a LockStmt, context: Context) {
    // LOCK … IN ACCESS SHARE MODE takes what SELECT takes.
    let action = if n.mode == 1 {
        Action::Read
    } else {
        Action::Write
    };
    walk.push_all(n.relations().iter(), changed(context, action, "LOCK"));
}

fn set(walk: &mut Walk<'_, '_>, n: &VariableSetStmt) {
    let Some(name) = n.name().filter(|_| n.kind != VAR_RESET_ALL) else {
        return on(walk, Action::Read, "SET", Object::Database);
    };
    if !matches!(n.kind, VAR_SET_VALUE | VAR_SET_MULTI) {
        return walk.sets(name, Value::Default);
    }
    let values: Vec<_> = n.args().iter().map(setting_value).collect();
    match values.as_slice() {
        [Some(value)] => walk.sets(name, Value::Constant(value)),
        _ => walk.sets(name, Value::Computed),
    }
}

fn setting_value(node: Node<'_>) -> Option<String> {
    match node {
        Node::A_Const(value) => match value.val()? {
            ConstValue::Integer(number) => Some(number.to_string()),
            _ => constant(node).map(str::to_owned),
        },
        _ => constant(node).map(str::to_owned),
    }
}

fn drop(walk: &mut Walk<'_, '_>, n: &DropStmt) {
    cascade(walk, n.behavior == DROP_CASCADE);
    let verb = definition::drop_verb(n.remove_type);
    let action = definition::drop_action(n.remove_type);
    for object in n.objects().iter() {
        walk.acts(
            action,
            Verb(verb),
            definition::object(n.remove_type, object),
        );
    }
}
