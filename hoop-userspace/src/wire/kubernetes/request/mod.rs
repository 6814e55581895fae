//! Reads a request to a Kubernetes API server as the API server reads it itself.
//!
//! Policy speaks of verbs and resources, and the cluster's own authoriser and audit log do too. They
//! get them from `k8s.io/apiserver/pkg/endpoints/request.RequestInfoFactory`; a proxy that reads a
//! path in any other way decides about another request than the one that is then carried out. So
//! [`read`] gives what that function of Kubernetes 1.37 gives, down to what it makes of odd methods,
//! empty segments and broken queries; a test compares them over thousands of requests.
//!
//! What is stricter here is refused, never read otherwise: see [`RequestError`].

mod options;
mod selectors;
mod target;
#[cfg(test)]
mod tests;

pub use options::{DryRun, RequestOptions};
use target::Query;

/// The most bytes of a path, as they are on the wire.
pub const MAX_PATH: usize = 16 * 1024;

/// The most bytes of a query, as they are on the wire. `kubectl exec` puts the whole command there,
/// and Go's HTTP server takes 1 MiB of request line and header fields together.
pub const MAX_QUERY: usize = 1024 * 1024;

/// The most parameters of a query. Go's server takes a query with more for one that has none, other
/// versions of it take all of them.
pub const MAX_PARAMETERS: usize = 10_000;

/// Why a request can't be decided. All of them are to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// RFC 9110 §9.1: a method is a token.
    #[error("the method is not an HTTP token")]
    Method,
    /// `CONNECT` names no path: the server would take its authority for one.
    #[error("an API server takes no CONNECT")]
    Connect,
    #[error("the path is longer than {MAX_PATH} bytes")]
    LongPath,
    #[error("the query is longer than {MAX_QUERY} bytes")]
    LongQuery,
    #[error("the query has more than {MAX_PARAMETERS} parameters")]
    ManyParameters,
    /// Neither `*` alone nor anything that starts with a slash. The absolute form of RFC 9112 §3.2.2
    /// is to be split before; what the server reads as the path of an opaque URI (`a:b`) is none.
    #[error("the path does not start with a slash")]
    Relative,
    #[error("the request's target holds a space or a control character")]
    Control,
    #[error("the path holds a percent sign that two hexadecimal digits don't follow")]
    Escape,
    /// The server takes any bytes; nothing in Kubernetes is named so.
    #[error("the path, or a parameter that matters, is not UTF-8 when decoded")]
    NotUtf8,
    /// The server answers 500 to these.
    #[error("the path ends after /{0}, so it names nothing")]
    Unfinished(&'static str),
}

/// What the API server understands a request to be. Fields are named as in Kubernetes' own type.
///
/// An absent value is an empty string, as there: the verb of a resource request with an unknown
/// method is empty as well, so it is no verb that a rule can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The request is for a resource of the API, and not for a path like `/healthz` or `/apis`.
    pub is_resource: bool,
    /// The decoded path, whole.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection` or `proxy`;
    /// for other than resources the HTTP method in lower case.
    pub verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    /// Empty for the core group.
    pub api_group: String,
    pub api_version: String,
    /// Empty for all namespaces and for what belongs to the cluster. A request for the namespace
    /// `x` itself has `x` here and in [`Self::name`].
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    /// Empty for lists, unless a field selector asks for one name.
    pub name: String,
    /// The path's segments from the resource on. What follows the subresource is not interpreted.
    pub parts: Vec<String>,
    /// As the query holds it; only for verbs that the server honours it with.
    pub field_selector: String,
    /// As the query holds it; only for verbs that the server honours it with.
    pub label_selector: String,
}

/// A request as the API server understands it, and what its query asks for beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub info: RequestInfo,
    pub options: RequestOptions,
}

/// Reads a request line (HTTP/1.1) or the pseudo-header fields of one (HTTP/2).
///
/// `path` and `query` are as they are on the wire: still percent-encoded, `query` without its
/// question mark. They must be what is sent upstream as well, byte for byte.
///
/// # Errors
///
/// What the server's HTTP library or RequestInfoFactory refuses, and what exceeds the limits above.
pub fn read(method: &str, path: &str, query: Option<&str>) -> Result<Request, RequestError> {
    if !target::is_token(method) {
        return Err(RequestError::Method);
    }
    if method == "CONNECT" {
        return Err(RequestError::Connect);
    }
    // The asterisk stands for the whole server, and only alone (RFC 9112 §3.2.4).
    if path == "*" && query.is_some() {
        return Err(RequestError::Relative);
    }
    let decoded = target::path(path)?;
    let query = Query::read(query.unwrap_or_default())?;
    let info = info(method, decoded, &query)?;
    let options = options::read(&info, &query)?;
    Ok(Request { info, options })
}

