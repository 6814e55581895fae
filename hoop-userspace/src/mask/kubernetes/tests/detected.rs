//! Objects under the detectors of a configuration.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::*;
use crate::config::{Bundle, Config};
use crate::mask::HashKey;

fn masks(detect: &[&str]) -> KubernetesMasks {
    let text = format!(
        "[[resource]]\nname = \"prod\"\nprotocol = \"kubernetes\"\nhosts = [\"api\"]\n\
         login = {{ token = {{ file = \"/run/token\" }} }}\n\
         [[mask]]\nresource = \"prod\"\ndetect = {detect:?}\nhow = \"redact\"\n"
    );
    let bundle = Bundle::from_text(Path::new("hoop.toml"), &text);
    let config = Config::from_bundle(&bundle).unwrap();
    let rules = Rules::new(&config, &"prod".into(), &HashKey::new(&[7; 32]));
    KubernetesMasks::new(rules, Vec::new(), Arc::default())
}

fn shown(masks: &KubernetesMasks, resource: &str, document: &Value) -> Value {
    let place = Place {
        resource,
        ..Place::default()
    };
    let shown = masks.json(&place, document.to_string().as_bytes()).unwrap();
    let body = shown
        .body
        .map(|body| serde_json::from_slice(&body).unwrap());
    body.unwrap_or_else(|| document.clone())
}

#[test]
fn telling_names_tell_where_authors_choose_them() {
    let masks = masks(&["password", "email"]);
    let marker = masks.marker.plain().to_owned();
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "c", "labels": {"owner": "a.b"}},
        "data": {"db_password": "hunter2", "to": "write to jane@example.com today", "port": "5432"}});
    let masked = shown(&masks, "configmaps", &map);
    assert_eq!(masked["data"]["db_password"], marker);
    assert_eq!(masked["data"]["to"], format!("write to {marker} today"));
    assert_eq!(masked["data"]["port"], "5432");
    assert_eq!(masked["metadata"], map["metadata"]);
    let pod = json!({"kind": "Pod", "metadata": {"name": "password"}, "spec": {"containers": [{
        "name": "db-password", "image": "x",
        "env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "HOST", "value": "db"},
                {"name": "OTHER_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}}],
    }]}});
    let masked = shown(&masks, "pods", &pod);
    let container = &masked["spec"]["containers"][0];
    assert_eq!(container["env"][0]["value"], marker);
    assert_eq!(container["env"][1], pod["spec"]["containers"][0]["env"][1]);
    assert_eq!(container["env"][2], pod["spec"]["containers"][0]["env"][2]);
    assert_eq!(container["name"], "db-password");
    let event =
        json!({"kind": "Event", "message": "mail to jane@example.com failed", "reason": "Failed"});
    assert_eq!(
        shown(&masks, "events", &event)["message"],
        format!("mail to {marker} failed")
    );
}

#[test]
fn what_is_found_is_hidden_elsewhere_in_the_object_too() {
    let masks = masks(&["password"]);
    let marker = masks.marker.plain().to_owned();
    let map = json!({"kind": "ConfigMap", "metadata": {"annotations": {"seen": "it was hunter2-long before"}},
        "data": {"password": "hunter2-long"}});
    let masked = shown(&masks, "configmaps", &map);
    assert_eq!(
        masked["metadata"]["annotations"]["seen"],
        format!("it was {marker} before")
    );
}

#[test]
fn numbers_of_resources_that_are_not_kubernetes_own() {
    let masks = masks(&["card"]);
    let order = json!({"apiVersion": "example.com/v1", "kind": "Order", "metadata": {"name": "o"},
        "spec": {"card": 4_111_111_111_111_111_u64, "size": 3}});
    let masked = shown(&masks, "orders", &order);
    assert_eq!(masked["spec"], json!({"card": 0, "size": 3}));
    assert_eq!(
        masked["metadata"]["annotations"]["hoop-masked"],
        masks.marker.plain()
    );
}

#[test]
fn times_names_and_versions_stay() {
    let masks = masks(&["card", "phone", "birth-date", "email"]);
    let pod = json!({"kind": "Pod", "metadata": {
        "name": "4111111111111111", "uid": "4111-1111", "resourceVersion": "4111111111111111",
        "creationTimestamp": "2026-01-02T03:04:05Z"}, "status": {"startTime": "1980-01-02T03:04:05Z"}});
    assert_eq!(shown(&masks, "pods", &pod), pod);
}
