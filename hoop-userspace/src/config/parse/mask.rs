//! `[[mask]]` and `[detector.NAME]`.

use std::sync::Arc;

use toml::Spanned;

use super::super::problem::did_you_mean;
use super::super::{Mask, raw, text};
use super::Parser;
use crate::mask::{
    Detector, DetectorKind, JsonPath, OwnDetector, OwnWhat, Pattern, Validate, WordList,
};

/// Key words of one pattern.
const MAX_KEYWORDS: usize = 64;

impl Parser<'_> {
    pub(super) fn masks(&mut self, file: &raw::File) -> Vec<Mask> {
        let known = file
            .resources
            .iter()
            .map(|r| r.get_ref().name.get_ref().as_str());
        let known: Vec<&str> = known
            .chain(file.broken.iter().map(String::as_str))
            .collect();
        let own = self.detectors(file);
        file.masks
            .iter()
            .map(|mask| self.mask(mask, &known, &own, file))
            .collect()
    }

    fn mask(
        &mut self,
        written: &Spanned<raw::Mask>,
        resources: &[&str],
        own: &[Arc<OwnDetector>],
        file: &raw::File,
    ) -> Mask {
        let mask = written.get_ref();
        self.reference(&mask.resource, resources, "resource");
        if mask.columns.is_none() && mask.detect.is_none() {
            let what = "this mask names neither `columns` nor what to `detect`";
            self.problems.add(written.span(), what);
        }
        let columns = mask.columns.as_ref();
        if let Some(columns) = columns.filter(|c| c.get_ref().is_empty()) {
            self.problems.add(columns.span(), "no column is named");
        }
        let detect = mask.detect.as_ref();
        if let Some(detect) = detect.filter(|d| d.get_ref().is_empty()) {
            self.problems.add(detect.span(), "no detector is named");
        }
        let json = mask.json.as_ref();
        if let Some(json) = json {
            if json.get_ref().is_empty() {
                self.problems.add(json.span(), "no path is named");
            }
            if columns.is_none() || detect.is_some() {
                let what = "`json` says what of `columns` is masked, and belongs to them alone";
                let fix = "give detectors a `[[mask]]` of their own";
                self.problems.add_with_fix(json.span(), what, fix);
            }
        }
        let json = json.into_iter().flat_map(|j| j.get_ref());
        let columns = columns.into_iter().flat_map(|c| c.get_ref());
        let detect = detect.into_iter().flat_map(|d| d.get_ref());
        Mask {
            resource: mask.resource.get_ref().as_str().into(),
            columns: columns
                .filter_map(|column| self.take(column, text::column_pattern))
                .collect(),
            json: json
                .filter_map(|path| self.take(path, JsonPath::new))
                .collect(),
            detect: detect
                .flat_map(|name| self.detector(name, own, file))
                .collect(),
            how: mask.how.clone(),
        }
    }

    /// What a name in `detect` stands for.
    fn detector(
        &mut self,
        written: &raw::Text,
        own: &[Arc<OwnDetector>],
        file: &raw::File,
    ) -> Vec<Detector> {
        let name = written.get_ref().as_str();
        if let Some(kinds) = DetectorKind::named(name) {
            return kinds.into_iter().map(Detector::Kind).collect();
        }
        if let Some(own) = own.iter().find(|d| d.name == name) {
            return vec![Detector::Own(own.clone())];
        }
        // One that is there, but is not valid, has been reported.
        let broken = file.broken.iter().any(|b| b == name);
        let named = || file.detectors.iter().map(|(n, _)| n.get_ref().as_str());
        if !broken && !named().any(|n| n == name) {
            let mut known: Vec<&str> = DetectorKind::names().collect();
            known.extend(named().filter(|n| DetectorKind::named(n).is_none()));
            let fix = did_you_mean(name, known.iter().copied())
                .unwrap_or_else(|| format!("there are: {}", known.join(", ")));
            let what = format!("there is no detector `{name}`");
            self.problems.add_with_fix(written.span(), what, fix);
        }
        Vec::new()
    }

    fn detectors(&mut self, file: &raw::File) -> Vec<Arc<OwnDetector>> {
        file.detectors
            .iter()
            .filter_map(|(name, detector)| {
                self.name(name, "a detector");
                if DetectorKind::named(name.get_ref()).is_some() {
                    let what = format!("hoop brings a detector `{}`", name.get_ref());
                    let fix = "give this one another name";
                    self.problems.add_with_fix(name.span(), what, fix);
                }
                let what = self.own_detector(detector)?;
                let name = name.get_ref().clone();
                Some(Arc::new(OwnDetector { name, what }))
            })
            .collect()
    }

    fn own_detector(&mut self, written: &Spanned<raw::Detector>) -> Option<OwnWhat> {
        let raw = written.get_ref();
        let keywords = raw.keywords.as_ref();
        if raw.pattern.is_none() && (keywords.is_some() || raw.validate.is_some()) {
            let what = "`keywords` and `validate` belong to a `pattern`";
            self.problems.add(written.span(), what);
        }
        match (&raw.pattern, &raw.words, &raw.words_file) {
            (Some(pattern), None, None) => {
                let bad = |k: &String| k.trim().is_empty() || k.len() > 128;
                let list = keywords.map(|k| k.get_ref().clone()).unwrap_or_default();
                if let Some(keywords) = keywords
                    && (list.len() > MAX_KEYWORDS || list.iter().any(bad))
                {
                    let what =
                        format!("give up to {MAX_KEYWORDS} key words of 1 to 128 bytes each");
                    self.problems.add(keywords.span(), what);
                }
                let validate = raw.validate.as_ref().and_then(|v| self.validate(v));
                Some(OwnWhat::Pattern {
                    pattern: self.take(pattern, Pattern::new)?,
                    keywords: list,
                    validate,
                })
            }
            (None, Some(words), None) => {
                let list = WordList::new(words.get_ref().iter().cloned());
                self.word_list(words.span(), list)
            }
            (None, None, Some(path)) => {
                let Some(text) = self.bundle.file(path.get_ref()) else {
                    self.absent(path.span());
                    return None;
                };
                let lines = text.expose().lines().map(str::to_owned);
                let list = WordList::new(lines.filter(|l| !l.starts_with('#')));
                self.word_list(path.span(), list)
            }
            _ => {
                let what = "a detector has one of `pattern`, `words` and `words_file`";
                self.problems.add(written.span(), what);
                None
            }
        }
    }

    fn word_list(
        &mut self,
        span: std::ops::Range<usize>,
        list: Result<WordList, String>,
    ) -> Option<OwnWhat> {
        match list {
            Ok(list) => Some(OwnWhat::Words(list)),
            Err(why) => {
                self.problems.add(span, why);
                None
            }
        }
    }

    fn validate(&mut self, written: &raw::Text) -> Option<Validate> {
        let name = written.get_ref().as_str();
        let known = Validate::NAMES;
        let found = known.iter().find(|(n, _)| *n == name);
        if found.is_none() {
            let names: Vec<_> = known.iter().map(|(n, _)| *n).collect();
            let fix = did_you_mean(name, names.iter().copied())
                .unwrap_or_else(|| format!("use one of: {}", names.join(", ")));
            let what = format!("there is no check `{name}`");
            self.problems.add_with_fix(written.span(), what, fix);
        }
        found.map(|(_, validate)| *validate)
    }
}
