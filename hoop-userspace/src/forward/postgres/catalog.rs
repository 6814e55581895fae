//! Looks up what a database's relations are, on connections of hoop's own.
//!
//! Never on the agent's connection: that one is in the agent's hands (its search path, its
//! temporary tables, its transaction). Results are kept per database and shared by its sessions.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::login::Channel;
use super::{Connector, ForwardError, estimate, objects};
use crate::config::Resource;
use crate::decide::{Definitions, Objects, Query};
use crate::forward::network::Network;
use crate::forward::route::Target;
use crate::ids::ResourceName;
use crate::mask::{Catalog, FIRST_NORMAL_OID, Relation, RelationKind};
use crate::wire::postgres::login::{self as wire, Answer};

/// What is known counts this long: a view that was replaced may read other tables.
const TTL: Duration = Duration::from_secs(60);

/// However many sessions meet unknown tables, one database is busy with us a tenth of its time at
/// most, and is asked no more often than this.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
const SHARE: u32 = 10;

/// A decision waits no longer than this for what it should know.
const PATIENCE: Duration = Duration::from_secs(5);

/// After a look-up that failed, decisions are made without for this long.
const RETRY: Duration = Duration::from_secs(30);

/// The whole look-up, login apart. The server gives up at the same time.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// However many questions there are, the servers plan so many statements of them.
const PLANNED_AT_ONCE: usize = 4;

/// Databases remembered.
const CACHED: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// A database with more is not masked by name: all its columns stay unknown, and so masked whole.
const MAX_ROWS: usize = 400_000;

const SETTINGS: &[(&str, &str)] = &[
    ("application_name", "hoop catalog"),
    ("client_encoding", "UTF8"),
    ("default_transaction_read_only", "on"),
    // Names and operators below mean the system's own, whatever the login's default path holds.
    ("search_path", "pg_catalog"),
    // Of the agent's own transaction, too: it waits for this look-up.
    ("lock_timeout", "500"),
    ("statement_timeout", "10000"),
];

/// Temporary tables are listed too (`pg_temp_N`), so that they are not unknown for ever.
const RELATIONS: &str = "select c.oid, n.nspname, c.relname, c.relkind \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid >= 16384 \
    and n.nspname <> 'pg_toast' and n.nspname !~ '^pg_toast_temp_'";

/// `pg_catalog` is searched first: these names mean the system's own, unless another path is set.
const OWN: &str = "select c.relname from pg_class c \
    where c.relnamespace = 'pg_catalog'::regnamespace and c.oid < 16384 \
    and c.relkind in ('r', 'v', 'm', 'p', 'f')";

const COLUMNS: &str = "select a.attrelid, a.attnum, a.attname, a.atttypid \
    from pg_attribute a join pg_class c on c.oid = a.attrelid \
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid >= 16384 \
    and a.attnum > 0 and not a.attisdropped";

/// What views are defined as. Wording a definition takes locks of what it reads: views of what
/// somebody is about to change are left out, and masked whole until the next look-up.
const DEFINITIONS: &str = "select c.oid, pg_get_viewdef(c.oid) from pg_class c \
    where c.relkind in ('v', 'm') and c.oid >= 16384 \
    and not exists (select 1 from pg_rewrite r \
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid \
      join pg_locks l on l.relation = d.refobjid \
      where r.ev_class = c.oid and d.refclassid = 'pg_class'::regclass \
      and l.mode = 'AccessExclusiveLock' and l.pid <> pg_backend_pid())";

/// Relations with rules that return rows: a write to one may show any table's values under the
/// relation's own columns. The rules' trees are read as text, which takes no lock.
const RULED: &str = "select distinct r.ev_class from pg_rewrite r \
    where r.ev_type <> '1' and r.ev_class >= 16384 \
    and (r.ev_action::text like '%:commandType 1 %' or r.ev_action::text like '%:returningList (%')";

const PARENTS: &str = "select inhrelid, inhparent from pg_inherits";

/// What the rules that make a view select from, and the functions they call (as relation 0).
///
/// A view over the planner's samples of values counts as one that calls such a function.
const READS: &str = "select distinct r.ev_class, \
    case when d.refclassid = 'pg_class'::regclass and s.oid is null then d.refobjid else 0 end \
    from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid \
    left join pg_class s on d.refclassid = 'pg_class'::regclass and s.oid = d.refobjid \
      and s.oid < 16384 and s.relname in ('pg_statistic', 'pg_stats', 'pg_statistic_ext_data', \
        'pg_stats_ext', 'pg_stats_ext_exprs', 'pg_largeobject') \
    where r.ev_type = '1' and r.ev_class >= 16384 and d.refobjid <> r.ev_class \
    and (d.refclassid = 'pg_class'::regclass \
      or (d.refclassid = 'pg_proc'::regclass and d.refobjid >= 16384))";

