//! Configurations for the tests of this stage and of `terminate`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{
    Agent, Approvals, Capture, Config, Durability, Egress, Host, Login, Mode, OnHangup,
    ProtocolKind, Record, Resource, UpstreamTls, Worker,
};

pub fn config(resources: Vec<Resource>) -> Config {
    Config {
        console: None,
        capture: Capture {
            attach: "agents.slice".into(),
            resolvers: Vec::new(),
            port: 0,
            pins: "/nonexistent".into(),
            lsm: Default::default(),
        },
        issuers: Default::default(),
        agents: Vec::new(),
        resources,
        masks: Vec::new(),
        approvers: Vec::new(),
        channels: Vec::new(),
        approvals: Approvals {
            wait: Duration::from_secs(60),
            wait_in_transaction: Duration::from_secs(60),
            answer_for: Duration::from_secs(60),
            on_hangup: OnHangup::Cancel,
            remind: Duration::from_secs(60),
            groups: BTreeMap::new(),
        },
        policy: Default::default(),
        record: Record {
            directory: "/nonexistent".into(),
            durability: Durability::Kernel,
            result_bytes: 0,
        },
        worker: Worker {
            user: "hoop".into(),
            state: "/nonexistent".into(),
            runtime: "/nonexistent".into(),
            drain: Duration::ZERO,
            retire: Duration::ZERO,
        },
        containers: Default::default(),
    }
}

/// Hosts are names, or networks where they parse as such.
pub fn resource(name: &str, hosts: &[&str]) -> Resource {
    let host = |text: &&str| match text.parse() {
        Ok(net) => Host::Net(net),
        Err(_) => Host::Name((*text).into()),
    };
    Resource {
        name: name.into(),
        protocol: ProtocolKind::Postgres,
        hosts: hosts.iter().map(host).collect(),
        port: 5432,
        upstream: None,
        tls: UpstreamTls::VerifyFull,
        ca: None,
        login: Login {
            user: "hoop".into(),
            password: None,
            certificate: None,
            database: None,
        },
        allow_plain: true,
        allow_replication: false,
        estimate: false,
        network: None,
        agent_password: None,
        max_message: 1 << 20,
        ssh: None,
        kubernetes: None,
    }
}

pub fn agent(egress: Vec<Egress>) -> Agent {
    Agent {
        name: "billing-bot".into(),
        cgroup: "agents.slice/billing-bot.service".into(),
        pick: None,
        issuer: None,
        client_id: None,
        kind: crate::config::Kind::Service,
        token: None,
        instance_claim: None,
        required_claims: Vec::new(),
        egress,
        owners: Vec::new(),
        mode: Mode::Enforce,
        listen: Vec::new(),
        network: None,
    }
}
