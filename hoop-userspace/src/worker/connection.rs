//! One connection: routed, met in its own protocol, identified, logged in upstream, and run.
//!
//! Identity is settled after the client's start-up and before anything is dialled: a refusal is
//! said in the client's protocol and recorded, and no server hears of a client that is not let in.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::identity::{self, Claim, Watching};
use super::live::tell;
use super::refusals;
use super::report;
use super::rules::{Rules, Shared};
use crate::config::{self, Agent, Mode, ProtocolKind, Resource};
use crate::decide::{Decided, Decider, Permitted, Refusal, Subject};
use crate::forward::postgres::SessionCatalog;
use crate::forward::{self, ForwardError, Network, Pass, Route, Target, network};
use crate::handover::{Cancel, FromWorker, Handover, LiveSession};
use crate::identify::{Identity, IdentityError, Occasion, Proved, Reason, Standing};
use crate::ids::{Epochs, SessionId};
use crate::mask::Catalog;
use crate::record::{Header, IdentityNote, RecordError, SessionRecorder};
use crate::session::{self, activity::Watched};
use crate::terminate::postgres::{Arrived, Startup, Terms};
use crate::terminate::ssh::Room;
use crate::terminate::tls::Offer;
use crate::terminate::{End, Protocol, Stopped};

/// A client of an unconfigured destination that says nothing for this long is not waited for.
const FIRST_WORDS: Duration = Duration::from_secs(2);

/// Of a CancelRequest's key, by protocol 3.2.
const LONGEST_KEY: usize = 256;

/// A connection and what is known of it before it says a word.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) rules: Arc<Rules>,
    pub(super) handover: Handover,
    pub(super) session: SessionId,
    pub(super) room: Room,
    /// Where the client is.
    pub(super) from: Network,
    /// Within another connection: from where that one's server was dialled.
    pub(super) outer: Option<config::Network>,
}

/// Serves one connection to its end.
pub async fn serve(
    shared: Arc<Shared>,
    handover: Handover,
    session: SessionId,
    stream: std::net::TcpStream,
) {
    let stream = stream
        .set_nonblocking(true)
        .and_then(|()| TcpStream::from_std(stream));
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "a socket from the keeper is unusable"),
    };
    let rules = shared.rules();
    let from = match handover.namespace {
        None => Network::Host,
        Some(namespace) => Network::Client(namespace, Arc::new(shared.sockets.clone())),
    };
    let connection = Arc::new(Connection {
        from,
        outer: None,
        shared,
        rules,
        handover,
        session,
        room: Room::default(),
    });
    connection.route(stream).await;
}

impl Connection {
    async fn route(self: &Arc<Self>, stream: TcpStream) {
        let config = self.rules.config.clone();
        let named = self.handover.agent.as_ref();
        let Some(agent) = named.and_then(|name| config.agents.iter().find(|a| a.name == *name))
        else {
            let refusal = refusals::no_agent(&self.handover);
            return Box::pin(self.turn_away(stream, None, refusal)).await;
        };
        let destination = self.handover.destination;
        let observed = &self.handover.observed;
        let resolver = &self.shared.resolver;
        let route = forward::route(resolver, &config, agent, destination, observed, &self.from);
        match Box::pin(route).await {
            // Only a connection from before the mode changed can be here: it passes as the rest do.
            _ if agent.mode == Mode::Discover => self.pass(stream, agent, None).await,
            // Nobody's credential goes there, and what would have been refused passes.
            Route::Resource(target)
                if agent.mode == Mode::Observe
                    && network::unproven(target.resource, &target.network).is_some() =>
            {
                let why = network::unproven(target.resource, &target.network);
                self.pass(stream, agent, why.map(|why| refusals::unproven(&why)))
                    .await;
            }
            Route::Resource(target) => match target.resource.protocol {
                ProtocolKind::Postgres => self.resource(stream, agent, &target).await,
                ProtocolKind::Ssh => {
                    // Keystrokes wait for nothing.
                    let _ = stream.set_nodelay(true);
                    self.ssh(stream, agent, &target).await;
                }
                ProtocolKind::Kubernetes => {
                    let _ = stream.set_nodelay(true);
                    Box::pin(self.kubernetes(stream, agent, &target)).await;
                }
            },
            Route::Egress(pass) => Box::pin(self.relay(stream, agent, &pass, None)).await,
            Route::Refused(why) if agent.mode == Mode::Observe => {
                self.pass(stream, agent, Some(refusals::unroutable(&why)))
                    .await;
            }
            Route::Refused(why) => {
                let refusal = refusals::unroutable(&why);
                Box::pin(self.turn_away(stream, Some(agent), refusal)).await;
            }
        }
    }

