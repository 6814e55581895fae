//! SELECT, INSERT, UPDATE, DELETE and MERGE, wherever they stand.

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{
    DeleteStmt, InsertStmt, MergeStmt, RangeVar, ReturningClause, SelectStmt, UpdateStmt,
    WithClause,
};
use pg_raw_parse::raw::CmdType::{CMD_DELETE, CMD_INSERT, CMD_UPDATE};
use pg_raw_parse::raw::MergeMatchKind::MERGE_WHEN_NOT_MATCHED_BY_SOURCE;
use pg_raw_parse::raw::OnConflictAction::ONCONFLICT_UPDATE;

use crate::decide::{Action, Flag, Verb};

use super::unbounded::is_unbounded;
use super::walk::{Context, Locked, Lost, Relations, Walk, relation_name};

/// Returns whether `node` is one of these.
pub(super) fn visit<'a>(
    walk: &mut Walk<'a, '_>,
    node: Node<'a>,
    context: Context,
) -> Result<bool, Lost> {
    match node {
        Node::SelectStmt(n) => select(walk, n, context)?,
        Node::InsertStmt(n) => insert(walk, n, context)?,
        Node::UpdateStmt(n) => update(walk, n, context)?,
        Node::DeleteStmt(n) => delete(walk, n, context)?,
        Node::MergeStmt(n) => merge(walk, n, context)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn select<'a>(walk: &mut Walk<'a, '_>, n: &'a SelectStmt, context: Context) -> Result<(), Lost> {
    let locked = locked(walk, n, context);
    let mut inner = context.inner();
    if !context.arm && into(n) {
        // SELECT … INTO makes a table of all that it reads.
        inner.copied = true;
    }
    inner = with(walk, n.with_clause(), inner, inner.copied)?;
    if let Some(into) = n.into_clause() {
        let creates = Relations::Changed(Action::Ddl, Verb("SELECT INTO"));
        let context = Context {
            relations: creates,
            ..inner
        };
        walk.push(into, context);
    }
    let arm = Context {
        arm: true,
        locked,
        ..inner
    };
    walk.push(n.larg(), arm);
    walk.push(n.rarg(), arm);
    walk.push_all(n.from_clause().iter(), Context { locked, ..inner });
    walk.push_all(n.target_list().iter(), inner);
    walk.push_all(n.values_lists().iter(), inner);
    // What only picks, groups or orders rows moves no value.
    let picks = inner.copied(false);
    walk.push_all(n.distinct_clause().iter(), picks);
    walk.push(n.where_clause(), picks);
    walk.push_all(n.group_clause().iter(), picks);
    walk.push(n.having_clause(), picks);
    walk.push_all(n.window_clause().iter(), picks);
    walk.push_all(n.sort_clause().iter(), picks);
    walk.push(n.limit_offset(), picks);
    walk.push(n.limit_count(), picks);
    Ok(())
}

/// Whose rows are locked by the clauses of this query, or by those of the query around it.
fn locked<'a>(walk: &mut Walk<'a, '_>, n: &'a SelectStmt, context: Context) -> Locked {
    if context.locked == Locked::All || n.locking_clause().is_empty() {
        return context.locked;
    }
    let mut names = Vec::new();
    for clause in n.locking_clause().iter() {
        let named = clause.locked_rels().iter().map(|node| match node {
            Node::RangeVar(relation) => relation.relname(),
            _ => None,
        });
        match named.collect::<Option<Vec<_>>>() {
            Some(named) if !named.is_empty() => names.extend(named),
            _ => return Locked::All,
        }
    }
    walk.lock_named(names)
}

/// INTO stands in the leftmost arm, and counts for all of them.
fn into(mut n: &SelectStmt) -> bool {
    while let Some(left) = n.larg() {
        n = left;
    }
    n.into_clause().is_some()
}

fn insert<'a>(walk: &mut Walk<'a, '_>, n: &'a InsertStmt, context: Context) -> Result<(), Lost> {
    let inner = begin(walk, context);
    let inner = with(walk, n.with_clause(), inner, true)?;
    target(walk, n.relation(), Verb("INSERT"), inner);
    walk.push_all(n.cols().iter(), inner.copied(false));
    walk.push(n.select_stmt(), inner.copied(true));
    if let Some(conflict) = n.on_conflict_clause() {
        walk.push(conflict.infer(), inner.copied(false));
        let excluded = Context {
            excluded: true,
            ..inner
        };
        walk.push_all(conflict.target_list().iter(), excluded.copied(true));
        walk.push(conflict.where_clause(), excluded.copied(false));
        if conflict.action == ONCONFLICT_UPDATE {
            target(walk, n.relation(), Verb("UPDATE"), inner);
            copies_own(walk, n.relation());
        }
    }
    returning(walk, n.returning_clause(), n.relation(), context);
    Ok(())
}

fn update<'a>(walk: &mut Walk<'a, '_>, n: &'a UpdateStmt, context: Context) -> Result<(), Lost> {
    let inner = begin(walk, context);
    let inner = with(walk, n.with_clause(), inner, true)?;
    target(walk, n.relation(), Verb("UPDATE"), inner);
    copies_own(walk, n.relation());
    // Setting through the view of all settings is SET by another name.
    if let Some(relation) = n.relation()
        && relation.relname() == Some("pg_settings")
        && matches!(relation.schemaname(), None | Some("pg_catalog"))
    {
        walk.sets_any();
    }
    walk.push_all(n.target_list().iter(), inner.copied(true));
    walk.push_all(n.from_clause().iter(), inner.copied(true));
    walk.push(n.where_clause(), inner.copied(false));
    bounded(walk, n.where_clause(), n.relation(), context);
    returning(walk, n.returning_clause(), n.relation(), context);
    Ok(())
}

