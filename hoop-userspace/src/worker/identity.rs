//! Whether an identity that let a session in still holds.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::live::tell;
use super::rules::Shared;
use crate::handover::TokenText;
use crate::identify::Identity;
use crate::ids::AgentName;
use crate::terminate::End;

/// How often a live session's token is verified again. What is remembered makes it cheap; a key
/// that the issuer withdrew, or a mapping that changed, shows here.
const RECHECK: Duration = Duration::from_secs(20);

/// Ends the session when its identity does. Runs beside it; dropped with it.
pub async fn watch(
    shared: Arc<Shared>,
    agent: AgentName,
    identity: Arc<Identity>,
    token: TokenText,
    cgroup: &str,
    ends: watch::Sender<Option<End>>,
) {
    if !identity.verified() {
        return std::future::pending().await;
    }
    let why = tokio::select! {
        why = expired(&shared, &identity) => why,
        why = disowned(&shared, &agent, &token, cgroup) => why,
    };
    tell(&ends, End::Identity(why));
}

async fn expired(shared: &Shared, identity: &Identity) -> String {
    let rules = shared.rules();
    let skew = rules
        .config
        .issuers
        .get(identity.issuer())
        .map_or(Duration::ZERO, |i| i.skew);
    let last = identity.expires() + skew;
    // In steps, because the wall clock may be set.
    while let Ok(left) = last.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.clamp(Duration::from_millis(10), Duration::from_secs(30))).await;
    }
    "its token has expired".into()
}

async fn disowned(shared: &Shared, agent: &AgentName, token: &TokenText, cgroup: &str) -> String {
    loop {
        tokio::time::sleep(RECHECK).await;
        let rules = shared.rules();
        let Some(agent) = rules.config.agents.iter().find(|a| a.name == *agent) else {
            return "the agent is no longer configured".into();
        };
        // Boxed, because it seldom runs and the task would hold its room all the time.
        match Box::pin(rules.verifier.verify(agent, token, cgroup)).await {
            Err(error) if !error.is_passing() => return error.reason.to_string(),
            // An issuer that cannot be asked takes nothing away before the token expires.
            _ => {}
        }
    }
}
