//! Each connection counts once.

use super::*;
use proptest::prelude::*;

const SERVER: &str = "10.0.0.9:5432";
const NET: Namespace = 1;

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(second).unwrap()
}

fn counted(sent: u64, received: u64) -> Option<Counters> {
    Some(Counters {
        answered: true,
        sent,
        received,
    })
}

fn to_server(cookie: u64, sent: u64, received: u64) -> Watched {
    Watched::made(cookie, "10.0.0.1:40000", SERVER, counted(sent, received))
}

fn owner(cgroup: &str, executable: &str) -> Owner {
    Owner {
        cgroup: cgroup.into(),
        executable: executable.into(),
    }
}

fn summed(tallies: &[Tally]) -> (u64, u64, u64) {
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum();
    (sum(|t| t.connections), sum(|t| t.sent), sum(|t| t.received))
}

#[test]
fn seen_alive_and_at_its_end_it_counts_once_with_the_last_counters() {
    let mut merge = Merge::default();
    let unowned = merge.living(NET, &[to_server(7, 10, 20)], at(1));
    assert_eq!(unowned.len(), 1);
    merge.own(unowned[0].key, owner("a", "/psql"));
    assert!(merge.living(NET, &[to_server(7, 50, 60)], at(2)).is_empty());
    merge.ended(NET, &[to_server(7, 100, 200)], at(3));
    let (tallies, left_out) = merge.finish();
    assert_eq!((tallies.len(), left_out), (1, 0));
    let tally = &tallies[0];
    assert_eq!(summed(&tallies), (1, 100, 200));
    assert_eq!((tally.open, tally.inferred, tally.unanswered), (0, 0, 0));
    assert_eq!((tally.first, tally.last), (at(1), at(3)));
    assert_eq!(tally.owner, owner("a", "/psql"));
}

#[test]
fn a_port_that_is_used_again_is_another_connection() {
    let mut merge = Merge::default();
    for cookie in 0..3 {
        // The same two ends each time; the second is only seen at its end.
        if cookie != 1 {
            for unowned in merge.living(NET, &[to_server(cookie, 5, 5)], at(1)) {
                merge.own(unowned.key, owner("a", "/psql"));
            }
        }
        merge.ended(NET, &[to_server(cookie, 10, 20)], at(2));
    }
    let (tallies, _) = merge.finish();
    assert_eq!(summed(&tallies), (3, 30, 60));
    assert_eq!((tallies.len(), tallies[0].inferred), (1, 1));
}

#[test]
fn what_a_server_here_accepted_is_no_destination() {
    let mut merge = Merge::default();
    let listener = Watched::made(1, "0.0.0.0:5432", "0.0.0.0:0", None);
    let accepted = Watched::made(2, "127.0.0.1:5432", "127.0.0.1:40000", counted(1, 1));
    let client = Watched::made(3, "127.0.0.1:40000", "127.0.0.1:5432", counted(1, 1));
    let all = [listener.clone(), accepted.clone(), client.clone()];
    let unowned = merge.living(NET, &all, at(1));
    assert_eq!(unowned.len(), 1);
    // The listener goes first; short ones that it accepted end after it.
    let short = Watched::made(4, "127.0.0.1:5432", "127.0.0.1:40001", counted(1, 1));
    merge.living(NET, &[accepted.clone(), client.clone()], at(2));
    merge.ended(NET, &[listener, accepted, short, client], at(3));
    let (tallies, _) = merge.finish();
    assert_eq!(tallies.len(), 1);
    assert_eq!(tallies[0].destination, "127.0.0.1:5432".parse().unwrap());
}

#[test]
fn a_listener_at_another_address_or_elsewhere_says_nothing() {
    let mut merge = Merge::default();
    let listener = Watched::made(1, "127.0.0.1:40000", "0.0.0.0:0", None);
    merge.living(
        2,
        &[Watched::made(9, "0.0.0.0:40000", "0.0.0.0:0", None)],
        at(1),
    );
    assert_eq!(
        merge
            .living(NET, &[listener, to_server(2, 0, 0)], at(1))
            .len(),
        1
    );
}

