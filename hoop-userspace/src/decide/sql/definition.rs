//! Statements that define, change, grant and administer: one line per kind.

use pg_raw_parse::Node;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::nodes::{AlterTableCmd, ObjectWithArgs, RangeVar};
use pg_raw_parse::raw::AlterTableType as At;
use pg_raw_parse::raw::DropBehavior::DROP_CASCADE;
use pg_raw_parse::raw::GrantTargetType::{ACL_TARGET_DEFAULTS, ACL_TARGET_OBJECT};
use pg_raw_parse::raw::ObjectType as Kind;
use pg_raw_parse::raw::RoleStmtType::{ROLESTMT_GROUP, ROLESTMT_USER};

use crate::decide::{Action, Flag, Object, RelationName, Renamed, Verb};

use super::utility::{cascade, changed, other};
use super::walk::{Context, Lost, Walk, names, relation_name};

/// What a statement is called, and whose action it is.
#[rustfmt::skip]
pub(super) fn of(node: Node<'_>) -> Option<(&'static str, Action)> {
    use Action::{Admin, Ddl, Write};
    Some(match node {
        Node::CreateStmt(_) => ("CREATE TABLE", Ddl),
        Node::CreateSchemaStmt(_) => ("CREATE SCHEMA", Ddl),
        Node::CreateSeqStmt(_) => ("CREATE SEQUENCE", Ddl),
        Node::CreateDomainStmt(_) => ("CREATE DOMAIN", Ddl),
        Node::CreateFunctionStmt(n) if n.is_procedure => ("CREATE PROCEDURE", Ddl),
        Node::CreateFunctionStmt(_) => ("CREATE FUNCTION", Ddl),
        Node::CreateTrigStmt(_) => ("CREATE TRIGGER", Ddl),
        Node::CreatePolicyStmt(_) => ("CREATE POLICY", Ddl),
        Node::CreateStatsStmt(_) => ("CREATE STATISTICS", Ddl),
        Node::CreateOpClassStmt(_) => ("CREATE OPERATOR CLASS", Ddl),
        Node::CreateOpFamilyStmt(_) => ("CREATE OPERATOR FAMILY", Ddl),
        Node::CreateConversionStmt(_) => ("CREATE CONVERSION", Ddl),
        Node::CreateCastStmt(_) => ("CREATE CAST", Ddl),
        Node::CreateTransformStmt(_) => ("CREATE TRANSFORM", Ddl),
        Node::CreateEnumStmt(_) | Node::CreateRangeStmt(_) | Node::CompositeTypeStmt(_) => ("CREATE TYPE", Ddl),
        Node::CreateExtensionStmt(_) => ("CREATE EXTENSION", Ddl),
        Node::DefineStmt(n) => (create_verb(n.kind), Ddl),
        Node::IndexStmt(_) => ("CREATE INDEX", Ddl),
        Node::ViewStmt(_) => ("CREATE VIEW", Ddl),
        Node::RuleStmt(_) => ("CREATE RULE", Ddl),
        Node::AlterTableStmt(_) => ("ALTER TABLE", Ddl),
        Node::AlterSeqStmt(_) => ("ALTER SEQUENCE", Ddl),
        Node::AlterDomainStmt(_) => ("ALTER DOMAIN", Ddl),
        Node::AlterFunctionStmt(_) => ("ALTER FUNCTION", Ddl),
        Node::AlterPolicyStmt(_) => ("ALTER POLICY", Ddl),
        Node::AlterStatsStmt(_) => ("ALTER STATISTICS", Ddl),
        Node::AlterOpFamilyStmt(_) => ("ALTER OPERATOR FAMILY", Ddl),
        Node::AlterOperatorStmt(_) => ("ALTER OPERATOR", Ddl),
        Node::AlterTypeStmt(_) | Node::AlterEnumStmt(_) => ("ALTER TYPE", Ddl),
        Node::AlterCollationStmt(_) => ("ALTER COLLATION", Ddl),
        Node::AlterTSDictionaryStmt(_) => ("ALTER TEXT SEARCH DICTIONARY", Ddl),
        Node::AlterTSConfigurationStmt(_) => ("ALTER TEXT SEARCH CONFIGURATION", Ddl),
        Node::AlterExtensionStmt(_) | Node::AlterExtensionContentsStmt(_) => ("ALTER EXTENSION", Ddl),
        Node::RenameStmt(n) if administers(n.rename_type) => ("RENAME", Admin),
        Node::DropStmt(n) => (drop_verb(n.remove_type), drop_action(n.remove_type)),
        Node::AlterObjectDependsStmt(_) => ("ALTER DEPENDS", Ddl),
        Node::AlterObjectSchemaStmt(_) => ("ALTER SCHEMA OF", Ddl),
        Node::RenameStmt(_) => ("RENAME", Ddl),
        Node::CommentStmt(_) => ("COMMENT", Ddl),
        Node::ImportForeignSchemaStmt(_) => ("IMPORT FOREIGN SCHEMA", Ddl),
        Node::RefreshMatViewStmt(_) => ("REFRESH MATERIALIZED VIEW", Write),
        Node::AlterOwnerStmt(_) => ("ALTER OWNER", Admin),
        Node::AlterTableMoveAllStmt(_) => ("ALTER ALL IN TABLESPACE", Admin),
        Node::GrantStmt(n) if n.is_grant => ("GRANT", Admin),
        Node::GrantRoleStmt(n) if n.is_grant => ("GRANT ROLE", Admin),
        Node::GrantStmt(_) => ("REVOKE", Admin),
        Node::GrantRoleStmt(_) => ("REVOKE ROLE", Admin),
        Node::AlterDefaultPrivilegesStmt(_) => ("ALTER DEFAULT PRIVILEGES", Admin),
        Node::SecLabelStmt(_) => ("SECURITY LABEL", Admin),
        Node::CreateRoleStmt(n) if n.stmt_type == ROLESTMT_USER => ("CREATE USER", Admin),
        Node::CreateRoleStmt(n) if n.stmt_type == ROLESTMT_GROUP => ("CREATE GROUP", Admin),
        Node::CreateRoleStmt(_) => ("CREATE ROLE", Admin),
        Node::AlterRoleStmt(_) | Node::AlterRoleSetStmt(_) => ("ALTER ROLE", Admin),
        Node::DropRoleStmt(_) => ("DROP ROLE", Admin),
        Node::DropOwnedStmt(_) => ("DROP OWNED", Admin),
        Node::ReassignOwnedStmt(_) => ("REASSIGN OWNED", Admin),
        Node::CreatedbStmt(_) => ("CREATE DATABASE", Admin),
        Node::AlterDatabaseStmt(_) | Node::AlterDatabaseSetStmt(_) | Node::AlterDatabaseRefreshCollStmt(_) => ("ALTER DATABASE", Admin),
        Node::DropdbStmt(_) => ("DROP DATABASE", Admin),
        Node::CreateTableSpaceStmt(_) => ("CREATE TABLESPACE", Admin),
        Node::AlterTableSpaceOptionsStmt(_) => ("ALTER TABLESPACE", Admin),
        Node::DropTableSpaceStmt(_) => ("DROP TABLESPACE", Admin),
        Node::CreateFdwStmt(_) => ("CREATE FOREIGN DATA WRAPPER", Admin),
        Node::AlterFdwStmt(_) => ("ALTER FOREIGN DATA WRAPPER", Admin),
        Node::CreateForeignServerStmt(_) => ("CREATE SERVER", Admin),
        Node::AlterForeignServerStmt(_) => ("ALTER SERVER", Admin),
        Node::CreateUserMappingStmt(_) => ("CREATE USER MAPPING", Admin),
        Node::AlterUserMappingStmt(_) => ("ALTER USER MAPPING", Admin),
        Node::DropUserMappingStmt(_) => ("DROP USER MAPPING", Admin),
        Node::CreateAmStmt(_) => ("CREATE ACCESS METHOD", Admin),
        Node::CreateEventTrigStmt(_) => ("CREATE EVENT TRIGGER", Admin),
        Node::AlterEventTrigStmt(_) => ("ALTER EVENT TRIGGER", Admin),
        Node::CreatePLangStmt(_) => ("CREATE LANGUAGE", Admin),
        Node::CreatePublicationStmt(_) => ("CREATE PUBLICATION", Admin),
        Node::AlterPublicationStmt(_) => ("ALTER PUBLICATION", Admin),
        Node::CreateSubscriptionStmt(_) => ("CREATE SUBSCRIPTION", Admin),
        Node::AlterSubscriptionStmt(_) => ("ALTER SUBSCRIPTION", Admin),
        Node::DropSubscriptionStmt(_) => ("DROP SUBSCRIPTION", Admin),
        Node::ClusterStmt(_) => ("CLUSTER", Admin),
        Node::VacuumStmt(n) if n.is_vacuumcmd => ("VACUUM", Admin),
        Node::VacuumStmt(_) => ("ANALYZE", Admin),
        Node::ReindexStmt(_) => ("REINDEX", Admin),
        Node::CheckPointStmt(_) => ("CHECKPOINT", Admin),
        _ => return None,
    })
}

