//! One session's masks.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use smallvec::SmallVec;

use super::attribution::{Attribution, Missing, Touch, Unknown};
use super::{Catalog, Masked, Rules, Span, report, value};
use crate::config::How;
use crate::decide::{Facts, Permitted};
use crate::ids::ExchangeId;
use crate::terminate::{Columns, Part, PartKind, Replies};
use crate::wire::postgres::rows;

/// Results whose plans are remembered: a pipeline seldom interleaves more.
const PLANS: usize = 4;

/// Statements of which it is remembered what they may show.
const TOUCHES: usize = 16;

/// Missing relations that are remembered as asked for; beyond that the memory starts anew.
const MAX_ASKED: usize = 4096;

/// Masks one session's replies.
#[derive(Debug)]
pub struct Masker {
    rules: Arc<Rules>,
    observe: bool,
    exchanges: VecDeque<Exchange>,
    plans: VecDeque<Plan>,
    /// What statements may show, the last used first.
    touches: VecDeque<(Arc<Facts>, Arc<Catalog>, Touch)>,
    asked: HashSet<Missing>,
    /// Pieces of one large row of a masked result.
    row: BytesMut,
    /// Some statement of this session touched a masked table: constraints may fail later.
    touched: bool,
}

/// What is known of a request whose replies are awaited: for each unit its statement.
#[derive(Debug)]
struct Exchange {
    id: ExchangeId,
    units: SmallVec<[Option<Arc<Facts>>; 6]>,
}

