//! What people see of a held change, and that nothing of a Secret is in it.

use bytes::Bytes;

use super::*;
use crate::mask::{After, Change, ChangeKind, Foreseen, Raw};
use crate::terminate::KubernetesAsked;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
const CONFIG: &str = "/api/v1/namespaces/shop/configmaps/a";
const SECRET: &str = "/api/v1/namespaces/prod/secrets/db";

fn asked(target: &str, body: &Value) -> Arc<KubernetesAsked> {
    use crate::wire::kubernetes::request;
    let request::Request { info, options } = request::read("PUT", target, None).unwrap();
    Arc::new(KubernetesAsked {
        method: "PUT".into(),
        target: target.into(),
        info,
        options,
        content_type: Some("application/json".into()),
        body: body.to_string().into(),
        upgrade: false,
    })
}

fn raw(value: &Value) -> Raw {
    Raw::new(Bytes::from(value.to_string()))
}

fn change(target: &str, before: Option<&Value>, after: Option<&Value>) -> Change {
    masked(&masks(&[]), target, before, after)
}

fn masked(
    masks: &KubernetesMasks,
    target: &str,
    before: Option<&Value>,
    after: Option<&Value>,
) -> Change {
    masks.change(&Foreseen {
        asked: asked(target, &json!({})),
        before: before.map(raw),
        after: after.map_or(After::Nothing, |after| After::Object(raw(after))),
    })
}

fn refused(target: &str, body: &Value, message: &str) -> Change {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid",
        "message": message, "code": 422,
    });
    masks(&[("*.configmaps.data", &["$.pin"], How::Redact)]).change(&Foreseen {
        asked: asked(target, body),
        before: None,
        after: After::Refused(422, raw(&status)),
    })
}

/// Without where it is.
fn lines(change: &Change) -> Vec<&str> {
    let lines = change.diff().lines();
    lines.filter(|line| !line.starts_with("@@")).collect()
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "generation": 3, "resourceVersion": "812",
            "uid": "11111111-2222-3333-4444-555555555555",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "managedFields": [{"manager": "kubectl", "time": "2026-01-02T03:04:05Z"}],
        },
        "spec": {"replicas": 3, "template": {"spec": {"containers": [
            {"name": "log", "image": "registry.example/log:1"},
            {"name": "web", "image": "registry.example/web:1"},
        ]}}},
        "status": {"readyReplicas": 3},
    })
}

#[test]
fn of_an_update_only_what_is_meant_is_shown() {
    let before = deployment();
    let mut after = before.clone();
    after["metadata"]["generation"] = 4.into();
    after["metadata"]["resourceVersion"] = "813".into();
    after["metadata"]["managedFields"][0]["time"] = "2026-11-27T12:00:00Z".into();
    let same = change(DEPLOYMENT, Some(&before), Some(&after));
    assert_eq!(
        (same.kind(), same.diff()),
        (ChangeKind::Unchanged, ""),
        "{same:?}"
    );
    after["spec"]["template"]["spec"]["containers"][1]["image"] = "registry.example/web:2".into();
    let change = change(DEPLOYMENT, Some(&before), Some(&after));
    assert_eq!(change.kind(), ChangeKind::Changed);
    assert_eq!(
        lines(&change),
        [
            "         - name: log",
            "           image: registry.example/log:1",
            "         - name: web",
            "-          image: registry.example/web:1",
            "+          image: registry.example/web:2",
            " status: (not shown)",
        ]
    );
    let place = "@@ -11,5 +11,5 @@ spec > template > spec > containers";
    assert!(change.diff().starts_with(place), "{}", change.diff());
}

#[test]
fn what_is_created_and_deleted_is_shown_whole() {
    let one = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "x"},
        "data": {"text": "one\ntwo\n", "n": "1"},
    });
    let created = change(CONFIG, None, Some(&one));
    assert_eq!(created.kind(), ChangeKind::Created);
    let expected = [
        "+apiVersion: v1",
        "+kind: ConfigMap",
        "+metadata:",
        "+  name: a",
        "+data:",
        "+  n: \"1\"",
        "+  text: |",
        "+    one",
        "+    two",
    ];
    assert_eq!(lines(&created), expected);
    let deleted = change(CONFIG, Some(&one), None);
    assert_eq!(deleted.kind(), ChangeKind::Deleted);
    let expected = expected.map(|line| line.replacen('+', "-", 1));
    assert_eq!(lines(&deleted), expected);
}

#[test]
fn a_secrets_value_that_changes_is_told_and_not_shown() {
    let before = secret(VALUE);
    let mut after = before.clone();
    let other = "another-battery-staple";
    after["data"]["password"] = base64(other).into();
    let change = change(SECRET, Some(&before), Some(&after));
    assert_eq!(change.kind(), ChangeKind::Changed);
    let told = change.diff();
    for value in [VALUE, other] {
        assert!(
            !told.contains(value) && !told.contains(&base64(value)),
            "{told}"
        );
    }
    let put: Vec<_> = lines(&change)
        .into_iter()
        .filter(|line| line.starts_with('+'))
        .collect();
    let [put] = put.as_slice() else {
        panic!("{told}");
    };
    assert!(put.starts_with("+  password: "), "{told}");
    assert!(put.ends_with("# masked, and another value"), "{told}");
}

