//! The table's form, and how a program reads its options.

use std::collections::HashMap;

use crate::decide::shell::facts::{FileVerb, ShellFlag};
use crate::decide::shell::field::{Field, Likeness};

/// What one program does with its arguments.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub operands: Operands,
    pub options: HashMap<String, Opt>,
    /// Options that are not listed only read or print.
    pub any: bool,
    /// `-5` is a number.
    pub numbers: bool,
    /// It starts a pager where there is a terminal.
    pub pages: bool,
    /// Folders are read with all below them, whatever the options.
    pub recursive: bool,
    pub flags: Vec<ShellFlag>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operands {
    None,
    /// What the first and each other are; `None` is text.
    First(Option<FileVerb>, Option<FileVerb>),
    Last(FileVerb, FileVerb),
    Subcommand,
    /// So many of its own, then a command.
    Wraps(usize),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Opt {
    pub argument: Argument,
    pub effects: Vec<Effect>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Argument {
    #[default]
    None,
    /// The rest of the word, or the next one.
    Required,
    /// Only together with it.
    Attached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    File(FileVerb),
    Flag(ShellFlag),
    Recursive,
    /// Its value says what becomes of folders: `-d recurse`.
    Folders,
    /// It gives what the first operand would.
    Pattern,
}

/// Arguments, taken apart.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub operands: Vec<Field>,
    /// By the name that was written: `-n`, `--lines`.
    pub options: Vec<(String, Vec<Effect>, Option<Field>)>,
    /// How many operands stand before each option.
    pub before: Vec<usize>,
    /// An option that the table does not list.
    pub unlisted: Option<String>,
    /// What is not listed may be short for an option that is: `--out=x`.
    pub short_for: bool,
    /// An argument is not known and may be an option.
    pub perhaps: bool,
}

impl Taken {
    pub(super) fn has(&self, is: impl Fn(&Effect) -> bool) -> bool {
        self.options
            .iter()
            .any(|(_, effects, _)| effects.iter().any(&is))
    }

    pub(super) fn named(&self, names: &[&str]) -> bool {
        self.options
            .iter()
            .any(|(name, _, _)| names.contains(&&**name))
    }

    /// Whether folders are read with all below them.
    pub(super) fn recursive(&self) -> bool {
        let recurses = |value: &Option<Field>| {
            let known = value.as_ref().and_then(Field::known);
            !matches!(known.as_deref(), Some("read" | "skip"))
        };
        self.options.iter().any(|(_, effects, value)| {
            effects.contains(&Effect::Recursive)
                || effects.contains(&Effect::Folders) && recurses(value)
        })
    }

    /// The last value of an option.
    pub(super) fn value(&self, names: &[&str]) -> Option<&Field> {
        let named = self
            .options
            .iter()
            .rev()
            .find(|(name, _, _)| names.contains(&&**name));
        named.and_then(|(_, _, value)| value.as_ref())
    }
}

impl Spec {
    /// Whether no option whatever does more than read.
    pub(super) fn is_harmless(&self) -> bool {
        let plain = |option: &Opt| {
            let quiet = |effect: &Effect| {
                matches!(
                    effect,
                    Effect::Recursive | Effect::Folders | Effect::Pattern
                )
            };
            option.effects.iter().all(quiet)
        };
        self.any && self.options.values().all(plain)
    }

    /// Takes arguments apart. With `mixed` options may follow operands.
    pub(super) fn take(&self, arguments: &[Field], mixed: bool) -> Taken {
        let mut taken = Taken::default();
        let mut rest = arguments.iter();
        while let Some(field) = rest.next() {
            let likeness = field.option();
            let dash = field.known().is_some_and(|text| text == "-");
            if likeness != Likeness::Yes || dash {
                taken.perhaps |= likeness == Likeness::Perhaps;
                taken.operands.push(field.clone());
                if !mixed {
                    break;
                }
                continue;
            }
            if field.known().is_some_and(|text| text == "--") {
                break;
            }
            if field.many {
                taken.perhaps = true;
            }
            match field.prefix().starts_with("--") {
                true => self.long(field, &mut rest, &mut taken),
                false => self.short(field, &mut rest, &mut taken),
            }
            let before = taken.operands.len();
            taken.before.resize(taken.options.len(), before);
        }
        taken.operands.extend(rest.cloned());
        taken
    }

    fn long<'f>(
        &self,
        field: &Field,
        rest: &mut impl Iterator<Item = &'f Field>,
        taken: &mut Taken,
    ) {
        let prefix = field.prefix();
        let (name, attached) = match prefix.split_once('=') {
            Some((name, _)) => (name, Some(field.after(name.len() + 1))),
            None => {
                taken.perhaps |= field.known().is_none();
                (prefix, None)
            }
        };
        let Some(option) = self.options.get(name) else {
            taken.short_for |= self.options.keys().any(|known| known.starts_with(name));
            taken.unlisted.get_or_insert_with(|| name.to_owned());
            return;
        };
        let value = match (option.argument, attached) {
            (Argument::None, Some(_)) => {
                taken.unlisted.get_or_insert_with(|| name.to_owned());
                return;
            }
            (Argument::Required, None) => self.next(rest, taken),
            (_, attached) => attached,
        };
        taken
            .options
            .push((name.to_owned(), option.effects.clone(), value));
    }

    fn next<'f>(
        &self,
        rest: &mut impl Iterator<Item = &'f Field>,
        taken: &mut Taken,
    ) -> Option<Field> {
        let next = rest.next().cloned();
        taken.perhaps |= next.as_ref().is_some_and(|field| field.many);
        next
    }

    fn short<'f>(
        &self,
        field: &Field,
        rest: &mut impl Iterator<Item = &'f Field>,
        taken: &mut Taken,
    ) {
        let prefix = field.prefix();
        let letters = prefix.get(1..).unwrap_or_default();
        if self.numbers && field.known().is_some() && letters.chars().all(|c| c.is_ascii_digit()) {
            return;
        }
        // Some programs have long options with one dash.
        if let Some(option) = self.options.get(prefix).filter(|_| letters.len() > 1) {
            let value = match option.argument {
                Argument::Required => self.next(rest, taken),
                _ => None,
            };
            taken
                .options
                .push((prefix.to_owned(), option.effects.clone(), value));
            return;
        }
        for (at, letter) in letters.char_indices() {
            let name = format!("-{letter}");
            let Some(option) = self.options.get(&name) else {
                taken.unlisted.get_or_insert(name);
                continue;
            };
            let after = 1 + at + letter.len_utf8();
            let attached = field.after(after);
            let attached = (after < prefix.len() || field.pieces.len() > 1).then_some(attached);
            let value = match option.argument {
                Argument::None => None,
                Argument::Attached => attached,
                Argument::Required => match attached {
                    Some(attached) => Some(attached),
                    None => self.next(rest, taken),
                },
            };
            taken.options.push((name, option.effects.clone(), value));
            if option.argument != Argument::None {
                return;
            }
        }
        // The word goes on with what is not known: more letters.
        taken.perhaps |= field.known().is_none();
    }
}

