//! Which start-up parameters of a client are passed on.
//!
//! A start-up parameter is a `SET` that no policy sees. So only those pass that change how results
//! look or when hoop's own login gives up; the rest must be asked for with `SET`, which is decided.

use super::ForwardError;

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

/// Passed on with one of these values: others would make the server read or allow something else
/// than what was decided.
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

/// The parameters to pass on, `options` taken apart. A parameter that cannot be passed on is an
/// error that names it: leaving it out would silently change what the client relies on.
pub fn passed_on(
    asked: &[(String, String)],
    allow_replication: bool,
) -> Result<Vec<(String, String)>, ForwardError> {
    let mut passed = Vec::new();
    for (name, value) in asked {
        match name.to_ascii_lowercase().as_str() {
            "user" | "database" => {}
            "replication" if is_off(value) => {}
            "options" => passed.extend(options(value)?),
            // Protocol extensions: the client has been told that none is spoken.
            name if name.starts_with("_pq_.") => {}
            // libpq's word for "as my locale says"; without it the server's default holds.
            "client_encoding" if plain(value) == "auto" => {}
            _ => passed.push((name.clone(), value.clone())),
        }
    }
    let refused = |(name, value): &&(String, String)| {
        !(is_harmless(name, value) || allow_replication && name == "replication")
    };
    match passed.iter().find(refused) {
        Some((name, value)) => {
            let value: String = value.chars().take(MAX_SHOWN).collect();
            Err(ForwardError::Parameter(format!("{name} = {value}")))
        }
        None => Ok(passed),
    }
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

    fn passed(asked: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        let asked: Vec<_> = asked
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        passed_on(&asked, false).map_err(|e| e.to_string())
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
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
        assert_eq!(passed(&jdbc).unwrap().len(), 4);
        let options = [(
            "options",
            r"-c statement_timeout=5s --jit=off -cdatestyle=ISO,\ MDY",
        )];
        assert_eq!(
            passed(&options).unwrap(),
            [
                pair("statement_timeout", "5s"),
                pair("jit", "off"),
                pair("datestyle", "ISO, MDY")
            ]
        );
    }

    #[test]
    fn encodings_that_read_alike_and_permitted_replication() {
        for value in ["UTF-8", "'utf8'", "SQL_ASCII", "auto"] {
            passed(&[("client_encoding", value)]).unwrap();
        }
        assert_eq!(passed(&[("replication", "off")]).unwrap(), []);
        let asked = [pair("replication", "database")];
        assert_eq!(passed_on(&asked, true).unwrap(), asked);
    }

    #[test]
    fn what_changes_meaning_or_rights_is_refused_by_name() {
        for (name, value) in [
            ("role", "admin"),
            ("session_authorization", "admin"),
            ("standard_conforming_strings", "off"),
            ("backslash_quote", "on"),
            ("client_encoding", "SJIS"),
            ("replication", "database"),
            ("default_transaction_read_only", "off"),
            ("search_path", "evil"),
            ("options", "-c role=admin"),
            ("options", "--session-preload-libraries=x"),
            ("options", r"-c\ role=admin"),
            ("options", "-d 5"),
            ("options", "-c"),
            ("options", "-c role"),
        ] {
            let error = passed(&[(name, value)]).unwrap_err();
            assert!(
                error.contains("cannot be passed on"),
                "{name} = {value}: {error}"
            );
        }
    }
}
