//! The stage as a whole: policies from text, requests in, decisions out.

mod corpus;
mod documented;
mod evasion;
mod exec;
mod masks;
mod objects;
mod policies;
mod requests;
mod ssh;
mod statements;
mod words;

use std::path::Path;
use std::sync::Arc;

use crate::attribute::Process;
use crate::config::{Bundle, Config, Mode, PolicyFile};
use crate::identify::Identity;
use crate::ids::{Epochs, SessionId};
use crate::terminate::SqlText;

use crate::decide::*;

/// A configuration with these packs, policies and masks.
fn config(packs: &[&str], policies: &[(&str, &str)], masks: &[&str]) -> Config {
    let mut text = String::from(
        "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
         login = { user = \"hoop_orders\" }\n",
    );
    if !masks.is_empty() {
        text +=
            &format!("[[mask]]\nresource = \"orders\"\ncolumns = {masks:?}\nhow = \"redact\"\n");
    }
    text += &format!("[policy]\nuse = {packs:?}\n");
    let bundle = Bundle::from_text(Path::new("hoop.toml"), &text);
    let mut config = Config::from_bundle(&bundle).unwrap();
    config.policy.files = policies
        .iter()
        .map(|(name, text)| PolicyFile {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    config
}

fn subject() -> Subject {
    Subject {
        session: SessionId::from([7; 16]),
        identity: Arc::new(Identity::for_test("billing-bot", &["bots"])),
        process: Arc::new(Process {
            comm: "psql".into(),
            uid: 1000,
            executable: Some("/usr/bin/psql".into()),
            unit: Some("billing-bot.service".into()),
            ..Process::default()
        }),
        resource: "orders".into(),
        database: "appdb".into(),
        login: "hoop_orders".into(),
        epochs: Epochs {
            policy: 3,
            identity: 4,
        },
        mode: Mode::Enforce,
        derived: Arc::default(),
        activity: Default::default(),
        objects: Arc::default(),
        unseen: Arc::default(),
    }
}

/// The same agent on a host.
pub(super) fn on_host() -> Subject {
    Subject {
        resource: "web".into(),
        database: "web1.prod.internal".into(),
        login: "deploy".into(),
        ..subject()
    }
}

/// The same agent on a cluster.
pub(super) fn on_cluster() -> Subject {
    Subject {
        resource: "prod".into(),
        database: "api.prod.internal".into(),
        login: "hoop:billing-bot".into(),
        ..subject()
    }
}

fn text(sql: &str) -> Arc<SqlText> {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(sql.as_bytes());
    Arc::new(SqlText {
        text: sql.into(),
        hash: hasher.finish(),
    })
}

pub(super) fn decider(packs: &[&str], policies: &[(&str, &str)], masks: &[&str]) -> Decider {
    Decider::new(&config(packs, policies, masks)).unwrap()
}

fn verdict(decider: &Decider, sql: &str) -> &'static str {
    let explained = decider.explain(&subject(), text(sql));
    match (explained.refusal, explained.asks) {
        (None, _) => "allow",
        (Some(_), true) => "ask",
        (Some(_), false) => "refuse",
    }
}
