//! What is shown of objects, lists, events and Tables, and that nothing of a Secret is.

mod change;
mod detected;
mod errors;

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::How;
use crate::mask::{HashKey, JsonPath};

/// Rules as `[[mask]]` has them: `namespace.resource.field`, paths in the field, how.
fn masks(rules: &[(&str, &[&str], How)]) -> KubernetesMasks {
    showing(rules, &[])
}

/// The same, where Secrets of these types are shown.
fn showing(rules: &[(&str, &[&str], How)], types: &[&str]) -> KubernetesMasks {
    static KINDS: LazyLock<Arc<Kinds>> = LazyLock::new(Arc::default);
    let types = types.iter().map(|kind| (*kind).to_owned()).collect();
    KubernetesMasks::new(rules_of(rules), types, KINDS.clone())
}

fn rules_of(rules: &[(&str, &[&str], How)]) -> Arc<Rules> {
    let rules = rules.iter().map(|(columns, json, how)| {
        let mut parts = columns.split('.').map(|p| (p != "*").then(|| p.to_owned()));
        let pattern = crate::config::ColumnPattern {
            schema: parts.next().flatten(),
            table: parts.next().flatten(),
            column: parts.next().flatten(),
        };
        let paths = json
            .iter()
            .map(|p| (JsonPath::new(p).unwrap(), how.clone()));
        let how = match json.is_empty() {
            true => how.clone(),
            false => How::Inside(paths.collect()),
        };
        (pattern, how)
    });
    Rules::of(rules, &HashKey::new(&[7; 32]), 1 << 20)
}

fn place(resource: &str) -> Place<'_> {
    Place {
        namespace: "prod",
        group: "",
        resource,
        subresource: "",
    }
}

fn shown(masks: &KubernetesMasks, place: Place<'_>, document: &Value) -> Value {
    let shown = masks.json(&place, document.to_string().as_bytes()).unwrap();
    match shown.body {
        Some(body) => serde_json::from_slice(&body).unwrap(),
        None => document.clone(),
    }
}

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn secret(value: &str) -> Value {
    let applied = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
        "stringData": {"password": value}, "data": {"password": base64(value)},
    });
    json!({
        "kind": "Secret", "apiVersion": "v1",
        "metadata": {
            "name": "db", "namespace": "prod", "uid": "11111111-2222-3333-4444-555555555555",
            "resourceVersion": "12", "creationTimestamp": "2026-01-02T03:04:05Z",
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": format!("{applied}\n"),
                "other-tool": format!("applied {value} yesterday"),
                "packed": base64(&format!("{value}{}", "x".repeat(80))),
            },
            "managedFields": [{"manager": "kubectl", "fieldsType": "FieldsV1", "fieldsV1": {
                "f:data": {".": {}, "f:password": {}},
                "f:set": {format!("v:\"{value}\""): {}},
            }}],
        },
        "data": {"password": base64(value), "empty": ""},
        "stringData": {"plain": value},
        "type": "Opaque",
    })
}

const VALUE: &str = "hunter2-correct-horse";

fn leaks(document: &Value) -> bool {
    let text = document.to_string();
    text.contains(VALUE) || text.contains(base64(VALUE).trim_end_matches('='))
}

