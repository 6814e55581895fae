//! JSON documents in which some places are masked, and all other bytes stay as they are.

use super::path::{Child, JsonPath, Reached};
use super::rules::HashKey;
use super::value::partial;
use crate::config::How;

/// Objects and arrays within each other.
const DEPTH: usize = 200;

/// The document with what its paths name masked; `None` if it is none, or too deep.
pub(super) fn masked(document: &[u8], paths: &[(JsonPath, How)], key: &HashKey) -> Option<Vec<u8>> {
    let mut walk = Walk {
        document,
        at: 0,
        copied: 0,
        out: Vec::with_capacity(document.len()),
        paths,
        key,
    };
    let reached: Vec<Reached> = paths.iter().map(|(path, _)| path.start()).collect();
    walk.space();
    walk.value(&reached, DEPTH)?;
    walk.space();
    if walk.at < document.len() {
        return None;
    }
    walk.copy();
    Some(walk.out)
}

struct Walk<'d> {
    document: &'d [u8],
    at: usize,
    /// Up to here the document is in `out`.
    copied: usize,
    out: Vec<u8>,
    paths: &'d [(JsonPath, How)],
    key: &'d HashKey,
}

impl Walk<'_> {
    fn peek(&self) -> Option<u8> {
        self.document.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn copy(&mut self) {
        let bytes = self.document.get(self.copied..self.at).unwrap_or_default();
        self.out.extend_from_slice(bytes);
        self.copied = self.at;
    }

    /// Where several paths name a place, the mask counts that shows least.
    fn how(&self, reached: &[Reached]) -> Option<&How> {
        let pairs = self.paths.iter().zip(reached);
        let named = pairs.filter(|((path, _), reached)| path.ends(**reached));
        named.map(|((_, how), _)| how).min_by_key(|how| how.shows())
    }

    fn value(&mut self, reached: &[Reached], depth: usize) -> Option<()> {
        let how = self.how(reached).cloned();
        if how.is_some() {
            self.copy();
        }
        let start = self.at;
        // Within what is masked whole, nothing else is.
        let inner: Vec<Reached> = match how {
            Some(_) => vec![0; reached.len()],
            None => reached.to_vec(),
        };
        match self.peek()? {
            b'{' => self.object(&inner, depth.checked_sub(1)?)?,
            b'[' => self.array(&inner, depth.checked_sub(1)?)?,
            b'"' => drop(self.string()?),
            _ => self.word()?,
        }
        if let Some(how) = how {
            let value = self.document.get(start..self.at).unwrap_or_default();
            self.out.extend(shown(&how, value, self.key)?);
            self.copied = self.at;
        }
        Some(())
    }

    fn object(&mut self, reached: &[Reached], depth: usize) -> Option<()> {
        self.take(b'{')?;
        self.space();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            let name = self.string()?;
            let child = self.child(reached, Child::Key(&name));
            self.space();
            self.take(b':')?;
            self.space();
            self.value(&child, depth)?;
            self.space();
            if self.take(b'}').is_some() {
                return Some(());
            }
            self.take(b',')?;
            self.space();
        }
    }

    fn array(&mut self, reached: &[Reached], depth: usize) -> Option<()> {
        self.take(b'[')?;
        self.space();
        if self.take(b']').is_some() {
            return Some(());
        }
        for index in 0.. {
            let child = self.child(reached, Child::Index(index));
            self.value(&child, depth)?;
            self.space();
            if self.take(b']').is_some() {
                break;
            }
            self.take(b',')?;
            self.space();
        }
        Some(())
    }

    fn child(&self, reached: &[Reached], child: Child<'_>) -> Vec<Reached> {
        let pairs = self.paths.iter().zip(reached);
        let next = pairs.map(|((path, _), reached)| path.follow(*reached, child));
        next.collect()
    }

    /// A string; returns what it says.
    fn string(&mut self) -> Option<String> {
        let start = self.at;
        self.take(b'"')?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        unquoted(self.document.get(start..self.at)?)
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Option<()> {
        let start = self.at;
        let part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
        while self.peek().is_some_and(part) {
            self.at += 1;
        }
        let word = self.document.get(start..self.at)?;
        serde_json::from_slice::<serde::de::IgnoredAny>(word).ok()?;
        Some(())
    }
}

fn unquoted(string: &[u8]) -> Option<String> {
    serde_json::from_slice(string).ok()
}

