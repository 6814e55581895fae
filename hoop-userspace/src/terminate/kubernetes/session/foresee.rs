//! What a request that is held for people would change: the object as it is, and as the API server
//! says it would be (`dryRun=All`). hoop asks on its own account, as the request itself would be
//! sent; what comes back is read by nobody before it was masked.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request as HttpRequest, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use crate::mask::{After, Foreseen, MAX_COMPARED, Raw};
use crate::terminate::kubernetes::asked::KubernetesAsked;
use crate::terminate::kubernetes::{Added, Server, ServerError};
use crate::terminate::{Foreseeing, SessionError};
use crate::wire::kubernetes::json;
use crate::wire::kubernetes::request::{self, DryRun};

/// For all that is asked about one request.
const WITHIN: Duration = Duration::from_secs(3);
/// Of an answer that says why not.
const MAX_STATUS: usize = 64 << 10;

/// Subresources that are an object, or a part of one, and whose changes can be tried.
const PARTS: [&str; 6] = [
    "",
    "approval",
    "ephemeralcontainers",
    "resize",
    "scale",
    "status",
];

/// Groups that Kubernetes' own API server serves, which keeps to `dryRun`. Questions that are put by
/// creating an object (`authentication.k8s.io`, `authorization.k8s.io`) change nothing, and are left
/// out.
const OWN_GROUPS: [&str; 22] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];
const QUESTIONS: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];

/// How a request is tried.
pub(super) struct Trial {
    server: Arc<dyn Server>,
    added: Added,
    user_agent: Option<Bytes>,
    asked: Arc<KubernetesAsked>,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Create,
    /// Update, patch and apply.
    Change,
    Delete,
}

/// An answer that was read whole.
struct Answered {
    status: StatusCode,
    content: Bytes,
}

impl Trial {
    /// `None` for what changes no object, or nothing that could be compared.
    pub(super) fn of(
        server: &Arc<dyn Server>,
        added: &Added,
        user_agent: Option<Bytes>,
        asked: &Arc<KubernetesAsked>,
    ) -> Option<Self> {
        Some(Self {
            how: how(asked)?,
            server: server.clone(),
            added: added.clone(),
            user_agent,
            asked: asked.clone(),
        })
    }

    /// Asks, when its turn comes.
    pub(super) fn foresee(self, places: Arc<Semaphore>) -> Foreseeing {
        Box::pin(async move {
            let asked = self.asked.clone();
            let trying = async {
                let _place = places.acquire_owned().await;
                self.run().await
            };
            let tried = tokio::time::timeout(WITHIN, trying).await;
            let late = || {
                let seconds = WITHIN.as_secs();
                Err(format!("the API server did not say within {seconds} s"))
            };
            let (before, after) = match tried.unwrap_or_else(|_| late()) {
                Ok(told) => told,
                Err(why) => (None, After::Unknown(why)),
            };
            Foreseen {
                asked,
                before,
                after,
            }
        })
    }

    async fn run(&self) -> Result<(Option<Raw>, After), String> {
        let before = match self.how {
            How::Create => None,
            How::Change | How::Delete => self.stored().await?,
        };
        let target = match self.how {
            How::Delete => return Ok((before, After::Nothing)),
            How::Create | How::Change => dry(&self.asked)
                .ok_or_else(|| "its query has no place for dryRun=All".to_owned())?,
        };
        self.is_kept_to().await?;
        let kind = self.asked.content_type.as_deref();
        let body = self.asked.body.clone();
        let answered = self.ask(&self.asked.method, &target, kind, body, MAX_COMPARED);
        let answered = answered.await?;
        Ok(match answered.status.is_success() {
            true => (before, After::Object(Raw::new(answered.content))),
            false => {
                let status = Raw::new(answered.content);
                (before, After::Refused(answered.status.as_u16(), status))
            }
        })
    }

