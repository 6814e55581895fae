//! What a destination is: a resource, allowed egress, or refused.
//!
//! The rule: a destination is a resource only by hoop's own resolution of its configured names, or
//! by its configured networks, and by its port. Names that were observed in the agent's DNS answers
//! label and narrow; they never grant. Where they are all there is, the server's certificate must
//! prove the name, and hoop dials its own resolution of it.

use std::net::{IpAddr, SocketAddr};

use crate::config::{Agent, Config, Egress, Host, Resource, UpstreamTls};
use crate::wire::tls::host_name;

use super::network::{self, Network};
use super::resolve::{Resolver, with_port};

/// Addresses tried for one connection.
const MAX_DIALED: usize = 8;

/// What a destination turned out to be.
#[derive(Debug)]
pub enum Route<'c> {
    Resource(Target<'c>),
    Egress(Pass),
    Refused(Unroutable),
}

/// A resource, and where exactly to dial for it.
#[derive(Clone, Debug)]
pub struct Target<'c> {
    pub resource: &'c Resource,
    /// The configured host name that the client asked for, as far as that is known. The server's
    /// certificate is checked for it; without one, for the destination's address.
    pub name: Option<String>,
    /// Tried in this order, before [`Resource::upstream`] is taken into account.
    pub addresses: Vec<SocketAddr>,
    /// From where.
    pub network: Network,
}

/// Egress that passes unterminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// By network and port: to the destination itself.
    Destination(SocketAddr),
    /// By name and port: to hoop's own resolution of the name in the TLS ClientHello, if it is one
    /// of these.
    Names {
        names: Vec<String>,
        destination: SocketAddr,
    },
}

/// Why a destination is refused, in words for the record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    #[error("{destination} is no configured resource, and egress_allow of {agent} does not list it{}", names(.observed))]
    Unlisted {
        destination: SocketAddr,
        agent: String,
        observed: Vec<String>,
    },
    #[error("{destination} belongs to several resources ({}), and no single observed name tells which; give them different addresses or ports", .resources.join(", "))]
    Ambiguous {
        destination: SocketAddr,
        resources: Vec<String>,
    },
    #[error(
        "{destination} was only observed as {name} of {resource}, which hoop's own resolution does not confirm; tls = \"verify-full\" would let the server prove it"
    )]
    Unproven {
        destination: SocketAddr,
        name: String,
        resource: String,
    },
}

fn names(observed: &[String]) -> String {
    match observed {
        [] => String::new(),
        names => format!(" (observed as {})", names.join(", ")),
    }
}

/// Routes a destination that a client in the network `from` asked for; one that is not known is looked
/// up afresh before it is refused.
pub async fn route<'c>(
    resolver: &Resolver,
    config: &'c Config,
    agent: &Agent,
    destination: SocketAddr,
    observed: &[String],
    from: &Network,
) -> Route<'c> {
    let routed = look(resolver, config, agent, destination, observed).await;
    network::placed(routed, from, config, agent, destination, observed)
}

async fn look<'c>(
    resolver: &Resolver,
    config: &'c Config,
    agent: &Agent,
    destination: SocketAddr,
    observed: &[String],
) -> Route<'c> {
    let routed = route_now(resolver, config, agent, destination, observed);
    let proven_by_address = match &routed {
        Route::Resource(target) => target.addresses.contains(&destination),
        Route::Egress(_) => true,
        Route::Refused(_) => false,
    };
    if proven_by_address || !resolver.refresh_on_miss().await {
        return routed;
    }
    route_now(resolver, config, agent, destination, observed)
}

