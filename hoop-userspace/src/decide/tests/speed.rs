//! What a decision costs. Run by hand, on a quiet machine, with optimisation:
//! `cargo test --release -p hoop-userspace --lib decide::tests::speed -- --ignored --nocapture`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::smallvec;

use super::*;
use crate::decide::sql::{Limits, Parser};
use crate::ids::ExchangeId;
use crate::terminate::{Asked, Request, SqlAsked, SqlStep, SqlText, Unit};

const SMALL: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = $1";

fn request(sql: &Arc<SqlText>) -> Request {
    Request {
        exchange: ExchangeId(1),
        wire: Bytes::from_static(b"0123456789"),
        units: smallvec![Unit {
            end: 10,
            asked: Asked::Sql(SqlAsked {
                step: SqlStep::Run,
                candidates: smallvec![sql.clone()],
                parameters: Arc::default(),
            }),
        }],
    }
}

fn timed(what: &str, times: u32, mut run: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        (0..times).for_each(|_| run());
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(times));
    }
    println!("{what:<44} {best:>12.0} ns");
}

#[test]
#[ignore = "measures; run by hand in release"]
fn costs() {
    let decider = decider(&["read-only"], &[], &["public.users.ssn"]);
    let subject = subject();
    let sql = text(SMALL);
    timed("decide, kept (one session, same Arc)", 200_000, || {
        black_box(decider.decide(&subject, request(&sql)));
    });
    let again = text(SMALL);
    timed("decide, kept (text of another session)", 200_000, || {
        black_box(decider.decide(&subject, request(&again)));
    });
    timed("building the request alone", 200_000, || {
        black_box(request(&sql));
    });
    let parser = Parser::new(Limits::default());
    timed("facts, 52 bytes", 5_000, || {
        black_box(parser.facts(SMALL));
    });
    let rows = vec!["(1, 'name of somebody', 'some@where.example', 12.5, now())"; 1_200].join(", ");
    let long = format!("INSERT INTO people VALUES {rows}");
    timed(&format!("facts, {} bytes", long.len()), 50, || {
        black_box(parser.facts(&long));
    });
    let mut n = 0u32;
    timed("decide, new text", 2_000, || {
        n += 1;
        let sql = text(&format!(
            "SELECT abalance FROM pgbench_accounts WHERE aid = {n}"
        ));
        black_box(decider.decide(&subject, request(&sql)));
    });
    let file = (
        "p.cedar",
        r#"permit (principal, action, resource) unless { ["a","b","c","d","e","f","g","h"].contains(context.database) };"#,
    );
    let many = super::decider(&["read-only", "no-destroy", "sql-starter"], &[file], &[]);
    timed("decide, new text, 4 policy sources", 1_000, || {
        n += 1;
        let sql = text(&format!(
            "SELECT a.x, b.y FROM a JOIN b USING (id) WHERE a.id = {n}"
        ));
        black_box(many.decide(&subject, request(&sql)));
    });
}