    /// The object as it is; `None` where there is none.
    async fn stored(&self) -> Result<Option<Raw>, String> {
        let path = self.asked.target.split('?').next().unwrap_or_default();
        let answered = self
            .ask("GET", path, None, Bytes::new(), MAX_COMPARED)
            .await?;
        match answered.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(Raw::new(answered.content))),
            status => Err(format!(
                "the API server does not show the object as it is (status {status})"
            )),
        }
    }

    /// Whether whoever serves the object is known to keep to `dryRun`: the cluster's own API server,
    /// which serves custom resources as well. Another that it only passes requests on to might carry
    /// them out.
    async fn is_kept_to(&self) -> Result<(), String> {
        let info = &self.asked.info;
        if OWN_GROUPS.contains(&info.api_group.as_str()) {
            return Ok(());
        }
        let (version, group) = (&info.api_version, &info.api_group);
        let simple = |text: &str| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
            !text.is_empty() && text.bytes().all(inner)
        };
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{version}.{group}");
        let unknown = || {
            format!(
                "it is not known who serves {group}/{version}, and so whether a dry run is one there; \
                 hoop may not read the APIService {version}.{group}"
            )
        };
        if !simple(version) || !simple(group) {
            return Err(unknown());
        }
        let answered = self.ask("GET", &path, None, Bytes::new(), MAX_STATUS);
        let answered = answered.await?;
        let service = json::parse(&answered.content).ok();
        let service = service.filter(|_| answered.status.is_success());
        let spec = service.as_ref().and_then(|service| service.get("spec"));
        match spec.ok_or_else(unknown)?.get("service") {
            None | Some(serde_json::Value::Null) => Ok(()),
            Some(_) => Err(format!(
                "{group}/{version} is served by another API server than the cluster's own, which may \
                 carry out a dry run"
            )),
        }
    }

    async fn ask(
        &self,
        method: &str,
        target: &str,
        kind: Option<&str>,
        body: Bytes,
        most: usize,
    ) -> Result<Answered, String> {
        let request = self.request(method, target, kind, body);
        let request = request.map_err(|error| error.to_string())?;
        let answering = self.server.send(request, false);
        let response = answering.await.map_err(|ServerError(why)| why)?;
        read(response, most).await
    }

    fn request(
        &self,
        method: &str,
        target: &str,
        kind: Option<&str>,
        body: Bytes,
    ) -> Result<HttpRequest<Full<Bytes>>, SessionError> {
        let broken = || SessionError::ClientProtocol("a request does not decode".into());
        let mut request = HttpRequest::new(Full::new(body));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| broken())?;
        *request.uri_mut() = target.parse().map_err(|_| broken())?;
        let headers = request.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::ACCEPT, json);
        if let Some(kind) = kind {
            let kind = HeaderValue::from_str(kind).map_err(|_| broken())?;
            headers.insert(header::CONTENT_TYPE, kind);
        }
        // Without a fieldManager it names who manages the fields.
        if let Some(agent) = &self.user_agent {
            let agent = HeaderValue::from_bytes(agent).map_err(|_| broken())?;
            headers.insert(header::USER_AGENT, agent);
        }
        for (name, value) in &self.added {
            headers.append(name, value.clone());
        }
        Ok(request)
    }
}

fn how(asked: &KubernetesAsked) -> Option<How> {
    let info = &asked.info;
    let tried = info.is_resource
        && !asked.upgrade
        && !asked.options.malformed
        // Where it is a dry run by itself, it changes nothing.
        && asked.options.dry_run == DryRun::No
        && PARTS.contains(&info.subresource.as_str())
        && !QUESTIONS.contains(&info.api_group.as_str())
        && info.resource != "bindings"
        && asked.body.len() <= MAX_COMPARED;
    let written = !asked.body.is_empty();
    match (info.verb.as_str(), info.name.is_empty()) {
        _ if !tried => None,
        ("create", _) if written && info.subresource.is_empty() => Some(How::Create),
        ("update" | "patch", false) if written => Some(How::Change),
        ("delete", false) if info.subresource.is_empty() => Some(How::Delete),
        _ => None,
    }
}