/// Returns whether `node` is one of these. Relations named anywhere in it are changed by it;
/// queries within read as they always do.
pub(super) fn visit<'a>(
    walk: &mut Walk<'a, '_>,
    node: Node<'a>,
    context: Context,
) -> Result<bool, Lost> {
    let Some((verb, action)) = of(node) else {
        return Ok(false);
    };
    for object in objects(node) {
        walk.acts(action, Verb(verb), object);
    }
    match node {
        Node::AlterTableStmt(n) => {
            for cmd in n.cmds().iter() {
                if let (Node::AlterTableCmd(cmd), Some(relation)) = (cmd, n.relation()) {
                    alter_table(walk, cmd, relation);
                }
            }
        }
        Node::RuleStmt(n) => {
            if let Some(name) = n.relation().map(relation_name) {
                // What the rule's actions call the row before and after.
                walk.found.alias("old", Some(&name));
                walk.found.alias("new", Some(&name));
                walk.found.copied.insert(name);
            }
        }
        Node::CreateTrigStmt(n) => {
            walk.found.functions.insert(dotted(n.funcname().iter()));
        }
        _ => {}
    }
    // A statement that names nothing acts on the database.
    walk.found.least.get_or_insert((action, Verb(verb)));
    flags(walk, node);
    walk.found.renamed.extend(renamed(node));
    let context = changed(context, action, verb).copied(rewrites(node));
    if let Node::GrantStmt(n) = node
        && n.targtype == ACL_TARGET_OBJECT
        && matches!(n.objtype, Kind::OBJECT_TABLE | Kind::OBJECT_SEQUENCE)
    {
        walk.push_all(n.objects().iter(), context);
    }
    walk.descend(node, context)?;
    Ok(true)
}

