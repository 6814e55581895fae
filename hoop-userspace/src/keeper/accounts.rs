//! Names of the host's accounts, which a directory elsewhere may be asked for: looked up on a few
//! threads, waited for a bounded time, and remembered for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::{lock, people};

/// How long a name is looked up, and how long it is believed, or that there is none to be had.
const NAMED_WITHIN: Duration = Duration::from_secs(3);
const NAMED_FOR: Duration = Duration::from_secs(60);
const UNNAMED_FOR: Duration = Duration::from_secs(5);
/// Accounts that are looked up at once, each on a thread that a directory may keep for long.
const LOOK_UPS: usize = 8;

/// An account's name, or why there is none to be had, and since when that is known.
type LookedUp = (Result<String, String>, Instant);

pub struct Accounts {
    names: Mutex<HashMap<u32, LookedUp>>,
    look_ups: Arc<Semaphore>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            names: Mutex::default(),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
        }
    }
}

impl Accounts {
    /// What is known and recent enough to be believed.
    pub fn known(&self, uid: u32) -> Option<Result<String, String>> {
        let names = lock(&self.names);
        names
            .get(&uid)
            .filter(is_believed)
            .map(|(name, _)| name.clone())
    }

    /// Finds out what an account is called; [`Self::known`] tells it then.
    pub async fn look_up(&self, uid: u32) {
        let looked_up = tokio::time::timeout(NAMED_WITHIN, self.find(uid)).await;
        self.learn(uid, looked_up.unwrap_or_else(|_| Err(unnamed(uid))));
    }

    async fn find(&self, uid: u32) -> Result<String, String> {
        let turn = self.look_ups.clone().acquire_owned().await;
        let turn = turn.map_err(|error| error.to_string())?;
        // Somebody who asked before may have found it out meanwhile.
        if let Some(known) = self.known(uid) {
            return known;
        }
        let looked_up = tokio::task::spawn_blocking(move || {
            // Held for as long as the thread is, and not only for as long as anybody waits for it.
            let _turn = turn;
            people::account(uid)
        });
        let account = looked_up.await.map_err(|error| error.to_string())?;
        account.map_err(|no| no.to_string())
    }

    fn learn(&self, uid: u32, name: Result<String, String>) {
        let mut names = lock(&self.names);
        names.retain(|_, known| is_believed(&&*known));
        // One that could not wait any longer knows no better than one that was answered.
        let known = matches!(names.get(&uid), Some((Ok(_), _)));
        if name.is_ok() || !known {
            names.insert(uid, (name, Instant::now()));
        }
    }
}

fn is_believed((name, at): &&LookedUp) -> bool {
    at.elapsed()
        < match name {
            Ok(_) => NAMED_FOR,
            Err(_) => UNNAMED_FOR,
        }
}

/// Why an account has no name, where its directory did not answer.
pub fn unnamed(uid: u32) -> String {
    format!("the name of account {uid} cannot be looked up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_looked_up_once_and_failures_are_remembered_too() {
        let accounts = Accounts::default();
        assert_eq!(accounts.known(3_999_998), None);
        accounts.look_up(3_999_998).await;
        assert_eq!(accounts.known(3_999_998), Some(Ok("uid 3999998".into())));
        accounts.learn(1, Err("no answer".into()));
        assert_eq!(accounts.known(1), Some(Err("no answer".into())));
        // Found out by somebody who asked before.
        assert_eq!(accounts.find(1).await, Err("no answer".into()));
        accounts.learn(1, Ok("daemon".into()));
        accounts.learn(1, Err("no answer".into()));
        assert_eq!(accounts.known(1), Some(Ok("daemon".into())));
    }

    #[tokio::test]
    async fn a_directory_that_does_not_answer_keeps_few_threads() {
        let accounts = Accounts::default();
        // As if each were kept by a look-up that hangs.
        let held = accounts.look_ups.clone();
        let held = held.acquire_many_owned(8).await.unwrap();
        accounts.look_up(7).await;
        assert_eq!(accounts.known(7), Some(Err(unnamed(7))));
        drop(held);
    }
}
