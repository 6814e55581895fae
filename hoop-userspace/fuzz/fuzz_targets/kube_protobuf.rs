//! Objects of Kubernetes in protobuf: envelopes, messages, watches; and that what is rewritten is read.
#![no_main]

use std::sync::LazyLock;

use bytes::BytesMut;
use hoop::wire::kubernetes::protobuf::{Envelope, Kinds, frames};
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
    let mut received = BytesMut::from(bytes);
    while let Ok(Some(event)) = frames::split(&mut received) {
        let _ = KINDS.decode_event(&event);
    }
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
    let object = envelope.with(message);
    if let Ok(written) = KINDS.rewrite(&object, &decoded.value, &decoded.value) {
        let again = KINDS.decode(&written).expect("what was written is read");
        assert!(!again.incomplete || decoded.incomplete);
        assert_eq!(again.value, decoded.value);
    }
});
