//! The difference of two texts, line by line (Myers, "An O(ND) Difference Algorithm", 1986), with a
//! bound on its work: of what differs in more than [`MAX_EDITS`] lines, all is taken out and put in.
//!
//! It is hoop's own because a stage that only computes has no clock, and the bounds that libraries
//! have for hostile texts are times.

use std::collections::HashMap;

/// Lines taken out and put in. The work grows with its square, and with the texts' length.
const MAX_EDITS: usize = 800;
/// Lines around a difference.
const CONTEXT: usize = 3;
/// Bytes of one line that are shown.
const MAX_LINE: usize = 1500;
/// Places above a difference that are named.
const MAX_ABOVE: usize = 12;

pub(super) struct Differs {
    /// Empty where nothing does.
    pub text: String,
    /// Lines for which there was no room.
    pub left_out: usize,
    /// It was not told line by line.
    pub coarse: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Keep(usize, usize),
    Take(usize),
    Put(usize),
}

/// At most `most` bytes; each line as `shown` says it.
pub(super) fn unified(
    before: &[String],
    after: &[String],
    most: usize,
    shown: impl Fn(&str) -> String,
) -> Differs {
    let (edits, coarse) = edits(before, after);
    let mut differs = Differs {
        text: String::new(),
        left_out: 0,
        coarse,
    };
    let (mut full, mut at) = (false, 0);
    while let Some(hunk) = next_hunk(&edits, at) {
        at = hunk.end;
        let hunk = edits.get(hunk).unwrap_or_default();
        let mut lines = vec![header(before, hunk)];
        for edit in hunk {
            let (sign, line) = match *edit {
                Edit::Keep(line, _) => (' ', before.get(line)),
                Edit::Take(line) => ('-', before.get(line)),
                Edit::Put(line) => ('+', after.get(line)),
            };
            let line = line.map(String::as_str).unwrap_or_default();
            lines.push(format!("{sign}{}", cut(line)));
        }
        for (index, line) in lines.iter().enumerate() {
            if !full {
                let line = shown(line);
                full = differs.text.len() + line.len() + 1 > most;
                if !full {
                    differs.text.push_str(&line);
                    differs.text.push('\n');
                }
            }
            differs.left_out += usize::from(full && index > 0);
        }
    }
    differs
}

/// The edits that belong together: no more than twice the context lies between them.
fn next_hunk(edits: &[Edit], from: usize) -> Option<std::ops::Range<usize>> {
    let changes = |edit: &Edit| !matches!(edit, Edit::Keep(..));
    let rest = edits.get(from..)?;
    let first = from + rest.iter().position(changes)?;
    let (mut last, mut at) = (first, first);
    while let Some(edit) = edits.get(at).filter(|_| at <= last + 2 * CONTEXT) {
        if changes(edit) {
            last = at;
        }
        at += 1;
    }
    let start = first.saturating_sub(CONTEXT).max(from);
    Some(start..(last + 1 + CONTEXT).min(edits.len()))
}

/// `@@ -FROM,LINES +FROM,LINES @@`, and where in the object it is.
fn header(before: &[String], hunk: &[Edit]) -> String {
    let of = |line: fn(&Edit) -> Option<usize>| {
        let lines: Vec<usize> = hunk.iter().filter_map(line).collect();
        (lines.first().map_or(0, |first| first + 1), lines.len())
    };
    let (from, taken) = of(|edit| match edit {
        Edit::Keep(line, _) | Edit::Take(line) => Some(*line),
        Edit::Put(_) => None,
    });
    let (to, put) = of(|edit| match edit {
        Edit::Keep(_, line) | Edit::Put(line) => Some(*line),
        Edit::Take(_) => None,
    });
    let above = above(before, from.saturating_sub(1));
    let space = if above.is_empty() { "" } else { " " };
    cut(&format!("@@ -{from},{taken} +{to},{put} @@{space}{above}"))
}

/// The keys under which a line stands.
fn above(lines: &[String], at: usize) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let Some(line) = lines.get(at) else {
        return String::new();
    };
    let (mut least, mut keys) = (indent(line), Vec::new());
    for line in lines.get(..at).unwrap_or_default().iter().rev() {
        if least == 0 || keys.len() == MAX_ABOVE {
            break;
        }
        if indent(line) < least {
            least = indent(line);
            let line = line.trim();
            let key = line.strip_suffix(':').unwrap_or(line);
            keys.push(key.chars().take(80).collect::<String>());
        }
    }
    keys.reverse();
    keys.join(" > ")
}

