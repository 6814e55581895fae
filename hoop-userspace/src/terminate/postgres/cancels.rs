//! Which session a CancelRequest means. Clients are given the server's process id, which they
//! compare with what SQL and notifications tell, and a key of hoop's own, so that a request is good
//! here alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;

use crate::ids::AgentName;

/// The sessions of a worker that can be cancelled. Clones share one registry.
#[derive(Clone, Default)]
pub struct Cancels(Arc<Mutex<HashMap<Id, Entry>>>);

/// Process id and key: two servers may count alike.
type Id = (u32, u32);

struct Entry {
    agent: AgentName,
    signal: mpsc::Sender<()>,
}

/// A session's place in the registry; it leaves when this is dropped.
pub struct Registration {
    pub(super) pid: u32,
    pub(super) key: u32,
    pub(super) asked: mpsc::Receiver<()>,
    registry: Cancels,
}

/// The system has no randomness, or no key is free.
#[derive(Debug, thiserror::Error)]
#[error("no key to cancel by could be made up for the session")]
pub struct NoKey;

impl Cancels {
    /// Asks the session that was given this process id and key to cancel what it runs. Whether one
    /// was found; it must be the same agent's, so that a key seen elsewhere is of no use.
    pub fn cancel(&self, pid: u32, key: &[u8], agent: &AgentName) -> bool {
        let Ok(key) = key.try_into().map(u32::from_be_bytes) else {
            return false;
        };
        let sessions = self.sessions();
        let Some(entry) = sessions.get(&(pid, key)).filter(|e| e.agent == *agent) else {
            return false;
        };
        // Full means that the session has yet to see an earlier one: one cancel is as good as two.
        let _ = entry.signal.try_send(());
        true
    }

    /// Makes up a key for a session of `agent` with that process of the server.
    pub(super) fn register(&self, pid: u32, agent: &AgentName) -> Result<Registration, NoKey> {
        let mut sessions = self.sessions();
        for _ in 0..64 {
            let key = random()?;
            if sessions.contains_key(&(pid, key)) {
                continue;
            }
            let (signal, asked) = mpsc::channel(1);
            let agent = agent.clone();
            sessions.insert((pid, key), Entry { agent, signal });
            let registry = self.clone();
            return Ok(Registration {
                pid,
                key,
                asked,
                registry,
            });
        }
        Err(NoKey)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Id, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.sessions().remove(&(self.pid, self.key));
    }
}

fn random() -> Result<u32, NoKey> {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoKey)?;
    Ok(u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_agent_with_the_key_cancels() {
        let cancels = Cancels::default();
        let (a, b) = (AgentName::from("a"), AgentName::from("b"));
        let mut session = cancels.register(7, &a).unwrap();
        // Another server's process of the same number.
        let _other = cancels.register(7, &a).unwrap();
        let (pid, key) = (session.pid, session.key.to_be_bytes());
        assert!(!cancels.cancel(pid, &key, &b));
        assert!(!cancels.cancel(pid, &(session.key ^ 1).to_be_bytes(), &a));
        assert!(!cancels.cancel(pid, &[], &a));
        assert!(session.asked.try_recv().is_err());
        assert!(cancels.cancel(pid, &key, &a));
        assert!(cancels.cancel(pid, &key, &a));
        assert!(session.asked.try_recv().is_ok());
        drop(session);
        assert!(!cancels.cancel(pid, &key, &a));
    }
}
