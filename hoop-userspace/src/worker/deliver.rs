//! Sends what a channel is to be told. Here and not in the keeper, because answers are read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use url::Url;

use crate::config::{Channel, ChannelKind};
use crate::handover::Delivery;
use crate::identify;
use crate::secret::Secret;

const WHOLE: Duration = Duration::from_secs(10);

/// Sends it once; why it failed, if it did. Neither key nor address of a secret kind is in the words.
pub async fn deliver(channel: &Channel, delivery: Delivery) -> Result<(), String> {
    let client = identify::https(channel.ca.as_deref())?;
    let url = match &channel.url {
        Some(url) => url.clone(),
        None => Url::parse(channel.secret.expose().trim())
            .ok()
            .filter(|url| url.scheme() == "https")
            .ok_or("its secret is no https URL")?,
    };
    let mut request = client
        .post(url)
        .timeout(WHOLE)
        .header("content-type", "application/json");
    if channel.kind == ChannelKind::Webhook {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let timestamp = now.map_or(0, |now| now.as_secs());
        let signature = sign(&channel.secret, &delivery.id, timestamp, &delivery.body)?;
        request = request
            .header("webhook-id", &delivery.id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature);
    }
    let sent = request.body(delivery.body).send().await;
    // The address may be a secret.
    let answer = sent.map_err(|error| identify::chain(&error.without_url()))?;
    match answer.status().is_success() {
        true => Ok(()),
        false => Err(format!("it answers {}", answer.status())),
    }
}

/// As Standard Webhooks has it: HMAC-SHA256 over id, timestamp and body, under the bytes that stand
/// in base64 behind `whsec_`.
fn sign(secret: &Secret, id: &str, timestamp: u64, body: &str) -> Result<String, String> {
    let key = secret.expose().trim().strip_prefix("whsec_");
    let key = key.and_then(|key| STANDARD.decode(key).ok());
    let key = key.filter(|key| (16..=128).contains(&key.len()));
    let key = key.ok_or("its secret is not whsec_ and 16 to 128 bytes in base64")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signature = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_standard_webhooks_says() {
        // Computed by another implementation: Python's hmac.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into());
        let body = "{\"test\": 2432232314}";
        let signature = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(
            signature.unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        for bad in ["", "secret", "whsec_", "whsec_AAAA", "whsec_!"] {
            assert!(
                sign(&Secret::new(bad.into()), "a", 1, "b").is_err(),
                "{bad}"
            );
        }
    }
}
