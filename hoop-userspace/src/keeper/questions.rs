//! Answers on the control socket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::bypass::Follower;
use super::control::{self, Answer, Answers, Ask};
use super::governing::Governor;
use super::journal::Entry;
use super::people::{self, Peer};
use super::status::{
    AgentStatus, ApprovalsStatus, FrozenStatus, IdentityStatus, InForce, RetiringStatus,
    SessionStatus, Status, SuspendedStatus, WorkerStatus,
};
use super::{Parts, lock, upgrade};
use crate::ask::Ballot;
use crate::config::{Bundle, Mode};
use crate::handover::{AgentStanding, Freeze, LiveSession};
use crate::identify::{By, Suspension, agent_for};
use crate::ids::{BadQuestionId, QuestionId, SessionId};

/// Past it, it is likelier forgotten than looked at.
const LONGEST_FREEZE: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Questions {
    pub parts: Arc<Parts>,
    pub governor: Arc<Governor>,
    /// Builds that were found fit to take over.
    pub upgrades: mpsc::Sender<upgrade::Wanted>,
    pub bypasses: Arc<Follower>,
}

impl Answers for Questions {
    async fn answer(&self, ask: Ask, peer: Peer) -> Answer {
        let steers = matches!(
            ask,
            Ask::Kill { .. }
                | Ask::KillAgent { .. }
                | Ask::Freeze { .. }
                | Ask::Thaw { .. }
                | Ask::Suspend { .. }
                | Ask::Resume { .. }
        );
        if steers && let Err(why) = people::ungoverned(&self.parts.config(), peer) {
            return Answer::Error(why.to_string());
        }
        match ask {
            Ask::Status => value(&self.status().await),
            Ask::InForce => value(&self.in_force().await),
            Ask::Discover => value(&lock(&self.parts.seen).rows()),
            Ask::Kill { session, reason } => self.kill(&session, &reason).await,
            Ask::Freeze {
                session,
                reason,
                seconds,
            } => match self.parts.clerk.person(peer).await {
                Ok(voter) => self.freeze(&session, &voter.name, &reason, seconds).await,
                Err(why) => Answer::Error(why),
            },
            Ask::Thaw { session, reason } => match self.parts.clerk.person(peer).await {
                Ok(voter) => self.thaw(&session, &voter.name, &reason).await,
                Err(why) => Answer::Error(why),
            },
            Ask::KillAgent { agent, reason } => self.kill_agent(&agent, &reason).await,
            Ask::Suspend {
                agent,
                instance,
                reason,
            } => self.suspend(&agent, instance, &reason),
            Ask::Resume {
                agent,
                instance,
                reason,
            } => self.resume(&agent, instance.as_deref(), &reason),
            Ask::Bypasses => match self.bypasses.sync().await {
                Ok(()) => value(&self.bypasses.status()),
                Err(why) => Answer::Error(why),
            },
            Ask::BypassWritten { number } => match self.bypasses.sync().await {
                Ok(()) => value(&self.bypasses.is_written(number)),
                Err(why) => Answer::Error(why),
            },
            Ask::ConsoleLogin => match self.console_login(peer) {
                Ok(value) => Answer::Ok(value),
                Err(why) => Answer::Error(why),
            },
            Ask::Upgrade { .. } => Answer::Error("an upgrade is answered apart".into()),
            Ask::Approvals { .. }
            | Ask::Approval { .. }
            | Ask::Vote { .. }
            | Ask::Revoke { .. } => match self.approvals(ask, peer).await {
                Ok(value) => Answer::Ok(value),
                Err(why) => Answer::Error(why),
            },
        }
    }

