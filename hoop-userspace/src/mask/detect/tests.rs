//! Detectors against a corpus, and what must hold for any text.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::*;

const FOUND: &str = include_str!("corpus/found.txt");
const CLEAN: &str = include_str!("corpus/clean.txt");

fn detectors(kinds: impl IntoIterator<Item = Kind>) -> Detectors {
    let specs = kinds.into_iter().map(|kind| Spec {
        detector: Detector::Kind(kind),
        shows: 1,
    });
    Detectors::new(specs)
}

fn own(name: &str, what: OwnWhat) -> Detector {
    Detector::Own(Arc::new(OwnDetector {
        name: name.into(),
        what,
    }))
}

/// All of them, compiled once.
fn all() -> Arc<Detectors> {
    static ALL: LazyLock<Arc<Detectors>> = LazyLock::new(|| Arc::new(detectors(Kind::all())));
    ALL.clone()
}

/// One of them.
fn only(name: &str) -> &'static Detectors {
    static EACH: LazyLock<HashMap<&str, Detectors>> =
        LazyLock::new(|| Kind::all().map(|k| (k.name(), detectors([k]))).collect());
    EACH.get(name)
        .unwrap_or_else(|| panic!("no detector {name:?}"))
}

fn lines(corpus: &str) -> impl Iterator<Item = (&str, String)> {
    let lines = corpus
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty());
    lines.map(|line| {
        let (kind, text) = line.split_once('\t').expect("a tab after the kind");
        let text = text.replace("\\n", "\n").replace("\\t", "\t");
        (kind, made_up(&text))
    })
}

/// Replaces `%36%` by 36 characters: letters and digits, after `U` capitals and digits, after `H`
/// hexadecimal ones.
fn made_up(text: &str) -> String {
    let mut state = 0x9e37_79b9_u32;
    let mut next = |alphabet: &[u8]| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(alphabet[(state >> 16) as usize % alphabet.len()])
    };
    let mut out = String::new();
    let mut parts = text.split('%');
    out.push_str(parts.next().unwrap_or_default());
    let parts: Vec<_> = parts.collect();
    let mut i = 0;
    while i < parts.len() {
        let (alphabet, count) = match parts[i].split_at_checked(1) {
            Some(("U", count)) => (&b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[..], count),
            Some(("H", count)) => (&b"0123456789abcdef"[..], count),
            _ => (
                &b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[..],
                parts[i],
            ),
        };
        match count.parse::<usize>() {
            Ok(count) if i + 1 < parts.len() => {
                out.extend((0..count).map(|_| next(alphabet)));
                out.push_str(parts[i + 1]);
                i += 2;
            }
            _ => {
                out.push('%');
                out.push_str(parts[i]);
                i += 1;
            }
        }
    }
    out
}

/// The text without brackets, and what stands between them.
fn bracketed(text: &str) -> (String, Vec<Range<usize>>) {
    let (mut plain, mut ranges, mut open) = (String::new(), Vec::new(), 0);
    for c in text.chars() {
        match c {
            '⟦' => open = plain.len(),
            '⟧' => ranges.push(open..plain.len()),
            c => plain.push(c),
        }
    }
    (plain, ranges)
}

fn ranges(detectors: &Detectors, text: &str) -> Vec<Range<usize>> {
    let mut hits = Vec::new();
    detectors.scan_all(text.as_bytes(), &mut hits);
    hits.into_iter().map(|h| h.range).collect()
}