fn delete<'a>(walk: &mut Walk<'a, '_>, n: &'a DeleteStmt, context: Context) -> Result<(), Lost> {
    let inner = begin(walk, context);
    let inner = with(walk, n.with_clause(), inner, context.copied)?;
    target(walk, n.relation(), Verb("DELETE"), inner);
    walk.push_all(n.using_clause().iter(), inner);
    walk.push(n.where_clause(), inner.copied(false));
    bounded(walk, n.where_clause(), n.relation(), context);
    returning(walk, n.returning_clause(), n.relation(), context);
    Ok(())
}

fn merge<'a>(walk: &mut Walk<'a, '_>, n: &'a MergeStmt, context: Context) -> Result<(), Lost> {
    let inner = begin(walk, context);
    let inner = with(walk, n.with_clause(), inner, true)?;
    target(walk, n.relation(), Verb("MERGE"), inner);
    copies_own(walk, n.relation());
    walk.push(n.source_relation(), inner.copied(true));
    walk.push(n.join_condition(), inner.copied(false));
    for when in n.merge_when_clauses().iter() {
        let verb = match when.command_type {
            CMD_INSERT => Verb("INSERT"),
            CMD_UPDATE => Verb("UPDATE"),
            CMD_DELETE => Verb("DELETE"),
            _ => Verb("MERGE"),
        };
        target(walk, n.relation(), verb, inner);
        walk.push(when.condition(), inner.copied(false));
        walk.push_all(when.target_list().iter(), inner.copied(true));
        walk.push_all(when.values().iter(), inner.copied(true));
        let destroys = matches!(when.command_type, CMD_UPDATE | CMD_DELETE);
        let rest = when.match_kind == MERGE_WHEN_NOT_MATCHED_BY_SOURCE;
        if destroys && matches!(when.condition(), Node::None) {
            if rest && !context.planned {
                walk.found.flags.insert(Flag::Unbounded);
            } else {
                bounded(walk, n.join_condition(), n.relation(), context);
            }
        }
    }
    returning(walk, n.returning_clause(), n.relation(), context);
    Ok(())
}

fn begin(walk: &mut Walk<'_, '_>, context: Context) -> Context {
    if context.cte && !context.planned {
        walk.found.flags.insert(Flag::WritesInCte);
    }
    context.inner()
}

fn bounded<'a>(
    walk: &mut Walk<'a, '_>,
    condition: Node<'a>,
    target: Option<&'a RangeVar>,
    context: Context,
) {
    if !context.planned && is_unbounded(condition, target) {
        walk.found.flags.insert(Flag::Unbounded);
    }
}

/// The relation that is written. It is never a CTE.
fn target<'a>(
    walk: &mut Walk<'a, '_>,
    relation: Option<&'a RangeVar>,
    verb: Verb,
    context: Context,
) {
    let (action, verb) = match context.planned {
        true => (Action::Read, Verb("EXPLAIN")),
        false => (Action::Write, verb),
    };
    let relations = Relations::Changed(action, verb);
    walk.push(
        relation,
        Context {
            relations,
            ..context
        },
    );
}

/// Values may come from the relation that is written, too.
fn copies_own(walk: &mut Walk<'_, '_>, relation: Option<&RangeVar>) {
    walk.found.copied.extend(relation.map(relation_name));
}

/// RETURNING reads what was written.
fn returning<'a>(
    walk: &mut Walk<'a, '_>,
    clause: Option<&'a ReturningClause>,
    relation: Option<&'a RangeVar>,
    context: Context,
) {
    let Some(clause) = clause else { return };
    let inner = context.inner();
    walk.push(clause, inner);
    if let Some(name) = relation.map(relation_name) {
        // The row before and after, by these names or others.
        let options = clause.options().iter().filter_map(|option| option.value());
        for row in ["old", "new"].into_iter().chain(options) {
            walk.found.alias(row, Some(&name));
        }
        walk.reads(Verb("RETURNING"), name, inner);
    }
}

/// Opens the scopes of a WITH clause; returns the context of what follows it.
pub(super) fn with<'a>(
    walk: &mut Walk<'a, '_>,
    clause: Option<&'a WithClause>,
    context: Context,
    copied: bool,
) -> Result<Context, Lost> {
    let Some(clause) = clause else {
        return Ok(context);
    };
    let mut scope = context.scope;
    let mut queries = Vec::new();
    for cte in clause.ctes().iter() {
        queries.push((cte, scope));
        scope = walk.define(cte.ctename().ok_or(Lost::Unknown)?, scope)?;
    }
    for (cte, before) in queries {
        // WITH RECURSIVE lets each see all, itself too.
        let seen = if clause.recursive { scope } else { before };
        let inner = Context {
            scope: seen,
            copied,
            ..context.inner()
        };
        walk.push(cte.search_clause(), inner);
        walk.push(cte.cycle_clause(), inner);
        walk.push(cte.ctequery(), Context { cte: true, ..inner });
    }
    Ok(Context { scope, ..context })
}
