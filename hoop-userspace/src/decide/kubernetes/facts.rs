//! What was found in a request, before any policy looks at it.
//!
//! The serialised form is part of `hoop policy test`'s contract: keys are kept.

use serde::Serialize;

use crate::decide::ShellFacts;
use crate::terminate::KubernetesAsked;
use crate::wire::kubernetes::request::{DryRun, RequestInfo};

/// The policy's action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum KubernetesAction {
    #[serde(rename = "k8s:get")]
    Get,
    #[serde(rename = "k8s:list")]
    List,
    #[serde(rename = "k8s:watch")]
    Watch,
    #[serde(rename = "k8s:create")]
    Create,
    #[serde(rename = "k8s:update")]
    Update,
    #[serde(rename = "k8s:patch")]
    Patch,
    #[serde(rename = "k8s:delete")]
    Delete,
    #[serde(rename = "k8s:deletecollection")]
    DeleteCollection,
    #[serde(rename = "k8s:exec")]
    Exec,
    #[serde(rename = "k8s:attach")]
    Attach,
    #[serde(rename = "k8s:portforward")]
    PortForward,
    #[serde(rename = "k8s:proxy")]
    Proxy,
    /// A path that is no resource: discovery, health, metrics.
    #[serde(rename = "k8s:nonresource")]
    NonResource,
    /// A method that the API server has no verb for.
    #[default]
    #[serde(rename = "k8s:unknown")]
    Unknown,
}

impl KubernetesAction {
    /// Streams are what they are by whatever verb they are begun.
    pub(super) fn of(info: &RequestInfo) -> Self {
        if !info.is_resource {
            return Self::NonResource;
        }
        match (info.subresource.as_str(), info.verb.as_str()) {
            // `/api/v1//x` is a resource without a name.
            _ if info.resource.is_empty() => Self::Unknown,
            (_, "proxy") | ("proxy", _) => Self::Proxy,
            ("exec", _) => Self::Exec,
            ("attach", _) => Self::Attach,
            ("portforward", _) => Self::PortForward,
            (_, "get") => Self::Get,
            (_, "list") => Self::List,
            (_, "watch") => Self::Watch,
            (_, "create") => Self::Create,
            (_, "update") => Self::Update,
            (_, "patch") => Self::Patch,
            (_, "delete") => Self::Delete,
            (_, "deletecollection") => Self::DeleteCollection,
            _ => Self::Unknown,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "k8s:get",
            Self::List => "k8s:list",
            Self::Watch => "k8s:watch",
            Self::Create => "k8s:create",
            Self::Update => "k8s:update",
            Self::Patch => "k8s:patch",
            Self::Delete => "k8s:delete",
            Self::DeleteCollection => "k8s:deletecollection",
            Self::Exec => "k8s:exec",
            Self::Attach => "k8s:attach",
            Self::PortForward => "k8s:portforward",
            Self::Proxy => "k8s:proxy",
            Self::NonResource => "k8s:nonresource",
            Self::Unknown => "k8s:unknown",
        }
    }
}

/// What stands out in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KubernetesFlag {
    /// Not all that it does is known.
    Opaque,
    /// The answer may hold a Secret's values.
    ReadsSecrets,
    /// A token is issued, which lets its holder in as a service account.
    IssuesToken,
    /// Something is gone afterwards: delete, eviction.
    Deletes,
    /// What was there is replaced or changed: update, patch, apply.
    Overwrites,
    /// Fields or elements of an object are taken away.
    Removes,
    /// Without waiting, or against another who manages the fields.
    Force,
    /// Fewer run: replicas are none.
    ScalesToZero,
    /// A container with all of the node's rights.
    Privileged,
    /// `allowPrivilegeEscalation`, or capabilities that are added.
    Escalation,
    HostPath,
    HostNetwork,
    HostPid,
    HostIpc,
    HostPort,
    /// User 0.
    Root,
    /// Without seccomp, AppArmor or the masks of `/proc`.
    Unconfined,
    /// The pod names its node itself, past the scheduler.
    Node,
    /// Another service account than the namespace's own.
    ServiceAccount,
    /// A secret is mounted or read into the environment, where a container can print it. One that
    /// images are pulled with is not.
    SecretReference,
    /// A container is added to a pod that runs.
    Debugs,
    /// Rights are given or taken: RBAC, certificates.
    Grants,
    /// Rules with `*`.
    Wildcard,
    /// Rights to take further rights: escalate, bind, impersonate, cluster-admin, everybody.
    Escalates,
    /// What is admitted to the cluster, or answered by it, is somebody else's: webhooks, admission
    /// policies, API services, definitions of resources.
    Extends,
    /// Reached from outside: load balancers, node ports, external addresses, ingresses.
    Exposes,
    /// Only asks what somebody may do; nothing is stored.
    Review,
    /// Streams are asked for.
    Upgrade,
}

impl KubernetesFlag {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::ReadsSecrets => "reads_secrets",
            Self::IssuesToken => "issues_token",
            Self::Deletes => "deletes",
            Self::Overwrites => "overwrites",
            Self::Removes => "removes",
            Self::Force => "force",
            Self::ScalesToZero => "scales_to_zero",
            Self::Privileged => "privileged",
            Self::Escalation => "escalation",
            Self::HostPath => "host_path",
            Self::HostNetwork => "host_network",
            Self::HostPid => "host_pid",
            Self::HostIpc => "host_ipc",
            Self::HostPort => "host_port",
            Self::Root => "root",
            Self::Unconfined => "unconfined",
            Self::Node => "node",
            Self::ServiceAccount => "service_account",
            Self::SecretReference => "secret_reference",
            Self::Debugs => "debugs",
            Self::Grants => "grants",
            Self::Wildcard => "wildcard",
            Self::Escalates => "escalates",
            Self::Extends => "extends",
            Self::Exposes => "exposes",
            Self::Review => "review",
            Self::Upgrade => "upgrade",
        }
    }
}