/// Kinds of objects that are not definitions of data: what makes them is an administrator's.
fn administers(kind: Kind::Type) -> bool {
    matches!(
        kind,
        Kind::OBJECT_ROLE
            | Kind::OBJECT_DATABASE
            | Kind::OBJECT_TABLESPACE
            | Kind::OBJECT_ACCESS_METHOD
            | Kind::OBJECT_EVENT_TRIGGER
            | Kind::OBJECT_FDW
            | Kind::OBJECT_FOREIGN_SERVER
            | Kind::OBJECT_LANGUAGE
            | Kind::OBJECT_PUBLICATION
            | Kind::OBJECT_SUBSCRIPTION
    )
}

pub(super) fn drop_action(kind: Kind::Type) -> Action {
    match administers(kind) {
        true => Action::Admin,
        false => Action::Ddl,
    }
}

fn flags(walk: &mut Walk<'_, '_>, node: Node<'_>) {
    let replaces = match node {
        Node::ViewStmt(n) => n.replace,
        Node::CreateFunctionStmt(n) => n.replace,
        Node::CreateTrigStmt(n) => n.replace,
        Node::RuleStmt(n) => n.replace,
        Node::DefineStmt(n) => n.replace,
        Node::CreatePLangStmt(n) => n.replace,
        Node::CreateTransformStmt(n) => n.replace,
        _ => false,
    };
    if replaces {
        walk.found.flags.insert(Flag::Replaces);
    }
    cascade(
        walk,
        match node {
            Node::DropOwnedStmt(n) => n.behavior == DROP_CASCADE,
            Node::GrantStmt(n) => n.behavior == DROP_CASCADE,
            Node::AlterDomainStmt(n) => n.behavior == DROP_CASCADE,
            _ => false,
        },
    );
}

