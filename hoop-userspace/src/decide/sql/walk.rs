//! Walks a statement's tree, without recursion, and collects what it does.

use pg_raw_parse::nodes::{A_Expr, A_Indirection, Alias, ColumnRef, FuncCall, RangeVar};
use pg_raw_parse::{ConstValue, Node};

use crate::decide::{Action, Flag, Object, RelationName, Setting as SettingFact, Verb};

use super::children::{Children, UnknownNode, children};
use super::found::Found;
use super::functions::{Functions, is_builtin_operator, takes_row};
use super::settings::{self, Value};
use super::{query, utility};

/// CTEs of one statement. Each look-up walks the chain of those in scope.
const MAX_CTES: usize = 500;

/// Why a walk stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("it holds syntax that hoop does not know")]
    Unknown,
    #[error("it defines more than {MAX_CTES} WITH queries")]
    Ctes,
}

impl From<UnknownNode> for Lost {
    fn from(_: UnknownNode) -> Self {
        Self::Unknown
    }
}

/// Where in the statement a node stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// The CTEs in scope; 0 is none.
    pub scope: usize,
    pub relations: Relations,
    /// Values found here may be stored by a write, or leave by COPY.
    pub copied: bool,
    /// Rows of relations named here are locked.
    pub locked: Locked,
    /// `excluded` is the row that was to be inserted.
    pub excluded: bool,
    /// The statement is planned, not run: EXPLAIN without ANALYZE.
    pub planned: bool,
    /// The node is the query of a CTE.
    pub cte: bool,
    /// The node is an arm of UNION, EXCEPT or INTERSECT.
    pub arm: bool,
}

impl Context {
    const TOP: Self = Self {
        scope: 0,
        relations: Relations::Read,
        copied: false,
        locked: Locked::No,
        excluded: false,
        planned: false,
        cte: false,
        arm: false,
    };

    /// Within a query: nothing that was true of the statement around it.
    pub(super) fn inner(self) -> Self {
        Self {
            relations: Relations::Read,
            locked: Locked::No,
            excluded: false,
            cte: false,
            arm: false,
            ..self
        }
    }

    pub(super) fn copied(self, copied: bool) -> Self {
        Self { copied, ..self }
    }
}

/// Whose rows FOR UPDATE and its like lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locked {
    No,
    All,
    /// Those that the list at this place names.
    Named(usize),
}

/// What a relation's name means where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Relations {
    Read,
    Changed(Action, Verb),
}

struct Scope<'a> {
    name: &'a str,
    outer: usize,
}

pub(super) struct Walk<'a, 'f> {
    pub functions: &'f Functions,
    pub follows_copy: bool,
    pub found: Found<'a>,
    work: Vec<(Node<'a>, Context)>,
    scratch: Children<'a>,
    scopes: Vec<Scope<'a>>,
    /// Names behind FOR UPDATE OF and its like.
    locked: Vec<Vec<&'a str>>,
}

impl<'a, 'f> Walk<'a, 'f> {
    /// Collects what one statement does.
    ///
    /// With `follows_copy`, the masks see what COPY sends, row by row.
    pub(super) fn statement(
        node: Node<'a>,
        functions: &'f Functions,
        follows_copy: bool,
    ) -> Result<Found<'a>, Lost> {
        let mut walk = Self {
            functions,
            follows_copy,
            found: Found::new(utility::verb(node).ok_or(Lost::Unknown)?),
            work: vec![(node, Context::TOP)],
            scratch: Children::default(),
            scopes: Vec::new(),
            locked: Vec::new(),
        };
        while let Some((node, context)) = walk.work.pop() {
            walk.visit(node, context)?;
        }
        Ok(walk.found)
    }

    pub(super) fn push(&mut self, node: impl Into<Node<'a>>, context: Context) {
        match node.into() {
            Node::None => {}
            node => self.work.push((node, context)),
        }
    }

    pub(super) fn push_all(
        &mut self,
        nodes: impl IntoIterator<Item = impl Into<Node<'a>>>,
        context: Context,
    ) {
        nodes.into_iter().for_each(|node| self.push(node, context));
    }

