//! Against the answers of the API server's own function, and what lies beyond it.

use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// One line of what `tests/kubernetes/requestinfo` printed. Whatever is empty it leaves out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Answer {
    error: Option<String>,
    is_resource_request: bool,
    path: String,
    verb: String,
    api_prefix: String,
    api_group: String,
    api_version: String,
    namespace: String,
    resource: String,
    subresource: String,
    name: String,
    parts: Vec<String>,
    field_selector: String,
    label_selector: String,
}

impl From<Answer> for RequestInfo {
    fn from(answer: Answer) -> Self {
        Self {
            is_resource: answer.is_resource_request,
            path: answer.path,
            verb: answer.verb,
            api_prefix: answer.api_prefix,
            api_group: answer.api_group,
            api_version: answer.api_version,
            namespace: answer.namespace,
            resource: answer.resource,
            subresource: answer.subresource,
            name: answer.name,
            parts: answer.parts,
            field_selector: answer.field_selector,
            label_selector: answer.label_selector,
        }
    }
}

/// Reads a whole target, cut at its first question mark as HTTP libraries do it.
fn target(method: &str, target: &str) -> Result<Request, RequestError> {
    match target.split_once('?') {
        Some((path, query)) => read(method, path, Some(query)),
        None => read(method, target, None),
    }
}

/// Compares every line of a list with the server's answer to it; gives how many there were.
fn compare(list: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kubernetes");
    let file = |name: String| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let requests = file(format!("{list}.tsv"));
    let answers = file(format!("{list}.answers.jsonl"));
    let requests: Vec<&str> = requests.lines().collect();
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(requests.len(), answers.len(), "answers to another list");
    let mut differences = Vec::new();
    for (request, answer) in requests.iter().zip(answers) {
        let (method, path) = request.split_once('\t').expect("a tab");
        let answer: Answer = serde_json::from_str(answer).expect("an answer");
        let ours = target(method, path).map(|request| request.info);
        match (answer.error.clone(), ours) {
            (Some(_), Err(_)) => {}
            (None, Ok(ours)) if ours == answer.into() => {}
            (error, ours) => differences.push(format!("{request}\n  {error:?}\n  {ours:?}")),
        }
    }
    let count = differences.len();
    assert!(count == 0, "{count} differ:\n{}", differences.join("\n"));
    requests.len()
}

#[test]
fn hand_written_requests_are_read_as_the_api_server_reads_them() {
    assert!(compare("edges") >= 550);
}

#[test]
fn requests_of_the_servers_own_documents_are_read_as_the_api_server_reads_them() {
    assert!(compare("requests") >= 1_000);
}

#[test]
fn what_is_stricter_than_the_server_is_refused() {
    use RequestError as E;
    let long = format!("/api/v1/{}", "x".repeat(MAX_PATH));
    let nots_utf8 = [
        "/api/v1/namespaces/default/pods/%FF",
        "/api/v1/namespaces/x/services/y/proxy/caf%E9",
        "/api/v1/pods?labelSelector=%FF",
        "/api/v1/pods?fieldSelector=%C3",
        "/api/v1/pods?watch=%80",
        "/api/v1/namespaces/x/pods/y/exec?command=%FE",
    ];
    for path in nots_utf8 {
        assert_eq!(target("GET", path), Err(E::NotUtf8), "{path}");
    }
    assert_eq!(target("GET", &long), Err(E::LongPath));
    assert_eq!(target("CONNECT", "/api/v1/pods"), Err(E::Connect));
    assert_eq!(target("CONNECT", "cluster:443"), Err(E::Connect));
    assert_eq!(
        target("GET", "https://cluster/api/v1/pods"),
        Err(E::Relative)
    );
    let many = "&".repeat(MAX_PARAMETERS - 1);
    assert!(read("GET", "/api/v1/pods", Some(&many)).is_ok());
    let many = "&".repeat(MAX_PARAMETERS);
    let refused = read("GET", "/api/v1/pods", Some(&many));
    assert_eq!(refused, Err(E::ManyParameters));
    let long = "x".repeat(MAX_QUERY + 1);
    assert_eq!(read("GET", "/", Some(&long)), Err(E::LongQuery));
}

