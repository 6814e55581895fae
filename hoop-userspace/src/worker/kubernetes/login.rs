//! As whom hoop speaks to an API server, and by which token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::super::connection::Connection;
use super::super::refusals;
use super::super::rules::Shared;
use crate::config::{KubernetesCredential, Resource};
use crate::decide::Refusal;
use crate::forward::kubernetes::{Bearer, Found};
use crate::handover::TokenText;
use crate::identify::Identity;
use crate::ids::{ResourceName, SessionId};
use crate::terminate::kubernetes::Added;

/// A token that was found is used for so long before it is looked for again.
const FOUND_HOLDS: Duration = Duration::from_secs(10);

impl Connection {
    /// Where the token for requests comes from; none where a certificate proves hoop.
    pub(super) fn bearer(
        &self,
        resource: &Resource,
        credential: &KubernetesCredential,
    ) -> Option<Arc<dyn Bearer>> {
        let whose = match credential {
            KubernetesCredential::Certificate => return None,
            KubernetesCredential::Token(_) => Whose::Resource(resource.name.clone()),
            KubernetesCredential::Agent => Whose::Agent(self.handover.agent.clone()),
        };
        // What the connection came with counts until it is looked for again.
        let known = match (&whose, &self.handover.token) {
            (Whose::Agent(_), TokenText::Found(token)) => Some((token.clone(), Instant::now())),
            _ => None,
        };
        Some(Arc::new(Credential {
            shared: self.shared.clone(),
            whose: Arc::new(whose),
            known: Arc::new(Mutex::new(known)),
        }))
    }
}

/// As whom the API server is asked, for recordings and policies.
pub(super) fn login(resource: &Resource, identity: Option<&Identity>) -> String {
    match identity {
        Some(identity) => expanded(&resource.login.user, identity),
        None => resource.login.user.clone(),
    }
}

fn expanded(user: &str, identity: &Identity) -> String {
    user.replace("{agent}", identity.agent().as_str())
        .replace("{subject}", identity.subject())
        .replace("{client_id}", identity.client_id())
}

/// For whom hoop speaks: the cluster's own audit log names the agent and the session.
pub(super) fn added(
    resource: &Resource,
    identity: &Identity,
    id: SessionId,
) -> Result<Added, Refusal> {
    let Some(impersonate) = resource
        .kubernetes
        .as_ref()
        .and_then(|kubernetes| kubernetes.impersonate.as_ref())
    else {
        return Ok(Added::new());
    };
    let mut added = Added::new();
    let mut add = |name: &'static str, value: &str| -> Result<(), Refusal> {
        let unusable = || refusals::unnameable(value);
        // Anything else is read in one way here and in another there.
        let plain = !value.is_empty() && value.bytes().all(|b| (b' '..=b'~').contains(&b));
        let header = HeaderValue::from_str(value).ok().filter(|_| plain);
        added.push((HeaderName::from_static(name), header.ok_or_else(unusable)?));
        Ok(())
    };
    add("impersonate-user", &expanded(&impersonate.user, identity))?;
    for group in &impersonate.groups {
        add("impersonate-group", group)?;
    }
    if let Some(prefix) = &impersonate.agent_groups {
        for group in identity.groups() {
            add("impersonate-group", &format!("{prefix}{group}"))?;
        }
    }
    add("impersonate-extra-hoop-agent", identity.agent().as_str())?;
    add("impersonate-extra-hoop-session", &id.to_string())?;
    Ok(added)
}

enum Whose {
    Resource(ResourceName),
    Agent(Option<crate::ids::AgentName>),
}

/// A token, and when it was found.
type Token = (Zeroizing<String>, Instant);

/// Tokens as the keeper finds them.
struct Credential {
    shared: Arc<Shared>,
    whose: Arc<Whose>,
    known: Arc<Mutex<Option<Token>>>,
}

impl Bearer for Credential {
    fn token(&self) -> Found {
        let (shared, whose, known) = (self.shared.clone(), self.whose.clone(), self.known.clone());
        Box::pin(async move {
            // One look for all that wait.
            let mut known = known.lock().await;
            if let Some((token, since)) = &*known
                && since.elapsed() < FOUND_HOLDS
            {
                return Ok(token.clone());
            }
            let found = match &*whose {
                Whose::Resource(name) => shared.identities.login(&shared.tell, name).await,
                Whose::Agent(Some(agent)) => shared.identities.token_of(&shared.tell, agent).await,
                Whose::Agent(None) => None,
            };
            match found {
                Some(TokenText::Found(token)) => {
                    *known = Some((token.clone(), Instant::now()));
                    Ok(token)
                }
                Some(TokenText::Missing(why)) => match (&*whose, &*known) {
                    // A variable is read once, when the process connects.
                    (Whose::Agent(_), Some((token, _))) => Ok(token.clone()),
                    _ => Err(why),
                },
                Some(TokenText::Obtained | TokenText::Assertion(_)) => Err(
                    "as_agent needs a token that hoop finds (file, credential, env, exec), not one that it obtains".into(),
                ),
                None => Err("the keeper does not answer".into()),
            }
        })
    }
}