    async fn resource(&self, stream: TcpStream, agent: &Agent, target: &Target<'_>) {
        // What happens once is boxed: a task is as large as the largest thing that it may hold, for
        // as long as the session lives.
        let Some(startup) = Box::pin(self.meet(stream, agent, target)).await else {
            return;
        };
        let verified = Box::pin(self.identify(agent)).await;
        let header = self.header(
            Some(agent),
            &verified,
            Some(target.resource),
            Some(&startup),
        );
        let mut recorder = match self.shared.store.session(header) {
            Ok(recorder) => recorder,
            Err(error) => {
                tracing::error!(%error, "a session cannot be recorded");
                return startup
                    .refuse(&refusals::unrecordable(&error.to_string()))
                    .await;
            }
        };
        let suspended = |error: &IdentityError| matches!(error.reason, Reason::Suspended { .. });
        let proved = match verified {
            Ok(proved) => Some(proved),
            Err(error) if agent.mode != Mode::Enforce && !suspended(&error) => {
                recorder = would_refuse(recorder, &refusals::identity(&error));
                None
            }
            Err(error) => {
                let why = End::Identity(error.reason.to_string());
                return refuse(startup, recorder, refusals::identity(&error), &why).await;
            }
        };
        self.log_in(startup, agent, target, proved, recorder).await;
    }

    /// The client's start-up; `None` if it got no further or only came to cancel.
    async fn meet(
        &self,
        stream: TcpStream,
        agent: &Agent,
        target: &Target<'_>,
    ) -> Option<Box<Startup>> {
        let resource = target.resource;
        let address = self.handover.destination.ip();
        let offer = self
            .shared
            .offers
            .offer(resource, target.name.as_deref(), address);
        if let Err(error) = &offer {
            tracing::error!(%error, resource = %resource.name, "no certificate for the resource; TLS is not offered");
        }
        let password = self.rules.passwords.get(&resource.name).cloned();
        let terms = Terms::of(resource, offer.ok(), password);
        let arrived = tokio::select! {
            arrived = Startup::accept(stream, terms) => arrived,
            () = self.shared.stopped() => return None,
        };
        match arrived {
            Ok(Arrived::Session(startup)) => Some(startup),
            Ok(Arrived::Cancel { pid, key }) => {
                // The session that it means records it.
                let found = self.shared.cancels.cancel(pid, &key, &agent.name);
                tracing::debug!(found, agent = %agent.name, "cancel request");
                if !found && key.len() <= LONGEST_KEY {
                    let agent = agent.name.clone();
                    let key = key.to_vec();
                    // A keeper that is far behind passes none on: cancelling promises nothing.
                    let cancel = FromWorker::Cancel(Cancel { agent, pid, key });
                    let _ = self.shared.tell.try_send(cancel);
                }
                None
            }
            Err(error) => {
                let detail = format!("{} at {}: {error}", agent.name, self.handover.destination);
                report(&self.shared.tell, "handshake_failed", detail, None);
                None
            }
        }
    }