#[test]
fn a_secret_shows_its_names_and_nothing_of_its_values() {
    let masks = masks(&[]);
    let marker = masks.marker.plain().to_owned();
    let masked = shown(&masks, place("secrets"), &secret(VALUE));
    assert!(!leaks(&masked), "{masked}");
    assert_eq!(
        masked["data"],
        json!({"password": base64(&marker), "empty": base64(&marker)})
    );
    assert_eq!(masked["stringData"]["plain"], marker);
    assert_eq!(masked["type"], "Opaque");
    assert_eq!(masked["metadata"]["uid"], secret(VALUE)["metadata"]["uid"]);
    let annotations = &masked["metadata"]["annotations"];
    let applied = annotations["kubectl.kubernetes.io/last-applied-configuration"]
        .as_str()
        .unwrap();
    assert!(applied.ends_with("}\n"));
    let applied: Value = serde_json::from_str(applied).unwrap();
    assert_eq!(applied["data"]["password"], base64(&marker));
    assert_eq!(applied["metadata"]["name"], "db");
    assert_eq!(
        annotations["other-tool"],
        format!("applied {marker} yesterday")
    );
    assert_eq!(annotations["packed"], marker);
    let fields = &masked["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(fields["f:data"]["f:password"], json!({}));
    assert_eq!(fields["f:set"], json!({format!("v:\"{marker}\""): {}}));
}

#[test]
fn it_is_masked_wherever_it_stands() {
    let masks = masks(&[]);
    let one = secret(VALUE);
    let mut bare = one.clone();
    bare.as_object_mut().unwrap().remove("kind");
    let table = json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [{"name": "Name", "type": "string"}],
        "rows": [{"cells": ["db", "Opaque", 2, "5d"], "object": one}],
    });
    for (place, document) in [
        (
            place("secrets"),
            json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {"continue": "abc"}, "items": [bare, bare]}),
        ),
        (
            place("pods"),
            json!({"kind": "List", "apiVersion": "v1", "items": [one, {"kind": "Pod"}]}),
        ),
        (place("secrets"), json!({"type": "MODIFIED", "object": one})),
        (place("secrets"), table),
        (place(""), one.clone()),
        (place(""), json!({"items": [one]})),
        (
            place("templates"),
            json!({"apiVersion": "template.openshift.io/v1", "kind": "Template", "objects": [one]}),
        ),
        (
            place("configmaps"),
            json!({"kind": "ConfigMap", "metadata": {"annotations": {"copy": one.to_string()}}}),
        ),
        (
            place("secrets"),
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": one["metadata"].as_object().unwrap().iter().filter(|(k, _)| *k == "annotations").map(|(k, v)| (k.clone(), v["kubectl.kubernetes.io/last-applied-configuration"].clone())).map(|(k, v)| (k, json!({"kubectl.kubernetes.io/last-applied-configuration": v}))).collect::<serde_json::Map<_, _>>()}),
        ),
    ] {
        let masked = shown(&masks, place, &document);
        assert!(!leaks(&masked), "{masked}");
        assert!(finds_masked(None, masked.to_string().as_bytes()).is_some());
        // Streamed, the same.
        if document.get("items").or(document.get("rows")).is_some()
            && document.get("kind").is_some()
        {
            for piece in [1, 7, 100_000] {
                let mut list = masks.list(place);
                let mut out = Vec::new();
                for bytes in document.to_string().as_bytes().chunks(piece) {
                    list.feed(bytes, &mut out).unwrap();
                }
                assert!(list.finish().unwrap() > 0);
                assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), masked);
            }
        }
    }
    let row = shown(
        &masks,
        place("secrets"),
        &json!({"kind": "Table", "rows": [{"cells": ["db", "Opaque", 2]}]}),
    );
    assert_eq!(row["rows"][0]["cells"], json!(["db", "Opaque", 2]));
}

