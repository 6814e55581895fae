//! Messages by hand: what is read of them, and what is refused.

use super::reader::put_number;
use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Messages by hand.
#[derive(Default)]
struct M(Vec<u8>);

impl M {
    fn text(mut self, field: u32, text: &str) -> Self {
        put_bytes(&mut self.0, field, text.as_bytes());
        self
    }
    fn number(mut self, field: u32, number: u64) -> Self {
        put_number(&mut self.0, field, number);
        self
    }
    fn message(mut self, field: u32, inner: Self) -> Self {
        put_bytes(&mut self.0, field, &inner.0);
        self
    }
    fn entry(self, field: u32, key: &str, value: &str) -> Self {
        self.message(field, Self::default().text(1, key).text(2, value))
    }
}

fn m() -> M {
    M::default()
}

fn enveloped(version: &str, kind: &str, object: &M) -> Vec<u8> {
    Envelope {
        api_version: version,
        kind,
        raw: &object.0,
        content_encoding: "",
        content_type: "",
    }
    .with(&object.0)
}

fn secret() -> M {
    let metadata = m()
        .text(1, "db")
        .text(3, "prod")
        .message(8, m().number(1, 1_700_000_000))
        .entry(12, "note", "x")
        .message(
            17,
            m().text(1, "kubectl")
                .text(6, "FieldsV1")
                .message(7, m().text(1, r#"{"f:data":{}}"#)),
        );
    m().message(1, metadata)
        .entry(2, "password", "hunter2")
        .text(3, "Opaque")
        .entry(4, "plain", "hunter3")
}

#[test]
fn a_secret_is_read_as_json_has_it() {
    let kinds = Kinds::new();
    let decoded = kinds.decode(&enveloped("v1", "Secret", &secret())).unwrap();
    assert!(!decoded.incomplete);
    assert_eq!(
        decoded.value,
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "db", "namespace": "prod", "creationTimestamp": "2023-11-14T22:13:20Z",
                "annotations": {"note": "x"},
                "managedFields": [{"manager": "kubectl", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}}],
            },
            "data": {"password": "aHVudGVyMg=="}, "type": "Opaque", "stringData": {"plain": "hunter3"},
        })
    );
}

#[test]
fn what_is_inlined_stands_in_the_object_itself() {
    let volume = m()
        .text(1, "v")
        .message(2, m().message(1, m().text(1, "/etc")));
    let container = m().text(1, "c").message(15, m().number(2, 1)).message(
        7,
        m().text(1, "KEY").message(
            3,
            m().message(4, m().message(1, m().text(1, "s")).text(2, "k")),
        ),
    );
    let spec = m().message(1, volume).message(2, container).number(11, 1);
    let pod = m().message(2, spec);
    let kinds = Kinds::new();
    let decoded = kinds.decode(&enveloped("v1", "Pod", &pod)).unwrap();
    assert_eq!(
        decoded.value["spec"],
        json!({
            "volumes": [{"name": "v", "hostPath": {"path": "/etc"}}],
            "containers": [{
                "name": "c",
                "securityContext": {"privileged": true},
                "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            }],
            "hostNetwork": true,
        })
    );
}

#[test]
fn what_is_not_known_is_left_out_and_told() {
    let object = enveloped(
        "v1",
        "Secret",
        &m().message(1, m().text(1, "s").text(99, "hunter2"))
            .entry(2, "a", "hunter2"),
    );
    let decoded = kinds().decode(&object).unwrap();
    assert!(decoded.incomplete);
    assert_eq!(decoded.value["metadata"], json!({"name": "s"}));
    assert_eq!(decoded.value["data"]["a"], "aHVudGVyMg==");
}

#[test]
fn what_has_no_one_meaning_is_refused() {
    let kinds = Kinds::new();
    let twice = m().message(1, m().text(1, "a").text(1, "b"));
    let key_twice = m().entry(2, "a", "x").entry(2, "a", "y");
    let not_text = m().message(1, m().number(1, 5));
    for (object, error) in [
        (twice, Malformed::Twice),
        (key_twice, Malformed::Twice),
        (not_text, Malformed::Type),
    ] {
        assert_eq!(
            kinds.decode(&enveloped("v1", "Secret", &object)),
            Err(error)
        );
    }
    assert_eq!(kinds.decode(b"{}"), Err(Malformed::Envelope));
    let unknown = kinds
        .decode(&enveloped("example.com/v1", "Widget", &m().text(1, "x")))
        .unwrap();
    assert!(unknown.incomplete);
    assert_eq!(
        unknown.value,
        json!({"apiVersion": "example.com/v1", "kind": "Widget"})
    );
}

#[test]
fn a_number_of_32_bits_is_what_go_makes_of_it() {
    for (written, read) in [
        (1 << 32, 0),
        ((1 << 32) + 3, 3),
        (0xffff_ffff, -1),
        (u64::MAX, -1),
        (5, 5),
    ] {
        let scale = m().message(2, m().number(1, written));
        let scale = kinds().decode(&enveloped("autoscaling/v1", "Scale", &scale));
        assert_eq!(scale.unwrap().value["spec"]["replicas"], json!(read));
    }
}

#[test]
fn depth_is_bounded() {
    // A schema of a custom resource may nest by itself.
    let mut schema = m();
    for _ in 0..200 {
        schema = m().message(27, schema);
    }
    let crd = m().message(2, m().message(7, m().message(4, m().message(1, schema))));
    let object = enveloped("apiextensions.k8s.io/v1", "CustomResourceDefinition", &crd);
    assert_eq!(Kinds::new().decode(&object), Err(Malformed::Deep));
}

/// Compiled once for all cases.
fn kinds() -> &'static Kinds {
    static KINDS: std::sync::LazyLock<Kinds> = std::sync::LazyLock::new(Kinds::new);
    &KINDS
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, kind in prop::sample::select(vec!["Secret", "Pod", "PodList", "WatchEvent", "Status"])) {
        let kinds = kinds();
        let _ = kinds.decode(&bytes);
        if let Ok(bare) = kinds.decode_bare("v1", kind, &bytes) {
            let object = enveloped("v1", kind, &M(bytes));
            prop_assert_eq!(kinds.decode(&object).unwrap().value, bare.value);
        }
    }

    #[test]
    fn every_field_is_read_as_it_was_written(name in "[a-z]{0,8}", data: Vec<(String, Vec<u8>)>, replicas: i32) {
        let kinds = kinds();
        let mut secret = m().message(1, m().text(1, &name));
        let mut seen = Vec::new();
        for (key, value) in &data {
            if seen.contains(&key) { continue; }
            seen.push(key);
            let mut entry = m().text(1, key);
            put_bytes(&mut entry.0, 2, value);
            secret = secret.message(2, entry);
        }
        let object = enveloped("v1", "Secret", &secret);
        let read = kinds.decode(&object).unwrap().value;
        let read = read["data"].as_object().map_or(0, serde_json::Map::len);
        prop_assert_eq!(read, seen.len());
        let scale = enveloped("autoscaling/v1", "Scale", &m().message(2, m().number(1, i64::from(replicas).cast_unsigned())));
        let decoded = kinds.decode(&scale).unwrap().value;
        prop_assert_eq!(&decoded["spec"]["replicas"], &json!(replicas));
    }
}
