//! COPY as a server sends it, through the masks: how it is cut changes nothing, and what comes out is
//! framed.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use hoop::config::{Bundle, Config};
use hoop::decide::{Decider, Facts};
use hoop::ids::ExchangeId;
use hoop::mask::{Catalog, HashKey, Masker, Masking, Rules};
use hoop::terminate::{Part, PartKind, Replies, SqlText};
use hoop::wire::postgres::frame::Header;
use libfuzzer_sys::fuzz_target;

const FORMATS: [&str; 4] = [
    "FORMAT text",
    "FORMAT csv",
    "FORMAT binary",
    "FORMAT csv, HEADER, QUOTE 'x', ESCAPE 'y', DELIMITER ';'",
];

struct Set {
    rules: Arc<Rules>,
    facts: Vec<Arc<Facts>>,
}

static SET: LazyLock<Set> = LazyLock::new(|| {
    let text = "[[resource]]\nname = \"r\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
                login = { user = \"hoop\" }\n[[mask]]\nresource = \"r\"\n\
                columns = [\"public.t.b\"]\nhow = \"partial\"\n";
    let config = Config::from_bundle(&Bundle::from_text(Path::new("hoop.toml"), text)).unwrap();
    let decider = Decider::new(&config).unwrap();
    let facts = FORMATS.iter().enumerate().map(|(at, format)| {
        decider.facts_of(&Arc::new(SqlText {
            text: format!("COPY (SELECT 1 AS a, b FROM public.t) TO STDOUT ({format})").into(),
            hash: at as u64,
        }))
    });
    Set {
        facts: facts.collect(),
        rules: Rules::new(&config, &"r".into(), &HashKey::new(&[1; 32])),
    }
});

fn masked(facts: &Arc<Facts>, wire: &[u8], size: usize) -> Vec<u8> {
    let mut masker = Masker::new(SET.rules.clone());
    masker.expect(ExchangeId(1), [Some(facts.clone())]);
    let catalog = Arc::new(Catalog::default());
    let mut out = Vec::new();
    for piece in wire.chunks(size.max(1)) {
        let part = Part {
            exchange: ExchangeId(1),
            unit: 0,
            end: piece.len(),
            kind: PartKind::Bulk,
        };
        let mut replies = Replies {
            wire: Bytes::copy_from_slice(piece),
            parts: vec![part],
        };
        let done = loop {
            replies = match masker.mask(replies, &catalog) {
                Masking::Done(masked) => break masked,
                Masking::NeedsCatalog(again) => again,
            };
        };
        out.extend_from_slice(done.wire());
    }
    out
}

fuzz_target!(|input: (u8, u16, bool, &[u8])| {
    let (format, size, framed, bytes) = input;
    let facts = &SET.facts[usize::from(format) % FORMATS.len()];
    let mut wire = bytes.to_vec();
    if framed {
        let length = (bytes.len() as u32 + 4).to_be_bytes();
        wire.splice(0..0, [b'd'].into_iter().chain(length));
    }
    let whole = masked(facts, &wire, wire.len());
    assert_eq!(masked(facts, &wire, usize::from(size)), whole);
    let mut rest = &whole[..];
    while !rest.is_empty() {
        let header = Header::peek(rest).unwrap().unwrap();
        assert_eq!(header.tag, b'd');
        rest = &rest[header.wire_len()..];
    }
});
