//! Which settings are harmless, which decide what a statement may do, and which would make the
//! server read other SQL than the parser does.

use crate::decide::{Action, Flag};

/// What setting it amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub action: Action,
    pub flag: Option<Flag>,
}

const fn plain(action: Action) -> Setting {
    Setting { action, flag: None }
}

const fn flagged(action: Action, flag: Flag) -> Setting {
    Setting {
        action,
        flag: Some(flag),
    }
}

/// A new value: its constants, or that it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Back to what the session started with.
    Default,
    Constant(&'a str),
    /// Known when the statement runs.
    Computed,
}

/// Whether the server would go on reading SQL as the parser does if it took this setting, at
/// start-up or later; if not, why.
pub fn keeps_grammar(name: &str, value: &str) -> Result<(), &'static str> {
    let value = value.trim().to_ascii_lowercase();
    match name.to_ascii_lowercase().as_str() {
        "standard_conforming_strings" if !is_on(&value) => Err(
            "with standard_conforming_strings off, the server reads string constants otherwise than hoop does",
        ),
        "backslash_quote" if !matches!(&*value, "safe_encoding" | "off" | "false" | "no" | "0") => {
            Err("with backslash_quote, the server reads string constants otherwise than hoop does")
        }
        "client_encoding" | "names" if !is_utf8(&value) => {
            Err("hoop reads statements in UTF-8, so client_encoding must stay UTF8")
        }
        _ => Ok(()),
    }
}

fn is_on(value: &str) -> bool {
    // PostgreSQL takes any prefix of these that is not ambiguous.
    let prefix = |word: &str, least| value.len() >= least && word.starts_with(value);
    value == "1" || prefix("on", 2) || prefix("true", 1) || prefix("yes", 1)
}

fn is_utf8(value: &str) -> bool {
    let letters: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
    letters == "utf8" || letters == "unicode"
}

/// `name` in any case, as PostgreSQL compares names of settings.
pub(super) fn setting(name: &str, value: Value<'_>) -> Setting {
    let name = name.to_ascii_lowercase();
    let keeps = match value {
        Value::Default => true,
        Value::Constant(value) => keeps_grammar(&name, value).is_ok(),
        Value::Computed => !matches!(
            &*name,
            "standard_conforming_strings" | "backslash_quote" | "client_encoding" | "names"
        ),
    };
    if !keeps {
        return flagged(Action::Admin, Flag::GrammarState);
    }
    match &*name {
        // Back to the role that hoop logged in as.
        "role" if value == Value::Constant("none") => plain(Action::Read),
        "role" | "session_authorization" if value == Value::Default => plain(Action::Read),
        "role" | "session_authorization" => flagged(Action::Admin, Flag::ChangesRole),
        "search_path" | "schema" => match value {
            // Every name must then be qualified, or is PostgreSQL's own.
            Value::Default | Value::Constant("" | "pg_catalog") => plain(Action::Read),
            _ => flagged(Action::Write, Flag::SearchPath),
        },
        _ if is_harmless(&name) => plain(Action::Read),
        // Applications keep the tenant or user of row-level security in settings of their own.
        _ if name.contains('.') => plain(Action::Write),
        _ => plain(Action::Admin),
    }
}

fn is_harmless(name: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "enable_",
        "geqo",
        "jit",
        "cpu_",
        "tcp_",
        "parallel_",
        "debug_print_",
        "lc_",
    ];
    const NAMES: &[&str] = &[
        "application_name",
        "array_nulls",
        "backslash_quote",
        "bytea_output",
        "check_function_bodies",
        "client_connection_check_interval",
        "client_encoding",
        "client_min_messages",
        "constraint_exclusion",
        "cursor_tuple_fraction",
        "datestyle",
        "default_statistics_target",
        "default_transaction_deferrable",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "effective_cache_size",
        "effective_io_concurrency",
        "escape_string_warning",
        "extra_float_digits",
        "from_collapse_limit",
        "gin_fuzzy_search_limit",
        "hash_mem_multiplier",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "intervalstyle",
        "join_collapse_limit",
        "lock_timeout",
        "maintenance_work_mem",
        "max_parallel_workers_per_gather",
        "names",
        "plan_cache_mode",
        "quote_all_identifiers",
        "random_page_cost",
        "recursive_worktable_factor",
        // Off, it makes a query fail rather than leave out rows.
        "row_security",
        "seed",
        "seq_page_cost",
        "session characteristics",
        "standard_conforming_strings",
        "statement_timeout",
        "synchronize_seqscans",
        "temp_buffers",
        "timezone",
        "timezone_abbreviations",
        "transaction",
        "transaction snapshot",
        "transaction_deferrable",
        "transaction_isolation",
        "transaction_read_only",
        "transaction_timeout",
        "work_mem",
        "xmlbinary",
        "xmloption",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_the_grammar() {
        for (name, value) in [
            ("standard_conforming_strings", "off"),
            ("Standard_Conforming_Strings", "0"),
            ("standard_conforming_strings", "o"),
            ("backslash_quote", "on"),
            ("backslash_quote", "1"),
            ("client_encoding", "SJIS"),
            ("names", "GBK"),
            ("client_encoding", "SQL_ASCII"),
        ] {
            assert!(keeps_grammar(name, value).is_err(), "{name} = {value}");
            let constant = setting(name, Value::Constant(value));
            assert_eq!(constant.flag, Some(Flag::GrammarState), "{name} = {value}");
        }
        for (name, value) in [
            ("standard_conforming_strings", "ON"),
            ("standard_conforming_strings", "tr"),
            ("backslash_quote", "safe_encoding"),
            ("client_encoding", "'utf-8'"),
            ("NAMES", "Unicode"),
        ] {
            assert_eq!(keeps_grammar(name, value), Ok(()), "{name} = {value}");
        }
        let computed = setting("client_encoding", Value::Computed);
        assert_eq!(computed.flag, Some(Flag::GrammarState));
    }

    #[test]
    fn classes() {
        let of = |name, value| setting(name, Value::Constant(value));
        assert_eq!(of("Statement_Timeout", "0"), plain(Action::Read));
        assert_eq!(
            of("role", "admin"),
            flagged(Action::Admin, Flag::ChangesRole)
        );
        assert_eq!(of("search_path", ""), plain(Action::Read));
        assert_eq!(
            of("search_path", "evil"),
            flagged(Action::Write, Flag::SearchPath)
        );
        assert_eq!(of("app.tenant", "7"), plain(Action::Write));
        assert_eq!(
            of("session_replication_role", "replica"),
            plain(Action::Admin)
        );
    }
}
