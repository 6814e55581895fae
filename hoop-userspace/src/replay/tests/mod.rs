//! What a recording looks like to people and to programs.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use bytes::BytesMut;
use proptest::prelude::*;

use super::read::Recorded;
use super::*;
use crate::attribute::Process;
use crate::config::Mode;
use crate::ids::SessionId;
use crate::record::{
    BulkNote, Cut, EndNote, FoundNote, Frame, Header, IdentityNote, Kind, Link, PermittedNote,
    RefusalNote, RepliesNote, SealNote, SpanNote, Times, UnitNote,
};
use crate::wire::postgres::fields::{ERROR, Report};
use crate::wire::postgres::rows::{Field, RowWriter, describe};

const STARTED: u64 = 1_764_000_000_000_000;

fn header() -> Header {
    let started = UNIX_EPOCH + Duration::from_micros(STARTED);
    Header {
        session: SessionId::new(started, [3; 10]),
        started,
        agent: Some("billing-bot".into()),
        mode: Mode::Enforce,
        identity: IdentityNote::Verified {
            kind: crate::config::Kind::Service,
            confirmed: Some(started),
            grace: None,
            issuer: "okta".into(),
            subject: "0oa1abcd".into(),
            client_id: "0oa1abcd".into(),
            groups: vec!["bots".into()],
            scopes: vec!["hoop".into()],
            expires: started + Duration::from_secs(3600),
        },
        process: Process {
            pid: 4242,
            tid: 4242,
            uid: 1001,
            comm: "psql".into(),
            argv: vec!["psql".into(), "-h".into(), "db.prod".into()],
            cgroup: "agents.slice/billing-bot.service".into(),
            ..Process::default()
        },
        resource: Some("orders".into()),
        protocol: "postgres".into(),
        destination: "10.0.0.1:5432".parse().unwrap(),
        observed: vec!["db.prod".into()],
        database: Some("appdb".into()),
        login: Some("hoop_orders".into()),
        client_user: Some("billing".into()),
        application: Some("psql".into()),
        netns: None,
    }
}

fn whole(wire: Vec<u8>) -> Cut<'static> {
    Cut {
        length: wire.len() as u64,
        digest: None,
        kept: Cow::Owned(wire),
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn allowed(exchange: u64, wire: Cut<'static>) -> Told {
    Told::Permitted(PermittedNote {
        exchange,
        policy_epoch: 1,
        identity_epoch: 1,
        units: vec![UnitNote {
            rules: vec!["read-only/select".into()],
            found: Some(FoundNote {
                fingerprint: "ab12".into(),
                verbs: vec!["SELECT".into()],
                opaque: false,
            }),
            would_refuse: None,
        }],
        wire,
    })
}

fn result(exchange: u64) -> Told {
    let field = |label: &str| Field {
        label: label.into(),
        table: 0,
        attribute: 0,
        kind: 25,
        size: -1,
        modifier: -1,
        binary: false,
    };
    let mut kept = BytesMut::new();
    describe(&[field("id"), field("ssn")], &mut kept);
    for (id, ssn) in [("1", Some("[masked]")), ("20", None)] {
        let mut row = RowWriter::new(&mut kept);
        row.push(Some(id.as_bytes()));
        row.push(ssn.map(str::as_bytes));
        row.finish();
    }
    kept.extend_from_slice(&message(b'C', b"SELECT 2\0"));
    kept.extend_from_slice(&message(b'Z', b"I"));
    let length = kept.len() as u64;
    Told::Replies(RepliesNote {
        masked: 1,
        spans: vec![SpanNote {
            exchange,
            rows: 2,
            length,
            kept: length,
        }],
        kept: Cow::Owned(kept.to_vec()),
    })
}

fn events() -> Vec<Told> {
    let said = Report {
        severity: "ERROR",
        code: "42P01",
        message: "relation \"nowhere\" does not exist",
        detail: None,
        hint: None,
    };
    let error = said.encode(ERROR).to_vec();
    let errors = Told::Replies(RepliesNote {
        masked: 0,
        spans: vec![SpanNote {
            exchange: 3,
            rows: 0,
            length: error.len() as u64,
            kept: error.len() as u64,
        }],
        kept: Cow::Owned(error),
    });
    let prepared = [
        message(b'P', b"s1\0SELECT * FROM users WHERE id = $1\0\0\0"),
        message(b'B', b"\0s1\0\0\0\0\x01\0\0\0\x011\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ];
    let mut long = message(b'Q', b"SELECT 'a long text'\0");
    long.truncate(18);
    vec![
        Told::Header(Box::new(header())),
        allowed(1, whole(prepared.concat())),
        result(1),
        Told::Refused(RefusalNote {
            exchange: 2,
            unit: 0,
            message: "billing-bot may not sql:write table public.users".into(),
            line: r#"{"code":"not_permitted","rule":null,"retry":"narrower","approval":null,"hint":"read"}"#
                .into(),
            rule: None,
            hint: "read instead".into(),
            asked: Some("DELETE FROM users".into()),
        }),
        allowed(3, whole(message(b'Q', b"SELECT * FROM nowhere\0"))),
        errors,
        allowed(
            4,
            Cut {
                length: 5 << 20,
                digest: Some([0xab; 32]),
                kept: Cow::Owned(long),
            },
        ),
        Told::Cancel(Some(4)),
        Told::Bulk(BulkNote {
            exchange: 5,
            end: true,
            wire: whole(b"d".to_vec()),
        }),
        Told::End(EndNote {
            reason: "the token was revoked".into(),
            kind: "identity".into(),
            outcome: "cancelled".into(),
            requests: 3,
            refusals: 1,
            rows: 2,
            bytes: 99,
        }),
        Told::Seal(
            SealNote {
                public_key: vec![0xcd; 32],
                signature: vec![0; 64],
            },
            SealState::Good,
        ),
    ]
}

fn lines() -> Vec<Line> {
    let mut story = Story::default();
    let recorded = events().into_iter().zip(0..).map(|(told, i)| Recorded {
        times: Times {
            at: STARTED + i * 1500,
            since: i * 1500,
        },
        told,
    });
    recorded.flat_map(|event| story.tell(event)).collect()
}

#[test]
fn a_transcript_for_people() {
    let mut transcript = Transcript::default();
    let text: String = lines().iter().map(|line| transcript.line(line)).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn lines_for_programs() {
    let lines: Vec<String> = lines()
        .iter()
        .map(|line| serde_json::to_string(line).unwrap())
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

proptest! {
    #[test]
    fn no_payload_panics(kind in 0usize..9, payload: Vec<u8>, at: u64, since: u64) {
        let times = Times { at, since };
        use Kind::*;
        let kind = [Header, Permitted, Refused, Replies, Bulk, Cancel, End, Seal, Entry][kind];
        let frame = Frame { kind, times, payload: &payload };
        if let Some(told) = Told::of(&frame, Link::first(&[0; 16])) {
            let mut transcript = Transcript::default();
            for line in Story::default().tell(Recorded { times, told }) {
                transcript.line(&line);
            }
        }
    }

    #[test]
    fn no_wire_panics(kept: Vec<u8>, cut in 0u64..300, rows: u32) {
        let span = SpanNote { exchange: 1, rows, length: cut, kept: cut };
        let replies = RepliesNote { masked: 1, spans: vec![span, span], kept: Cow::Owned(kept.clone()) };
        let mut story = Story::default();
        for told in [allowed(1, whole(kept)), Told::Replies(replies)] {
            story.tell(Recorded { times: Times::default(), told });
        }
    }
}
