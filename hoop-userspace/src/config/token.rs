//! Where an agent's token comes from, and how hoop proves itself where it obtains one.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// `token` of `[[agent]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    File(PathBuf),
    /// A systemd credential of the daemon.
    Credential(String),
    /// A variable in the connecting process's environment.
    Env(String),
    /// Obtained and renewed at the issuer with the agent's own key or secret.
    ClientCredentials {
        client: ClientAuth,
        scope: Option<String>,
    },
    /// Printed by a command that the keeper runs.
    Exec(Exec),
    /// A SAML 2.0 assertion, exchanged at the issuer.
    Saml {
        file: PathBuf,
        client: Option<ClientAuth>,
        scope: Option<String>,
    },
}

/// In whose name the issuer is asked whether a token still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Introspection {
    /// In the agent's own, where hoop holds its key or secret; otherwise not at all.
    Own,
    /// In the name of a client that was made for it.
    As {
        client_id: String,
        auth: ClientAuth,
    },
    Off,
}

/// Whose token it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A service account's.
    #[default]
    Service,
    /// A human user's, whom the agent acts for.
    User,
}

impl Kind {
    /// As policies, recordings and the command line call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::User => "user",
        }
    }
}

/// How a client proves itself at the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `private_key_jwt`
    Key {
        key: Secret,
        /// `None` lets the key decide.
        algorithm: Option<SigningAlgorithm>,
        kid: Option<String>,
        audience: AssertionAudience,
    },
    /// `client_secret_basic`, or with `post` `client_secret_post`.
    Secret { secret: Secret, post: bool },
}

/// What hoop can sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum SigningAlgorithm {
    RS256,
    ES256,
}

/// Whom a client's assertion is for: issuers differ in what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssertionAudience {
    #[default]
    TokenEndpoint,
    Issuer,
}

/// `exec`: the token is what the command prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// An absolute path, then its arguments. No shell reads them.
    pub command: Vec<String>,
    /// Default 5 s, at most 30 s.
    pub timeout: Duration,
    /// How long what it printed serves further connections. Default 5 min.
    pub refresh: Duration,
}

/// A claim that a token must have besides the usual ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredClaim {
    pub name: String,
    /// One of these is the claim's value, or among its values.
    pub any: Vec<String>,
}
