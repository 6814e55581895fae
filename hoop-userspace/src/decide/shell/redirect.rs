//! Redirections: files, descriptors, here-documents.

use super::expand::Choice;
use super::facts::{FileVerb, ShellFlag, Stdin};
use super::field::{Field, known};
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
                let descriptor = number.is_some_and(|text| {
                    let digits = text.trim_end_matches('-');
                    digits.chars().all(|c| c.is_ascii_digit())
                });
                match descriptor || is_number(&scalar) {
                    true => return Ok(()),
                    false if *output => &[FileVerb::Write],
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
