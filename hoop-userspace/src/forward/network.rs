//! From which network a server is dialled: hoop's own, or the network namespace that its client is in.
//!
//! A container's network has names, addresses and rules of its own, so what its agent asks for is
//! dialled from there. But whoever controls that network can have any address in it: hoop logs in
//! there to nobody who has not proved to be the resource, and what cannot be dialled from there is
//! not dialled at all.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::{TcpSocket, TcpStream};

use super::route::{Route, Target, Unroutable, observed_name};
use crate::accept::Namespace;
use crate::config::{self, Agent, Config, Host, Mode, Resource};
use crate::terminate::postgres::Dial;
use crate::wire::tls::host_name;

/// A socket that is being made.
pub type Making = Pin<Box<dyn Future<Output = io::Result<std::net::TcpStream>> + Send>>;

/// Makes unconnected, non-blocking TCP sockets in other network namespaces; an error is in words that
/// are fit for the agent.
pub trait Sockets: Send + Sync {
    fn socket(&self, namespace: Namespace, v6: bool) -> Making;
}

/// A network that servers are dialled from. Cheap to clone.
#[derive(Clone, Default)]
pub enum Network {
    #[default]
    Host,
    /// The namespace of the client.
    Client(Namespace, Arc<dyn Sockets>),
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("Host"),
            Self::Client(namespace, _) => write!(f, "Client({namespace})"),
        }
    }
}

impl Network {
    /// From where a resource is dialled for a client that comes from `self`. What neither it nor the
    /// agent says is dialled from where the client is, if the server can prove itself there.
    pub fn for_resource(&self, resource: &Resource, otherwise: Option<config::Network>) -> Self {
        let pinned = resource.upstream.as_ref().map(|_| config::Network::Host);
        let unproven = resource.proves().err().map(|_| config::Network::Host);
        self.chosen(resource.network.or(pinned).or(otherwise).or(unproven))
    }

    /// The same of what is no resource.
    pub fn chosen(&self, said: Option<config::Network>) -> Self {
        match said.unwrap_or(config::Network::Client) {
            config::Network::Client => self.clone(),
            config::Network::Host => Self::Host,
        }
    }

    /// `None`: hoop's own.
    pub fn namespace(&self) -> Option<Namespace> {
        match self {
            Self::Host => None,
            Self::Client(namespace, _) => Some(*namespace),
        }
    }

    pub fn is_client(&self) -> bool {
        self.namespace().is_some()
    }

    /// As [`config::Resource`] would say it.
    pub fn said(&self) -> config::Network {
        match self {
            Self::Host => config::Network::Host,
            Self::Client(..) => config::Network::Client,
        }
    }

    /// Connects from there and from nowhere else.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let Self::Client(namespace, sockets) = self else {
            return TcpStream::connect(address).await;
        };
        let from_there = |error: io::Error| {
            let why = format!("{error} (dialled from the client's own network, {namespace})");
            io::Error::new(error.kind(), why)
        };
        let socket = sockets.socket(*namespace, address.is_ipv6()).await;
        let socket = TcpSocket::from_std_stream(socket.map_err(from_there)?);
        socket.connect(address).await.map_err(from_there)
    }

    /// For what is dialled again later, to cancel.
    pub fn dial(&self) -> Dial {
        let network = self.clone();
        Arc::new(move |address| {
            let network = network.clone();
            Box::pin(async move { network.connect(address).await })
        })
    }
}

/// Why no credential of the resource's goes there: it is dialled where anybody may have its address,
/// and it could not prove that it is the one that is meant.
pub fn unproven(resource: &Resource, network: &Network) -> Option<String> {
    let namespace = network.namespace()?;
    let why = resource.proves().err()?;
    Some(format!(
        "{} would be dialled from the client's own network ({namespace}), where whoever controls the container may have its address, and {why}: hoop does not log in there",
        resource.name
    ))
}

/// A route for a client that comes from `from`. Where it goes on from there it goes to the address
/// that the client asked for: what hoop resolves is another network's.
pub(super) fn placed<'c>(
    routed: Route<'c>,
    from: &Network,
    config: &'c Config,
    agent: &Agent,
    destination: SocketAddr,
    observed: &[String],
) -> Route<'c> {
    if !from.is_client() {
        return routed;
    }
    let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    match routed {
        Route::Resource(target) => {
            let network = from.for_resource(target.resource, agent.network);
            Route::Resource(there(target, network, destination))
        }
        Route::Refused(why @ (Unroutable::Unlisted { .. } | Unroutable::Unproven { .. })) => {
            match by_proof(from, config, agent, destination, observed) {
                Ok(Some(target)) => Route::Resource(target),
                Ok(None) => Route::Refused(why),
                Err(why) => Route::Refused(why),
            }
        }
        other => other,
    }
}