/// Parts of ALTER TABLE that take something away, or overwrite it, under verbs of their own.
fn alter_table(walk: &mut Walk<'_, '_>, n: &AlterTableCmd, relation: &RangeVar) {
    cascade(walk, n.behavior == DROP_CASCADE);
    walk.found.renamed.extend(detached(n, relation));
    let verb = match n.subtype {
        At::AT_DropColumn => "DROP COLUMN",
        At::AT_DropConstraint => "DROP CONSTRAINT",
        At::AT_DropExpression | At::AT_DropIdentity => "DROP EXPRESSION",
        At::AT_DropInherit | At::AT_DetachPartition => "DROP INHERITANCE",
        At::AT_AlterColumnType => "ALTER COLUMN TYPE",
        At::AT_DisableTrig
        | At::AT_DisableTrigAll
        | At::AT_DisableTrigUser
        | At::AT_DisableRule => "DISABLE TRIGGER",
        At::AT_DisableRowSecurity | At::AT_NoForceRowSecurity => "DISABLE ROW SECURITY",
        At::AT_ChangeOwner => "ALTER OWNER",
        _ => return,
    };
    let action = match n.subtype {
        At::AT_ChangeOwner | At::AT_DisableRowSecurity | At::AT_NoForceRowSecurity => Action::Admin,
        _ => Action::Ddl,
    };
    walk.changes(action, Verb(verb), relation_name(relation));
}

/// A partition or an heir that ALTER TABLE makes a table of its own.
fn detached(n: &AlterTableCmd, relation: &RangeVar) -> Option<Renamed> {
    let (part, whole) = match (n.subtype, n.def()) {
        (At::AT_DropInherit, Node::RangeVar(whole)) => (relation, whole),
        (At::AT_DetachPartition | At::AT_DetachPartitionFinalize, Node::PartitionCmd(n)) => {
            (n.name()?, relation)
        }
        _ => return None,
    };
    Some(Renamed::Detached {
        part: relation_name(part),
        whole: relation_name(whole),
    })
}

/// What goes by another name afterwards.
fn renamed(node: Node<'_>) -> Option<Renamed> {
    match node {
        Node::RenameStmt(n) => match (n.relation(), n.rename_type) {
            (_, Kind::OBJECT_ATTRIBUTE) => Some(Renamed::Attribute {
                name: n.subname().unwrap_or_default().into(),
            }),
            (Some(relation), Kind::OBJECT_COLUMN) => Some(Renamed::Column {
                relation: relation_name(relation),
                column: n.subname().unwrap_or_default().into(),
            }),
            (Some(relation), kind) if is_relation(kind) => Some(Renamed::Table {
                relation: relation_name(relation),
            }),
            (None, Kind::OBJECT_SCHEMA) => Some(Renamed::Schema {
                name: n.subname().unwrap_or_default().into(),
            }),
            _ => None,
        },
        Node::AlterObjectSchemaStmt(n) => n.relation().map(|relation| Renamed::Table {
            relation: relation_name(relation),
        }),
        _ => None,
    }
}

