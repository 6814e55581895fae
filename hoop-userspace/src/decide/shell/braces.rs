//! Brace expansion: `a{b,c}d`, `{1..3}`.

use super::syntax::{Operation, Part, Variable, Word};
use super::walk::Dark;

/// Words that one word's braces make.
const MOST_BRACES: usize = 256;

/// The words that one becomes. `{a}` and `{}` are plain text.
pub(super) fn braces(parts: &[Part]) -> Result<Vec<Vec<Part>>, Dark> {
    if !parts
        .iter()
        .any(|part| matches!(part, Part::Bare(text) if text.contains('{')))
    {
        return Ok(vec![parts.to_vec()]);
    }
    // `{a}\{b,c}` is `a}{b` and `c` to bash, which counts what is escaped while it looks for the end.
    let hidden = |part: &Part| matches!(part, Part::Quoted(text) if text.contains(['{', '}']));
    if parts.iter().any(hidden) {
        return Err(Dark("a quoted brace stands among braces"));
    }
    let (mut length, mut open) = (0, 0);
    for part in parts {
        match part {
            Part::Bare(text) => {
                length += text.len();
                open += text.matches('{').count();
            }
            _ => length += 1,
        }
    }
    if length > LONGEST || open > MOST_OPEN {
        return Err(TOO_MANY);
    }
    let mut budget = MOST_BRACES;
    // `$x{a,b}` is `$xa` and `$xb`: braces come first, and names as far as they then go.
    let named = |part: &Part| matches!(part, Part::Variable(v) if v.open && !v.quoted);
    if parts.iter().any(named) && first_braces(&flatten(parts)).is_some() {
        return Err(Dark("a variable stands among braces"));
    }
    expand_braces(parts, &mut budget, 0)
}

const TOO_MANY: Dark = Dark("braces stand for too much");
/// Braces within braces.
const DEEPEST: usize = 8;
/// Characters of a word with braces in it, and how many open: each character is looked at once for
/// every brace before it.
const LONGEST: usize = 2048;
const MOST_OPEN: usize = 32;

fn expand_braces(parts: &[Part], budget: &mut usize, depth: usize) -> Result<Vec<Vec<Part>>, Dark> {
    if depth > DEEPEST {
        return Err(TOO_MANY);
    }
    let flat = flatten(parts);
    let Some((open, close, items)) = first_braces(&flat) else {
        return Ok(vec![parts.to_vec()]);
    };
    let before = flat.get(..open).unwrap_or_default();
    let after = expand_braces(
        &collect(flat.get(close + 1..).unwrap_or_default()),
        budget,
        depth + 1,
    )?;
    let mut all = Vec::new();
    for item in items {
        for middle in expand_braces(&collect(&item), budget, depth + 1)? {
            for end in &after {
                *budget = budget.checked_sub(1).ok_or(TOO_MANY)?;
                let mut word = collect(before);
                word.extend(middle.iter().cloned());
                word.extend(end.iter().cloned());
                all.push(merge(word));
            }
        }
    }
    Ok(all)
}

/// Outside quotes one character at a time, so that braces and commas can be found.
fn flatten(parts: &[Part]) -> Vec<Part> {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            Part::Bare(text) => flat.extend(text.chars().map(|c| Part::Bare(c.into()))),
            part => flat.push(part.clone()),
        }
    }
    flat
}

fn collect(flat: &[Part]) -> Vec<Part> {
    merge(flat.to_vec())
}

fn merge(parts: Vec<Part>) -> Vec<Part> {
    let mut merged: Vec<Part> = Vec::new();
    for part in parts {
        match (merged.last_mut(), part) {
            (Some(Part::Bare(text)), Part::Bare(more)) => text.push_str(&more),
            (_, part) => merged.push(part),
        }
    }
    merged
}

type Braces = (usize, usize, Vec<Vec<Part>>);

/// The first pair of braces that is expanded: with a comma on its own level, or a range.
fn first_braces(flat: &[Part]) -> Option<Braces> {
    let is = |part: &Part, c: char| matches!(part, Part::Bare(text) if text.starts_with(c));
    for (open, _) in flat.iter().enumerate().filter(|(_, part)| is(part, '{')) {
        let mut depth = 0_usize;
        let mut items = vec![Vec::new()];
        for (at, part) in flat.iter().enumerate().skip(open) {
            match () {
                () if is(part, '{') => {
                    depth += 1;
                    if depth == 1 {
                        continue;
                    }
                }
                () if is(part, '}') => {
                    depth -= 1;
                    if depth == 0 {
                        if items.len() > 1 {
                            return Some((open, at, items));
                        }
                        let only = items.pop().unwrap_or_default();
                        if let Some(items) = range(&only) {
                            return Some((open, at, items));
                        }
                        break;
                    }
                }
                () if is(part, ',') && depth == 1 => {
                    items.push(Vec::new());
                    continue;
                }
                () => {}
            }
            if let Some(item) = items.last_mut() {
                item.push(part.clone());
            }
        }
    }
    None
}

/// `1..5`, `a..e`. A step or leading zeros make it unknown, which is one word of anything.
fn range(inside: &[Part]) -> Option<Vec<Vec<Part>>> {
    let text: String = inside.iter().map(bare).collect::<Option<_>>()?;
    let (from, to) = text.split_once("..")?;
    let word = |text: String| vec![Part::Bare(text)];
    if let (Ok(from), Ok(to)) = (from.parse::<i64>(), to.parse::<i64>()) {
        let plain = |text: &str, number: i64| text == number.to_string();
        if from.abs_diff(to) < MOST_BRACES as u64
            && plain(text.split("..").next()?, from)
            && plain(text.rsplit("..").next()?, to)
        {
            let up: Vec<_> = (from.min(to)..=from.max(to)).collect();
            let numbers: Vec<_> = match from <= to {
                true => up,
                false => up.into_iter().rev().collect(),
            };
            return Some(numbers.into_iter().map(|n| word(n.to_string())).collect());
        }
    }
    let mut letters = (from.chars(), to.chars());
    if let (Some(from), None, Some(to), None) = (
        letters.0.next(),
        letters.0.next(),
        letters.1.next(),
        letters.1.next(),
    ) && from.is_ascii_lowercase()
        && to.is_ascii_lowercase()
        && from <= to
    {
        return Some((from..=to).map(|c| word(c.into())).collect());
    }
    // Otherwise shells differ, or there is too much of it.
    let odd = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'));
    odd.then(|| {
        let name = "unknown range".to_owned();
        let (operation, operand) = (Operation::Other, Word::default());
        let variable = Variable {
            name,
            operation,
            operand,
            quoted: false,
            open: false,
        };
        vec![vec![Part::Variable(std::rc::Rc::new(variable))]]
    })
}

pub(super) fn bare(part: &Part) -> Option<&str> {
    match part {
        Part::Bare(text) => Some(text),
        _ => None,
    }
}
