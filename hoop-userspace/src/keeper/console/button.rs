//! What a button in Slack says: the question, and a proof that hoop made this button for what the
//! question asks. Whoever can write messages in Slack's name of this application makes none.

use ring::digest::{SHA256, digest};
use ring::hmac;
use serde_json::Value;

use crate::ask::Case;
use crate::config::Slack;

/// Parts the key from all else that Slack's secret signs.
const PURPOSE: &[u8] = b"hoop: the value of a button";

/// The value of a question's buttons: `QUESTION.PROOF`.
pub fn value(slack: &Slack, case: &Case) -> String {
    let asking = serde_json::to_value(&case.asking).unwrap_or_default();
    made(slack, &case.id.to_string(), &asking)
}

/// Which question a button is for.
pub fn question(value: &str) -> &str {
    value
        .split_once('.')
        .map_or(value, |(question, _)| question)
}

/// Whether hoop made this button for a question that asks this.
pub fn is_ours(slack: &Slack, value: &str, asking: &Value) -> bool {
    let expected = made(slack, question(value), asking);
    // By their digests, in a time that tells nothing of where they differ.
    let of = |text: &str| digest(&SHA256, text.as_bytes());
    of(value).as_ref() == of(&expected).as_ref()
}

/// A key that only the keeper has: made from Slack's secret, so that a restart makes the same and
/// buttons that wait still count.
fn made(slack: &Slack, question: &str, asking: &Value) -> String {
    let secret = slack.signing_secret.expose().trim().as_bytes();
    let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, PURPOSE).as_ref());
    let shown = digest(&SHA256, asking.to_string().as_bytes());
    let signed = [question.as_bytes(), b".", shown.as_ref()].concat();
    let proof = crate::hex::encode(hmac::sign(&key, &signed));
    format!("{question}.{proof}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use serde_json::json;

    #[test]
    fn a_button_is_for_one_question_and_what_it_asks() {
        let slack = |secret: &str| Slack {
            signing_secret: Secret::new(secret.into()),
            users: Default::default(),
        };
        let (own, other) = (slack("a"), slack("b"));
        let asking = json!({ "message": "bot asks", "statements": ["DELETE 1"] });
        let value = made(&own, "k3v9t0m2qf", &asking);
        assert_eq!(question(&value), "k3v9t0m2qf");
        assert!(is_ours(&own, &value, &asking));
        assert!(!is_ours(&other, &value, &asking));
        assert!(!is_ours(&own, &value, &json!({ "message": "bot asks" })));
        let moved = value.replace("k3v9", "k3v8");
        assert!(!is_ours(&own, &moved, &asking));
        assert!(!is_ours(&own, "k3v9t0m2qf", &asking));
    }
}
