//! What a resource with `protocol = "ssh"` has beside what all have.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use russh::keys::ssh_key::known_hosts::Entry;
use russh::keys::{Certificate, PrivateKey, PublicKey};

use crate::secret::Secret;

#[derive(Clone, Debug)]
pub struct Ssh {
    pub host_keys: SshHostKeys,
    pub user: SshClientUser,
    /// Tried in this order until the server is content.
    pub credentials: Vec<SshCredential>,
}

/// By what the server is known.
#[derive(Clone, Debug, Default)]
pub struct SshHostKeys {
    /// `host_keys`: any of these, for every host of the resource.
    pub keys: Vec<PublicKey>,
    /// `host_ca`: authorities whose host certificates are believed for the names they say.
    pub authorities: Vec<PublicKey>,
    /// `known_hosts`: the lines of a file as OpenSSH writes it.
    pub known_hosts: Vec<Entry>,
    /// The key that is seen first is kept, recorded, and the only one from then on.
    pub trust_on_first_use: bool,
}

/// Which account hoop logs in to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshClientUser {
    Fixed(String),
    /// `user = "as-client"`: the one that the client asks for.
    AsClient,
}

/// What a minted certificate says (OpenSSH's PROTOCOL.certkeys).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshMinted {
    /// From now on; 5 minutes unless configured.
    pub lifetime: Duration,
    /// Empty for the account that is logged in to.
    pub principals: Vec<String>,
    pub force_command: Option<String>,
    /// From where it may be used, as the server sees it.
    pub source_address: Vec<IpNet>,
}

impl Default for SshMinted {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(5 * 60),
            principals: Vec::new(),
            force_command: None,
            source_address: Vec::new(),
        }
    }
}

/// An answer to a question of keyboard-interactive login that holds this text.
#[derive(Clone, Debug)]
pub struct SshAnswer {
    /// In lower case.
    pub prompt: String,
    pub answer: Secret,
}

/// How hoop proves itself to the server.
#[derive(Clone, Debug)]
pub enum SshCredential {
    /// `certificate = "minted"`: made for each connection and signed by hoop's own authority.
    Minted(SshMinted),
    /// The keys of an agent that listens on this socket.
    Agent(PathBuf),
    /// A key, with the certificate that the operator has for it.
    Key {
        key: Arc<PrivateKey>,
        certificate: Option<Box<Certificate>>,
    },
    /// By password, or as the answer to every question that is not echoed.
    Password(Secret),
    /// By answers to the server's questions, where these are in turn.
    Answers(Vec<SshAnswer>),
}
