//! What the detectors cost on the reply path, as ratios to copying the same bytes:
//! `cargo bench -p hoop-userspace --bench detect`.
//!
//! Rows of about 200 bytes in batches of 64 KiB pass the real masker. Rounds of all cases alternate,
//! and the median of the rounds counts, so that a machine that slows down slows all of them.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use hoop::config::{Bundle, Config};
use hoop::ids::ExchangeId;
use hoop::mask::{Catalog, HashKey, Masker, Masking, Rules};
use hoop::terminate::{Column, Columns, Part, PartKind, Replies};
use hoop::wire::postgres::rows::RowWriter;

const BATCH: usize = 64 * 1024;
const ROUNDS: usize = 9;
const BATCHES: usize = 200;

fn rules(detect: &str) -> Arc<Rules> {
    let mask = match detect {
        "" => String::new(),
        detect => {
            format!("[[mask]]\nresource = \"orders\"\ndetect = {detect}\nhow = \"redact\"\n")
        }
    };
    let text = format!(
        "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
         login = {{ user = \"hoop\" }}\n{mask}"
    );
    let bundle = Bundle::from_text(Path::new("hoop.toml"), &text);
    let config = Config::from_bundle(&bundle).expect("the bench's own configuration");
    Rules::new(&config, &"orders".into(), &HashKey::new(&[1; 32]))
}

/// Rows as an order table has them; in one of a hundred, `note` holds what is given.
fn batch(note: &str) -> (Bytes, u32) {
    let (mut wire, mut rows) = (BytesMut::new(), 0u32);
    while wire.len() < BATCH {
        let id = (1_000_000 + rows).to_string();
        let reference = format!("ORD-2026-{rows:06}");
        let text = match rows % 100 {
            50 => note,
            _ => "left at the back door, please ring twice and wait a moment",
        };
        let values: [&str; 6] = [
            &id,
            "7e6f0d1c-52a4-4f0e-9d0b-3f6f2d0c8b11",
            &reference,
            "2026-01-15 12:34:56.789012+00",
            text,
            "shipped to the customer",
        ];
        let mut row = RowWriter::new(&mut wire);
        values.iter().for_each(|v| row.push(Some(v.as_bytes())));
        row.finish();
        rows += 1;
    }
    (wire.freeze(), rows)
}

fn columns(kinds: [u32; 6]) -> Arc<Columns> {
    let column = |(i, kind): (usize, u32)| Column {
        label: format!("c{i}"),
        table: 0,
        attribute: 0,
        kind,
        binary: false,
    };
    Arc::new(Columns {
        columns: kinds.into_iter().enumerate().map(column).collect(),
    })
}

struct Case {
    name: &'static str,
    masker: Masker,
    wire: Bytes,
    rows: u32,
    columns: Arc<Columns>,
    times: Vec<f64>,
}

impl Case {
    fn new(name: &'static str, detect: &str, note: &str, columns: Arc<Columns>) -> Self {
        let (wire, rows) = batch(note);
        Self {
            name,
            masker: Masker::new(rules(detect)),
            wire,
            rows,
            columns,
            times: Vec::new(),
        }
    }

    fn round(&mut self) {
        let catalog = Arc::new(Catalog::default());
        let start = Instant::now();
        for _ in 0..BATCHES {
            let part = Part {
                exchange: ExchangeId(1),
                unit: 0,
                end: self.wire.len(),
                kind: PartKind::Rows {
                    count: self.rows,
                    columns: Some(self.columns.clone()),
                },
            };
            let replies = Replies {
                wire: self.wire.clone(),
                parts: vec![part],
            };
            match self.masker.mask(replies, &catalog) {
                Masking::Done(masked) => drop(black_box(masked)),
                Masking::NeedsCatalog(_) => unreachable!("no column has a rule"),
            }
        }
        let nanoseconds = start.elapsed().as_nanos() as f64;
        self.times
            .push(nanoseconds / BATCHES as f64 / f64::from(self.rows));
    }

    fn median(&mut self) -> f64 {
        self.times.sort_by(f64::total_cmp);
        self.times.get(self.times.len() / 2).copied().unwrap_or(0.0)
    }
}

fn main() {
    const ALL: &str = r#"["pii", "financial", "secrets"]"#;
    let plain = "left at the front door, please ring once and do not wait";
    let typed = columns([23, 2950, 25, 1184, 25, 25]);
    let numbers = columns([23, 2950, 2950, 1184, 1114, 1082]);
    let card = "paid with 4111 1111 1111 1111, mail ada@example.com";
    let mut cases = [
        Case::new("no detectors", "", plain, typed.clone()),
        Case::new("all, no column of text", ALL, plain, numbers),
        Case::new(
            "email and card, nothing found",
            r#"["email", "card"]"#,
            plain,
            typed.clone(),
        ),
        Case::new(
            "secrets, nothing found",
            r#"["secrets"]"#,
            plain,
            typed.clone(),
        ),
        Case::new("all, nothing found", ALL, plain, typed.clone()),
        Case::new("all, found in one row of 100", ALL, card, typed),
    ];
    let (wire, rows) = batch(plain);
    let mut copy = Vec::new();
    for _ in 0..ROUNDS {
        cases.iter_mut().for_each(Case::round);
        let start = Instant::now();
        for _ in 0..BATCHES {
            drop(black_box(BytesMut::from(&*wire)));
        }
        copy.push(start.elapsed().as_nanos() as f64 / BATCHES as f64 / f64::from(rows));
    }
    copy.sort_by(f64::total_cmp);
    let copied = copy.get(ROUNDS / 2).copied().unwrap_or(1.0);
    println!(
        "{} bytes a row; medians of {ROUNDS} rounds",
        wire.len() / rows as usize
    );
    println!("{:<34}{:>12}{:>16}", "", "ns a row", "× a plain copy");
    println!("{:<34}{:>12.1}{:>16.1}", "a plain copy", copied, 1.0);
    for case in &mut cases {
        let median = case.median();
        println!("{:<34}{:>12.1}{:>16.1}", case.name, median, median / copied);
    }
}
