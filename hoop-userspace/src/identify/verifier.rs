//! From a claimed token to an [`Identity`]: the issuer's keys, the checks, and a memory of what
//! was verified, so that a thousand connections with one token cost one verification.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use lru::LruCache;
use ring::digest;

use super::Identity;
use super::ask::Asker;
use super::discovery::Discovery;
use super::error::{IdentityError, Reason};
use super::events::{HookSecret, Report, SetError, Transmitter};
use super::http::Client;
use super::jwt::{self, Unverified};
use super::keys::{Keys, Pace};
use super::mapping;
use super::metrics::Metrics;
use super::obtain::{Obtainer, Proof};
use super::standing::{Bound, Occasion, Standing, Standings};
use crate::config::{Agent, Config, Introspection, Issuer};
use crate::handover::TokenText;
use crate::ids::{AgentName, IssuerName};

/// How far clocks differ at a token's end, at most: a longer tolerance must hide no revocation.
const NEAR: std::time::Duration = std::time::Duration::from_secs(30);
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Verifies tokens against the issuers of one configuration.
pub struct Verifier {
    issuers: BTreeMap<IssuerName, Arc<Known>>,
    agents: BTreeMap<AgentName, Arc<Own>>,
    verified: Mutex<LruCache<Digest, Verified>>,
    metrics: Arc<Metrics>,
}

/// An issuer, and what is known of it.
struct Known {
    issuer: Issuer,
    transmitter: Option<Transmitter>,
    hook: Option<HookSecret>,
    client: Client,
    discovery: Arc<Discovery>,
    keys: Keys,
    standings: Standings,
}

/// What belongs to one agent.
struct Own {
    agent: Agent,
    /// Where the daemon itself obtains its token.
    obtainer: Option<Obtainer>,
    /// Where somebody can ask whether its token still holds.
    asker: Option<Asker>,
}

/// Of the agent's name, its instance and the token: the same token proves nothing for another agent.
pub(super) type Digest = [u8; 32];

struct Verified {
    identity: Arc<Identity>,
    /// Of the keys that it was verified with. When they change it is verified again, so that a
    /// withdrawn key takes its tokens with it.
    generation: u64,
}

/// Whose token it should be.
struct Claimed<'c> {
    agent: &'c Agent,
    known: &'c Known,
    asker: Option<&'c Asker>,
    instance: Option<&'c str>,
    occasion: Occasion,
}

/// An identity that was proved, and how its token stands with the issuer.
#[derive(Clone, Debug)]
pub struct Proved {
    pub identity: Arc<Identity>,
    pub standing: Standing,
    /// How long a revocation of this token may go unnoticed now.
    pub bound: Bound,
}

impl Verifier {
    /// Opens no connection yet. Reads the system's roots, so call it where they can be read.
    pub fn new(config: &Config) -> Result<Self, VerifierError> {
        Self::made(config, Pace::default(), None)
    }

    /// For a configuration that takes the place of another: what did not change keeps its keys,
    /// answers and tokens, so that a reload costs the issuer nothing.
    pub fn after(&self, config: &Config) -> Result<Self, VerifierError> {
        Self::made(config, Pace::default(), Some(self))
    }

    #[cfg(test)]
    pub(super) fn with_pace(config: &Config, pace: Pace) -> Result<Self, VerifierError> {
        Self::made(config, pace, None)
    }

    fn made(config: &Config, pace: Pace, before: Option<&Self>) -> Result<Self, VerifierError> {
        let metrics = before.map_or_else(Arc::default, |before| before.metrics.clone());
        let mut issuers = BTreeMap::new();
        for issuer in config.issuers.values() {
            let same = before.and_then(|before| before.issuers.get(&issuer.name));
            let known = match same.filter(|same| same.issuer == *issuer) {
                Some(same) => same.clone(),
                None => {
                    let known = Known::new(issuer, pace, &metrics);
                    Arc::new(known.map_err(|why| VerifierError::of(issuer, why))?)
                }
            };
            issuers.insert(issuer.name.clone(), known);
        }
        let mut agents = BTreeMap::new();
        for agent in &config.agents {
            let Some(known) = agent.issuer.as_ref().and_then(|i| issuers.get(i)) else {
                continue;
            };
            let same = before.and_then(|before| {
                let same = before.agents.get(&agent.name)?;
                let issuer = before.issuers.get(agent.issuer.as_ref()?)?;
                (same.agent == *agent && Arc::ptr_eq(issuer, known)).then(|| same.clone())
            });
            let own = match same {
                Some(same) => same,
                None => Arc::new(Own::new(agent, known, &metrics).map_err(|why| {
                    VerifierError::of(&known.issuer, format!("for agent `{}`: {why}", agent.name))
                })?),
            };
            agents.insert(agent.name.clone(), own);
        }
        Ok(Self {
            issuers,
            agents,
            verified: Mutex::new(LruCache::new(REMEMBERED)),
            metrics,
        })
    }

