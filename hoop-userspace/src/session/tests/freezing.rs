//! The loop while an operator has the session stand still.

use super::*;

fn freeze(seconds: Option<u64>) -> Option<Freeze> {
    Some(Freeze {
        by: "ada".into(),
        reason: "that is odd".into(),
        until: seconds.map(|seconds| SystemTime::now() + Duration::from_secs(seconds)),
    })
}

/// Freezes between a request and its reply.
fn frozen_after_the_first(world: &World, seconds: u64) -> Vec<Step> {
    let freezes = world.freezes.clone();
    let act = move || drop(freezes.send_replace(freeze(Some(seconds))));
    vec![
        query(1, "SELECT 1"),
        Step::Do(Box::new(act)),
        done(0),
        done(1),
        query(2, "SELECT 2"),
    ]
}

#[tokio::test]
async fn a_frozen_client_waits_and_is_told_while_replies_flow_on() {
    let mut world = World::new(Durability::Kernel, rules(1, READS, &[]));
    let steps = frozen_after_the_first(&world, 60);
    let (freezes, journal) = (world.freezes.clone(), world.journal.clone());
    let play = world.play(steps);
    let (end, ()) = tokio::join!(play, async {
        journal.until(&Told::Waits(Gate::HELD)).await;
        let told = journal.all();
        let replied = told.iter().filter(|t| matches!(t, Told::Replied(_)));
        assert_eq!(replied.count(), 2, "{told:?}");
        assert_eq!(forwarded(&told), ["SELECT 1"]);
        let notice = |t: &Told| matches!(t, Told::Notified(said) if said.contains("ada froze this session: that is odd"));
        place(&told, notice);
        freezes.send_replace(freeze(None));
    });
    assert_eq!(end, End::Finished);
    assert_eq!(forwarded(&world.journal.all()), ["SELECT 1", "SELECT 2"]);
    let recorded = world.recorded();
    let recorded: Vec<&str> = recorded
        .iter()
        .map(String::as_str)
        .filter(|what| *what != "replies")
        .collect();
    let all = [
        "permitted 1",
        "asked 0",
        "thawed",
        "permitted 2",
        "end finished",
    ];
    assert_eq!(recorded, all);
}

#[tokio::test]
async fn a_session_that_nobody_lets_go_on_ends() {
    let mut world = World::new(Durability::Kernel, rules(1, READS, &[]));
    let steps = frozen_after_the_first(&world, 1);
    let end = world.play(steps).await;
    let End::Killed(why) = end else {
        panic!("{end:?}");
    };
    assert!(why.contains("ada froze this session"), "{why}");
    assert!(why.contains("nobody let it go on in time"), "{why}");
    assert_eq!(forwarded(&world.journal.all()), ["SELECT 1"]);
    let recorded = world.recorded();
    assert!(
        recorded.ends_with(&["expired".into(), "end killed".into()]),
        "{recorded:?}"
    );
}

#[tokio::test]
async fn what_waits_for_the_disk_waits_for_the_operator_too() {
    let mut world = World::new(Durability::Disk, rules(1, READS, &[]));
    let journal = world.journal.clone();
    let freezes = world.freezes.clone();
    let play = world.play(vec![query(1, "SELECT 1")]);
    let disk = world.store.slow_disk();
    tokio::join!(play, async {
        journal.until(&Told::Waits(Gate::HELD)).await;
        freezes.send_replace(freeze(Some(60)));
        let notified = |t: &Told| matches!(t, Told::Notified(_));
        while !journal.all().iter().any(notified) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(disk);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(forwarded(&journal.all()), [""; 0]);
        freezes.send_replace(freeze(None));
    });
    assert_eq!(forwarded(&journal.all()), ["SELECT 1"]);
}