fn there<'c>(target: Target<'c>, network: Network, destination: SocketAddr) -> Target<'c> {
    if !network.is_client() {
        return Target { network, ..target };
    }
    // In a network of the operator's own the address is what a certificate may say as well.
    let own = target.resource.has_in_a_network(destination.ip());
    let name = || only_name(target.resource).filter(|_| !own);
    Target {
        name: target.name.or_else(name),
        addresses: vec![destination],
        network,
        ..target
    }
}

/// Names of a container's network are not known to hoop, so the address may be that of a resource
/// which is there by the operator's word. The server has to prove that it has the resource's name:
/// the address is the agent's choice, and proves nothing.
fn by_proof<'c>(
    from: &Network,
    config: &'c Config,
    agent: &Agent,
    destination: SocketAddr,
    observed: &[String],
) -> Result<Option<Target<'c>>, Unroutable> {
    let observed: Vec<String> = observed.iter().filter_map(|n| host_name(n)).collect();
    let possible: Vec<(&'c Resource, Option<&str>)> = config
        .resources
        .iter()
        .filter(|resource| resource.network == Some(config::Network::Client))
        .filter(|resource| resource.port == destination.port() && resource.proves().is_ok())
        .map(|resource| (resource, observed_name(resource, &observed)))
        // What an observed agent does elsewhere at that port passes.
        .filter(|(_, name)| name.is_some() || agent.mode == Mode::Enforce)
        .collect();
    let named: Vec<_> = possible.iter().filter(|(_, name)| name.is_some()).collect();
    let (resource, name) = match (named.as_slice(), possible.as_slice()) {
        ([one], _) => **one,
        ([], [one]) => *one,
        (_, []) => return Ok(None),
        _ => {
            let resources = possible.iter().map(|(r, _)| r.name.to_string()).collect();
            return Err(Unroutable::Ambiguous {
                destination,
                resources,
            });
        }
    };
    let name = name.map(str::to_owned).or_else(|| only_name(resource));
    Ok(name.map(|name| Target {
        resource,
        name: Some(name),
        addresses: vec![destination],
        network: from.clone(),
    }))
}

