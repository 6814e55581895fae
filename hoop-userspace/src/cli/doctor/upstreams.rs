//! Whether each server behind hoop has an address, answers, and is the one that it should be.
//!
//! Nobody logs in: a wrong password would count against hoop's account.

use std::path::Path;

use super::finding::{Check, Finding, advise, quoted, run};
use super::host::Host;
use crate::config::{Host as Destination, Network as Where, ProtocolKind, Resource};
use crate::forward::kubernetes::ProofError;
use crate::forward::resolve::with_port;
use crate::forward::ssh::SshError;
use crate::forward::{Connector, ForwardError, Network, Resolver, Target, kubernetes, ssh};

const RESOLVES: Check = Check::new(
    "upstream.name",
    "what a destination is rests on hoop's own resolution of the configured names: one that has no address is refused",
);
const REACHED: Check = Check::new(
    "upstream",
    "hoop must reach the server, and prove that it is the one that is meant, before it logs in",
);

/// What asking a server came to.
#[derive(Debug, PartialEq, Eq)]
enum Reached {
    /// How it was verified.
    Verified(&'static str),
    Unreachable(String),
    NotVerified(String),
    /// The server is there, and speaks no TLS at all.
    NoTls(String),
}

pub async fn check(host: &Host) -> Vec<Finding> {
    let Some(config) = &host.config else {
        return Vec::new();
    };
    let resolver = Resolver::new(config);
    resolver.refresh().await;
    let connector = Connector::new(resolver.clone());
    let mut found = Vec::new();
    for resource in &config.resources {
        for destination in &resource.hosts {
            if resource.network == Some(Where::Client) {
                found.push(elsewhere().about(about(resource, destination)));
                continue;
            }
            let Some(target) = target(&resolver, resource, destination) else {
                found.push(unresolved(resource, destination));
                continue;
            };
            let about = about(resource, destination);
            let reached = reach(&connector, &resolver, &target, &config.worker.state).await;
            found.push(judge(resource, reached).about(about));
        }
    }
    found
}

fn about(resource: &Resource, destination: &Destination) -> String {
    let host = match destination {
        Destination::Name(name) => name.clone(),
        Destination::Net(net) => net.to_string(),
    };
    format!("resource {}, {host}", resource.name)
}

/// `None` for a name without an address, or a network: that is many servers.
fn target<'c>(
    resolver: &Resolver,
    resource: &'c Resource,
    destination: &Destination,
) -> Option<Target<'c>> {
    let (name, addresses) = match destination {
        Destination::Name(name) => (Some(name.clone()), resolver.addresses(name)),
        Destination::Net(net) if net.prefix_len() == net.max_prefix_len() => {
            (None, vec![net.addr()])
        }
        Destination::Net(_) => return None,
    };
    (!addresses.is_empty()).then(|| Target {
        resource,
        name,
        addresses: with_port(&addresses, resource.port),
        network: Network::Host,
    })
}

fn elsewhere() -> Finding {
    REACHED.unknown(
        "it is dialled from its clients' own networks, which is not tried from here",
        advise(
            "nothing: a client in such a network is told what is wrong, and hoop sessions has it",
        ),
    )
}

fn unresolved(resource: &Resource, destination: &Destination) -> Finding {
    let finding = match destination {
        Destination::Name(name) => RESOLVES.fail(
            format!("{name} has no address"),
            run(format!("getent ahosts {}", quoted(name))).and(format!(
                "correct hosts of [[resource]] {}, or the host's resolver",
                resource.name
            )),
        ),
        Destination::Net(net) => REACHED.unknown(
            format!("{net} is many servers"),
            advise("nothing: name those that are to be looked at as hosts of their own"),
        ),
    };
    finding.about(about(resource, destination))
}

async fn reach(
    connector: &Connector,
    resolver: &Resolver,
    target: &Target<'_>,
    state: &Path,
) -> Reached {
    match target.resource.protocol {
        ProtocolKind::Postgres => of_postgres(connector.prove(target).await),
        ProtocolKind::Ssh => of_ssh(ssh::prove(resolver, target, state).await),
        ProtocolKind::Kubernetes => {
            let server = kubernetes::Connector::new(resolver.clone()).server(target, None);
            match server {
                Ok(server) => of_kubernetes(server.prove().await),
                Err(error) => Reached::NotVerified(error.to_string()),
            }
        }
    }
}