/// Whether a column's stored values may be computed from others: `ALTER … TYPE … USING`, a
/// generated column that is added or changed.
fn rewrites(node: Node<'_>) -> bool {
    let Node::AlterTableStmt(n) = node else {
        return false;
    };
    n.cmds().iter().any(|cmd| {
        matches!(cmd, Node::AlterTableCmd(cmd)
            if matches!(cmd.subtype, At::AT_AlterColumnType | At::AT_AddColumn | At::AT_SetExpression))
    })
}

/// What a statement acts on, beside relations.
fn objects(node: Node<'_>) -> Vec<Object> {
    let one = |object| vec![object];
    match node {
        Node::CreateSchemaStmt(n) => one(match n.schemaname() {
            Some(name) => Object::Schema { name: name.into() },
            // Named after the role that is to own it.
            None => Object::Database,
        }),
        Node::CreateFunctionStmt(n) => one(Object::Function(dotted(n.funcname().iter()))),
        Node::AlterFunctionStmt(n) => n.func().map(function).into_iter().collect(),
        Node::CreateEnumStmt(n) => one(named("type", n.type_name().iter().map(Into::into))),
        Node::AlterEnumStmt(n) => one(named("type", n.type_name().iter().map(Into::into))),
        Node::CreateRangeStmt(n) => one(named("type", n.type_name().iter().map(Into::into))),
        Node::AlterTypeStmt(n) => one(named("type", n.type_name().iter())),
        Node::CreateDomainStmt(n) => one(named("domain", n.domainname().iter().map(Into::into))),
        Node::AlterDomainStmt(n) => one(named("domain", n.type_name().iter())),
        Node::DefineStmt(n) => {
            let name = n.defnames().iter().map(Into::into);
            one(match n.kind {
                Kind::OBJECT_AGGREGATE => Object::Function(dotted(name)),
                kind => named(class(kind), name),
            })
        }
        Node::CreateExtensionStmt(n) => one(other("extension", n.extname())),
        Node::AlterExtensionStmt(n) => one(other("extension", n.extname())),
        Node::AlterExtensionContentsStmt(n) => one(other("extension", n.extname())),
        Node::ImportForeignSchemaStmt(n) => one(Object::Schema {
            name: n.local_schema().unwrap_or_default().into(),
        }),
        Node::CommentStmt(n) => one(object(n.objtype, n.object())),
        Node::SecLabelStmt(n) => one(object(n.objtype, n.object())),
        Node::RenameStmt(n) => match (n.relation(), n.rename_type) {
            (Some(_), _) => Vec::new(),
            (None, Kind::OBJECT_SCHEMA) => one(Object::Schema {
                name: n.subname().unwrap_or_default().into(),
            }),
            (None, Kind::OBJECT_DATABASE | Kind::OBJECT_ROLE) => one(Object::Server),
            (None, kind) => one(object(kind, n.object())),
        },
        Node::AlterOwnerStmt(n) if n.relation().is_none() => one(object(n.object_type, n.object())),
        Node::AlterObjectSchemaStmt(n) if n.relation().is_none() => {
            one(object(n.object_type, n.object()))
        }
        Node::AlterOperatorStmt(n) => n.opername().map(function).into_iter().collect(),
        Node::CreateRoleStmt(n) => one(other("role", n.role())),
        Node::AlterRoleStmt(n) => one(other("role", n.role().and_then(|r| r.rolename()))),
        Node::AlterRoleSetStmt(n) => one(match n.role() {
            Some(role) => other("role", role.rolename()),
            // Of every role.
            None => Object::Server,
        }),
        Node::GrantStmt(n)
            if matches!(
                n.objtype,
                Kind::OBJECT_DATABASE | Kind::OBJECT_TABLESPACE | Kind::OBJECT_PARAMETER_ACL
            ) =>
        {
            one(Object::Server)
        }
        Node::GrantStmt(n) if n.targtype == ACL_TARGET_DEFAULTS => one(Object::Database),
        Node::AlterDefaultPrivilegesStmt(_) => one(Object::Database),
        Node::CreatePublicationStmt(n) => schemas(n.pubobjects()),
        Node::AlterPublicationStmt(n) => schemas(n.pubobjects()),
        Node::CreateSeqStmt(n) => owned_by(n.options()),
        Node::AlterSeqStmt(n) => owned_by(n.options()),
        Node::DropRoleStmt(_)
        | Node::GrantRoleStmt(_)
        | Node::DropOwnedStmt(_)
        | Node::ReassignOwnedStmt(_)
        | Node::CreatedbStmt(_)
        | Node::AlterDatabaseStmt(_)
        | Node::AlterDatabaseSetStmt(_)
        | Node::AlterDatabaseRefreshCollStmt(_)
        | Node::DropdbStmt(_)
        | Node::CreateTableSpaceStmt(_)
        | Node::AlterTableSpaceOptionsStmt(_)
        | Node::DropTableSpaceStmt(_)
        | Node::CheckPointStmt(_) => one(Object::Server),
        _ => Vec::new(),
    }
}