    async fn log_in(
        &self,
        startup: Box<Startup>,
        agent: &Agent,
        target: &Target<'_>,
        proved: Option<Proved>,
        mut recorder: SessionRecorder,
    ) {
        let refused = || End::Broken("the session was refused".into());
        let resource = target.resource;
        let Some(rulebook) = self.shared.book(&resource.name) else {
            let refusal = refusals::unrecordable("its resource was removed a moment ago");
            return refuse(startup, recorder, refusal, &refused()).await;
        };
        // Start-up parameters are recorded too.
        recorder.redact(rulebook.borrow().masks.detection().cloned());
        if let Some(objection) = startup.objection() {
            return refuse(startup, recorder, objection, &refused()).await;
        }
        let identity = match &proved {
            Some(proved) => proved.identity.clone(),
            None => Arc::new(Identity::unverified(agent)),
        };
        let parameters = startup.parameters();
        let replication = resource.allow_replication;
        let asked = forward::Startup::new(startup.database(), parameters, replication);
        let mut subject = self.subject(agent, identity.clone(), resource, startup.database());
        let mut watched = self.shared.activities.of(&agent.name);
        let book = rulebook.borrow().clone();
        let asked = match asked {
            Ok(asked) => {
                let settled = settle(
                    asked,
                    &book.decider,
                    &mut subject,
                    &mut watched,
                    &mut recorder,
                );
                Box::pin(settled).await
            }
            Err(error) => Err(refusals::upstream(&error)),
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(refusal) => return refuse(startup, recorder, refusal, &refused()).await,
        };
        let connecting = Box::pin(self.shared.connector.connect(target, &asked));
        let upstream = match connecting.await {
            Ok(upstream) => upstream,
            Err(error) => return Box::pin(unavailable(startup, recorder, error)).await,
        };
        let now = rulebook.borrow().clone();
        if now.epoch != book.epoch
            && let Err(refusal) = permitted(&asked, &now.decider, &mut subject, &mut watched)
        {
            // A reload came while the server was being reached. It is left again.
            return refuse(startup, recorder, refusal, &refused()).await;
        }
        let attribute = now.masks.needs_columns();
        let live = self.live(&startup, agent, &identity, resource);
        let catalogs = Arc::new(self.shared.catalogs.of(target, &asked.database));
        match startup.ready(upstream, &self.shared.cancels, &agent.name, attribute) {
            Ok(session) => {
                let (ends, told) = watch::channel(None);
                let (freezes, frozen) = watch::channel(None);
                let watching = proved.map(|proved| {
                    identity::watch(&self.shared, agent, &self.claim(agent), &proved)
                });
                let renewed = match &watching {
                    Some(watching) => watching.identity.clone(),
                    None => watch::channel(identity).1,
                };
                let context = session::Context {
                    subject,
                    identity: renewed,
                    rulebook,
                    catalogs,
                    recorder,
                    asker: self.shared.asker.clone(),
                    watched,
                    ends: told,
                    freezes: frozen,
                };
                let watching = self.watch(agent, watching, &ends);
                let _place = self.shared.live.enter(live, ends.clone(), freezes);
                self.run(session, context, watching).await;
            }
            Err(not_ready) => {
                refuse(not_ready.startup, recorder, not_ready.refusal, &refused()).await;
            }
        }
    }

    /// Runs a session under its identity's watch; returns why it ended.
    pub(super) async fn run<P: Protocol>(
        &self,
        session: P,
        context: session::Context,
        watching: impl Future<Output = Infallible>,
    ) -> End {
        let id = context.subject.session;
        let agent = context.subject.identity.agent().clone();
        tracing::info!(session = %id, %agent, "session begins");
        let mut running = pin!(session::run(session, context));
        let end = tokio::select! {
            end = &mut running => end,
            never = watching => match never {},
        };
        tracing::info!(session = %id, ?end, "session ended");
        end
    }