/// How the columns of one result are masked. Holds the columns, so that their address is theirs.
#[derive(Debug)]
struct Plan {
    columns: Arc<Columns>,
    touch: Touch,
    catalog: Arc<Catalog>,
    hows: Arc<[Option<How>]>,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Masking {
    Done(Masked),
    /// A relation is not in the catalog: look again and come back with the same batch. What is
    /// unknown then is masked whole.
    NeedsCatalog(Replies),
}

impl Masker {
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            observe: false,
            exchanges: VecDeque::new(),
            plans: VecDeque::new(),
            touches: VecDeque::new(),
            asked: HashSet::new(),
            row: BytesMut::new(),
            touched: false,
        }
    }

    /// In observe mode the client sees what the server sent; the recording is masked all the same.
    pub fn observe(&mut self, observe: bool) {
        self.observe = observe;
    }

    /// A reload: from the next batch on these rules count, for exchanges already begun too.
    pub fn set_rules(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
        self.plans.clear();
        self.touches.clear();
        self.asked.clear();
    }

    /// Remembers what a permitted request reads until its exchange is over. To be called before
    /// it is forwarded.
    pub fn begin(&mut self, permitted: &Permitted) {
        let units = permitted.units().iter().map(|u| u.statement.clone());
        self.exchanges.push_back(Exchange {
            id: permitted.exchange(),
            units: units.collect(),
        });
    }

    /// Masks a batch. Batches must come in the order in which the server sent them.
    pub fn mask(&mut self, replies: Replies, catalog: &Arc<Catalog>) -> Masking {
        let verbatim = self.rules.is_empty();
        let touches = match verbatim {
            true => Ok(Vec::new()),
            false => self.prepare(&replies, catalog),
        };
        let touches = match touches {
            Ok(touches) => touches,
            Err(Unknown(missing)) => {
                if self.asked.len() >= MAX_ASKED {
                    self.asked.clear();
                }
                self.asked.insert(missing);
                return Masking::NeedsCatalog(replies);
            }
        };
        let done = replies
            .parts
            .iter()
            .rev()
            .find(|p| matches!(p.kind, PartKind::Done));
        let done = done.map(|p| p.exchange);
        let masked = match touches.iter().all(|(_, plain)| *plain) {
            true => untouched(replies, done),
            false => self.rewrite(replies, &touches, catalog, done),
        };
        if let Some(done) = done {
            while self.exchanges.front().is_some_and(|e| e.id <= done) {
                self.exchanges.pop_front();
            }
        }
        Masking::Done(masked)
    }

    /// For each part what it may show, and whether it passes as it is. Plans are made here, so
    /// that what needs the catalog is known before a byte is taken.
    fn prepare(
        &mut self,
        replies: &Replies,
        catalog: &Arc<Catalog>,
    ) -> Result<Vec<(Touch, bool)>, Unknown> {
        let mut prepared = Vec::with_capacity(replies.parts.len());
        for part in &replies.parts {
            let touch = self.touch(part, catalog)?;
            self.touched |= touch >= Touch::Table;
            let plain = match &part.kind {
                PartKind::Rows { columns, .. } | PartKind::RowPiece { columns, .. } => {
                    match columns {
                        Some(columns) => self
                            .hows(columns, touch, catalog)?
                            .iter()
                            .all(Option::is_none),
                        None => touch < Touch::Table,
                    }
                }
                PartKind::Text => touch < Touch::Table && !self.touched,
                PartKind::Bulk => touch < Touch::Values,
                PartKind::Columns(_) | PartKind::Loose | PartKind::Control | PartKind::Done => true,
            };
            prepared.push((touch, plain));
        }
        Ok(prepared)
    }

    fn touch(&mut self, part: &Part, catalog: &Arc<Catalog>) -> Result<Touch, Unknown> {
        if matches!(
            part.kind,
            PartKind::Columns(_) | PartKind::Control | PartKind::Done
        ) {
            return Ok(Touch::Nothing);
        }
        let exchange = self.exchanges.iter().find(|e| e.id == part.exchange);
        let unit = exchange.and_then(|e| e.units.get(usize::from(part.unit)));
        match (unit, &part.kind) {
            (Some(Some(facts)), _) => self.touch_of(&facts.clone(), catalog),
            // What was not forwarded is answered by hoop itself, and a unit without a statement
            // runs nothing; rows that come all the same are of unknown origin.
            (_, PartKind::Text | PartKind::Loose) => Ok(Touch::Nothing),
            _ => Ok(Touch::Everything),
        }
    }

    fn touch_of(&mut self, facts: &Arc<Facts>, catalog: &Arc<Catalog>) -> Result<Touch, Unknown> {
        let same = |(f, c, _): &&(Arc<Facts>, Arc<Catalog>, Touch)| {
            Arc::ptr_eq(f, facts) && Arc::ptr_eq(c, catalog)
        };
        if let Some((.., touch)) = self.touches.iter().find(same) {
            return Ok(*touch);
        }
        let attribution = Attribution {
            rules: &self.rules,
            catalog,
            asked: &self.asked,
        };
        let touch = attribution.touch(facts)?;
        self.touches.truncate(TOUCHES - 1);
        self.touches
            .push_front((facts.clone(), catalog.clone(), touch));
        Ok(touch)
    }

    fn hows(
        &mut self,
        columns: &Arc<Columns>,
        touch: Touch,
        catalog: &Arc<Catalog>,
    ) -> Result<Arc<[Option<How>]>, Unknown> {
        let same = |p: &&Plan| {
            Arc::ptr_eq(&p.columns, columns) && p.touch == touch && Arc::ptr_eq(&p.catalog, catalog)
        };
        if let Some(plan) = self.plans.iter().find(same) {
            return Ok(plan.hows.clone());
        }
        let attribution = Attribution {
            rules: &self.rules,
            catalog,
            asked: &self.asked,
        };
        let hows: Arc<[_]> = attribution.plan(columns, touch)?.into();
        self.plans.truncate(PLANS - 1);
        self.plans.push_front(Plan {
            columns: columns.clone(),
            touch,
            catalog: catalog.clone(),
            hows: hows.clone(),
        });
        Ok(hows)
    }

    fn rewrite(
        &mut self,
        replies: Replies,
        touches: &[(Touch, bool)],
        catalog: &Arc<Catalog>,
        done: Option<ExchangeId>,
    ) -> Masked {
        let mut out = BytesMut::with_capacity(replies.wire.len());
        let mut spans = SmallVec::new();
        let mut values = 0;
        let mut from = 0;
        for (part, (touch, plain)) in replies.parts.iter().zip(touches) {
            let bytes = replies.wire.get(from..part.end).unwrap_or_default();
            from = part.end;
            let before = out.len();
            match *plain {
                true => out.extend_from_slice(bytes),
                false => values += self.part(part, bytes, *touch, catalog, &mut out),
            }
            // A piece that is being collected leaves nothing yet.
            if out.len() > before || *plain {
                note(&mut spans, part, out.len());
            }
        }
        let record = out.freeze();
        let wire = if self.observe {
            replies.wire
        } else {
            record.clone()
        };
        Masked {
            wire,
            record,
            done,
            spans,
            values,
        }
    }

    /// Appends a part that does not pass as it is; returns how many values were replaced.
    fn part(
        &mut self,
        part: &Part,
        bytes: &[u8],
        touch: Touch,
        catalog: &Arc<Catalog>,
        out: &mut BytesMut,
    ) -> u64 {
        match &part.kind {
            PartKind::Rows { columns, .. } => {
                let hows = self.known_hows(columns.as_ref(), touch, catalog);
                self.rows(bytes, columns.as_deref(), hows.as_deref(), out)
            }
            PartKind::RowPiece {
                first,
                last,
                total,
                columns,
            } => {
                if *first {
                    self.row.clear();
                }
                let fits = (*total as usize) <= self.rules.max_row();
                if fits {
                    self.row.extend_from_slice(bytes);
                }
                if !last {
                    return 0;
                }
                if !fits {
                    return blank(columns.as_deref(), out);
                }
                let row = std::mem::take(&mut self.row);
                let hows = self.known_hows(columns.as_ref(), touch, catalog);
                self.rows(&row, columns.as_deref(), hows.as_deref(), out)
            }
            PartKind::Text => {
                let quotes = match touch {
                    Touch::Nothing => report::Quotes::Deferred,
                    _ => report::Quotes::Rows,
                };
                report::scrub(bytes, quotes, out);
                0
            }
            // Opaque content that may hold masked values has no safe form; it is not passed on.
            PartKind::Bulk => 1,
            PartKind::Columns(_) | PartKind::Loose | PartKind::Control | PartKind::Done => 0,
        }
    }

    fn known_hows(
        &mut self,
        columns: Option<&Arc<Columns>>,
        touch: Touch,
        catalog: &Arc<Catalog>,
    ) -> Option<Arc<[Option<How>]>> {
        // `prepare` has made it; were it gone, every value would be masked whole.
        self.hows(columns?, touch, catalog).ok()
    }

    /// Rebuilds rows. Without columns every value becomes NULL.
    fn rows(
        &self,
        wire: &[u8],
        columns: Option<&Columns>,
        hows: Option<&[Option<How>]>,
        out: &mut BytesMut,
    ) -> u64 {
        let mut replaced = 0;
        for body in rows::bodies(wire) {
            // A row that cannot be walked is not passed on, nor what follows it.
            let Ok(values) = body.and_then(rows::values) else {
                break;
            };
            let mut row = rows::RowWriter::new(out);
            for (index, value) in values.enumerate() {
                let Ok(value) = value else { break };
                let column = columns.and_then(|c| c.columns.get(index));
                match (value, column, hows.and_then(|h| h.get(index))) {
                    (None, ..) => row.push(None),
                    (value, Some(_), Some(None)) => row.push(value),
                    (Some(value), Some(column), Some(Some(how))) => {
                        replaced += 1;
                        let key = self.rules.key();
                        row.push(
                            value::replace(how, column.kind, column.binary, value, key).as_deref(),
                        );
                    }
                    _ => {
                        replaced += 1;
                        row.push(None);
                    }
                }
            }
            row.finish();
        }
        replaced
    }
}

