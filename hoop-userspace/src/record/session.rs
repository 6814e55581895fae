//! Records one session.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Recorded;
use super::encode::{self, BulkHead, CutHead, MAX_ASKED, PermittedHead, RepliesHead, cut};
use super::event::{
    AnsweredNote, AskedNote, Cut, EndNote, FlowNote, Header, PermittedNote, REDACTED, RenewedNote,
    SealNote, SpanNote, TransferNote, UnitNote,
};
use super::format::Kind;
use super::store::SealingKey;
use super::writer::{RecordError, Writer};
use crate::config::Durability;
use crate::decide::{Permitted, Refusal, outline};
use crate::identify::Identity;
use crate::ids::ExchangeId;
use crate::mask::{Detection, KubernetesMasks, Masked};
use crate::terminate::{Bulk, End, Stopped, Transfer, Transferred};

/// Bytes of one request that are kept. More is cut, and its length and digest noted.
const REQUEST_BYTES: usize = 4 << 20;

/// Bytes of COPY data and the like that are kept of one batch.
const BULK_BYTES: usize = 4 * 1024;

/// Answers that are no rows (errors, tags, descriptions) are kept up to this much per batch.
const OTHER_BYTES: usize = 64 * 1024;

/// However much is configured, rows of one batch must fit a frame.
const MAX_RESULT_BYTES: usize = 8 << 20;

/// The one writer of a session's recording. About 300 bytes at rest beside the file.
pub struct SessionRecorder {
    writer: Writer,
    key: Arc<SealingKey>,
    durability: Durability,
    /// Bytes of rows to keep of each exchange.
    result_bytes: usize,
    /// What requests hold that is not kept.
    detection: Option<Arc<Detection>>,
    /// What objects in requests hold that is not kept.
    objects: Option<Arc<KubernetesMasks>>,
    /// Its wire bytes are messages as those of SSH channels.
    messages: bool,
    /// The exchange whose rows came last, and how many of their bytes were kept.
    keeping: (u64, usize),
    totals: Totals,
    ended: bool,
}

#[derive(Default)]
struct Totals {
    requests: u64,
    refusals: u64,
    rows: u64,
    bytes: u64,
}

impl SessionRecorder {
    pub(super) fn begin(
        mut writer: Writer,
        key: Arc<SealingKey>,
        settings: &crate::config::Record,
        header: &Header,
    ) -> Result<Self, RecordError> {
        append(&mut writer, Kind::Header, header, &[])?;
        Ok(Self {
            writer,
            key,
            durability: settings.durability,
            result_bytes: settings.result_bytes.min(MAX_RESULT_BYTES),
            detection: None,
            objects: None,
            messages: matches!(&*header.protocol, "ssh" | "kubernetes"),
            keeping: (0, 0),
            totals: Totals::default(),
            ended: false,
        })
    }

    /// From now on literals and parameters pass these detectors before they are written.
    pub fn redact(&mut self, detection: Option<Arc<Detection>>) {
        self.detection = detection;
    }

    /// From now on objects that are written are kept as these masks would show them.
    pub fn redact_objects(&mut self, objects: Option<Arc<KubernetesMasks>>) {
        self.objects = objects;
    }

    /// Records a request before it is forwarded.
    pub fn permitted(&mut self, permitted: Permitted) -> Result<Recorded<Permitted>, RecordError> {
        let detection = self.detection.as_deref();
        let objects = self.objects.as_deref();
        let of_object = objects.map(|o| o.recorded_request(detection, permitted.wire()));
        let kept = of_object.or_else(|| match (detection?, self.messages) {
            (d, true) => Some((d.masked_channel(permitted.wire())?, true)),
            (d, false) => Some((d.masked_request(permitted.wire())?, true)),
        });
        let (wire, redacted) = match &kept {
            Some((wire, redacted)) => (&wire[..], *redacted),
            None => (&permitted.wire()[..], false),
        };
        let head = PermittedHead::new(&permitted, wire, REQUEST_BYTES, detection);
        let kept = cut(wire, REQUEST_BYTES);
        self.totals.requests += 1;
        let mark = mark(redacted);
        append(&mut self.writer, Kind::Permitted, &head, &[kept, mark])?;
        Ok(Recorded(permitted))
    }