    /// Ends the session when its identity does; notes when it holds by grace alone.
    pub(super) async fn watch(
        &self,
        agent: &Agent,
        watching: Option<Watching>,
        ends: &watch::Sender<Option<End>>,
    ) -> Infallible {
        let cgroup = &self.handover.process.cgroup;
        let Some(mut watching) = watching else {
            // Observe mode, and nobody is proved: only an operator's word ends it.
            let reason = self.shared.identities.until_suspended(agent, cgroup).await;
            tell(ends, End::Identity(reason.to_string()));
            return std::future::pending().await;
        };
        let mut grace = None;
        loop {
            let held = watching.held.borrow_and_update().clone();
            if held.grace != grace {
                grace.clone_from(&held.grace);
                let (kind, detail) = match held.grace {
                    Some(why) => (
                        "identity_grace",
                        format!("goes on without the issuer: {why}"),
                    ),
                    None => ("identity_confirmed", "the issuer confirms it again".into()),
                };
                let detail = format!("{}: {detail}", agent.name);
                report(&self.shared.tell, kind, detail, Some(self.session));
            }
            if let Some(why) = held.lost {
                self.lost(agent, why, ends).await;
            }
            let changed = tokio::select! {
                changed = watching.held.changed() => changed,
                // Whatever its watch waits for just now.
                reason = self.shared.identities.until_suspended(agent, cgroup) => {
                    self.rules.verifier.metrics().ended();
                    tell(ends, End::Identity(reason.to_string()));
                    return std::future::pending().await;
                }
            };
            if changed.is_err() {
                // The task that watched is gone, which it never should be.
                tell(
                    ends,
                    End::Identity("nobody watches its identity any more".into()),
                );
                return std::future::pending().await;
            }
        }
    }

    /// In observe mode the session goes on, and the ledger says that it would have ended.
    pub(super) async fn lost(&self, agent: &Agent, why: String, ends: &watch::Sender<Option<End>>) {
        let cgroup = &self.handover.process.cgroup;
        if agent.mode != Mode::Enforce {
            let detail = format!("{}: would have ended: {why}", agent.name);
            report(
                &self.shared.tell,
                "identity_lost",
                detail,
                Some(self.session),
            );
            let reason = self.shared.identities.until_suspended(agent, cgroup).await;
            tell(ends, End::Identity(reason.to_string()));
        } else {
            self.rules.verifier.metrics().ended();
            tell(ends, End::Identity(why));
        }
        std::future::pending().await
    }

    pub(super) fn claim(&self, agent: &Agent) -> Claim {
        Claim {
            agent: agent.name.clone(),
            cgroup: self.handover.process.cgroup.clone(),
            token: self.handover.token.clone(),
        }
    }

    pub(super) async fn identify(&self, agent: &Agent) -> Result<Proved, IdentityError> {
        let (token, cgroup) = (&self.handover.token, &self.handover.process.cgroup);
        self.shared
            .identify(agent, token, cgroup, Occasion::Opening)
            .await
    }