/// Everything passes as it is: the bytes are not copied.
fn untouched(replies: Replies, done: Option<ExchangeId>) -> Masked {
    let mut spans = SmallVec::new();
    for part in &replies.parts {
        note(&mut spans, part, part.end);
    }
    Masked {
        record: replies.wire.clone(),
        wire: replies.wire,
        done,
        spans,
        values: 0,
    }
}

/// A row of NULLs in place of one too large to be taken apart.
fn blank(columns: Option<&Columns>, out: &mut BytesMut) -> u64 {
    let count = columns.map_or(0, |c| c.columns.len());
    let mut row = rows::RowWriter::new(out);
    for _ in 0..count {
        row.push(None);
    }
    row.finish();
    count as u64
}

fn note(spans: &mut SmallVec<[Span; 4]>, part: &Part, end: usize) {
    let (rows, content) = match part.kind {
        PartKind::Rows { count, .. } => (count, true),
        PartKind::RowPiece { last, .. } => (u32::from(last), true),
        PartKind::Bulk => (0, true),
        _ => (0, false),
    };
    match spans.last_mut() {
        Some(span) if span.exchange == part.exchange && span.content == content => {
            span.end = end;
            span.rows = span.rows.saturating_add(rows);
        }
        _ => spans.push(Span {
            exchange: part.exchange,
            end,
            rows,
            content,
        }),
    }
}