#[test]
fn rules_name_namespace_resource_and_field() {
    let masks = masks(&[
        ("*.configmaps.data", &["$.token"], How::Redact),
        ("prod.pods.spec", &["$..env[*].value"], How::Hash),
        (
            "*.widgets.spec",
            &["$.size", "$.flag", "$.owner"],
            How::Redact,
        ),
    ]);
    let marker = masks.marker.plain().to_owned();
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"token": "abcdef", "other": "x"}});
    let masked = shown(&masks, place("configmaps"), &map);
    assert_eq!(masked["data"], json!({"token": marker, "other": "x"}));
    let pod = json!({"kind": "Pod", "spec": {"containers": [{"name": "a", "env": [{"name": "A", "value": "s3cret"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}});
    let masked = shown(&masks, place("pods"), &pod);
    let env = &masked["spec"]["containers"][0]["env"];
    assert!(env[0]["value"].as_str().unwrap().len() == "hoop-masked-".len() + 32);
    assert_eq!(env[1], pod["spec"]["containers"][0]["env"][1]);
    // Columns of pods show no environment.
    let table = json!({"kind": "Table", "rows": [{"cells": ["web", "1/1"], "object": {"metadata": {"name": "web", "namespace": "prod"}}}]});
    assert_eq!(shown(&masks, place("pods"), &table), table);
    // What is no text keeps its type, and the object says that it is not what it was.
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 5, "flag": true, "owner": {"name": "secretive"}}});
    let masked = shown(&masks, place("widgets"), &widget);
    assert_eq!(
        masked["spec"],
        json!({"size": 0, "flag": false, "owner": {"name": marker}})
    );
    assert_eq!(masked["metadata"]["annotations"]["hoop-masked"], marker);
    assert!(finds_masked(None, masked.to_string().as_bytes()).is_some());
    // Nobody says which column shows it.
    let table = json!({"kind": "Table", "rows": [{"cells": ["w", "secretive", 5], "object": {"metadata": {"name": "w"}}}]});
    let masked = shown(&masks, place("widgets"), &table);
    assert_eq!(masked["rows"][0]["cells"], json!(["w", marker, 0]));
    // Elsewhere the rule does not hold.
    let other = Place {
        namespace: "dev",
        ..place("pods")
    };
    assert_eq!(shown(&masks, other, &pod), pod);
}

#[test]
fn secrets_of_a_type_that_is_shown_are_not_masked_and_others_are() {
    let masks = showing(&[], &["helm.sh/release.v1"]);
    let release = |kind: &str| {
        json!({"kind": "Secret", "apiVersion": "v1", "type": kind,
            "metadata": {"name": "sh.helm.release.v1.shop.v1", "labels": {"owner": "helm"}},
            "data": {"release": base64(VALUE)}})
    };
    let document = release("helm.sh/release.v1");
    assert_eq!(shown(&masks, place("secrets"), &document), document);
    for kind in ["Opaque", "helm.sh/release.v2", ""] {
        let list = json!({"kind": "SecretList", "items": [document, release(kind)]});
        let masked = shown(&masks, place("secrets"), &list);
        assert_eq!(masked["items"][0], document);
        assert!(!leaks(&masked["items"][1]), "{kind:?}");
    }
    // A patch says no type.
    let patch = json!({"data": {"release": base64(VALUE)}});
    assert!(!leaks(&shown(&masks, place("secrets"), &patch)));
}

#[test]
fn a_token_that_is_issued_is_masked() {
    let masks = masks(&[]);
    let place = Place {
        subresource: "token",
        ..place("serviceaccounts")
    };
    let request = json!({"kind": "TokenRequest", "spec": {"audiences": ["x"]}, "status": {"token": "eyJhbGciOi", "expirationTimestamp": "2026-01-02T03:04:05Z"}});
    let masked = shown(&masks, place, &request);
    assert_eq!(masked["status"]["token"], masks.marker.plain());
    assert_eq!(
        masked["status"]["expirationTimestamp"],
        "2026-01-02T03:04:05Z"
    );
}

