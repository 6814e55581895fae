//! From words to arguments: braces, tildes, variables, substitutions, splitting, patterns.

use std::collections::BTreeMap;

use super::braces::{bare, braces};
use super::field::{Field, Piece, Scalar, known, push};
use super::state::{Value, is_number, unknown};
use super::syntax::{Operation, Part, Variable, Word};
use super::walk::{Dark, Walk};

/// Arguments of one command.
const MOST_FIELDS: usize = 1024;
/// Bytes of what one word becomes: Linux takes no longer argument.
const LONGEST: usize = 128 << 10;
/// Ways to choose among the values of a command's variables.
const MOST_CHOICES: usize = 32;

/// One value for each variable that has several.
pub(super) type Choice = BTreeMap<String, Scalar>;

impl Walk<'_> {
    /// Every way to choose among the values of the variables in `words`; with too many, none is
    /// chosen, and such variables are unknown.
    pub(super) fn choices<'w>(&self, words: impl Iterator<Item = &'w Word>) -> Vec<Choice> {
        let mut choices = vec![Choice::new()];
        let mut names = Vec::new();
        for word in words {
            variables(word, &mut names);
        }
        names.sort();
        names.dedup();
        for name in names {
            let values = self.state.variable(&name);
            if values.len() < 2 {
                continue;
            }
            if choices.len() * values.len() > MOST_CHOICES {
                return vec![Choice::new()];
            }
            let one = |choice: &Choice| {
                let choice = choice.clone();
                let name = name.clone();
                values.iter().cloned().map(move |value| {
                    let mut choice = choice.clone();
                    choice.insert(name.clone(), value);
                    choice
                })
            };
            choices = choices.iter().flat_map(one).collect();
        }
        choices
    }

    /// The arguments that the words become.
    pub(super) fn fields(&mut self, words: &[Word], choice: &Choice) -> Result<Vec<Field>, Dark> {
        let mut fields = Vec::new();
        for word in words {
            // The test, not the beginning of a pattern.
            if word.bare() == Some("[") {
                fields.push(Field::text("["));
                continue;
            }
            for parts in braces(&word.0)? {
                let mut builder = Builder::new(true);
                self.parts(&parts, choice, &mut builder)?;
                fields.extend(self.finish(builder)?);
            }
            if fields.len() > MOST_FIELDS {
                return Err(Dark("it has too many arguments"));
            }
        }
        Ok(fields)
    }

    /// One value, without splitting and patterns: what an assignment stores.
    pub(super) fn scalar(&mut self, word: &Word, choice: &Choice) -> Result<Scalar, Dark> {
        let mut builder = Builder::new(false);
        self.parts(&word.0, choice, &mut builder)?;
        let field = self.finish(builder)?.into_iter().next().unwrap_or_default();
        Ok(field.pieces)
    }

    fn finish(&self, builder: Builder) -> Result<Vec<Field>, Dark> {
        if builder.size > LONGEST || builder.done.len() > MOST_FIELDS {
            return Err(Dark("it becomes too long"));
        }
        self.spend_bytes(builder.size)?;
        Ok(builder.finish())
    }

    /// Every value that the word may have.
    pub(super) fn value(&mut self, word: &Word) -> Result<Value, Dark> {
        let mut value = Value::new();
        for choice in self.choices(std::iter::once(word)) {
            let scalar = self.scalar(word, &choice)?;
            if !value.contains(&scalar) {
                value.push(scalar);
            }
        }
        Ok(value)
    }

    fn parts(&mut self, parts: &[Part], choice: &Choice, to: &mut Builder) -> Result<(), Dark> {
        for (at, part) in parts.iter().enumerate() {
            match part {
                Part::Bare(text) => {
                    let last = at + 1 == parts.len();
                    let text = match at {
                        0 => self.tilde(text, last, to),
                        _ => text,
                    };
                    if text.contains("=~") || (!to.splits && text.contains(":~")) {
                        return Err(Dark("a tilde stands where not all shells see it"));
                    }
                    // Another shell makes a program's path of it.
                    if at == 0 && text.starts_with('=') && text.len() > 1 && to.splits {
                        return Err(Dark("a word begins with ="));
                    }
                    to.bare(text);
                }
                Part::Quoted(text) => to.quoted(text),
                Part::Variable(variable) => self.part_variable(variable, choice, to)?,
                Part::Substitution { list, quoted } => {
                    self.substitution(list)?;
                    to.unknown(!quoted);
                }
                Part::Arithmetic { expression } => {
                    self.arithmetic(expression)?;
                    to.add(Piece::Number);
                }
                Part::Process(list) => {
                    self.substitution(list)?;
                    // A descriptor of the shell's own.
                    to.add(Piece::Text("/dev/fd/".into()));
                    to.add(Piece::Pipe);
                }
            }
        }
        Ok(())
    }

    fn part_variable(
        &mut self,
        variable: &Variable,
        choice: &Choice,
        to: &mut Builder,
    ) -> Result<(), Dark> {
        let Variable {
            name,
            operation,
            operand,
            quoted,
            open: _,
        } = variable;
        if matches!(&**name, "@" | "*") {
            return self.all_positional(name == "@", variable, choice, to);
        }
        let mut value = self.one(name, choice);
        match operation {
            Operation::None => {}
            Operation::OrFail => {
                self.scalar(operand, choice)?;
            }
            Operation::Other => {
                self.scalar(operand, choice)?;
                value = vec![Piece::Unknown];
            }
            Operation::Elements => {
                self.scalar(operand, choice)?;
                to.unknown(true);
                return Ok(());
            }
            Operation::Default { assign } => {
                if *assign && operand.0.is_empty() {
                    return Err(Dark("a variable is given a value in an unusual way"));
                }
                match known(&value) {
                    Some(text) if !text.is_empty() && !assign => {
                        self.scalar(operand, choice)?;
                    }
                    Some(text) if text.is_empty() && !assign => {
                        return self.instead(operand, *quoted, choice, to);
                    }
                    _ => {
                        self.scalar(operand, choice)?;
                        value = vec![Piece::Unknown];
                        if *assign {
                            self.influence(name, &unknown())?;
                            self.assign(name, unknown());
                        }
                    }
                }
            }
            Operation::IfSet { assign } => {
                self.scalar(operand, choice)?;
                value = vec![Piece::Unknown];
                if *assign {
                    self.influence(name, &unknown())?;
                    self.assign(name, unknown());
                }
            }
            Operation::Instead => {
                self.scalar(operand, choice)?;
                value = match known(&value) {
                    Some(text) if text.is_empty() => Vec::new(),
                    _ => vec![Piece::Unknown],
                };
            }
        }
        to.value(&value, *quoted);
        Ok(())
    }

    /// The word that stands in for a value: it is split as a value is.
    fn instead(
        &mut self,
        word: &Word,
        quoted: bool,
        choice: &Choice,
        to: &mut Builder,
    ) -> Result<(), Dark> {
        for (at, part) in word.0.iter().enumerate() {
            match part {
                Part::Bare(text) if quoted => to.quoted(text),
                Part::Bare(text) => {
                    let text = match at {
                        0 => self.tilde(text, word.0.len() == 1, to),
                        _ => text,
                    };
                    to.value(&[Piece::Text(text.to_owned())], false);
                }
                part => self.parts(std::slice::from_ref(part), choice, to)?,
            }
        }
        if quoted {
            to.quoted("");
        }
        Ok(())
    }

    /// A variable's only value, or the chosen one.
    fn one(&self, name: &str, choice: &Choice) -> Scalar {
        if let Some(scalar) = choice.get(name) {
            return scalar.clone();
        }
        match self.state.variable(name).as_slice() {
            [scalar] => scalar.clone(),
            _ => vec![Piece::Unknown],
        }
    }

    /// `$@` and `$*`
    fn all_positional(
        &mut self,
        apart: bool,
        variable: &Variable,
        choice: &Choice,
        to: &mut Builder,
    ) -> Result<(), Dark> {
        if variable.operation != Operation::None {
            self.scalar(&variable.operand, choice)?;
            to.unknown(true);
            return Ok(());
        }
        let Some(all) = self.state.positional.clone() else {
            to.unknown(apart || !variable.quoted);
            return Ok(());
        };
        if !apart && variable.quoted {
            for (at, value) in all.iter().enumerate() {
                if at > 0 {
                    to.quoted(" ");
                }
                to.value(value, true);
            }
            to.quoted("");
            return Ok(());
        }
        for (at, value) in all.iter().enumerate() {
            if at > 0 {
                to.split();
            }
            to.value(value, variable.quoted);
            if variable.quoted {
                to.quoted("");
            }
        }
        Ok(())
    }

    /// Takes a leading tilde, and returns what is after it.
    fn tilde<'t>(&self, text: &'t str, last: bool, to: &mut Builder) -> &'t str {
        let Some(after) = text.strip_prefix('~') else {
            return text;
        };
        let end = after.find('/');
        // With quotes or a variable in the name it is no name.
        if end.is_none() && !last {
            return text;
        }
        let (user, rest) = after.split_at(end.unwrap_or(after.len()));
        let plain = user
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        // To zsh `~x` is the folder that x holds.
        let variable = self.state.variables.contains_key(user)
            || user.starts_with(|c: char| c.is_ascii_uppercase());
        match plain && !variable {
            true => to.add(Piece::Home(user.to_owned())),
            // `~+`, `~-` and what other shells know.
            false => to.add(Piece::Unknown),
        }
        rest
    }

    /// Arithmetic runs what variables hold (`a[$(rm x)]`), so that all of them must be numbers.
    pub(super) fn arithmetic(&mut self, expression: &Word) -> Result<(), Dark> {
        const COMPUTED: Dark = Dark("arithmetic is done with what is no number for certain");
        let mut assigned = Vec::new();
        for part in &expression.0 {
            match part {
                Part::Bare(text) => {
                    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                    for word in words.filter(|word| word.starts_with(|c: char| !c.is_ascii_digit()))
                    {
                        if text.contains(['=', '+', '-'])
                            && !self.state.variables.contains_key(word)
                        {
                            // `i++` on what was never set: it may come from the environment.
                            assigned.push(word.to_owned());
                        } else if !self.state.variable(word).iter().all(|v| is_number(v)) {
                            return Err(COMPUTED);
                        } else if text.contains(['=', '+', '-']) {
                            assigned.push(word.to_owned());
                        }
                    }
                }
                Part::Variable(variable) => {
                    let numeric = self
                        .state
                        .variable(&variable.name)
                        .iter()
                        .all(|v| is_number(v));
                    if variable.operation != Operation::None || !numeric {
                        return Err(COMPUTED);
                    }
                }
                Part::Arithmetic { expression } => self.arithmetic(&expression.clone())?,
                _ => return Err(COMPUTED),
            }
        }
        for name in assigned {
            self.influence(&name, &[vec![Piece::Number]])?;
            let plain = self.state.variables.contains_key(&name);
            if !plain {
                // Only what is first set here, as in `for ((i = 0; …`, is a number for certain.
                let text: String = expression.0.iter().filter_map(bare).collect();
                let first = text.replace(' ', "");
                if !first.starts_with(&format!("{name}="))
                    || first.starts_with(&format!("{name}=="))
                {
                    return Err(COMPUTED);
                }
            }
            self.assign(&name, vec![vec![Piece::Number]]);
        }
        Ok(())
    }
}