    /// What was counted, reloads notwithstanding.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What a Security Event Token reports; `None` if the issuer sends none.
    pub async fn take_event(
        &self,
        issuer: &IssuerName,
        token: &str,
    ) -> Option<Result<Report, SetError>> {
        let transmitter = self.issuers.get(issuer)?.transmitter.as_ref()?;
        Some(transmitter.take(token).await)
    }

    /// What knows the secret of an issuer's hooks; `None` if it sends none.
    pub fn hook(&self, issuer: &IssuerName) -> Option<&HookSecret> {
        self.issuers.get(issuer)?.hook.as_ref()
    }

    /// Asks an issuer for its keys and says how many they are; `None` if there is no such issuer. Some
    /// 10 s at most.
    pub async fn keys_of(&self, issuer: &IssuerName) -> Option<Result<usize, Reason>> {
        let known = self.issuers.get(issuer)?;
        Some(known.keys.get(|_| true).await.map(|set| set.keys.len()))
    }

    /// Whether an issuer that is asked about tokens answers each client that asks: by what the client
    /// is called. Some 10 s at most for each.
    pub async fn introspected(&self, issuer: &IssuerName) -> BTreeMap<String, Result<(), String>> {
        let mut found = BTreeMap::new();
        let of_it = |own: &&Arc<Own>| own.agent.issuer.as_ref() == Some(issuer);
        for own in self.agents.values().filter(of_it) {
            let Some(asker) = &own.asker else { continue };
            let name = asker.introspects.as_ref().map(|(client_id, _)| client_id);
            if name.is_some_and(|name| found.contains_key(name)) {
                continue;
            }
            if let Some((client_id, answer)) = asker.prove().await {
                found.insert(client_id.to_owned(), answer);
            }
        }
        found
    }

    /// The next look at this agent obtains another token, if hoop obtains it.
    pub fn renew(&self, agent: &AgentName) {
        let own = self.agents.get(agent);
        if let Some(obtainer) = own.and_then(|own| own.obtainer.as_ref()) {
            obtainer.forget();
        }
    }

    /// Forgets what was obtained for an agent and said of its tokens: a suspension has ended.
    pub fn forget(&self, agent: &AgentName) {
        let Some(own) = self.agents.get(agent) else {
            return;
        };
        if let Some(obtainer) = &own.obtainer {
            obtainer.forget();
        }
        let issuer = own.agent.issuer.as_ref();
        if let Some(known) = issuer.and_then(|issuer| self.issuers.get(issuer)) {
            known.standings.forget();
        }
    }

    /// Who this is, or exactly why that is not known. `cgroup` is the process's, which tells
    /// instances apart. May ask the issuer for its keys and its word, some 15 s at most; 10 s more
    /// where the token has to be obtained first.
    pub async fn verify(
        &self,
        agent: &Agent,
        token: &TokenText,
        cgroup: &str,
        occasion: Occasion,
    ) -> Result<Proved, IdentityError> {
        let checked = self.check(agent, token, cgroup, occasion).await;
        self.metrics.verified(checked.is_ok());
        checked.map_err(|reason| IdentityError {
            agent: agent.name.clone(),
            reason,
        })
    }

    async fn check(
        &self,
        agent: &Agent,
        token: &TokenText,
        cgroup: &str,
        occasion: Occasion,
    ) -> Result<Proved, Reason> {
        let known = agent
            .issuer
            .as_ref()
            .and_then(|name| self.issuers.get(name));
        let own = self.agents.get(&agent.name);
        let (Some(known), Some(own)) = (known, own) else {
            return Err(Reason::NotConfigured);
        };
        if agent.client_id.is_none() && agent.instance_claim.is_none() {
            return Err(Reason::NotConfigured);
        }
        let claimed = Claimed {
            agent,
            known,
            asker: own.asker.as_ref(),
            instance: mapping::instance_of(agent, cgroup),
            occasion,
        };
        let assertion = match token {
            TokenText::Found(token) => return self.prove(&claimed, token).await,
            TokenText::Missing(why) => return Err(Reason::NoToken(why.clone())),
            TokenText::Obtained => None,
            TokenText::Assertion(assertion) => Some(assertion.as_str()),
        };
        let obtainer = own.obtainer.as_ref().ok_or(Reason::NotConfigured)?;
        let obtain = || async { obtainer.token(assertion).await.map_err(Reason::NotObtained) };
        let token = obtain().await?;
        let proved = self.prove(&claimed, &token).await;
        match proved {
            // The issuer withdrew its key, or ended it earlier than it said: it gives another.
            Err(Reason::UnknownKey { .. } | Reason::Signature | Reason::Expired(_))
                if obtainer.discard(&token) =>
            {
                let token = obtain().await?;
                self.prove(&claimed, &token).await
            }
            other => other,
        }
    }

