//! One SSH connection: met, identified, logged in upstream, and each of its channels run as a
//! session with a recording of its own.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::{Connection, ended, would_refuse};
use super::{identity, refusals, report, session_id};
use crate::config::{self, Agent, Host, Mode, Resource};
use crate::decide::{Refusal, Subject};
use crate::forward::ssh::LoggedIn;
use crate::forward::{self, Target};
use crate::handover::{Handover, LiveSession};
use crate::identify::{Identity, IdentityError, Proved, Reason};
use crate::ids::{Epochs, SessionId};
use crate::mask::Catalog;
use crate::record::{Header, RecordError, SessionRecorder};
use crate::session::{self, Rulebook};
use crate::terminate::ssh::{Jump, Jumps, Met, Reach, Reached, Session};
use crate::terminate::{Connection as _, End, Opened};

/// Names in one host certificate.
const MAX_NAMES: usize = 64;

/// Neither SSH nor Kubernetes has tables.
pub(super) struct NoCatalogs;

impl session::Catalogs for NoCatalogs {
    fn current(&self) -> Arc<Catalog> {
        Arc::default()
    }

    fn refresh(&self) -> session::LookUp {
        Box::pin(std::future::ready(Arc::default()))
    }

    fn due(&self, _changed: bool) -> Option<session::LookUp> {
        None
    }
}

/// What all channels of one connection share.
struct HostReached {
    agent: Agent,
    resource: Resource,
    /// As the client calls it, as far as that is known; its address if not.
    name: String,
    /// The account that hoop logged in to.
    login: String,
    client_user: String,
    client: String,
    /// From where it was dialled.
    network: config::Network,
}

type Verified = Result<Proved, IdentityError>;

/// A channel that is let in.
struct Admitted {
    id: SessionId,
    identity: Arc<Identity>,
    /// None where observe mode lets in whom nobody vouches for.
    proved: Option<Proved>,
    recorder: SessionRecorder,
    rulebook: watch::Receiver<Arc<Rulebook>>,
}

