//! Which start-up parameters of a client are passed on, and which a policy must permit first.
//!
//! A start-up parameter is a `SET` before the first statement. Those that only change how results
//! look, or when hoop's own login gives up, pass as they are. The rest is decided as the statement
//! that does the same, because drivers depend on it: JDBC's `currentSchema`, Django's
//! `options=-c search_path=…`.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::ForwardError;
use crate::decide::Permitted;
use crate::ids::ExchangeId;
use crate::record::Recorded;
use crate::terminate::{Asked, Request, SqlAsked, SqlStep, SqlText, Unit};
use crate::wire::postgres::frame;
use crate::wire::postgres::frontend::tag;

/// Characters of a refused value that the error repeats.
const MAX_SHOWN: usize = 100;

/// Passed on whatever their value.
const HARMLESS: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "fallback_application_name",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "plan_cache_mode",
    "statement_timeout",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "timezone",
    "transaction_timeout",
    "xmloption",
];

/// Passed on with one of these values; others are decided.
const WITH_VALUE: &[(&str, &[&str])] = &[
    (
        "default_transaction_deferrable",
        &["on", "off", "true", "false"],
    ),
    (
        "default_transaction_isolation",
        &[
            "serializable",
            "repeatable read",
            "read committed",
            "read uncommitted",
        ],
    ),
    ("default_transaction_read_only", &["on", "true", "1", "yes"]),
    ("standard_conforming_strings", &["on", "true", "1", "yes"]),
];

/// What the client asked for at start-up, as far as it concerns the server.
#[derive(Clone, Debug, Default)]
pub struct Startup {
    pub database: String,
    /// Passed on as they are.
    harmless: Vec<(String, String)>,
    /// Passed on once they are permitted.
    undecided: Vec<(String, String)>,
    permitted: bool,
}

impl Startup {
    /// Takes the client's parameters, `options` taken apart. One that cannot be understood is an
    /// error that names it: leaving it out would silently change what the client relies on.
    pub fn new(
        database: &str,
        asked: &[(String, String)],
        allow_replication: bool,
    ) -> Result<Self, ForwardError> {
        // The server takes `options` first, so that a parameter of its own wins.
        let (first, rest): (Vec<_>, Vec<_>) = asked
            .iter()
            .partition(|(name, _)| name.eq_ignore_ascii_case("options"));
        let mut parameters = Vec::new();
        for (name, value) in first.into_iter().chain(rest) {
            match name.to_ascii_lowercase().as_str() {
                "user" | "database" => {}
                "replication" if is_off(value) => {}
                "replication" if !allow_replication => return Err(refused(name, value)),
                "options" => parameters.extend(options(value)?),
                // Protocol extensions: the client has been told that none is spoken.
                name if name.starts_with("_pq_.") => {}
                // libpq's word for "as my locale says"; without it the server's default holds.
                "client_encoding" if plain(value) == "auto" => {}
                _ => parameters.push((name.clone(), value.clone())),
            }
        }
        // What is no name to the server is none to the policy either.
        let nameless = |(name, _): &&(String, String)| {
            let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            name.is_empty() || !name.chars().all(part)
        };
        if let Some((name, value)) = parameters.iter().find(nameless) {
            return Err(refused(name, value));
        }
        let passes =
            |(name, value): &(String, String)| name == "replication" || is_harmless(name, value);
        let (harmless, undecided) = parameters.into_iter().partition(passes);
        Ok(Self {
            database: database.to_owned(),
            harmless,
            undecided,
            permitted: false,
        })
    }

    /// What must be permitted first, as statements that do the same; `None` if nothing must.
    pub fn request(&self) -> Option<Request> {
        let hasher = foldhash::fast::FixedState::default();
        let mut wire = BytesMut::new();
        let mut units: SmallVec<[Unit; 6]> = SmallVec::new();
        for (name, value) in &self.undecided {
            // SET would take a list for one quoted name; this reads the value as start-up does.
            let (name, value) = (quoted(name), quoted(value));
            let text = format!("SELECT pg_catalog.set_config({name}, {value}, false)");
            wire.extend_from_slice(&frame::message(tag::QUERY, &[text.as_bytes(), b"\0"]));
            let text = SqlText {
                hash: hasher.hash_one(text.as_str()),
                text: text.into(),
            };
            let asked = Asked::Sql(SqlAsked {
                step: SqlStep::Simple,
                candidates: [Arc::new(text)].into_iter().collect(),
                parameters: Arc::default(),
            });
            let end = wire.len();
            units.push(Unit { end, asked });
        }
        (!units.is_empty()).then(|| Request {
            exchange: ExchangeId(0),
            wire: Bytes::from(wire),
            units,
        })
    }

    /// The request was permitted, and that is on record.
    pub fn permit(&mut self, recorded: &Recorded<Permitted>) {
        let asked = self.request().map(|request| request.wire);
        self.permitted = asked.as_ref() == Some(recorded.get().wire());
    }

    /// All that is passed on.
    pub(super) fn passed(&self) -> Result<Vec<(&str, &str)>, ForwardError> {
        match self.undecided.first() {
            Some((name, value)) if !self.permitted => Err(refused(name, value)),
            _ => Ok(self
                .harmless
                .iter()
                .chain(&self.undecided)
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect()),
        }
    }
}

