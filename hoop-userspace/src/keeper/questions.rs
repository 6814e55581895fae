//! Answers on the control socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use time::OffsetDateTime;

use super::control::{Answer, Answers, Ask};
use super::governing::Governor;
use super::journal::Entry;
use super::status::{AgentStatus, CountersStatus, SessionStatus, Status, WorkerStatus};
use super::{Parts, lock};
use crate::config::Mode;
use crate::handover::LiveSession;
use crate::identify::agent_for;

pub struct Questions {
    pub parts: Arc<Parts>,
    pub governor: Arc<Governor>,
}

impl Answers for Questions {
    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Status => value(&self.status().await),
            Ask::Discover => value(&lock(&self.parts.seen).rows()),
            Ask::Kill { session, reason } => self.kill(&session, reason).await,
        }
    }
}

fn value(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_value(value) {
        Ok(value) => Answer::Ok(value),
        Err(error) => Answer::Error(error.to_string()),
    }
}

impl Questions {
    async fn kill(&self, session: &str, reason: String) -> Answer {
        let id = match session.parse() {
            Ok(id) => id,
            Err(error) => return Answer::Error(format!("{session:?} is {error}")),
        };
        let reason: String = reason
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
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
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            since: parts.since.into(),
            config: parts.start.config.clone(),
            well: ready && reload.error.is_none() && hooks.iter().all(|hook| hook.attached),
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
