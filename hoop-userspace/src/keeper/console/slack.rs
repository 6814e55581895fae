//! A button that somebody pressed in Slack: proved by Slack's signature, which the keeper checks
//! itself, so that the console can press none.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::hmac;
use serde::Deserialize;

use crate::ask::{Verdict, Voter};
use crate::config::Config;
use crate::hex;

/// How far Slack's time may be from ours (its own advice against replays).
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Signatures that are remembered within the window.
const MAX_SEEN: usize = 10_000;

/// What a button says.
#[derive(Debug, PartialEq, Eq)]
pub struct Pressed {
    pub voter: Voter,
    /// What the button says, as [`super::button`] made it.
    pub value: String,
    pub verdict: Verdict,
    /// Where the message can be replaced.
    pub response_url: Option<String>,
}

/// Signatures that were taken, by their bytes: each counts once, however it is written.
#[derive(Default)]
pub struct Seen(HashMap<Vec<u8>, SystemTime>);

/// Believes what Slack signed, and nobody whom the configuration does not name.
pub fn read(
    config: &Config,
    seen: &mut Seen,
    now: SystemTime,
    timestamp: &str,
    signature: &str,
    body: &[u8],
) -> Result<Pressed, String> {
    let slack = config.console.as_ref().and_then(|c| c.slack.as_ref());
    let slack = slack.ok_or("[console] has no `slack`")?;
    let at: u64 = timestamp.parse().map_err(|_| "its time is no number")?;
    let at = UNIX_EPOCH
        .checked_add(Duration::from_secs(at))
        .ok_or("its time is no time")?;
    let apart = now.duration_since(at).or_else(|_| at.duration_since(now));
    if apart.map_or(true, |apart| apart > WINDOW) {
        return Err("it is from another time".into());
    }
    let tag = signature
        .strip_prefix("v0=")
        .and_then(|digits| hex::decode(digits.as_bytes()))
        .ok_or("it has no v0 signature")?;
    let key = hmac::Key::new(
        hmac::HMAC_SHA256,
        slack.signing_secret.expose().trim().as_bytes(),
    );
    let signed = [b"v0:", timestamp.as_bytes(), b":", body].concat();
    hmac::verify(&key, &signed, &tag).map_err(|_| "its signature is wrong")?;
    if !seen.is_new(tag, now) {
        return Err("it was taken before".into());
    }
    pressed(config, body)
}

fn pressed(config: &Config, body: &[u8]) -> Result<Pressed, String> {
    let form = url::form_urlencoded::parse(body);
    let payload = form.into_iter().find(|(name, _)| name == "payload");
    let payload = payload.ok_or("it has no payload")?.1;
    let payload: Payload = serde_json::from_str(&payload).map_err(|error| error.to_string())?;
    let action = payload.actions.first().ok_or("no button was pressed")?;
    let verdict = match action.action_id.as_str() {
        "approve" => Verdict::Approve,
        "refuse" => Verdict::Refuse,
        other => return Err(format!("{other:?} is no button of ours")),
    };
    let users = config.console.iter().filter_map(|c| c.slack.as_ref());
    let name = users
        .flat_map(|slack| slack.users.get(&payload.user.id))
        .next();
    let name = name.ok_or_else(|| {
        format!(
            "the Slack user {} is nobody here: see [console] slack",
            payload.user.id
        )
    })?;
    let approver = config
        .approvers
        .iter()
        .find(|approver| approver.name == *name);
    Ok(Pressed {
        voter: Voter {
            name: name.clone(),
            groups: approver.map_or_else(Vec::new, |approver| approver.groups.clone()),
            root: false,
            via: "slack",
        },
        value: action.value.clone(),
        verdict,
        response_url: payload.response_url,
    })
}

/// As much of Slack's `block_actions` payload as is used.
#[derive(Deserialize)]
struct Payload {
    user: User,
    actions: Vec<Action>,
    response_url: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: String,
}

#[derive(Deserialize)]
struct Action {
    action_id: String,
    #[serde(default)]
    value: String,
}

impl Seen {
    fn is_new(&mut self, signature: Vec<u8>, now: SystemTime) -> bool {
        // Twice the window: a time may be ahead of ours by one.
        self.0
            .retain(|_, at| now.duration_since(*at).is_ok_and(|age| age < 2 * WINDOW));
        self.0.len() < MAX_SEEN && self.0.insert(signature, now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bundle;
    use crate::secret::Secret;

    const NOW: u64 = 1_531_420_618;

    fn config() -> Config {
        let text = "[[approver]]\nname = \"ada\"\ngroups = [\"dba\"]\n\
            [console]\nlisten = \"127.0.0.1:8443\"\n\
            slack = { signing_secret = { file = \"s\" }, users = { U1 = \"ada\" } }\n";
        let mut bundle = Bundle::from_text("hoop.toml".as_ref(), text);
        let secret = Secret::new("8f742231b10e8888abcd99yyyzzz85a5".into());
        bundle.secrets.insert("file:s".into(), secret);
        Config::from_bundle(&bundle).unwrap()
    }

    fn sign(timestamp: u64, body: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"8f742231b10e8888abcd99yyyzzz85a5");
        let tag = hmac::sign(&key, format!("v0:{timestamp}:{body}").as_bytes());
        let hex = hex::encode(tag);
        format!("v0={hex}")
    }

    fn body(user: &str, action: &str) -> String {
        let payload = format!(
            r#"{{"type":"block_actions","user":{{"id":"{user}"}},"response_url":"https://hooks.slack.com/actions/1","actions":[{{"action_id":"{action}","value":"k3v9t0m2qf"}}]}}"#
        );
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("payload", &payload);
        form.finish()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_signature_is_slacks() {
        // The example of Slack's documentation.
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let tag = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        assert_eq!(sign(1_531_420_618, body), tag);
    }

    #[test]
    fn a_button_is_believed_once_in_time_and_of_whom_the_file_names() {
        let (config, mut seen) = (config(), Seen::default());
        let good = body("U1", "refuse");
        let mut press = |now: u64, signed: &str, body: &str| {
            read(
                &config,
                &mut seen,
                at(now),
                &NOW.to_string(),
                signed,
                body.as_bytes(),
            )
        };
        let signed = sign(NOW, &good);
        let refused = |outcome: Result<Pressed, String>, why: &str| {
            let said = outcome.unwrap_err();
            assert!(said.contains(why), "{said}");
        };
        refused(press(NOW + 301, &signed, &good), "another time");
        refused(press(NOW - 301, &signed, &good), "another time");
        refused(
            press(NOW, &signed, &body("U1", "approve")),
            "signature is wrong",
        );
        refused(press(NOW, "v0=00", &good), "signature is wrong");
        refused(press(NOW, "v0=0g", &good), "no v0 signature");
        let pressed = press(NOW, &signed, &good).unwrap();
        assert_eq!(pressed.voter.name, "ada");
        assert_eq!(pressed.voter.groups, ["dba"]);
        assert_eq!(
            (pressed.verdict, &*pressed.value),
            (Verdict::Refuse, "k3v9t0m2qf")
        );
        refused(press(NOW + 10, &signed, &good), "taken before");
        let written = signed.to_uppercase().replacen("V0=", "v0=", 1);
        refused(press(NOW + 10, &written, &good), "taken before");
        for (body, why) in [
            (body("U2", "approve"), "nobody here"),
            (body("U1", "drop"), "no button of ours"),
            ("payload={}".to_owned(), "missing field"),
            (String::new(), "no payload"),
        ] {
            refused(press(NOW, &sign(NOW, &body), &body), why);
        }
    }
}