/// Variables whose values the word's depend on.
fn variables(word: &Word, names: &mut Vec<String>) {
    for part in &word.0 {
        if let Part::Variable(variable) = part {
            names.push(variable.name.clone());
            variables(&variable.operand, names);
        }
    }
}

/// Fields in the making.
struct Builder {
    splits: bool,
    done: Vec<Field>,
    current: Field,
    /// The current field stands even if it is empty.
    open: bool,
    /// Bytes added, and one for each piece; past [`LONGEST`] nothing is.
    size: usize,
}

impl Builder {
    fn new(splits: bool) -> Self {
        Self {
            splits,
            done: Vec::new(),
            current: Field::default(),
            open: false,
            size: 0,
        }
    }

    fn add(&mut self, piece: Piece) {
        self.open = true;
        self.size += 1 + match &piece {
            Piece::Text(text) | Piece::Glob(text) | Piece::Home(text) => text.len(),
            Piece::Number | Piece::Pipe | Piece::Below | Piece::Unknown => 0,
        };
        if self.size > LONGEST {
            return;
        }
        push(&mut self.current.pieces, piece);
    }

    fn quoted(&mut self, text: &str) {
        self.open = true;
        if !text.is_empty() {
            self.add(Piece::Text(text.to_owned()));
        }
    }

