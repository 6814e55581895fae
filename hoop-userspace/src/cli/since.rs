//! Points in time as people give them.

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