    /// Goes on with everything below `node`.
    pub(super) fn descend(&mut self, node: Node<'a>, context: Context) -> Result<(), Lost> {
        children(node, &mut self.scratch)?;
        let below = self.scratch.0.drain(..);
        self.work.extend(below.map(|node| (node, context)));
        Ok(())
    }

    fn visit(&mut self, node: Node<'a>, context: Context) -> Result<(), Lost> {
        match node {
            Node::RangeVar(n) => self.relation(n, context),
            Node::ColumnRef(n) => self.column(n, context),
            Node::A_Indirection(n) => self.indirection(n, context)?,
            Node::FuncCall(n) => self.call(n, context)?,
            Node::A_Expr(n) => self.expression(n, context)?,
            Node::SubLink(n) => {
                self.operator(n.oper_name().iter());
                self.descend(node, context)?;
            }
            Node::SortBy(n) => {
                self.operator(n.use_op().iter());
                self.descend(node, context)?;
            }
            Node::RangeTableSample(n) => {
                let method = names(n.method().iter());
                if !matches!(*method, ["system" | "bernoulli"] | ["pg_catalog", _]) {
                    let (name, schemas) = method.split_last().ok_or(Lost::Unknown)?;
                    self.called(schemas.last().copied(), name, 1, context);
                }
                self.descend(node, context)?;
            }
            Node::TableLikeClause(n) => self.push(n.relation(), context.inner()),
            Node::RangeSubselect(n) => {
                let called = n.alias().and_then(Alias::aliasname);
                let locked = match self.is_locked(context.locked, called) {
                    true => Locked::All,
                    false => Locked::No,
                };
                self.named(node, n.alias(), Context { locked, ..context })?;
            }
            Node::RangeFunction(n) => self.named(node, n.alias(), context)?,
            Node::RangeTableFunc(n) => self.named(node, n.alias(), context)?,
            Node::JsonTable(n) => self.named(node, n.alias(), context)?,
            Node::JoinExpr(n) => {
                self.alias(n.join_using_alias());
                if n.alias().is_some_and(|alias| !alias.colnames().is_empty()) {
                    self.found.renames(None, context.copied);
                }
                self.named(node, n.alias(), context)?;
            }
            _ if query::visit(self, node, context)? => {}
            _ if utility::visit(self, node, context)? => {}
            _ => self.descend(node, context)?,
        }
        Ok(())
    }

    fn named(
        &mut self,
        node: Node<'a>,
        alias: Option<&'a Alias>,
        context: Context,
    ) -> Result<(), Lost> {
        self.alias(alias);
        self.descend(node, context)
    }

    fn alias(&mut self, alias: Option<&'a Alias>) {
        if let Some(name) = alias.and_then(Alias::aliasname) {
            self.found.alias(name, None);
        }
    }

    /// Opens a scope in which `name` is a CTE.
    pub(super) fn define(&mut self, name: &'a str, outer: usize) -> Result<usize, Lost> {
        if self.scopes.len() >= MAX_CTES {
            return Err(Lost::Ctes);
        }
        self.scopes.push(Scope { name, outer });
        self.found.alias(name, None);
        Ok(self.scopes.len())
    }

    fn is_cte(&self, name: &str, mut scope: usize) -> bool {
        // Scope 0 is none, so positions are shifted by one.
        while let Some(defined) = scope.checked_sub(1).and_then(|at| self.scopes.get(at)) {
            if defined.name == name {
                return true;
            }
            scope = defined.outer;
        }
        false
    }

    fn relation(&mut self, node: &'a RangeVar, context: Context) {
        let name = relation_name(node);
        let alias = node.alias().and_then(Alias::aliasname);
        let called = alias.or(node.relname());
        if node
            .alias()
            .is_some_and(|alias| !alias.colnames().is_empty())
        {
            // `users AS u(a, b)`: columns go by other names, so each may be any.
            self.found.renames(Some(&name), context.copied);
        }
        if let Relations::Changed(action, verb) = context.relations {
            self.remember(called, Some(&name));
            self.changes(action, verb, name);
        } else if node.schemaname().is_none() && self.is_cte(&name.name, context.scope) {
            self.remember(called, None);
        } else {
            self.remember(called, Some(&name));
            if self.is_locked(context.locked, called) {
                self.changes(Action::Write, Verb("SELECT FOR UPDATE"), name.clone());
                self.found.flags.insert(Flag::LocksRows);
            }
            self.reads(Verb("SELECT"), name, context);
        }
    }

