//! The list of requests that the unit tests read, and the API server's own answers to them.
//!
//! `requests.tsv` comes from the documents that a running server gives of itself, `edges.tsv` was
//! written by hand. The answers beside them are what `requestinfo` prints, a program around the API
//! server's own function. All of it is kept, so that the unit tests need neither; here it is made
//! again and must be the same.
//!
//! With `HOOP_KEEP=1` what is made here replaces what is kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hoop_tests::{Kubernetes, PATIENCE, Place, kubernetes, run};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes")
}

/// Compares with what is kept, or keeps it.
pub fn same_as_kept(file: &str, made: &str) {
    let path = folder().join(file);
    if std::env::var_os("HOOP_KEEP").is_some_and(|keep| keep == "1") {
        std::fs::write(&path, made).expect("a file to keep it in");
        return;
    }
    let kept = std::fs::read_to_string(&path).expect("what is kept");
    let differs = made.lines().zip(kept.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None, "{file}: made, and kept");
    assert_eq!(made.lines().count(), kept.lines().count(), "{file}");
}

/// What the API server's own function makes of a list.
pub fn oracle(list: &str) -> String {
    let requests = std::fs::read_to_string(folder().join(list)).expect("a list");
    let program = kubernetes::program("requestinfo").expect("the oracle");
    let ran = run(
        &mut std::process::Command::new(program),
        &requests,
        PATIENCE,
    );
    ran.and_then(hoop_tests::Ran::ok).expect("answers").stdout
}

/// All requests that the server's documents speak of, with what clients add to them.
pub fn from_documents(place: &Place, cluster: &Kubernetes) -> String {
    let raw = |path: &str| -> Value {
        let ran = cluster.kubectl(place, &["get", "--raw", path], "");
        let ran = ran.and_then(hoop_tests::Ran::ok).expect("a document");
        serde_json::from_str(&ran.stdout).expect("JSON")
    };
    let index = raw("/openapi/v3");
    let mut requests = BTreeSet::new();
    for document in index["paths"].as_object().expect("paths").values() {
        let at = document["serverRelativeURL"].as_str().expect("an address");
        requests.extend(expand(&raw(at)));
    }
    requests.into_iter().map(|line| line + "\n").collect()
}

/// The lines of one document.
pub fn expand(document: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (template, item) in document["paths"].as_object().expect("paths") {
        let path = fill(template);
        for (method, operation) in item.as_object().expect("operations") {
            let action = operation["x-kubernetes-action"].as_str();
            let method = method.to_uppercase();
            if method == "PARAMETERS" {
                continue;
            }
            for query in queries(action.unwrap_or_default(), template) {
                lines.push(format!("{method}\t{path}{query}"));
            }
            if method == "GET" && action == Some("get") {
                lines.push(format!("HEAD\t{path}"));
            }
        }
    }
    lines
}

fn fill(template: &str) -> String {
    let path = template.replace("{namespace}", "team-a");
    let path = path.replace("{name}", "web-1");
    path.replace("{path}", "a/b").replace("{logpath}", "syslog")
}

/// What clients ask for with that action, the plain request first.
fn queries(action: &str, template: &str) -> &'static [&'static str] {
    match action {
        "list" => &[
            "",
            "?limit=500&labelSelector=app%3Dweb%2Ctier+in+%28a%2Cb%29",
            "?watch=true&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds=300",
            "?fieldSelector=metadata.name%3Dweb-1&watch=1",
        ],
        "deletecollection" => &["", "?labelSelector=app&fieldSelector=metadata.name%3Dweb-1"],
        "watchlist" | "watch" => &["", "?fieldSelector=metadata.name%3Dweb-1&watch=false"],
        "post" => &["", "?dryRun=All&fieldManager=kubectl-create"],
        "patch" => &["", "?fieldManager=kubectl&force=true"],
        "connect" if template.ends_with("exec") => &["?command=ls&command=-l&stdout=true"],
        "connect" if template.ends_with("portforward") => &["?ports=80"],
        _ => &[""],
    }
}
