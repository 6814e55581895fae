//! What a request to an API server is about: any method, path and query are read or refused, and a
//! path means what it means, however its bytes are escaped.
#![no_main]

use hoop::wire::kubernetes::request::{MAX_PATH, read};
use libfuzzer_sys::fuzz_target;

/// So that paths are found that mean something.
const SEGMENTS: [&str; 16] = [
    "api",
    "apis",
    "v1",
    "apps",
    "namespaces",
    "default",
    "pods",
    "exec",
    "proxy",
    "watch",
    "status",
    "..",
    "",
    "%2F",
    "secrets",
    "configmaps",
];

fuzz_target!(|input: (String, Vec<u8>, String, Option<String>)| {
    let (method, segments, rest, query) = input;
    let method = match method.len() {
        0 => "GET",
        _ => &method,
    };
    let known = segments
        .iter()
        .map(|at| SEGMENTS[usize::from(*at) % SEGMENTS.len()]);
    let path = format!("/{}/{rest}", known.collect::<Vec<_>>().join("/"));
    let Ok(request) = read(method, &path, query.as_deref()) else {
        return;
    };
    let info = &request.info;
    assert!(path.len() <= MAX_PATH);
    assert!(!info.is_resource || !info.api_prefix.is_empty());
    assert!(info.is_resource || info.parts.is_empty());
    if path.contains('%') || path.len() * 3 > MAX_PATH {
        return;
    }
    let escape = |byte: u8| match byte {
        b'/' => "/".to_owned(),
        byte => format!("%{byte:02x}"),
    };
    let escaped: String = path.bytes().map(escape).collect();
    assert_eq!(read(method, &escaped, query.as_deref()), Ok(request));
});