#[test]
fn the_corpus_is_found() {
    let everything = all();
    let mut wrong = Vec::new();
    for (name, text) in lines(FOUND) {
        let (plain, expected) = bracketed(&text);
        assert!(!expected.is_empty(), "{text}");
        let found = ranges(only(name), &plain);
        let covered = |e: &Range<usize>| {
            let found = ranges(&everything, &plain);
            found.iter().any(|f| f.start <= e.start && f.end >= e.end)
        };
        if found != expected || !expected.iter().all(covered) {
            wrong.push(format!("{name}: {text:?}: {found:?}, not {expected:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} lines:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn ordinary_values_are_left_alone() {
    let but_addresses = detectors(Kind::all().filter(|k| *k != Kind::Ip));
    let mut wrong = Vec::new();
    for (name, text) in lines(CLEAN) {
        let found = match name {
            "*" => ranges(&but_addresses, &text),
            name => ranges(only(name), &text),
        };
        if !found.is_empty() {
            wrong.push(format!("{name}: {text:?}: {found:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} lines:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_detector_has_lines_of_both_sorts() {
    for kind in Kind::all() {
        for corpus in [FOUND, CLEAN] {
            let count = lines(corpus)
                .filter(|(name, _)| *name == kind.name())
                .count();
            assert!(count >= 5, "{} has {count}", kind.name());
        }
    }
}

/// What the gate does not mark is never read: it must mark whatever the detectors find, wherever in
/// a batch it stands.
#[test]
fn the_gate_marks_all_that_is_found() {
    for (name, text) in lines(FOUND) {
        let (plain, expected) = bracketed(&text);
        let one = only(name);
        for shift in [0, 1, 17, 31, 40] {
            let batch = format!("{}{plain}{}", "-".repeat(shift), "~".repeat(50));
            let mut marks = Marks::default();
            one.look(batch.as_bytes(), &mut marks);
            let signs = marks.within(shift..shift + plain.len());
            let mut hits = Vec::new();
            one.scan(plain.as_bytes(), signs, &mut hits);
            let found: Vec<_> = hits.into_iter().map(|h| h.range).collect();
            assert_eq!(found, expected, "{name} {shift}: {plain:?}");
        }
    }
}

#[test]
fn of_findings_that_overlap_the_one_that_shows_least_names_the_whole() {
    let spec = |name: &str, pattern, shows| Spec {
        detector: own(
            name,
            OwnWhat::Pattern {
                pattern: Pattern::new(pattern).unwrap(),
                keywords: Vec::new(),
                validate: None,
            },
        ),
        shows,
    };
    let both = Detectors::new([spec("a", "abcd", 4), spec("b", "cdef", 1)]);
    let mut hits = Vec::new();
    both.scan_all(b"xabcdefx", &mut hits);
    assert_eq!(hits.len(), 1);
    assert_eq!(
        (hits[0].range.clone(), both.name(hits[0].detector)),
        (1..7, "b")
    );
}

#[test]
fn an_operators_patterns_and_words() {
    let words = WordList::new(["Ada Byron".into(), "Müller".into()]).unwrap();
    let member = OwnWhat::Pattern {
        pattern: Pattern::new(r"\b[0-9]{6}\b").unwrap(),
        keywords: vec!["member".into()],
        validate: Some(Validate::Luhn),
    };
    let specs = [("names", OwnWhat::Words(words)), ("member", member)];
    let own = Detectors::new(specs.map(|(name, what)| Spec {
        detector: own(name, what),
        shows: 1,
    }));
    let found = |text: &str| {
        let mut marks = Marks::default();
        own.look(text.as_bytes(), &mut marks);
        let mut hits = Vec::new();
        own.scan(text.as_bytes(), marks.within(0..text.len()), &mut hits);
        let text = |h: &Hit| text[h.range.clone()].to_owned();
        hits.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(
        found("Frau MÜLLER, ada byron, Müllers, adabyron"),
        ["MÜLLER", "ada byron"]
    );
    assert_eq!(found("Member no. 123455 and 123456"), ["123455"]);
    assert!(found("no. 123455").is_empty());
    for bad in ["(", "a*", r"(?:\w{1,900}){900}", &"a".repeat(5000)] {
        assert!(Pattern::new(bad).is_err(), "{bad}");
    }
    assert!(WordList::new([]).is_err() && WordList::new(["x".repeat(200)]).is_err());
}

#[test]
fn a_name_tells_what_its_value_is() {
    let detectors = all();
    let whole = |name: &str| match detectors.telling(name.as_bytes()) {
        Some(Telling::Value(id)) => Some(detectors.name(id)),
        _ => None,
    };
    assert_eq!(whole("db_password"), Some("password"));
    assert_eq!(whole("userPassword"), Some("password"));
    assert_eq!(whole("Date of birth"), Some("birth-date"));
    assert_eq!(whole("password_changed_at"), None);
    assert_eq!(detectors.telling(b"customer_bsn"), Some(Telling::Helps));
    assert_eq!(detectors.telling(b"name"), None);
}

#[test]
fn groups_stand_for_their_detectors() {
    assert_eq!(Kind::named("financial"), Some(vec![Kind::Card, Kind::Iban]));
    assert_eq!(Kind::named("pii").map(|k| k.len()), Some(12));
    assert_eq!(Kind::named("secret"), None);
    assert!(Kind::all().all(|k| Kind::named(k.name()) == Some(vec![k])));
}

/// What a stream lets pass, cut at these places.
fn streamed(detectors: &Arc<Detectors>, text: &[u8], cuts: &[usize], terminal: bool) -> Vec<u8> {
    let mut stream = match terminal {
        true => Stream::terminal(detectors.clone()),
        false => Stream::bytes(detectors.clone()),
    };
    let replace = |id: Id, _: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(format!("<{}>", detectors.name(id)).as_bytes());
    };
    let mut out = Vec::new();
    let mut from = 0;
    for cut in cuts {
        let to = (from + cut).min(text.len());
        stream.push(&text[from..to], &mut out, replace);
        assert!(stream.held() <= HOLD);
        from = to;
    }
    stream.push(&text[from..], &mut out, replace);
    assert!(stream.held() <= HOLD);
    stream.finish(&mut out, replace);
    assert_eq!(stream.held(), 0);
    out
}

#[test]
fn a_value_in_colours_is_found_and_the_colours_pass() {
    let detectors = all();
    let text = b"card \x1b[1m4111 1111\x1b[0m 1111\x1b[38;2;255;100;0m 1111\x1b(B\x1b[m end";
    let out = streamed(&detectors, text, &[3, 5, 1, 1, 9, 2], true);
    let expected = "card \x1b[1m<card>\x1b[0m\x1b[38;2;255;100;0m\x1b(B\x1b[m end";
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

/// A title, the clipboard, a string that never ends, numbers that no sequence has: nothing is a place
/// to hide in.
#[test]
fn what_only_begins_like_a_sequence_is_text() {
    let detectors = all();
    let card = "4111 1111 1111 1111";
    for before in [
        "\x1b]0;",
        "\x1b]52;c;",
        "\x1bP",
        "\x1bX",
        "\x1b^",
        "\x1b_",
        "\x1b[",
        "\x1b[ ",
        "\x1b[1;",
        "\x1b ",
        "\x1b(",
        "\x1b[\n",
        "\x1b[?",
    ] {
        for after in ["\x07", "\x1b\\", " end\n", " m"] {
            let text = format!("a {before} {card}{after} b");
            let plain = card.replace(' ', "");
            let both = [text.clone(), text.replace(card, &plain)];
            for text in both {
                for cuts in [&[1000][..], &[3, 1, 1, 1, 1, 2, 5]] {
                    let out = streamed(&detectors, text.as_bytes(), cuts, true);
                    let out = String::from_utf8_lossy(&out);
                    assert!(out.contains("<card>"), "{text:?} {out:?}");
                    assert!(!out.contains("1111"), "{text:?} {out:?}");
                }
            }
        }
    }
}

#[test]
fn what_was_flushed_in_two_is_masked_from_where_it_is_known() {
    let detectors = all();
    let mut stream = Stream::terminal(detectors.clone());
    let replace = |_: Id, _: &[u8], out: &mut Vec<u8>| out.extend_from_slice(b"<>");
    let mut out = Vec::new();
    stream.push("Straße ü".as_bytes(), &mut out, replace);
    stream.push(b"\xc3", &mut out, replace);
    stream.flush(&mut out, replace);
    assert_eq!(
        out, b"Stra\xc3\x9fe \xc3\xbc\xc3",
        "half a character waits for nothing"
    );
    out.clear();
    stream.push(b"\xbc1 4111 1111", &mut out, replace);
    stream.flush(&mut out, replace);
    stream.push(b" 1111 1111 \x1b[", &mut out, replace);
    stream.flush(&mut out, replace);
    assert!(!String::from_utf8_lossy(&out).contains("1111 1111 1111"));
    stream.push(b"0m", &mut out, replace);
    stream.flush(&mut out, replace);
    assert!(out.ends_with(b" \x1b[0m"));
}

/// The reader of a program's own protocol answers before anything follows.
#[test]
fn a_flush_lets_every_byte_go() {
    let detectors = all();
    let replace =
        |_: Id, value: &[u8], out: &mut Vec<u8>| out.resize(out.len() + value.len(), b'*');
    let ends: [&[u8]; 6] = [
        b"\xc3",
        b"\x1e\0\0\0\x08\n\xdf\xa4\xe2\x82",
        b"\xf0\x9f\x8e",
        b"\x1b",
        b"\x1b]0;half a title",
        b"-----BEGIN PRIVATE KEY-----\nMIIabcdefghijklmnopqrstuvwx",
    ];
    for (number, end) in ends.into_iter().enumerate() {
        for terminal in [false, true] {
            let mut stream = match terminal {
                true => Stream::terminal(detectors.clone()),
                false => Stream::bytes(detectors.clone()),
            }
            .keeping_length();
            let mut out = Vec::new();
            stream.push(end, &mut out, replace);
            stream.flush(&mut out, replace);
            assert_eq!((stream.held(), out.len()), (0, end.len()), "{number}");
            stream.push(b"more", &mut out, replace);
            stream.flush(&mut out, replace);
            assert_eq!((stream.held(), out.len()), (0, end.len() + 4), "{number}");
            assert!(number == 5 || out.starts_with(end), "{number}");
        }
    }
}

#[test]
fn what_was_flushed_in_two_keeps_its_length() {
    let detectors = all();
    let (mut stream, mut out) = (Stream::bytes(detectors).keeping_length(), Vec::new());
    let replace =
        |_: Id, value: &[u8], out: &mut Vec<u8>| out.resize(out.len() + value.len(), b'*');
    for piece in ["card 41", "11 1111 1111 1111 end"] {
        stream.push(piece.as_bytes(), &mut out, replace);
        stream.flush(&mut out, replace);
    }
    assert_eq!(
        String::from_utf8_lossy(&out),
        "card 41***************** end"
    );
}

#[test]
fn a_key_that_is_flushed_in_pieces_ends_where_it_ends() {
    let detectors = all();
    let key = format!(
        "a\n-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\nafter\n",
        "MIIabcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWX\n".repeat(5)
    );
    let replace = |_: Id, _: &[u8], out: &mut Vec<u8>| out.extend_from_slice(b"<key>");
    for size in 1..80 {
        let (mut stream, mut out) = (Stream::bytes(detectors.clone()), Vec::new());
        // What begins a key is recognised by that line alone.
        let (begin, rest) = key.split_at(64);
        stream.push(begin.as_bytes(), &mut out, replace);
        for piece in rest.as_bytes().chunks(size) {
            stream.flush(&mut out, replace);
            assert_eq!(stream.held(), 0);
            stream.push(piece, &mut out, replace);
        }
        stream.finish(&mut out, replace);
        assert_eq!(String::from_utf8_lossy(&out), "a\n<key>\nafter\n", "{size}");
    }
}

#[test]
fn a_long_key_is_masked_to_its_end() {
    let detectors = all();
    let key = format!(
        "a\n-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\nafter\n",
        "MIIabcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWX\n".repeat(500)
    );
    for cuts in [vec![], vec![10; 40], vec![9000; 3], vec![8191, 1, 1]] {
        let out = streamed(&detectors, key.as_bytes(), &cuts, false);
        assert_eq!(String::from_utf8_lossy(&out), "a\n<private-key>\nafter\n");
    }
}

/// OpenSSH's own programs hold both lines, one behind the other: no key is between them.
#[test]
fn a_program_that_names_the_lines_of_a_key_is_left_alone() {
    let detectors = all();
    let names = b"(NULL)\0\0-----BEGIN OPENSSH PRIVATE KEY-----\n\0\0\0\0-----END OPENSSH PRIVATE KEY-----\n\0Cert";
    let out = streamed(&detectors, names, &[], false);
    assert_eq!(
        out.escape_ascii().to_string(),
        names.escape_ascii().to_string()
    );
    // As a program's source would have a key.
    let source = "\"-----BEGIN PRIVATE KEY-----\\n\"\n\"MIIabcdefghijklmnop\\n\"\n\"-----END PRIVATE KEY-----\\n\"\n";
    let out = streamed(&detectors, source.as_bytes(), &[], false);
    assert!(!out.windows(6).any(|w| w == b"MIIabc"), "{out:?}");
}

/// Texts that hold values, escapes, halves of both and long stretches of nothing.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let values: Vec<Vec<u8>> = lines(FOUND)
        .map(|(_, text)| bracketed(&text).0.into_bytes())
        .collect();
    let piece = prop_oneof![
        4 => prop::sample::select(values),
        2 => "[ -~]{0,30}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::sample::select(vec![b"\x1b[31m".to_vec(), b"\x1b]0;t\x07".to_vec(), b"\x1b".to_vec(), "üñ🎉".into()]),
        1 => (0usize..3000).prop_map(|n| b"lorem ipsum ".iter().copied().cycle().take(n).collect()),
        1 => (0usize..3000).prop_map(|n| b"MIIabc123+/=".iter().copied().cycle().take(n).collect()),
    ];
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn how_a_stream_is_cut_changes_nothing(
        text in texts(),
        cuts in prop::collection::vec(prop_oneof![0usize..40, 0usize..9000], 0..60),
        terminal: bool,
    ) {
        let detectors = all();
        let whole = streamed(&detectors, &text, &[], terminal);
        let cut = streamed(&detectors, &text, &cuts, terminal);
        prop_assert_eq!(String::from_utf8_lossy(&whole), String::from_utf8_lossy(&cut));
        if std::str::from_utf8(&text).is_ok() {
            prop_assert!(std::str::from_utf8(&cut).is_ok());
        }
    }

    #[test]
    fn a_flush_leaves_nothing(
        text in texts(),
        cuts in prop::collection::vec(prop_oneof![0usize..40, 0usize..9000], 0..60),
    ) {
        let detectors = all();
        let replace = |_: Id, value: &[u8], out: &mut Vec<u8>| out.resize(out.len() + value.len(), b'*');
        let mut streams = [Stream::bytes(detectors.clone()), Stream::terminal(detectors)].map(Stream::keeping_length);
        let mut outs = [Vec::new(), Vec::new()];
        let mut from = 0;
        for cut in cuts {
            let to = (from + cut).min(text.len());
            for (stream, out) in streams.iter_mut().zip(&mut outs) {
                stream.push(&text[from..to], out, replace);
                stream.flush(out, replace);
                prop_assert_eq!((stream.held(), out.len()), (0, to));
            }
            from = to;
        }
    }

    #[test]
    fn a_short_text_is_masked_as_a_field_is(text in texts().prop_filter("short", |t| t.len() < HOLD && !t.contains(&0x1b))) {
        let detectors = all();
        let mut hits = Vec::new();
        detectors.scan_all(&text, &mut hits);
        let mut expected = Vec::new();
        let mut at = 0;
        for hit in &hits {
            expected.extend_from_slice(&text[at..hit.range.start]);
            expected.extend_from_slice(format!("<{}>", detectors.name(hit.detector)).as_bytes());
            at = hit.range.end;
        }
        expected.extend_from_slice(&text[at..]);
        let out = streamed(&detectors, &text, &[], false);
        prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn hits_are_in_order_and_the_gate_marks_them(text in texts()) {
        let detectors = all();
        let mut hits = Vec::new();
        detectors.scan_all(&text, &mut hits);
        prop_assert!(hits.windows(2).all(|w| w[0].range.end <= w[1].range.start));
        prop_assert!(hits.iter().all(|h| h.range.start < h.range.end && h.range.end <= text.len()));
        let mut marks = Marks::default();
        detectors.look(&text, &mut marks);
        prop_assert!(hits.is_empty() || !marks.within(0..text.len()).is_empty());
        let mut marked = Vec::new();
        detectors.scan(&text, marks.within(0..text.len()), &mut marked);
        prop_assert_eq!(marked, hits);
    }
}

/// From a large file of random bytes, which a masked download would have broken.
#[test]
fn noise_is_no_connection_string() {
    let noise = b"QZaIy://\x16\xdd\x04]\x13\x85j\x9e$\xb9gY0%[\xe1\x13\x1f\xc6J\xd4:\xc8f\x91\x9a\xe9O2\xec\xf7\xb7\x86\\[Ry@";
    let mut hits = Vec::new();
    only("connection-string").scan_all(noise, &mut hits);
    assert!(hits.is_empty());
    // Whatever a file is encoded in.
    only("connection-string").scan_all(b"amqp://bot:contrase\xf1a@mq", &mut hits);
    assert_eq!(hits.len(), 1);
}
