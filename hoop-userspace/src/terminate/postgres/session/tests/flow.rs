//! What a client is told is what became of the server's state.

use std::time::Duration;

use super::super::ledger::{Awaited, Kind, Ledger};
use super::*;
use crate::ids::ExchangeId;
use Frontend::{Close, CopyData, CopyDone, Flush, Sync};

const REFUSED: &str = "E:42501:refused by a word";

fn portal(name: &'static str) -> Target {
    Target::Portal(name.into())
}

#[tokio::test]
async fn a_query_is_answered() {
    let fake = Fake::default();
    let mut client = Client::greeted(fake.clone()).await;
    assert_eq!(
        client.ask(&[query("rows 2")]).await,
        ["T", "D", "D", "C:ROWS 2", "Z:I"]
    );
    assert_eq!(client.ask(&[query("refuse me")]).await, [REFUSED, "Z:I"]);
    assert_eq!(
        client.ask(&[query("fail")]).await,
        ["E:22012:division by zero", "Z:I"]
    );
    assert_eq!(client.ask(&[query(" ")]).await.last().unwrap(), "Z:I");
    assert_eq!(fake.committed(), ["rows 2", " "]);
    let rows = Seen::Rows(0, 2, Some(vec!["rows 2".into()]));
    assert!(client.seen().contains(&rows));
    client.send(&[Frontend::Terminate]).await;
    assert_eq!(client.next().await, None);
    let (end, stopped) = client.end.await.unwrap();
    assert_eq!((end.unwrap(), stopped), (End::Finished, Stopped::Idle));
}

#[tokio::test]
async fn a_refusal_in_a_pipeline_undoes_what_came_before() {
    let fake = Fake::default();
    let mut client = Client::greeted(fake.clone()).await;
    let a = [parse("", "A"), bind("", ""), execute("")];
    let b = [parse("", "refuse B"), bind("", ""), execute(""), Sync];
    let answers = client.ask(&[a.as_slice(), &b].concat()).await;
    assert_eq!(answers, ["1", "2", "C:A", REFUSED, "Z:I"]);
    assert!(fake.committed().is_empty());
    assert_eq!(*fake.arrived.lock().unwrap(), "PBEES");
    // The session goes on.
    let c = [parse("", "C"), bind("", ""), execute(""), Sync];
    assert_eq!(client.ask(&c).await, ["1", "2", "C:C", "Z:I"]);
    assert_eq!(fake.committed(), ["C"]);
}

#[tokio::test]
async fn a_refusal_inside_a_block_aborts_it() {
    let fake = Fake::default();
    let mut client = Client::greeted(fake.clone()).await;
    for refused in [
        &[query("refuse")][..],
        &[parse("", "refuse"), bind("", ""), execute(""), Sync],
    ] {
        assert_eq!(client.ask(&[query("begin")]).await, ["C:BEGIN", "Z:T"]);
        assert_eq!(client.ask(&[query("A")]).await, ["C:A", "Z:T"]);
        assert_eq!(client.ask(refused).await, [REFUSED, "Z:E"]);
        assert_eq!(client.ask(&[query("B")]).await[1], "Z:E");
        // A second one in the aborted block is refused all the same.
        assert_eq!(client.ask(refused).await, [REFUSED, "Z:E"]);
        assert_eq!(
            client.ask(&[query("rollback")]).await,
            ["C:ROLLBACK", "Z:I"]
        );
    }
    assert!(!fake.committed().contains(&"A".to_owned()));
}

#[tokio::test]
async fn a_segment_that_ends_in_flush_is_skipped_to_sync() {
    let fake = Fake::default();
    let mut client = Client::greeted(fake.clone()).await;
    client
        .send(&[parse("", "A"), bind("", ""), execute(""), Flush])
        .await;
    assert_eq!(client.next().await.unwrap(), "1");
    assert_eq!(client.next().await.unwrap(), "2");
    assert_eq!(client.next().await.unwrap(), "C:A");
    client.send(&[parse("x", "refuse"), Flush]).await;
    assert_eq!(client.next().await.unwrap(), REFUSED);
    // PostgreSQL would skip these; so does what stands behind.
    assert_eq!(
        client
            .ask(&[parse("y", "B"), bind("", "y"), execute(""), Sync])
            .await,
        ["Z:I"]
    );
    assert!(fake.committed().is_empty());
    let again = client.ask(&[bind("", "y"), execute(""), Sync]).await;
    assert_eq!(
        again,
        ["E:26000:prepared statement \"y\" does not exist", "Z:I"]
    );
}

