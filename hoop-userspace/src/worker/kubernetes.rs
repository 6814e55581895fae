//! One client's connection to a Kubernetes API server: met, identified, and each of its requests run
//! as a session with a recording of its own.

mod login;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::{Connection, ended, would_refuse};
use super::identity::{self, Watching};
use super::ssh::NoCatalogs;
use super::{refusals, report, session_id};
use crate::config::{Agent, Resource};
use crate::decide::{Refusal, Subject};
use crate::forward::Target;
use crate::forward::kubernetes::ApiServer;
use crate::handover::LiveSession;
use crate::identify::{Identity, IdentityError, Proved};
use crate::ids::{Epochs, SessionId};
use crate::record::{Header, RecordError, SessionRecorder};
use crate::session::{self, Rulebook};
use crate::terminate::End;
use crate::terminate::kubernetes::{Front, Opening, Reach, Session};
use login::{added, login};

/// What all requests of one connection share.
struct Cluster {
    agent: Agent,
    resource: Resource,
    /// As the client calls it, as far as that is known; its address if not.
    name: String,
    server: ApiServer,
    hold: Duration,
}

type Verified = Result<Proved, IdentityError>;

/// Who asks, for one request.
struct Standing {
    verified: Verified,
    watching: Option<Watching>,
}

impl Connection {
    pub(super) async fn kubernetes(
        self: &Arc<Self>,
        stream: TcpStream,
        agent: &Agent,
        target: &Target<'_>,
    ) {
        let resource = target.resource;
        let Some(settings) = &resource.kubernetes else {
            return;
        };
        let Some(front) = self.meet_kubernetes(stream, agent, target).await else {
            return;
        };
        let bearer = self.bearer(resource, &settings.credential);
        let server = match self.shared.kubernetes.server(target, bearer) {
            Ok(server) => server,
            Err(error) => {
                let refusal = refusals::upstream(&error);
                return self.refuse_all(front, agent, resource, &refusal).await;
            }
        };
        let name = target.name.clone();
        let cluster = Cluster {
            agent: agent.clone(),
            resource: resource.clone(),
            name: name.unwrap_or_else(|| self.handover.destination.ip().to_canonical().to_string()),
            server,
            hold: settings.hold,
        };
        self.requests(front, Arc::new(cluster)).await;
    }

    async fn meet_kubernetes(
        &self,
        stream: TcpStream,
        agent: &Agent,
        target: &Target<'_>,
    ) -> Option<Front> {
        let address = self.handover.destination.ip().to_canonical();
        let offers = &self.shared.offers;
        let offer = match offers.offer(target.resource, target.name.as_deref(), address) {
            Ok(offer) => offer,
            Err(error) => {
                tracing::error!(%error, resource = %target.resource.name, "no certificate for the resource");
                return None;
            }
        };
        let met = tokio::select! {
            met = Front::accept(stream, &offer.config) => met,
            () = self.shared.stopped() => return None,
        };
        met.map_err(|error| {
            let detail = format!("{} at {}: {error}", agent.name, self.handover.destination);
            report(&self.shared.tell, "handshake_failed", detail, None);
        })
        .ok()
    }

    /// Until the client has gone or hoop stops. Whoever asks is looked at with the first request, and
    /// watched from then on.
    async fn requests(self: &Arc<Self>, mut front: Front, cluster: Arc<Cluster>) {
        let mut sessions: JoinSet<()> = JoinSet::new();
        let mut first = Some(self.session);
        let mut standing: Option<Standing> = None;
        loop {
            let opening = tokio::select! {
                opening = front.open() => opening,
                Some(ended) = sessions.join_next() => {
                    self.request_ended(ended);
                    continue;
                }
                () = self.shared.stopped() => break,
            };
            let Some(opening) = opening else { break };
            let Some(id) = first.take().or_else(session_id) else {
                break;
            };
            let standing = self.standing(&cluster, &mut standing).await;
            let (this, cluster) = (self.clone(), cluster.clone());
            sessions.spawn(async move { this.request(opening, &cluster, standing, id).await });
        }
        while let Some(ended) = sessions.join_next().await {
            self.request_ended(ended);
        }
        front.close().await;
    }