impl Connection {
    /// Boxed: a connection within a connection is served by the same.
    pub(super) fn ssh<'s, S>(
        self: &'s Arc<Self>,
        stream: S,
        agent: &'s Agent,
        target: &'s Target<'_>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 's>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Box::pin(self.serve_ssh(stream, agent, target))
    }

    async fn serve_ssh<S>(self: &Arc<Self>, stream: S, agent: &Agent, target: &Target<'_>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(met) = self.meet_ssh(stream, agent, target).await else {
            return;
        };
        let mut host = HostReached {
            agent: agent.clone(),
            resource: target.resource.clone(),
            name: target
                .name
                .clone()
                .unwrap_or_else(|| self.handover.destination.ip().to_string()),
            login: target.resource.login.user.clone(),
            client_user: met.user.clone(),
            client: met.client.clone(),
            network: target.network.said(),
        };
        let verified = self.identify(agent).await;
        let identity = match self.admitted(agent, &verified) {
            Ok((identity, _)) => identity,
            Err(refusal) => return self.refuse_ssh(met, &host, &verified, refusal).await,
        };
        let key_id = format!("{} {}", identity.agent(), self.session);
        let backlog = met.backlog();
        let connector = &self.shared.ssh.connector;
        let connected = connector.connect(target, &met.user, &key_id, backlog).await;
        let LoggedIn {
            upstream,
            user,
            learned,
        } = match connected {
            Ok(logged_in) => logged_in,
            Err(error) => {
                let refusal = refusals::host(&error);
                return self.refuse_ssh(met, &host, &verified, refusal).await;
            }
        };
        host.login = user;
        if let Some(learned) = learned {
            let detail = format!("{}: {learned}", host.resource.name);
            report(&self.shared.tell, "host_key_learned", detail, None);
        }
        let (connection, jumps) = met.ready(upstream);
        self.channels(connection, jumps, Arc::new(host), verified)
            .await;
    }

    async fn meet_ssh<S>(&self, stream: S, agent: &Agent, target: &Target<'_>) -> Option<Met>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let names = self.host_names(target);
        let faces = match self.shared.ssh.keys.faces(&names, SystemTime::now()) {
            Ok(faces) => faces,
            Err(error) => {
                tracing::error!(%error, "no host certificate can be made");
                return None;
            }
        };
        let met = tokio::select! {
            met = Met::accept(stream, faces, self.reach(target), self.room.clone()) => met,
            () = self.shared.stopped() => return None,
        };
        match met {
            Ok(met) => Some(met),
            Err(error) => {
                let detail = format!("{} at {}: {error}", agent.name, self.handover.destination);
                report(&self.shared.tell, "handshake_failed", detail, None);
                None
            }
        }
    }

    /// What the server is asked to connect to is looked up among the resources. Its own loopback is
    /// the server itself.
    fn reach(&self, target: &Target<'_>) -> Arc<Reach> {
        let shared = self.shared.clone();
        let own = target
            .name
            .clone()
            .unwrap_or_else(|| self.handover.destination.ip().to_canonical().to_string());
        Arc::new(move |host, port| {
            let Ok(port) = u16::try_from(port) else {
                return Reached::Nothing;
            };
            let host = if is_loopback(host) { &own } else { host };
            let rules = shared.rules();
            match forward::reached(&shared.resolver, &rules.config, host, port) {
                None => Reached::Nothing,
                Some(target) if target.resource.ssh.is_some() => Reached::Host(host.to_owned()),
                Some(target) => Reached::Other(target.resource.name.clone()),
            }
        })
    }

    /// Serves a connection to another governed host as if it came by itself: hoop reaches that host
    /// from here, and what is done there is decided, recorded and masked as ever.
    async fn jump(self: Arc<Self>, jump: Jump, outer: config::Network) {
        // It costs what any other connection does.
        let Ok(_slot) = self.shared.connections.clone().try_acquire_owned() else {
            let detail = format!("to {}: too many connections at once", jump.host);
            return report(&self.shared.tell, "reset", detail, Some(self.session));
        };
        let rules = self.shared.rules();
        let config = rules.config.clone();
        let agent = self.handover.agent.as_ref();
        let agent = agent.and_then(|name| config.agents.iter().find(|a| a.name == *name));
        let port = u16::try_from(jump.port).unwrap_or_default();
        let target = forward::reached(&self.shared.resolver, &config, &jump.host, port);
        let (Some(agent), Some(mut target), Some(session)) = (agent, target, session_id()) else {
            // The configuration has changed this moment: the stream is closed.
            return;
        };
        let destination = target.addresses.first().copied();
        // A host that does not say otherwise is where the one before it is.
        target.network = self.from.for_resource(target.resource, Some(outer));
        let within = Arc::new(Self {
            shared: self.shared.clone(),
            rules,
            handover: Handover {
                destination: destination.unwrap_or(self.handover.destination),
                observed: vec![jump.host],
                ..self.handover.clone()
            },
            session,
            room: jump.room,
            from: self.from.clone(),
            outer: Some(outer),
        });
        within.ssh(jump.stream, agent, &target).await;
    }

    /// All that the client may call the server: the configured names and the address, and what the
    /// agent's DNS answers said of that address.
    fn host_names(&self, target: &Target<'_>) -> Vec<String> {
        let configured = target.resource.hosts.iter().filter_map(|host| match host {
            Host::Name(name) => Some(name.clone()),
            Host::Net(_) => None,
        });
        let address = self.handover.destination.ip().to_canonical().to_string();
        let mut names: Vec<String> = Vec::new();
        for name in target
            .name
            .iter()
            .cloned()
            .chain([address])
            .chain(configured)
        {
            if names.len() < MAX_NAMES && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Who it is, and under which proof; a refusal where enforce mode lets nobody in.
    pub(super) fn admitted(
        &self,
        agent: &Agent,
        verified: &Verified,
    ) -> Result<(Arc<Identity>, Option<Proved>), Refusal> {
        let suspended = |error: &IdentityError| matches!(error.reason, Reason::Suspended { .. });
        match verified {
            Ok(proved) => Ok((proved.identity.clone(), Some(proved.clone()))),
            Err(error) if agent.mode != Mode::Enforce && !suspended(error) => {
                Ok((Arc::new(Identity::unverified(agent)), None))
            }
            Err(error) => Err(refusals::identity(error)),
        }
    }

    /// Recorded, then said.
    async fn refuse_ssh(
        &self,
        met: Met,
        host: &HostReached,
        verified: &Verified,
        refusal: Refusal,
    ) {
        let header = self.ssh_header(host, verified, self.session);
        let end = End::Broken("the connection was refused".into());
        match self.shared.store.session(header) {
            Ok(mut recorder) => match recorder.refusal(refusal) {
                Ok(recorded) => {
                    met.refuse(recorded.get()).await;
                    ended(&mut recorder, &end);
                }
                Err(error) => {
                    met.refuse(&refusals::unrecordable(&error.to_string()))
                        .await
                }
            },
            Err(error) => {
                met.refuse(&refusals::unrecordable(&error.to_string()))
                    .await
            }
        }
    }

    /// Until the client has gone, hoop stops, or the identity is lost. A client may have no channel
    /// for hours and then open one: each is let in anew.
    async fn channels(
        self: &Arc<Self>,
        mut connection: crate::terminate::ssh::Connection,
        mut jumps: Jumps,
        host: Arc<HostReached>,
        verified: Verified,
    ) {
        let mut sessions: JoinSet<End> = JoinSet::new();
        // They end with the connection that they are in.
        let mut within: JoinSet<()> = JoinSet::new();
        let mut first = Some((self.session, verified));
        let why = loop {
            let opened = tokio::select! {
                opened = connection.open() => opened,
                Some(end) = sessions.join_next() => {
                    match self.channel_ended(end) {
                        Some(why) => break Some(why),
                        None => continue,
                    }
                }
                Some(jump) = jumps.recv() => {
                    within.spawn(self.clone().jump(jump, host.network));
                    continue;
                }
                Some(_) = within.join_next() => continue,
                () = self.shared.stopped() => break Some("hoop is stopping".to_owned()),
            };
            let Ok(Opened::Session(session)) = opened else {
                break None;
            };
            let (id, verified) = match first.take() {
                Some(first) => first,
                None => match session_id() {
                    Some(id) => (id, self.identify(&host.agent).await),
                    None => break Some("the system has no randomness".to_owned()),
                },
            };
            match self.admit_channel(&host, &verified, id) {
                Ok(admitted) => {
                    let (this, host) = (self.clone(), host.clone());
                    let running = async move { this.channel(*session, &host, admitted).await };
                    sessions.spawn(running);
                }
                Err(refusal) => break Some(refusal.message),
            }
        };
        while let Some(end) = sessions.join_next().await {
            self.channel_ended(end);
        }
        connection.leave(why.as_deref().unwrap_or("goodbye")).await;
    }

    /// Why the whole connection ends with this channel, if it does.
    fn channel_ended(&self, end: Result<End, tokio::task::JoinError>) -> Option<String> {
        match end {
            Ok(End::Identity(why)) => Some(format!("the agent's identity no longer holds: {why}")),
            Ok(_) => None,
            Err(error) => {
                let detail = error.to_string();
                tracing::error!(detail, "a channel's task panicked");
                report(&self.shared.tell, "panic", detail, Some(self.session));
                None
            }
        }
    }

    fn admit_channel(
        &self,
        host: &HostReached,
        verified: &Verified,
        id: SessionId,
    ) -> Result<Admitted, Refusal> {
        let unrecordable = |error: RecordError| {
            tracing::error!(%error, "a session cannot be recorded");
            refusals::unrecordable(&error.to_string())
        };
        let Some(rulebook) = self.shared.book(&host.resource.name) else {
            return Err(refusals::unrecordable(
                "its resource was removed a moment ago",
            ));
        };
        let header = self.ssh_header(host, verified, id);
        let mut recorder = self.shared.store.session(header).map_err(unrecordable)?;
        // Before the loop begins a refusal may be all that there is to record.
        recorder.redact(rulebook.borrow().masks.detection().cloned());
        match self.admitted(&host.agent, verified) {
            Ok((identity, proved)) => {
                if let Err(error) = verified {
                    recorder = would_refuse(recorder, &refusals::identity(error));
                }
                Ok(Admitted {
                    id,
                    identity,
                    proved,
                    recorder,
                    rulebook,
                })
            }
            Err(refusal) => {
                let why = End::Identity(refusal.message.clone());
                let recorded = recorder.refusal(refusal).map_err(unrecordable)?;
                ended(&mut recorder, &why);
                Err(recorded.into_inner())
            }
        }
    }

    async fn channel(&self, session: Session, host: &HostReached, admitted: Admitted) -> End {
        let Admitted {
            id,
            identity,
            proved,
            recorder,
            rulebook,
        } = admitted;
        let subject = Subject {
            session: id,
            identity: identity.clone(),
            process: Arc::new(self.handover.process.clone()),
            resource: host.resource.name.clone(),
            database: host.name.clone(),
            login: host.login.clone(),
            epochs: Epochs {
                policy: self.rules.epoch,
                identity: 0,
            },
            mode: host.agent.mode,
            derived: Arc::default(),
            activity: Default::default(),
            objects: Arc::default(),
            unseen: Arc::default(),
        };
        let executable = self.handover.process.executable.as_ref();
        let live = LiveSession {
            session: id,
            since: SystemTime::now(),
            agent: host.agent.name.clone(),
            subject: identity.subject().to_owned(),
            resource: host.resource.name.clone(),
            database: host.name.clone(),
            login: host.login.clone(),
            pid: self.handover.process.pid,
            executable: executable.map(|path| path.display().to_string()),
            frozen: None,
        };
        let (ends, told) = watch::channel(None);
        let (freezes, frozen) = watch::channel(None);
        let agent = &host.agent;
        let watching =
            proved.map(|proved| identity::watch(&self.shared, agent, &self.claim(agent), &proved));
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
            watched: self.shared.activities.of(&agent.name),
            ends: told,
            freezes: frozen,
        };
        let watching = self.watch(agent, watching, &ends);
        let _place = self.shared.live.enter(live, ends.clone(), freezes);
        self.run(session, context, watching).await
    }

    fn ssh_header(&self, host: &HostReached, verified: &Verified, id: SessionId) -> Header {
        let mut header = self.header(Some(&host.agent), verified, Some(&host.resource), None);
        // The client was started with the command that it sends, which is recorded without these.
        let book = self.shared.book(&host.resource.name);
        if let Some(detection) = book.and_then(|book| book.borrow().masks.detection().cloned()) {
            for argument in &mut header.process.argv {
                if let Some(masked) = detection.masked_text(argument.as_bytes()) {
                    *argument = String::from_utf8_lossy(&masked).into_owned();
                }
            }
        }
        Header {
            session: id,
            started: SystemTime::now(),
            protocol: "ssh".into(),
            database: Some(host.name.clone()),
            login: Some(host.login.clone()),
            client_user: Some(host.client_user.clone()),
            application: Some(host.client.clone()),
            ..header
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let unspecified = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| unspecified(ip.to_canonical()))
}