    fn upgrade(&self, to: Option<PathBuf>, check: bool, peer: Peer, client: UnixStream) {
        let (parts, upgrades) = (self.parts.clone(), self.upgrades.clone());
        // The gate must not wait for it, nor may whoever else asks.
        tokio::spawn(async move {
            match upgrade::prepare(&parts, to, check, peer).await {
                Ok(upgrade::Prepared::Checked(answer)) => {
                    control::answer(client, &Answer::Ok(answer)).await;
                }
                Ok(upgrade::Prepared::Ready(ready)) => {
                    // Gone only when the keeper is.
                    let _ = upgrades.send(upgrade::Wanted { ready, client }).await;
                }
                Err(why) => control::answer(client, &Answer::Error(why)).await,
            }
        });
    }
}

fn value(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_value(value) {
        Ok(value) => Answer::Ok(value),
        Err(error) => Answer::Error(error.to_string()),
    }
}

pub fn id(question: &str) -> Result<QuestionId, String> {
    let parsed = question.parse();
    parsed.map_err(|error: BadQuestionId| format!("{question:?} is {error}"))
}

/// What a person wrote, as it may be shown in a terminal and in a refusal.
pub fn spoken(text: &str, most: usize) -> String {
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
            Ask::Approvals { all } => clerk.list(all).await,
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

    /// A code that signs whoever asks in at the console, once.
    fn console_login(&self, peer: Peer) -> Result<serde_json::Value, String> {
        let config = self.parts.config();
        let console = config.console.as_ref();
        let console = console.ok_or("there is no console: the configuration has no [console]")?;
        // The account and not the person: who that is may be another by the time it votes.
        let account = people::behind(&config, peer).map_err(|no| no.to_string())?;
        let code = super::console::token()?;
        lock(&self.parts.signed_in).promise(&code, account, Instant::now())?;
        let url = format!("{}/sign-in/local?code={code}", console.origin);
        Ok(serde_json::json!({ "url": url }))
    }

    pub async fn kill(&self, session: &str, reason: &str) -> Answer {
        let id = match session.parse() {
            Ok(id) => id,
            Err(error) => return Answer::Error(format!("{session:?} is {error}")),
        };
        if self.end(id, reason).await {
            let session = id.to_string();
            Answer::Ok(serde_json::json!({ "session": session, "killed": true }))
        } else {
            Answer::Error(format!("no session {id} goes on now"))
        }
    }

    /// Has a session stand still until somebody looks: its client is held, what the server answers
    /// flows on, and it ends when nobody has let it go on in time.
    pub async fn freeze(
        &self,
        session: &str,
        by: &str,
        reason: &str,
        seconds: Option<u32>,
    ) -> Answer {
        let id: SessionId = match session.parse() {
            Ok(id) => id,
            Err(error) => return Answer::Error(format!("{session:?} is {error}")),
        };
        let wait = match seconds {
            None => self.parts.config().approvals.wait,
            Some(seconds) => Duration::from_secs(seconds.into()),
        };
        if wait.is_zero() || wait > LONGEST_FREEZE {
            return Answer::Error(
                "a session is frozen for a second at least, and a day at most".into(),
            );
        }
        let until = SystemTime::now() + wait;
        let freeze = Freeze {
            by: by.to_owned(),
            reason: spoken(reason, 200),
            until: Some(until),
        };
        let until = super::status::stamp(until.into());
        let found = self.parts.worker.freeze(id, freeze).await;
        self.parts.journal.write(&Entry::Frozen {
            session: id.to_string(),
            by: by.to_owned(),
            reason: spoken(reason, 200),
            until: until.clone(),
            found,
        });
        match found {
            true => Answer::Ok(serde_json::json!({
                "session": id.to_string(), "frozen": true, "until": until,
            })),
            false => Answer::Error(format!("no session {id} goes on now")),
        }
    }

    pub async fn thaw(&self, session: &str, by: &str, reason: &str) -> Answer {
        let id: SessionId = match session.parse() {
            Ok(id) => id,
            Err(error) => return Answer::Error(format!("{session:?} is {error}")),
        };
        let thaw = Freeze {
            by: by.to_owned(),
            reason: spoken(reason, 200),
            until: None,
        };
        let found = self.parts.worker.freeze(id, thaw).await;
        self.parts.journal.write(&Entry::Thawed {
            session: id.to_string(),
            by: by.to_owned(),
            reason: spoken(reason, 200),
            found,
        });
        match found {
            true => Answer::Ok(serde_json::json!({ "session": id.to_string(), "frozen": false })),
            false => Answer::Error(format!("no session {id} is frozen now")),
        }
    }

    async fn kill_agent(&self, agent: &str, reason: &str) -> Answer {
        if let Err(answer) = self.known(agent) {
            return answer;
        }
        let mut killed = Vec::new();
        for live in self.parts.worker.sessions().await {
            if live.agent.as_str() == agent && self.end(live.session, reason).await {
                killed.push(live.session.to_string());
            }
        }
        Answer::Ok(serde_json::json!({ "agent": agent, "killed": killed }))
    }

    async fn end(&self, session: SessionId, reason: &str) -> bool {
        let reason = spoken(reason, 200);
        let found = self.parts.worker.kill(session, reason.clone()).await;
        self.parts.journal.write(&Entry::Kill {
            session: session.to_string(),
            reason,
            found,
        });
        found
    }

    pub fn suspend(&self, agent: &str, instance: Option<String>, reason: &str) -> Answer {
        if let Err(answer) = self.known(agent) {
            return answer;
        }
        let config = self.parts.config();
        let mapping = config.agents.iter().find(|a| a.name.as_str() == agent);
        if mapping.is_some_and(|a| a.mode == Mode::Discover) {
            return Answer::Error(format!(
                "{agent} is in discover mode: hoop only watches it and could hold nothing back"
            ));
        }
        if instance.is_some() && mapping.is_some_and(|a| a.instance_claim.is_none()) {
            return Answer::Error(format!(
                "{agent} has no instance_claim, so its instances are not told apart: leave --instance out"
            ));
        }
        let suspended = self.parts.suspended.suspend(Suspension {
            agent: agent.into(),
            instance: instance.clone(),
            since: std::time::SystemTime::now(),
            by: By::Operator,
            why: spoken(reason, 200),
        });
        match suspended {
            Ok(new) => Answer::Ok(serde_json::json!({
                "agent": agent, "instance": instance, "suspended": true, "changed": new,
            })),
            Err(error) => Answer::Error(format!(
                "it is suspended until this daemon ends, and no longer: {error}"
            )),
        }
    }

    /// An agent that the file no longer names can still be taken from the list.
    pub fn resume(&self, agent: &str, instance: Option<&str>, reason: &str) -> Answer {
        match self
            .parts
            .suspended
            .resume(agent, instance, &spoken(reason, 200))
        {
            Ok(0) => Answer::Error(format!("{agent} is not suspended")),
            Ok(_) => Answer::Ok(serde_json::json!({
                "agent": agent, "instance": instance, "suspended": false,
            })),
            Err(error) => Answer::Error(error.to_string()),
        }
    }

    fn known(&self, agent: &str) -> Result<(), Answer> {
        let config = self.parts.config();
        if config.agents.iter().any(|a| a.name.as_str() == agent) {
            return Ok(());
        }
        let names: Vec<_> = config.agents.iter().map(|a| a.name.as_str()).collect();
        let names = names.join(", ");
        Err(Answer::Error(format!(
            "there is no agent {agent:?}; there are: {names}"
        )))
    }

    /// The files are read as a reload would read them.
    async fn in_force(&self) -> InForce {
        let path = self.parts.start.config.clone();
        let gathered = tokio::task::spawn_blocking(move || Bundle::gather(&path)).await;
        let in_force = lock(&self.parts.bundle);
        let differs = match gathered {
            Ok(Ok(bundle)) if bundle.is_as_configured(&in_force.1) => None,
            Ok(Ok(_)) => Some("a file of the configuration has changed since it was loaded".into()),
            Ok(Err(error)) => Some(format!("the file as it is now would not be taken: {error}")),
            Err(error) => Some(format!("the file could not be read: {error}")),
        };
        InForce {
            epoch: in_force.0,
            differs,
        }
    }

    pub async fn status(&self) -> Status {
        let parts = &self.parts;
        let config = parts.config();
        let (mut sessions, of_retired) = parts.worker.sessions_by_worker().await;
        let count = |pid: u32| {
            let of_it = of_retired.iter().find(|(of, _)| *of == pid);
            of_it.map_or(0, |(_, sessions)| sessions.len())
        };
        let retired = parts.worker.retired().all();
        let retiring = retired.iter().map(|worker| RetiringStatus {
            pid: worker.pid,
            version: worker.version.clone(),
            since: worker.since.into(),
            until: worker.until.into(),
            sessions: count(worker.pid),
        });
        let retiring = retiring.collect();
        sessions.extend(of_retired.into_iter().flat_map(|(_, sessions)| sessions));
        let agents = parts.worker.agents().await;
        let now = parts.worker.now();
        let reload = lock(&parts.reload).clone();
        let hooks = self.governor.hooks();
        let ready = now.ready.is_some();
        let (pending, problem) = parts.clerk.health();
        let channels = parts.courier.status();
        let bypasses = self.bypasses.status();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            since: parts.since.into(),
            config: parts.start.config.clone(),
            well: ready
                && reload.error.is_none()
                && problem.is_none()
                && bypasses.is_empty()
                && channels.iter().all(|channel| channel.problem.is_none())
                && hooks.iter().all(|hook| hook.attached),
            approvals: ApprovalsStatus { pending, problem },
            channels,
            bypasses,
            reload,
            upgrade: parts.upgraded.clone(),
            retiring,
            worker: WorkerStatus {
                pid: now.pid,
                ready,
                restarts: now.restarts,
            },
            attached_to: config.capture.attach.clone(),
            hooks,
            lsm: self.governor.lsm(),
            agents: self.agents(agents.standings),
            identity: agents.counts,
            sessions: sessions.into_iter().map(session).collect(),
            counters: parts.counters.status(),
        }
    }

    fn agents(&self, standings: Vec<AgentStanding>) -> Vec<AgentStatus> {
        let suspended = self.parts.suspended.subscribe().borrow().clone();
        let config = self.parts.config();
        let look = self.parts.look(&config);
        let mut cgroups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for cgroup in self.governor.cgroups() {
            if let Some(agent) = agent_for(&config, &cgroup, &look).known() {
                cgroups
                    .entry(agent.name.to_string())
                    .or_default()
                    .push(cgroup);
            }
        }
        let status = |agent: &crate::config::Agent| AgentStatus {
            name: agent.name.to_string(),
            mode: mode(agent.mode).into(),
            kind: agent.kind,
            cgroups: cgroups.remove(agent.name.as_str()).unwrap_or_default(),
            identities: standings
                .iter()
                .filter(|standing| standing.agent == agent.name)
                .map(identity)
                .collect(),
            suspended: suspended
                .iter()
                .filter(|known| known.agent == agent.name)
                .map(|known| SuspendedStatus {
                    instance: known.instance.clone(),
                    since: known.since.into(),
                    by: known.by,
                    why: known.why.clone(),
                })
                .collect(),
        };
        config.agents.iter().map(status).collect()
    }
}

fn identity(standing: &AgentStanding) -> IdentityStatus {
    IdentityStatus {
        instance: standing.instance.clone(),
        subject: standing.subject.clone(),
        client_id: standing.client_id.clone(),
        looked_at: standing.looked_at.into(),
        expires: standing.expires.map(OffsetDateTime::from),
        confirmed: standing.confirmed.map(OffsetDateTime::from),
        revocation_bound_ms: standing.bound,
        note: standing.note.clone(),
        refused: standing.refused.clone(),
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
        frozen: live.frozen.and_then(|freeze| {
            Some(FrozenStatus {
                by: freeze.by,
                reason: freeze.reason,
                until: freeze.until?.into(),
            })
        }),
    }
}
