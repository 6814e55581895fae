//! Errors that quote masked values, and metadata that comes without them.

use super::*;

const NOTE: &str = "(withheld by hoop: it may quote masked values)";

fn failure(reason: &str, code: u16, message: &str, causes: &Value) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
        "details": {"name": "db", "kind": "secrets", "causes": causes},
    })
}

#[test]
fn an_error_about_a_secret_names_fields_and_quotes_no_value() {
    let masks = masks(&[]);
    let invalid = failure(
        "Invalid",
        422,
        &format!(
            "Secret \"db\" is invalid: [data[a]: Invalid value: \"{VALUE}\": must be short, type: Required value, data: Forbidden: field is immutable when `immutable` is set]"
        ),
        &json!([
            {"reason": "FieldValueInvalid", "message": format!("Invalid value: \"{VALUE}\": must be short"), "field": "data[a]"},
            {"reason": "FieldValueRequired", "message": "Required value", "field": "type"},
            {"reason": "FieldValueForbidden", "message": "Forbidden: field is immutable when `immutable` is set", "field": "data"},
        ]),
    );
    let masked = shown(&masks, place("secrets"), &invalid);
    assert!(!leaks(&masked), "{masked}");
    assert_eq!(
        masked,
        failure(
            "Invalid",
            422,
            &format!(
                "Secret \"db\" is invalid: [data[a]: Invalid value {NOTE}, type: Required value, data: Forbidden: field is immutable when `immutable` is set]"
            ),
            &json!([
                {"reason": "FieldValueInvalid", "message": format!("Invalid value {NOTE}"), "field": "data[a]"},
                {"reason": "FieldValueRequired", "message": "Required value", "field": "type"},
                {"reason": "FieldValueForbidden", "message": "Forbidden: field is immutable when `immutable` is set", "field": "data"},
            ]),
        )
    );
    // In a watch too.
    let event = json!({"type": "ERROR", "object": invalid});
    assert!(!leaks(&shown(&masks, place("secrets"), &event)));
}

#[test]
fn errors_of_every_reason_show_no_more_than_what_holds_no_value() {
    let masks = masks(&[]);
    for (reason, code, message, expected) in [
        (
            "Invalid",
            422,
            format!("admission webhook said {VALUE}"),
            NOTE.to_owned(),
        ),
        (
            "Invalid",
            422,
            format!("{{{VALUE}}} is invalid: x"),
            NOTE.to_owned(),
        ),
        (
            "Conflict",
            409,
            format!(
                "Apply failed with 2 conflicts: conflicts with \"kubectl\" using v1:\n- .data.password\n- .metadata.finalizers[=\"{VALUE}\"]"
            ),
            format!(
                "Apply failed with 2 conflicts: conflicts with \"kubectl\" using v1:\n- .data.password\n- .metadata.finalizers {NOTE}"
            ),
        ),
        (
            "Conflict",
            409,
            format!("no: it is {VALUE}"),
            format!("no {NOTE}"),
        ),
        (
            "BadRequest",
            400,
            format!("json: error found in #10 byte of ...|\"{VALUE}\"|..."),
            format!("json: {NOTE}"),
        ),
        (
            "InternalError",
            500,
            format!("cannot patch: testing value /data/a failed: {VALUE}"),
            format!("cannot patch: {NOTE}"),
        ),
        (
            "Forbidden",
            403,
            format!("admission webhook \"x\" denied the request: {VALUE}"),
            format!("admission webhook \"x\" {NOTE}"),
        ),
        ("", 400, format!("may not change {VALUE}"), NOTE.to_owned()),
    ] {
        let error = failure(reason, code, &message, &json!([]));
        let masked = shown(&masks, place("secrets"), &error);
        assert_eq!(masked, failure(reason, code, &expected, &json!([])));
    }
    for (reason, code, message) in [
        ("NotFound", 404, "secrets \"db\" not found"),
        ("AlreadyExists", 409, "secrets \"db\" already exists"),
        (
            "Forbidden",
            403,
            "secrets is forbidden: User \"x\" cannot list resource \"secrets\" in API group \"\" in the namespace \"n\"",
        ),
        (
            "Conflict",
            409,
            "Operation cannot be fulfilled on secrets \"db\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        (
            "Conflict",
            409,
            "Apply failed with 1 conflict: conflict with \"helm\" using v1: .spec.containers[name=\"a\"].image",
        ),
    ] {
        let error = failure(reason, code, message, &json!([]));
        assert_eq!(shown(&masks, place("secrets"), &error), error);
    }
}

