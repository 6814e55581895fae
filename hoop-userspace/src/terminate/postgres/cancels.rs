//! Which session a CancelRequest means. Clients are given a process id and key of hoop's own, so
//! that a request arrives here, and never with the server's key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;

use crate::ids::AgentName;

/// The sessions of a worker that can be cancelled. Clones share one registry.
#[derive(Clone, Default)]
pub struct Cancels(Arc<Mutex<HashMap<u32, Entry>>>);

struct Entry {
    key: u32,
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

/// The system has no randomness, or no process id is free.
#[derive(Debug, thiserror::Error)]
#[error("no process id and key could be made up for the session")]
pub struct NoKey;

impl Cancels {
    /// Asks the session that was given this process id and key to cancel what it runs. Whether one
    /// was found; it must be the same agent's, so that a key seen elsewhere is of no use.
    pub fn cancel(&self, pid: u32, key: &[u8], agent: &AgentName) -> bool {
        let sessions = self.sessions();
        let Some(entry) = sessions.get(&pid) else {
            return false;
        };
        let known = entry.key.to_be_bytes();
        let differs =
            known.len() != key.len() || known.iter().zip(key).fold(0, |d, (a, b)| d | (a ^ b)) != 0;
        if differs || entry.agent != *agent {
            return false;
        }
        // Full means that the session has yet to see an earlier one: one cancel is as good as two.
        let _ = entry.signal.try_send(());
        true
    }

    /// Makes up a process id and key for a session of `agent`.
    pub(super) fn register(&self, agent: &AgentName) -> Result<Registration, NoKey> {
        let mut sessions = self.sessions();
        for _ in 0..64 {
            let (pid, key) = (random()? & 0x7fff_ffff, random()?);
            if pid == 0 || sessions.contains_key(&pid) {
                continue;
            }
            let (signal, asked) = mpsc::channel(1);
            let agent = agent.clone();
            sessions.insert(pid, Entry { key, agent, signal });
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

    fn sessions(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.sessions().remove(&self.pid);
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
        let mut session = cancels.register(&a).unwrap();
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