fn cut(line: &str) -> String {
    if line.len() <= MAX_LINE {
        return line.to_owned();
    }
    let end = line.char_indices().map(|(at, _)| at);
    let end = end.take_while(|at| *at <= MAX_LINE).last().unwrap_or(0);
    let left = line.len() - end;
    format!(
        "{}… ({left} more bytes)",
        line.get(..end).unwrap_or_default()
    )
}

/// What turns one text into the other; whether that is the shortest way.
fn edits(before: &[String], after: &[String]) -> (Vec<Edit>, bool) {
    let mut known = HashMap::new();
    let one = numbers(before, &mut known);
    let other = numbers(after, &mut known);
    let same = |(a, b): &(&usize, &usize)| a == b;
    let first = one.iter().zip(&other).take_while(same).count();
    let (one, other) = (
        one.get(first..).unwrap_or_default(),
        other.get(first..).unwrap_or_default(),
    );
    let last = one.iter().rev().zip(other.iter().rev());
    let last = last.take_while(same).count();
    let (taken, put) = (one.len() - last, other.len() - last);
    let found = shortest(
        one.get(..taken).unwrap_or_default(),
        other.get(..put).unwrap_or_default(),
    );
    let coarse = found.is_none();
    let middle = found.unwrap_or_else(|| {
        let all = (0..taken).map(Edit::Take).chain((0..put).map(Edit::Put));
        all.collect()
    });
    let mut edits: Vec<Edit> = (0..first).map(|line| Edit::Keep(line, line)).collect();
    edits.extend(middle.into_iter().map(|edit| match edit {
        Edit::Keep(line, same) => Edit::Keep(first + line, first + same),
        Edit::Take(line) => Edit::Take(first + line),
        Edit::Put(line) => Edit::Put(first + line),
    }));
    let rest = (0..last).map(|line| Edit::Keep(first + taken + line, first + put + line));
    edits.extend(rest);
    // What goes stands before what comes in its place.
    let runs = edits.chunk_by_mut(|a, b| {
        let keeps = |edit: &Edit| matches!(edit, Edit::Keep(..));
        !keeps(a) && !keeps(b)
    });
    for run in runs {
        run.sort_by_key(|edit| matches!(edit, Edit::Put(_)));
    }
    (edits, coarse)
}

/// Equal lines have equal numbers.
fn numbers<'t>(lines: &'t [String], known: &mut HashMap<&'t str, usize>) -> Vec<usize> {
    let mut numbers = Vec::with_capacity(lines.len());
    for line in lines {
        let next = known.len();
        numbers.push(*known.entry(line).or_insert(next));
    }
    numbers
}

/// How far into `one` each diagonal reaches after so many edits; `None` where it leads out of a text.
/// Diagonals `-edits`, `-edits + 2` … `edits`.
type Reach = Vec<Option<usize>>;

/// How a diagonal is reached: from which place of `one`, and whether by taking a line out.
fn step(before: &Reach, index: usize, ends: (usize, usize), edits: usize) -> Option<(usize, bool)> {
    let inside = |x: &usize| {
        let y = (x + edits).checked_sub(2 * index);
        *x <= ends.0 && y.is_some_and(|y| y <= ends.1)
    };
    let taken = index.checked_sub(1).and_then(|left| *before.get(left)?);
    let taken = taken.map(|x| x + 1).filter(inside);
    let put = before.get(index).copied().flatten().filter(inside);
    match (taken, put) {
        (Some(taken), put) if put.is_none_or(|put| taken >= put) => Some((taken, true)),
        (_, put) => put.map(|x| (x, false)),
    }
}

fn shortest(one: &[usize], other: &[usize]) -> Option<Vec<Edit>> {
    let ends = (one.len(), other.len());
    let mut rows: Vec<Reach> = Vec::new();
    for edits in 0..=MAX_EDITS.min(ends.0 + ends.1) {
        let mut row = Vec::with_capacity(edits + 1);
        for index in 0..=edits {
            let start = match rows.last() {
                None => Some(0),
                Some(before) => step(before, index, ends, edits).map(|(x, _)| x),
            };
            let reached = start.and_then(|x| {
                let y = (x + edits).checked_sub(2 * index)?;
                let (left, right) = (one.get(x..)?, other.get(y..)?);
                let same = left.iter().zip(right).take_while(|(a, b)| a == b).count();
                Some(x + same)
            });
            row.push(reached);
            let whole = reached.is_some_and(|x| x == ends.0 && x + edits == ends.1 + 2 * index);
            if whole {
                return back(&rows, index, ends);
            }
        }
        rows.push(row);
    }
    None
}