fn of_kubernetes(proved: Result<(), ProofError>) -> Reached {
    match proved {
        Ok(()) => Reached::Verified("its certificate is verified"),
        Err(error @ ProofError::NotVerified(_)) => Reached::NotVerified(error.to_string()),
        Err(error @ ProofError::Unreachable(_)) => Reached::Unreachable(error.to_string()),
    }
}

fn of_postgres(proved: Result<bool, ForwardError>) -> Reached {
    match proved {
        Ok(true) => Reached::Verified("its certificate is verified"),
        Ok(false) => Reached::Verified("without TLS, as the resource says"),
        Err(error @ ForwardError::NoTls) => Reached::NoTls(error.to_string()),
        Err(error @ (ForwardError::Tls(_) | ForwardError::TlsSettings(_))) => {
            Reached::NotVerified(error.to_string())
        }
        Err(error) => Reached::Unreachable(error.to_string()),
    }
}

fn of_ssh(proved: Result<(), SshError>) -> Reached {
    match proved {
        Ok(()) => Reached::Verified("its host key is known"),
        Err(error @ SshError::Host(_)) => Reached::NotVerified(error.to_string()),
        Err(error) => Reached::Unreachable(error.to_string()),
    }
}

fn judge(resource: &Resource, reached: Reached) -> Finding {
    let name = &resource.name;
    match reached {
        Reached::Verified(how) => REACHED.ok(format!("it answers, {how}")),
        Reached::Unreachable(why) => REACHED.fail(
            why,
            advise(format!(
                "let this host reach port {} of it, or correct [[resource]] {name}",
                resource.port
            )),
        ),
        Reached::NoTls(why) => REACHED.fail(
            why,
            advise(format!(
                "turn on TLS in the server, or, where nobody can listen on the way there, set tls = \"disable\" of [[resource]] {name}"
            )),
        ),
        Reached::NotVerified(why) => {
            let mend = match resource.protocol {
                ProtocolKind::Postgres | ProtocolKind::Kubernetes => format!(
                    "set ca of [[resource]] {name} to the CA that signed the server's certificate"
                ),
                ProtocolKind::Ssh => format!(
                    "compare `ssh-keyscan` with the server's own key, then put it into known_hosts or host_keys of [[resource]] {name}"
                ),
            };
            REACHED.fail(why, advise(mend))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use crate::forward::fixture::{config, resource};

    #[test]
    fn not_reached_and_not_verified_are_two_things() {
        let tls = of_postgres(Err(ForwardError::Tls(
            "not signed by the configured CA".into(),
        )));
        assert!(matches!(tls, Reached::NotVerified(_)));
        assert!(matches!(
            of_postgres(Err(ForwardError::Timeout(1))),
            Reached::Unreachable(_)
        ));
        assert!(matches!(
            of_ssh(Err(SshError::Host("x".into()))),
            Reached::NotVerified(_)
        ));
        let api = |error| of_kubernetes(Err(error));
        assert!(matches!(
            api(ProofError::NotVerified("x".into())),
            Reached::NotVerified(_)
        ));
        assert!(matches!(
            api(ProofError::Unreachable("x".into())),
            Reached::Unreachable(_)
        ));
        let orders = resource("orders", &["db.internal"]);
        let found = judge(&orders, tls);
        assert!(found.state == State::Fail && found.advice.unwrap().contains("ca of"));
        // A CA would not help where there is no TLS to verify.
        let none = judge(&orders, of_postgres(Err(ForwardError::NoTls)));
        assert!(!none.advice.unwrap().contains("ca of"));
        assert_eq!(judge(&orders, of_postgres(Ok(true))).state, State::Ok);
    }

    #[test]
    fn a_network_is_not_asked_and_one_address_is() {
        let orders = resource("orders", &["10.0.0.0/8", "10.1.2.3/32", "db.internal"]);
        let resolver = Resolver::new(&config(vec![orders.clone()]));
        let target = |n: usize| target(&resolver, &orders, &orders.hosts[n]);
        assert!(target(0).is_none() && target(2).is_none());
        assert_eq!(
            target(1).unwrap().addresses,
            ["10.1.2.3:5432".parse().unwrap()]
        );
        assert_eq!(unresolved(&orders, &orders.hosts[0]).state, State::Unknown);
        assert_eq!(unresolved(&orders, &orders.hosts[2]).state, State::Fail);
    }
}
