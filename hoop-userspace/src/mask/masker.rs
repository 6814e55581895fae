//! One session's masks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::answers::Answers;
use super::asking::{Asking, Missing};
use super::attribution::{Attribution, Touch};
use super::copying::Copying;
use super::known::{Found, Plan, Statement};
use super::named::Names;
use super::sensing::Sensor;
use super::unsettled::Unsettled;
use super::views::Views;
use super::{Catalog, KubernetesMasks, Masked, Rules, Span, loose, report, rewrite};
use crate::config::How;
use crate::decide::{Action, Derived, Facts, Output, Permitted, Statement as Defining, Unseen};
use crate::ids::ExchangeId;
use crate::terminate::{Columns, HttpPart, Part, PartKind, Printed, Replies};

/// Results whose plans are remembered: a pipeline seldom interleaves more.
const PLANS: usize = 4;

/// ReadyForQuery outside any transaction.
const READY_IDLE: [u8; 6] = *b"Z\0\0\0\x05I";

/// Statements of which it is remembered what they may show.
const STATEMENTS: usize = 16;

/// Masks one session's replies.
#[derive(Debug)]
pub struct Masker {
    rules: Arc<Rules>,
    /// Those of a reload that came within a message.
    next: Option<Arc<Rules>>,
    observe: bool,
    exchanges: VecDeque<Exchange>,
    plans: VecDeque<Plan>,
    /// What statements may show, the last used first.
    known: VecDeque<Arc<Statement>>,
    asking: Asking,
    sensor: Sensor,
    /// Pieces of one large row of a masked result.
    row: BytesMut,
    /// How the row is treated whose pieces are coming: all of them alike, whatever changes meanwhile.
    piece: Option<Prepared>,
    /// The views that derive from masked tables, by the last catalog that was not empty.
    derived: (Arc<Catalog>, Arc<Views>),
    /// Some statement of this session touched a masked table: constraints may fail later.
    touched: bool,
    /// The COPY that is under way.
    copying: Option<Copying>,
    unsettled: Unsettled,
    /// Cursors and prepared statements.
    names: Names,
    /// The same as decisions know it.
    unseen: Arc<Unseen>,
    /// The last exchange ended with ReadyForQuery, which said that no transaction is open.
    idle: bool,
    answers: Answers,
}

/// What is known of a request whose replies are awaited: for each unit its statement.
#[derive(Debug)]
struct Exchange {
    id: ExchangeId,
    units: SmallVec<[Option<Arc<Facts>>; 6]>,
}

/// What is known of a part before its bytes are taken.
#[derive(Clone, Debug)]
struct Prepared {
    touch: Touch,
    /// Of content that COPY sends.
    traced: Option<Arc<Output>>,
    /// Of rows whose columns are known.
    hows: Option<Arc<[Option<How>]>>,
    /// It passes as it is.
    plain: bool,
}

type Preparation = SmallVec<[Prepared; 6]>;

/// What became of a batch.
#[derive(Debug)]
pub enum Masking {
    Done(Masked),
    /// A relation is not in the catalog: look again and come back with the same batch. What is
    /// unknown then is masked whole.
    NeedsCatalog(Replies),
}

/// Says something of a relation's name.
type Test<'a> = &'a dyn Fn(&str) -> bool;