/// `RequestInfoFactory.NewRequestInfo`, with the prefixes that every API server has.
fn info(method: &str, path: String, query: &Query) -> Result<RequestInfo, RequestError> {
    let mut info = RequestInfo {
        verb: method.to_ascii_lowercase(),
        ..RequestInfo::default()
    };
    let segments: Vec<String> = segments(&path).map(str::to_owned).collect();
    info.path = path;
    let [prefix, rest @ ..] = segments.as_slice() else {
        return Ok(info);
    };
    let grouped = match prefix.as_str() {
        "api" => false,
        "apis" => true,
        _ => return Ok(info),
    };
    // A group or version alone is discovery. The prefix stays known from three segments on.
    if rest.len() < 2 {
        return Ok(info);
    }
    info.api_prefix = prefix.clone();
    let rest = match (grouped, rest) {
        (false, rest) => rest,
        (true, [group, rest @ ..]) if rest.len() >= 2 => {
            info.api_group = group.clone();
            rest
        }
        (true, _) => return Ok(info),
    };
    let [version, rest @ ..] = rest else {
        return Ok(info);
    };
    info.is_resource = true;
    info.api_version = version.clone();

    let (by_path, rest) = verb(method, rest, &mut info)?;
    info.parts = in_namespace(rest, &mut info.namespace).to_vec();
    name(&mut info);
    if info.name.is_empty() && info.verb == "get" {
        list_or_watch(&mut info, query)?;
    }
    if info.name.is_empty() && info.verb == "delete" {
        "deletecollection".clone_into(&mut info.verb);
    }
    // The old paths don't honour selectors the same way everywhere, so the server doesn't say that
    // it knows them.
    if !by_path && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
        info.field_selector = query.first("fieldSelector")?.unwrap_or_default().to_owned();
        info.label_selector = query.first("labelSelector")?.unwrap_or_default().to_owned();
    }
    Ok(info)
}

/// The path without slashes at its ends, cut at the others: segments between may be empty.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_matches('/');
    path.split('/').filter(move |_| !path.is_empty())
}

/// Sets the verb; tells whether the path gave it (`/api/v1/watch/…`), and what follows it then.
fn verb<'a>(
    method: &str,
    rest: &'a [String],
    info: &mut RequestInfo,
) -> Result<(bool, &'a [String]), RequestError> {
    for special in ["proxy", "watch"] {
        let Some((_, after)) = rest.split_first().filter(|(first, _)| *first == special) else {
            continue;
        };
        if after.is_empty() {
            return Err(RequestError::Unfinished(special));
        }
        special.clone_into(&mut info.verb);
        return Ok((true, after));
    }
    // Methods are case-sensitive: `get` is none of these.
    let verb = match method {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    };
    verb.clone_into(&mut info.verb);
    Ok((false, rest))
}

/// Takes `namespaces/{namespace}` off what lies in one; what belongs to the namespace itself stays.
fn in_namespace<'a>(rest: &'a [String], namespace: &mut String) -> &'a [String] {
    let [kind, name, within @ ..] = rest else {
        return rest;
    };
    if kind != "namespaces" {
        return rest;
    }
    namespace.clone_from(name);
    match within {
        [] => rest,
        [first, ..] if matches!(first.as_str(), "status" | "finalize") => rest,
        within => within,
    }
}

/// `resource/name/subresource/…`.
fn name(info: &mut RequestInfo) {
    let part = |index: usize| info.parts.get(index).cloned().unwrap_or_default();
    let (resource, name, subresource) = (part(0), part(1), part(2));
    info.resource = resource;
    info.name = name;
    if info.verb != "proxy" {
        info.subresource = subresource;
    }
}

/// A `get` without a name is a list, or a watch if the query says so. A field selector for one name
/// gives the request that name, so that a role that names objects may watch one.
fn list_or_watch(info: &mut RequestInfo, query: &Query) -> Result<(), RequestError> {
    let list = options::list(query)?;
    let verb = if list.watch { "watch" } else { "list" };
    verb.clone_into(&mut info.verb);
    if let Some(name) = list.name.filter(|name| is_path_segment(name)) {
        info.name = name;
    }
    Ok(())
}

/// `content.IsPathSegmentName`: what may stand as one segment of a path.
fn is_path_segment(name: &str) -> bool {
    name != "." && name != ".." && !name.contains(['/', '%'])
}