#[test]
fn a_parameter_that_nothing_reads_may_hold_anything() {
    let request = target("GET", "/api/v1/namespaces/x/services/y/proxy?q=%FF").unwrap();
    assert!(!request.options.malformed);
}

#[test]
fn exec_gives_its_command_and_streams() {
    let path = "/api/v1/namespaces/default/pods/web/exec?command=sh&command=-c\
                &command=echo+%22a%26b%22%3B+id&container=app&stdin=true&stdout=1&tty=false";
    for method in ["GET", "POST"] {
        let Request { info, options } = target(method, path).unwrap();
        assert_eq!(info.subresource, "exec");
        assert_eq!(options.command, ["sh", "-c", "echo \"a&b\"; id"]);
        assert_eq!(options.container, "app");
        assert!(options.stdin && options.stdout && !options.stderr && !options.tty);
        assert!(!options.malformed);
    }
}

#[test]
fn only_pods_have_what_pods_have() {
    let path = "/apis/apps/v1/namespaces/default/pods/web/exec?command=sh&stdin=true";
    let options = target("POST", path).unwrap().options;
    assert_eq!(options, RequestOptions::default());
    let path = "/api/v1/namespaces/default/pods/web/attach?command=sh&stdin=true&tty=";
    let options = target("POST", path).unwrap().options;
    assert!(options.command.is_empty() && options.stdin && options.tty);
}

#[test]
fn port_forward_gives_its_ports() {
    let ports = |query: &str| {
        let path = format!("/api/v1/namespaces/default/pods/web/portforward?{query}");
        let options = target("GET", &path).unwrap().options;
        (options.ports, options.malformed)
    };
    assert_eq!(ports("ports=80"), (vec![80], false));
    assert_eq!(
        ports("ports=80,443&ports=5432"),
        (vec![80, 443, 5432], false)
    );
    assert_eq!(ports(""), (vec![], false));
    for bad in [
        "ports=",
        "ports=65536",
        "ports=%2B80",
        "ports=-1",
        "ports=a",
    ] {
        assert_eq!(ports(bad), (vec![], true), "{bad}");
    }
}

#[test]
fn a_log_gives_its_options() {
    let path = "/api/v1/namespaces/default/pods/web/log?container=c&follow=true&previous\
                &timestamps=0&sinceSeconds=60&tailLines=10&limitBytes=x&stream=Stdout";
    let options = target("GET", path).unwrap().options;
    assert!(options.follow && options.previous && !options.timestamps);
    assert_eq!(options.since_seconds, Some(60));
    assert_eq!(options.tail_lines, Some(10));
    assert_eq!(options.limit_bytes, None);
    assert_eq!(options.stream, "Stdout");
    assert!(options.malformed, "limitBytes is no number");
}

#[test]
fn a_change_gives_how_it_is_made() {
    let options = |method, query: &str| {
        let path = format!("/api/v1/namespaces/default/configmaps/c?{query}");
        target(method, &path).unwrap().options
    };
    let apply = options(
        "PATCH",
        "fieldManager=kubectl&force=true&fieldValidation=Strict",
    );
    assert_eq!(apply.field_manager, "kubectl");
    assert_eq!(apply.field_validation, "Strict");
    assert!(apply.force);
    assert_eq!(apply.dry_run, DryRun::No);
    let dry = |query| options("PUT", query).dry_run;
    assert_eq!(dry("dryRun=All"), DryRun::All);
    assert_eq!(dry("dryRun=All&dryRun=All"), DryRun::All);
    assert_eq!(dry("dryRun"), DryRun::Unknown);
    assert_eq!(dry("dryRun=all"), DryRun::Unknown);
    assert_eq!(dry("dryRun=All&dryRun="), DryRun::Unknown);
    assert_eq!(dry("dryRun=&dryRun=All"), DryRun::Unknown);
    let delete = options("DELETE", "gracePeriodSeconds=0&propagationPolicy=Orphan");
    assert_eq!(delete.grace_period_seconds, Some(0));
    assert_eq!(delete.propagation_policy, "Orphan");
    assert_eq!(options("GET", "dryRun=All").dry_run, DryRun::No);
}