impl Masker {
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            next: None,
            observe: false,
            exchanges: VecDeque::new(),
            plans: VecDeque::new(),
            known: VecDeque::new(),
            asking: Asking::default(),
            sensor: Sensor::default(),
            row: BytesMut::new(),
            piece: None,
            derived: Default::default(),
            touched: false,
            copying: None,
            unsettled: Unsettled::default(),
            names: Names::default(),
            unseen: Arc::default(),
            idle: true,
            answers: Answers::default(),
        }
    }

    /// What objects of an API server are masked by, from the next batch on.
    pub fn set_objects(&mut self, objects: Option<Arc<KubernetesMasks>>) {
        self.answers.set_masks(objects);
    }

    /// In observe mode the client sees what the server sent; the recording is masked all the same.
    pub fn observe(&mut self, observe: bool) {
        self.observe = observe;
    }

    /// A reload: from the next batch on these rules count, for exchanges already begun too; a message
    /// or a COPY that has begun ends under the rules that it began under.
    pub fn set_rules(&mut self, rules: Arc<Rules>) {
        self.next = Some(rules);
        self.take_next_rules();
    }

    fn take_next_rules(&mut self) {
        if self.piece.is_some() || self.copying.is_some() || self.sensor.is_within() {
            return;
        }
        let Some(rules) = self.next.take() else {
            return;
        };
        self.sensor
            .outputs
            .change(self.rules.detection().map(|d| &**d));
        self.rules = rules;
        self.plans.clear();
        self.known.clear();
        self.asking.forget();
        self.names.forget();
        self.sensor.forget();
        self.derived = Default::default();
    }

    /// Views whose rows may come from masked tables, as far as the catalog is known: `decide` takes
    /// copying from them for copying from the tables.
    pub fn derived(&mut self, catalog: &Arc<Catalog>) -> &Arc<[Derived]> {
        if !self.rules.is_empty() && !catalog.is_empty() && !Arc::ptr_eq(catalog, &self.derived.0) {
            self.derived = (catalog.clone(), self.rules.views(catalog));
        }
        &self.derived.1.derived
    }

    /// What this catalog does not show of the relations that values may be copied out of.
    pub fn unseen(&mut self, catalog: &Catalog) -> &Arc<Unseen> {
        let unread = !self.rules.is_empty() && !catalog.objects().is_known();
        if self.unseen.unread != unread {
            Arc::make_mut(&mut self.unseen).unread = unread;
        }
        &self.unseen
    }

    /// Whether the server was outside any transaction when the last exchange ended.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// A look-up that was begun when no transaction was open, after the session's last statement that
    /// defines something, brought this catalog: it shows what the session has defined.
    pub fn settle(&mut self, catalog: &Arc<Catalog>) {
        if !catalog.is_empty() || catalog.objects().is_known() {
            self.unsettled = Unsettled::default();
            self.unseen = Arc::default();
            self.forget();
        }
    }

    /// What was found out under other circumstances.
    fn forget(&mut self) {
        self.known.clear();
        self.plans.clear();
    }

    /// Remembers what a permitted request reads until its exchange is over, and what it defines.
    /// To be called before it is forwarded, with what is known of the database then. Returns whether
    /// it runs code that nobody has seen: that may change what is in the catalog.
    pub fn begin(&mut self, permitted: &Permitted, catalog: &Arc<Catalog>) -> bool {
        let units = permitted.units().iter().map(|u| u.statement.clone());
        self.answers.begin(permitted.wire());
        let mut changed = self.names.sent(permitted.wire());
        let mut runs = false;
        for (unit, at) in permitted.units().iter().zip(0u16..) {
            if let Some(facts) = &unit.statement {
                let place = (permitted.exchange(), at);
                let unseen = self.names.runs_unseen(facts);
                let mut statements = facts.lineage.statements.iter();
                // What FETCH and EXECUTE run was looked at when it got its name.
                let named = !unseen && statements.all(|s| s.named.is_some());
                runs |= facts.opaque && !named;
                changed |= self.unsettled.add(place, facts, unseen);
                changed |= self.name(place, facts, catalog);
                if facts.statements.iter().any(defines) {
                    Arc::make_mut(&mut self.unseen).add(facts);
                }
            }
        }
        if changed {
            self.forget();
        }
        self.expect(permitted.exchange(), units);
        runs
    }

    /// Takes note of the cursors and prepared statements that a unit defines.
    fn name(
        &mut self,
        place: (ExchangeId, u16),
        facts: &Arc<Facts>,
        catalog: &Arc<Catalog>,
    ) -> bool {
        let mut statements = facts.lineage.statements.iter();
        if statements.all(|s| s.named.is_none()) && !self.names.runs_unseen(facts) {
            return false;
        }
        let views = self.rules.views(catalog);
        let any = self.unsettled.any(place);
        let unsettled = |name: &str| any || self.unsettled.holds(name);
        let defined = |name: &str| self.unsettled.holds(name);
        let missing = RefCell::default();
        let mut names = std::mem::take(&mut self.names);
        let tests: (Test<'_>, Test<'_>) = (&unsettled, &defined);
        let changed = names.add(facts, &self.attribution(catalog, &views, tests, &missing));
        self.names = names;
        changed
    }

    /// The same for statements that no server is asked: what would the agent see?
    pub fn expect(
        &mut self,
        exchange: ExchangeId,
        statements: impl IntoIterator<Item = Option<Arc<Facts>>>,
    ) {
        match self.exchanges.back_mut() {
            // The rest of a request, of which the beginning was forwarded before.
            Some(last) if last.id == exchange => last.units.extend(statements),
            _ => self.exchanges.push_back(Exchange {
                id: exchange,
                units: statements.into_iter().collect(),
            }),
        }
    }

    /// Nothing of the last exchange will be answered, its end neither.
    pub fn unanswered(&mut self, exchange: ExchangeId) {
        if self
            .exchanges
            .back()
            .is_some_and(|last| last.id == exchange)
        {
            self.exchanges.pop_back();
        }
    }

    /// Masks a batch. Batches must come in the order in which the server sent them.
    pub fn mask(&mut self, replies: Replies, catalog: &Arc<Catalog>) -> Masking {
        let prepared = match self.rules.is_empty() {
            true => Some(SmallVec::new()),
            false => self.prepare(&replies, catalog),
        };
        let Some(prepared) = prepared else {
            return Masking::NeedsCatalog(replies);
        };
        let seen = replies.wire.clone();
        let ended = ended(&replies);
        let detection = self.rules.detection().map(|d| &**d);
        let (replies, objects) = self.answers.mask(detection, replies);
        let (replies, sensed) = self.sense(replies, &prepared);
        let done = ended.map(|(exchange, _)| exchange);
        let mut masked = match prepared.iter().all(|p| p.plain) {
            true => untouched(replies, done),
            false => self.rewrite(replies, &prepared, done, catalog),
        };
        masked.values += sensed + objects;
        if self.observe {
            masked.wire = seen;
        }
        if let Some((done, idle)) = ended {
            self.copying = None;
            self.idle = idle;
            while self.exchanges.front().is_some_and(|e| e.id <= done) {
                self.exchanges.pop_front();
            }
        }
        self.take_next_rules();
        Masking::Done(masked)
    }

    /// How many bytes at the end of what was printed wait for more.
    pub fn held(&self) -> usize {
        self.sensor.outputs.held()
    }

    /// What waits, masked as it is: nothing more came for a moment. `None` if nothing can go yet.
    pub fn let_go(&mut self) -> Option<Masked> {
        let (exchange, kind) = self.sensor.outputs.last()?;
        let detection = self.rules.detection().map(|d| &**d);
        let (out, values) = self.sensor.outputs.let_go(detection, false);
        if out.is_empty() {
            return None;
        }
        let replies = Replies {
            parts: vec![Part {
                exchange,
                unit: 0,
                end: out.len(),
                kind: PartKind::Output(kind),
            }],
            wire: out.into(),
        };
        let mut masked = untouched(replies, None);
        masked.values = values;
        if self.observe {
            // The client has it.
            masked.wire = Bytes::new();
        }
        Some(masked)
    }

    /// What the detectors find goes first; columns with a rule of their own are left to it.
    fn sense(&mut self, replies: Replies, prepared: &[Prepared]) -> (Replies, u64) {
        match self.rules.detection() {
            Some(detection) => {
                let ruled = prepared.iter().map(|p| p.hows.as_deref());
                self.sensor.sense(detection, replies, ruled)
            }
            None if self.sensor.outputs.holds() => {
                // Found by detectors that hold no more.
                let (out, values) = self.sensor.outputs.let_go(None, true);
                (before(out, replies), values)
            }
            None => (replies, 0),
        }
    }

    /// For each part what it may show, and whether it passes as it is; `None` where the catalog
    /// should be read first. All plans are made here, before a byte is taken.
    fn prepare(&mut self, replies: &Replies, catalog: &Arc<Catalog>) -> Option<Preparation> {
        self.asking.batch(catalog);
        let missing = RefCell::default();
        let mut touched = self.touched;
        let mut piece = self.piece.clone();
        let mut prepared = Preparation::with_capacity(replies.parts.len());
        for part in &replies.parts {
            let this = match (&part.kind, &piece) {
                (PartKind::RowPiece { first: false, .. }, Some(piece)) => piece.clone(),
                _ => self.prepare_part(part, touched, catalog, &missing),
            };
            if let PartKind::RowPiece { last, .. } = part.kind {
                piece = (!last).then(|| this.clone());
            }
            touched |= this.touch >= Touch::Table;
            prepared.push(this);
        }
        if self.asking.ask(missing.into_inner()) {
            return None;
        }
        (self.touched, self.piece) = (touched, piece);
        Some(prepared)
    }

    fn prepare_part(
        &mut self,
        part: &Part,
        touched: bool,
        catalog: &Arc<Catalog>,
        missing: &RefCell<Vec<Missing>>,
    ) -> Prepared {
        let known = self.touch(part, catalog, missing);
        let (touch, traced) = match &known {
            Found::Statement(known) => (known.touch, known.traced.clone()),
            Found::Nothing => (Touch::Nothing, None),
            Found::Unknown => (Touch::Everything, None),
        };
        let hows = match &part.kind {
            PartKind::Rows { columns, .. } | PartKind::RowPiece { columns, .. } => columns
                .as_ref()
                .map(|columns| self.hows(columns, &known, catalog, missing)),
            _ => None,
        };
        let plain = match (&part.kind, &hows) {
            // A piece whose beginning was not seen.
            (PartKind::RowPiece { first: false, .. }, _) => false,
            (PartKind::Rows { .. } | PartKind::RowPiece { .. }, Some(hows)) => {
                hows.iter().all(Option::is_none)
            }
            (PartKind::Rows { .. } | PartKind::RowPiece { .. }, None) => touch < Touch::Table,
            (PartKind::Text, _) => touch < Touch::Table && !touched,
            (PartKind::Bulk, _) => NoRule::of(touch).is_some(),
            (PartKind::Loose, _) => false,
            // No column rule is about them.
            (PartKind::Output(_) | PartKind::File | PartKind::Http(_), _) => true,
            (PartKind::Columns(_) | PartKind::Control | PartKind::Done, _) => true,
        };
        Prepared {
            touch,
            traced,
            hows,
            plain,
        }
    }

    fn touch(
        &mut self,
        part: &Part,
        catalog: &Arc<Catalog>,
        missing: &RefCell<Vec<Missing>>,
    ) -> Found {
        if matches!(
            part.kind,
            PartKind::Columns(_)
                | PartKind::Loose
                | PartKind::Output(_)
                | PartKind::File
                | PartKind::Http(_)
                | PartKind::Control
                | PartKind::Done
        ) {
            return Found::Nothing;
        }
        let exchange = self.exchanges.iter().find(|e| e.id == part.exchange);
        let unit = exchange.and_then(|e| e.units.get(usize::from(part.unit)));
        match (unit, &part.kind) {
            (Some(Some(facts)), _) => {
                let place = (part.exchange, part.unit);
                Found::Statement(self.statement(place, &facts.clone(), catalog, missing))
            }
            // What was not forwarded is answered by hoop itself, and a unit without a statement
            // runs nothing; rows that come all the same are of unknown origin.
            (_, PartKind::Text) => Found::Nothing,
            _ => Found::Unknown,
        }
    }

    fn statement(
        &mut self,
        place: (ExchangeId, u16),
        facts: &Arc<Facts>,
        catalog: &Arc<Catalog>,
        missing: &RefCell<Vec<Missing>>,
    ) -> Arc<Statement> {
        let any = self.unsettled.any(place);
        let mut known = self.known.iter();
        if let Some(known) = known.find(|known| known.is(facts, catalog, any)) {
            return known.clone();
        }
        let views = self.rules.views(catalog);
        let unsettled = |name: &str| any || self.unsettled.holds(name);
        let defined = |name: &str| self.unsettled.holds(name);
        let attribution = self.attribution(catalog, &views, (&unsettled, &defined), missing);
        let touch = attribution.touch(facts);
        let traced = match touch >= Touch::Values {
            true => attribution
                .trace(facts)
                .or_else(|| self.names.trace(facts, &attribution))
                .map(Arc::new),
            false => None,
        };
        let known = Arc::new(Statement {
            facts: facts.clone(),
            catalog: catalog.clone(),
            unsettled: any,
            touch,
            traced,
        });
        self.known.truncate(STATEMENTS - 1);
        self.known.push_front(known.clone());
        known
    }

    fn hows(
        &mut self,
        columns: &Arc<Columns>,
        known: &Found,
        catalog: &Arc<Catalog>,
        missing: &RefCell<Vec<Missing>>,
    ) -> Arc<[Option<How>]> {
        let same = |plan: &&Plan| {
            plan.known.is(known)
                && Arc::ptr_eq(&plan.columns, columns)
                && Arc::ptr_eq(&plan.catalog, catalog)
        };
        if let Some(plan) = self.plans.iter().find(same) {
            return plan.hows.clone();
        }
        let (touch, traced, any) = match known {
            Found::Statement(known) => (known.touch, known.traced.as_deref(), known.unsettled),
            Found::Nothing => (Touch::Nothing, None, false),
            Found::Unknown => (Touch::Everything, None, false),
        };
        let views = self.rules.views(catalog);
        let unsettled = |name: &str| any || self.unsettled.holds(name);
        let defined = |name: &str| self.unsettled.holds(name);
        let hows: Arc<[_]> = self
            .attribution(catalog, &views, (&unsettled, &defined), missing)
            .plan(columns, touch, traced)
            .into();
        self.plans.truncate(PLANS - 1);
        self.plans.push_front(Plan {
            columns: columns.clone(),
            known: known.clone(),
            catalog: catalog.clone(),
            hows: hows.clone(),
        });
        hows
    }

    fn attribution<'a>(
        &'a self,
        catalog: &'a Catalog,
        views: &'a Views,
        (unsettled, defined): (Test<'a>, Test<'a>),
        missing: &'a RefCell<Vec<Missing>>,
    ) -> Attribution<'a> {
        Attribution {
            rules: &self.rules,
            catalog,
            views,
            unsettled,
            defined,
            missing,
        }
    }

    fn rewrite(
        &mut self,
        replies: Replies,
        prepared: &[Prepared],
        done: Option<ExchangeId>,
        catalog: &Catalog,
    ) -> Masked {
        let mut out = BytesMut::with_capacity(replies.wire.len());
        let mut spans = SmallVec::new();
        let mut values = 0;
        let mut from = 0;
        for (part, prepared) in replies.parts.iter().zip(prepared) {
            let bytes = replies.wire.get(from..part.end).unwrap_or_default();
            from = part.end;
            let before = out.len();
            match prepared.plain {
                true => out.extend_from_slice(bytes),
                false => values += self.part(part, bytes, prepared, catalog, &mut out),
            }
            // A piece that is being collected leaves nothing yet.
            if out.len() > before || prepared.plain {
                note(&mut spans, part, out.len());
            }
        }
        let record = out.freeze();
        let wire = match self.observe {
            true => replies.wire,
            false => record.clone(),
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
        prepared: &Prepared,
        catalog: &Catalog,
        out: &mut BytesMut,
    ) -> u64 {
        let hows = prepared.hows.as_deref();
        match &part.kind {
            PartKind::Rows { columns, .. } => {
                rewrite::rows(bytes, columns.as_deref(), hows, self.rules.key(), out)
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
                match (last, fits) {
                    (false, _) => 0,
                    (true, false) => rewrite::blank(columns.as_deref(), out),
                    (true, true) => {
                        let row = std::mem::take(&mut self.row);
                        rewrite::rows(&row, columns.as_deref(), hows, self.rules.key(), out)
                    }
                }
            }
            PartKind::Text => {
                report::scrub(bytes, self.quotes(part, prepared.touch), out);
                0
            }
            PartKind::Loose => loose::replace(bytes, out),
            PartKind::Bulk => self.bulk(part, bytes, prepared, catalog, out),
            PartKind::Columns(_)
            | PartKind::Output(_)
            | PartKind::File
            | PartKind::Http(_)
            | PartKind::Control
            | PartKind::Done => 0,
        }
    }

    /// Rows that COPY sends, in a form that is known. Opaque content that may hold masked values has
    /// no safe form otherwise; it is not passed on.
    fn bulk(
        &mut self,
        part: &Part,
        bytes: &[u8],
        prepared: &Prepared,
        catalog: &Catalog,
        out: &mut BytesMut,
    ) -> u64 {
        let place = (part.exchange, part.unit);
        if self.copying.as_ref().is_none_or(|c| c.place() != place) {
            let exchange = self.exchanges.iter().find(|e| e.id == part.exchange);
            let unit = exchange.and_then(|e| e.units.get(usize::from(part.unit)));
            let facts = unit.and_then(Option::as_ref);
            let Some(form) = facts.and_then(|facts| facts.lineage.copy()) else {
                return 1;
            };
            let traced = match prepared.touch {
                Touch::Everything => None,
                _ => prepared.traced.clone(),
            };
            let form = form.clone();
            self.copying = Some(Copying::new(place, form, traced, self.rules.max_row()));
        }
        let key = self.rules.key();
        match &mut self.copying {
            Some(copying) => copying.rewrite(bytes, catalog, key, out),
            None => 1,
        }
    }

    /// What a message may quote.
    fn quotes(&self, part: &Part, touch: Touch) -> report::Quotes {
        let exchange = self.exchanges.iter().find(|e| e.id == part.exchange);
        let unit = exchange.and_then(|e| e.units.get(usize::from(part.unit)));
        match (touch, unit) {
            (Touch::Opaque | Touch::Everything, _) => report::Quotes::Anything,
            // Of a statement that touches nothing masked, in a session that has.
            (Touch::Nothing, Some(Some(_))) => report::Quotes::Deferred,
            // Sync commits: what fails then is anything that was put off.
            _ => report::Quotes::Rows,
        }
    }
}

