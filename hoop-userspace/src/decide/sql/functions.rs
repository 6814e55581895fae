//! What PostgreSQL's own functions do beyond computing a value.
//!
//! `pure.txt` lists the functions of `pg_catalog` (PostgreSQL 10 to 15, and `pg_…` of later ones)
//! that neither change anything nor read tables by a name that they are given, with the numbers of
//! arguments they take: with another number, a function of the database's own is called.
//! `internal.txt` lists those that are called by operators, types and indexes, or are newer; they are
//! recognised where the text says `pg_catalog`. Whatever is in no list is taken for code that nobody
//! has looked at: `sql:procedural`, and rows may come from anywhere.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use crate::decide::{Action, Flag};

/// The functions that are known. Made once per decider.
#[derive(Debug)]
pub(crate) struct Functions {
    pure: HashMap<&'static str, RangeInclusive<usize>>,
    internal: HashSet<&'static str>,
}

/// What calling a function amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effect {
    /// The function is PostgreSQL's own.
    pub known: bool,
    /// What must be permitted; `None` for a computation.
    pub action: Option<Action>,
    pub flags: &'static [Flag],
    /// Its value may come from tables that the text does not name.
    pub opaque: bool,
    /// Its first argument names a file of the server.
    pub file: bool,
    /// It sets the setting that its first argument names.
    pub sets: bool,
}

impl Effect {
    const PURE: Self = Self {
        known: true,
        action: None,
        flags: &[],
        opaque: false,
        file: false,
        sets: false,
    };

    const fn of(action: Action) -> Self {
        Self {
            action: Some(action),
            ..Self::PURE
        }
    }
}

const UNKNOWN: Effect = Effect {
    known: false,
    opaque: true,
    flags: &[Flag::Opaque],
    ..Effect::of(Action::Procedural)
};
const RUNS_TEXT: Effect = Effect {
    known: true,
    opaque: true,
    flags: &[Flag::Opaque, Flag::RunsText],
    ..Effect::of(Action::Procedural)
};
const RUNS_TEXT_ELSEWHERE: Effect = Effect {
    known: false,
    ..RUNS_TEXT
};
const FILE: Effect = Effect {
    file: true,
    flags: &[Flag::ServerFile],
    ..Effect::of(Action::Admin)
};
const DELAY: Effect = Effect {
    flags: &[Flag::Delays],
    ..Effect::of(Action::Read)
};
const SETTING: Effect = Effect {
    sets: true,
    ..Effect::PURE
};
/// Large objects belong to no table: no mask follows their content.
const LARGE_OBJECT: Effect = Effect {
    opaque: true,
    flags: &[Flag::Opaque],
    ..Effect::of(Action::Read)
};

impl Functions {
    pub(crate) fn new() -> Self {
        Self {
            pure: include_str!("pure.txt")
                .split_whitespace()
                .map(entry)
                .collect(),
            internal: include_str!("internal.txt").split_whitespace().collect(),
        }
    }

    /// An unqualified name is PostgreSQL's own where it has one: `pg_catalog` is searched first
    /// unless the search path says otherwise, and a change of the search path must be permitted.
    pub(super) fn effect(&self, schema: Option<&str>, name: &str, arguments: usize) -> Effect {
        match schema {
            Some("pg_catalog") if self.pure.contains_key(name) || self.internal.contains(name) => {
                Effect::PURE
            }
            None | Some("pg_catalog") => self.builtin(name, arguments),
            // What drivers' catalog queries call.
            Some("information_schema") if name.starts_with("_pg_") => Effect::PURE,
            Some(_) if runs_text(name) => RUNS_TEXT_ELSEWHERE,
            Some(_) => UNKNOWN,
        }
    }

