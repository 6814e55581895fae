//! Clients that send anything at all.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

async fn raw(bytes: &[u8]) -> (Vec<String>, Result<End, SessionError>) {
    let mut client = Client::greeted(Fake::default()).await;
    let _ = client.stream.write_all(bytes).await;
    let mut answers = vec![];
    let all = async {
        while let Some(answer) = client.next().await {
            answers.push(answer);
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(200), all).await;
    drop(client.stream);
    (answers, client.end.await.unwrap().0)
}

#[tokio::test]
async fn garbage_ends_the_session_with_a_word() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\0\0\0\0\0\0\0\0",
        b"Q\0\0\0\x03",
        b"Q\xff\xff\xff\xff",
        b"Q\0\0\0\x08abcd",
        b"B\0\0\0\x0a\0\0\0\0\xff\xffS\0\0\0\x04",
        b"~\0\0\0\x04",
    ] {
        let (answers, end) = raw(bytes).await;
        assert!(end.is_err(), "{bytes:?}");
        assert_eq!(answers.len(), 1, "{bytes:?}: {answers:?}");
        assert!(answers[0].starts_with("E:08P01"), "{answers:?}");
    }
}

#[tokio::test]
async fn messages_above_the_cap_are_refused_and_not_kept() {
    // A claim of nearly 2 GiB is answered at once, and costs nothing.
    let (answers, end) = raw(b"Q\x7f\xff\xff\xffselect 1").await;
    assert_eq!(answers, ["E:42501:refused by a word", "Z:I"]);
    assert!(end.is_ok());
    let fake = Fake::default();
    let mut client = Client::greeted(fake.clone()).await;
    let text = Bytes::from(vec![b' '; 2 << 20]);
    let large = || Frontend::Parse {
        name: "".into(),
        text: text.clone(),
        types: vec![],
    };
    let answers = client
        .ask(&[
            parse("a", "A"),
            bind("", "a"),
            execute(""),
            large(),
            bind("", ""),
            Frontend::Sync,
        ])
        .await;
    assert_eq!(
        answers,
        ["1", "2", "C:A", "E:42501:refused by a word", "Z:I"]
    );
    assert!(fake.committed().is_empty());
    assert_eq!(client.ask(&[query("B")]).await, ["C:B", "Z:I"]);
}

#[tokio::test]
async fn a_truncated_message_waits_and_ends_with_the_client() {
    let (answers, end) = raw(b"Q\0\0\0\x20select").await;
    assert!(answers.is_empty());
    assert_eq!(end.unwrap(), End::Finished);
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused() {
    let (answers, _) = raw(b"Q\0\0\0\x08\xff\xfe\xfd\0").await;
    assert_eq!(answers, ["E:42501:refused by a word", "Z:I"]);
}

#[tokio::test]
async fn copy_data_outside_a_copy_is_ignored() {
    let mut client = Client::greeted(Fake::default()).await;
    let data = Frontend::CopyData(Bytes::from(vec![0; 100_000]));
    let answers = client.ask(&[data, Frontend::CopyDone, query("A")]).await;
    assert_eq!(answers, ["C:A", "Z:I"]);
}

fn message() -> impl Strategy<Value = Frontend> {
    let name = || prop::sample::select(vec!["", "a", "b"]);
    let text = prop::sample::select(vec![
        "A", "B", "refuse", "syntax", "fail", "begin", "rollback", "rows 3",
    ]);
    let text2 = prop::sample::select(vec!["A", "refuse", "fail", "begin", "commit", "rows 2"]);
    prop_oneof![
        3 => (name(), text).prop_map(|(n, t)| parse(n, t)),
        3 => (name(), name()).prop_map(|(p, s)| bind(p, s)),
        3 => name().prop_map(execute),
        1 => name().prop_map(describe),
        1 => name().prop_map(|n| Frontend::Close(Target::Statement(n.into()))),
        2 => Just(Frontend::Sync),
        1 => Just(Frontend::Flush),
        1 => text2.prop_map(query),
    ]
}

/// What a client hears, and what was committed.
async fn outcome(
    mut stream: DuplexStream,
    fake: &Fake,
    messages: &[Frontend],
    chunk: usize,
) -> (Vec<String>, Vec<String>) {
    let mut wire = BytesMut::new();
    let end = [Frontend::Sync, query("rollback"), query("last")];
    messages
        .iter()
        .chain(&end)
        .for_each(|m| encode(m, &mut wire));
    for piece in wire.chunks(chunk) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let (mut input, mut heard) = (BytesMut::new(), vec![]);
    while heard
        .last_chunk()
        .is_none_or(|[last, ready]: &[String; 2]| last != "C:LAST" || !ready.starts_with('Z'))
    {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_buf(&mut input)).await;
        assert!(
            read.unwrap_or_else(|_| panic!("stuck after {heard:?}"))
                .unwrap()
                > 0,
            "{heard:?}"
        );
        while let Some((tag, body)) = frame::split(&mut input, 1 << 20).unwrap() {
            match tag {
                b'S' | b'K' => {}
                // Which error it is depends on who found it.
                b'E' => heard.push("E".into()),
                _ => heard.push(short(tag, &body)),
            }
        }
    }
    (heard, fake.committed())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// However the stream is cut, the client hears, and the server keeps, what a server would say
    /// and do to which the refused statements are errors of its own.
    #[test]
    fn a_refusal_is_like_the_servers_own_error(
        messages in prop::collection::vec(message(), 0..25),
        chunk in 1usize..60,
        attribute: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (guarded, direct) = runtime.block_on(async {
            let fake = Fake::default();
            let client = start(fake.clone(), Limits { attribute, ..limits() });
            let guarded = outcome(client.stream, &fake, &messages, chunk).await;
            let fake = Fake { refuses: true, ..Fake::default() };
            let (stream, server) = tokio::io::duplex(1 << 16);
            tokio::spawn(fake.clone().serve(server));
            let (mut heard, committed) = outcome(stream, &fake, &messages, 1 << 16).await;
            heard.insert(0, "Z:I".into());
            (guarded, (heard, committed))
        });
        prop_assert_eq!(guarded, direct);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), tag in prop::sample::select(&b"QPBDECFSHXdcf"[..])) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut client = Client::greeted(Fake::default()).await;
            let _ = client.stream.write_all(&frame::message(tag, &[&bytes])).await;
            let _ = client.stream.write_all(&bytes).await;
            client.stream.shutdown().await.unwrap();
            let stopped = tokio::time::timeout(Duration::from_secs(8), client.end).await;
            let _ = stopped.expect("ends").expect("does not panic");
        });
    }
}
