//! Places in JSON documents: a part of JSONPath (RFC 9535), without filters, slices and unions.

use std::fmt;

/// Steps of one path: what a set of places has room for.
const MAX_STEPS: usize = 24;

/// `$.card.number`, `$.cards[*].number`, `$..iban`, `$["a key"][0]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonPath {
    steps: Vec<Step>,
    written: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Key(Box<str>),
    Index(usize),
    /// Every member and every element.
    Any,
    /// Any number of steps: what follows may be at any depth.
    Deep,
}

/// A child of an object or an array.
#[derive(Clone, Copy, Debug)]
pub(super) enum Child<'d> {
    Key(&'d str),
    Index(usize),
}

/// How far a path is followed, in all ways at once: a bit for each step that comes next.
pub(super) type Reached = u32;

impl JsonPath {
    /// The error says what is wrong with it.
    pub fn new(written: &str) -> Result<Self, String> {
        let mut rest = written
            .strip_prefix('$')
            .ok_or("a path begins with `$`, the document")?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (more, after) = step(rest)?;
            steps.extend(more);
            rest = after;
        }
        if steps.is_empty() {
            return Err("`$` is the whole document: name the column without `json`".into());
        }
        if steps.len() > MAX_STEPS {
            return Err(format!("a path has {MAX_STEPS} steps at most"));
        }
        Ok(Self {
            steps,
            written: written.into(),
        })
    }

    /// At the document itself.
    pub(super) fn start(&self) -> Reached {
        1
    }

    /// At a child of what has been reached.
    pub(super) fn follow(&self, reached: Reached, child: Child<'_>) -> Reached {
        let mut next = 0;
        for (at, step) in self.steps.iter().enumerate() {
            if reached & (1 << at) == 0 {
                continue;
            }
            match step {
                Step::Deep => {
                    next |= 1 << at;
                    // A path ends with no `..`.
                    if self.steps.get(at + 1).is_some_and(|step| step.is(child)) {
                        next |= 1 << (at + 2);
                    }
                }
                step if step.is(child) => next |= 1 << (at + 1),
                _ => {}
            }
        }
        next
    }

    /// Whether a step of it is this key.
    pub(super) fn names(&self, key: &str) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step, Step::Key(name) if **name == *key))
    }

    /// Whether this is a place that the path names.
    pub(super) fn ends(&self, reached: Reached) -> bool {
        reached & (1 << self.steps.len()) != 0
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Step {
    fn is(&self, child: Child<'_>) -> bool {
        match (self, child) {
            (Self::Key(key), Child::Key(name)) => **key == *name,
            (Self::Index(index), Child::Index(at)) => *index == at,
            (Self::Any, _) => true,
            _ => false,
        }
    }
}

/// The first step of what is left, and what is left behind it.
fn step(rest: &str) -> Result<(Vec<Step>, &str), String> {
    if let Some(after) = rest.strip_prefix("..") {
        let (step, after) = match after.starts_with('[') {
            true => bracket(after)?,
            false => name(after)?,
        };
        return Ok((vec![Step::Deep, step], after));
    }
    let (step, after) = match rest.strip_prefix('.') {
        Some(after) => name(after)?,
        None => bracket(rest)?,
    };
    Ok((vec![step], after))
}

fn name(rest: &str) -> Result<(Step, &str), String> {
    if let Some(after) = rest.strip_prefix('*') {
        return Ok((Step::Any, after));
    }
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || !c.is_ascii();
    let end = rest.find(|c| !plain(c)).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    match name.is_empty() {
        true => Err("a key stands behind `.`; others than words are written `[\"…\"]`".into()),
        false => Ok((Step::Key(name.into()), after)),
    }
}

fn bracket(rest: &str) -> Result<(Step, &str), String> {
    const HELP: &str = "a step is `.key`, `..key`, `[\"key\"]`, `[0]`, `.*` or `[*]`";
    let inner = rest.strip_prefix('[').ok_or(HELP)?;
    for quote in ['"', '\''] {
        if let Some(quoted) = inner.strip_prefix(quote) {
            let (key, after) = quoted.split_once(quote).ok_or(HELP)?;
            if key.contains('\\') {
                return Err("keys in paths are written without escapes".into());
            }
            let after = after.strip_prefix(']').ok_or(HELP)?;
            return Ok((Step::Key(key.into()), after));
        }
    }
    let (inner, after) = inner.split_once(']').ok_or(HELP)?;
    let step = match inner {
        "*" => Step::Any,
        index => Step::Index(index.parse().map_err(|_| HELP)?),
    };
    Ok((step, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str, place: &[Child<'_>]) -> bool {
        let path = JsonPath::new(path).unwrap();
        let reached = place
            .iter()
            .fold(path.start(), |reached, child| path.follow(reached, *child));
        path.ends(reached)
    }

    #[test]
    fn paths_name_places() {
        use Child::{Index, Key};
        let number = [Key("cards"), Index(1), Key("number")];
        for path in [
            "$.cards[1].number",
            "$.cards[*].number",
            "$['cards'].*[\"number\"]",
            "$..number",
            "$..cards..number",
            "$..[1].number",
            "$..*",
            "$.*.*.*",
        ] {
            assert!(names(path, &number), "{path}");
        }
        for path in [
            "$.cards[0].number",
            "$.number",
            "$.cards",
            "$.cards[1].number.x",
            "$.Cards..number",
        ] {
            assert!(!names(path, &number), "{path}");
        }
        assert!(names("$..a.a", &[Key("a"), Key("a"), Key("a")]));
        assert!(names("$..a", &[Key("a"), Key("b"), Key("a")]));
        assert!(names("$.größe", &[Key("größe")]));
    }

    #[test]
    fn what_is_no_path_is_told() {
        for path in [
            "",
            "card",
            "$",
            "$.",
            "$..",
            "$card",
            "$.a b",
            "$[",
            "$[x]",
            "$[-1]",
            "$[1:2]",
            "$[?(@.a)]",
            "$[\"a\"",
            "$[\"\\u0061\"]",
        ] {
            assert!(JsonPath::new(path).is_err(), "{path}");
        }
        assert!(JsonPath::new(&format!("${}", ".a".repeat(25))).is_err());
    }
}