    fn builtin(&self, name: &str, arguments: usize) -> Effect {
        if self
            .pure
            .get(name)
            .is_some_and(|takes| takes.contains(&arguments))
        {
            return Effect::PURE;
        }
        match name {
            "set_config" => SETTING,
            // Releases what the session itself holds; pools do so between users.
            _ if name.starts_with("pg_advisory_unlock") => Effect::of(Action::Read),
            // With three arguments it rewrites by what it is given, with two by a query's rows.
            "ts_rewrite" if arguments == 3 => Effect::PURE,
            "ts_rewrite" | "ts_stat" => RUNS_TEXT,
            "pg_sleep" | "pg_sleep_for" | "pg_sleep_until" => DELAY,
            "lo_get" | "lo_open" | "loread" | "lo_lseek" | "lo_lseek64" | "lo_tell"
            | "lo_tell64" | "lo_close" => LARGE_OBJECT,
            "lo_import" | "lo_export" => FILE,
            _ if is_file(name) => FILE,
            _ if is_admin(name) => Effect::of(Action::Admin),
            _ if is_write(name) => Effect::of(Action::Write),
            _ if name.contains("_to_xml") => RUNS_TEXT,
            _ if runs_text(name) => RUNS_TEXT_ELSEWHERE,
            _ => UNKNOWN,
        }
    }
}

/// `name:2`, `name:1-3`, `name:1-` for any number from 1, `name` for any at all.
fn entry(text: &'static str) -> (&'static str, RangeInclusive<usize>) {
    let (name, takes) = text.split_once(':').unwrap_or((text, "0-"));
    let (least, most) = takes.split_once('-').unwrap_or((takes, takes));
    let number = |text: &str, default| text.parse().unwrap_or(default);
    (name, number(least, 0)..=number(most, usize::MAX))
}

/// Functions, most of extensions, that run text as SQL here or elsewhere.
fn runs_text(name: &str) -> bool {
    name.starts_with("dblink")
        || name.starts_with("crosstab")
        || name.starts_with("pg_background")
        || matches!(
            name,
            "xpath_table" | "connectby" | "schedule" | "schedule_in_database"
        )
}

fn is_file(name: &str) -> bool {
    name.starts_with("pg_read_")
        || name.starts_with("pg_ls_")
        || name.starts_with("pg_file_")
        || matches!(
            name,
            "pg_stat_file" | "pg_current_logfile" | "pg_logdir_ls" | "pg_logfile_rotate"
        )
}

fn is_write(name: &str) -> bool {
    name.starts_with("lo_")
        || name.starts_with("pg_advisory_")
        || name.starts_with("pg_try_advisory_")
        || name.starts_with("brin_")
        || matches!(
            name,
            "lowrite"
                | "nextval"
                | "setval"
                | "pg_notify"
                | "gin_clean_pending_list"
                | "pg_export_snapshot"
        )
}

const ADMIN_PREFIXES: &[&str] = &[
    "binary_upgrade_",
    "pg_backup_",
    "pg_clear_",
    "pg_control_",
    "pg_copy_",
    "pg_create_",
    "pg_drop_",
    "pg_log_",
    "pg_logical_",
    "pg_replication_",
    "pg_restore_",
    "pg_start_backup",
    "pg_stat_reset",
    "pg_stop_",
    "pg_switch_",
    "pg_wal_replay_",
    "pg_wal_summary_",
    "pg_set_",
];

fn is_admin(name: &str) -> bool {
    ADMIN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || matches!(
            name,
            "pg_cancel_backend"
                | "pg_terminate_backend"
                | "pg_extension_config_dump"
                | "pg_get_backend_memory_contexts"
                | "pg_get_process_memory_contexts"
                | "pg_get_replication_slots"
                | "pg_get_shmem_allocations"
                | "pg_get_shmem_allocations_numa"
                | "pg_get_wal_summarizer_state"
                | "pg_config"
                | "pg_hba_file_rules"
                | "pg_ident_file_mappings"
                | "pg_import_system_collations"
                | "pg_nextoid"
                | "pg_promote"
                | "pg_reload_conf"
                | "pg_rotate_logfile"
                | "pg_rotate_logfile_old"
                | "pg_show_all_file_settings"
                | "pg_stat_force_next_flush"
                | "pg_sync_replication_slots"
                | "pg_tablespace_databases"
        )
}