/// What stands in place of one value.
fn shown(how: &How, value: &[u8], key: &HashKey) -> Option<Vec<u8>> {
    if value == b"null" {
        return Some(value.to_vec());
    }
    let text = unquoted(value).map(String::into_bytes);
    let composed = matches!(value.first(), Some(b'{' | b'['));
    let text = text.as_deref().unwrap_or(value);
    let shown = match how {
        How::Null => return Some(b"null".to_vec()),
        How::Fixed(text) => text.clone(),
        How::Hash => crate::hex::encode(key.hash(text)),
        How::Partial if !composed => String::from_utf8(partial(text)).ok()?,
        How::Partial | How::Redact | How::Inside(_) => "[masked]".into(),
    };
    Some(serde_json::Value::String(shown).to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(document: &str, paths: &[(&str, How)]) -> Option<String> {
        let paths: Vec<_> = paths
            .iter()
            .map(|(path, how)| (JsonPath::new(path).unwrap(), how.clone()))
            .collect();
        let masked = masked(document.as_bytes(), &paths, &HashKey::new(&[1; 32]))?;
        Some(String::from_utf8(masked).unwrap())
    }

    #[test]
    fn what_a_path_names_is_masked_and_every_other_byte_stays() {
        for (document, path, how, expected) in [
            (
                r#" {"a" : 1.50e3, "card":{"number":"4111111111111111"}} "#,
                "$.card.number",
                How::Partial,
                r#" {"a" : 1.50e3, "card":{"number":"************1111"}} "#,
            ),
            (
                r#"{"c\u0061rd": 12, "card": 13}"#,
                "$.card",
                How::Redact,
                r#"{"c\u0061rd": "[masked]", "card": "[masked]"}"#,
            ),
            (
                r#"[{"x":[1,{"y":2}]},null]"#,
                "$[0].x",
                How::Partial,
                r#"[{"x":"[masked]"},null]"#,
            ),
            (
                r#"{"a":null,"b":"x"}"#,
                "$.*",
                How::Null,
                r#"{"a":null,"b":null}"#,
            ),
            (
                r#"{"a":{"a":1}}"#,
                "$..a",
                How::Redact,
                r#"{"a":"[masked]"}"#,
            ),
            (
                r#"{"b":[1,2]}"#,
                "$.b[1]",
                How::Fixed("\"".into()),
                r#"{"b":[1,"\""]}"#,
            ),
            (r#"{"b":"x"}"#, "$.c", How::Redact, r#"{"b":"x"}"#),
            ("12", "$.c", How::Redact, "12"),
        ] {
            assert_eq!(
                run(document, &[(path, how)]).as_deref(),
                Some(expected),
                "{document}"
            );
        }
        let both = [("$.a", How::Partial), ("$..a", How::Null)];
        assert_eq!(
            run(r#"{"a":"123456789"}"#, &both).as_deref(),
            Some(r#"{"a":null}"#)
        );
    }

    #[test]
    fn what_is_no_document_is_not_told_apart() {
        for document in [
            "",
            "{",
            "{}}",
            "[1,]",
            "{\"a\":}",
            "{a:1}",
            "\"x",
            "\"\\q\"",
            "tru",
            "1 2",
            "nul",
            "{\"a\" 1}",
        ] {
            assert_eq!(run(document, &[("$.a", How::Redact)]), None, "{document}");
        }
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        assert_eq!(run(&deep, &[("$.a", How::Redact)]), None);
    }

    proptest! {
        #[test]
        fn a_document_stays_one_and_loses_what_is_named(
            secret in "[A-Z]{6}", other in "[^A-Z\\pC]{0,12}", key in "[a-z\"\\\\]{1,4}", nested: bool,
        ) {
            let document = match nested {
                true => serde_json::json!({"k": [{&key: other, "secret": secret}], "z": other}),
                false => serde_json::json!({"secret": {&key: [secret]}, "k": other}),
            };
            let masked = run(&document.to_string(), &[("$..secret", How::Redact)]).unwrap();
            prop_assert!(!masked.contains(&secret));
            let read: serde_json::Value = serde_json::from_str(&masked).unwrap();
            let kept = read.get(if nested { "z" } else { "k" }).unwrap();
            prop_assert_eq!(kept.as_str().unwrap(), &other);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "[\\[\\]{}\",:a1\\\\ ]{0,40}") {
            let paths = [(JsonPath::new("$..a").unwrap(), How::Redact)];
            let key = HashKey::new(&[1; 32]);
            let _ = masked(&bytes, &paths, &key);
            if let Some(out) = masked(text.as_bytes(), &paths, &key) {
                prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&out).is_ok());
            }
        }
    }
}
