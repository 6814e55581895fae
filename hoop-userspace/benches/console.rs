//! `cargo bench --bench console`: how long searches take over a hundred thousand recorded sessions.
//!
//! Fails where one takes longer than 50 ms, which is what a page may take in all.

use std::process::ExitCode;
use std::time::Duration;

const SESSIONS: u32 = 100_000;
const MOST: Duration = Duration::from_millis(50);
/// The last is found nowhere, so that every session is looked through.
const QUERIES: &[&str] = &[
    "",
    "agent=agent-7&verdict=refuse",
    "text=customer+%3D+7",
    "table=orders_3&since=2025-11-25",
    "table=nothing_is_called_so",
    "text=nobody+ever+said+this",
];

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for (query, fastest, slowest) in hoop::console::searches(SESSIONS, QUERIES) {
        println!("{fastest:>10.1?} to {slowest:>10.1?}  {query}");
        if slowest > MOST {
            code = ExitCode::FAILURE;
        }
    }
    code
}