/// What a server's certificate must say where nothing else tells.
fn only_name(resource: &Resource) -> Option<String> {
    let mut names = resource.hosts.iter().filter_map(|host| match host {
        Host::Name(name) => host_name(name),
        Host::Net(_) => None,
    });
    let name = names.next()?;
    names.next().is_none().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamTls;
    use crate::forward::fixture::{agent, config, resource};
    use crate::forward::resolve::tests::over;
    use crate::forward::route;

    /// Makes no socket.
    struct Nobody;

    impl Sockets for Nobody {
        fn socket(&self, _: Namespace, _: bool) -> Making {
            Box::pin(std::future::ready(Err(io::Error::other("it has ended"))))
        }
    }

    fn within() -> Network {
        let namespace = Namespace {
            cookie: 5,
            inode: 4026,
        };
        Network::Client(namespace, Arc::new(Nobody))
    }

    fn world() -> Config {
        let mut known = resource("known", &["db.internal"]);
        known.port = 1;
        let mut inner = resource("inner", &["orders"]);
        inner.network = Some(config::Network::Client);
        let mut nets = resource("nets", &["10.20.0.0/24", "web"]);
        nets.port = 2;
        let mut pinned = resource("pinned", &["10.30.0.0/24"]);
        pinned.upstream = Some(("tunnel".into(), 1));
        config(vec![known, inner, nets, pinned])
    }

    async fn told(config: &Config, agent: &Agent, to: &str, seen: &[&str]) -> String {
        let (resolver, _, _) = over(config, &[("db.internal", "10.0.0.1")]);
        resolver.refresh().await;
        let seen: Vec<String> = seen.iter().map(|n| n.to_string()).collect();
        let to = to.parse().unwrap();
        match route(&resolver, config, agent, to, &seen, &within()).await {
            Route::Resource(t) => {
                let name = t.name.as_deref().unwrap_or("-");
                let (network, addresses) = (t.network.said(), &t.addresses);
                format!(
                    "{} as {name} at {addresses:?} from {network:?}",
                    t.resource.name
                )
            }
            Route::Egress(pass) => format!("{pass:?}"),
            Route::Refused(why) => why.to_string(),
        }
    }

    #[tokio::test]
    async fn what_a_client_asks_for_is_dialled_where_the_client_is() {
        let (world, mut agent) = (world(), agent(Vec::new()));
        let told = async |agent: &Agent, to| told(&world, agent, to, &[]).await;
        assert_eq!(
            told(&agent, "10.0.0.1:1").await,
            "known as db.internal at [10.0.0.1:1] from Client"
        );
        // In a network of the operator's the address is what a certificate may say.
        assert_eq!(
            told(&agent, "10.20.0.9:2").await,
            "nets as - at [10.20.0.9:2] from Client"
        );
        // An upstream is the operator's, not the client's.
        assert_eq!(
            told(&agent, "10.30.0.9:5432").await,
            "pinned as - at [10.30.0.9:5432] from Host"
        );
        agent.network = Some(config::Network::Host);
        assert_eq!(
            told(&agent, "10.20.0.9:2").await,
            "nets as - at [10.20.0.9:2] from Host"
        );
        // The resource's own word goes before the agent's.
        assert_eq!(
            told(&agent, "172.18.0.3:5432").await,
            "inner as orders at [172.18.0.3:5432] from Client"
        );
    }

    #[tokio::test]
    async fn an_address_that_hoop_does_not_know_is_a_resources_only_by_proof() {
        let (mut world, agent) = (world(), agent(Vec::new()));
        let to = "172.18.0.3:5432";
        assert_eq!(
            told(&world, &agent, to, &[]).await,
            "inner as orders at [172.18.0.3:5432] from Client"
        );
        // At another port it is none.
        let refused = told(&world, &agent, "172.18.0.3:5433", &[]).await;
        assert!(refused.contains("no configured resource"), "{refused}");
        // A name that was seen is enough where a certificate proves it, but not to choose by address.
        assert_eq!(
            told(&world, &agent, "172.18.0.3:1", &["db.internal"]).await,
            "known as db.internal at [172.18.0.3:1] from Client"
        );
        let refused = told(&world, &agent, "172.18.0.3:1", &[]).await;
        assert!(refused.contains("no configured resource"), "{refused}");
        world.resources[0].tls = UpstreamTls::Disable;
        let refused = told(&world, &agent, "172.18.0.3:1", &["db.internal"]).await;
        assert!(refused.contains("does not confirm"), "{refused}");
        let mut second = resource("second", &["users"]);
        second.network = Some(config::Network::Client);
        world.resources.push(second);
        let several = told(&world, &agent, to, &[]).await;
        assert!(
            several.contains("several resources (inner, second)"),
            "{several}"
        );
        assert_eq!(
            told(&world, &agent, to, &["users"]).await,
            "second as users at [172.18.0.3:5432] from Client"
        );
    }

    #[test]
    fn who_cannot_prove_itself_gets_no_credential_there() {
        let mut orders = resource("orders", &["db.internal"]);
        let there = within();
        assert!(unproven(&orders, &there).is_none());
        for (tls, ca, proven) in [
            (UpstreamTls::VerifyFull, None, true),
            (UpstreamTls::VerifyCa, Some("PEM"), false),
            (UpstreamTls::VerifyCa, None, false),
            (UpstreamTls::Disable, None, false),
        ] {
            orders.tls = tls;
            orders.ca = ca.map(str::to_owned);
            assert_eq!(unproven(&orders, &there).is_none(), proven, "{tls:?}");
            assert!(unproven(&orders, &Network::Host).is_none());
            // Nobody said from where: only what can prove itself is dialled there.
            assert_eq!(there.for_resource(&orders, None).is_client(), proven);
        }
        orders.tls = UpstreamTls::VerifyCa;
        orders.ca = Some("PEM".to_owned());
        orders.network = Some(config::Network::Client);
        assert!(unproven(&orders, &there).is_none());
    }

    #[tokio::test]
    async fn an_address_is_no_proof() {
        // Whoever has a certificate for an address of their own is none of several names.
        let mut several = resource("several", &["db1", "db2"]);
        several.network = Some(config::Network::Client);
        let mut nets = resource("nets", &["10.0.0.0/8"]);
        nets.port = 1;
        nets.network = Some(config::Network::Client);
        let world = config(vec![several, nets]);
        let mut agent = agent(Vec::new());
        for to in ["203.0.113.66:5432", "203.0.113.66:1"] {
            let refused = told(&world, &agent, to, &[]).await;
            assert!(refused.contains("no configured resource"), "{refused}");
        }
        assert_eq!(
            told(&world, &agent, "203.0.113.66:5432", &["db2"]).await,
            "several as db2 at [203.0.113.66:5432] from Client"
        );
        // What an observed agent does at that port is not taken for it.
        let mut one = resource("one", &["db"]);
        one.network = Some(config::Network::Client);
        let world = config(vec![one]);
        agent.mode = Mode::Observe;
        let passes = told(&world, &agent, "203.0.113.66:5432", &[]).await;
        assert!(passes.contains("no configured resource"), "{passes}");
    }

    #[tokio::test]
    async fn what_cannot_be_dialled_from_there_is_not_dialled_from_here() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let error = within().connect(address).await.unwrap_err().to_string();
        assert!(
            error.contains("it has ended") && error.contains("net:[4026]"),
            "{error}"
        );
        assert!(Network::Host.connect(address).await.is_ok());
    }
}