#[test]
fn what_a_mask_names_is_masked_on_both_sides() {
    let of = |pin: u64, host: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
            "data": {"pin": format!("pin-number-{pin}"), "host": host}})
    };
    let masks = masks(&[("*.configmaps.data", &["$.pin"], How::Redact)]);
    let (before, after) = (of(7291, "a.example"), of(8384, "b.example"));
    let change = masked(&masks, CONFIG, Some(&before), Some(&after));
    let told = change.diff();
    assert!(!told.contains("7291") && !told.contains("8384"), "{told}");
    for line in ["-  host: a.example", "+  host: b.example"] {
        assert!(lines(&change).contains(&line), "{told}");
    }
    assert!(told.contains("# masked, and another value"), "{told}");
}

#[test]
fn what_is_left_out_is_said_to_differ() {
    let applied = "kubectl.kubernetes.io/last-applied-configuration";
    let mut before = deployment();
    before["metadata"]["annotations"] = json!({applied: "{\"spec\":{\"replicas\":3}}"});
    let mut after = before.clone();
    after["metadata"]["annotations"][applied] = "{\"spec\":{\"replicas\":4}}".into();
    after["status"]["readyReplicas"] = 4.into();
    let change = change(DEPLOYMENT, Some(&before), Some(&after));
    let put: Vec<_> = lines(&change)
        .into_iter()
        .filter(|line| line.starts_with('+'))
        .collect();
    assert_eq!(
        put,
        [
            "+    kubectl.kubernetes.io/last-applied-configuration: (not shown)  # differs",
            "+status: (not shown)  # differs",
        ]
    );
    let status = format!("{DEPLOYMENT}/status");
    let shown = super::change::change(&status, Some(&before), Some(&after));
    assert!(shown.diff().contains("+  readyReplicas: 4\n"), "{shown:?}");
}

#[test]
fn why_the_server_would_not_take_it_is_told_without_what_is_masked() {
    let body = json!({"kind": "ConfigMap", "data": {"pin": "pin-number-7291"}});
    let change = refused(
        CONFIG,
        &body,
        "data.pin: Invalid value: \"pin-number-7291\": too odd",
    );
    assert_eq!(change.kind(), ChangeKind::Refused);
    assert_eq!(
        change.note(),
        "The API server would not take it: (withheld by hoop: it may quote masked values)"
    );
    let change = refused(SECRET, &secret(VALUE), &format!("{VALUE} is no good"));
    assert_eq!(change.note(), "The API server would not take it: Invalid");
}

#[test]
fn what_is_no_object_or_too_large_is_not_compared() {
    let status = json!({"kind": "Status", "status": "Success"});
    let no = change(CONFIG, None, Some(&status));
    assert_eq!(no.kind(), ChangeKind::Unknown);
    let large = json!({"kind": "ConfigMap", "data": {"a": "x".repeat(1 << 20)}});
    let no = change(CONFIG, None, Some(&large));
    assert_eq!((no.kind(), no.diff()), (ChangeKind::Unknown, ""));
    let many: Vec<_> = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let long = json!({"kind": "ConfigMap", "data": {"a": many.concat()}});
    let cut = change(CONFIG, None, Some(&long));
    assert!(cut.diff().len() <= 16 << 10, "{}", cut.diff().len());
    assert!(cut.note().contains("It is cut: "), "{}", cut.note());
    assert!(
        cut.note().ends_with("more lines are not shown."),
        "{}",
        cut.note()
    );
}

proptest! {
    #[test]
    fn no_value_of_a_secret_is_in_what_people_see(
        one in "[A-Za-z0-9+/é\"\\\\ ]{8,40}", other in "[A-Za-z0-9+/]{8,40}",
        text in "[a-z ]{0,10}", sides in 0_usize..3, in_list: bool,
    ) {
        let telling = |v: &str| v.trim().len() >= 8 && v.trim().contains(|c: char| c.is_ascii_uppercase());
        prop_assume!(telling(&one) && telling(&other));
        let with = |value: &str| {
            let mut object = secret(value);
            object["metadata"]["annotations"]["note"] = format!("{text}{value}{text}").into();
            if in_list {
                object["data"]["list"] = json!([base64(value), base64(&text)]);
            }
            object
        };
        let (before, after) = (with(&one), with(&other));
        let change = change(SECRET, (sides != 0).then_some(&before), (sides != 1).then_some(&after));
        let told = format!("{} {}", change.note(), change.diff());
        for value in [&one, &other] {
            let quoted = Value::from(value.trim()).to_string();
            prop_assert!(!told.contains(quoted.trim_matches('"')), "{}", told);
            prop_assert!(!told.contains(base64(value).trim_end_matches('=')), "{}", told);
        }
    }

    #[test]
    fn whatever_a_secret_holds_none_of_it_is_shown(inner in any_json(), outer in any_json()) {
        let with = |data: &Value| json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
            "data": {"a": data}, "stringData": {"b": data},
        });
        let mut texts = Vec::new();
        strings(&inner, &mut texts);
        strings(&outer, &mut texts);
        let (before, after) = (with(&inner), with(&outer));
        let change = change(SECRET, Some(&before), Some(&after));
        for text in texts {
            prop_assert!(!change.diff().contains(&text), "{:?} in {}", text, change.diff());
        }
    }
}

/// Texts long enough not to be there by chance; names of members are no secrets.
fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() >= 8 => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|v| strings(v, found)),
        Value::Object(members) => members.values().for_each(|v| strings(v, found)),
        _ => {}
    }
}
