//! Detectors over what servers send: before the column masks, and without knowing whence a value
//! comes.
//!
//! A batch is looked at as a whole; the values in which something was found get another text, and
//! a batch without findings passes as the bytes that it was. Columns with a rule of their own are
//! left to it. Framing and types stay valid: what cannot be put into a value of its type becomes
//! NULL.

mod copy;
mod forms;
mod http;
mod json;
mod marked;
mod messages;
mod output;
mod requests;
mod rows;
mod value;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::detect::{Detector, Detectors, Hit, Id, Marks, Spec, Telling};
use super::rules::HashKey;
use super::value::partial;
use crate::config::How;
use crate::terminate::{Columns, HttpPart, Part, PartKind, Replies};
use copy::Copying;
use forms::Plan;
pub(super) use output::Outputs;

/// Results whose plans are remembered.
const PLANS: usize = 4;

/// Longest value of which a partial mask shows the end: what is longer is a key.
const PARTIAL: usize = 64;

/// The detectors of one resource, and how what they find is shown. Shared by its sessions.
#[derive(Debug)]
pub struct Detection {
    detectors: Arc<Detectors>,
    hows: Vec<How>,
    key: HashKey,
    max_row: usize,
}

impl Detection {
    /// `None` without detectors. Of a detector that stands there twice, the mask counts that shows
    /// less.
    pub(super) fn new(
        entries: impl IntoIterator<Item = (Detector, How)>,
        key: &HashKey,
        max_row: usize,
    ) -> Option<Self> {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|(_, how)| how.shows());
        let mut seen = Vec::new();
        entries.retain(|(detector, _)| {
            let name = detector.name().to_owned();
            let new = !seen.contains(&name);
            seen.push(name);
            new
        });
        let specs = entries.iter().map(|(detector, how)| Spec {
            detector: detector.clone(),
            shows: how.shows(),
        });
        let detectors = Some(Detectors::new(specs)).filter(|d| !d.is_empty())?;
        Some(Self {
            detectors: Arc::new(detectors),
            hows: entries.into_iter().map(|(_, how)| how).collect(),
            key: key.clone(),
            max_row,
        })
    }

    /// The names of the detectors that find something in a value, each once, in the value's order.
    /// `label` is its column's, or empty.
    pub fn names_in(&self, label: &str, text: &str) -> Vec<&str> {
        let mut hits = self.find(text.as_bytes());
        match self.detectors.telling(label.as_bytes()) {
            _ if text.is_empty() => {}
            Some(Telling::Value(id)) if self.detectors.is_password(id) => {
                return vec![self.detectors.name(id)];
            }
            Some(_) => self.under(label.as_bytes(), text.as_bytes(), &mut hits),
            None => {}
        }
        let mut names = Vec::new();
        for hit in hits {
            let name = self.detectors.name(hit.detector);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// A text with what was found in it masked; `None` if nothing was. Nothing becomes NULL here: a
    /// statement or a message has no place for one.
    pub fn masked_text(&self, text: &[u8]) -> Option<Vec<u8>> {
        let hits = self.find(text);
        (!hits.is_empty()).then(|| self.replaced(text, &hits))
    }

    /// What is found in a text that stands alone.
    fn find(&self, text: &[u8]) -> Vec<Hit> {
        let (mut marks, mut hits) = (Marks::default(), Vec::new());
        self.detectors.look(text, &mut marks);
        if !marks.is_empty() {
            let signs = marks.within(0..text.len());
            self.detectors.scan(text, signs, &mut hits);
        }
        hits
    }

    fn how(&self, id: Id) -> &How {
        self.hows.get(id.index()).unwrap_or(&How::Redact)
    }

    fn replaced(&self, text: &[u8], hits: &[Hit]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 16 * hits.len());
        let mut at = 0;
        for hit in hits {
            out.extend_from_slice(text.get(at..hit.range.start).unwrap_or_default());
            let value = text.get(hit.range.clone()).unwrap_or_default();
            self.show(hit.detector, value, &mut out);
            at = hit.range.end;
        }
        out.extend_from_slice(text.get(at..).unwrap_or_default());
        out
    }

    /// Appends what stands in place of one value inside a text.
    fn show(&self, id: Id, value: &[u8], out: &mut Vec<u8>) {
        match self.how(id) {
            How::Fixed(text) => out.extend_from_slice(text.as_bytes()),
            How::Hash => out.extend_from_slice(crate::hex::encode(self.key.hash(value)).as_bytes()),
            How::Partial if value.len() <= PARTIAL => out.extend_from_slice(&partial(value)),
            How::Partial | How::Redact | How::Null | How::Inside(_) => {
                out.extend_from_slice(self.label(id).as_bytes());
            }
        }
    }

    fn label(&self, id: Id) -> String {
        format!("[masked:{}]", self.detectors.name(id))
    }
}

/// One session's replies, under the detectors.
#[derive(Debug, Default)]
pub(super) struct Sensor {
    marks: Marks,
    hits: Vec<Hit>,
    plans: VecDeque<(Arc<Columns>, Arc<Plan>)>,
    copying: Copying,
    /// Pieces of one large row, and whether more of them are to come.
    row: Vec<u8>,
    within: bool,
    pub outputs: Outputs,
}

impl Sensor {
    /// Other detectors hold from now on.
    pub fn forget(&mut self) {
        self.plans.clear();
    }

    /// Whether a message has begun and not ended: its other pieces need the same detectors.
    pub fn is_within(&self) -> bool {
        self.within || self.copying.is_within()
    }