/// What is known of all databases. Shared by all sessions of a worker.
pub struct Catalogs {
    connector: Arc<Connector>,
    databases: Mutex<LruCache<Key, Arc<Database>>>,
    /// Counts what was found, over all databases: verdicts depend on it.
    epochs: Arc<AtomicU64>,
    /// Statements that are planned at once.
    planning: Arc<Semaphore>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    resource: ResourceName,
    database: String,
    login: String,
    /// The network namespace, by its cookie: what is at an address there is no other's.
    network: Option<u64>,
}

struct Database {
    /// How it is reached; the newest session's way counts.
    way: Mutex<Way>,
    state: Mutex<State>,
    fetching: AsyncMutex<()>,
}

/// An owned [`Target`].
#[derive(Clone)]
struct Way {
    resource: Arc<Resource>,
    name: Option<String>,
    addresses: Vec<SocketAddr>,
    network: Network,
}

#[derive(Default)]
struct State {
    catalog: Arc<Catalog>,
    /// What was there at this moment is in it.
    as_of: Option<Instant>,
    /// What was there before this moment counts no more: a session has changed it, or may have.
    outdated: Option<Instant>,
    /// When one was last begun, or failed.
    tried: Option<Instant>,
    failed: Option<Instant>,
    /// How long the last one took.
    took: Duration,
}

impl State {
    /// Whether what is known may be believed.
    fn counts(&self) -> bool {
        self.as_of
            .is_some_and(|as_of| as_of.elapsed() < TTL && Some(as_of) > self.outdated)
    }
}

/// One session's view of its database's catalog. Cheap to clone.
#[derive(Clone)]
pub struct SessionCatalog {
    connector: Arc<Connector>,
    name: Arc<str>,
    database: Arc<Database>,
    epochs: Arc<AtomicU64>,
    planning: Arc<Semaphore>,
}

impl Catalogs {
    pub fn new(connector: Arc<Connector>) -> Self {
        Self {
            connector,
            databases: Mutex::new(LruCache::new(CACHED)),
            epochs: Arc::default(),
            planning: Arc::new(Semaphore::new(PLANNED_AT_ONCE)),
        }
    }

    /// The catalog of the database that a session with this target works in. Nothing is looked up
    /// before it is needed. `database` is what the client asked for; the login's own goes first.
    pub fn of(&self, target: &Target<'_>, database: &str) -> SessionCatalog {
        let login = &target.resource.login;
        let name = login.database.as_deref().unwrap_or(database);
        let key = Key {
            resource: target.resource.name.clone(),
            database: name.into(),
            login: login.user.clone(),
            network: target.network.namespace().map(|there| there.cookie),
        };
        let way = Way {
            resource: Arc::new(target.resource.clone()),
            name: target.name.clone(),
            addresses: target.addresses.clone(),
            network: target.network.clone(),
        };
        let mut databases = self
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let database = databases.get_or_insert(key, || {
            Arc::new(Database {
                way: Mutex::new(way.clone()),
                state: Mutex::default(),
                fetching: AsyncMutex::default(),
            })
        });
        // A reload may have brought another credential.
        *lock(&database.way) = way;
        SessionCatalog {
            connector: self.connector.clone(),
            name: name.into(),
            database: database.clone(),
            epochs: self.epochs.clone(),
            planning: self.planning.clone(),
        }
    }
}

impl SessionCatalog {
    /// What is known now; empty before the first look-up and once what is known is too old, or older
    /// than a change.
    pub fn current(&self) -> Arc<Catalog> {
        let state = lock(&self.database.state);
        match state.counts() {
            true => state.catalog.clone(),
            false => Arc::default(),
        }
    }

    /// How many rows the server expects the statement to return or change, where the resource permits
    /// to ask and not too much is being planned. It ends soon, with nothing if there is no telling.
    pub fn estimate(
        &self,
        statement: &str,
    ) -> Option<Pin<Box<dyn Future<Output = Option<u64>> + Send>>> {
        let way = lock(&self.database.way).clone();
        if !way.resource.estimate {
            return None;
        }
        let place = self.planning.clone().try_acquire_owned().ok()?;
        let (connector, name) = (self.connector.clone(), self.name.clone());
        let statement = statement.to_owned();
        Some(Box::pin(async move {
            let _place = place;
            let planned = estimate::rows(&connector, &way.target(), &name, &statement).await;
            planned
                .inspect_err(|error| tracing::debug!(%error, "a statement could not be planned"))
                .ok()
                .flatten()
        }))
    }

    /// A session changes what there is, or has changed it: no other believes what was looked up before,
    /// nor what a look-up brings that has begun already.
    pub fn outdated(&self) {
        lock(&self.database.state).outdated = Some(Instant::now());
    }