    /// What passes to where it asked to go. Boxed here, so that a session's task has no room for it.
    fn pass<'s>(
        &'s self,
        stream: TcpStream,
        agent: &'s Agent,
        would: Option<Refusal>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 's>> {
        let pass = Pass::Destination(self.handover.destination);
        Box::pin(async move { self.relay(stream, agent, &pass, would).await })
    }

    /// What passes unterminated: counted, and recorded as a session without exchanges; with the refusal
    /// that enforce mode would have had for it, if any.
    async fn relay(&self, stream: TcpStream, agent: &Agent, pass: &Pass, would: Option<Refusal>) {
        let verified = self.identify(agent).await;
        let network = self.from.chosen(agent.network);
        let header = Header {
            netns: network.namespace().map(|there| there.inode),
            ..self.header(Some(agent), &verified, None, None)
        };
        let mut recorder = match self.shared.store.session(header) {
            Ok(recorder) => recorder,
            Err(error) => {
                tracing::error!(%error, "a relayed connection cannot be recorded");
                return forward::relay::reset(&stream);
            }
        };
        if let Some(refusal) = would {
            tracing::info!(agent = %agent.name, why = refusal.message, "would have been refused");
            recorder = would_refuse(recorder, &refusal);
        }
        let counts = forward::Counts::default();
        let config = self.rules.config.clone();
        let suspended = &self.shared.identities;
        let resolver = &self.shared.resolver;
        let end = tokio::select! {
            biased;
            // Before a byte of it passes, and while it lives.
            reason = suspended.until_suspended(agent, &self.handover.process.cgroup) => {
                End::Identity(reason.to_string())
            }
            relayed = forward::relay(stream, pass, &network, &config, resolver, &counts) => {
                match &relayed.outcome {
                    Ok(()) => End::Finished,
                    Err(error) => End::Broken(error.to_string()),
                }
            }
            () = self.shared.stopped() => End::Drained,
        };
        ended(&mut recorder, &end);
    }

    /// A connection that leads nowhere: told so if it speaks a protocol that hoop speaks, reset if not.
    async fn turn_away(&self, stream: TcpStream, agent: Option<&Agent>, refusal: Refusal) {
        let nobody = match agent {
            Some(agent) => self.identify(agent).await,
            None => Err(IdentityError {
                agent: "none".into(),
                reason: crate::identify::Reason::NotConfigured,
            }),
        };
        let postgres = tokio::time::timeout(FIRST_WORDS, speaks_postgres(&stream)).await;
        let startup = if postgres.unwrap_or(false) {
            let terms = Terms {
                tls: self.offer_of_destination(),
                allow_plain: true,
                allow_replication: false,
                agent_password: None,
                max_message: 64 * 1024,
            };
            match Startup::accept(stream, terms).await {
                Ok(Arrived::Session(startup)) => Some(startup),
                _ => None,
            }
        } else {
            forward::relay::reset(&stream);
            None
        };
        let header = self.header(agent, &nobody, None, startup.as_deref());
        let mut recorder = match self.shared.store.session(header) {
            Ok(recorder) => recorder,
            Err(error) => return tracing::error!(%error, "a refusal cannot be recorded"),
        };
        let end = End::Broken("the connection was refused".into());
        match startup {
            Some(startup) => refuse(startup, recorder, refusal, &end).await,
            None => {
                if let Err(error) = recorder.refusal(refusal) {
                    tracing::error!(%error, "a refusal cannot be recorded");
                }
                ended(&mut recorder, &end);
            }
        }
    }

    /// A client that insists on TLS hears a refusal only by the certificate of what it dialled.
    fn offer_of_destination(&self) -> Option<Offer> {
        let destination = self.handover.destination;
        let address = destination.ip().to_canonical();
        let (resolver, config) = (&self.shared.resolver, &self.rules.config);
        let host = address.to_string();
        let target = forward::reached(resolver, config, &host, destination.port())?;
        let offers = &self.shared.offers;
        let offer = offers.offer(target.resource, target.name.as_deref(), address);
        offer
            .map_err(|error| tracing::error!(%error, "no certificate for a refusal"))
            .ok()
    }

    /// From where the resource is dialled for this connection.
    fn network(&self, agent: &Agent, resource: &Resource) -> Network {
        let otherwise = self.outer.or(agent.network);
        self.from.for_resource(resource, otherwise)
    }

    pub(super) fn header(
        &self,
        agent: Option<&Agent>,
        identity: &Result<Proved, IdentityError>,
        resource: Option<&Resource>,
        startup: Option<&Startup>,
    ) -> Header {
        let handover = &self.handover;
        let login = resource.map(|resource| &resource.login);
        let database = login.and_then(|login| login.database.as_deref());
        let parameter = |name: &str| {
            let mut parameters = startup?.parameters().iter();
            parameters
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        };
        Header {
            session: self.session,
            started: handover.accepted,
            agent: agent.map(|agent| agent.name.to_string()),
            mode: agent.map_or(Mode::Enforce, |agent| agent.mode),
            identity: note(identity),
            process: handover.process.clone(),
            resource: resource.map(|resource| resource.name.to_string()),
            protocol: if startup.is_some() { "postgres" } else { "tcp" }.into(),
            destination: handover.destination,
            observed: handover.observed.clone(),
            database: database
                .or(startup.map(Startup::database))
                .map(str::to_owned),
            login: login.map(|login| login.user.clone()),
            client_user: startup.map(|startup| startup.user().to_owned()),
            application: parameter("application_name"),
            netns: agent
                .zip(resource)
                .and_then(|(agent, resource)| self.network(agent, resource).namespace())
                .map(|there| there.inode),
        }
    }

    fn subject(
        &self,
        agent: &Agent,
        identity: Arc<Identity>,
        resource: &Resource,
        database: &str,
    ) -> Subject {
        let login = &resource.login;
        Subject {
            session: self.session,
            identity,
            process: Arc::new(self.handover.process.clone()),
            resource: resource.name.clone(),
            database: login.database.as_deref().unwrap_or(database).to_owned(),
            login: login.user.clone(),
            epochs: Epochs {
                policy: self.rules.epoch,
                identity: 0,
            },
            mode: agent.mode,
            derived: Arc::default(),
            activity: Default::default(),
            objects: Arc::default(),
            unseen: Arc::default(),
        }
    }

    fn live(
        &self,
        startup: &Startup,
        agent: &Agent,
        identity: &Identity,
        resource: &Resource,
    ) -> LiveSession {
        let executable = self.handover.process.executable.as_ref();
        LiveSession {
            session: self.session,
            since: self.handover.accepted,
            agent: agent.name.clone(),
            subject: identity.subject().to_owned(),
            resource: resource.name.clone(),
            database: startup.database().to_owned(),
            login: startup.user().to_owned(),
            pid: self.handover.process.pid,
            executable: executable.map(|path| path.display().to_string()),
            frozen: None,
        }
    }
}