    /// Records that a connection passes which enforce mode would have refused before anything was asked
    /// for on it: as a request of no bytes.
    pub fn would_refuse(&mut self, refusal: &Refusal) -> Result<(), RecordError> {
        let unit = UnitNote {
            rules: Vec::new(),
            found: None,
            would_refuse: Some(encode::refusal(refusal, self.detection.as_deref())),
        };
        let note = PermittedNote {
            exchange: refusal.exchange.0,
            policy_epoch: 0,
            identity_epoch: 0,
            units: vec![unit],
            wire: Cut {
                length: 0,
                digest: None,
                kept: Cow::default(),
            },
        };
        append(&mut self.writer, Kind::Permitted, &note, &[])
    }

    /// Records a refusal before it is answered.
    pub fn refusal(&mut self, refusal: Refusal) -> Result<Recorded<Refusal>, RecordError> {
        self.totals.refusals += 1;
        let note = encode::refusal(&refusal, self.detection.as_deref());
        let texts = refusal.asked.as_deref().zip(note.asked.as_deref());
        let mark = mark(texts.is_some_and(|(asked, kept)| self.differs(&asked.text, kept)));
        append(&mut self.writer, Kind::Refused, &note, &[mark])?;
        Ok(Recorded(refusal))
    }

    /// Records a question before the client is told of it.
    pub fn asked(&mut self, note: &AskedNote) -> Result<(), RecordError> {
        let detection = self.detection.as_deref();
        let statements = note.statements.iter();
        let kept = AskedNote {
            message: encode::kept(note.message.clone(), detection),
            statements: statements
                .map(|text| encode::kept(text.clone(), detection))
                .collect(),
            ..note.clone()
        };
        let mut texts = note.statements.iter().zip(&kept.statements);
        let mark = mark(texts.any(|(asked, kept)| self.differs(asked, kept)));
        append(&mut self.writer, Kind::Asked, &kept, &[mark])
    }

    /// Whether what is kept of a text is another than was decided. Of SQL the constants do not count,
    /// as long as they stand where they stood.
    fn differs(&self, text: &str, kept: &str) -> bool {
        let shape = |text| outline(text, usize::MAX).0;
        // The end may be cut off, which its length tells.
        let text = text.get(..MAX_ASKED).unwrap_or(text);
        text != kept && (self.messages || shape(text) != shape(kept))
    }

    /// Records an answer before it takes effect.
    pub fn answered(&mut self, note: &AnsweredNote) -> Result<(), RecordError> {
        append(&mut self.writer, Kind::Answered, note, &[])
    }

    /// Records replies before the client gets them: as the client will see them, rows up to
    /// `result_bytes` for each exchange, and the count of all.
    pub fn masked(&mut self, masked: Masked) -> Result<Recorded<Masked>, RecordError> {
        let mut spans: SmallVec<[SpanNote; 4]> = SmallVec::new();
        let mut kept: SmallVec<[&[u8]; 4]> = SmallVec::new();
        let (mut from, mut other) = (0, 0);
        for span in masked.spans() {
            let bytes = masked.record().get(from..span.end).unwrap_or_default();
            from = span.end;
            if self.keeping.0 != span.exchange.0 {
                self.keeping = (span.exchange.0, 0);
            }
            let (used, most) = match span.content {
                true => (&mut self.keeping.1, self.result_bytes),
                false => (&mut other, OTHER_BYTES),
            };
            let keep = cut(bytes, most.saturating_sub(*used));
            *used += keep.len();
            self.totals.rows += u64::from(span.rows);
            self.totals.bytes += bytes.len() as u64;
            spans.push(SpanNote {
                exchange: span.exchange.0,
                rows: span.rows,
                length: bytes.len() as u64,
                kept: keep.len() as u64,
            });
            kept.push(keep);
        }
        let head = RepliesHead {
            masked: masked.values(),
            kept: spans.iter().map(|s| s.kept).sum(),
            spans: &spans,
        };
        append(&mut self.writer, Kind::Replies, &head, &kept)?;
        drop(kept);
        Ok(Recorded(masked))
    }

    /// Records content that belongs to a permitted request: its size, and how it begins.
    pub fn bulk(&mut self, exchange: ExchangeId, bulk: &Bulk) -> Result<(), RecordError> {
        let detection = self.detection.as_deref();
        let redacted = detection.and_then(|d| match self.messages {
            true => d.masked_channel(&bulk.wire),
            false => d.masked_cut(&bulk.wire),
        });
        let wire = redacted.as_ref().unwrap_or(&bulk.wire);
        let head = BulkHead {
            exchange: exchange.0,
            end: bulk.end,
            wire: CutHead::new(wire, BULK_BYTES),
        };
        let kept = cut(wire, BULK_BYTES);
        append(&mut self.writer, Kind::Bulk, &head, &[kept])
    }