/// Whether a statement may leave anything that the catalog does not show.
fn defines(statement: &Defining) -> bool {
    let mut actions = statement.accesses.iter().map(|access| access.action);
    statement.commits_unseen()
        || actions.any(|action| matches!(action, Action::Ddl | Action::Unknown))
}

/// Leave to pass opaque content as it is: no rule can match in it. Only what a statement may show
/// gives it.
struct NoRule(());

impl NoRule {
    fn of(touch: Touch) -> Option<Self> {
        (touch < Touch::Values).then_some(Self(()))
    }
}

/// Puts output in front of a batch.
fn before(out: Vec<u8>, replies: Replies) -> Replies {
    let length = out.len();
    let mut parts = replies.parts;
    parts.iter_mut().for_each(|part| part.end += length);
    Replies {
        wire: [&out, &*replies.wire].concat().into(),
        parts,
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

/// The last exchange that ends in a batch, and whether the server is outside any transaction behind it.
///
/// Only ReadyForQuery says so (PostgreSQL manual, "Message Formats"): an exchange that Flush ends leaves
/// the transaction open that its first message began, until Sync.
fn ended(replies: &Replies) -> Option<(ExchangeId, bool)> {
    let mut from = 0;
    let mut last = None;
    for part in &replies.parts {
        if matches!(part.kind, PartKind::Done) {
            let idle = replies.wire.get(from..part.end) == Some(&READY_IDLE[..]);
            last = Some((part.exchange, idle));
        }
        from = part.end;
    }
    last
}

fn note(spans: &mut SmallVec<[Span; 4]>, part: &Part, end: usize) {
    let (rows, content) = match part.kind {
        PartKind::Rows { count, .. } => (count, true),
        PartKind::RowPiece { last, .. } => (u32::from(last), true),
        PartKind::Bulk | PartKind::File => (0, true),
        PartKind::Http(part) => (0, part != HttpPart::Head),
        PartKind::Output(printed) => (0, printed != Printed::Terminal),
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
