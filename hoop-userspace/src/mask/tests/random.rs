//! No masked value appears in any byte of the output, whatever the schema, the projection and the
//! way in which the reply is cut.

use proptest::prelude::*;

use super::*;

/// Every masked value holds these bytes; as a number in binary they are 0x53334352.
const MARK: &[u8] = b"S3CR";

#[derive(Clone, Debug)]
struct Table {
    masked: Vec<bool>,
    kinds: Vec<u32>,
    /// A view over the tables before it that are named here, or a partition of the first of them.
    reads: Vec<usize>,
    view: bool,
}

#[derive(Clone, Debug)]
enum Shown {
    Column(usize),
    Expression(usize),
    WholeRow,
}

#[derive(Clone, Debug)]
struct Case {
    tables: Vec<Table>,
    from: prop::sample::Index,
    shown: Vec<Shown>,
    binary: bool,
    pieces: bool,
    rows: u32,
    how: How,
}

const COLUMNS: usize = 4;

fn table() -> impl Strategy<Value = Table> {
    (
        prop::collection::vec(any::<bool>(), COLUMNS),
        prop::collection::vec(
            prop::sample::select(vec![TEXT, INT4, 114, 3802, 700, 1082]),
            COLUMNS,
        ),
        prop::collection::vec(0usize..4, 0..3),
        any::<bool>(),
    )
        .prop_map(|(masked, kinds, reads, view)| Table {
            masked,
            kinds,
            reads,
            view,
        })
}

fn case() -> impl Strategy<Value = Case> {
    let shown = prop_oneof![
        (0..COLUMNS).prop_map(Shown::Column),
        (0..COLUMNS).prop_map(Shown::Expression),
        Just(Shown::WholeRow),
    ];
    let hows = vec![
        How::Redact,
        How::Partial,
        How::Hash,
        How::Null,
        How::Fixed("7".into()),
    ];
    (
        prop::collection::vec(table(), 1..5),
        any::<prop::sample::Index>(),
        prop::collection::vec(shown, 1..5),
        any::<bool>(),
        any::<bool>(),
        1u32..4,
        prop::sample::select(hows),
    )
        .prop_map(|(tables, from, shown, binary, pieces, rows, how)| Case {
            tables,
            from,
            shown,
            binary,
            pieces,
            rows,
            how,
        })
}

impl Case {
    fn sources(&self, table: usize) -> Vec<usize> {
        let reads = &self.tables[table].reads;
        let mut before: Vec<usize> = reads.iter().copied().filter(|r| *r < table).collect();
        if !self.tables[table].view {
            before.truncate(1);
        }
        before
    }

    fn catalog(&self) -> Catalog {
        Catalog::new(self.tables.iter().enumerate().map(|(i, table)| {
            let sources: Vec<u32> = self.sources(i).iter().map(|s| oid(*s)).collect();
            let names: Vec<String> = (0..COLUMNS).map(|c| self.name(i, c)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut relation = relation(oid(i), &format!("t{i}"), &names);
            match table.view {
                true => (relation.kind, relation.reads) = (RelationKind::View, sources),
                false => relation.parents = sources,
            }
            relation
        }))
    }

    /// Columns of a partition are called as its parent's are.
    fn name(&self, table: usize, column: usize) -> String {
        match (self.tables[table].view, self.sources(table).first()) {
            (false, Some(parent)) => self.name(*parent, column),
            _ => format!("c{table}_{column}"),
        }
    }

    fn masks(&self) -> Vec<String> {
        let all = (0..self.tables.len()).flat_map(|t| (0..COLUMNS).map(move |c| (t, c)));
        let masked = all.filter(|(t, c)| self.tables[*t].masked[*c]);
        masked
            .map(|(t, c)| format!("public.t{t}.{}", self.name(t, c)))
            .collect()
    }

    /// Whether the value of this column is one that a rule protects. A view shows any of what it reads.
    fn is_secret(&self, table: usize, column: usize) -> bool {
        let sources = self.sources(table);
        self.tables[table].masked[column]
            || match self.tables[table].view {
                true => sources
                    .iter()
                    .any(|s| (0..COLUMNS).any(|c| self.is_secret(*s, c))),
                false => sources.iter().any(|s| self.is_secret(*s, column)),
            }
    }

    fn sql(&self, from: usize) -> String {
        let shown = self.shown.iter().map(|shown| match shown {
            Shown::Column(c) => self.name(from, *c),
            Shown::Expression(c) => format!("coalesce(s.{}, null)", self.name(from, *c)),
            Shown::WholeRow => "s".to_owned(),
        });
        let shown: Vec<String> = shown.collect();
        format!("SELECT {} FROM t{from} AS s", shown.join(", "))
    }

    fn columns(&self, from: usize) -> Vec<Column> {
        let columns = self.shown.iter().map(|shown| {
            let mut column = match shown {
                Shown::Column(c) => column(oid(from), *c as i16 + 1, self.tables[from].kinds[*c]),
                Shown::Expression(c) => column(0, 0, self.tables[from].kinds[*c]),
                Shown::WholeRow => column(0, 0, 2249),
            };
            column.binary = self.binary;
            column
        });
        columns.collect()
    }

    fn row(&self, from: usize) -> Vec<Option<&'static [u8]>> {
        let value = |secret| Some(if secret { MARK } else { b"open" });
        let row = self.shown.iter().map(|shown| match shown {
            Shown::Column(c) | Shown::Expression(c) => value(self.is_secret(from, *c)),
            Shown::WholeRow => value((0..COLUMNS).any(|c| self.is_secret(from, c))),
        });
        row.collect()
    }