/// Everything that is known of one request from itself alone. Lists are sorted, without repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KubernetesFacts {
    pub action: KubernetesAction,
    /// As RBAC has it; of other than resources the method in lower case.
    pub verb: String,
    pub group: String,
    pub version: String,
    /// The resource in the plural, as URLs and RBAC have it.
    pub kind: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
    pub label_selector: String,
    pub field_selector: String,
    pub field_manager: String,
    /// `json`, `merge`, `strategic`, `apply`; empty where it is no patch.
    pub patch: String,
    pub container: String,
    /// What is asked of a pod, service or node behind `proxy`.
    pub proxy_path: String,
    /// Nothing is to be stored. Never of streams, proxies and tokens.
    pub dry_run: bool,
    pub flags: Vec<KubernetesFlag>,
    pub images: Vec<String>,
    pub service_accounts: Vec<String>,
    /// Secrets and ConfigMaps that the body refers to.
    pub secrets: Vec<String>,
    pub config_maps: Vec<String>,
    pub host_paths: Vec<String>,
    /// That are added.
    pub capabilities: Vec<String>,
    /// That are bound: `ClusterRole/cluster-admin`.
    pub roles: Vec<String>,
    /// Whom rights are given to: `ServiceAccount/ns/name`, `User/x`, `Group/x`.
    pub subjects: Vec<String>,
    /// Why the body, or a part of it, could not be understood; `opaque` is among the flags then.
    pub unparsable: Option<String>,
    /// What exec runs.
    pub command: Option<ShellFacts>,
}

impl KubernetesFacts {
    pub fn has(&self, flag: KubernetesFlag) -> bool {
        self.flags.contains(&flag)
    }

    pub(super) fn flag(&mut self, flag: KubernetesFlag) {
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }

    pub(super) fn opaque(&mut self, why: impl Into<String>) {
        self.flag(KubernetesFlag::Opaque);
        self.unparsable.get_or_insert(why.into());
    }

    /// The server takes a body with it.
    pub(super) fn writes(&self) -> bool {
        use KubernetesAction::{Create, Delete, DeleteCollection, Patch, Update};
        matches!(
            self.action,
            Create | Update | Patch | Delete | DeleteCollection
        )
    }

    /// `dryRun` keeps what it does from being done. Streams and proxies know no such parameter, and
    /// a token that is issued is one.
    pub(super) fn can_be_dry(&self) -> bool {
        self.writes() && self.subresource != "token"
    }

    /// What the request line alone says.
    pub(super) fn by_request(&mut self, asked: &KubernetesAsked) {
        use KubernetesAction as A;
        use KubernetesFlag as F;
        let options = &asked.options;
        let core = self.group.is_empty();
        match self.action {
            A::Delete | A::DeleteCollection => {
                self.flag(F::Deletes);
                if options.grace_period_seconds == Some(0) {
                    self.flag(F::Force);
                }
            }
            A::Update | A::Patch => self.flag(F::Overwrites),
            A::Unknown => self.opaque("neither verb nor resource is one that Kubernetes has"),
            _ => {}
        }
        if options.force {
            self.flag(F::Force);
        }
        if options.malformed {
            self.opaque("the query holds what cannot be read");
        }
        if self.path.split('/').any(|part| part == ".." || part == ".") {
            self.opaque("the path goes up, and nobody can say who cleans it");
        }
        if options.dry_run == DryRun::Unknown {
            self.opaque("dryRun is neither All nor absent");
        }
        let streams = matches!(self.action, A::Exec | A::Attach | A::PortForward | A::Proxy);
        if asked.upgrade {
            self.flag(F::Upgrade);
            if !streams && self.action != A::Watch {
                self.opaque("streams are asked for where there should be none");
            }
        }
        match (core, self.kind.as_str(), self.subresource.as_str()) {
            // The answer to a patch, an update or a delete is the object.
            (true, "secrets", _) if self.action != A::Create => self.flag(F::ReadsSecrets),
            (true, "serviceaccounts", "token") => self.flag(F::IssuesToken),
            (true, "pods", "eviction") => self.flag(F::Deletes),
            (true, "pods", "ephemeralcontainers") if self.writes() => self.flag(F::Debugs),
            (true, "pods", "binding") | (true, "bindings", _) if self.writes() => {
                self.flag(F::Node)
            }
            _ => {}
        }
        if !self.writes() {
            return;
        }
        match (self.group.as_str(), self.kind.as_str()) {
            ("rbac.authorization.k8s.io", _) | ("certificates.k8s.io", _) => self.flag(F::Grants),
            ("admissionregistration.k8s.io", _)
            | ("apiregistration.k8s.io", _)
            | ("apiextensions.k8s.io", _) => self.flag(F::Extends),
            ("networking.k8s.io", "ingresses") | ("gateway.networking.k8s.io", _) => {
                self.flag(F::Exposes);
            }
            ("authorization.k8s.io", _) | ("authentication.k8s.io", "selfsubjectreviews") => {
                self.flag(F::Review);
            }
            _ => {}
        }
    }

    /// Sorts what was found.
    pub(super) fn settle(&mut self) {
        let lists = [
            &mut self.images,
            &mut self.service_accounts,
            &mut self.secrets,
            &mut self.config_maps,
            &mut self.host_paths,
            &mut self.capabilities,
            &mut self.roles,
            &mut self.subjects,
        ];
        for list in lists {
            list.sort();
            list.dedup();
        }
        self.flags.sort();
    }
}