    /// Who asks now: proved once, renewed as the agent's token is, and looked at anew once that was
    /// refused or lost.
    async fn standing(&self, cluster: &Cluster, known: &mut Option<Standing>) -> Standing {
        let agent = &cluster.agent;
        let holds = known.as_ref().is_some_and(|known| {
            let watching = known.watching.as_ref();
            watching.is_some_and(|watching| watching.held.borrow().lost.is_none())
        });
        if !holds {
            let verified = self.identify(agent).await;
            let watching = verified
                .as_ref()
                .ok()
                .map(|proved| identity::watch(&self.shared, agent, &self.claim(agent), proved));
            *known = Some(Standing { verified, watching });
        }
        let nobody = || Standing {
            verified: Err(IdentityError {
                agent: agent.name.clone(),
                reason: crate::identify::Reason::NotConfigured,
            }),
            watching: None,
        };
        known.as_ref().map_or_else(nobody, Standing::now)
    }

    fn request_ended(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended {
            let detail = error.to_string();
            tracing::error!(detail, "a request's task panicked");
            report(&self.shared.tell, "panic", detail, Some(self.session));
        }
    }

    /// Where nothing can be reached: every request is told so, and recorded.
    async fn refuse_all(
        self: &Arc<Self>,
        mut front: Front,
        agent: &Agent,
        resource: &Resource,
        refusal: &Refusal,
    ) {
        let mut first = Some(self.session);
        loop {
            let opening = tokio::select! {
                opening = front.open() => opening,
                () = self.shared.stopped() => break,
            };
            let (Some(opening), Some(id)) = (opening, first.take().or_else(session_id)) else {
                break;
            };
            let verified = self.identify(agent).await;
            let header = self.header(Some(agent), &verified, Some(resource), None);
            let header = Header {
                session: id,
                protocol: "kubernetes".into(),
                ..header
            };
            let recorder = self.shared.store.session(header);
            refuse(opening, recorder, refusal.clone());
        }
        front.close().await;
    }

    async fn request(
        &self,
        opening: Opening,
        cluster: &Cluster,
        standing: Standing,
        id: SessionId,
    ) {
        let Standing { verified, watching } = standing;
        let Some(rulebook) = self.shared.book(&cluster.resource.name) else {
            let refusal = refusals::unrecordable("its resource was removed a moment ago");
            return Session::refused(opening, &refusal);
        };
        let (identity, added) = match self.admitted(&cluster.agent, &verified) {
            Ok((identity, _)) => {
                let added = added(&cluster.resource, &identity, id);
                (Some(identity), added)
            }
            Err(refusal) => (None, Err(refusal)),
        };
        let login = login(&cluster.resource, identity.as_deref());
        let header = self.request_header(cluster, &verified, &rulebook, id, &login, &opening);
        let mut recorder = self.shared.store.session(header);
        if let Ok(recorder) = &mut recorder {
            recorder.redact(rulebook.borrow().masks.detection().cloned());
        }
        let (identity, added) = match (identity, added) {
            (Some(identity), Ok(added)) => (identity, added),
            (_, Err(refusal)) => return refuse(opening, recorder, refusal),
            (None, Ok(_)) => return,
        };
        let mut recorder = match recorder {
            Ok(recorder) => recorder,
            Err(error) => {
                tracing::error!(%error, "a request cannot be recorded");
                return Session::refused(opening, &refusals::unrecordable(&error.to_string()));
            }
        };
        if let Err(error) = &verified {
            recorder = would_refuse(recorder, &refusals::identity(error));
        }
        let subject = self.subject_of(cluster, &identity, &login, id);
        let live = self.live_request(cluster, &identity, &login, id);
        let (ends, told) = watch::channel(None);
        let (freezes, frozen) = watch::channel(None);
        let renewed = match &watching {
            Some(watching) => watching.identity.clone(),
            None => watch::channel(identity).1,
        };
        let context = session::Context {
            subject,
            identity: renewed,
            rulebook,
            catalogs: Arc::new(NoCatalogs),
            recorder,
            asker: self.shared.asker.clone(),
            watched: self.shared.activities.of(&cluster.agent.name),
            ends: told,
            freezes: frozen,
        };
        let reach = Reach {
            server: Arc::new(cluster.server.clone()),
            added,
            max_document: cluster.resource.max_message,
            patience: cluster.hold,
            foresees: cluster
                .resource
                .estimate
                .then(|| self.shared.foreseeing.clone()),
        };
        let session = Session::new(opening, reach);
        let watching = self.watch_request(&cluster.agent, watching, &ends);
        let _place = self.shared.live.enter(live, ends.clone(), freezes);
        self.run(session, context, watching).await;
    }

