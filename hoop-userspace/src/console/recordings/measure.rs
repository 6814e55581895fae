//! How long a search takes: an index of invented sessions, for the bench and the tests.

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::index::{Index, Known};
use super::search::Search;
use crate::console::fields::Fields;
use crate::ids::SessionId;

/// The id of the session of that number; they begin a second apart.
pub fn id(n: u32) -> SessionId {
    let [a, b, c, d] = n.to_be_bytes();
    let at = UNIX_EPOCH + Duration::from_millis(1_764_000_000_000 + u64::from(n) * 1000);
    SessionId::new(at, [0, 0, 0, 0, 0, 0, a, b, c, d])
}

/// So many sessions of twenty agents, each with three statements.
pub fn index(count: u32) -> Index {
    let mut index = Index::default();
    let agents: Vec<u32> = (0..20)
        .map(|n| index.number(&format!("agent-{n}")))
        .collect();
    let orders = index.number("orders");
    for n in 0..count {
        let agent = agents
            .iter()
            .cycle()
            .nth(usize::try_from(n % 20).unwrap_or(0));
        let text = format!(
            "select id, note from public.orders_{} where customer = {n}\n\
             update public.users set seen = now() where id = {n}\n\
             select count(*) from audit.events where at > '2026-01-01'\n",
            n % 7
        );
        index.put(Known {
            session: id(n),
            agent: agent.copied().unwrap_or(orders),
            identity: orders,
            resource: orders,
            database: orders,
            end: orders,
            requests: 3,
            refusals: u32::from(n % 10 == 0),
            asked: u32::from(n % 5 == 0),
            rows: 7,
            sealed: true,
            text: text.into_bytes(),
        });
    }
    index
}

/// How long each of these queries takes over so many sessions: the fastest and the slowest of ten.
pub fn searches(sessions: u32, queries: &[&str]) -> Vec<(String, Duration, Duration)> {
    let index = index(sessions);
    let one = |query: &&str| {
        let search = Search::of(&Fields::of_text(query)).ok()?;
        let mut took: Vec<Duration> = (0..10)
            .map(|_| {
                let began = Instant::now();
                std::hint::black_box(search.run(&index));
                began.elapsed()
            })
            .collect();
        took.sort();
        Some(((*query).to_owned(), *took.first()?, *took.last()?))
    };
    queries.iter().filter_map(one).collect()
}