    async fn prove(&self, claimed: &Claimed<'_>, token: &str) -> Result<Proved, Reason> {
        let Claimed {
            agent,
            known,
            asker,
            instance,
            occasion,
        } = *claimed;
        let digest = digest_of(agent, instance, token);
        let identity = self.identity(claimed, &digest, token).await?;
        let standing = known
            .standings
            .of(&digest, asker, token, &identity, occasion)
            .await;
        let standing = standing.map_err(|reason| match reason {
            // Clocks differ: near its end a token may have ended for the issuer alone.
            Reason::Inactive
                if identity.expires <= SystemTime::now() + known.issuer.skew.min(NEAR) =>
            {
                Reason::Expired(0)
            }
            other => other,
        })?;
        Ok(Proved {
            identity,
            standing,
            bound: match asker {
                Some(_) => known.standings.bound(&digest),
                None => Bound::unasked(),
            },
        })
    }

    /// Whom the token proves by itself.
    async fn identity(
        &self,
        claimed: &Claimed<'_>,
        digest: &Digest,
        token: &str,
    ) -> Result<Arc<Identity>, Reason> {
        let Claimed {
            agent,
            known,
            instance,
            ..
        } = *claimed;
        let issuer = &known.issuer;
        let unverified = Unverified::parse(token, jwt::Kind::Access)?;
        let keys = known.keys.get(|keys| unverified.has_key_in(keys)).await?;
        let now = SystemTime::now();
        if let Some(identity) = self.remembered(digest, keys.generation, issuer, now) {
            return Ok(identity);
        }
        let claims = unverified.verify(&keys, issuer)?;
        let demanded = jwt::check_demands(&claims, agent, instance);
        let claims = jwt::check(&claims, issuer, agent.client_id.as_deref(), now)?;
        demanded?;
        let identity = Arc::new(Identity {
            agent: agent.name.clone(),
            issuer: issuer.name.clone(),
            kind: agent.kind,
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
        self.memory().put(*digest, entry);
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

impl Known {
    fn new(issuer: &Issuer, pace: Pace, metrics: &Arc<Metrics>) -> Result<Self, String> {
        let client = Client::new(issuer.ca.as_deref())?;
        let discovery = Arc::new(Discovery::new(client.clone(), &issuer.identifier));
        let events = &issuer.events;
        let transmitter = events.transmitter.as_ref();
        Ok(Self {
            transmitter: transmitter.map(|from| Transmitter::new(issuer, from, &client)),
            hook: events.hook.as_ref().map(HookSecret::new).transpose()?,
            keys: Keys::new(client.clone(), discovery.clone(), pace),
            standings: Standings::new(issuer, metrics.clone()),
            issuer: issuer.clone(),
            client,
            discovery,
        })
    }
}

impl Own {
    fn new(agent: &Agent, known: &Known, metrics: &Arc<Metrics>) -> Result<Self, String> {
        let obtainer = Obtainer::new(agent, &known.client, &known.discovery, metrics)?;
        let introspects = match &known.issuer.introspection {
            Introspection::Off => None,
            Introspection::Own => obtainer.as_ref().and_then(Obtainer::own_proof),
            Introspection::As { client_id, auth } => {
                Some((client_id.clone(), Arc::new(Proof::new(Some(auth))?)))
            }
        };
        let userinfo = known.issuer.userinfo;
        let asker = (introspects.is_some() || userinfo).then(|| Asker {
            client: known.client.clone(),
            discovery: known.discovery.clone(),
            introspects,
            demanded: matches!(known.issuer.introspection, Introspection::As { .. }),
            userinfo,
        });
        Ok(Self {
            agent: agent.clone(),
            obtainer,
            asker,
        })
    }
}

/// No verifier can be made for an issuer: its `ca` or the TLS library failed.
#[derive(Debug, thiserror::Error)]
#[error("issuer `{issuer}` cannot be used: {why}")]
pub struct VerifierError {
    pub issuer: IssuerName,
    pub why: String,
}

impl VerifierError {
    fn of(issuer: &Issuer, why: String) -> Self {
        Self {
            issuer: issuer.name.clone(),
            why,
        }
    }
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