/// The way that led to the ends, from the last edit to the first.
fn back(rows: &[Reach], mut index: usize, ends: (usize, usize)) -> Option<Vec<Edit>> {
    let (mut x, mut y) = ends;
    let mut way = Vec::new();
    for edits in (1..=rows.len()).rev() {
        let (from, taken) = step(rows.get(edits - 1)?, index, ends, edits)?;
        while x > from {
            x -= 1;
            y = y.checked_sub(1)?;
            way.push(Edit::Keep(x, y));
        }
        match taken {
            true => {
                x = x.checked_sub(1)?;
                index = index.checked_sub(1)?;
                way.push(Edit::Take(x));
            }
            false => {
                y = y.checked_sub(1)?;
                way.push(Edit::Put(y));
            }
        }
    }
    while x > 0 {
        x -= 1;
        y = y.checked_sub(1)?;
        way.push(Edit::Keep(x, y));
    }
    way.reverse();
    Some(way)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    fn of(before: &str, after: &str) -> Differs {
        unified(&lines(before), &lines(after), 1 << 20, str::to_owned)
    }

    #[test]
    fn what_differs_stands_with_three_lines_around_it_and_where_it_is() {
        let before =
            "kind: A\nspec:\n  one:\n    a: 1\n    b: 2\n    c: 3\n    d: 4\n    e: 5\n  z: 1";
        let after = before.replace("d: 4", "d: 5\n    dd: 6");
        let expected = "@@ -4,6 +4,7 @@ spec > one\n     a: 1\n     b: 2\n     c: 3\n-    d: 4\n+    d: 5\n+    dd: 6\n     e: 5\n   z: 1\n";
        assert_eq!(of(before, &after).text, expected);
        assert_eq!(of(before, before).text, "");
        assert_eq!(of("", "a\nb").text, "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(of("a\nb", "").text, "@@ -1,2 +0,0 @@\n-a\n-b\n");
    }

    #[test]
    fn what_lies_far_apart_is_told_apart() {
        let all: Vec<String> = (0..50).map(|n| format!("line {n}")).collect();
        let mut other = all.clone();
        other[5] = "five".into();
        other[40] = "forty".into();
        let told = unified(&all, &other, 1 << 20, str::to_owned).text;
        assert_eq!(told.matches("@@ -").count(), 2, "{told}");
        other[11] = "eleven".into();
        let told = unified(&all, &other, 1 << 20, str::to_owned).text;
        assert_eq!(told.matches("@@ -").count(), 2, "{told}");
    }

    #[test]
    fn work_and_length_are_bounded() {
        let one: Vec<String> = (0..40_000).map(|n| format!("a{n}")).collect();
        let other: Vec<String> = (0..40_000).map(|n| format!("b{n}")).collect();
        let differs = unified(&one, &other, 16 << 10, str::to_owned);
        assert!(differs.coarse && differs.text.len() <= 16 << 10);
        let told = differs.text.lines().count() - 1;
        assert_eq!(told + differs.left_out, 80_000);
        let long = vec!["x".repeat(1 << 20)];
        let differs = unified(&[], &long, 16 << 10, str::to_owned);
        assert!(differs.text.len() < 2000, "{}", differs.text.len());
        assert!(differs.text.ends_with("more bytes)\n"));
    }

    proptest! {
        #[test]
        fn edits_make_one_text_of_the_other(
            before in prop::collection::vec("[abc]", 0..40),
            after in prop::collection::vec("[abc]", 0..40),
        ) {
            let (edits, coarse) = edits(&before, &after);
            prop_assert!(!coarse);
            let (mut one, mut other) = (Vec::new(), Vec::new());
            for edit in &edits {
                match *edit {
                    Edit::Keep(a, b) => {
                        prop_assert_eq!(&before[a], &after[b]);
                        one.push(a);
                        other.push(b);
                    }
                    Edit::Take(a) => one.push(a),
                    Edit::Put(b) => other.push(b),
                }
            }
            prop_assert_eq!(one, (0..before.len()).collect::<Vec<_>>());
            prop_assert_eq!(other, (0..after.len()).collect::<Vec<_>>());
        }
    }
}