#[test]
fn errors_are_shown_whole_where_nothing_is_masked() {
    let rules: &[(&str, &[&str], How)] = &[("*.widgets.spec", &["$.size"], How::Redact)];
    let masks = masks(rules);
    let error = failure(
        "Invalid",
        422,
        "Widget \"w\" is invalid: spec.size: Invalid value: 5: too large",
        &json!([{"reason": "FieldValueInvalid", "message": "Invalid value: 5: too large", "field": "spec.size"}]),
    );
    assert_eq!(shown(&masks, place("pods"), &error), error);
    let masked = shown(&masks, place("widgets"), &error);
    assert_eq!(
        masked["message"],
        format!("Widget \"w\" is invalid: spec.size: Invalid value {NOTE}")
    );
    // One that went well, and an object that only calls itself so.
    let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": {"name": "w"}});
    assert_eq!(shown(&masks, place("widgets"), &success), success);
    let posing = json!({"kind": "Status", "apiVersion": "v1", "data": {"a": base64(VALUE)}});
    assert!(!leaks(&shown(&masks, place("secrets"), &posing)));
}

#[test]
fn metadata_without_values_shows_only_annotations_that_name_things() {
    let masks = masks(&[]);
    let marker = masks.marker.plain().to_owned();
    let one = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {
        "name": "db", "labels": {"app": "shop"},
        "annotations": {"copy": format!("it is {VALUE}"), "number": "hunter2-correct-horse", "meta.helm.sh/release-name": "shop",
            "kubernetes.io/service-account.name": "default"},
        "managedFields": [{"fieldsV1": {"f:set": {format!("v:\"{VALUE}\""): {}}}}],
    }});
    let expected = json!({"copy": marker, "number": marker, "meta.helm.sh/release-name": "shop",
        "kubernetes.io/service-account.name": "default"});
    let masked = shown(&masks, place("secrets"), &one);
    assert_eq!(masked["metadata"]["annotations"], expected);
    assert_eq!(masked["metadata"]["labels"], json!({"app": "shop"}));
    for (document, at) in [
        (
            json!({"kind": "PartialObjectMetadataList", "items": [one]}),
            "/items/0",
        ),
        (
            json!({"kind": "Table", "rows": [{"cells": ["db"], "object": one}]}),
            "/rows/0/object",
        ),
        (json!({"type": "ADDED", "object": one}), "/object"),
    ] {
        let masked = shown(&masks, place("secrets"), &document);
        assert!(!leaks(&masked), "{masked}");
        assert_eq!(
            masked.pointer(at).unwrap()["metadata"]["annotations"],
            expected
        );
    }
    // Of other resources annotations are no Secret's.
    assert_eq!(shown(&masks, place("pods"), &one), one);
}

#[test]
fn a_copy_of_a_long_value_hides_the_text_that_holds_it() {
    let masks = masks(&[]);
    let marker = masks.marker.plain().to_owned();
    let mut state = 1_u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(1 << 20)
    .collect();
    let encoded = BASE64_STANDARD.encode(&bytes);
    let text: String = encoded.chars().take(5_000).collect();
    let document = json!({"kind": "Secret", "apiVersion": "v1",
        "metadata": {"name": "db", "annotations": {
            "encoded": format!("see: {encoded} !"), "plain": format!("see: {text} and more"), "other": "stays"}},
        "data": {"binary": encoded}, "stringData": {"text": text}});
    let masked = shown(&masks, place("secrets"), &document);
    assert_eq!(
        masked["metadata"]["annotations"],
        json!({"encoded": marker, "plain": marker, "other": "stays"})
    );
}

#[test]
fn objects_within_texts_are_in_the_namespace_of_the_object_around_them() {
    let masks = masks(&[("prod.configmaps.data", &["$.token"], How::Redact)]);
    let applied = json!({"kind": "ConfigMap", "data": {"token": VALUE}}).to_string();
    let map = json!({"kind": "ConfigMap", "metadata": {"namespace": "prod",
        "annotations": {"applied": applied}}, "data": {"token": "other"}});
    let everywhere = Place {
        namespace: "",
        ..place("configmaps")
    };
    assert!(!leaks(&shown(&masks, everywhere, &map)));
    let elsewhere = json!({"kind": "ConfigMap", "metadata": {"namespace": "dev",
        "annotations": {"applied": applied}}});
    assert_eq!(shown(&masks, everywhere, &elsewhere), elsewhere);
}