    /// Locks what these names stand for.
    pub(super) fn lock_named(&mut self, names: Vec<&'a str>) -> Locked {
        self.locked.push(names);
        Locked::Named(self.locked.len() - 1)
    }

    fn is_locked(&self, locked: Locked, called: Option<&str>) -> bool {
        match locked {
            Locked::No => false,
            Locked::All => true,
            Locked::Named(at) => {
                let names = self.locked.get(at);
                called.is_some_and(|name| names.is_some_and(|names| names.contains(&name)))
            }
        }
    }

    fn remember(&mut self, called: Option<&'a str>, relation: Option<&RelationName>) {
        if let Some(called) = called {
            self.found.alias(called, relation);
        }
    }

    pub(super) fn reads(&mut self, verb: Verb, name: RelationName, context: Context) {
        if context.copied {
            self.found.copied.insert(name.clone());
        }
        self.found.reads.insert(name.clone());
        self.found.access(Action::Read, verb, Object::Table(name));
    }

    /// An access to any object.
    pub(super) fn acts(&mut self, action: Action, verb: Verb, object: Object) {
        match object {
            Object::Table(name) => self.changes(action, verb, name),
            object => self.found.access(action, verb, object),
        }
    }

    pub(super) fn changes(&mut self, action: Action, verb: Verb, name: RelationName) {
        // Whoever writes the catalogs redefines roles and rights.
        let own = match name.schema.as_deref() {
            Some(schema) => matches!(schema, "pg_catalog" | "information_schema" | "pg_toast"),
            None => name.name.starts_with("pg_"),
        };
        let action = match action {
            Action::Write if own => Action::Admin,
            action => action,
        };
        if action == Action::Read {
            self.found.reads.insert(name.clone());
        } else {
            self.found.writes.insert(name.clone());
        }
        self.found.access(action, verb, Object::Table(name));
    }

    fn column(&mut self, node: &'a ColumnRef, context: Context) {
        let parts: Vec<_> = node.fields().iter().map(Node::as_str).collect();
        if context.excluded && matches!(*parts, [Some("excluded"), _]) {
            return;
        }
        // `u.f` calls `f(u)` where `u` has no column `f`.
        if let [_, .., Some(last)] = *parts {
            self.maybe_called(last, context);
        }
        self.found.column(&parts, context.copied);
    }

    fn indirection(&mut self, node: &'a A_Indirection, context: Context) -> Result<(), Lost> {
        let of = match node.arg() {
            Node::FuncCall(call) => names(call.funcname().iter()).last().copied(),
            _ => None,
        };
        for field in node.indirection().iter().filter_map(Node::as_str) {
            if !self.maybe_called(field, context) {
                self.found.field(field, of);
            }
        }
        self.descend(Node::A_Indirection(node), context)
    }

    /// `x.f` and `(x).f` may call `f(x)`; what is known of `f` counts. Returns whether it is known.
    fn maybe_called(&mut self, name: &'a str, context: Context) -> bool {
        let effect = self.functions.effect(None, name, 1);
        if effect.known && effect.action.is_some() {
            self.called(None, name, 1, context);
        }
        takes_row(name) || effect.known
    }

    fn call(&mut self, node: &'a FuncCall, context: Context) -> Result<(), Lost> {
        let names = names(node.funcname().iter());
        let (name, schema) = match *names {
            [.., schema, name] => (name, Some(schema)),
            [name] => (name, None),
            [] => return Err(Lost::Unknown),
        };
        let arguments = node.args();
        let effect = self.functions.effect(schema, name, arguments.len());
        if effect.sets {
            self.set_config(node);
        }
        if effect.file
            && let Some(file) = arguments.first().and_then(constant)
        {
            self.found.files.insert(file.to_owned());
        }
        let acts = matches!(effect.action, Some(Action::Write | Action::Admin));
        let keeps = effect.sets || acts;
        self.found.keeps |= effect.known && keeps && !arguments.iter().all(is_given);
        self.called(schema, name, arguments.len(), context);
        self.descend(Node::FuncCall(node), context)
    }