    /// Looks again. Returns what was there at some moment after the call; nothing where the look-up
    /// failed, since what was known before may be what has changed.
    pub fn refresh(&self) -> Pin<Box<dyn Future<Output = Arc<Catalog>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            match this.look_again().await {
                Ok(true) => lock(&this.database.state).catalog.clone(),
                // Another's look-up failed, which that one told.
                Ok(false) => Arc::default(),
                Err(error) => {
                    let database = &*this.name;
                    tracing::warn!(database, %error, "catalog look-up failed, unknown columns are masked whole");
                    Arc::default()
                }
            }
        })
    }

    /// A look-up that a decision should wait for, which ends by itself. None is due while what is
    /// known counts, unless the session `changed` what there is, nor for a while after one failed:
    /// the decision is then made without. It brings what [`Self::refresh`] does.
    pub fn due(&self, changed: bool) -> Option<Pin<Box<dyn Future<Output = Arc<Catalog>> + Send>>> {
        let state = lock(&self.database.state);
        let since = |at: Option<Instant>| at.map(|at| at.elapsed());
        let counts = state.counts();
        let failed = since(state.failed).is_some_and(|age| age < RETRY);
        if failed || counts && !changed {
            return None;
        }
        let this = self.clone();
        Some(Box::pin(async move {
            let looked = tokio::time::timeout(PATIENCE, this.refresh()).await;
            looked.unwrap_or_else(|_| {
                let database = &*this.name;
                tracing::warn!(
                    database,
                    "catalog look-up takes long, decisions are made without"
                );
                lock(&this.database.state).failed = Some(Instant::now());
                Arc::default()
            })
        }))
    }

    /// Whether what is known now was there after the call.
    async fn look_again(&self) -> Result<bool, ForwardError> {
        let asked = Instant::now();
        let _alone = self.database.fetching.lock().await;
        let (as_of, tried, interval) = {
            let state = lock(&self.database.state);
            let interval = (state.took * SHARE).max(MIN_INTERVAL);
            (state.as_of, state.tried, interval)
        };
        // Whoever asked before the last look at the database is answered by it; a failure too is
        // shared by all who waited for it, or they would fail one after another.
        if as_of.max(tried) >= Some(asked) {
            return Ok(as_of >= Some(asked));
        }
        if let Some(tried) = tried {
            // An unknown table may be a moment old: wait rather than answer from before it was.
            tokio::time::sleep(interval.saturating_sub(tried.elapsed())).await;
        }
        let begun = Instant::now();
        lock(&self.database.state).tried = Some(begun);
        let way = lock(&self.database.way).clone();
        let fetched = fetch(&self.connector, &way.target(), &self.name).await;
        let mut state = lock(&self.database.state);
        state.took = begun.elapsed();
        match fetched {
            Ok(Fetched {
                catalog,
                objects,
                as_of,
            }) => {
                let known = state.catalog.objects();
                // The same under its old number: verdicts go on to hold.
                let objects = match known.is_known() && known.same(&objects) {
                    true => known.clone(),
                    false => {
                        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed) + 1;
                        Arc::new(objects.at_epoch(epoch))
                    }
                };
                state.catalog = Arc::new(catalog.with_objects(objects));
                state.as_of = Some(as_of);
                state.failed = None;
            }
            Err(error) => {
                state.tried = Some(Instant::now());
                state.failed = state.tried;
                return Err(error);
            }
        }
        Ok(true)
    }
}

