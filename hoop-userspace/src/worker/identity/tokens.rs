//! Asking the keeper for an agent's token as it is now: only the keeper may read where it is kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::handover::{FromWorker, TokenText};
use crate::ids::{AgentName, ResourceName};

/// Longer than a token command may run.
const WITHIN: Duration = Duration::from_secs(40);

#[derive(Default)]
pub struct Requests {
    count: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<TokenText>>>,
}

impl Requests {
    /// What the agent's source holds now; `None` if the keeper does not say.
    pub async fn ask(
        &self,
        tell: &mpsc::Sender<FromWorker>,
        agent: &AgentName,
    ) -> Option<TokenText> {
        let agent = agent.clone();
        self.put(tell, |request| FromWorker::WantToken { request, agent })
            .await
    }

    /// The same of the token that a resource's login has.
    pub async fn ask_login(
        &self,
        tell: &mpsc::Sender<FromWorker>,
        resource: &ResourceName,
    ) -> Option<TokenText> {
        let resource = resource.clone();
        self.put(tell, |request| FromWorker::WantLogin { request, resource })
            .await
    }

    async fn put(
        &self,
        tell: &mpsc::Sender<FromWorker>,
        question: impl FnOnce(u64) -> FromWorker,
    ) -> Option<TokenText> {
        let request = self.count.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        self.waiting().insert(request, reply);
        let asked = async {
            tell.send(question(request)).await.ok()?;
            answer.await.ok()
        };
        let answered = tokio::time::timeout(WITHIN, asked).await;
        self.waiting().remove(&request);
        answered.ok().flatten()
    }

    pub fn answered(&self, request: u64, token: TokenText) {
        if let Some(waiting) = self.waiting().remove(&request) {
            // Whoever asked may have stopped waiting.
            let _ = waiting.send(token);
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<TokenText>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_question_gets_its_own_answer() {
        let requests = Requests::default();
        let (tell, mut heard) = mpsc::channel(8);
        let (bot, etl) = ("bot".into(), "etl".into());
        let keeper = async {
            let mut asked = Vec::new();
            for _ in 0..2 {
                match heard.recv().await {
                    Some(FromWorker::WantToken { request, agent }) => asked.push((request, agent)),
                    other => panic!("{other:?}"),
                }
            }
            requests.answered(999, TokenText::Obtained);
            for (request, agent) in asked.into_iter().rev() {
                requests.answered(request, TokenText::Missing(agent.to_string()));
            }
        };
        let (first, second, ()) =
            tokio::join!(requests.ask(&tell, &bot), requests.ask(&tell, &etl), keeper);
        for (answer, whose) in [(first, "bot"), (second, "etl")] {
            assert!(matches!(answer, Some(TokenText::Missing(why)) if why == whose));
        }
        assert!(requests.waiting().is_empty());
    }

    #[tokio::test]
    async fn a_keeper_that_is_gone_answers_nothing() {
        let (tell, heard) = mpsc::channel(1);
        drop(heard);
        let requests = Requests::default();
        assert!(requests.ask(&tell, &"bot".into()).await.is_none());
    }
}