/// The request's target with `dryRun=All`, once it is certain that the server reads it so.
fn dry(asked: &KubernetesAsked) -> Option<String> {
    let (path, query) = match asked.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*asked.target, None),
    };
    // In front: whatever is wrong with the rest of the query is behind it.
    let query = match query {
        Some(query) if !query.is_empty() => format!("dryRun=All&{query}"),
        _ => "dryRun=All".to_owned(),
    };
    let read = request::read(&asked.method, path, Some(&query)).ok()?;
    let same = read.info == asked.info && !read.options.malformed;
    (same && read.options.dry_run == DryRun::All).then(|| format!("{path}?{query}"))
}

/// Reads an answer whole.
async fn read(response: Response<Incoming>, most: usize) -> Result<Answered, String> {
    let (parts, mut body) = response.into_parts();
    let mut content = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the API server broke off: {error}"))?;
        let data = frame.into_data().unwrap_or_default();
        if content.len() + data.len() > most {
            return Err(format!(
                "the API server's answer has more than {most} bytes"
            ));
        }
        content.extend_from_slice(&data);
    }
    Ok(Answered {
        status: parts.status,
        content: content.freeze(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, target: &str, body: &str) -> KubernetesAsked {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let request::Request { info, options } = request::read(method, path, query).unwrap();
        KubernetesAsked {
            method: method.into(),
            target: target.into(),
            info,
            options,
            content_type: Some("application/json".into()),
            body: body.to_owned().into(),
            upgrade: false,
        }
    }

    #[test]
    fn what_changes_an_object_is_tried_and_nothing_else() {
        let pods = "/api/v1/namespaces/shop/pods";
        for (method, target, body, expected) in [
            ("POST", pods.to_owned(), "{}", Some(How::Create)),
            ("PUT", format!("{pods}/web"), "{}", Some(How::Change)),
            ("PATCH", format!("{pods}/web"), "{}", Some(How::Change)),
            (
                "PATCH",
                format!("{pods}/web/status"),
                "{}",
                Some(How::Change),
            ),
            ("DELETE", format!("{pods}/web"), "", Some(How::Delete)),
            ("DELETE", pods.to_owned(), "", None),
            ("GET", format!("{pods}/web"), "", None),
            ("GET", pods.to_owned(), "", None),
            ("POST", format!("{pods}/web/exec?command=ls"), "", None),
            ("POST", format!("{pods}/web/eviction"), "{}", None),
            ("POST", format!("{pods}/web/binding"), "{}", None),
            ("PUT", format!("{pods}/web/proxy/x"), "{}", None),
            ("POST", pods.to_owned(), "", None),
            ("POST", format!("{pods}?dryRun=All"), "{}", None),
            ("POST", format!("{pods}?dryRun="), "{}", None),
            (
                "POST",
                "/api/v1/namespaces/shop/serviceaccounts/a/token".to_owned(),
                "{}",
                None,
            ),
            (
                "POST",
                "/apis/authentication.k8s.io/v1/tokenreviews".to_owned(),
                "{}",
                None,
            ),
        ] {
            assert_eq!(
                how(&asked(method, &target, body)),
                expected,
                "{method} {target}"
            );
        }
        let large = "x".repeat(MAX_COMPARED + 1);
        assert_eq!(how(&asked("POST", pods, &large)), None);
    }

    #[test]
    fn a_dry_run_is_one_or_it_is_not_made() {
        let pods = "/api/v1/namespaces/shop/pods";
        let dry = |target: &str| dry(&asked("POST", target, "{}"));
        assert_eq!(dry(pods), Some(format!("{pods}?dryRun=All")));
        assert_eq!(
            dry(&format!("{pods}?fieldManager=x")),
            Some(format!("{pods}?dryRun=All&fieldManager=x"))
        );
        assert_eq!(dry(&format!("{pods}?dryRun=None")), None);
        // One more, and the server would take the query for none.
        let full = vec!["a=b"; request::MAX_PARAMETERS].join("&");
        assert_eq!(dry(&format!("{pods}?{full}")), None);
        let room = vec!["a=b"; request::MAX_PARAMETERS - 1].join("&");
        assert!(dry(&format!("{pods}?{room}")).is_some());
    }
}