impl Way {
    fn target(&self) -> Target<'_> {
        Target {
            resource: &self.resource,
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            network: self.network.clone(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One look at a database.
pub struct Fetched {
    pub catalog: Catalog,
    pub objects: Objects,
    /// What was there at this moment is in it.
    pub as_of: Instant,
}

/// Connects, reads the whole catalog in one snapshot, and leaves.
pub async fn fetch(
    connector: &Connector,
    target: &Target<'_>,
    database: &str,
) -> Result<Fetched, ForwardError> {
    let (mut channel, _) = connector.log_in(target, database, SETTINGS).await?;
    let as_of = Instant::now();
    let read = tokio::time::timeout(FETCH_TIMEOUT, read(&mut channel)).await;
    let (catalog, objects) = read.map_err(|_| ForwardError::Timeout(FETCH_TIMEOUT.as_secs()))??;
    // Politeness only: the server notices a closed connection as well.
    let _ = channel.send(&wire::terminate()).await;
    Ok(Fetched {
        catalog,
        objects,
        as_of,
    })
}

async fn read(channel: &mut Channel) -> Result<(Catalog, Objects), ForwardError> {
    query(
        channel,
        "begin isolation level repeatable read read only",
        |_| Some(()),
    )
    .await?;
    let found = query(channel, RELATIONS, |row| relation(row).map(|r| (r.oid, r))).await?;
    let mut relations: HashMap<u32, Relation> = found.into_iter().collect();
    let own = query(channel, OWN, |row| text(row, 0).map(Into::into)).await?;
    let columns = query(channel, COLUMNS, |row| {
        Some((
            number(row, 0)?,
            number::<i16>(row, 1)?,
            text(row, 2)?.into(),
            number::<u32>(row, 3)?,
        ))
    });
    let mut kinds = Vec::new();
    for (oid, attribute, name, kind) in columns.await? {
        if let Some(relation) = relations.get_mut(&oid) {
            relation.columns.insert(attribute, name);
            kinds.push(((oid, attribute), kind));
        }
    }
    for (child, parent) in query(channel, PARENTS, pair).await? {
        if let Some(relation) = relations.get_mut(&child) {
            relation.parents.push(parent);
        }
    }
    for (view, source) in query(channel, READS, pair).await? {
        match relations.get_mut(&view) {
            Some(relation) if source == 0 => relation.opaque = true,
            // What the system's own relations show is not the tables' content by column.
            Some(relation) if source >= FIRST_NORMAL_OID => relation.reads.push(source),
            _ => {}
        }
    }
    let ruled = query(channel, RULED, |row| number::<u32>(row, 0)).await?;
    for oid in &ruled {
        if let Some(relation) = relations.get_mut(oid) {
            relation.opaque = true;
        }
    }
    let objects = objects::read(channel, &relations).await?;
    // The last, since a lock that is not to be had ends the transaction.
    let mut definitions = definitions(channel).await?;
    definitions.retain(|(oid, _)| !ruled.contains(oid));
    let catalog = Catalog::new(relations.into_values())
        .with_system(own)
        .with_kinds(kinds)
        .with_definitions(definitions);
    Ok((catalog, objects))
}

/// What views are made of, where the server tells and the text is understood.
async fn definitions(channel: &mut Channel) -> Result<Vec<(u32, Arc<Query>)>, ForwardError> {
    let worded = query(channel, DEFINITIONS, |row| {
        Some((number::<u32>(row, 0)?, text(row, 1).map(str::to_owned)))
    });
    let worded = match worded.await {
        Ok(worded) => worded,
        // A lock that could not be had, most likely: views are masked whole meanwhile.
        Err(ForwardError::Server { message, .. }) => {
            tracing::debug!(%message, "views' definitions could not be read");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    // Parsing many takes a while, and other sessions share this thread.
    let parsed = tokio::task::spawn_blocking(move || {
        let definitions = Definitions::new();
        let parsed = worded.into_iter().filter_map(|(oid, text)| {
            let query = definitions.read(&text?)?;
            Some((oid, Arc::new(query)))
        });
        parsed.collect()
    });
    parsed
        .await
        .map_err(|_| ForwardError::Protocol("a view's definition".into()))
}

/// Runs one statement; every row must read as `read` expects.
pub(super) async fn query<T>(
    channel: &mut Channel,
    sql: &str,
    read: impl Fn(&[Option<Bytes>]) -> Option<T>,
) -> Result<Vec<T>, ForwardError> {
    channel.send(&wire::query(sql)).await?;
    let mut rows = Vec::new();
    loop {
        match channel.next().await? {
            Answer::Ready => return Ok(rows),
            Answer::Row(row) if rows.len() < MAX_ROWS => {
                let row = read(&row);
                rows.push(row.ok_or_else(|| ForwardError::Protocol("a catalog row".into()))?);
            }
            Answer::Row(_) => {
                return Err(ForwardError::Protocol(
                    "a catalog larger than is kept".into(),
                ));
            }
            _ => {}
        }
    }
}

fn relation(row: &[Option<Bytes>]) -> Option<Relation> {
    Some(Relation {
        oid: number(row, 0)?,
        schema: text(row, 1)?.into(),
        name: text(row, 2)?.into(),
        kind: match text(row, 3)? {
            "r" => RelationKind::Table,
            "p" => RelationKind::Partitioned,
            "v" => RelationKind::View,
            "m" => RelationKind::Materialized,
            "f" => RelationKind::Foreign,
            _ => return None,
        },
        columns: BTreeMap::new(),
        parents: Vec::new(),
        reads: Vec::new(),
        opaque: false,
    })
}

fn pair(row: &[Option<Bytes>]) -> Option<(u32, u32)> {
    Some((number(row, 0)?, number(row, 1)?))
}

pub(super) fn number<N: std::str::FromStr>(row: &[Option<Bytes>], column: usize) -> Option<N> {
    text(row, column)?.parse().ok()
}

pub(super) fn text(row: &[Option<Bytes>], column: usize) -> Option<&str> {
    std::str::from_utf8(row.get(column)?.as_deref()?).ok()
}