impl session::Catalogs for SessionCatalog {
    fn estimate(&self, statement: &str) -> Option<session::Estimate> {
        Self::estimate(self, statement)
    }

    fn current(&self) -> Arc<Catalog> {
        Self::current(self)
    }

    fn refresh(&self) -> session::LookUp {
        Self::refresh(self)
    }

    fn due(&self, changed: bool) -> Option<session::LookUp> {
        Self::due(self, changed)
    }

    fn outdated(&self) {
        Self::outdated(self);
    }
}

fn note(proved: &Result<Proved, IdentityError>) -> IdentityNote {
    match proved {
        Ok(Proved {
            identity, standing, ..
        }) => IdentityNote::Verified {
            kind: identity.kind(),
            confirmed: match standing {
                Standing::Confirmed { at } | Standing::Grace { confirmed: at, .. } => Some(*at),
                Standing::Unasked => None,
            },
            grace: match standing {
                Standing::Grace { why, .. } => Some(why.clone()),
                _ => None,
            },
            issuer: identity.issuer().to_string(),
            subject: identity.subject().to_owned(),
            client_id: identity.client_id().to_owned(),
            groups: identity.groups().to_vec(),
            scopes: identity.scopes().to_vec(),
            expires: identity.expires(),
        },
        Err(error) => IdentityNote::Unverified {
            why: error.reason.to_string(),
        },
    }
}

/// Start-up parameters that a policy must permit, decided and recorded as the statements that do
/// the same. Nobody is asked for them: a question is answered with the refusal that it carries.
async fn settle(
    mut asked: forward::Startup,
    decider: &Decider,
    subject: &mut Subject,
    watched: &mut Watched,
    recorder: &mut SessionRecorder,
) -> Result<forward::Startup, Refusal> {
    let Some(permitted) = permitted(&asked, decider, subject, watched)? else {
        return Ok(asked);
    };
    if decider.watches() {
        watched.permitted(&permitted);
    }
    let unrecordable = |error: RecordError| refusals::unrecordable(&error.to_string());
    let recorded = recorder.permitted(permitted).map_err(unrecordable)?;
    if recorder.waits_for_disk() {
        recorder.durable().await.map_err(unrecordable)?;
    }
    asked.permit(&recorded);
    Ok(asked)
}