/// Routes by what is known now.
fn route_now<'c>(
    resolver: &Resolver,
    config: &'c Config,
    agent: &Agent,
    destination: SocketAddr,
    observed: &[String],
) -> Route<'c> {
    let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    let observed: Vec<String> = observed.iter().filter_map(|n| host_name(n)).collect();
    let at_port = |r: &&Resource| r.port == destination.port();
    let by_address: Vec<&Resource> = config
        .resources
        .iter()
        .filter(at_port)
        .filter(|r| has_address(resolver, r, destination.ip()))
        .collect();
    match by_address.as_slice() {
        [] => {}
        [resource] => {
            return Route::Resource(Target {
                resource,
                name: label(resolver, resource, destination.ip(), &observed),
                addresses: vec![destination],
                network: Network::Host,
            });
        }
        several => return narrow(resolver, several, destination, &observed),
    }
    let by_name: Vec<&Resource> = config
        .resources
        .iter()
        .filter(at_port)
        .filter(|r| observed_name(r, &observed).is_some())
        .collect();
    match by_name.as_slice() {
        [] => egress(agent, destination, observed),
        several => narrow(resolver, several, destination, &observed),
    }
}

/// Whether any resource answers at this address: egress must not reach it past the enforcement.
pub fn is_resource(resolver: &Resolver, config: &Config, address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    config
        .resources
        .iter()
        .any(|r| r.port == address.port() && has_address(resolver, r, ip))
}

/// The resource that a connection to this host would reach, whoever makes it: what an SSH server is
/// asked to connect to. Names are compared, not looked up: they are the server's to resolve.
pub fn reached<'c>(
    resolver: &Resolver,
    config: &'c Config,
    host: &str,
    port: u16,
) -> Option<Target<'c>> {
    let mut at_port = config.resources.iter().filter(|r| r.port == port);
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = address.to_canonical();
        let resource = at_port.find(|r| has_address(resolver, r, address))?;
        return Some(Target {
            resource,
            name: label(resolver, resource, address, &[]),
            addresses: vec![SocketAddr::new(address, port)],
            network: Network::Host,
        });
    }
    let name = [host_name(host)?];
    let resource = at_port.find(|r| observed_name(r, &name).is_some())?;
    let [name] = name;
    let mut addresses = with_port(&resolver.addresses(&name), port);
    addresses.truncate(MAX_DIALED);
    Some(Target {
        resource,
        name: Some(name),
        addresses,
        network: Network::Host,
    })
}

/// Several resources share the address, or the address is unknown: only one observed name of one
/// resource may tell, and the server must prove it.
fn narrow<'c>(
    resolver: &Resolver,
    candidates: &[&'c Resource],
    destination: SocketAddr,
    observed: &[String],
) -> Route<'c> {
    let named: Vec<(&'c Resource, &str)> = candidates
        .iter()
        .filter_map(|r| Some((*r, observed_name(r, observed)?)))
        .collect();
    let [(resource, name)] = named.as_slice() else {
        let resources = candidates.iter().map(|r| r.name.to_string()).collect();
        return Route::Refused(Unroutable::Ambiguous {
            destination,
            resources,
        });
    };
    let mut addresses = with_port(&resolver.addresses(name), destination.port());
    addresses.truncate(MAX_DIALED);
    if resource.tls != UpstreamTls::VerifyFull || addresses.is_empty() {
        return Route::Refused(Unroutable::Unproven {
            destination,
            name: (*name).into(),
            resource: resource.name.to_string(),
        });
    }
    Route::Resource(Target {
        resource,
        name: Some((*name).into()),
        addresses,
        network: Network::Host,
    })
}

fn has_address(resolver: &Resolver, resource: &Resource, address: IpAddr) -> bool {
    let named = |host: &Host| matches!(host, Host::Name(name) if resolver.knows(name, address));
    resource.has_in_a_network(address) || resource.hosts.iter().any(named)
}

/// The first of the resource's names that was observed for the destination.
pub(super) fn observed_name<'o>(resource: &Resource, observed: &'o [String]) -> Option<&'o str> {
    let is_configured = |name: &&String| {
        resource.hosts.iter().any(
            |host| matches!(host, Host::Name(known) if host_name(known).as_ref() == Some(*name)),
        )
    };
    observed.iter().find(is_configured).map(String::as_str)
}

