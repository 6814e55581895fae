//! Points in time, and lengths of it, as people give them.

use std::time::{Duration, SystemTime};

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

/// `90s`, `30m`, `12h` or `7d` ago; a date (UTC); an RFC 3339 time.
pub fn parse(text: &str) -> Result<SystemTime, String> {
    if let Some(ago) = ago(text) {
        return SystemTime::now()
            .checked_sub(ago)
            .ok_or_else(|| format!("{text:?} is before time began"));
    }
    if let Ok(date) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Ok(date.midnight().assume_utc().into());
    }
    OffsetDateTime::parse(text, &Rfc3339)
        .map(SystemTime::from)
        .map_err(|_| "give a time like 30m, 12h, 7d, 2026-11-24 or 2026-11-24T02:35:00Z".into())
}

/// What is said of a length of time that cannot be read.
pub const UNCLEAR: &str = "give a time like 90s, 30m, 2h or 1h30m";

/// `90s`, `30m`, `2h`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unclear = || UNCLEAR.to_owned();
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(unclear)?;
        let (count, after) = rest.split_at_checked(digits).ok_or_else(unclear)?;
        let unit = match after.chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            _ => return Err(unclear()),
        };
        let count: u64 = count.parse().map_err(|_| unclear())?;
        let more = count.checked_mul(unit).ok_or_else(unclear)?;
        total = total.checked_add(more).ok_or_else(unclear)?;
        rest = after.get(1..).unwrap_or_default();
    }
    Ok(Duration::from_secs(total))
}

fn ago(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(Duration::from_secs(count.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn each_form() {
        let day = UNIX_EPOCH + Duration::from_secs(1_000_000 * 86_400 / 86_400);
        assert_eq!(parse("1970-01-12T13:46:40Z"), Ok(day));
        assert_eq!(
            parse("1970-01-02"),
            Ok(UNIX_EPOCH + Duration::from_secs(86_400))
        );
        let hour = SystemTime::now()
            .duration_since(parse("1h").unwrap())
            .unwrap();
        assert!((3590..3610).contains(&hour.as_secs()));
        for wrong in ["", "h", "12", "-1h", "yesterday", "99999999999999999999d"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
