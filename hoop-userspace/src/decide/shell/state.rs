//! What is known of a shell at one point of a text: variables, folder, functions.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::environment;
use super::field::{Piece, Scalar, known};

/// What a variable may hold. Never empty.
pub(super) type Value = Vec<Scalar>;

/// Values of one variable that are told apart.
const ALTERNATIVES: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Shared with the states that it was copied from: a text may hold thousands of copies.
    pub variables: Rc<BTreeMap<String, Rc<Value>>>,
    /// Names that may be arrays: what `declare` gives to these is expanded once more.
    pub arrays: Rc<BTreeSet<String>>,
    /// The folder that relative paths begin at.
    pub folder: Value,
    /// `$1` and on; `None` if not known.
    pub positional: Option<Vec<Scalar>>,
    /// Functions that are defined whichever way was taken to here.
    pub certain: BTreeSet<String>,
    /// Programs are given a variable that is not known to be harmless.
    pub exports: bool,
    /// Nothing comes to here for certain: `exit` was before, in this shell, and cannot have failed.
    pub dead: bool,
}

pub(super) fn unknown() -> Value {
    vec![vec![Piece::Unknown]]
}

impl State {
    /// As a shell starts, with these arguments.
    pub(super) fn fresh(positional: Option<Vec<Scalar>>) -> Self {
        Self {
            folder: vec![vec![Piece::Home(String::new())]],
            positional,
            ..Self::default()
        }
    }

    pub(super) fn variable(&self, name: &str) -> Rc<Value> {
        match self.variables.get(name) {
            Some(_) if environment::is_volatile(name) => unknown().into(),
            Some(value) => value.clone(),
            None => self.unset(name).into(),
        }
    }

    /// What a variable holds that the text has not set.
    fn unset(&self, name: &str) -> Value {
        match name {
            "HOME" => vec![vec![Piece::Home(String::new())]],
            "PWD" => self.folder.clone(),
            "IFS" => vec![vec![Piece::Text(" \t\n".into())]],
            "?" | "$" | "!" | "#" | "PPID" | "UID" | "EUID" | "RANDOM" | "SECONDS" | "LINENO"
            | "OPTIND" | "EPOCHSECONDS" => vec![vec![Piece::Number]],
            _ => match name.parse::<usize>() {
                Ok(0) | Err(_) => unknown(),
                Ok(at) => match &self.positional {
                    None => unknown(),
                    Some(all) => vec![all.get(at - 1).cloned().unwrap_or_default()],
                },
            },
        }
    }

    pub(super) fn assign(&mut self, name: &str, value: Value) {
        let value = bounded(value).into();
        Rc::make_mut(&mut self.variables).insert(name.to_owned(), value);
    }

    /// The same for what is, or may be, an array: its elements are not followed.
    pub(super) fn assign_array(&mut self, name: &str) {
        self.assign(name, unknown());
        if !self.arrays.contains(name) {
            Rc::make_mut(&mut self.arrays).insert(name.to_owned());
        }
    }

    /// What holds when either of two ways was taken.
    pub(super) fn join(self, other: Self) -> Self {
        // Of two ways that nothing comes along neither is left out: should one be taken after all,
        // what it holds counts.
        match (self.dead, other.dead) {
            (true, false) => return other,
            (false, true) => return self,
            _ => {}
        }
        Self {
            variables: self.joined(&other),
            arrays: match Rc::ptr_eq(&self.arrays, &other.arrays) {
                true => self.arrays.clone(),
                false => Rc::new(self.arrays.union(&other.arrays).cloned().collect()),
            },
            folder: either(self.folder.clone(), &other.folder),
            positional: match self.positional == other.positional {
                true => self.positional.clone(),
                false => None,
            },
            certain: self.certain.intersection(&other.certain).cloned().collect(),
            exports: self.exports || other.exports,
            dead: self.dead && other.dead,
        }
    }

    fn joined(&self, other: &Self) -> Rc<BTreeMap<String, Rc<Value>>> {
        if Rc::ptr_eq(&self.variables, &other.variables) {
            return self.variables.clone();
        }
        let keys = self.variables.keys().chain(other.variables.keys());
        let names: BTreeSet<_> = keys.collect();
        let variables = names.into_iter().map(|name| {
            let (one, two) = (self.variable(name), other.variable(name));
            let both = match Rc::ptr_eq(&one, &two) {
                true => one,
                false => either((*one).clone(), &two).into(),
            };
            (name.clone(), both)
        });
        Rc::new(variables.collect())
    }

    /// Gives up on whatever differs from before: a loop may change it again and again.
    pub(super) fn widen(&mut self, before: &Self) {
        let changed: Vec<_> = self
            .variables
            .keys()
            .filter(|name| before.variable(name) != self.variable(name))
            .cloned()
            .collect();
        for name in changed {
            let numeric = self.variable(&name).iter().all(|scalar| is_number(scalar));
            let value = match numeric {
                true => vec![vec![Piece::Number]],
                false => unknown(),
            };
            self.assign(&name, value);
        }
        if self.folder != before.folder {
            self.folder = unknown();
        }
    }
}

pub(super) fn is_number(scalar: &[Piece]) -> bool {
    match scalar {
        [Piece::Number] => true,
        _ => known(scalar).is_some_and(|text| {
            !text.is_empty() && text.len() < 19 && text.chars().all(|c| c.is_ascii_digit())
        }),
    }
}

fn either(mut one: Value, other: &Value) -> Value {
    for scalar in other {
        if !one.contains(scalar) {
            one.push(scalar.clone());
        }
    }
    bounded(one)
}

fn bounded(value: Value) -> Value {
    match value.len() {
        0 => unknown(),
        1..=ALTERNATIVES => value,
        _ if value.iter().all(|scalar| is_number(scalar)) => vec![vec![Piece::Number]],
        _ => unknown(),
    }
}