/// The name that the client most likely asked for: an observed one, else the first that resolves
/// to the address. It only labels: the address has already said which resource this is.
fn label(
    resolver: &Resolver,
    resource: &Resource,
    address: IpAddr,
    observed: &[String],
) -> Option<String> {
    let resolved = || {
        resource.hosts.iter().find_map(|host| match host {
            Host::Name(name) if resolver.knows(name, address) => host_name(name),
            _ => None,
        })
    };
    observed_name(resource, observed)
        .map(str::to_owned)
        .or_else(resolved)
}

fn egress<'c>(agent: &Agent, destination: SocketAddr, observed: Vec<String>) -> Route<'c> {
    let mut names = Vec::new();
    for rule in &agent.egress {
        match rule {
            Egress::Net { net, port }
                if *port == destination.port() && net.contains(&destination.ip()) =>
            {
                return Route::Egress(Pass::Destination(destination));
            }
            Egress::Name { name, port } if *port == destination.port() => {
                names.push(name.clone());
            }
            _ => {}
        }
    }
    if names.is_empty() {
        let agent = agent.name.to_string();
        return Route::Refused(Unroutable::Unlisted {
            destination,
            agent,
            observed,
        });
    }
    Route::Egress(Pass::Names { names, destination })
}

/// Whether a rule's name covers `name`: equal, or `*.` in place of exactly one label.
pub fn covers(rule: &str, name: &str) -> bool {
    let Some(name) = host_name(name) else {
        return false;
    };
    match rule.strip_prefix("*.") {
        Some(parent) => match (name.split_once('.'), host_name(parent)) {
            (Some((_, rest)), Some(parent)) => rest == parent,
            _ => false,
        },
        None => host_name(rule) == Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::fixture::{agent, config, resource};
    use crate::forward::resolve::tests::over;

    const TABLE: &[(&str, &str)] = &[
        ("orders.internal", "10.0.0.1"),
        ("orders.internal", "10.0.0.2"),
        ("users.internal", "10.0.0.3"),
        ("shared-a.internal", "10.0.0.9"),
        ("shared-b.internal", "10.0.0.9"),
        ("api.example", "198.51.100.7"),
    ];

    fn world() -> Config {
        config(vec![
            resource("orders", &["orders.internal"]),
            resource("users", &["users.internal", "10.20.0.0/24"]),
            resource("a", &["shared-a.internal"]),
            resource("b", &["shared-b.internal"]),
        ])
    }

    /// The route in a few words.
    async fn told(config: &Config, egress: &[Egress], destination: &str, seen: &[&str]) -> String {
        let (resolver, _, _) = over(config, TABLE);
        resolver.refresh().await;
        let seen: Vec<String> = seen.iter().map(|n| n.to_string()).collect();
        let destination = destination.parse().unwrap();
        let agent = agent(egress.to_vec());
        match route(
            &resolver,
            config,
            &agent,
            destination,
            &seen,
            &Network::Host,
        )
        .await
        {
            Route::Resource(t) => {
                let name = t.name.as_deref().unwrap_or("-");
                let addresses: Vec<_> = t.addresses.iter().map(|a| a.to_string()).collect();
                format!("{} as {name} at {}", t.resource.name, addresses.join(" "))
            }
            Route::Egress(Pass::Destination(to)) => format!("passes to {to}"),
            Route::Egress(Pass::Names { names, .. }) => format!("passes by {}", names.join(" ")),
            Route::Refused(why) => why.to_string(),
        }
    }

    #[tokio::test]
    async fn a_resource_is_what_hoop_itself_resolved_at_its_port() {
        let world = world();
        let told = |to| told(&world, &[], to, &[]);
        assert_eq!(
            told("10.0.0.2:5432").await,
            "orders as orders.internal at 10.0.0.2:5432"
        );
        assert_eq!(
            told("[::ffff:10.0.0.1]:5432").await,
            "orders as orders.internal at 10.0.0.1:5432"
        );
        assert_eq!(
            told("10.20.0.200:5432").await,
            "users as - at 10.20.0.200:5432"
        );
        assert!(
            told("10.0.0.2:5433")
                .await
                .contains("no configured resource")
        );
        assert!(
            told("10.0.0.77:5432")
                .await
                .contains("no configured resource")
        );
    }

    #[tokio::test]
    async fn observed_names_label_but_never_choose_another_resource() {
        let world = world();
        let seen = |to, seen: &'static [&'static str]| told(&world, &[], to, seen);
        assert_eq!(
            seen("10.20.0.5:5432", &["users.internal"]).await,
            "users as users.internal at 10.20.0.5:5432"
        );
        // The address is the orders database's, whatever the agent made its resolver say.
        assert_eq!(
            seen("10.0.0.1:5432", &["users.internal"]).await,
            "orders as orders.internal at 10.0.0.1:5432"
        );
    }

    #[tokio::test]
    async fn an_unknown_address_with_a_configured_name_leads_to_hoops_own_resolution() {
        let mut world = world();
        let to = "203.0.113.5:5432";
        assert_eq!(
            told(&world, &[], to, &["junk", "orders.internal."]).await,
            "orders as orders.internal at 10.0.0.1:5432 10.0.0.2:5432"
        );
        world.resources[0].tls = UpstreamTls::VerifyCa;
        let refused = told(&world, &[], to, &["orders.internal"]).await;
        assert!(refused.contains("verify-full"), "{refused}");
        let both = told(&world, &[], to, &["users.internal", "shared-a.internal"]).await;
        assert!(both.contains("several resources (users, a)"), "{both}");
    }

    #[tokio::test]
    async fn a_shared_address_needs_one_observed_name() {
        let world = world();
        let seen = |seen: &'static [&'static str]| told(&world, &[], "10.0.0.9:5432", seen);
        assert!(seen(&[]).await.contains("several resources (a, b)"));
        assert_eq!(
            seen(&["shared-b.internal"]).await,
            "b as shared-b.internal at 10.0.0.9:5432"
        );
        let both = seen(&["shared-a.internal", "shared-b.internal"]).await;
        assert!(both.contains("several resources"), "{both}");
    }

    #[tokio::test]
    async fn egress_by_network_and_by_name_and_never_over_a_resource() {
        let world = world();
        let rules = [
            Egress::Name {
                name: "*.example".into(),
                port: 443,
            },
            Egress::Name {
                name: "api.example".into(),
                port: 443,
            },
            Egress::Net {
                net: "0.0.0.0/0".parse().unwrap(),
                port: 5432,
            },
        ];
        let told = |to| told(&world, &rules, to, &[]);
        assert_eq!(
            told("198.51.100.7:443").await,
            "passes by *.example api.example"
        );
        assert_eq!(
            told("198.51.100.7:5432").await,
            "passes to 198.51.100.7:5432"
        );
        assert!(told("10.0.0.1:5432").await.starts_with("orders"));
        assert!(
            told("198.51.100.7:80")
                .await
                .contains("egress_allow of billing-bot")
        );
    }

    #[tokio::test]
    async fn an_address_that_dns_moved_to_just_now_is_found() {
        let world = world();
        let (resolver, answers, _) = over(&world, TABLE);
        let agent = agent(Vec::new());
        answers
            .lock()
            .unwrap()
            .insert("orders.internal".into(), vec!["10.0.0.50".parse().unwrap()]);
        let to = "10.0.0.50:5432".parse().unwrap();
        let routed = route(&resolver, &world, &agent, to, &[], &Network::Host).await;
        assert!(
            matches!(&routed, Route::Resource(t) if t.addresses == [to]),
            "{routed:?}"
        );
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(covers("*.example.com", "API.example.com."));
        assert!(covers("api.example.com", "api.example.com"));
        for name in [
            "example.com",
            "a.b.example.com",
            "xexample.com",
            ".example.com",
            "",
        ] {
            assert!(!covers("*.example.com", name), "{name}");
        }
        assert!(!covers("*", "com"));
        assert!(!covers("*.", "com."));
    }
}
