//! Watching the identities under which sessions live.
//!
//! One task watches for all sessions of an agent (or of one instance, or of one process's token): a
//! thousand idle sessions cost one question. It looks at what the agent's source holds *now*, so a
//! rotated token takes over and sessions outlive the token that they began with; a token that was
//! revoked, or a source that gives somebody else's, ends them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ring::digest::{SHA256, digest};
use tokio::sync::watch;

use super::super::rules::Shared;
use crate::config::{Agent, TokenSource};
use crate::handover::TokenText;
use crate::identify::{Identity, Occasion, Proved, Reason, Standing, TOLERANCE, instance_of};
use crate::ids::AgentName;

/// Where the issuer is not asked, the source and the keys are looked at this often.
const UNASKED: Duration = Duration::from_secs(20);
/// However short a token's life is.
const SHORTEST: Duration = Duration::from_millis(200);

/// What a connection brought to prove who it is.
#[derive(Clone)]
pub struct Claim {
    pub agent: AgentName,
    pub cgroup: String,
    pub token: TokenText,
}

/// Who is watched together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    agent: AgentName,
    instance: Option<String>,
    /// Of the token, where each process has its own.
    token: Option<[u8; 32]>,
}

/// How an identity stands, beside who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Why it holds no more.
    pub lost: Option<String>,
    /// Why it holds only for the grace that the configuration gives.
    pub grace: Option<String>,
}

/// One session's view of its identity.
pub struct Watching {
    pub identity: watch::Receiver<Arc<Identity>>,
    pub held: watch::Receiver<Held>,
}

#[derive(Default)]
pub struct Watches(Mutex<HashMap<Key, Arc<Watched>>>);

struct Watched {
    identity: watch::Sender<Arc<Identity>>,
    held: watch::Sender<Held>,
}

impl Watches {
    fn all(&self) -> MutexGuard<'_, HashMap<Key, Arc<Watched>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes this watch away if nobody looks at it; says whether it did. Another may stand in its
    /// place by now.
    fn leave(&self, key: &Key, own: &Arc<Watched>) -> bool {
        let mut all = self.all();
        let unwatched = own.held.receiver_count() == 0;
        if unwatched {
            remove(&mut all, key, own);
        }
        unwatched
    }

    fn remove(&self, key: &Key, own: &Arc<Watched>) {
        remove(&mut self.all(), key, own);
    }
}

fn remove(all: &mut HashMap<Key, Arc<Watched>>, key: &Key, own: &Arc<Watched>) {
    if all.get(key).is_some_and(|known| Arc::ptr_eq(known, own)) {
        all.remove(key);
    }
}

/// Watches an identity that was proved a moment ago.
pub fn watch(shared: &Arc<Shared>, agent: &Agent, claim: &Claim, proved: &Proved) -> Watching {
    let key = Key::of(agent, claim);
    let mut all = shared.identities.watches.all();
    let known = all.get(&key).filter(|watched| {
        let same = is_same(&watched.identity.borrow(), &proved.identity);
        same && watched.held.borrow().lost.is_none()
    });
    let watched = match known {
        Some(known) => known.clone(),
        None => {
            let watched = Arc::new(Watched {
                identity: watch::Sender::new(proved.identity.clone()),
                held: watch::Sender::default(),
            });
            all.insert(key.clone(), watched.clone());
            let keeping = keep(shared.clone(), key, claim.clone(), watched.clone());
            tokio::spawn(keeping);
            watched
        }
    };
    Watching {
        identity: watched.identity.subscribe(),
        held: watched.held.subscribe(),
    }
}

impl Key {
    fn of(agent: &Agent, claim: &Claim) -> Self {
        let of_process = match (&agent.token, &claim.token) {
            (Some(TokenSource::Env(_)), TokenText::Found(token)) => Some(token),
            _ => None,
        };
        Self {
            agent: agent.name.clone(),
            instance: instance_of(agent, &claim.cgroup).map(str::to_owned),
            token: of_process.map(|token| {
                let mut hash = [0; 32];
                hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
                hash
            }),
        }
    }
}

async fn keep(shared: Arc<Shared>, key: Key, mut claim: Claim, watched: Arc<Watched>) {
    let mut alarms = shared.identities.alarms.subscribe();
    let mut pause = pause(&shared, &claim.agent, &watched.identity.borrow());
    // When it was last found to hold.
    let mut good = Instant::now();
    loop {
        let occasion = tokio::select! {
            () = tokio::time::sleep(pause) => Occasion::Living,
            _ = alarms.changed() => Occasion::Alarm,
        };
        if shared.identities.watches.leave(&key, &watched) {
            return;
        }
        match look(&shared, &mut claim, &watched, occasion, &mut good).await {
            Ok(next) => pause = next,
            Err(lost) => {
                // Whoever comes next is watched anew.
                shared.identities.watches.remove(&key, &watched);
                watched.held.send_modify(|held| held.lost = Some(lost));
                return;
            }
        }
    }
}