    /// Text whose patterns count.
    fn bare(&mut self, text: &str) {
        if !self.splits {
            return self.quoted(text);
        }
        let mut rest = text;
        let mut closed = true;
        while let Some(at) = rest.find(['*', '?', '[']) {
            let (before, from) = rest.split_at(at);
            if !before.is_empty() {
                self.quoted(before);
            }
            // A class ends at its bracket; without one the bracket is plain.
            let length = match from.starts_with('[') {
                // Where none closes one, none closes the next.
                true if !closed => None,
                true => {
                    let end = from.get(2..).and_then(|inside| inside.find(']'));
                    closed = end.is_some();
                    end.map(|end| end + 3)
                }
                false => Some(1),
            };
            let (pattern, after) = from.split_at(length.unwrap_or(1));
            // `[[:alpha:]]` and `[!]x]` end at a later bracket than the first.
            let inside = pattern.get(1..).unwrap_or_default();
            if inside.contains('[') || matches!(inside, "!]" | "^]") {
                self.unknown(true);
                return;
            }
            match length {
                Some(length) => {
                    self.add(Piece::Glob(pattern.to_owned()));
                    // `[n]ginx` is one name, if any.
                    self.current.many |= length != 3;
                }
                // It may end in what follows.
                None => {
                    self.add(Piece::Unknown);
                    self.current.many = true;
                }
            }
            rest = after;
        }
        if !rest.is_empty() {
            self.quoted(rest);
        }
    }

    fn unknown(&mut self, many: bool) {
        self.add(Piece::Unknown);
        self.current.many |= many && self.splits;
    }

    /// A variable's value.
    fn value(&mut self, value: &[Piece], quoted: bool) {
        if quoted || !self.splits {
            for piece in value {
                self.add(piece.clone());
            }
            if quoted {
                self.open = true;
            }
            return;
        }
        for piece in value {
            match piece {
                Piece::Text(text) => {
                    let mut words = text.split([' ', '\t', '\n']);
                    if let Some(first) = words.next()
                        && !first.is_empty()
                    {
                        self.bare(first);
                    }
                    for word in words {
                        self.split();
                        if !word.is_empty() {
                            self.bare(word);
                        }
                    }
                }
                Piece::Number | Piece::Pipe | Piece::Home(_) => self.add(piece.clone()),
                // Names that a pattern found may hold spaces.
                Piece::Unknown | Piece::Glob(_) | Piece::Below => self.unknown(true),
            }
        }
    }

    fn split(&mut self) {
        if self.open && self.done.len() <= MOST_FIELDS {
            self.done.push(std::mem::take(&mut self.current));
        }
        self.open = false;
    }

    fn finish(mut self) -> Vec<Field> {
        self.split();
        self.done
    }
}