    pub(super) fn called(
        &mut self,
        schema: Option<&str>,
        name: &str,
        arguments: usize,
        context: Context,
    ) {
        let effect = self.functions.effect(schema, name, arguments);
        let schema = if effect.known {
            schema.or(Some("pg_catalog"))
        } else {
            schema
        };
        let function = RelationName::new(schema, name);
        self.found.functions.insert(function.clone());
        self.found.flags.extend(effect.flags);
        self.found.opaque |= effect.opaque;
        let runs_text = effect.flags.contains(&Flag::RunsText);
        self.found.copied_opaque |= runs_text || effect.opaque && context.copied;
        if let Some(action) = effect.action {
            let object = Object::Function(function);
            self.found.access(action, self.found.verb, object);
        }
    }

    fn expression(&mut self, node: &'a A_Expr, context: Context) -> Result<(), Lost> {
        self.operator(node.name().iter());
        self.descend(Node::A_Expr(node), context)
    }

    /// An operator that is not PostgreSQL's own is a call of a function that is not known.
    fn operator(&mut self, name: impl Iterator<Item = Node<'a>>) {
        let parts = names(name);
        let Some((symbol, schemas)) = parts.split_last() else {
            return;
        };
        let schema = schemas.last().copied();
        let word = symbol.bytes().all(|b| b.is_ascii_alphabetic() || b == b' ');
        let own = matches!(schema, None | Some("pg_catalog"));
        if own && (word || is_builtin_operator(symbol)) {
            return;
        }
        let function = RelationName::new(schema, symbol);
        self.found.functions.insert(function.clone());
        self.found.flags.insert(Flag::Opaque);
        self.found.opaque = true;
        let object = Object::Function(function);
        self.found
            .access(Action::Procedural, self.found.verb, object);
    }

    fn set_config(&mut self, node: &'a FuncCall) {
        let mut arguments = node.args().iter().map(constant);
        let name = arguments.next().flatten();
        let value = arguments.next().flatten();
        match name {
            Some(name) => self.sets(name, value.map_or(Value::Computed, Value::Constant)),
            // Which setting it is shows only when it runs: it may be any.
            None => self.sets_any(),
        }
    }

    pub(super) fn sets(&mut self, name: &str, value: Value<'_>) {
        let setting = settings::setting(name, value);
        let name: Box<str> = name.to_ascii_lowercase().into();
        self.found.flags.extend(setting.flag);
        let object = Object::Setting { name: name.clone() };
        self.found.access(setting.action, Verb("SET"), object);
        self.found.settings.insert(SettingFact {
            name,
            value: match value {
                Value::Constant(value) => Some(value.into()),
                _ => None,
            },
        });
    }

    pub(super) fn sets_any(&mut self) {
        self.found.flags.insert(Flag::GrammarState);
        self.found
            .access(Action::Admin, Verb("SET"), Object::Database);
    }
}

pub(super) fn relation_name(node: &RangeVar) -> RelationName {
    let schema = match node.schemaname() {
        None if node.relpersistence as u8 == b't' => Some("pg_temp"),
        schema => schema,
    };
    RelationName::new(schema, node.relname().unwrap_or_default())
}

/// A constant or a parameter, with casts around it: the client's own, from no table.
fn is_given(mut node: Node<'_>) -> bool {
    while let Node::TypeCast(cast) = node {
        node = cast.arg();
    }
    matches!(node, Node::A_Const(_) | Node::ParamRef(_))
}

/// The strings of a dotted name.
pub(super) fn names<'a>(nodes: impl Iterator<Item = Node<'a>>) -> Vec<&'a str> {
    nodes.filter_map(Node::as_str).collect()
}

/// The text of a constant, with casts around it removed.
pub(super) fn constant(mut node: Node<'_>) -> Option<&str> {
    while let Node::TypeCast(cast) = node {
        node = cast.arg();
    }
    match node {
        Node::A_Const(value) => match value.val()? {
            ConstValue::String(text) | ConstValue::Float(text) => Some(text),
            ConstValue::Boolean(true) => Some("on"),
            ConstValue::Boolean(false) => Some("off"),
            ConstValue::Integer(0) => Some("0"),
            ConstValue::Integer(1) => Some("1"),
            _ => None,
        },
        Node::String(text) => text.sval(),
        _ => None,
    }
}
