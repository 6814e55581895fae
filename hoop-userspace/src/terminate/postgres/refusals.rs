//! Refusals in PostgreSQL's words: SQLSTATE, MESSAGE, DETAIL with one line of JSON, HINT.

use bytes::Bytes;

use crate::decide::{Code, Refusal};
use crate::terminate::End;
use crate::wire::postgres::fields::{ERROR, NOTICE, Report};

/// The SQLSTATE that says best what happened (PostgreSQL manual, appendix A).
pub fn sqlstate(code: Code) -> &'static str {
    match code {
        // invalid_authorization_specification
        Code::Identity => "28000",
        // syntax_error: what the server would say of most of what cannot be parsed
        Code::Unparsable => "42601",
        // invalid_cursor_name: what the server says of a portal that it does not know
        Code::UnknownName => "34000",
        // program_limit_exceeded
        Code::TooLarge => "54000",
        // query_canceled
        Code::Cancelled => "57014",
        // serialization_failure: what clients try again
        Code::Changed => "40001",
        // cannot_connect_now: clients with several hosts go on to the next
        Code::Unavailable => "57P03",
        // insufficient_privilege
        _ => "42501",
    }
}

/// The refusal of a statement.
pub(super) fn error(refusal: &Refusal) -> Bytes {
    report(refusal, "ERROR")
}

/// The refusal of a connection.
pub(super) fn fatal(refusal: &Refusal) -> Bytes {
    report(refusal, "FATAL")
}

fn report(refusal: &Refusal, severity: &str) -> Bytes {
    let report = Report {
        severity,
        code: sqlstate(refusal.code),
        message: &refusal.message,
        detail: Some(&refusal.json_line()),
        hint: Some(refusal.hint.as_str()).filter(|h| !h.is_empty()),
    };
    report.encode(ERROR)
}

/// A FATAL error without a refusal behind it.
pub(super) fn fatal_text(code: &str, message: &str) -> Bytes {
    Report {
        severity: "FATAL",
        code,
        message,
        ..Report::default()
    }
    .encode(ERROR)
}

/// The server's own words, which programs look for, and why in the hint.
pub(super) fn wrong_password(user: &str, why: &str) -> Bytes {
    let message = format!("password authentication failed for user \"{user}\"");
    Report {
        severity: "FATAL",
        code: "28P01",
        message: &message,
        hint: Some(why),
        ..Report::default()
    }
    .encode(ERROR)
}

pub(super) fn notice(message: &str) -> Bytes {
    Report {
        severity: "NOTICE",
        code: "00000",
        message,
        ..Report::default()
    }
    .encode(NOTICE)
}

/// What the client hears when its session is ended; nothing where it ended it itself.
pub(super) fn farewell(why: &End) -> Option<Bytes> {
    let (code, message) = match why {
        End::Finished => return None,
        End::Identity(why) => (
            "28000",
            format!("the agent's identity no longer holds: {why}"),
        ),
        // admin_shutdown
        End::Killed(why) => ("57P01", format!("an operator ended this session: {why}")),
        End::Drained => ("57P01", "hoop is stopping".into()),
        // io_error
        End::Unrecordable(why) => ("58030", format!("the session cannot be recorded: {why}")),
        // protocol_violation
        End::Broken(why) => ("08P01", why.clone()),
    };
    Some(fatal_text(code, &message))
}
