//! Who connects, and whether they still are who they were: suspension, verification, what
//! `hoop status` says of it, and the watches that end sessions.

mod tokens;
mod watch;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lru::LruCache;
use tokio::sync::{mpsc, watch as channel};

pub use watch::{Claim, Watching, watch};

use super::rules::Shared;
use crate::config::{Agent, Mode};
use crate::handover::{AgentStanding, FromWorker, TokenText};
use crate::identify::{
    By, IdentityError, Occasion, Proved, Reason, Standing, Suspension, Suspensions, instance_of,
};
use crate::ids::{AgentName, ResourceName};

/// Agents and instances whose last outcome is kept.
const OUTCOMES: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// What the worker knows of its agents' identities; it outlives reloads.
pub struct Identities {
    suspended: channel::Sender<Arc<Suspensions>>,
    /// Counts what makes every answer so far doubtful.
    alarms: channel::Sender<u64>,
    outcomes: Mutex<LruCache<(AgentName, Option<String>), AgentStanding>>,
    watches: watch::Watches,
    tokens: tokens::Requests,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            suspended: channel::Sender::default(),
            alarms: channel::Sender::default(),
            outcomes: Mutex::new(LruCache::new(OUTCOMES)),
            watches: watch::Watches::default(),
            tokens: tokens::Requests::default(),
        }
    }
}

impl Identities {
    /// Who is suspended and is so no more by this list.
    pub fn gone(&self, suspensions: &Suspensions) -> Vec<AgentName> {
        let before = self.suspended.borrow();
        let gone = before.iter().filter(|known| {
            let instance = known.instance.as_deref();
            suspensions.find(&known.agent, instance).is_none()
        });
        gone.map(|known| known.agent.clone()).collect()
    }

    /// The keeper's word on who is suspended. Whoever it changes for is looked at again.
    pub fn set_suspended(&self, suspensions: Suspensions) {
        let before = self.suspended.send_replace(Arc::new(suspensions));
        if before != *self.suspended.borrow() {
            self.alarm();
        }
    }

    /// Has every live identity looked at anew, past what is remembered.
    pub fn alarm(&self) {
        self.alarms.send_modify(|count| *count += 1);
    }

    /// The keeper's answer to a question for a token.
    pub fn token(&self, request: u64, token: TokenText) {
        self.tokens.answered(request, token);
    }

    /// What the agent's source holds now; `None` if the keeper does not say.
    pub async fn token_of(
        &self,
        tell: &mpsc::Sender<FromWorker>,
        agent: &AgentName,
    ) -> Option<TokenText> {
        self.tokens.ask(tell, agent).await
    }

    /// The same of the token that a resource's login has.
    pub async fn login(
        &self,
        tell: &mpsc::Sender<FromWorker>,
        resource: &ResourceName,
    ) -> Option<TokenText> {
        self.tokens.ask_login(tell, resource).await
    }

    /// What is known of each agent, for `hoop status`.
    pub fn list(&self) -> Vec<AgentStanding> {
        let mut list: Vec<_> = self.outcomes().iter().map(|(_, o)| o.clone()).collect();
        list.sort_by(|a, b| (&a.agent, &a.instance).cmp(&(&b.agent, &b.instance)));
        list
    }

    /// Resolves when this agent is suspended. In observe mode only an operator's word counts.
    pub async fn until_suspended(&self, agent: &Agent, cgroup: &str) -> Reason {
        let mut suspended = self.suspended.subscribe();
        loop {
            let found = suspension(&suspended.borrow_and_update(), agent, cgroup);
            if let Some(reason) = found {
                return reason;
            }
            // The sender is ours: it cannot be gone.
            let _ = suspended.changed().await;
        }
    }

    fn outcomes(&self) -> MutexGuard<'_, LruCache<(AgentName, Option<String>), AgentStanding>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Who this is, or exactly why that is not known. A token that its issuer calls inactive
    /// suspends the agent.
    pub async fn identify(
        &self,
        agent: &Agent,
        token: &TokenText,
        cgroup: &str,
        occasion: Occasion,
    ) -> Result<Proved, IdentityError> {
        let suspended = self.identities.suspended.borrow().clone();
        let proved = match suspension(&suspended, agent, cgroup) {
            Some(reason) => Err(IdentityError {
                agent: agent.name.clone(),
                reason,
            }),
            None => {
                let verifier = self.rules().verifier.clone();
                verifier.verify(agent, token, cgroup, occasion).await
            }
        };
        if let Err(error) = &proved
            && error.reason == Reason::Inactive
        {
            self.suspend(agent, cgroup, By::Issuer, error.reason.to_string());
        }
        self.keep(agent, cgroup, &proved);
        proved
    }

    /// Suspends the agent, or the instance that this cgroup is.
    fn suspend(&self, agent: &Agent, cgroup: &str, by: By, why: String) {
        let instance = instance_of(agent, cgroup).map(str::to_owned);
        self.suspended(agent, instance, by, why);
    }

    /// Suspends the agent with all its instances.
    pub fn suspend_all(&self, agent: &Agent, by: By, why: String) {
        self.suspended(agent, None, by, why);
    }

    /// Here and now; the keeper makes it last.
    fn suspended(&self, agent: &Agent, instance: Option<String>, by: By, why: String) {
        let suspension = Suspension {
            agent: agent.name.clone(),
            instance,
            since: SystemTime::now(),
            by,
            why,
        };
        let mut new = false;
        self.identities.suspended.send_if_modified(|all| {
            let mut more = Suspensions::clone(all);
            new = more.add(suspension.clone());
            if new {
                *all = Arc::new(more);
            }
            new
        });
        if !new {
            return;
        }
        tracing::warn!(agent = %suspension.agent, instance = suspension.instance, why = suspension.why, "agent suspended");
        self.rules().verifier.metrics().suspended();
        self.identities.alarm();
        let tell = self.tell.clone();
        // It must not be lost where the keeper is far behind.
        tokio::spawn(async move { tell.send(FromWorker::Suspend(suspension)).await });
    }

    fn keep(&self, agent: &Agent, cgroup: &str, proved: &Result<Proved, IdentityError>) {
        let instance = instance_of(agent, cgroup).map(str::to_owned);
        let millis = |within: Duration| u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let mut standing = AgentStanding {
            agent: agent.name.clone(),
            instance: instance.clone(),
            looked_at: SystemTime::now(),
            kind: agent.kind,
            subject: None,
            client_id: None,
            expires: None,
            confirmed: None,
            bound: None,
            note: None,
            refused: None,
        };
        match proved {
            Ok(proved) => {
                standing.subject = Some(proved.identity.subject().to_owned());
                standing.client_id = Some(proved.identity.client_id().to_owned());
                standing.expires = Some(proved.identity.expires());
                standing.confirmed = match &proved.standing {
                    Standing::Confirmed { at } | Standing::Grace { confirmed: at, .. } => Some(*at),
                    Standing::Unasked => None,
                };
                standing.bound = proved.bound.within.map(millis);
                standing.note = proved.bound.why.clone();
            }
            Err(error) => standing.refused = Some(error.reason.to_string()),
        }
        let key = (agent.name.clone(), instance);
        self.identities.outcomes().put(key, standing);
    }
}

/// Why this agent may do nothing, if that is so. Observe mode lets pass what would have been
/// refused, and so what the issuer takes away; an operator who suspends means it.
fn suspension(all: &Suspensions, agent: &Agent, cgroup: &str) -> Option<Reason> {
    let found = all.find(&agent.name, instance_of(agent, cgroup))?;
    (agent.mode == Mode::Enforce || found.by == By::Operator).then(|| found.reason())
}