    /// Masks what the detectors find; returns how many values that were. `ruled` says, part by
    /// part, which columns have a rule of their own. To be called once for each batch.
    pub fn sense<'h>(
        &mut self,
        detection: &Detection,
        replies: Replies,
        ruled: impl Iterator<Item = Option<&'h [Option<How>]>>,
    ) -> (Replies, u64) {
        let mut rewriting = Rewriting::new(&replies);
        let ruled = ruled.chain(std::iter::repeat(None));
        let mut from = 0;
        for (part, ruled) in replies.parts.iter().zip(ruled) {
            let bytes = replies.wire.get(from..part.end).unwrap_or_default();
            from = part.end;
            let sensed = match &part.kind {
                // Much of it comes at once: it is not copied to be looked at.
                PartKind::Output(kind) => {
                    let wire = replies.wire.slice_ref(bytes);
                    self.outputs.sense(detection, part, *kind, wire)
                }
                _ => self.part(detection, part, bytes, ruled),
            };
            match sensed {
                Sensed::Same => rewriting.keep(bytes),
                Sensed::Other(other, values) => rewriting.put(&other, values),
            }
        }
        let (wire, ends, values) = rewriting.finish();
        let Some((wire, ends)) = wire.zip(ends) else {
            return (replies, 0);
        };
        let mut parts = replies.parts;
        for (part, end) in parts.iter_mut().zip(ends) {
            part.end = end;
        }
        (Replies { wire, parts }, values)
    }

    fn part(
        &mut self,
        detection: &Detection,
        part: &Part,
        bytes: &[u8],
        ruled: Option<&[Option<How>]>,
    ) -> Sensed {
        match &part.kind {
            PartKind::Rows { columns, .. } => {
                let plan = self.plan(detection, columns.as_ref());
                self.rows(detection, &plan, ruled, bytes)
            }
            PartKind::RowPiece {
                first,
                last,
                total,
                columns,
            } => {
                self.within = !last;
                let plan = self.plan(detection, columns.as_ref());
                if plan.is_empty() {
                    return Sensed::Same;
                }
                if *first {
                    self.row.clear();
                }
                let fits = *total as usize <= detection.max_row;
                if fits {
                    self.row.extend_from_slice(bytes);
                }
                match (last, fits) {
                    (false, _) => Sensed::Other(Vec::new(), 0),
                    (true, false) => rows::blank(columns.as_deref()),
                    (true, true) => {
                        let row = std::mem::take(&mut self.row);
                        match self.rows(detection, &plan, ruled, &row) {
                            Sensed::Same => Sensed::Other(row, 0),
                            other => other,
                        }
                    }
                }
            }
            PartKind::Bulk => self.copying.sense(detection, bytes),
            PartKind::File => detection.file(bytes),
            // What was printed before stands before it.
            PartKind::Control | PartKind::Done | PartKind::Http(HttpPart::Document)
                if self.outputs.holds() =>
            {
                let (mut out, values) = self.outputs.let_go(Some(detection), true);
                out.extend_from_slice(bytes);
                Sensed::Other(out, values)
            }
            PartKind::Http(part) => detection.http(*part, bytes),
            PartKind::Text => messages::report(detection, bytes),
            // An error that hoop made itself quotes what it refuses.
            PartKind::Control if bytes.first() == Some(&b'E') => messages::report(detection, bytes),
            PartKind::Loose => messages::loose(detection, bytes),
            PartKind::Control => {
                self.copying.control(bytes);
                Sensed::Same
            }
            _ => Sensed::Same,
        }
    }

    fn plan(&mut self, detection: &Detection, columns: Option<&Arc<Columns>>) -> Arc<Plan> {
        let Some(columns) = columns else {
            return Arc::new(Plan::unknown());
        };
        let known = self.plans.iter().find(|(c, _)| Arc::ptr_eq(c, columns));
        if let Some((_, plan)) = known {
            return plan.clone();
        }
        let plan = Arc::new(Plan::of(&detection.detectors, columns));
        self.plans.truncate(PLANS - 1);
        self.plans.push_front((columns.clone(), plan.clone()));
        plan
    }
}

/// What became of a part.
enum Sensed {
    Same,
    /// Other bytes, and how many values were replaced.
    Other(Vec<u8>, u64),
}

/// A batch that is copied only if something in it changes.
struct Rewriting<'r> {
    replies: &'r Replies,
    /// Bytes that were kept while nothing had changed.
    kept: usize,
    count: usize,
    changed: Option<(BytesMut, Vec<usize>)>,
    values: u64,
}

impl<'r> Rewriting<'r> {
    fn new(replies: &'r Replies) -> Self {
        Self {
            replies,
            kept: 0,
            count: 0,
            changed: None,
            values: 0,
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        match &mut self.changed {
            Some((out, ends)) => {
                out.extend_from_slice(bytes);
                ends.push(out.len());
            }
            None => {
                self.kept += bytes.len();
                self.count += 1;
            }
        }
    }

    fn put(&mut self, bytes: &[u8], values: u64) {
        let (out, ends) = self.changed.get_or_insert_with(|| {
            let mut out = BytesMut::with_capacity(self.replies.wire.len() + 64);
            out.extend_from_slice(self.replies.wire.get(..self.kept).unwrap_or_default());
            let before = self.replies.parts.iter().take(self.count);
            (out, before.map(|p| p.end).collect())
        });
        out.extend_from_slice(bytes);
        ends.push(out.len());
        self.values += values;
    }

    fn finish(self) -> (Option<Bytes>, Option<Vec<usize>>, u64) {
        let (wire, ends) = self.changed.unzip();
        (wire.map(BytesMut::freeze), ends, self.values)
    }
}
