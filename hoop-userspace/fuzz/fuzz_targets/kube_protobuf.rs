//! Objects of Kubernetes in protobuf: envelopes and messages; an envelope changes nothing of what is in it.
#![no_main]

use std::sync::LazyLock;

use hoop::wire::kubernetes::protobuf::{Envelope, Kinds};
use libfuzzer_sys::fuzz_target;

static KINDS: LazyLock<Kinds> = LazyLock::new(Kinds::new);

/// Messages of many forms: maps, inlined fields, raw objects, lists.
const SHAPES: [(&str, &str); 6] = [
    ("v1", "Secret"),
    ("v1", "PodList"),
    ("v1", "WatchEvent"),
    ("apps/v1", "Deployment"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
];

fuzz_target!(|bytes: &[u8]| {
    let _ = Envelope::read(bytes);
    let _ = KINDS.decode(bytes);
    let Some((first, message)) = bytes.split_first() else {
        return;
    };
    let (api_version, kind) = SHAPES[usize::from(*first) % SHAPES.len()];
    let Ok(decoded) = KINDS.decode_bare(api_version, kind, message) else {
        return;
    };
    let envelope = Envelope {
        api_version,
        kind,
        raw: message,
        content_encoding: "",
        content_type: "",
    };
    let again = KINDS.decode(&envelope.with(message));
    let again = again.expect("what was read is read in an envelope");
    assert_eq!(again.incomplete, decoded.incomplete);
    assert_eq!(again.value, decoded.value);
});
