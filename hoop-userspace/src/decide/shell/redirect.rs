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
        for redirect in redirects {
            self.redirect(redirect, choice, run)?;
        }
        Ok(())
    }

    fn redirect(
        &mut self,
        redirect: &Redirect,
        choice: &Choice,
        run: &mut Run,
    ) -> Result<(), Dark> {
        let input = redirect.descriptor.is_none_or(|number| number == 0);
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
        if verbs.first() == Some(&FileVerb::Read) && input {
            self.around.stdin = Stdin::File;
            self.around.input = None;
        }
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
