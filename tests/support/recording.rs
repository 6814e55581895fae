//! One session's recording, as `hoop replay --json` and `hoop verify` tell it.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::ran::Ran;
use crate::world::World;

pub struct Recording {
    pub session: Value,
    pub events: Vec<Value>,
    /// `hoop replay --json` as it was printed.
    pub raw: String,
    /// `hoop replay` for people.
    pub shown: String,
    /// How `hoop verify` ended.
    pub verified: Ran,
}

/// One statement and what was decided about it.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub text: String,
    /// `allow` or `refuse`.
    pub verdict: String,
}

impl Recording {
    pub fn read(world: &World, session: &Value) -> Result<Self> {
        let id = session["session"]
            .as_str()
            .context("a session without an id")?;
        let json = world.hoop(&["replay", id, "--json"])?.ok()?;
        Ok(Self {
            session: session.clone(),
            events: json.json_lines()?,
            raw: json.stdout,
            shown: world.hoop(&["replay", id])?.ok()?.stdout,
            verified: world.hoop(&["verify", id])?,
        })
    }

    /// Statements that were run or refused, in order. Preparing is no running.
    pub fn statements(&self) -> Vec<Exchange> {
        let mut found = Vec::new();
        for event in &self.events {
            let verdict = event["verdict"].as_str().unwrap_or_default().to_owned();
            let ran = event["statements"].as_array().into_iter().flatten();
            let ran = ran.filter(|s| s["step"] != "prepare");
            let refused = (event["event"] == "refusal").then_some(event);
            for text in ran.chain(refused).filter_map(|s| s["text"].as_str()) {
                found.push(Exchange {
                    text: text.to_owned(),
                    verdict: verdict.clone(),
                });
            }
        }
        found
    }
}
