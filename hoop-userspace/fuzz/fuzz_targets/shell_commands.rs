//! Shell commands to facts: any text ends in facts or in `unknown`, and what runs is found again
//! behind another command.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use hoop::config::{Bundle, Config};
use hoop::decide::Decider;
use libfuzzer_sys::fuzz_target;

static DECIDER: LazyLock<Decider> = LazyLock::new(|| {
    let text = "[policy]\nuse = [\"read-only\"]\n";
    let config = Config::from_bundle(&Bundle::from_text(Path::new("fuzz"), text));
    Decider::new(&config.expect("a configuration")).expect("the ready-made pack")
});

fuzz_target!(|text: &str| {
    let facts = DECIDER.shell_facts_of(text);
    assert!(facts.unparsable.is_none() || facts.opaque);
    if !facts.opaque {
        let behind = DECIDER.shell_facts_of(&format!(":\n{text}"));
        for command in &facts.commands {
            assert!(behind.opaque || behind.commands.contains(command));
        }
    }
});
