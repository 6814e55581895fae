//! What all connections of the worker share, and how a reload replaces part of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc, watch};

use super::console::Listener;
use super::identity::Identities;
use super::keys::{KeyError, hash_key};
use super::live::Live;
use super::sockets::Requests;
use crate::ask::Asker;
use crate::config::{Config, Resource};
use crate::decide::{DecideError, Decider};
use crate::forward::postgres::Catalogs;
use crate::forward::{Connector, Resolver, kubernetes, ssh};
use crate::handover::FromWorker;
use crate::identify::{Verifier, VerifierError};
use crate::ids::ResourceName;
use crate::mask::{HashKey, KubernetesMasks, Rules as Masks};
use crate::record::{RecordError, SealingKey, Store};
use crate::session::Rulebook;
use crate::session::activity::Activities;
use crate::terminate::End;
use crate::terminate::authority::{Authority, AuthorityError, Destinations};
use crate::terminate::postgres::{AgentPassword, Cancels};
use crate::terminate::ssh::keys::{KeyError as SshKeyError, Keys as SshKeys};
use crate::terminate::tls::Offers;
use crate::wire::kubernetes::protobuf::Kinds;

/// Held requests whose change is being found out at once, each within seconds and with two objects
/// in memory.
const FORESEEN: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error(transparent)]
    Decide(#[from] DecideError),
    #[error(transparent)]
    Verifier(#[from] VerifierError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    SshKeys(#[from] SshKeyError),
    #[error("the agent_password of {resource} cannot be used: {why}")]
    AgentPassword { resource: ResourceName, why: String },
    #[error("[console] cannot be served: {0}")]
    Console(String),
    #[error("{0} cannot change in a reload: restart hoop")]
    Fixed(&'static str),
}

/// What SSH needs beside.
pub struct Ssh {
    pub keys: Arc<SshKeys>,
    pub connector: ssh::Connector,
}

/// The worker's parts. What outlives a reload is here; what it replaces is in [`Rules`].
pub struct Shared {
    pub resolver: Resolver,
    pub connector: Arc<Connector>,
    pub catalogs: Catalogs,
    pub offers: Offers,
    pub cancels: Cancels,
    pub ssh: Ssh,
    pub kubernetes: kubernetes::Connector,
    /// What held requests would change is found out, so many at once.
    pub foreseeing: Arc<Semaphore>,
    pub store: Arc<Store>,
    pub live: Live,
    pub identities: Identities,
    pub tell: mpsc::Sender<FromWorker>,
    /// In other network namespaces.
    pub sockets: Requests,
    pub asker: Asker,
    pub activities: Activities,
    /// Connections that may still begin, those within others as well.
    pub connections: Arc<Semaphore>,
    console: Listener,
    hash_key: HashKey,
    stopping: watch::Sender<bool>,
    rules: watch::Sender<Arc<Rules>>,
    /// One per resource that there has been; live sessions hold the other ends.
    books: Mutex<HashMap<ResourceName, watch::Sender<Arc<Rulebook>>>>,
}

/// One configuration, and what is made from it.
pub struct Rules {
    pub epoch: u64,
    pub config: Arc<Config>,
    pub verifier: Arc<Verifier>,
    pub passwords: HashMap<ResourceName, AgentPassword>,
    decider: Arc<Decider>,
    /// The objects of Kubernetes that hoop reads in protobuf.
    kinds: Arc<Kinds>,
}

impl Rules {
    fn new(epoch: u64, config: Config, before: Option<&Verifier>) -> Result<Self, RulesError> {
        let verifier = match before {
            Some(before) => before.after(&config)?,
            None => Verifier::new(&config)?,
        };
        // The console's process serves it; a pair that does not fit is refused here, with the rest.
        if let Some(console) = &config.console {
            crate::console::tls(console).map_err(RulesError::Console)?;
        }
        let passwords = config.resources.iter().filter_map(agent_password);
        Ok(Self {
            epoch,
            decider: Arc::new(Decider::new(&config)?),
            kinds: Arc::new(Kinds::new()),
            verifier: Arc::new(verifier),
            passwords: passwords.collect::<Result<_, _>>()?,
            config: Arc::new(config),
        })
    }

    fn book(&self, resource: &ResourceName, key: &HashKey) -> Arc<Rulebook> {
        let masks = Masks::new(&self.config, resource, key);
        let mut all = self.config.resources.iter();
        let cluster = all.find(|r| r.name == *resource);
        let objects = cluster.and_then(|r| r.kubernetes.as_ref()).map(|cluster| {
            let (shown, kinds) = (cluster.show_secrets.clone(), self.kinds.clone());
            Arc::new(KubernetesMasks::new(masks.clone(), shown, kinds))
        });
        Arc::new(Rulebook {
            epoch: self.epoch,
            decider: self.decider.clone(),
            masks,
            objects,
            remind: self.config.approvals.remind,
        })
    }
}

impl Shared {
    /// Opens everything, and looks every configured name up once.
    pub async fn open(
        epoch: u64,
        config: Config,
        tell: mpsc::Sender<FromWorker>,
        asker: Asker,
    ) -> Result<Self, RulesError> {
        let rules = Rules::new(epoch, config, None)?;
        let config = rules.config.clone();
        let authority = Authority::open(&config.worker.state, &Destinations::of(&config))?;
        let resolver = Resolver::new(&config);
        let connector = Arc::new(Connector::new(resolver.clone()));
        let keys = Arc::new(SshKeys::open(&config.worker.state)?);
        let ssh = Ssh {
            connector: ssh::Connector::new(resolver.clone(), keys.clone(), &config.worker.state),
            keys,
        };
        let shared = Self {
            resolver: resolver.clone(),
            catalogs: Catalogs::new(connector.clone()),
            connector,
            offers: Offers::new(Arc::new(authority)),
            cancels: Cancels::default(),
            ssh,
            kubernetes: kubernetes::Connector::new(resolver.clone()),
            foreseeing: Arc::new(Semaphore::new(FORESEEN)),
            store: Store::open(
                &config.record,
                SealingKey::open(&config.worker.state.join(SealingKey::FILE))?,
            )?,
            live: Live::default(),
            identities: Identities::default(),
            console: Listener::default(),
            stopping: watch::Sender::new(false),
            hash_key: hash_key(&config.worker.state)?,
            sockets: Requests::new(tell.clone()),
            tell,
            asker,
            activities: Activities::default(),
            connections: Arc::new(Semaphore::new(super::MAX_CONNECTIONS)),
            books: Mutex::default(),
            rules: watch::Sender::new(Arc::new(rules)),
        };
        shared.write_books();
        resolver.refresh().await;
        tokio::spawn(resolver.keep_fresh());
        Ok(shared)
    }

    /// Ends what is no session yet, or will never be one.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits for [`Shared::stop`].
    pub async fn stopped(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self
            .stopping
            .subscribe()
            .wait_for(|stopping| *stopping)
            .await;
    }

    /// Serves a connection that the console passes on.
    pub fn serve_console(self: &Arc<Self>, stream: std::os::unix::net::UnixStream) {
        self.console.serve(self.clone(), stream);
    }

    /// What new connections go by.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.borrow().clone()
    }

    /// The rules of one resource, now and after every reload to come.
    pub fn book(&self, resource: &ResourceName) -> Option<watch::Receiver<Arc<Rulebook>>> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.get(resource).map(watch::Sender::subscribe)
    }

    /// Puts another configuration into force, for the next statements of live sessions too. On
    /// failure nothing has changed.
    pub fn reload(&self, epoch: u64, config: Config) -> Result<(), RulesError> {
        self.check_fixed(&config)?;
        let rules = Rules::new(epoch, config, Some(&self.rules().verifier))?;
        let config = rules.config.clone();
        if self.offers.authority().cover(&Destinations::of(&config))? {
            self.offers.clear();
        }
        self.resolver.set_config(&config);
        self.rules.send_replace(Arc::new(rules));
        self.write_books();
        // A mapping or an issuer may have changed under live sessions.
        self.identities.alarm();
        let resolver = self.resolver.clone();
        tokio::spawn(async move { resolver.refresh().await });
        self.live.end_where(|session| {
            let agent = config.agents.iter().any(|a| a.name == session.agent);
            let resource = config.resources.iter().any(|r| r.name == session.resource);
            match (agent, resource) {
                (false, _) => Some(End::Identity("the agent is no longer configured".into())),
                (_, false) => Some(End::Killed("the resource is no longer configured".into())),
                _ => None,
            }
        });
        Ok(())
    }

    fn check_fixed(&self, config: &Config) -> Result<(), RulesError> {
        let now = self.rules();
        let fixed = [
            (
                "[record] directory",
                now.config.record.directory == config.record.directory,
            ),
            (
                "[record] durability",
                now.config.record.durability == config.record.durability,
            ),
            (
                "[worker] state",
                now.config.worker.state == config.worker.state,
            ),
            (
                "[worker] user",
                now.config.worker.user == config.worker.user,
            ),
        ];
        match fixed.into_iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(RulesError::Fixed(what)),
            None => Ok(()),
        }
    }

    fn write_books(&self) {
        let rules = self.rules();
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.retain(|name, _| rules.config.resources.iter().any(|r| r.name == *name));
        for resource in &rules.config.resources {
            let book = rules.book(&resource.name, &self.hash_key);
            match books.get(&resource.name) {
                Some(known) => {
                    known.send_replace(book);
                }
                None => {
                    books.insert(resource.name.clone(), watch::Sender::new(book));
                }
            }
        }
    }
}

fn agent_password(
    resource: &Resource,
) -> Option<Result<(ResourceName, AgentPassword), RulesError>> {
    let password = resource.agent_password.as_ref()?;
    let derived = AgentPassword::derive(password).map_err(|error| RulesError::AgentPassword {
        resource: resource.name.clone(),
        why: error.to_string(),
    });
    Some(derived.map(|password| (resource.name.clone(), password)))
}