    fn replies(&self, from: usize, exchange: ExchangeId) -> Vec<Replies> {
        let row = data_row(&self.row(from));
        let columns = Arc::new(Columns {
            columns: self.columns(from),
        });
        if !self.pieces {
            let rows = Bytes::from(row.repeat(self.rows as usize));
            let kind = PartKind::Rows {
                count: self.rows,
                columns: Some(columns),
            };
            let said = error("22P02", "invalid: S3CR", "S3CR");
            return vec![batch(exchange, vec![(kind, rows), (PartKind::Text, said)])];
        }
        let last = row.len().div_ceil(7) - 1;
        let piece = |(i, bytes): (usize, &[u8])| {
            let kind = PartKind::RowPiece {
                first: i == 0,
                last: i == last,
                total: row.len() as u32,
                columns: Some(columns.clone()),
            };
            batch(exchange, vec![(kind, Bytes::copy_from_slice(bytes))])
        };
        row.chunks(7).enumerate().map(piece).collect()
    }
}

fn oid(table: usize) -> u32 {
    20000 + table as u32
}

fn output(case: &Case) -> (Vec<u8>, Vec<u8>) {
    let masks = case.masks();
    let masks: Vec<&str> = masks.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&masks, case.how.clone(), case.catalog());
    let from = case.from.index(case.tables.len());
    let exchange = bench.begin(&case.sql(from));
    let (mut seen, mut recorded) = (Vec::new(), Vec::new());
    for replies in case.replies(from, exchange) {
        let masked = bench.mask(replies);
        seen.extend_from_slice(masked.wire());
        recorded.extend_from_slice(masked.record());
    }
    (seen, recorded)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_masked_value_in_any_byte(case in case()) {
        let from = case.from.index(case.tables.len());
        let (seen, recorded) = output(&case);
        let secret = case.row(from).contains(&Some(MARK));
        // A statement over tables without masks keeps its messages, which here quote a mark.
        let quoted = !case.pieces && !(0..COLUMNS).any(|c| case.is_secret(from, c));
        if !quoted {
            prop_assert!(!holds(&seen, MARK), "{}", case.sql(from));
            prop_assert!(!holds(&recorded, MARK));
        }
        prop_assert!(!secret || !quoted);
        // Framing survives: whole rows, as many as came.
        let rows = bodies(&seen).take_while(Result::is_ok).count() as u32;
        prop_assert_eq!(rows, if case.pieces { 1 } else { case.rows });
    }

    #[test]
    fn no_batch_panics(wire: Vec<u8>, cuts in prop::collection::vec((any::<usize>(), 0usize..8), 0..6)) {
        let mut bench = Bench::new(&["*.*.*"], How::Partial, Catalog::default());
        let exchange = bench.begin("SELECT 1 FROM t");
        let columns = Some(Arc::new(Columns { columns: vec![column(0, 0, TEXT)] }));
        let parts = cuts.into_iter().map(|(end, kind)| Part {
            exchange,
            unit: 0,
            end,
            kind: match kind {
                0 => PartKind::Rows { count: 1, columns: columns.clone() },
                1 => PartKind::Rows { count: 1, columns: None },
                2 => PartKind::RowPiece { first: true, last: true, total: 9, columns: columns.clone() },
                3 => PartKind::RowPiece { first: false, last: false, total: 9, columns: None },
                4 => PartKind::Text,
                5 => PartKind::Loose,
                6 => PartKind::Bulk,
                _ => PartKind::Done,
            },
        });
        let replies = Replies { wire: wire.into(), parts: parts.collect() };
        bench.mask(replies);
    }
}