/// Functions of one argument that make the whole row visible: `u.to_json` reads every column of `u`.
pub(super) fn takes_row(name: &str) -> bool {
    matches!(
        name,
        "to_json"
            | "to_jsonb"
            | "row_to_json"
            | "json_agg"
            | "jsonb_agg"
            | "json_agg_strict"
            | "jsonb_agg_strict"
            | "array_agg"
            | "concat"
            | "quote_literal"
            | "quote_nullable"
            | "record_out"
            | "record_send"
            | "hash_record"
            | "json_build_array"
            | "jsonb_build_array"
            | "any_value"
            | "min"
            | "max"
            | "hstore"
    )
}

/// Functions whose results have fields, so that `(f(…)).field` calls nothing.
pub(super) fn returns_record(name: &str) -> bool {
    matches!(
        name,
        "json_each"
            | "json_each_text"
            | "jsonb_each"
            | "jsonb_each_text"
            | "json_populate_record"
            | "jsonb_populate_record"
            | "json_populate_recordset"
            | "jsonb_populate_recordset"
            | "aclexplode"
            | "pg_get_object_address"
            | "pg_identify_object"
            | "pg_identify_object_as_address"
            | "pg_options_to_table"
            | "ts_debug"
            | "ts_parse"
            | "ts_token_type"
            | "pg_sequence_parameters"
            | "_pg_expandarray"
            | "pg_input_error_info"
    )
}

/// Operators of `pg_catalog`. Others are calls of functions that are not known.
pub(super) fn is_builtin_operator(name: &str) -> bool {
    const OPERATORS: &str = " !! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= \
        *> *>= + - -> ->> -|- / < <-> << <<= <<| <= <> <@ <^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| \
        ?|| @ @-@ @> @? @@ @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= ~>=~ ~>~ ~~ ~~* != ";
    OPERATORS.split_whitespace().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(schema: Option<&str>, name: &str) -> Effect {
        Functions::new().effect(schema, name, 1)
    }

    #[test]
    fn classes() {
        assert_eq!(effect(None, "lower"), Effect::PURE);
        let with = |name, arguments| Functions::new().effect(None, name, arguments);
        assert_eq!(
            with("lower", 2),
            UNKNOWN,
            "PostgreSQL has none with two arguments"
        );
        assert_eq!(with("concat", 9), Effect::PURE);
        assert_eq!(with("count", 0), Effect::PURE);
        assert_eq!(
            with("charge", 1),
            UNKNOWN,
            "an implementation detail of a type's"
        );
        assert_eq!(effect(Some("pg_catalog"), "like_escape"), Effect::PURE);
        assert_eq!(
            with("array_sort", 1),
            UNKNOWN,
            "PostgreSQL 18's, or one of the database's own"
        );
        assert_eq!(effect(Some("pg_catalog"), "count"), Effect::PURE);
        assert_eq!(
            effect(Some("public"), "lower"),
            UNKNOWN,
            "not PostgreSQL's own"
        );
        assert_eq!(effect(None, "pg_read_file").action, Some(Action::Admin));
        assert_eq!(effect(None, "nextval").action, Some(Action::Write));
        assert_eq!(effect(None, "query_to_xml"), RUNS_TEXT);
        assert_eq!(effect(None, "database_to_xml_and_xmlschema"), RUNS_TEXT);
        assert_eq!(effect(Some("x"), "dblink_exec"), RUNS_TEXT_ELSEWHERE);
        assert_eq!(effect(None, "charge_all"), UNKNOWN);
        assert!(effect(None, "pg_sleep").flags.contains(&Flag::Delays));
    }

    #[test]
    fn nothing_pure_has_an_effect_too() {
        let functions = Functions::new();
        for name in functions.pure.keys().chain(&functions.internal) {
            assert!(!is_file(name), "{name}");
            assert!(
                !is_admin(name) || *name == "pg_replication_origin_oid",
                "{name}"
            );
            assert!(!runs_text(name) && !name.contains("_to_xml"), "{name}");
            assert!(!is_write(name) || name.starts_with("brin_"), "{name}");
        }
    }
}
