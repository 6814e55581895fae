//! Answers on the control socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use time::OffsetDateTime;

use super::control::{Answer, Answers, Ask};
use super::governing::Governor;
use super::journal::Entry;
use super::people::Peer;
use super::status::{
    AgentStatus, ApprovalsStatus, CountersStatus, SessionStatus, Status, WorkerStatus,
};
use super::{Parts, lock};
use crate::ask::Ballot;
use crate::config::Mode;
use crate::handover::LiveSession;
use crate::identify::agent_for;
use crate::ids::{BadQuestionId, QuestionId};

pub struct Questions {
    pub parts: Arc<Parts>,
    pub governor: Arc<Governor>,
}

impl Answers for Questions {
    async fn answer(&self, ask: Ask, peer: Peer) -> Answer {
        match ask {
            Ask::Status => value(&self.status().await),
            Ask::Discover => value(&lock(&self.parts.seen).rows()),
            Ask::Kill { session, reason } => self.kill(&session, reason).await,
            Ask::Approvals { .. }
            | Ask::Approval { .. }
            | Ask::Vote { .. }
            | Ask::Revoke { .. } => match self.approvals(ask, peer).await {
                Ok(value) => Answer::Ok(value),
                Err(why) => Answer::Error(why),
            },
        }
    }
}

fn value(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_value(value) {
        Ok(value) => Answer::Ok(value),
        Err(error) => Answer::Error(error.to_string()),
    }
}

fn id(question: &str) -> Result<QuestionId, String> {
    let parsed = question.parse();
    parsed.map_err(|error: BadQuestionId| format!("{question:?} is {error}"))
}

/// What a person wrote, as it may be shown in a terminal and in a refusal.
fn spoken(text: &str, most: usize) -> String {
    let shown: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(most)
        .collect();
    shown.trim().to_owned()
}

impl Questions {
    /// What people see of questions, and say to them: only those whom nothing governs.
    async fn approvals(&self, ask: Ask, peer: Peer) -> Result<serde_json::Value, String> {
        let clerk = &self.parts.clerk;
        let voter = clerk.person(peer).await?;
        match ask {
            Ask::Approvals { all } => Ok(clerk.list(all)),
            Ask::Approval { question } => clerk.show(id(&question)?),
            Ask::Vote {
                question,
                verdict,
                reason,
                break_glass,
            } => {
                let ballot = Ballot {
                    voter,
                    verdict,
                    reason: spoken(&reason, 1000),
                    break_glass,
                };
                clerk.vote(id(&question)?, ballot).await
            }
            Ask::Revoke { question, reason } => {
                let reason = spoken(&reason, 1000);
                clerk.revoke(id(&question)?, voter, reason).await
            }
            other => Err(format!("{other:?} is not about approvals")),
        }
    }

    async fn kill(&self, session: &str, reason: String) -> Answer {
        let id = match session.parse() {
            Ok(id) => id,
            Err(error) => return Answer::Error(format!("{session:?} is {error}")),
        };
        let reason = spoken(&reason, 200);
        let found = self.parts.worker.kill(id, reason.clone()).await;
        let session = id.to_string();
        self.parts.journal.write(&Entry::Kill {
            session: session.clone(),
            reason,
            found,
        });
        if found {
            Answer::Ok(serde_json::json!({ "session": session, "killed": true }))
        } else {
            Answer::Error(format!("no session {session} goes on now"))
        }
    }

    async fn status(&self) -> Status {
        let parts = &self.parts;
        let config = parts.config();
        let sessions = parts.worker.sessions().await;
        let now = parts.worker.now();
        let reload = lock(&parts.reload).clone();
        let hooks = self.governor.hooks();
        let ready = now.ready.is_some();
        let (pending, problem) = parts.clerk.health();
        let channels = parts.courier.status();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            since: parts.since.into(),
            config: parts.start.config.clone(),
            well: ready
                && reload.error.is_none()
                && problem.is_none()
                && channels.iter().all(|channel| channel.problem.is_none())
                && hooks.iter().all(|hook| hook.attached),
            approvals: ApprovalsStatus { pending, problem },
            channels,
            reload,
            worker: WorkerStatus {
                pid: now.pid,
                ready,
                restarts: now.restarts,
            },
            attached_to: config.capture.attach.clone(),
            hooks,
            agents: self.agents(),
            sessions: sessions.into_iter().map(session).collect(),
            counters: self.counters(),
        }
    }

    fn agents(&self) -> Vec<AgentStatus> {
        let config = self.parts.config();
        let mut cgroups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for cgroup in self.governor.cgroups() {
            if let Some(agent) = agent_for(&config, &cgroup) {
                cgroups
                    .entry(agent.name.to_string())
                    .or_default()
                    .push(cgroup);
            }
        }
        let status = |agent: &crate::config::Agent| AgentStatus {
            name: agent.name.to_string(),
            mode: mode(agent.mode).into(),
            cgroups: cgroups.remove(agent.name.as_str()).unwrap_or_default(),
        };
        config.agents.iter().map(status).collect()
    }

    fn counters(&self) -> CountersStatus {
        let counters = &self.parts.counters;
        CountersStatus {
            accepted: counters.accepted.load(Ordering::Relaxed),
            handed_over: counters.handed_over.load(Ordering::Relaxed),
            no_origin: counters.no_origin.load(Ordering::Relaxed),
            busy: counters.busy.load(Ordering::Relaxed),
            kernel_refused: counters.kernel_refused.load(Ordering::Relaxed),
        }
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Discover => "discover",
        Mode::Observe => "observe",
        Mode::Enforce => "enforce",
    }
}

fn session(live: LiveSession) -> SessionStatus {
    SessionStatus {
        session: live.session.to_string(),
        since: OffsetDateTime::from(live.since),
        agent: live.agent.to_string(),
        identity: live.subject,
        resource: live.resource.to_string(),
        database: live.database,
        login: live.login,
        pid: live.pid,
        executable: live.executable,
    }
}