#[test]
fn an_owner_is_concluded_only_where_there_is_one() {
    let own = |merge: &mut Merge, cookie, who: Owner| {
        for unowned in merge.living(NET, &[to_server(cookie, 1, 1)], at(1)) {
            merge.own(unowned.key, who.clone());
        }
        merge.ended(NET, &[to_server(cookie, 1, 1)], at(1));
    };
    let owners = |setup: &[Owner]| -> Vec<(Owner, u64)> {
        let mut merge = Merge::default();
        for (cookie, who) in setup.iter().enumerate() {
            own(&mut merge, cookie as u64, who.clone());
        }
        merge.ended(NET, &[to_server(99, 1, 1)], at(2));
        let (tallies, _) = merge.finish();
        assert_eq!(summed(&tallies).0, setup.len() as u64 + 1);
        tallies.into_iter().map(|t| (t.owner, t.inferred)).collect()
    };
    assert_eq!(owners(&[]), [(owner(UNSEEN, UNSEEN), 0)]);
    assert_eq!(owners(&[owner("a", "/x")]), [(owner("a", "/x"), 1)]);
    let two = owners(&[owner("a", "/x"), owner("a", "/y")]);
    assert!(two.contains(&(owner("a", UNSEEN), 1)), "{two:?}");
    let two = owners(&[owner("a", "/x"), owner("b", "/x")]);
    assert!(two.contains(&(owner(UNSEEN, UNSEEN), 0)), "{two:?}");
    // The cgroup was seen, the process was not.
    let half = owners(&[owner("a", UNSEEN)]);
    assert_eq!(half, [(owner("a", UNSEEN), 1)]);
    let half = owners(&[owner("a", "/x"), owner("a", UNSEEN)]);
    assert_eq!(half, [(owner("a", "/x"), 2)]);
}

#[test]
fn open_and_unanswered_are_told_apart() {
    let mut merge = Merge::default();
    let silent = Some(Counters::default());
    let refused = Watched::made(1, "10.0.0.1:40000", SERVER, silent);
    let waits = Watched::made(2, "10.0.0.1:40001", SERVER, silent);
    merge.living(NET, &[refused, waits, to_server(3, 1, 1)], at(1));
    // As the kernel reports it, and one that nobody saw alive.
    let emptied = |cookie| Watched::made(cookie, "10.0.0.1:40000", "0.0.0.0:0", silent);
    merge.ended(NET, &[emptied(1), emptied(9)], at(2));
    let (tallies, _) = merge.finish();
    let tally = &tallies[0];
    assert_eq!((tally.connections, tally.unanswered, tally.open), (3, 1, 2));
}

#[test]
fn what_somebody_only_holds_is_not_open() {
    let mut merge = Merge::default();
    merge.living(NET, &[to_server(3, 1, 1)], at(1));
    merge.living(NET, &[], at(2));
    let (tallies, _) = merge.finish();
    assert_eq!((tallies[0].connections, tallies[0].open), (1, 0));
}

proptest! {
    /// However lists and reports of ends fall, the counts are those of the connections.
    #[test]
    fn each_counts_once(lives in proptest::collection::vec((0_u8..4, 0_u8..4), 0..60)) {
        let mut merge = Merge::default();
        // From which list on it is alive, and for how many lists.
        let mut ended = 0;
        for list in 0..8 {
            let alive: Vec<Watched> = lives.iter().enumerate()
                .filter(|(_, (from, long))| (*from..from + long).contains(&list))
                .map(|(cookie, _)| to_server(cookie as u64, 1, 2)).collect();
            merge.living(NET, &alive, at(list.into()));
            let over: Vec<Watched> = lives.iter().enumerate()
                .filter(|(_, (from, long))| from + long == list)
                .map(|(cookie, _)| to_server(cookie as u64, 3, 4)).collect();
            ended += over.len() as u64;
            merge.ended(NET, &over, at(list.into()));
        }
        let (tallies, _) = merge.finish();
        prop_assert_eq!(summed(&tallies), (ended, ended * 3, ended * 4));
        prop_assert_eq!(ended, lives.len() as u64);
    }
}