/// Looks once; returns the pause before the next look, or why the identity is lost.
async fn look(
    shared: &Arc<Shared>,
    claim: &mut Claim,
    watched: &Watched,
    occasion: Occasion,
    good: &mut Instant,
) -> Result<Duration, String> {
    let rules = shared.rules();
    let agent = rules.config.agents.iter().find(|a| a.name == claim.agent);
    let Some(agent) = agent else {
        return Err("the agent is no longer configured".into());
    };
    let now = current(shared, agent, claim).await;
    let identified = shared
        .identify(agent, &claim.token, &claim.cgroup, occasion)
        .await;
    let before = watched.identity.borrow().clone();
    match identified {
        Ok(proved) if !is_same(&before, &proved.identity) => Err(format!(
            "its token source now gives a token of {:?}",
            proved.identity.subject()
        )),
        Ok(proved) => {
            *good = Instant::now();
            let grace = match &proved.standing {
                Standing::Grace { why, .. } => Some(why.clone()),
                _ => None,
            };
            watched.held.send_if_modified(|held| {
                let changed = held.grace != grace;
                held.grace = grace;
                changed
            });
            let next = pause(shared, &claim.agent, &proved.identity);
            watched.identity.send_if_modified(|identity| {
                let changed = **identity != *proved.identity;
                *identity = proved.identity;
                changed
            });
            // Nobody may be asked about this token: look less often.
            Ok(match proved.standing {
                Standing::Unasked => next.max(UNASKED.min(left(shared, &before))),
                _ => next,
            })
        }
        // What cannot be renewed just now holds as long as an issuer may be away, and no longer than
        // its token.
        Err(error) if matches!(error.reason, Reason::NotObtained(_)) => {
            let issuer = rules.config.issuers.get(before.issuer());
            let away = issuer.and_then(|i| i.grace).unwrap_or(TOLERANCE);
            match left(shared, &before) {
                Duration::ZERO => Err(format!("its token has expired, and {}", error.reason)),
                _ if good.elapsed() >= away => Err(error.reason.to_string()),
                _ => Ok(pause(shared, &claim.agent, &before)),
            }
        }
        Err(error) => {
            let gone = now.map_or_else(String::new, |why| format!(" ({why})"));
            Err(format!("{}{gone}", error.reason))
        }
    }
}

/// Takes what the agent's source holds now. A source that holds nothing leaves the token that there
/// was, until it ends; what is wrong with it is returned.
async fn current(shared: &Shared, agent: &Agent, claim: &mut Claim) -> Option<String> {
    match agent.token {
        // What a process was started with never changes, and hoop asks the issuer by itself.
        None | Some(TokenSource::Env(_) | TokenSource::ClientCredentials { .. }) => None,
        Some(_) => match shared
            .identities
            .tokens
            .ask(&shared.tell, &agent.name)
            .await?
        {
            TokenText::Missing(why) => Some(why),
            token => {
                claim.token = token;
                None
            }
        },
    }
}

/// The same principal; its token, groups and scopes may have changed.
fn is_same(before: &Identity, now: &Identity) -> bool {
    before.issuer() == now.issuer()
        && before.subject() == now.subject()
        && before.client_id() == now.client_id()
}

fn pause(shared: &Shared, agent: &AgentName, identity: &Identity) -> Duration {
    let rules = shared.rules();
    let issuer = rules.config.agents.iter().find(|a| a.name == *agent);
    let issuer = issuer.and_then(|agent| rules.config.issuers.get(agent.issuer.as_ref()?));
    let recheck = issuer.map_or(UNASKED, |issuer| issuer.recheck);
    recheck.min(left(shared, identity)).max(SHORTEST)
}

/// How long the identity's token holds by itself, the clock's tolerance included.
fn left(shared: &Shared, identity: &Identity) -> Duration {
    let rules = shared.rules();
    let issuer = rules.config.issuers.get(identity.issuer());
    let skew = issuer.map_or(Duration::ZERO, |issuer| issuer.skew);
    let ends = identity.expires() + skew;
    ends.duration_since(SystemTime::now()).unwrap_or_default()
}
