//! The sensor behind the real masker, with a server played.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::{Bundle, Config};
use crate::ids::ExchangeId;
use crate::mask::{Catalog, Masked, Masker, Masking, Rules};
use crate::terminate::Column;
use crate::wire::postgres::fields::{ERROR, Report, field};
use crate::wire::postgres::frame;
use crate::wire::postgres::frontend::{self, Bind, Frontend};
use crate::wire::postgres::rows::{RowWriter, bodies, values};

const CARD: &str = "4111 1111 1111 1111";
const TEXT: u32 = 25;

fn config(detect: &str, how: &str, more: &str) -> Config {
    let text = format!(
        "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
         login = {{ user = \"hoop\" }}\n[[mask]]\nresource = \"orders\"\ndetect = {detect}\n\
         how = {how}\n{more}"
    );
    Config::from_bundle(&Bundle::from_text(Path::new("hoop.toml"), &text)).unwrap()
}

fn rules(detect: &str, how: &str) -> Arc<Rules> {
    let config = config(detect, how, "");
    Rules::new(&config, &"orders".into(), &HashKey::new(&[7; 32]))
}

fn everything() -> Arc<Rules> {
    rules(r#"["pii", "financial", "secrets", "ip"]"#, r#""redact""#)
}

fn column(label: &str, kind: u32, binary: bool) -> Column {
    Column {
        label: label.into(),
        table: 0,
        attribute: 0,
        kind,
        binary,
    }
}

fn parts(wire: Vec<u8>, kinds: Vec<(usize, PartKind)>) -> Replies {
    let parts = kinds.into_iter().map(|(end, kind)| Part {
        exchange: ExchangeId(1),
        unit: 0,
        end,
        kind,
    });
    Replies {
        wire: wire.into(),
        parts: parts.collect(),
    }
}

fn one(wire: Vec<u8>, kind: PartKind) -> Replies {
    let end = wire.len();
    parts(wire, vec![(end, kind)])
}

fn masked(masker: &mut Masker, replies: Replies) -> Masked {
    match masker.mask(replies, &Arc::new(Catalog::default())) {
        Masking::Done(masked) => masked,
        Masking::NeedsCatalog(_) => panic!("detectors need no catalog"),
    }
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut writer = RowWriter::new(&mut out);
    values.iter().for_each(|v| writer.push(*v));
    writer.finish();
    out.to_vec()
}

/// What the client sees of one row.
fn seen(rules: &Arc<Rules>, columns: Vec<Column>, row: Vec<u8>) -> Vec<Option<Vec<u8>>> {
    let kind = PartKind::Rows {
        count: 1,
        columns: Some(Arc::new(Columns { columns })),
    };
    let masked = masked(&mut Masker::new(rules.clone()), one(row, kind));
    let body = bodies(masked.wire()).next().unwrap().unwrap();
    let values = values(body).unwrap();
    values.map(|v| v.unwrap().map(<[u8]>::to_vec)).collect()
}

/// What the client sees of one value.
fn value(
    rules: &Arc<Rules>,
    label: &str,
    kind: u32,
    binary: bool,
    value: &[u8],
) -> Option<Vec<u8>> {
    seen(
        rules,
        vec![column(label, kind, binary)],
        row(&[Some(value)]),
    )
    .remove(0)
}

fn text(rules: &Arc<Rules>, value_of: &str) -> String {
    let shown = value(rules, "x", TEXT, false, value_of.as_bytes()).unwrap();
    String::from_utf8(shown).unwrap()
}

#[test]
fn a_finding_is_masked_and_the_rest_of_the_value_stays() {
    let rules = everything();
    assert_eq!(
        text(&rules, "mail ada@example.com, card 4111 1111 1111 1111."),
        "mail [masked:email], card [masked:card]."
    );
    assert_eq!(text(&rules, "nothing to see"), "nothing to see");
}

#[test]
fn a_batch_without_findings_is_not_copied() {
    let rules = everything();
    let wire: Bytes = [
        row(&[Some(b"a 2024-01-15 12:34:56"), None]),
        row(&[Some(b""), Some(b"x")]),
    ]
    .concat()
    .into();
    let columns = vec![column("a", TEXT, false), column("b", TEXT, false)];
    let kind = PartKind::Rows {
        count: 2,
        columns: Some(Arc::new(Columns { columns })),
    };
    let replies = Replies {
        wire: wire.clone(),
        parts: one(wire.to_vec(), kind).parts,
    };
    let masked = masked(&mut Masker::new(rules), replies);
    assert_eq!(masked.wire().as_ptr(), wire.as_ptr());
    assert_eq!(masked.values(), 0);
}

#[test]
fn each_way_to_show_a_finding() {
    let shown = |how: &str| {
        value(
            &rules(r#"["card"]"#, how),
            "x",
            TEXT,
            false,
            b"a 4111111111111111 b",
        )
    };
    let text = |how| String::from_utf8(shown(how).unwrap()).unwrap();
    assert_eq!(text(r#""redact""#), "a [masked:card] b");
    assert_eq!(text(r#""partial""#), "a ************1111 b");
    assert_eq!(text(r#"{ fixed = "-" }"#), "a - b");
    assert_eq!(text(r#""hash""#).len(), 36);
    assert_eq!(text(r#""hash""#), text(r#""hash""#));
    assert_eq!(shown(r#""null""#), None);
}

#[test]
fn a_replacement_is_a_valid_value_of_its_type() {
    let rules = everything();
    let card = 4_111_111_111_111_111i64;
    assert_eq!(value(&rules, "n", 20, false, b"4111111111111111"), None);
    assert_eq!(value(&rules, "n", 20, true, &card.to_be_bytes()), None);
    assert_eq!(
        value(&rules, "n", 20, true, &(card + 1).to_be_bytes()),
        Some((card + 1).to_be_bytes().to_vec())
    );
    let hashed = self::rules(r#"["card"]"#, r#""hash""#);
    assert_eq!(
        value(&hashed, "n", 20, true, &card.to_be_bytes())
            .unwrap()
            .len(),
        8
    );
    // numeric: four groups of four digits, weight three.
    let numeric: Vec<u8> = [4u16, 3, 0, 0, 4111, 1111, 1111, 1111]
        .iter()
        .flat_map(|w| w.to_be_bytes())
        .collect();
    assert_eq!(value(&rules, "n", 1700, true, &numeric), None);
    assert_eq!(value(&rules, "n", 1700, false, b"4111111111111111"), None);
    assert_eq!(
        value(&rules, "n", 1700, false, b"4111.11"),
        Some(b"4111.11".to_vec())
    );
    // Types that hold no text are not looked at.
    for kind in [16, 21, 23, 700, 701, 1082, 1114, 2950] {
        assert_eq!(
            value(&rules, "x", kind, false, CARD.as_bytes()),
            Some(CARD.into())
        );
    }
    assert_eq!(value(&rules, "x", 869, false, b"10.0.0.1"), None);
    assert_eq!(value(&rules, "dob", 1082, false, b"1980-01-01"), None);
    assert_eq!(
        value(&rules, "x", 1082, false, b"1980-01-01"),
        Some(b"1980-01-01".to_vec())
    );
}

#[test]
fn json_stays_json() {
    let rules = everything();
    let masked = |kind, binary, document: &[u8]| {
        let shown = value(&rules, "x", kind, binary, document).unwrap();
        let text = if binary && kind == 3802 {
            &shown[1..]
        } else {
            &shown[..]
        };
        let parsed: serde_json::Value = serde_json::from_slice(text).expect("JSON");
        parsed.to_string()
    };
    let document = r#"{"a": "ada@example.com", "n": 4111111111111111, "password": "xyz", "m\"": "\u0061da@example.com \"q\"", "customer_bsn": "111222333", "ok": [1, true, null, 2.5, "x"]}"#;
    let expected = r#"{"a":"[masked:email]","n":"[masked:card]","password":"[masked:password]","m\"":"[masked:email] \"q\"","customer_bsn":"[masked:nl-bsn]","ok":[1,true,null,2.5,"x"]}"#;
    assert_eq!(masked(114, false, document.as_bytes()), expected);
    assert_eq!(masked(3802, false, document.as_bytes()), expected);
    assert_eq!(
        masked(3802, true, &[b"\x01", document.as_bytes()].concat()),
        expected
    );
    assert_eq!(
        masked(114, false, b"{\"ada@example.com\": 1}"),
        r#"{"[masked:email]":1}"#
    );
    // What is no JSON cannot be kept in part.
    assert_eq!(masked(114, false, b"{\"ada@example.com"), r#""[masked]""#);
    let null = self::rules(r#"["email"]"#, r#""null""#);
    assert_eq!(
        value(&null, "x", 114, false, b"[\"a@b.de\"]"),
        Some(b"[null]".to_vec())
    );
}

#[test]
fn arrays_composites_and_bytes() {
    let rules = everything();
    let shown = |kind, binary, v: &[u8]| value(&rules, "x", kind, binary, v);
    assert_eq!(
        shown(1009, false, b"{a@b.de,\"x y\",NULL}"),
        Some(b"{[masked:email],\"x y\",NULL}".to_vec())
    );
    let fixed = self::rules(r#"["email"]"#, r#"{ fixed = "a, b" }"#);
    assert_eq!(
        value(&fixed, "x", 1009, false, b"{a@b.de}"),
        Some(b"{[masked:email]}".to_vec())
    );
    let array = |elements: &[&[u8]]| {
        let mut out = Vec::new();
        for word in [1, 0, TEXT, elements.len() as u32, 1] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        for element in elements {
            out.extend_from_slice(&(element.len() as u32).to_be_bytes());
            out.extend_from_slice(element);
        }
        out
    };
    assert_eq!(
        shown(1009, true, &array(&[b"a@b.de", b"plain"])),
        Some(array(&[b"[masked:email]", b"plain"]))
    );
    let composite = |value: &[u8]| {
        let mut out = [1u32.to_be_bytes(), TEXT.to_be_bytes()].concat();
        out.extend_from_slice(&(value.len() as u32).to_be_bytes());
        out.extend_from_slice(value);
        out
    };
    assert_eq!(
        shown(2249, true, &composite(b"a@b.de")),
        Some(composite(b"[masked:email]"))
    );
    assert_eq!(
        shown(2249, false, b"(1,a@b.de)"),
        Some(b"(1,[masked:email])".to_vec())
    );
    // A nested value that is not what its type says goes as a whole.
    assert_eq!(shown(1009, true, b"\0\0\0\x01 a@b.de"), None);
    assert_eq!(shown(17, true, b"a@b.de"), Some(b"[masked:email]".to_vec()));
    assert_eq!(
        shown(17, true, b"\xff a@b.de"),
        Some(b"\xff a@b.de".to_vec())
    );
    let hex = |text: &str| format!("\\x{}", crate::hex::encode(text)).into_bytes();
    assert_eq!(
        shown(17, false, &hex("a@b.de")),
        Some(hex("[masked:email]"))
    );
    // citext and other types of the database's own.
    assert_eq!(
        shown(16999, true, b"a@b.de"),
        Some(b"[masked:email]".to_vec())
    );
    assert_eq!(
        shown(16999, false, b"(a@b.de,1)"),
        Some(b"([masked:email],1)".to_vec())
    );
}

#[test]
fn a_columns_label_tells_what_its_values_are() {
    let rules = everything();
    let shown = |label, v: &str| {
        let shown = value(&rules, label, TEXT, false, v.as_bytes()).unwrap();
        String::from_utf8(shown).unwrap()
    };
    assert_eq!(shown("user_password", "letmein"), "[masked:password]");
    assert_eq!(shown("password_hint", "letmein"), "letmein");
    assert_eq!(shown("bsn", "111222333"), "[masked:nl-bsn]");
    assert_eq!(shown("id", "111222333"), "111222333");
    assert_eq!(shown("mobile", "0170 1234567"), "[masked:phone]");
    assert_eq!(shown("dob", "1980-02-29"), "[masked:birth-date]");
}

#[test]
fn a_column_with_a_rule_of_its_own_is_left_to_it() {
    let more = "[[mask]]\nresource = \"orders\"\ncolumns = [\"*.*.card\"]\nhow = \"partial\"\n";
    let config = config(r#"["card"]"#, r#""redact""#, more);
    let rules = Rules::new(&config, &"orders".into(), &HashKey::new(&[7; 32]));
    let detection = rules.detection().unwrap().clone();
    let columns = Arc::new(Columns {
        columns: vec![column("a", TEXT, false), column("b", TEXT, false)],
    });
    let kind = PartKind::Rows {
        count: 1,
        columns: Some(columns),
    };
    let replies = one(row(&[Some(CARD.as_bytes()), Some(CARD.as_bytes())]), kind);
    let ruled = [Some(How::Partial), None];
    let (replies, count) =
        Sensor::default().sense(&detection, replies, [Some(&ruled[..])].into_iter());
    assert_eq!(count, 1);
    assert_eq!(
        replies.wire,
        row(&[Some(CARD.as_bytes()), Some(b"[masked:card]")])
    );
    assert_eq!(replies.parts[0].end, replies.wire.len());
}

#[test]
fn in_observe_mode_the_recording_alone_is_masked() {
    let mut masker = Masker::new(everything());
    masker.observe(true);
    let wire = row(&[Some(CARD.as_bytes())]);
    let columns = Some(Arc::new(Columns {
        columns: vec![column("a", TEXT, false)],
    }));
    let masked = masked(
        &mut masker,
        one(wire.clone(), PartKind::Rows { count: 1, columns }),
    );
    assert_eq!(masked.wire(), &wire);
    assert_eq!(masked.record(), &row(&[Some(b"[masked:card]")]));
}

#[test]
fn messages_notifications_and_results_of_calls() {
    let rules = everything();
    let report = Report {
        severity: "ERROR",
        code: "23505",
        message: "duplicate key",
        detail: Some("Key (email)=(ada@example.com) already exists."),
        hint: None,
    };
    let mut masker = Masker::new(rules);
    let mut shown =
        |wire: &[u8], kind| masked(&mut masker, one(wire.to_vec(), kind)).wire().clone();
    let error = shown(&report.encode(ERROR), PartKind::Text);
    assert_eq!(
        field(&error[5..], b'D'),
        Some(&b"Key (email)=([masked:email]) already exists."[..])
    );
    assert_eq!(field(&error[5..], b'C'), Some(&b"23505"[..]));
    let message = |tag: u8, body: &[u8]| frame::message(tag, &[body]);
    let notification = message(b'A', b"\0\0\0\x01rows\0new: ada@example.com\0");
    let masked = message(b'A', b"\0\0\0\x01rows\0new: [masked:email]\0");
    let detection_only = Sensor::default().sense(
        everything().detection().unwrap(),
        one(notification.to_vec(), PartKind::Loose),
        std::iter::empty(),
    );
    assert_eq!(detection_only.0.wire, masked);
    let result = message(b'V', b"\0\0\0\x06a@b.de");
    let masked = message(b'V', b"\0\0\0\x0e[masked:email]");
    let result = Sensor::default().sense(
        everything().detection().unwrap(),
        one(result.to_vec(), PartKind::Loose),
        std::iter::empty(),
    );
    assert_eq!(result.0.wire, masked);
}

fn copy_out(format: u8) -> Vec<u8> {
    frame::message(b'H', &[&[format, 0, 0]]).to_vec()
}

/// The content of COPY that a client puts together.
fn copied(wire: &[u8]) -> Vec<u8> {
    let (mut rest, mut content) = (wire, Vec::new());
    while let Ok(Some(header)) = frame::Header::peek(rest) {
        let (message, after) = rest.split_at(header.wire_len());
        if header.tag == b'd' {
            content.extend_from_slice(&message[5..]);
        }
        rest = after;
    }
    assert!(rest.is_empty());
    content
}

#[test]
fn copy_in_text_and_binary() {
    let detection = everything().detection().unwrap().clone();
    let mut sensor = Sensor::default();
    let data = |rows: &[&[u8]]| {
        rows.iter()
            .flat_map(|r| frame::message(b'd', &[r]))
            .collect::<Vec<u8>>()
    };
    let mut through = |format: u8, rows: &[&[u8]]| {
        let head = copy_out(format);
        let wire = [head.clone(), data(rows)].concat();
        let end = wire.len();
        let replies = parts(
            wire,
            vec![(head.len(), PartKind::Control), (end, PartKind::Bulk)],
        );
        sensor.sense(&detection, replies, std::iter::empty()).0.wire
    };
    assert_eq!(
        copied(&through(0, &[b"1\tada@example.com\tx\n", b"2\t\\N\ty\n"])),
        b"1\t[masked:email]\tx\n2\t\\N\ty\n"
    );
    let tuple = |fields: &[&[u8]]| {
        let mut out = (fields.len() as u16).to_be_bytes().to_vec();
        for f in fields {
            out.extend_from_slice(&(f.len() as u32).to_be_bytes());
            out.extend_from_slice(f);
        }
        out
    };
    let head = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    let rows = [
        [&head[..], &tuple(&[b"\0\0\0\x01", b"a@b.de"])].concat(),
        b"\xff\xff".to_vec(),
    ];
    let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
    let expected = [
        &head[..],
        &tuple(&[b"\0\0\0\x01", b"[masked:email]"]),
        b"\xff\xff",
    ]
    .concat();
    assert_eq!(copied(&through(1, &rows)), expected);
}

#[test]
fn a_large_copy_message_in_pieces() {
    let detection = everything().detection().unwrap().clone();
    let body = format!(
        "{}{CARD}{}\n",
        "lorem ipsum ".repeat(3000),
        " dolor".repeat(9000)
    );
    let wire = frame::message(b'd', &[body.as_bytes()]);
    for format in [0, 1] {
        let mut sensor = Sensor::default();
        sensor.sense(
            &detection,
            one(copy_out(format), PartKind::Control),
            std::iter::empty(),
        );
        let mut out = Vec::new();
        for piece in wire.chunks(36_010) {
            let replies = one(piece.to_vec(), PartKind::Bulk);
            out.extend_from_slice(&sensor.sense(&detection, replies, std::iter::empty()).0.wire);
        }
        let shown = if format == 0 {
            "[masked:card]"
        } else {
            "*******************"
        };
        assert_eq!(copied(&out), body.replace(CARD, shown).as_bytes());
    }
}

#[test]
fn a_large_row_in_pieces_is_masked_whole() {
    let rules = everything();
    let long = format!("{}{CARD}", "x ".repeat(40_000));
    let wire = row(&[Some(long.as_bytes()), Some(b"b")]);
    let columns = Some(Arc::new(Columns {
        columns: vec![column("a", TEXT, false), column("b", TEXT, false)],
    }));
    let mut masker = Masker::new(rules);
    let total = wire.len() as u32;
    let mut out = Vec::new();
    let count = wire.chunks(30_000).count();
    for (i, piece) in wire.chunks(30_000).enumerate() {
        let kind = PartKind::RowPiece {
            first: i == 0,
            last: i + 1 == count,
            total,
            columns: columns.clone(),
        };
        out.extend_from_slice(masked(&mut masker, one(piece.to_vec(), kind)).wire());
    }
    let expected = long.replace(CARD, "[masked:card]");
    assert_eq!(out, row(&[Some(expected.as_bytes()), Some(b"b")]));
}

#[test]
fn requests_are_recorded_without_what_is_found() {
    let detection = everything().detection().unwrap().clone();
    let wire = |messages: &[Frontend]| {
        let mut out = BytesMut::new();
        messages.iter().for_each(|m| frontend::encode(m, &mut out));
        out.freeze()
    };
    let query = |text: &str| Frontend::Query(Bytes::copy_from_slice(text.as_bytes()));
    let parse = |text: &str| Frontend::Parse {
        name: Bytes::new(),
        text: Bytes::copy_from_slice(text.as_bytes()),
        types: vec![25],
    };
    let bind = |formats: &[i16], value: &[u8]| {
        Frontend::Bind(Bind {
            formats: formats.to_vec(),
            values: vec![Some(Bytes::copy_from_slice(value)), None],
            ..Bind::default()
        })
    };
    let sent = wire(&[
        query("INSERT INTO t VALUES ('4111 1111 1111 1111')"),
        parse("SELECT 'ada@example.com'"),
        bind(&[0], b"ada@example.com"),
        bind(&[1], &4_111_111_111_111_111i64.to_be_bytes()),
        Frontend::CopyData(Bytes::from_static(b"1\tada@example.com\n")),
        Frontend::Sync,
    ]);
    let kept = wire(&[
        query("INSERT INTO t VALUES ('[masked:card]')"),
        parse("SELECT '[masked:email]'"),
        bind(&[0], b"[masked:email]"),
        bind(&[1], &[0; 8]),
        Frontend::CopyData(Bytes::from_static(b"1\t[masked:email]\n")),
        Frontend::Sync,
    ]);
    assert_eq!(detection.masked_request(&sent), Some(kept));
    assert_eq!(
        detection.masked_request(&wire(&[query("SELECT 1"), Frontend::Sync])),
        None
    );
    assert_eq!(
        detection.masked_cut(b"x a@b.de y"),
        Some(Bytes::from_static(b"x ****** y"))
    );
}

fn hostile_kind() -> impl Strategy<Value = PartKind> {
    let kinds = [TEXT, 114, 3802, 17, 20, 1700, 1009, 2249, 1016, 869, 16999];
    (
        0usize..7,
        prop::sample::select(kinds.to_vec()),
        any::<bool>(),
    )
        .prop_map(|(what, kind, binary)| {
            let columns = Some(Arc::new(Columns {
                columns: vec![column("password", kind, binary), column("x", kind, binary)],
            }));
            match what {
                0 | 1 => PartKind::Rows { count: 1, columns },
                2 => PartKind::RowPiece {
                    first: true,
                    last: true,
                    total: 9,
                    columns,
                },
                3 => PartKind::Bulk,
                4 => PartKind::Text,
                5 => PartKind::Loose,
                _ => PartKind::Control,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the type, the format and the neighbours, a card never reaches the client.
    #[test]
    fn no_card_is_shown(
        before in "[ -~]{0,40}[ ,:]",
        after in "[ ,;][ -~]{0,40}",
        kind in prop::sample::select(vec![TEXT, 1043, 142, 16999, 17]),
        rows in 1usize..6,
        at in 0usize..6,
    ) {
        let rules = everything();
        let secret = format!("{before}{CARD}{after}");
        let mut wire = Vec::new();
        for i in 0..rows {
            let value = if i == at { &*secret } else { "plain" };
            wire.extend_from_slice(&row(&[Some(b"id"), Some(value.as_bytes()), None]));
        }
        let columns = Some(Arc::new(Columns {
            columns: vec![column("a", 23, false), column("b", kind, kind == 17), column("c", kind, false)],
        }));
        let masked = masked(&mut Masker::new(rules), one(wire, PartKind::Rows { count: rows as u32, columns }));
        let shown = String::from_utf8_lossy(masked.wire()).into_owned();
        prop_assert!(!shown.contains(CARD), "{}", shown);
        prop_assert_eq!(bodies(masked.wire()).filter(Result::is_ok).count(), rows);
    }

    #[test]
    fn no_bytes_panic(wire: Vec<u8>, pieces in prop::collection::vec((any::<usize>(), hostile_kind()), 0..5)) {
        let rules = everything();
        let mut masker = Masker::new(rules.clone());
        let pieces = pieces.into_iter().map(|(end, kind)| (end % (wire.len() + 2), kind)).collect();
        masked(&mut masker, parts(wire.clone(), pieces));
        rules.detection().unwrap().masked_request(&wire);
    }
}