#[tokio::test]
async fn every_answered_exchange_ends() {
    let mut client = Client::greeted(Fake::default()).await;
    let done = |client: &Client| client.seen().iter().filter(|s| **s == Seen::Done).count();
    client
        .send(&[parse("", "rows 1"), bind("", ""), Flush])
        .await;
    assert_eq!(client.next().await.unwrap(), "1");
    assert_eq!(client.next().await.unwrap(), "2");
    assert_eq!(done(&client), 1);
    // The columns are the last answer, and the end.
    for count in 2..5 {
        client.send(&[describe(""), Flush]).await;
        assert_eq!(client.next().await.unwrap(), "T");
        assert_eq!(done(&client), count);
    }
    assert_eq!(client.ask(&[Sync]).await, ["Z:I"]);
}

fn awaited(exchange: u64, kind: Kind) -> Awaited {
    let last = !matches!(kind, Kind::Parse { .. });
    let exchange = ExchangeId(exchange);
    Awaited {
        exchange,
        unit: 0,
        last,
        kind,
    }
}

fn parses() -> Kind {
    let name = Bytes::new();
    Kind::Parse { name, number: 1 }
}

#[test]
fn what_is_skipped_is_not_awaited() {
    let mut ledger = Ledger::new(false);
    assert!(!ledger.awaits(ExchangeId(1)), "Flush alone");
    ledger.expect(awaited(1, parses()));
    assert!(ledger.awaits(ExchangeId(1)));
    ledger.answer(b'E', b"C22012\0\0").unwrap();
    ledger.expect(awaited(2, parses()));
    assert!(!ledger.awaits(ExchangeId(2)));
    ledger.expect(awaited(3, Kind::Sync));
    assert!(ledger.awaits(ExchangeId(3)));
}

#[test]
fn what_ran_holds_its_locks_until_the_server_is_ready() {
    let mut ledger = Ledger::new(false);
    assert!(!ledger.in_transaction());
    ledger.expect(awaited(1, parses()));
    assert!(ledger.in_transaction());
    ledger.answer(b'1', b"").unwrap();
    assert!(ledger.is_idle() && ledger.in_transaction());
    ledger.expect(awaited(2, Kind::Sync));
    ledger.answer(b'Z', b"I").unwrap();
    assert!(!ledger.in_transaction());
}

#[tokio::test]
async fn a_name_whose_new_text_was_skipped_keeps_the_old_one() {
    let fake = Fake::default();
    let mut client = Client::greeted(fake.clone()).await;
    assert_eq!(client.ask(&[parse("s", "old"), Sync]).await, ["1", "Z:I"]);
    // The server skips Close and Parse after the error; the name still runs the old text. The
    // second group is decided before any of that is known.
    let skipped = [
        parse("", "syntax"),
        Close(Target::Statement("s".into())),
        parse("s", "new"),
        Sync,
        bind("", "s"),
        execute(""),
        Sync,
    ];
    assert_eq!(client.ask(&skipped).await, ["E:42601:syntax error", "Z:I"]);
    assert_eq!(client.until_ready().await, ["2", "C:OLD", "Z:I"]);
    assert_eq!(fake.committed(), ["old"]);
    let both = Seen::Asked(vec![vec!["new".into(), "old".into()]]);
    let known = Seen::Asked(vec![vec!["old".into()]]);
    assert!(
        client.seen().contains(&both) || client.seen().contains(&known),
        "{:?}",
        client.seen()
    );
}

