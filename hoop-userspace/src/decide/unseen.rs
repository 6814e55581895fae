//! What the catalog does not show: because it could not be read, or because statements of the same
//! session, transaction or text have changed it since.

use std::collections::BTreeSet;

use super::{Access, Action, Facts, Object, RelationName, Renamed};

/// Beyond this many names, any counts.
const MAX_NAMES: usize = 512;

/// Relations of which nobody knows what stands under them, by the names that they may have. Values
/// are not copied out of these where a resource has masks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unseen {
    /// The catalog is not known: any relation may be a view.
    pub unread: bool,
    /// Something was renamed, a statement was not understood, or a transaction was committed of which
    /// nobody knows what it defined.
    any: bool,
    names: BTreeSet<Box<str>>,
}

impl Unseen {
    /// Where the catalog could not be read.
    pub fn unread() -> Self {
        Self {
            unread: true,
            ..Self::default()
        }
    }

    /// Takes note of what a text defines; whether that is new.
    pub fn add(&mut self, facts: &Facts) -> bool {
        let before = (self.names.len(), self.any);
        let renames = facts.renamed.iter().any(|renamed| match renamed {
            Renamed::Table { .. } | Renamed::Schema { .. } => true,
            Renamed::Column { .. } | Renamed::Detached { .. } | Renamed::Attribute { .. } => false,
        });
        let unread = |access: &Access| match (access.action, &access.object) {
            (Action::Unknown, _) => true,
            (_, Object::Schema { .. }) => access.verb.0 == "IMPORT FOREIGN SCHEMA",
            _ => false,
        };
        self.any |= renames;
        for statement in &facts.statements {
            self.any |= statement.commits_unseen();
            self.any |= statement.accesses.iter().any(unread);
            let defined = defined(&statement.accesses);
            self.names.extend(defined.map(|name| name.name.clone()));
        }
        if self.names.len() > MAX_NAMES {
            self.names.clear();
            self.any = true;
        }
        (self.names.len(), self.any) != before
    }

    /// Whether a name as written may mean a relation that was defined so.
    pub(super) fn may_be(&self, name: &RelationName) -> bool {
        self.any || self.names.contains(&name.name)
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.unread && !self.any && self.names.is_empty()
    }
}

/// Relations whose rows may come from elsewhere after this statement.
fn defined(accesses: &[Access]) -> impl Iterator<Item = &RelationName> {
    let tables = |verb: Option<&'static str>| {
        let ddl = accesses.iter().filter(|a| a.action == Action::Ddl);
        let ddl = ddl.filter(move |a| verb.is_none_or(|verb| a.verb.0 == verb));
        ddl.filter_map(|a| match &a.object {
            Object::Table(name) => Some((a.verb.0, name)),
            _ => None,
        })
    };
    // Of one table alone, ALTER TABLE attaches nothing to it.
    let alone = tables(Some("ALTER TABLE")).nth(1).is_none();
    tables(None).filter_map(move |(verb, name)| {
        let own = is_own(verb) || verb == "ALTER TABLE" && alone;
        (!own).then_some(name)
    })
}

/// Whether what a relation shows stays its own rows, which were written or copied under the masks'
/// eyes, or nothing at all.
fn is_own(verb: &str) -> bool {
    verb.starts_with("DROP ")
        || matches!(
            verb,
            "CREATE TABLE"
                | "CREATE TABLE AS"
                | "SELECT INTO"
                | "CREATE INDEX"
                | "CREATE SEQUENCE"
                | "ALTER SEQUENCE"
                | "CREATE STATISTICS"
                | "CREATE TRIGGER"
                | "CREATE POLICY"
                | "ALTER POLICY"
                | "ALTER COLUMN TYPE"
                | "DISABLE TRIGGER"
                | "COMMENT"
        )
}

#[cfg(test)]
mod tests {
    use super::super::sql::{Limits, Parser};
    use super::*;

    fn unseen(sql: &str) -> Unseen {
        let mut unseen = Unseen::default();
        unseen.add(&Parser::new(Limits::default()).facts(sql));
        unseen
    }

    #[test]
    fn what_may_show_other_rows_than_its_own_is_unseen() {
        let v = RelationName::new(None, "v");
        for sql in [
            "CREATE VIEW v AS SELECT ssn FROM users",
            "CREATE OR REPLACE TEMP VIEW v AS SELECT ssn FROM users",
            "CREATE RULE r AS ON INSERT TO v DO INSTEAD SELECT 1",
            "ALTER TABLE users INHERIT v",
            "ALTER TABLE v ATTACH PARTITION users FOR VALUES IN (1)",
            "CREATE SCHEMA s CREATE VIEW v AS SELECT 1",
            "ALTER VIEW everyone RENAME TO v",
            // What is known of its columns is known by their names.
            "ALTER TABLE v RENAME COLUMN a TO b",
            "ALTER SCHEMA a RENAME TO b",
            "ALTER TABLE everyone SET SCHEMA other",
            "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c",
            "CREATE FOREIGN TABLE v (a text) SERVER s",
            "SELECT 1; CREATE VIEW v AS SELECT 1",
            "not to be read",
            "COMMIT PREPARED 'x'",
        ] {
            assert!(unseen(sql).may_be(&v), "{sql}");
        }
        for sql in [
            "CREATE TABLE v (a int)",
            "CREATE TEMP TABLE v AS SELECT 1",
            "SELECT 1 INTO v",
            "CREATE MATERIALIZED VIEW v AS SELECT 1",
            "ALTER TABLE v ADD COLUMN a int",
            "ALTER TABLE v ALTER a TYPE text, DROP COLUMN b",
            "CREATE INDEX ON v (a)",
            "DROP TABLE v",
            "CREATE SCHEMA s",
            "INSERT INTO v SELECT 1",
            "ROLLBACK PREPARED 'x'",
            "CREATE VIEW w AS SELECT * FROM v",
        ] {
            assert!(!unseen(sql).may_be(&v), "{sql}");
        }
    }

    #[test]
    fn names_beyond_count_make_any_unseen() {
        let mut unseen = Unseen::default();
        for at in 0..=MAX_NAMES {
            let sql = format!("CREATE VIEW v{at} AS SELECT 1");
            assert!(unseen.add(&Parser::new(Limits::default()).facts(&sql)));
        }
        assert!(unseen.may_be(&RelationName::new(None, "other")));
    }
}
