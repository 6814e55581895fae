//! Columns of two things at once: set operations and joins.

use std::borrow::Borrow;
use std::sync::Arc;

use super::{Item, Items, Mark, Output, Piece};

/// The rows of both under the names of the first.
pub(super) fn either(one: Output, two: Output) -> Output {
    if !one.is_listed() {
        return Output(vec![Piece::Many(Items::any(one.all().or(&two.all())))]);
    }
    let rest = two.all();
    // Columns that SEARCH and CYCLE add are not among those of the first arm.
    let by_position = two.is_listed() && one.0.len() == two.0.len();
    let pieces = one.0.into_iter().enumerate().map(|(at, piece)| {
        let Piece::One(item) = piece else {
            return piece;
        };
        let other = match two.0.get(at) {
            Some(Piece::One(other)) if by_position => &other.mark,
            _ => &rest,
        };
        Piece::One(Item {
            mark: item.mark.or(other),
            from: None,
            name: item.name,
        })
    });
    Output(pieces.collect())
}

/// JOIN … USING: the columns that are one, and the others. A column that is one of both shows
/// either's value.
pub(super) fn using(
    left: &[Arc<Items>],
    right: &[Arc<Items>],
    names: &[Box<str>],
) -> (Vec<Item>, Items) {
    let (mut left, mut right) = (joined(left), joined(right));
    let mut merged = Vec::with_capacity(names.len());
    for name in names {
        let one = left.mark_of(name).unwrap_or(Mark::Whole);
        let two = right.mark_of(name).unwrap_or(Mark::Whole);
        for side in [&mut left, &mut right] {
            side.list.retain(|item| item.name.as_deref() != Some(name));
        }
        merged.push(Item {
            name: Some(name.clone()),
            mark: one.or(&two),
            from: None,
        });
    }
    (merged, joined(&[left, right]))
}

/// NATURAL: the columns of equal names are one. Where not all names are known, any may be.
pub(super) fn natural(left: &[Arc<Items>], right: &[Arc<Items>]) -> (Vec<Item>, Items) {
    let (left, right) = (joined(left), joined(right));
    let vague = |items: &Items| {
        items.ragged || items.open.is_some() || items.list.iter().any(|i| i.name.is_none())
    };
    if vague(&left) || vague(&right) {
        let mut all = joined(&[left, right]);
        // A name of both sides is one column, and shows either's value.
        let mark = all.all();
        for item in &mut all.list {
            (item.mark, item.from) = (mark.clone(), None);
        }
        all.open = Some(mark);
        all.ragged = true;
        return (Vec::new(), all);
    }
    let names: Vec<Box<str>> = left.list.iter().filter_map(|i| i.name.clone()).collect();
    let common: Vec<_> = names
        .into_iter()
        .filter(|name| right.list.iter().any(|i| i.name.as_ref() == Some(name)))
        .collect();
    using(&[Arc::new(left)], &[Arc::new(right)], &common)
}

/// One after another.
fn joined<I: Borrow<Items>>(all: &[I]) -> Items {
    let mut joined = Items::default();
    for items in all.iter().map(I::borrow) {
        joined.list.extend(items.list.iter().cloned());
        joined.ragged |= items.ragged;
        if let Some(mark) = &items.open {
            joined.open = Some(joined.open.unwrap_or_default().or(mark));
        }
    }
    joined
}