#[tokio::test]
async fn names_that_sql_may_have_made_are_not_run() {
    let fake = Fake::default();
    let mut client = Client::greeted(fake.clone()).await;
    assert_eq!(client.ask(&[parse("s", "A"), Sync]).await.len(), 2);
    let run = || [bind("", "s"), execute(""), Sync];
    assert_eq!(client.ask(&run()).await, ["2", "C:A", "Z:I"]);
    client
        .ask(&[query("deallocate s; prepare S as delete")])
        .await;
    assert_eq!(client.ask(&run()).await, ["2", REFUSED, "Z:I"]);
    // A Parse that succeeds says that the name was free.
    let close = Close(Target::Statement("s".into()));
    client.ask(&[close, parse("s", "B"), Sync]).await;
    assert_eq!(client.ask(&run()).await, ["2", "C:B", "Z:I"]);
    // Of a portal that was never bound nothing is known either.
    assert_eq!(
        client.ask(&[execute("cursor"), Sync]).await,
        [REFUSED, "Z:I"]
    );
    assert_eq!(client.ask(&[Close(portal("x")), Sync]).await, ["3", "Z:I"]);
}

#[tokio::test]
async fn rows_are_described_at_hoops_own_request() {
    let fake = Fake::default();
    let attribute = Limits {
        attribute: true,
        ..limits()
    };
    let mut client = Client::with(fake.clone(), attribute).await;
    let answers = client
        .ask(&[parse("", "rows 2"), bind("", ""), execute(""), Sync])
        .await;
    assert_eq!(answers, ["1", "2", "D", "D", "C:ROWS 2", "Z:I"]);
    assert_eq!(*fake.arrived.lock().unwrap(), "PBDES");
    let rows = Seen::Rows(2, 2, Some(vec!["rows 2".into()]));
    assert!(client.seen().contains(&rows), "{:?}", client.seen());
    let asked = [bind("", ""), describe(""), execute(""), Sync];
    assert_eq!(
        client.ask(&asked).await,
        ["2", "T", "D", "D", "C:ROWS 2", "Z:I"]
    );
    assert_eq!(*fake.arrived.lock().unwrap(), "PBDESBDES");
    // Its error is the Execute's.
    assert_eq!(client.ask(&[query("begin")]).await, ["C:BEGIN", "Z:T"]);
    assert_eq!(
        client.ask(&[execute("nothing"), Sync]).await,
        [REFUSED, "Z:E"]
    );
}

#[tokio::test]
async fn copies_flow() {
    let fake = Fake::default();
    let mut client = Client::greeted(fake.clone()).await;
    client.send(&[query("copyin")]).await;
    assert_eq!(client.next().await.unwrap(), "G");
    let large = Bytes::from(vec![b'y'; 3 << 20]);
    let small = CopyData(Bytes::from_static(b"x\n"));
    let answers = client
        .ask(&[small.clone(), CopyData(large.clone()), small, CopyDone])
        .await;
    assert_eq!(answers, ["C:COPY 1", "Z:I"]);
    assert_eq!(fake.copied.lock().unwrap().len(), large.len() + 4);
    assert_eq!(
        client.ask(&[query("copyout")]).await,
        ["H", "d", "d", "d", "c", "C:COPYOUT", "Z:I"]
    );
}

#[tokio::test]
async fn a_copy_in_the_extended_protocol_eats_the_sync_before_it() {
    let fake = Fake::default();
    let mut client = Client::greeted(fake.clone()).await;
    let begin = [
        parse("", "copyin"),
        bind("", ""),
        describe(""),
        execute(""),
        Sync,
    ];
    client.send(&begin).await;
    for expected in ["1", "2", "n", "G"] {
        assert_eq!(client.next().await.unwrap(), expected);
    }
    let data = CopyData(Bytes::from_static(b"x"));
    assert_eq!(
        client.ask(&[data.clone(), CopyDone, Sync]).await,
        ["C:COPY 1", "Z:I"]
    );
    assert_eq!(client.ask(&[query("A")]).await, ["C:A", "Z:I"]);
    // Bad data: what the client still sends of it is ignored, however it is cut.
    client.send(&begin).await;
    for expected in ["1", "2", "n", "G"] {
        assert_eq!(client.next().await.unwrap(), expected);
    }
    let bad = CopyData(Bytes::from(b"bad".repeat(100_000)));
    let answers = client.ask(&[bad, data, CopyDone, Sync]).await;
    assert_eq!(answers, ["E:22P04:bad data", "Z:I"]);
    assert_eq!(client.ask(&[query("B")]).await, ["C:B", "Z:I"]);
    assert_eq!(fake.committed(), ["copyin", "A", "B"]);
}

