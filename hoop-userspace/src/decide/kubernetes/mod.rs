//! Requests to a Kubernetes API server: what they do, from the request line and the body alone.
//!
//! What the API server itself understands of the request line is read in [`crate::wire::kubernetes::request`].
//! Here the body is read as well, in whatever form it is sent, and gone through for what lets a pod
//! out of its bounds, gives rights, or names secrets. Nothing here guesses: a body that has no one
//! meaning is opaque, and needs a permit for `k8s:unknown`.

mod body;
mod facts;
mod judge;
mod patch;
mod pods;
mod refused;
mod rights;
#[cfg(test)]
mod tests;

pub use facts::{KubernetesAction, KubernetesFacts, KubernetesFlag};
pub use judge::ExplainedKubernetes;
#[cfg(test)]
pub(in crate::decide) use tests::said;

use crate::terminate::KubernetesAsked;
use crate::wire::kubernetes::protobuf::Kinds;
use crate::wire::kubernetes::request::DryRun;

use super::shell::Shell;
use body::Body;

/// Reads requests.
#[derive(Debug, Default)]
pub(super) struct Kubernetes {
    kinds: Kinds,
}

impl Kubernetes {
    /// Never fails: what cannot be understood is `k8s:unknown`.
    pub(super) fn facts(&self, shell: &Shell, asked: &KubernetesAsked) -> KubernetesFacts {
        let (info, options) = (&asked.info, &asked.options);
        let mut facts = KubernetesFacts {
            action: KubernetesAction::of(info),
            verb: info.verb.clone(),
            group: info.api_group.clone(),
            version: info.api_version.clone(),
            kind: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            path: info.path.clone(),
            label_selector: info.label_selector.clone(),
            field_selector: info.field_selector.clone(),
            field_manager: options.field_manager.clone(),
            container: options.container.clone(),
            proxy_path: options.proxy_path.clone(),
            ..KubernetesFacts::default()
        };
        facts.dry_run = options.dry_run == DryRun::All && facts.can_be_dry();
        facts.by_request(asked);
        let body = match facts.writes() {
            true => Body::read(
                &self.kinds,
                info,
                asked.content_type.as_deref(),
                &asked.body,
            ),
            // Nobody reads it; a server of another kind might.
            false if asked.body.is_empty() => Body::None,
            // It is for whoever is behind the proxy.
            false if facts.action == KubernetesAction::Proxy => Body::None,
            false => Body::Opaque("a body where none belongs".to_owned()),
        };
        facts.by_body(body);
        if facts.action == KubernetesAction::Exec {
            facts.command = Some(shell.started(&options.command, options.tty));
        }
        facts.settle();
        facts
    }
}
