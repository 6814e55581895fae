//! Redirections: files, descriptors, here-documents.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::expand::Choice;
use super::facts::{FileVerb, ShellFlag, Stdin};
use super::field::{Field, Piece, known};
use super::paths::ANY;
use super::state::is_number;
use super::syntax::{Redirect, RedirectKind, Word};
use super::walk::{Dark, Run, Walk};

impl Walk<'_> {
    pub(super) fn redirects(
        &mut self,
        redirects: &[Redirect],
        choice: &Choice,
        run: &mut Run,
    ) -> Result<(), Dark> {
        let mut inputs = 0;
        for redirect in redirects {
            self.redirect(redirect, choice, run)?;
            inputs += usize::from(is_input(redirect));
        }
        // Of several most shells take the last, zsh all.
        if inputs > 1 {
            self.around.input = None;
        }
        Ok(())
    }

    fn redirect(
        &mut self,
        redirect: &Redirect,
        choice: &Choice,
        run: &mut Run,
    ) -> Result<(), Dark> {
        let input = is_input(redirect);
        if input {
            (self.around.stdin, self.around.input) = (Stdin::File, None);
        }
        let verbs: &[FileVerb] = match &redirect.kind {
            RedirectKind::Here(text) => {
                let word = text
                    .get()
                    .ok_or(Dark("a here-document has no text"))?
                    .clone();
                let scalar = self.scalar(&word, choice)?;
                if input {
                    self.around.stdin = Stdin::Text;
                    self.around.input = known(&scalar);
                }
                return Ok(());
            }
            RedirectKind::HereString => {
                let scalar = self.scalar(&redirect.target, choice)?;
                if input {
                    self.around.stdin = Stdin::Text;
                    self.around.input = known(&scalar).map(|text| text + "\n");
                }
                return Ok(());
            }
            RedirectKind::Duplicate { output } => {
                let scalar = self.scalar(&redirect.target, choice)?;
                let number = known(&scalar);
                let descriptor = number.as_deref().is_some_and(|text| {
                    let digits = text.trim_end_matches('-');
                    digits.chars().all(|c| c.is_ascii_digit())
                });
                match descriptor || is_number(&scalar) {
                    true => {
                        let from = match number.as_deref().map(|text| text.trim_end_matches('-')) {
                            // It is closed.
                            Some("") => return Ok(()),
                            Some(digits) => digits.parse().unwrap_or(ANY),
                            None => ANY,
                        };
                        let to = redirect.descriptor.unwrap_or(u32::from(*output));
                        self.descriptors.copies(from, to);
                        return Ok(());
                    }
                    // bash expands what it has expanded: `>& 'a$(rm x)'` runs what is in it.
                    false if *output && scalar.iter().all(is_plain) => &[FileVerb::Write],
                    false => return Err(Dark("a descriptor is computed")),
                }
            }
            RedirectKind::Read => &[FileVerb::Read],
            RedirectKind::Write => &[FileVerb::Write],
            RedirectKind::Append => &[FileVerb::Append],
            // What is written goes over what is there.
            RedirectKind::ReadWrite => &[FileVerb::Read, FileVerb::Write],
            RedirectKind::WriteBoth => {
                run.flags.insert(ShellFlag::Background);
                &[FileVerb::Write]
            }
            RedirectKind::AppendBoth => {
                run.flags.insert(ShellFlag::Background);
                &[FileVerb::Append, FileVerb::Write]
            }
        };
        if let [verb] = verbs {
            let own = u32::from(*verb != FileVerb::Read);
            self.descriptors
                .opens(redirect.descriptor.unwrap_or(own), *verb);
        }
        if matches!(
            redirect.kind,
            RedirectKind::WriteBoth | RedirectKind::AppendBoth | RedirectKind::Duplicate { .. }
        ) {
            self.descriptors.opens(1, FileVerb::Write);
            self.descriptors.opens(2, FileVerb::Write);
        }
        let target = self.redirect_target(&redirect.target, choice)?;
        for verb in verbs {
            self.file(run, *verb, &target, false);
        }
        Ok(())
    }

    /// Some shells expand patterns there, some do not.
    fn redirect_target(&mut self, word: &Word, choice: &Choice) -> Result<Field, Dark> {
        let fields = self.fields(std::slice::from_ref(word), choice)?;
        match <[Field; 1]>::try_from(fields) {
            Ok([field]) => Ok(field),
            Err(_) => Ok(Field::unknown(false)),
        }
    }
}

/// What no expansion changes.
fn is_plain(piece: &Piece) -> bool {
    match piece {
        Piece::Text(text) => text
            .chars()
            .all(|c| c.is_alphanumeric() || "/._-+,:@%=".contains(c)),
        Piece::Home(_) | Piece::Number => true,
        _ => false,
    }
}

/// What a text opened at which descriptor, and what it does to files by a descriptor's name. Linux
/// opens the file once more then: `>/dev/stdout` behind `>>log` empties the log, and
/// `>/dev/fd/3` writes what `3<x` opened to read.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    opened: BTreeSet<(u32, FileVerb)>,
    used: RefCell<BTreeSet<(u32, FileVerb)>>,
}

/// Descriptors that are told apart; what comes then counts for any.
const MOST_OPENED: usize = 64;

impl Descriptors {
    fn opens(&mut self, number: u32, verb: FileVerb) {
        let number = match self.opened.len() < MOST_OPENED {
            true => number,
            false => ANY,
        };
        self.opened.insert((number, verb));
    }

    fn copies(&mut self, from: u32, to: u32) {
        let same = |number: u32| number == from || number == ANY || from == ANY;
        let verbs: Vec<_> = self.opened.iter().filter(|(at, _)| same(*at)).collect();
        let verbs: Vec<_> = verbs.into_iter().map(|(_, verb)| (to, *verb)).collect();
        for (to, verb) in verbs {
            self.opens(to, verb);
        }
    }

    pub(super) fn uses(&self, number: u32, verb: FileVerb) {
        if matches!(verb, FileVerb::Read | FileVerb::Append | FileVerb::Write) {
            self.used.borrow_mut().insert((number, verb));
        }
    }

    /// Whether nothing is done to a file by a descriptor that was not decided when it was opened.
    pub(super) fn sound(&self) -> Result<(), Dark> {
        let covers = |opened: FileVerb, used: FileVerb| {
            opened == used || (opened, used) == (FileVerb::Write, FileVerb::Append)
        };
        let used = self.used.borrow();
        let wrong = used.iter().any(|(number, verb)| {
            let meets = |at: u32| at == *number || at == ANY || *number == ANY;
            self.opened
                .iter()
                .any(|(at, opened)| meets(*at) && !covers(*opened, *verb))
        });
        match wrong {
            true => Err(Dark("a file is opened once more by its descriptor's name")),
            false => Ok(()),
        }
    }
}

/// Whether it decides what standard input is.
fn is_input(redirect: &Redirect) -> bool {
    let reads = match redirect.kind {
        RedirectKind::Here(_)
        | RedirectKind::HereString
        | RedirectKind::Read
        | RedirectKind::ReadWrite => true,
        RedirectKind::Duplicate { output } => !output,
        _ => false,
    };
    redirect.descriptor.map_or(reads, |number| number == 0)
}
