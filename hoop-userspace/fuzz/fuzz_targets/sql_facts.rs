//! Statements to facts: any text ends in facts or in `unknown`, and a comment changes neither.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use hoop::config::{Bundle, Config};
use hoop::decide::Decider;
use hoop::terminate::SqlText;
use libfuzzer_sys::fuzz_target;

static DECIDER: LazyLock<Decider> = LazyLock::new(|| {
    let text = "[policy]\nuse = [\"read-only\"]\n";
    let config = Config::from_bundle(&Bundle::from_text(Path::new("fuzz"), text));
    Decider::new(&config.expect("a configuration")).expect("the ready-made pack")
});

fuzz_target!(|text: &str| {
    let facts = DECIDER.facts_of(&sql(text.to_owned()));
    if !facts.opaque {
        let commented = DECIDER.facts_of(&sql(format!("/* x */ {text}")));
        assert_eq!(facts.statements.len(), commented.statements.len());
        assert_eq!(facts.opaque, commented.opaque);
    }
});

/// The hash only finds the text in a cache, which compares the text as well.
fn sql(text: String) -> Arc<SqlText> {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Arc::new(SqlText {
        text: text.into(),
        hash,
    })
}