    /// Ends the request when its identity does. What there is to report is reported by whoever looks
    /// at the identity for all.
    async fn watch_request(
        &self,
        agent: &Agent,
        watching: Option<Watching>,
        ends: &watch::Sender<Option<End>>,
    ) -> Infallible {
        let Some(mut watching) = watching else {
            return self.watch(agent, None, ends).await;
        };
        let cgroup = &self.handover.process.cgroup;
        loop {
            let lost = watching.held.borrow_and_update().lost.clone();
            if let Some(why) = lost {
                self.lost(agent, why, ends).await;
            }
            let changed = tokio::select! {
                changed = watching.held.changed() => changed,
                reason = self.shared.identities.until_suspended(agent, cgroup) => {
                    super::live::tell(ends, End::Identity(reason.to_string()));
                    return std::future::pending().await;
                }
            };
            if changed.is_err() {
                let why = "nobody watches its identity any more";
                super::live::tell(ends, End::Identity(why.into()));
                return std::future::pending().await;
            }
        }
    }

    fn request_header(
        &self,
        cluster: &Cluster,
        verified: &Verified,
        rulebook: &watch::Receiver<Arc<Rulebook>>,
        id: SessionId,
        login: &str,
        opening: &Opening,
    ) -> Header {
        let resource = Some(&cluster.resource);
        let mut header = self.header(Some(&cluster.agent), verified, resource, None);
        // kubectl is started with what it then asks for.
        if let Some(detection) = rulebook.borrow().masks.detection() {
            for argument in &mut header.process.argv {
                if let Some(masked) = detection.masked_text(argument.as_bytes()) {
                    *argument = String::from_utf8_lossy(&masked).into_owned();
                }
            }
        }
        Header {
            session: id,
            started: SystemTime::now(),
            protocol: "kubernetes".into(),
            database: Some(cluster.name.clone()),
            login: Some(login.to_owned()),
            application: opening.client.clone(),
            ..header
        }
    }

    fn subject_of(
        &self,
        cluster: &Cluster,
        identity: &Arc<Identity>,
        login: &str,
        id: SessionId,
    ) -> Subject {
        Subject {
            session: id,
            identity: identity.clone(),
            process: Arc::new(self.handover.process.clone()),
            resource: cluster.resource.name.clone(),
            database: cluster.name.clone(),
            login: login.to_owned(),
            epochs: Epochs {
                policy: self.rules.epoch,
                identity: 0,
            },
            mode: cluster.agent.mode,
            derived: Arc::default(),
            activity: Default::default(),
            objects: Arc::default(),
            unseen: Arc::default(),
        }
    }

    fn live_request(
        &self,
        cluster: &Cluster,
        identity: &Identity,
        login: &str,
        id: SessionId,
    ) -> LiveSession {
        let executable = self.handover.process.executable.as_ref();
        LiveSession {
            session: id,
            since: SystemTime::now(),
            agent: cluster.agent.name.clone(),
            subject: identity.subject().to_owned(),
            resource: cluster.resource.name.clone(),
            database: cluster.name.clone(),
            login: login.to_owned(),
            pid: self.handover.process.pid,
            executable: executable.map(|path| path.display().to_string()),
            frozen: None,
        }
    }
}

impl Standing {
    /// The same for another request.
    fn now(&self) -> Self {
        let watching = self.watching.as_ref().map(|watching| Watching {
            identity: watching.identity.clone(),
            held: watching.held.clone(),
        });
        let mut verified = self.verified.clone();
        if let (Ok(proved), Some(watching)) = (&mut verified, &watching) {
            proved.identity = watching.identity.borrow().clone();
        }
        Self { verified, watching }
    }
}

/// Recorded, then said.
fn refuse(opening: Opening, recorder: Result<SessionRecorder, RecordError>, refusal: Refusal) {
    let end = End::Broken("the request was refused".into());
    let recorded = recorder.and_then(|mut recorder| {
        let recorded = recorder.refusal(refusal)?;
        ended(&mut recorder, &end);
        Ok(recorded.into_inner())
    });
    match recorded {
        Ok(refusal) => Session::refused(opening, &refusal),
        Err(error) => {
            tracing::error!(%error, "a refusal cannot be recorded");
            Session::refused(opening, &refusals::unrecordable(&error.to_string()));
        }
    }
}
