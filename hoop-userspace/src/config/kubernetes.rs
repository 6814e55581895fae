//! What a resource with `protocol = "kubernetes"` has beside what all have.

use std::time::Duration;

use super::TokenSource;

#[derive(Clone, Debug)]
pub struct Kubernetes {
    pub credential: KubernetesCredential,
    pub impersonate: Option<Impersonate>,
    /// `hold`: how long a request waits for people before its client is told to come back. Default
    /// 50 s, at most 1 h.
    pub hold: Duration,
    /// Types of Secrets whose values agents may see, such as `helm.sh/release.v1`. Up to 16.
    pub show_secrets: Vec<String>,
}

/// How hoop proves itself to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubernetesCredential {
    /// By the `certificate` of the login alone.
    Certificate,
    /// A bearer token, from where the keeper finds it anew.
    Token(TokenSource),
    /// `as_agent`: the token that the agent was identified by.
    Agent,
}

/// For whom hoop asks the API server: `Impersonate-User`, `-Group` and `-Extra`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonate {
    /// With `{agent}`, `{subject}` and `{client_id}` in it. Default `hoop:{agent}`.
    pub user: String,
    pub groups: Vec<String>,
    /// `agent_groups`: stands before each of the agent's own groups; `None` leaves them out.
    pub agent_groups: Option<String>,
}