/// Reads the table. What is wrong with it the tests find: a name that is there twice, for one.
pub(super) fn table(text: &str) -> Vec<(String, Spec)> {
    let mut specs = Vec::new();
    let mut entry = String::new();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for line in lines.chain(std::iter::once("")) {
        if line.starts_with(' ') {
            entry.push(' ');
            entry.push_str(line);
            continue;
        }
        add(&entry, &mut specs);
        entry = line.to_owned();
    }
    specs
}

fn add(entry: &str, specs: &mut Vec<(String, Spec)>) {
    let words: Vec<_> = entry.split_whitespace().collect();
    // Names hold spaces where they name subcommands: the operands' word ends them.
    let Some(at) = words.iter().position(|word| operands(word).is_some()) else {
        return;
    };
    let (names, rest) = words.split_at(at);
    let mut rest = rest.iter();
    let Some(operands) = rest.next().and_then(|word| operands(word)) else {
        return;
    };
    let mut spec = Spec {
        operands,
        options: HashMap::new(),
        any: false,
        numbers: false,
        pages: false,
        recursive: false,
        flags: Vec::new(),
    };
    for word in rest {
        spec.option(word);
    }
    for name in names.join(" ").split(',') {
        specs.push((name.trim().to_owned(), spec.clone()));
    }
}

