//! How often an issuer lets itself be asked: its rate limits, honoured before they are hit.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode};

/// However the issuer limits, a live session is asked about within this time, or it counts as an
/// issuer that cannot be asked.
pub(super) const MOST_STRETCHED: Duration = Duration::from_secs(60);
/// The longest pause that an issuer can impose.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Where the issuer says "too many" and not for how long.
const UNSAID: Duration = Duration::from_secs(10);
/// Of what the issuer allows until its window ends, this part is left to others.
const SHARE: u32 = 2;

/// Spreads questions over what the issuer still allows.
#[derive(Default)]
pub(super) struct Pacer(Mutex<Pace>);

#[derive(Default)]
struct Pace {
    /// The earliest moment for the next question.
    next: Option<Instant>,
    /// Between two questions, until this window ends.
    spacing: Option<(Duration, Instant)>,
}

impl Pacer {
    /// Waits for a turn, at most `patience`; the error says why there is none in time.
    pub async fn turn(&self, patience: Duration) -> Result<(), String> {
        let wait = {
            let mut pace = self.pace();
            let now = Instant::now();
            let at = pace.next.map_or(now, |next| next.max(now));
            let wait = at.duration_since(now);
            if wait > patience {
                return Err(format!(
                    "it limits how often it is asked, and takes the next question in {} s",
                    wait.as_secs() + 1
                ));
            }
            if let Some((spacing, until)) = pace.spacing {
                pace.next = (now < until).then(|| at + spacing);
            }
            wait
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// Whether the issuer keeps us from asking as often as we want to.
    pub fn limits(&self) -> bool {
        let pace = self.pace();
        pace.next.is_some_and(|next| next > Instant::now())
    }

    /// Takes what an answer says of limits: `X-Rate-Limit-*` as Okta sends them (the reset in
    /// seconds since 1970), `Retry-After` in seconds (RFC 9110 §10.2.3).
    pub fn heard(&self, status: StatusCode, headers: &HeaderMap) {
        self.take(status, headers, SystemTime::now());
    }

    fn take(&self, status: StatusCode, headers: &HeaderMap, wall: SystemTime) {
        let number =
            |name: &str| -> Option<u64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
        let now = Instant::now();
        let resets = number("x-rate-limit-reset").and_then(|at| {
            let since = wall.duration_since(UNIX_EPOCH).ok()?;
            Some(Duration::from_secs(at).saturating_sub(since))
        });
        let resets = resets.map(|left| left.min(LONGEST_PAUSE));
        let remaining = number("x-rate-limit-remaining");
        let mut pace = self.pace();
        if status == StatusCode::TOO_MANY_REQUESTS || remaining == Some(0) {
            let retry = number("retry-after").map(Duration::from_secs);
            let pause = retry.or(resets).unwrap_or(UNSAID).min(LONGEST_PAUSE);
            pace.next = Some(now + pause);
            pace.spacing = None;
            return;
        }
        pace.spacing = match (remaining, resets) {
            (Some(remaining), Some(left)) => {
                let ours = u32::try_from(remaining).unwrap_or(u32::MAX) / SHARE;
                Some((left / ours.max(1), now + left))
            }
            _ => None,
        };
        if pace.spacing.is_none() {
            pace.next = None;
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        pairs.collect()
    }

    fn in_seconds(seconds: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (now.as_secs() + seconds).to_string()
    }

    #[tokio::test]
    async fn nothing_said_limits_nothing() {
        let pacer = Pacer::default();
        for _ in 0..1000 {
            pacer.turn(Duration::ZERO).await.unwrap();
            pacer.heard(StatusCode::OK, &HeaderMap::new());
        }
        assert!(!pacer.limits());
    }

    #[tokio::test]
    async fn too_many_is_a_pause_of_the_issuers_length_and_bounded() {
        for (said, seconds) in [("30", 30), ("999999", 300), ("soon", 10)] {
            let pacer = Pacer::default();
            let said = headers(&[("retry-after", said.to_owned())]);
            pacer.heard(StatusCode::TOO_MANY_REQUESTS, &said);
            assert!(pacer.limits());
            let why = pacer.turn(Duration::from_secs(1)).await.unwrap_err();
            let expected = [seconds, seconds + 1].map(|s| format!("in {s} s"));
            assert!(expected.iter().any(|e| why.contains(e)), "{why}");
        }
    }

    #[tokio::test]
    async fn what_is_left_is_spread_over_the_window() {
        let pacer = Pacer::default();
        let left = headers(&[
            ("x-rate-limit-remaining", "40".into()),
            ("x-rate-limit-reset", in_seconds(60)),
        ]);
        pacer.heard(StatusCode::OK, &left);
        pacer.turn(Duration::ZERO).await.unwrap();
        // Half of 40 in at most 60 s: one in about 3 s.
        let why = pacer.turn(Duration::from_secs(1)).await.unwrap_err();
        assert!(why.contains("in 3 s") || why.contains("in 4 s"), "{why}");
        // Plenty left: no wait worth speaking of.
        let left = headers(&[
            ("x-rate-limit-remaining", "100000".into()),
            ("x-rate-limit-reset", in_seconds(1)),
        ]);
        let pacer = Pacer::default();
        pacer.heard(StatusCode::OK, &left);
        for _ in 0..20 {
            pacer.turn(Duration::from_millis(50)).await.unwrap();
        }
        // None left.
        let none = headers(&[
            ("x-rate-limit-remaining", "0".into()),
            ("x-rate-limit-reset", in_seconds(20)),
        ]);
        pacer.heard(StatusCode::OK, &none);
        assert!(pacer.turn(Duration::from_secs(3)).await.is_err());
    }

    #[test]
    fn nonsense_is_passed_over() {
        let pacer = Pacer::default();
        for value in ["", "-1", "1e9", "99999999999999999999999", "\u{7f}x"] {
            let Ok(value) = http::HeaderValue::from_bytes(value.as_bytes()) else {
                continue;
            };
            let mut map = HeaderMap::new();
            for name in [
                "x-rate-limit-remaining",
                "x-rate-limit-reset",
                "retry-after",
            ] {
                map.insert(name, value.clone());
            }
            pacer.heard(StatusCode::OK, &map);
            assert!(!pacer.limits(), "{value:?}");
        }
        // A window that has ended, and one in some centuries.
        for reset in ["1", "18446744073709551615"] {
            let map = headers(&[
                ("x-rate-limit-remaining", "5".into()),
                ("x-rate-limit-reset", reset.into()),
            ]);
            pacer.heard(StatusCode::OK, &map);
        }
    }
}