#[test]
fn a_list_gives_its_bounds() {
    let path = "/api/v1/pods?watch=1&limit=500&continue=abc&timeoutSeconds=30&resourceVersion=0\
                &resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&sendInitialEvents=true";
    let Request { info, options } = target("GET", path).unwrap();
    assert_eq!(info.verb, "watch");
    assert_eq!(options.limit, Some(500));
    assert_eq!(options.continue_from, "abc");
    assert_eq!(options.timeout_seconds, Some(30));
    assert_eq!(options.resource_version, "0");
    assert_eq!(options.resource_version_match, "NotOlderThan");
    assert!(options.allow_watch_bookmarks && options.send_initial_events);
}

#[test]
fn a_proxied_path_is_what_nothing_interprets() {
    let path = |target_: &str| target("GET", target_).unwrap().options.proxy_path;
    assert_eq!(path("/api/v1/nodes/n/proxy"), "");
    assert_eq!(path("/api/v1/nodes/n/proxy/"), "/");
    assert_eq!(path("/api/v1/nodes/n/proxy/run/a/b"), "/run/a/b");
    assert_eq!(
        path("/api/v1/namespaces/x/services/y:80/proxy/a//b/"),
        "/a//b/"
    );
    assert_eq!(path("/api/v1/nodes/n/proxy/..%2F../x"), "/../../x");
    assert_eq!(path("/api/v1/proxy/nodes/n/logs"), "/logs");
    assert_eq!(path("/api/v1/nodes/n/status/x"), "");
}

#[test]
fn a_pair_that_the_server_leaves_out_is_told() {
    for query in ["a;b", "%zz=1", "x=%4", "watch=true;x"] {
        let options = read("GET", "/api/v1/pods", Some(query)).unwrap().options;
        assert!(options.malformed, "{query}");
    }
    let options = read("GET", "/api/v1/pods", Some("a=%3B&&b"))
        .unwrap()
        .options;
    assert!(!options.malformed);
}

proptest! {
    #[test]
    fn nothing_panics(method in ".{0,8}", path in ".{0,80}", query in ".{0,80}") {
        let _ = read(&method, &path, Some(&query));
    }

    #[test]
    fn no_request_panics(
        segments in prop::collection::vec("(api|apis|v1|watch|proxy|namespaces|status|pods|exec|%2F|%|\\.\\.|é)?", 0..9),
        keys in prop::collection::vec("(watch|fieldSelector|labelSelector|limit|command)", 0..4),
        values in prop::collection::vec("[a-z!=,<>()\\\\% &;+.0-9]{0,12}", 4),
    ) {
        let path = format!("/{}", segments.join("/"));
        let pairs = keys.iter().zip(values).map(|(key, value)| format!("{key}={value}"));
        let query = pairs.collect::<Vec<_>>().join("&");
        for method in ["GET", "DELETE"] {
            if let Ok(request) = read(method, &path, Some(&query)) {
                let info = request.info;
                prop_assert!(!info.is_resource || !info.api_prefix.is_empty());
                prop_assert!(info.is_resource || info.parts.is_empty());
            }
        }
    }

    /// An escaped byte is the byte itself, wherever it stands.
    #[test]
    fn escaping_changes_nothing(segments in prop::collection::vec("[a-z.é]{1,8}", 0..7)) {
        let plain = format!("/api/v1/{}", segments.join("/"));
        let escape = |byte: u8| match byte {
            b'/' => "/".to_owned(),
            byte => format!("%{byte:02x}"),
        };
        let escaped: String = plain.bytes().map(escape).collect();
        prop_assert_eq!(read("GET", &escaped, None), read("GET", &plain, None));
    }
}