/// Schemas all of whose tables are published.
fn schemas(published: &NodeList) -> Vec<Object> {
    let named = published.iter().filter_map(|object| match object {
        Node::PublicationObjSpec(object) => object.name(),
        _ => None,
    });
    named
        .map(|name| Object::Schema { name: name.into() })
        .collect()
}

/// The table whose column a sequence is bound to.
fn owned_by(options: &NodeList) -> Vec<Object> {
    let owners = options.iter().filter_map(|option| match option {
        Node::DefElem(option) if option.defname() == Some("owned_by") => match option.arg() {
            // The last name is the column's; `NONE` is no table.
            Node::NodeList(list) if list.len() > 1 => {
                Some(Object::Table(dotted(list.iter().take(list.len() - 1))))
            }
            _ => None,
        },
        _ => None,
    });
    owners.collect()
}

/// The object that DROP, COMMENT and their like name.
pub(super) fn object(kind: Kind::Type, node: Node<'_>) -> Object {
    match (kind, node) {
        (_, Node::ObjectWithArgs(n)) => function(n),
        (Kind::OBJECT_SCHEMA, Node::String(n)) => Object::Schema {
            name: n.sval().unwrap_or_default().into(),
        },
        (Kind::OBJECT_DATABASE | Kind::OBJECT_TABLESPACE | Kind::OBJECT_ROLE, _) => Object::Server,
        // Named by types, or a type and a language.
        (Kind::OBJECT_CAST | Kind::OBJECT_TRANSFORM, _) => Object::Database,
        // The index method stands in front.
        (Kind::OBJECT_OPCLASS | Kind::OBJECT_OPFAMILY, Node::NodeList(list)) => {
            named(class(kind), list.iter().skip(1))
        }
        (_, Node::String(n)) => other(class(kind), n.sval()),
        (_, Node::TypeName(n)) => named(class(kind), n.names().iter().map(Into::into)),
        (_, Node::NodeList(list)) if is_relation(kind) => Object::Table(dotted(list.iter())),
        // The last name is the trigger's, rule's, policy's, column's; the table is in front.
        (_, Node::NodeList(list)) if of_table(kind) => {
            let kept = list.len().saturating_sub(1);
            Object::Table(dotted(list.iter().take(kept)))
        }
        (_, Node::NodeList(list)) => named(class(kind), list.iter()),
        _ => Object::Database,
    }
}

fn is_relation(kind: Kind::Type) -> bool {
    matches!(
        kind,
        Kind::OBJECT_TABLE
            | Kind::OBJECT_VIEW
            | Kind::OBJECT_MATVIEW
            | Kind::OBJECT_SEQUENCE
            | Kind::OBJECT_INDEX
            | Kind::OBJECT_FOREIGN_TABLE
    )
}

fn of_table(kind: Kind::Type) -> bool {
    matches!(
        kind,
        Kind::OBJECT_TRIGGER
            | Kind::OBJECT_RULE
            | Kind::OBJECT_POLICY
            | Kind::OBJECT_COLUMN
            | Kind::OBJECT_TABCONSTRAINT
    )
}