#[tokio::test]
async fn a_large_row_passes_in_pieces() {
    let mut client = Client::greeted(Fake::default()).await;
    let answers = client.ask(&[query("big 3000000")]).await;
    assert_eq!(answers, ["T", "D", "C:BIG 3000000", "Z:I"]);
    let pieces: Vec<_> = client
        .seen()
        .into_iter()
        .filter(|s| matches!(s, Seen::Piece(..)))
        .collect();
    assert!(pieces.len() > 2);
    assert_eq!(pieces.first(), Some(&Seen::Piece(true, false)));
    assert_eq!(pieces.last(), Some(&Seen::Piece(false, true)));
}

#[tokio::test]
async fn a_cancel_is_seen_while_a_statement_runs() {
    let mut client = start(Fake::default(), limits());
    client.next().await.unwrap();
    let (tag, body) = loop {
        if let Some(message) = frame::split(&mut client.input, 1 << 20).unwrap() {
            break message;
        }
    };
    assert_eq!(tag, b'K');
    let pid = u32::from_be_bytes(body[..4].try_into().unwrap());
    client.until_ready().await;
    client.send(&[query("hang")]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(
        client
            .cancels
            .cancel(pid, &body[4..], &AgentName::from(AGENT))
    );
    tokio::time::timeout(
        Duration::from_millis(500),
        client.seen.wait_for(|s| s.contains(&Seen::Cancel)),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(client.until_ready().await.len(), 2);
}

#[tokio::test]
async fn a_client_that_vanishes_has_its_work_cancelled() {
    let mut client = Client::greeted(Fake::default()).await;
    client.send(&[query("hang")]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(client.stream);
    let (end, stopped) = client.end.await.unwrap();
    assert_eq!((end.unwrap(), stopped), (End::Finished, Stopped::Cancelled));
}

#[tokio::test]
async fn a_client_that_says_goodbye_at_once_has_its_work_done() {
    let fake = Fake::default();
    let mut client = Client::greeted(fake.clone()).await;
    client.send(&[query("A"), Frontend::Terminate]).await;
    drop(client.stream);
    let (end, stopped) = client.end.await.unwrap();
    assert_eq!((end.unwrap(), stopped), (End::Finished, Stopped::Idle));
    assert_eq!(fake.committed(), ["A"]);
}

#[tokio::test]
async fn a_description_is_not_trusted_once_something_ran() {
    let fake = Fake::default();
    let attribute = Limits {
        attribute: true,
        ..limits()
    };
    let mut client = Client::with(fake.clone(), attribute).await;
    let messages = [
        parse("", "rows 1"),
        bind("c", ""),
        describe("c"),
        query("close c; declare c"),
        execute("c"),
        Sync,
    ];
    client.send(&messages).await;
    client.until_ready().await;
    client.until_ready().await;
    assert_eq!(*fake.arrived.lock().unwrap(), "PBDQDES");
}

#[tokio::test]
async fn a_session_ends_when_the_server_reads_sql_otherwise() {
    let mut client = Client::greeted(Fake::default()).await;
    client.send(&[query("set client_encoding")]).await;
    let answer = client.next().await.unwrap();
    assert!(
        answer.starts_with("E:08P01") && answer.contains("client_encoding"),
        "{answer}"
    );
    let (end, stopped) = client.end.await.unwrap();
    assert!(matches!(end, Err(SessionError::Unfollowable(_))));
    assert_eq!(stopped, Stopped::Completed);
}

#[tokio::test]
async fn what_waits_for_the_servers_word_is_not_kept_without_bound() {
    let mut client = Client::greeted(Fake::default()).await;
    client.send(&[query("hang")]).await;
    let data = Bytes::from(vec![0; 1 << 20]);
    let mut out = BytesMut::new();
    encode(&CopyData(data), &mut out);
    // Far less than that is taken while the server works.
    let sent =
        tokio::time::timeout(Duration::from_millis(300), client.stream.write_all(&out)).await;
    assert!(sent.is_err());
}
