//! Detectors over a stream: how it is cut changes nothing, nothing is held at the end, and characters
//! stay whole.
#![no_main]

use std::sync::{Arc, LazyLock};

use hoop::mask::detect::{Detector, Detectors, HOLD, Id, Kind, Spec, Stream};
use libfuzzer_sys::fuzz_target;

static DETECTORS: LazyLock<Arc<Detectors>> = LazyLock::new(|| {
    let names = ["pii", "financial", "secrets", "ip"];
    let kinds = names.iter().flat_map(|name| Kind::named(name).unwrap());
    let specs = kinds.map(|kind| Spec {
        detector: Detector::Kind(kind),
        shows: 1,
    });
    Arc::new(Detectors::new(specs))
});

fn streamed(text: &[u8], size: usize) -> Vec<u8> {
    let mut stream = Stream::terminal(DETECTORS.clone());
    let replace = |id: Id, _: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(DETECTORS.name(id).as_bytes());
    };
    let mut out = Vec::new();
    for piece in text.chunks(size.max(1)) {
        stream.push(piece, &mut out, replace);
        assert!(stream.held() <= HOLD);
    }
    stream.finish(&mut out, replace);
    assert_eq!(stream.held(), 0);
    out
}

fuzz_target!(|input: (u16, &[u8])| {
    let (size, text) = input;
    let whole = streamed(text, text.len());
    assert_eq!(streamed(text, usize::from(size)), whole);
    if std::str::from_utf8(text).is_ok() {
        assert!(std::str::from_utf8(&whole).is_ok());
    }
});