/// The permission for start-up parameters; `None` if they need none.
fn permitted(
    asked: &forward::Startup,
    decider: &Decider,
    subject: &mut Subject,
    watched: &mut Watched,
) -> Result<Option<Permitted>, Refusal> {
    let Some(request) = asked.request() else {
        return Ok(None);
    };
    if decider.watches() {
        subject.activity = watched.now();
    }
    match decider.decide(subject, request) {
        Decided::Permitted(permitted) => Ok(Some(permitted)),
        Decided::Refused { refusal, .. } => Err(refusal),
        Decided::Ask { question, .. } => {
            Err(question.unavailable("nobody can be asked before a session has begun"))
        }
    }
}

/// No session with the server could be had. What the server says of the database or of itself the
/// client hears in the server's own words, because drivers act on its code; what it says of hoop's
/// login is for the operator.
async fn unavailable(startup: Box<Startup>, mut recorder: SessionRecorder, error: ForwardError) {
    let end = End::Broken(error.to_string());
    let refusal = refusals::upstream(&error);
    match error {
        ForwardError::Server { code, message } if !code.starts_with("28") => {
            match recorder.refusal(refusal) {
                Ok(_) => startup.relay(&code, &message).await,
                Err(error) => {
                    tracing::error!(%error, "a refusal cannot be recorded");
                    let refusal = refusals::unrecordable(&error.to_string());
                    startup.refuse(&refusal).await;
                }
            }
            ended(&mut recorder, &end);
        }
        _ => refuse(startup, recorder, refusal, &end).await,
    }
}

/// That it is not recorded keeps nothing from passing, which an observed agent's connection does. By value:
/// a task that has lent its recorder keeps room for it beside the one to which it is handed on.
pub(super) fn would_refuse(mut recorder: SessionRecorder, refusal: &Refusal) -> SessionRecorder {
    if let Err(error) = recorder.would_refuse(refusal) {
        tracing::error!(%error, "what would have been refused cannot be recorded");
    }
    recorder
}

/// Recorded, then said.
async fn refuse(startup: Box<Startup>, mut recorder: SessionRecorder, refusal: Refusal, end: &End) {
    match recorder.refusal(refusal) {
        Ok(recorded) => startup.refuse(recorded.get()).await,
        Err(error) => {
            tracing::error!(%error, "a refusal cannot be recorded");
            startup
                .refuse(&refusals::unrecordable(&error.to_string()))
                .await;
        }
    }
    ended(&mut recorder, end);
}

pub(super) fn ended(recorder: &mut SessionRecorder, end: &End) {
    if let Err(error) = recorder.ended(end, Stopped::Idle) {
        tracing::error!(%error, "the end of a session could not be recorded");
    }
}

/// Whether the client's first bytes are a start-up packet (protocol manual, "Message Formats"):
/// a length, then a version or the code of a request. Nothing is consumed.
async fn speaks_postgres(stream: &TcpStream) -> bool {
    let mut first = [0; 8];
    loop {
        match stream.peek(&mut first).await {
            Ok(8..) => break,
            Ok(1..) => tokio::time::sleep(Duration::from_millis(10)).await,
            _ => return false,
        }
    }
    let [_, _, _, _, code @ ..] = first;
    let code = u32::from_be_bytes(code);
    // Version 3.x, or 1234.5678 to 1234.5680: CancelRequest, SSLRequest, GSSENCRequest.
    code >> 16 == 3 || (code >> 16 == 1234 && (5678..=5680).contains(&(code & 0xffff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_of<A, B, C, D, F>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// It is held for as long as a session lives, whatever it does.
    #[test]
    fn a_connections_task_is_small() {
        let size = future_of(serve);
        println!("{size} bytes");
        assert!(size <= 20 * 1024, "{size} bytes");
    }
}