fn refused(name: &str, value: &str) -> ForwardError {
    let value: String = value.chars().take(MAX_SHOWN).collect();
    ForwardError::Parameter(format!("{name} = {value}"))
}

/// A string constant under standard_conforming_strings, which hoop's sessions never leave.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether a parameter is passed on with this value.
pub fn is_harmless(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let value = value.trim().to_ascii_lowercase();
    if name == "client_encoding" {
        // Others (SJIS, GBK, BIG5) hold bytes that the server takes for a quote and the parser not.
        return matches!(plain(&value).as_str(), "utf8" | "unicode" | "sqlascii");
    }
    let allowed = WITH_VALUE.iter().find(|(known, _)| *known == name);
    HARMLESS.contains(&name.as_str())
        || allowed.is_some_and(|(_, values)| values.contains(&value.as_str()))
}

/// An encoding's name as the server compares it: letters and digits, in lower case.
fn plain(value: &str) -> String {
    let kept = value.chars().filter(char::is_ascii_alphanumeric);
    kept.map(|c| c.to_ascii_lowercase()).collect()
}

fn is_off(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "" | "0" | "f" | "false" | "n" | "no" | "off"
    )
}

/// Takes the command-line switches in `options` apart: `-c name=value`, `-cname=value` and
/// `--name=value`; a backslash takes the next character as it is (postgres, "pg_split_opts").
fn options(text: &str) -> Result<Vec<(String, String)>, ForwardError> {
    let refused = || ForwardError::Parameter("options".into());
    let mut settings = Vec::new();
    let mut words = split(text).into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => setting.to_owned(),
            None => match word.strip_prefix("-c") {
                Some("") => words.next().ok_or_else(refused)?,
                Some(setting) => setting.to_owned(),
                None => return Err(refused()),
            },
        };
        let (name, value) = setting.split_once('=').ok_or_else(refused)?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(asked: &[(&str, &str)]) -> Result<Startup, ForwardError> {
        let asked: Vec<_> = asked
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        Startup::new("shop", &asked, false)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    fn texts(startup: &Startup) -> Vec<String> {
        let Some(request) = startup.request() else {
            return Vec::new();
        };
        let text = |unit: &Unit| match &unit.asked {
            Asked::Sql(asked) => asked.candidates[0].text.to_string(),
            other => panic!("{other:?}"),
        };
        request.units.iter().map(text).collect()
    }

    #[test]
    fn what_drivers_send_passes() {
        let jdbc = [
            ("user", "x"),
            ("database", "y"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "Europe/Berlin"),
            ("extra_float_digits", "2"),
        ];
        assert_eq!(startup(&jdbc).unwrap().passed().unwrap().len(), 4);
        let options = [
            ("statement_timeout", "6s"),
            (
                "options",
                r"-c statement_timeout=5s --jit=off -cdatestyle=ISO,\ MDY",
            ),
        ];
        let options = startup(&options).unwrap();
        assert!(options.request().is_none());
        assert_eq!(
            options.passed().unwrap(),
            [
                ("statement_timeout", "5s"),
                ("jit", "off"),
                ("datestyle", "ISO, MDY"),
                ("statement_timeout", "6s"),
            ]
        );
    }

    #[test]
    fn encodings_that_read_alike_and_permitted_replication() {
        for value in ["UTF-8", "'utf8'", "SQL_ASCII", "auto"] {
            let startup = startup(&[("client_encoding", value)]).unwrap();
            assert!(startup.request().is_none(), "{value}");
        }
        assert_eq!(
            startup(&[("replication", "off")])
                .unwrap()
                .passed()
                .unwrap(),
            []
        );
        let asked = [pair("replication", "database")];
        let permitted = Startup::new("shop", &asked, true).unwrap();
        assert_eq!(permitted.passed().unwrap(), [("replication", "database")]);
    }

    #[test]
    fn what_changes_meaning_or_rights_is_decided_as_a_statement() {
        let asked = [
            ("search_path", "app, public"),
            ("options", "-c role=o'brien"),
            ("application_name", "x"),
        ];
        let startup = startup(&asked).unwrap();
        assert_eq!(
            texts(&startup),
            [
                "SELECT pg_catalog.set_config('role', 'o''brien', false)",
                "SELECT pg_catalog.set_config('search_path', 'app, public', false)",
            ]
        );
        // Nothing passes before it is permitted.
        let error = startup.passed().unwrap_err().to_string();
        assert!(error.contains("role = o'brien"), "{error}");
        for (name, value) in [
            ("session_authorization", "admin"),
            ("standard_conforming_strings", "off"),
            ("backslash_quote", "on"),
            ("client_encoding", "SJIS"),
            ("default_transaction_read_only", "off"),
            ("options", "--session-preload-libraries=x"),
        ] {
            let startup = self::startup(&[(name, value)]).unwrap();
            assert_eq!(texts(&startup).len(), 1, "{name} = {value}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_by_name() {
        for (name, value) in [
            ("replication", "database"),
            ("options", r"-c\ role=admin"),
            ("options", "-d 5"),
            ("options", "-c"),
            ("options", "-c role"),
        ] {
            let error = startup(&[(name, value)]).unwrap_err().to_string();
            assert!(
                error.contains("cannot be passed on"),
                "{name} = {value}: {error}"
            );
        }
    }
}