fn operands(word: &str) -> Option<Operands> {
    let kind = |word: &str| match word {
        "text" => Some(None),
        word => verb(word).map(Some),
    };
    if let Some(number) = word.strip_prefix("wrap") {
        return number.parse().ok().map(Operands::Wraps);
    }
    match word {
        "none" => return Some(Operands::None),
        "sub" => return Some(Operands::Subcommand),
        _ => {}
    }
    if let Some((first, rest)) = word.split_once(',') {
        return Some(Operands::First(kind(first)?, kind(rest)?));
    }
    if let Some((rest, last)) = word.split_once('*') {
        return Some(Operands::Last(verb(rest)?, verb(last)?));
    }
    kind(word).map(|kind| Operands::First(kind, kind))
}

fn verb(word: &str) -> Option<FileVerb> {
    Some(match word {
        "list" => FileVerb::List,
        "read" => FileVerb::Read,
        "create" => FileVerb::Create,
        "append" => FileVerb::Append,
        "change" => FileVerb::Change,
        "write" => FileVerb::Write,
        "delete" => FileVerb::Delete,
        "execute" => FileVerb::Execute,
        _ => return None,
    })
}

impl Spec {
    fn option(&mut self, word: &str) {
        match word {
            "any" => self.any = true,
            "#" => self.numbers = true,
            "pages" => self.pages = true,
            "recursive" => self.recursive = true,
            _ => {
                if let Some(flag) = word.strip_prefix(['+', '!']) {
                    self.flags.extend(ShellFlag::by_name(flag));
                    return;
                }
                self.dashed(word);
            }
        }
    }

    fn dashed(&mut self, word: &str) {
        let (word, flag) = match word.split_once('!') {
            Some((word, flag)) => (word, Some(flag)),
            None => (word, None),
        };
        let mut effects: Vec<Effect> = Vec::new();
        effects.extend(flag.and_then(|flag| match flag {
            "recursive" => Some(Effect::Recursive),
            flag => ShellFlag::by_name(flag).map(Effect::Flag),
        }));
        if word.starts_with("--") {
            let (name, argument, more) = argument(word);
            effects.extend(more);
            self.add(name, argument, &effects);
            return;
        }
        // `-abc` are three, and each may take something: `-ab:c`.
        let letters = word.get(1..).unwrap_or_default();
        let single = letters.len() > 2
            && !letters.contains([':', '?'])
            && matches!(
                word,
                "-br" | "-brief" | "-json" | "-details" | "-statistics" | "-oneline" | "-ps"
            );
        if single || word == "-br" || word == "-ps" || word.starts_with("-family") {
            let (name, argument, more) = argument(word);
            effects.extend(more);
            self.add(name, argument, &effects);
            return;
        }
        let mut letters = letters.chars().peekable();
        while let Some(letter) = letters.next() {
            let name = format!("-{letter}");
            let mut mine = effects.clone();
            let argument = match letters.peek() {
                Some('?') => {
                    letters.next();
                    Argument::Attached
                }
                Some(':') => {
                    letters.next();
                    // A verb takes the rest of the word; a letter is the next option.
                    let tail: String = letters.clone().collect();
                    if let Some(effect) = effect(&tail) {
                        mine.push(effect);
                        letters = "".chars().peekable();
                    }
                    Argument::Required
                }
                _ => Argument::None,
            };
            self.add(&name, argument, &mine);
        }
    }

    fn add(&mut self, name: &str, argument: Argument, effects: &[Effect]) {
        let option = self.options.entry(name.to_owned()).or_default();
        option.argument = argument;
        option.effects.extend(effects);
    }
}

fn argument(word: &str) -> (&str, Argument, Option<Effect>) {
    if let Some(name) = word.strip_suffix('?') {
        return (name, Argument::Attached, None);
    }
    match word.split_once(':') {
        Some((name, tail)) => (name, Argument::Required, effect(tail)),
        None => (word, Argument::None, None),
    }
}

fn effect(tail: &str) -> Option<Effect> {
    match tail {
        "pattern" => Some(Effect::Pattern),
        "folders" => Some(Effect::Folders),
        tail => verb(tail).map(Effect::File),
    }
}
