//! Records one session.

use std::sync::Arc;

use super::Recorded;
use super::event::{
    BulkNote, Cut, EndNote, Header, PermittedNote, RefusalNote, RepliesNote, SealNote, SpanNote,
    UnitNote,
};
use super::format::Kind;
use super::store::SealingKey;
use super::writer::{RecordError, Writer};
use crate::config::Durability;
use crate::decide::{Permitted, PermittedUnit, Refusal};
use crate::ids::ExchangeId;
use crate::mask::Masked;
use crate::terminate::{Bulk, End, Stopped};

/// Bytes of one request that are kept. More is cut, and its length noted.
const REQUEST_BYTES: usize = 1 << 20;

/// Bytes of COPY data and the like that are kept of one batch.
const BULK_BYTES: usize = 4 * 1024;

/// Answers that are no rows (errors, tags, descriptions) are kept up to this much per batch.
const OTHER_BYTES: usize = 64 * 1024;

/// The one writer of a session's recording. About 300 bytes at rest beside the file.
pub struct SessionRecorder {
    writer: Writer,
    key: Arc<SealingKey>,
    durability: Durability,
    /// Bytes of rows to keep of each exchange.
    result_bytes: usize,
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
        append(&mut writer, Kind::Header, header)?;
        writer.reserve();
        Ok(Self {
            writer,
            key,
            durability: settings.durability,
            result_bytes: settings.result_bytes,
            keeping: (0, 0),
            totals: Totals::default(),
            ended: false,
        })
    }

    /// Records a request before it is forwarded.
    pub fn permitted(&mut self, permitted: Permitted) -> Result<Recorded<Permitted>, RecordError> {
        let note = PermittedNote {
            exchange: permitted.exchange().0,
            policy_epoch: permitted.epochs().policy,
            units: permitted.units().iter().map(unit).collect(),
            wire: Cut::new(permitted.wire(), REQUEST_BYTES),
        };
        self.totals.requests += 1;
        append(&mut self.writer, Kind::Permitted, &note)?;
        Ok(Recorded(permitted))
    }

    /// Records a refusal before it is answered.
    pub fn refusal(&mut self, refusal: Refusal) -> Result<Recorded<Refusal>, RecordError> {
        self.totals.refusals += 1;
        append(&mut self.writer, Kind::Refused, &note(&refusal))?;
        Ok(Recorded(refusal))
    }

    /// Records replies before the client gets them: as the client will see them, rows up to
    /// `result_bytes` for each exchange, and the count of all.
    pub fn masked(&mut self, masked: Masked) -> Result<Recorded<Masked>, RecordError> {
        let mut spans = Vec::with_capacity(masked.spans().len());
        let mut kept =
            Vec::with_capacity(masked.record().len().min(self.result_bytes + OTHER_BYTES));
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
            let keep = bytes.get(..most.saturating_sub(*used)).unwrap_or(bytes);
            *used += keep.len();
            kept.extend_from_slice(keep);
            self.totals.rows += u64::from(span.rows);
            self.totals.bytes += bytes.len() as u64;
            spans.push(SpanNote {
                exchange: span.exchange.0,
                rows: span.rows,
                length: bytes.len() as u64,
                kept: keep.len() as u64,
            });
        }
        let note = RepliesNote {
            spans,
            kept: kept.into(),
            masked: masked.values(),
        };
        append(&mut self.writer, Kind::Replies, &note)?;
        Ok(Recorded(masked))
    }

    /// Records content that belongs to a permitted request: its size, and how it begins.
    pub fn bulk(&mut self, exchange: ExchangeId, bulk: &Bulk) -> Result<(), RecordError> {
        let wire = Cut::new(&bulk.wire, BULK_BYTES);
        append(
            &mut self.writer,
            Kind::Bulk,
            &BulkNote {
                exchange: exchange.0,
                end: bulk.end,
                wire,
            },
        )
    }

    pub fn cancel(&mut self, exchange: Option<ExchangeId>) -> Result<(), RecordError> {
        append(&mut self.writer, Kind::Cancel, &exchange.map(|e| e.0))
    }

    /// From now on nothing can be recorded.
    #[cfg(test)]
    pub(crate) fn break_for_test(&mut self) {
        self.writer.break_for_test();
    }

    /// Whether what is recorded must reach the disk before it takes effect.
    pub fn waits_for_disk(&self) -> bool {
        self.durability == Durability::Disk
    }

    /// Resolves when everything recorded so far is on the disk.
    pub fn durable(&self) -> impl Future<Output = Result<(), RecordError>> + Send + 'static {
        let durable = self.writer.dirty().durable();
        let path = self.writer.path().to_owned();
        async move {
            durable
                .await
                .map_err(|why| RecordError::io("sync", &path, why))
        }
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
        append(&mut self.writer, Kind::End, &note)?;
        let seal = SealNote {
            public_key: self.key.public().to_vec(),
            signature: self.key.sign(&self.writer.link().0),
        };
        append(&mut self.writer, Kind::Seal, &seal)
    }
}

pub(super) fn append(
    writer: &mut Writer,
    kind: Kind,
    note: &impl serde::Serialize,
) -> Result<(), RecordError> {
    let mut encoded = true;
    writer.append(kind, |out| {
        match postcard::to_extend(note, Appending(out)) {
            Ok(_) => {}
            Err(_) => encoded = false,
        }
    })?;
    match encoded {
        true => Ok(()),
        // Only a value that contradicts its own length hint does this; none here does.
        false => Err(RecordError::TooLarge),
    }
}

/// Lends a buffer to postcard, which wants to own what it extends.
struct Appending<'v>(&'v mut Vec<u8>);

impl Extend<u8> for Appending<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

fn unit(unit: &PermittedUnit) -> UnitNote {
    UnitNote {
        rules: unit.rules.iter().map(|r| r.0.to_string()).collect(),
        would_refuse: unit.would_refuse.as_deref().map(note),
    }
}

fn note(refusal: &Refusal) -> RefusalNote {
    RefusalNote {
        exchange: refusal.exchange.0,
        unit: refusal.unit,
        message: refusal.message.clone(),
        line: refusal.json_line(),
        rule: refusal.rule.as_ref().map(|r| r.0.to_string()),
        hint: refusal.hint.clone(),
        asked: refusal
            .asked
            .as_ref()
            .map(|t| cut_text(&t.text, REQUEST_BYTES)),
    }
}

fn cut_text(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|i| text.is_char_boundary(*i));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
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