#[test]
fn what_is_written_back_is_found_in_every_form() {
    let masks = masks(&[]);
    let marker = masks.marker.plain();
    let encoded = base64(marker);
    for (kind, body, at) in [
        (
            "application/json",
            format!(r#"{{"data":{{"a/b":"{encoded}"}}}}"#),
            "/data/a~1b",
        ),
        (
            "application/json-patch+json",
            format!(r#"[{{"op":"replace","path":"/data/a","value":"{encoded}"}}]"#),
            "/0/value",
        ),
        (
            "application/merge-patch+json",
            format!(r#"{{"stringData":{{"a":"x{marker}y"}}}}"#),
            "/stringData/a",
        ),
        (
            "application/apply-patch+yaml",
            format!("data:\n  a: {encoded}\n"),
            "/data/a",
        ),
        (
            "application/json",
            format!(r#"{{"a":"\u0068{}"}}"#, marker.strip_prefix('h').unwrap()),
            "/a",
        ),
        (
            "application/json",
            format!(r#"{{"{marker}":1}}"#),
            &format!("/{marker}"),
        ),
        ("text/plain", format!("broken {{ {marker}"), "its text"),
    ] {
        assert_eq!(
            finds_masked(Some(kind), body.as_bytes()).as_deref(),
            Some(at),
            "{body}"
        );
    }
    for body in [
        "",
        "{}",
        r#"{"data":{"a":"aG9vcA=="}}"#,
        "a: hoop-masked-nothing\n",
    ] {
        assert_eq!(finds_masked(None, body.as_bytes()), None, "{body}");
    }
}

#[test]
fn what_is_recorded_of_a_body_holds_no_secret() {
    let masks = masks(&[]);
    let kinds = [
        ("application/json", secret(VALUE).to_string()),
        (
            "application/merge-patch+json",
            json!({"stringData": {"a": VALUE}}).to_string(),
        ),
        (
            "application/json-patch+json",
            json!([{"op": "add", "path": "/data/a", "value": base64(VALUE)}]).to_string(),
        ),
        (
            "application/apply-patch+yaml",
            format!("stringData:\n  a: {VALUE}\n"),
        ),
        ("application/json", format!("broken {VALUE}")),
    ];
    for (kind, body) in kinds {
        let (recorded, _) = masks.recorded(&place("secrets"), Some(kind), body.as_bytes());
        let value: Value = serde_json::from_slice(&recorded).unwrap();
        assert!(!leaks(&value), "{value}");
    }
}

#[test]
fn a_list_that_is_none_is_refused_and_one_that_ends_early_too() {
    let masks = masks(&[]);
    for text in [
        "[]",
        "{\"items\":[1,,2]}",
        "{\"a\" 1}",
        "{]",
        "{\"items\":[}]}",
        "{\"a\":1}}",
        "x",
    ] {
        let mut list = masks.list(place("pods"));
        assert!(
            list.feed(text.as_bytes(), &mut Vec::new()).is_err(),
            "{text}"
        );
    }
    let mut list = masks.list(place("pods"));
    list.feed(b"{\"items\":[{}", &mut Vec::new()).unwrap();
    assert_eq!(list.finish(), Err(Unmaskable::Unfinished));
    let mut list = masks.list(place("pods"));
    let long = vec![b'x'; MAX_OBJECT + 1];
    list.feed(b"{\"items\":[\"", &mut Vec::new()).unwrap();
    assert_eq!(list.feed(&long, &mut Vec::new()), Err(Unmaskable::TooLarge));
}

/// Any JSON, with the value in some of its texts.
/// A list is the same under its masks whether it is read whole or an element after the other.
#[test]
fn a_long_list_is_masked_as_a_short_one() {
    let masks = masks(&[]);
    let list = |count: usize, kind: &str| {
        let items: Vec<_> = (0..count)
            .map(|n| secret(&format!("hunter2-{n}")))
            .collect();
        format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"9\"}},\"items\":{}}}\n",
            Value::Array(items)
        )
    };
    let one = masks.json(&place("secrets"), list(1, "SecretList").as_bytes());
    let one: Value = serde_json::from_slice(&one.unwrap().body.unwrap()).unwrap();
    for kind in ["SecretList", "List"] {
        let long = list(2_000, kind);
        assert!(long.len() > LARGE);
        let shown = masks.json(&place("secrets"), long.as_bytes()).unwrap();
        let body = shown.body.unwrap();
        assert!(!body.windows(7).any(|w| w == b"hunter2"));
        let all: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(all["metadata"], json!({"resourceVersion": "9"}));
        let items = all["items"].as_array().unwrap();
        assert_eq!(items.len(), 2_000);
        assert!(items.iter().all(|item| *item == one["items"][0]));
    }
    // What is no list is read whole, as far as that goes.
    let large = format!("{{\"kind\":\"Pod\",\"x\":\"{}\"}}", "x".repeat(MAX_OBJECT));
    let refused = masks.json(&place("pods"), large.as_bytes());
    assert_eq!(refused, Err(Unmaskable::TooLarge));
    let twice = format!(
        "{{\"kind\":\"PodList\",\"items\":[],\"items\":[\"{}\"]}}",
        "x".repeat(LARGE)
    );
    let refused = masks.json(&place("pods"), twice.as_bytes());
    assert!(matches!(refused, Err(Unmaskable::Json(_))), "{refused:?}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\é]{0,6}".prop_map(Value::from),
        Just(Value::from(VALUE)),
        Just(Value::from(base64(VALUE))),
    ];
    let key = prop::sample::select(vec![
        "data",
        "stringData",
        "metadata",
        "annotations",
        "items",
        "rows",
        "cells",
        "object",
        "managedFields",
        "fieldsV1",
        "x",
        "env",
        "value",
    ]);
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..5).prop_map(|members| Value::Object(
                members
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn no_value_of_a_secret_is_in_what_is_shown(
        value in "[A-Za-z0-9+/é\"\\\\ ]{8,40}", text in "[a-z ]{0,10}", how in 0_usize..4, nested: bool,
    ) {
        prop_assume!(value.trim().len() >= 8 && value.trim().contains(|c: char| c.is_ascii_uppercase()));
        let masks = masks(&[]);
        let mut one = secret(&value);
        one["metadata"]["annotations"]["status"] = format!("{text}{value}{text}").into();
        if nested {
            one["metadata"]["annotations"]["copy"] = one.to_string().into();
        }
        let document = match how {
            0 => one,
            1 => json!({"kind": "SecretList", "items": [one]}),
            2 => json!({"type": "ADDED", "object": one}),
            _ => json!({"kind": "Table", "rows": [{"cells": ["db"], "object": one}]}),
        };
        let masked = masks.json(&place("secrets"), document.to_string().as_bytes()).unwrap().body.unwrap();
        let masked = String::from_utf8(masked).unwrap();
        let quoted = Value::from(value.trim()).to_string();
        prop_assert!(!masked.contains(quoted.trim_matches('"')), "{}", masked);
        prop_assert!(!masked.contains(base64(&value).trim_end_matches('=')), "{}", masked);
        serde_json::from_str::<Value>(&masked).unwrap();
        prop_assert!(finds_masked(None, masked.as_bytes()).is_some());
    }

    #[test]
    fn nothing_below_data_of_a_secret_stays(inner in any_json(), list: bool) {
        let masks = masks(&[]);
        let one = json!({"kind": "Secret", "data": inner, "stringData": inner});
        let document = if list { json!({"kind": "List", "items": [one]}) } else { one };
        let masked = shown(&masks, place("secrets"), &document);
        prop_assert!(!leaks(&masked), "{}", masked);
    }

    #[test]
    fn nothing_panics_and_what_comes_out_is_json(document in any_json(), piece in 1_usize..40) {
        let masks = masks(&[("*.*.x", &["$..value"], How::Redact)]);
        let text = document.to_string();
        let shown = masks.json(&place("secrets"), text.as_bytes()).unwrap();
        if let Some(body) = shown.body {
            serde_json::from_slice::<Value>(&body).unwrap();
        }
        let mut list = masks.list(place("secrets"));
        let mut out = Vec::new();
        let fed = text.as_bytes().chunks(piece).try_for_each(|p| list.feed(p, &mut out));
        if fed.is_ok() && list.finish().is_ok() {
            serde_json::from_slice::<Value>(&out).unwrap();
        }
        let _ = finds_masked(None, text.as_bytes());
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, text in "[\\[\\]{}\",:a1\\\\ ]{0,60}") {
        let masks = masks(&[]);
        for bytes in [&bytes[..], text.as_bytes()] {
            let _ = masks.json(&place("secrets"), bytes);
            let mut list = masks.list(place("secrets"));
            let _ = list.feed(bytes, &mut Vec::new());
            let _ = finds_masked(None, bytes);
            let _ = masks.recorded(&place("secrets"), None, bytes);
        }
    }
}
