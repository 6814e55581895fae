//! From a claimed token to an [`Identity`]: the issuer's keys, the checks, and a memory of what
//! was verified, so that a thousand connections with one token cost one verification.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use lru::LruCache;
use ring::digest;

use super::Identity;
use super::error::{IdentityError, Reason};
use super::jwt::{self, Unverified};
use super::keys::{Keys, Pace};
use super::mapping;
use super::obtain::Obtainer;
use crate::config::{Agent, Config, Issuer};
use crate::handover::TokenText;
use crate::ids::{AgentName, IssuerName};

const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Verifies tokens against the issuers of one configuration.
pub struct Verifier {
    issuers: BTreeMap<IssuerName, (Issuer, Keys)>,
    /// Of the agents whose tokens the daemon itself obtains.
    obtainers: BTreeMap<AgentName, Obtainer>,
    verified: Mutex<LruCache<Digest, Verified>>,
}

/// Of the agent's name, its instance and the token: the same token proves nothing for another agent.
type Digest = [u8; 32];

struct Verified {
    identity: Arc<Identity>,
    /// Of the keys that it was verified with. When they change it is verified again, so that a
    /// withdrawn key takes its tokens with it.
    generation: u64,
}

/// Whose token it should be.
struct Claimed<'c> {
    agent: &'c Agent,
    issuer: &'c Issuer,
    instance: Option<&'c str>,
}

impl Verifier {
    /// Opens no connection yet. Reads the system's roots, so call it where they can be read.
    pub fn new(config: &Config) -> Result<Self, VerifierError> {
        Self::with_pace(config, Pace::default())
    }

    pub(super) fn with_pace(config: &Config, pace: Pace) -> Result<Self, VerifierError> {
        let issuers = config.issuers.values().map(|issuer| {
            let keys = Keys::new(issuer, pace).map_err(|why| VerifierError {
                issuer: issuer.name.clone(),
                why,
            })?;
            Ok((issuer.name.clone(), (issuer.clone(), keys)))
        });
        let mut obtainers = BTreeMap::new();
        for agent in &config.agents {
            let issuer = agent.issuer.as_ref().and_then(|i| config.issuers.get(i));
            let Some(issuer) = issuer else { continue };
            let obtainer = Obtainer::new(agent, issuer).map_err(|why| VerifierError {
                issuer: issuer.name.clone(),
                why: format!("for agent `{}`: {why}", agent.name),
            })?;
            obtainers.extend(obtainer.map(|obtainer| (agent.name.clone(), obtainer)));
        }
        Ok(Self {
            issuers: issuers.collect::<Result<_, _>>()?,
            obtainers,
            verified: Mutex::new(LruCache::new(REMEMBERED)),
        })
    }

    /// Who this is, or exactly why that is not known. `cgroup` is the process's, which tells
    /// instances apart. May ask the issuer, for at most 10 s; 10 s more where the token has to be
    /// obtained first.
    pub async fn verify(
        &self,
        agent: &Agent,
        token: &TokenText,
        cgroup: &str,
    ) -> Result<Arc<Identity>, IdentityError> {
        self.check(agent, token, cgroup)
            .await
            .map_err(|reason| IdentityError {
                agent: agent.name.clone(),
                reason,
            })
    }

    async fn check(
        &self,
        agent: &Agent,
        token: &TokenText,
        cgroup: &str,
    ) -> Result<Arc<Identity>, Reason> {
        let issuer = agent
            .issuer
            .as_ref()
            .and_then(|name| self.issuers.get(name));
        let Some((issuer, keys)) = issuer else {
            return Err(Reason::NotConfigured);
        };
        if agent.client_id.is_none() && agent.instance_claim.is_none() {
            return Err(Reason::NotConfigured);
        }
        let claimed = Claimed {
            agent,
            issuer,
            instance: agent
                .instance_claim
                .as_ref()
                .and_then(|_| mapping::instance(&agent.cgroup, cgroup)),
        };
        let assertion = match token {
            TokenText::Found(token) => return self.prove(&claimed, keys, token).await,
            TokenText::Missing(why) => return Err(Reason::NoToken(why.clone())),
            TokenText::Obtained => None,
            TokenText::Assertion(assertion) => Some(assertion.as_str()),
        };
        let obtainer = self
            .obtainers
            .get(&agent.name)
            .ok_or(Reason::NotConfigured)?;
        let obtain = || async { obtainer.token(assertion).await.map_err(Reason::NotObtained) };
        let token = obtain().await?;
        let proved = self.prove(&claimed, keys, &token).await;
        match proved {
            // The issuer withdrew its key, or ended it earlier than it said: it gives another.
            Err(Reason::UnknownKey { .. } | Reason::Signature | Reason::Expired(_))
                if obtainer.discard(&token) =>
            {
                let token = obtain().await?;
                self.prove(&claimed, keys, &token).await
            }
            other => other,
        }
    }

    async fn prove(
        &self,
        claimed: &Claimed<'_>,
        keys: &Keys,
        token: &str,
    ) -> Result<Arc<Identity>, Reason> {
        let Claimed {
            agent,
            issuer,
            instance,
        } = *claimed;
        let unverified = Unverified::parse(token)?;
        let keys = keys.get(|keys| unverified.has_key_in(keys)).await?;
        let now = SystemTime::now();
        let digest = digest_of(agent, instance, token);
        if let Some(identity) = self.remembered(&digest, keys.generation, issuer, now) {
            return Ok(identity);
        }
        let claims = unverified.verify(&keys, issuer)?;
        let demanded = jwt::check_demands(&claims, agent, instance);
        let claims = jwt::check(&claims, issuer, agent.client_id.as_deref(), now)?;
        demanded?;
        let identity = Arc::new(Identity {
            agent: agent.name.clone(),
            issuer: issuer.name.clone(),
            subject: claims.subject,
            client_id: claims.client_id,
            groups: claims.groups,
            scopes: claims.scopes,
            expires: claims.expires,
            verified: true,
        });
        let entry = Verified {
            identity: Arc::clone(&identity),
            generation: keys.generation,
        };
        self.memory().put(digest, entry);
        Ok(identity)
    }

    fn remembered(
        &self,
        digest: &Digest,
        generation: u64,
        issuer: &Issuer,
        now: SystemTime,
    ) -> Option<Arc<Identity>> {
        let mut memory = self.memory();
        let entry = memory.get(digest)?;
        let holds = entry.generation == generation && now < entry.identity.expires + issuer.skew;
        if !holds {
            memory.pop(digest);
            return None;
        }
        Some(Arc::clone(&entry.identity))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, LruCache<Digest, Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn remembers(&self) -> usize {
        self.memory().len()
    }
}

/// No verifier can be made for an issuer: its `ca` or the TLS library failed.
#[derive(Debug, thiserror::Error)]
#[error("issuer `{issuer}` cannot be used: {why}")]
pub struct VerifierError {
    pub issuer: IssuerName,
    pub why: String,
}

fn digest_of(agent: &Agent, instance: Option<&str>, token: &str) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(agent.name.as_str().as_bytes());
    context.update(b"\0");
    // No cgroup's name has a zero byte either.
    context.update(instance.unwrap_or_default().as_bytes());
    context.update(b"\0");
    context.update(token.as_bytes());
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
