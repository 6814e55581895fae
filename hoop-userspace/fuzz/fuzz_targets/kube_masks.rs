//! Answers of an API server under the masks, whole and in pieces: what comes out is JSON, holds nothing
//! of a Secret's values, and is the same either way.
#![no_main]

use std::sync::{Arc, LazyLock};

use hoop::mask::{HashKey, KubernetesMasks, Place, Rules};
use hoop::wire::kubernetes::json;
use libfuzzer_sys::fuzz_target;

static MASKS: LazyLock<KubernetesMasks> = LazyLock::new(|| {
    let rules = Rules::of([], &HashKey::new(&[1; 32]), 1 << 20);
    KubernetesMasks::new(rules, Vec::new(), Arc::default())
});

const VALUE: &str = "correct-horse-battery";

fuzz_target!(|bytes: &[u8]| {
    let place = Place {
        namespace: "n",
        group: "",
        resource: "secrets",
        subresource: "",
    };
    let whole = MASKS.json(&place, bytes);
    if let Ok(Some(body)) = whole.as_ref().map(|shown| shown.body.as_ref()) {
        json::parse(body).expect("JSON comes out");
    }
    let mut list = MASKS.list(place);
    let mut out = Vec::new();
    let fed = bytes
        .chunks(3)
        .try_for_each(|piece| list.feed(piece, &mut out));
    if fed.is_ok() && list.finish().is_ok() {
        serde_json::from_slice::<serde::de::IgnoredAny>(&out).expect("JSON comes out");
    }
    // Whatever stands around it, the value of a Secret is not shown.
    if let Ok(mut value) = json::parse(bytes)
        && let Some(object) = value.as_object_mut()
    {
        object.insert("kind".into(), "Secret".into());
        object.insert("stringData".into(), serde_json::json!({ "a": VALUE }));
        let text = value.to_string();
        if let Ok(shown) = MASKS.json(&place, text.as_bytes()) {
            let body = shown.body.expect("a value was masked");
            assert!(!body.windows(VALUE.len()).any(|w| w == VALUE.as_bytes()));
        }
    }
});
