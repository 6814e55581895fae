//! Columns and what they may carry.

use crate::config::How;

/// How the values of a column are to be shown. Each includes what is said by the ones before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    #[default]
    Clean,
    /// The value of a masked column as it is: shown by that column's rule.
    Plain(How),
    /// Made of masked values, or not to be told: masked whole.
    Whole,
}

impl Mark {
    pub fn is_clean(&self) -> bool {
        *self == Self::Clean
    }

    /// What holds where the value may come from either.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Whole, _) | (_, Self::Whole) => Self::Whole,
            (one, Self::Clean) => one,
            (Self::Clean, other) => other.clone(),
            (Self::Plain(one), Self::Plain(two)) => Self::Plain(one.and(two)),
        }
    }

    /// What is made of such a value.
    #[must_use]
    pub fn computed(self) -> Self {
        match self {
            Self::Plain(_) => Self::Whole,
            mark => mark,
        }
    }
}

/// One column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// `None` if it may be any.
    pub name: Option<Box<str>>,
    pub mark: Mark,
    /// The relation and attribute that it shows as they are, where this is known.
    pub from: Option<(u32, i16)>,
}

/// The columns of something that rows come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    pub list: Vec<Item>,
    /// There may be more columns, of any name, of this kind.
    pub open: Option<Mark>,
    /// Neither their number nor their order is known.
    pub ragged: bool,
}

impl Items {
    /// Columns of which nothing is known but what they may carry.
    pub fn any(mark: Mark) -> Self {
        Self {
            list: Vec::new(),
            open: Some(mark),
            ragged: true,
        }
    }

    pub fn listed(list: Vec<Item>) -> Self {
        Self {
            list,
            open: None,
            ragged: false,
        }
    }

    /// What all of them together may carry.
    pub fn all(&self) -> Mark {
        let open = self.open.clone().unwrap_or_default();
        self.list.iter().fold(open, |all, item| all.or(&item.mark))
    }

    /// What a column of this name certainly is, and what it may be instead.
    pub(super) fn named(&self, name: &str) -> (Option<Item>, Option<Mark>) {
        let mut certain: Option<Item> = None;
        let mut perhaps = self.open.clone();
        for item in &self.list {
            match &item.name {
                Some(known) if **known == *name => {
                    certain = Some(match certain {
                        None => item.clone(),
                        Some(other) => Item {
                            mark: other.mark.or(&item.mark),
                            from: None,
                            name: other.name,
                        },
                    });
                }
                Some(_) => {}
                None => perhaps = Some(perhaps.unwrap_or_default().or(&item.mark)),
            }
        }
        (certain, perhaps)
    }

    /// What a column of this name is; `None` where there is none.
    pub fn mark_of(&self, name: &str) -> Option<Mark> {
        match self.named(name) {
            (Some(item), None) => Some(item.mark),
            (Some(item), Some(perhaps)) => Some(item.mark.or(&perhaps)),
            (None, perhaps) => perhaps,
        }
    }

    /// The same columns, the first of them under other names.
    #[must_use]
    pub(super) fn renamed(mut self, names: &[Box<str>]) -> Self {
        if names.is_empty() {
            return self;
        }
        if self.ragged || names.len() > self.list.len() {
            // Which column gets which name is not known.
            let all = self.all();
            let list = names.iter().map(|name| Item {
                name: Some(name.clone()),
                mark: all.clone(),
                from: None,
            });
            return Self {
                list: list.collect(),
                open: Some(all.clone()),
                ragged: true,
            };
        }
        for (item, name) in self.list.iter_mut().zip(names) {
            item.name = Some(name.clone());
        }
        self
    }

    /// Columns that are those of one of these, it is not known which.
    pub fn one_of(mut candidates: Vec<Self>) -> Self {
        if candidates.len() == 1 {
            return candidates.pop().unwrap_or_default();
        }
        let mut known: Vec<Item> = Vec::new();
        let mut open: Option<Mark> = None;
        for candidate in candidates {
            if let Some(mark) = candidate.open {
                open = Some(open.unwrap_or_default().or(&mark));
            }
            for item in candidate.list {
                let same = |k: &&mut Item| k.name.is_some() && k.name == item.name;
                match known.iter_mut().find(same) {
                    Some(known) => {
                        known.mark = std::mem::take(&mut known.mark).or(&item.mark);
                        known.from = None;
                    }
                    None => known.push(Item { from: None, ..item }),
                }
            }
        }
        Self {
            list: known,
            open,
            ragged: true,
        }
    }
}

/// The columns of a result, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output(pub Vec<Piece>);

/// A part of a result's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    One(Item),
    /// As many as there are: `*` of what is not known in full.
    Many(Items),
}

impl Output {
    pub(super) fn of(items: Items) -> Self {
        match items.ragged {
            true => Self(vec![Piece::Many(items)]),
            false => Self(items.list.into_iter().map(Piece::One).collect()),
        }
    }

    /// Whether each column is known by itself.
    pub(super) fn is_listed(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::One(_)))
    }

    /// What all of them together may carry.
    pub fn all(&self) -> Mark {
        self.0.iter().fold(Mark::Clean, |all, piece| match piece {
            Piece::One(item) => all.or(&item.mark),
            Piece::Many(items) => all.or(&items.all()),
        })
    }

    /// The same as columns of something to select from.
    pub(super) fn into_items(self) -> Items {
        let mut items = Items::default();
        for piece in self.0 {
            match piece {
                Piece::One(item) => items.list.push(item),
                Piece::Many(many) => {
                    items.ragged = true;
                    items.list.extend(many.list);
                    if let Some(mark) = many.open {
                        items.open = Some(items.open.unwrap_or_default().or(&mark));
                    }
                }
            }
        }
        items
    }

    /// For each of `count` columns what it is. `label` is what the server calls a column, where that
    /// is known. `None` where the result is not of this shape.
    pub fn align<'l>(
        &self,
        count: usize,
        label: impl Fn(usize) -> Option<&'l str>,
    ) -> Option<Vec<Item>> {
        let ones = self.0.iter().filter(|p| matches!(p, Piece::One(_))).count();
        let many = self.0.len() - ones;
        let rest = count.checked_sub(ones)?;
        if many == 0 && rest > 0 {
            return None;
        }
        if many > 1 {
            let mark = self.all();
            let item = Item {
                mark,
                ..Item::default()
            };
            return Some(vec![item; count]);
        }
        let mut aligned = Vec::with_capacity(count);
        for piece in &self.0 {
            match piece {
                Piece::One(item) => {
                    let differs = |label| item.name.as_deref().is_some_and(|name| name != label);
                    if label(aligned.len()).is_some_and(differs) {
                        return None;
                    }
                    aligned.push(item.clone());
                }
                Piece::Many(items) => {
                    for _ in 0..rest {
                        let mark = match label(aligned.len()) {
                            Some(label) => items.mark_of(label)?,
                            None => items.all(),
                        };
                        aligned.push(Item {
                            mark,
                            ..Item::default()
                        });
                    }
                }
            }
        }
        Some(aligned)
    }
}