    /// Records that requests are from now on decided for a renewed token of the same identity.
    pub fn renewed(&mut self, identity: &Identity, epoch: u64) -> Result<(), RecordError> {
        let note = RenewedNote {
            identity_epoch: epoch,
            groups: identity.groups().to_vec(),
            scopes: identity.scopes().to_vec(),
            expires: identity.expires(),
        };
        append(&mut self.writer, Kind::Identity, &note, &[])
    }

    /// Records what went through a file that is closed now.
    pub fn transferred(&mut self, transfer: &Transfer) -> Result<(), RecordError> {
        let flow = |flow: Transferred| FlowNote {
            bytes: flow.bytes,
            digest: flow.digest,
        };
        let note = TransferNote {
            exchange: transfer.exchange.0,
            path: transfer.path.to_string(),
            read: flow(transfer.read),
            written: flow(transfer.written),
        };
        append(&mut self.writer, Kind::Transfer, &note, &[])
    }

    pub fn cancel(&mut self, exchange: Option<ExchangeId>) -> Result<(), RecordError> {
        append(&mut self.writer, Kind::Cancel, &exchange.map(|e| e.0), &[])
    }

    /// From now on nothing can be recorded.
    #[cfg(test)]
    pub(crate) fn break_for_test(&mut self) {
        self.writer.break_for_test();
    }

    #[cfg(test)]
    pub(crate) fn syncs_for_test(&self) -> u64 {
        self.writer.dirty().synced_for_test()
    }

    /// Whether what is recorded must reach the disk before it takes effect.
    pub fn waits_for_disk(&self) -> bool {
        self.durability == Durability::Disk
    }

    /// Resolves when everything recorded so far is on the disk.
    pub fn durable(&self) -> impl Future<Output = Result<(), RecordError>> + Send + 'static {
        self.writer.durable()
    }

    /// Records the end and seals the file. Nothing can be recorded after it.
    pub fn ended(&mut self, end: &End, outcome: Stopped) -> Result<(), RecordError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let (kind, reason) = ending(end);
        let note = EndNote {
            kind: kind.into(),
            reason: reason.into(),
            outcome: outcome_name(outcome).into(),
            requests: self.totals.requests,
            refusals: self.totals.refusals,
            rows: self.totals.rows,
            bytes: self.totals.bytes,
        };
        append(&mut self.writer, Kind::End, &note, &[])?;
        seal(&mut self.writer, &self.key)
    }
}

/// What stands behind a note, of which something was masked or not.
fn mark(redacted: bool) -> &'static [u8] {
    match redacted {
        true => &REDACTED,
        false => &[],
    }
}

/// Signs what stands before it.
pub(super) fn seal(writer: &mut Writer, key: &SealingKey) -> Result<(), RecordError> {
    let seal = SealNote {
        public_key: key.public().to_vec(),
        signature: key.sign(&writer.link().0),
    };
    append(writer, Kind::Seal, &seal, &[])
}

/// Appends what `note` encodes to and what follows it.
fn append(
    writer: &mut Writer,
    kind: Kind,
    note: &impl serde::Serialize,
    rest: &[&[u8]],
) -> Result<(), RecordError> {
    writer.append(kind, rest, |out| {
        // Nothing here contradicts its own length or holds what postcard does not know, and the
        // buffer grows: there is no other way to fail.
        let _ = postcard::to_extend(note, Appending(out));
    })
}

/// Lends a buffer to postcard, which wants to own what it extends.
struct Appending<'v>(&'v mut Vec<u8>);

impl Extend<u8> for Appending<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

fn ending(end: &End) -> (&'static str, &str) {
    match end {
        End::Finished => ("finished", ""),
        End::Identity(why) => ("identity", why),
        End::Killed(why) => ("killed", why),
        End::Drained => ("drained", "hoop was stopping"),
        End::Unrecordable(why) => ("unrecordable", why),
        End::Broken(why) => ("broken", why),
    }
}

fn outcome_name(outcome: Stopped) -> &'static str {
    match outcome {
        Stopped::Idle => "idle",
        Stopped::Cancelled => "cancelled",
        Stopped::Completed => "completed",
        Stopped::Unknown => "unknown",
    }
}