fn function(n: &ObjectWithArgs) -> Object {
    Object::Function(dotted(n.objname().iter()))
}

fn named<'a>(class: &'static str, name: impl Iterator<Item = Node<'a>>) -> Object {
    let RelationName { schema, name } = dotted(name);
    Object::Other {
        class,
        schema,
        name,
    }
}

fn dotted<'a>(name: impl Iterator<Item = Node<'a>>) -> RelationName {
    match *names(name) {
        [.., schema, name] => RelationName::new(Some(schema), name),
        [name] => RelationName::new(None, name),
        [] => RelationName::new(None, ""),
    }
}

#[rustfmt::skip]
fn class(kind: Kind::Type) -> &'static str {
    match kind {
        Kind::OBJECT_TYPE => "type",
        Kind::OBJECT_DOMAIN | Kind::OBJECT_DOMCONSTRAINT => "domain",
        Kind::OBJECT_EXTENSION => "extension",
        Kind::OBJECT_COLLATION => "collation",
        Kind::OBJECT_CONVERSION => "conversion",
        Kind::OBJECT_OPERATOR | Kind::OBJECT_OPCLASS | Kind::OBJECT_OPFAMILY => "operator",
        Kind::OBJECT_STATISTIC_EXT => "statistics",
        Kind::OBJECT_TSCONFIGURATION | Kind::OBJECT_TSDICTIONARY | Kind::OBJECT_TSPARSER | Kind::OBJECT_TSTEMPLATE => "text_search",
        Kind::OBJECT_PUBLICATION => "publication",
        Kind::OBJECT_SUBSCRIPTION => "subscription",
        Kind::OBJECT_FOREIGN_SERVER => "foreign_server",
        Kind::OBJECT_FDW => "foreign_data_wrapper",
        Kind::OBJECT_LANGUAGE => "language",
        Kind::OBJECT_EVENT_TRIGGER => "event_trigger",
        Kind::OBJECT_ACCESS_METHOD => "access_method",
        Kind::OBJECT_LARGEOBJECT => "large_object",
        _ => "object",
    }
}

#[rustfmt::skip]
pub(super) fn drop_verb(kind: Kind::Type) -> &'static str {
    match kind {
        Kind::OBJECT_TABLE => "DROP TABLE",
        Kind::OBJECT_VIEW => "DROP VIEW",
        Kind::OBJECT_MATVIEW => "DROP MATERIALIZED VIEW",
        Kind::OBJECT_SEQUENCE => "DROP SEQUENCE",
        Kind::OBJECT_INDEX => "DROP INDEX",
        Kind::OBJECT_FOREIGN_TABLE => "DROP FOREIGN TABLE",
        Kind::OBJECT_SCHEMA => "DROP SCHEMA",
        Kind::OBJECT_FUNCTION | Kind::OBJECT_AGGREGATE | Kind::OBJECT_ROUTINE => "DROP FUNCTION",
        Kind::OBJECT_PROCEDURE => "DROP PROCEDURE",
        Kind::OBJECT_TRIGGER => "DROP TRIGGER",
        Kind::OBJECT_RULE => "DROP RULE",
        Kind::OBJECT_POLICY => "DROP POLICY",
        Kind::OBJECT_TYPE | Kind::OBJECT_DOMAIN => "DROP TYPE",
        Kind::OBJECT_EXTENSION => "DROP EXTENSION",
        _ => "DROP",
    }
}

fn create_verb(kind: Kind::Type) -> &'static str {
    match kind {
        Kind::OBJECT_AGGREGATE => "CREATE AGGREGATE",
        Kind::OBJECT_OPERATOR => "CREATE OPERATOR",
        Kind::OBJECT_TYPE => "CREATE TYPE",
        Kind::OBJECT_COLLATION => "CREATE COLLATION",
        _ => "CREATE TEXT SEARCH",
    }
}
