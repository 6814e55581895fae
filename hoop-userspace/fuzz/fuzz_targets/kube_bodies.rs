//! Bodies of Kubernetes requests as JSON and YAML, and the marks of masks in them.
#![no_main]

use hoop::wire::kubernetes::{json, marker, yaml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let read = json::parse(bytes);
    if let Ok(value) = &read {
        let text = value.to_string();
        assert_eq!(json::parse(text.as_bytes()).as_ref(), Ok(value));
        assert!(json::count(value) <= json::MAX_VALUES);
    }
    let _ = yaml::parse(bytes);
    let _ = marker::finds_masked(Some("application/apply-patch+yaml"), bytes);
});
