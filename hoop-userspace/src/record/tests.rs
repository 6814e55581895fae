//! A recording from the recorder to the verifier, and what happens to one that was touched.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use smallvec::smallvec;

use super::format::{HASH, HEAD};
use super::*;
use crate::attribute::Process;
use crate::config::{self, Bundle, Config, Durability, Mode, PolicyFile};
use crate::decide::{Decided, Decider, Permitted, Refusal, Subject};
use crate::identify::Identity;
use crate::ids::{Epochs, ExchangeId, SessionId};
use crate::mask::{HashKey, Masked, Masker, Masking, Rules};
use crate::replay::{Reader, ReplayError, Tampered, Told, Verified, verify};
use crate::terminate::{
    Asked, Bulk, Column, Columns, End, Part, PartKind, Replies, Request, SqlAsked, SqlStep,
    SqlText, Stopped, Unit,
};
use crate::wire::postgres::rows::RowWriter;

struct Place {
    folder: tempfile::TempDir,
    store: Arc<Store>,
}

impl Place {
    fn new(durability: Durability) -> Self {
        Self::at(tempfile::tempdir().unwrap(), durability)
    }

    fn at(folder: tempfile::TempDir, durability: Durability) -> Self {
        let settings = config::Record {
            directory: folder.path().join("recordings"),
            durability,
            result_bytes: 4096,
        };
        let key = SealingKey::open(&folder.path().join(SealingKey::FILE)).unwrap();
        let store = Store::open(&settings, key).unwrap();
        Self { folder, store }
    }

    fn session(&self, number: u8) -> SessionRecorder {
        self.store.session(header(number)).unwrap()
    }

    fn path(&self, number: u8) -> PathBuf {
        let name = format!("{}.hoop", header(number).session);
        let files = Store::files(&self.folder.path().join("recordings"));
        files.into_iter().find(|f| f.ends_with(&name)).unwrap()
    }

    fn sealed(&self, number: u8) -> PathBuf {
        let mut session = self.session(number);
        fill(&mut session);
        session.ended(&End::Finished, Stopped::Idle).unwrap();
        self.path(number)
    }
}

fn fill(session: &mut SessionRecorder) {
    session
        .permitted(permitted("SELECT id FROM users", 1))
        .unwrap();
    session.masked(masked(1, 3, 10)).unwrap();
    session.refusal(refusal(2)).unwrap();
    session.cancel(Some(ExchangeId(2))).unwrap();
    let bulk = Bulk {
        wire: Bytes::from(vec![b'd'; 10_000]),
        end: true,
    };
    session.bulk(ExchangeId(3), &bulk).unwrap();
}

#[test]
fn a_header_of_before_there_were_networks_is_read() {
    let mut header = header(1);
    header.netns = Some(4026);
    let now = postcard::to_extend(&header, Vec::new()).unwrap();
    assert_eq!(Header::of(&now), Some(header.clone()));
    header.netns = None;
    let whole = postcard::to_extend(&header, Vec::new()).unwrap();
    let (before, none) = whole.split_at(whole.len() - 1);
    assert_eq!((Header::of(before), none), (Some(header), &[0][..]));
    assert_eq!(Header::of(&before[..before.len() - 1]), None);
}

fn header(number: u8) -> Header {
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
    Header {
        session: SessionId::new(started, [number; 10]),
        started,
        agent: Some("billing-bot".into()),
        mode: Mode::Enforce,
        identity: IdentityNote::Unverified {
            why: "a test".into(),
        },
        process: Process::default(),
        resource: Some("orders".into()),
        protocol: "postgres".into(),
        destination: "10.0.0.1:5432".parse().unwrap(),
        observed: vec!["db.prod".into()],
        database: Some("appdb".into()),
        login: Some("hoop".into()),
        client_user: None,
        application: Some("psql".into()),
        netns: None,
    }
}

fn permitted(sql: &str, exchange: u64) -> Permitted {
    static DECIDER: OnceLock<Decider> = OnceLock::new();
    let decider = DECIDER.get_or_init(|| {
        let text = "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
             login = { user = \"hoop\" }\n";
        let bundle = Bundle::from_text(std::path::Path::new("hoop.toml"), text);
        let mut config = Config::from_bundle(&bundle).unwrap();
        config.policy.files = vec![PolicyFile {
            name: "all.cedar".into(),
            text: "permit (principal, action in Action::\"sql\", resource);".into(),
        }];
        Decider::new(&config).unwrap()
    });
    let text = Arc::new(SqlText {
        text: sql.into(),
        hash: sql.len() as u64,
    });
    let mut wire = BytesMut::from(&b"Q"[..]);
    wire.extend_from_slice(&(sql.len() as u32 + 5).to_be_bytes());
    wire.extend_from_slice(sql.as_bytes());
    wire.extend_from_slice(b"\0");
    let asked = SqlAsked {
        step: SqlStep::Simple,
        candidates: smallvec![text],
        parameters: Arc::new([]),
    };
    let request = Request {
        exchange: ExchangeId(exchange),
        units: smallvec![Unit {
            end: wire.len(),
            asked: Asked::Sql(asked)
        }],
        wire: wire.freeze(),
    };
    let subject = Subject {
        session: SessionId::from([7; 16]),
        identity: Arc::new(Identity::for_test("bot", &[])),
        process: Arc::new(Process::default()),
        resource: "orders".into(),
        database: "appdb".into(),
        login: "hoop".into(),
        epochs: Epochs {
            policy: 3,
            identity: 4,
        },
        mode: Mode::Enforce,
        derived: Arc::default(),
        activity: Default::default(),
        objects: Arc::default(),
        unseen: Arc::default(),
    };
    match decider.decide(&subject, request) {
        Decided::Permitted(permitted) => permitted,
        other => panic!("{other:?}"),
    }
}

fn masked(exchange: u64, rows: u32, width: usize) -> Masked {
    let mut wire = BytesMut::new();
    for _ in 0..rows {
        let mut row = RowWriter::new(&mut wire);
        row.push(Some(&vec![b'x'; width]));
        row.finish();
    }
    let column = Column {
        label: "id".into(),
        table: 0,
        attribute: 0,
        kind: 25,
        binary: false,
    };
    let columns = Some(Arc::new(Columns {
        columns: vec![column],
    }));
    let exchange = ExchangeId(exchange);
    let part = |kind, end| Part {
        exchange,
        unit: 0,
        end,
        kind,
    };
    let end = wire.len();
    wire.extend_from_slice(b"Z\0\0\0\x05I");
    let parts = vec![
        part(
            PartKind::Rows {
                count: rows,
                columns,
            },
            end,
        ),
        part(PartKind::Done, wire.len()),
    ];
    let replies = Replies {
        wire: wire.freeze(),
        parts,
    };
    let mut masker = Masker::new(Rules::of([], &HashKey::new(&[0; 32]), 1000));
    match masker.mask(replies, &Arc::default()) {
        Masking::Done(masked) => masked,
        Masking::NeedsCatalog(_) => panic!("nothing is masked"),
    }
}

fn refusal(exchange: u64) -> Refusal {
    Refusal {
        exchange: ExchangeId(exchange),
        unit: 0,
        code: crate::decide::Code::Forbidden,
        message: "no".into(),
        rule: None,
        retry: crate::decide::Retry::Never,
        hint: "ask".into(),
        approval: None,
        asked: Some(Arc::new(SqlText {
            text: "DELETE FROM users".into(),
            hash: 1,
        })),
    }
}

fn told(path: &std::path::Path) -> Vec<Told> {
    let mut reader = Reader::open(path).unwrap();
    let mut found = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        found.push(event.told);
    }
    found
}

#[test]
fn what_was_recorded_is_read() {
    let place = Place::new(Durability::Kernel);
    let path = place.sealed(1);
    let told = told(&path);
    assert!(matches!(&told[0], Told::Header(h) if **h == header(1)));
    let Told::Permitted(note) = &told[1] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (note.exchange, note.policy_epoch, note.identity_epoch),
        (1, 3, 4)
    );
    assert_eq!(&note.wire.kept[5..], b"SELECT id FROM users\0");
    assert_eq!((note.wire.length, note.wire.digest), (26, None));
    let found = note.units[0].found.as_ref().unwrap();
    assert_eq!(
        (&found.verbs[..], found.opaque),
        (&["SELECT".to_owned()][..], false)
    );
    assert_eq!(note.units[0].rules.len(), 1);
    let Told::Replies(note) = &told[2] else {
        panic!("{told:?}")
    };
    assert_eq!(
        note.spans
            .iter()
            .map(|s| (s.rows, s.length))
            .collect::<Vec<_>>(),
        [(3, 63), (0, 6)]
    );
    assert_eq!(note.kept.len(), 69);
    assert!(
        matches!(&told[3], Told::Refused(r) if r.asked.as_deref() == Some("DELETE FROM users"))
    );
    assert!(matches!(&told[4], Told::Cancel(Some(2))));
    let Told::Bulk(note) = &told[5] else {
        panic!("{told:?}")
    };
    assert_eq!(
        (note.end, note.wire.length, note.wire.kept.len()),
        (true, 10_000, 4096)
    );
    assert!(note.wire.digest.is_some());
    assert!(matches!(&told[6], Told::End(e) if (e.requests, e.refusals, e.rows) == (1, 1, 3)));
    let verified = verify(&path, &[]).unwrap();
    assert_eq!((verified.frames, verified.rest), (8, 0));
    let keys = SealingKey::published(place.folder.path());
    let key: String = verified
        .sealed_by
        .unwrap()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(keys, [key]);
}

#[test]
fn a_large_result_is_kept_up_to_the_bound_and_counted_beyond() {
    let place = Place::new(Durability::Kernel);
    let mut session = place.session(1);
    for _ in 0..3 {
        session.masked(masked(1, 10, 300)).unwrap();
    }
    session.masked(masked(2, 1, 300)).unwrap();
    drop(session);
    let kept = |told: &Told| match told {
        Told::Replies(note) => note.spans.iter().map(|s| (s.rows, s.kept)).next(),
        _ => None,
    };
    let kept: Vec<_> = told(&place.path(1)).iter().filter_map(kept).collect();
    assert_eq!(kept, [(10, 3110), (10, 986), (10, 0), (1, 311)]);
}

#[test]
fn room_that_was_set_aside_is_given_back() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new(Durability::Kernel);
    let path = place.sealed(1);
    place.store.session(header(2)).unwrap();
    let meta = fs::metadata(path).unwrap();
    assert!(
        meta.blocks() * 512 < meta.len() + 8192,
        "{} blocks",
        meta.blocks()
    );
}

/// Offsets at which frames begin, and the end.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = PREAMBLE;
    let mut found = vec![at];
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        at += HEAD + length + HASH;
        found.push(at);
    }
    found
}

struct Touched {
    place: Place,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Touched {
    fn new() -> Self {
        let place = Place::new(Durability::Kernel);
        let path = place.sealed(1);
        let bytes = fs::read(&path).unwrap();
        Self { place, path, bytes }
    }

    fn verify(&self, bytes: &[u8]) -> Result<Verified, ReplayError> {
        fs::write(&self.path, bytes).unwrap();
        verify(&self.path, &[])
    }
}

#[test]
fn frames_that_are_removed_swapped_or_brought_in_break_the_chain() {
    let touched = Touched::new();
    let bytes = &touched.bytes;
    let at = frames(bytes);
    for i in 0..at.len() - 2 {
        let without = [&bytes[..at[i]], &bytes[at[i + 1]..]].concat();
        let error = touched.verify(&without).unwrap_err();
        assert!(
            matches!(error, ReplayError::Broken { frame, .. } if frame == i as u64 + 1),
            "{error}"
        );
        let swapped = [
            &bytes[..at[i]],
            &bytes[at[i + 1]..at[i + 2]],
            &bytes[at[i]..at[i + 1]],
            &bytes[at[i + 2]..],
        ];
        assert!(touched.verify(&swapped.concat()).is_err());
    }
    let other = fs::read(touched.place.sealed(2)).unwrap();
    let of_other = frames(&other);
    for i in 0..at.len() - 1 {
        let spliced = [
            &bytes[..at[i]],
            &other[of_other[i]..of_other[i + 1]],
            &bytes[at[i + 1]..],
        ];
        assert!(touched.verify(&spliced.concat()).is_err());
    }
    let error = touched.verify(&other).unwrap_err();
    assert!(
        matches!(
            error,
            ReplayError::Tampered {
                why: Tampered::Name,
                ..
            }
        ),
        "{error}"
    );
    let error = touched
        .verify(&[&bytes[..], &bytes[PREAMBLE..at[1]]].concat())
        .unwrap_err();
    assert!(matches!(error, ReplayError::Broken { .. }), "{error}");
    let error = touched.verify(&[&bytes[..], b"x"].concat()).unwrap_err();
    assert!(
        matches!(
            error,
            ReplayError::Tampered {
                why: Tampered::BehindSeal,
                ..
            }
        ),
        "{error}"
    );
    assert!(touched.verify(bytes).unwrap().sealed_by.is_some());
}

#[test]
fn a_writer_that_was_killed_leaves_what_was_whole() {
    let touched = Touched::new();
    let at = frames(&touched.bytes);
    for cut in (0..touched.bytes.len())
        .step_by(7)
        .chain(at.iter().copied())
    {
        let verified = touched.verify(&touched.bytes[..cut]).unwrap();
        let whole = at.iter().filter(|a| **a <= cut).count().saturating_sub(1);
        assert_eq!(verified.frames, whole as u64);
        assert_eq!(verified.sealed_by.is_some(), cut == touched.bytes.len());
        let last = at.iter().rfind(|a| **a <= cut).copied().unwrap_or(0);
        assert_eq!(verified.rest, (cut - last) as u64);
    }
    // Cut off within a frame, and written on: the rest of that frame is missing.
    let cut = at[3] - 5;
    let patched = [&touched.bytes[..cut], &touched.bytes[at[3]..]].concat();
    assert!(touched.verify(&patched).is_err());
}

#[test]
fn what_is_written_anew_or_cut_off_contradicts_its_anchors() {
    let touched = Touched::new();
    let at = frames(&touched.bytes);
    let link = |frame: usize| {
        Link(
            touched.bytes[at[frame] - HASH..at[frame]]
                .try_into()
                .unwrap(),
        )
    };
    let chain = *header(1).session.as_bytes();
    let anchor = |frame: usize, link| Anchor {
        chain,
        frames: frame as u64,
        link,
    };
    let all: Vec<_> = (1..at.len()).map(|i| anchor(i, link(i))).collect();
    assert!(verify(&touched.path, &all).is_ok());
    let anew = [anchor(4, link(5))];
    let error = verify(&touched.path, &anew).unwrap_err();
    assert!(
        matches!(
            error,
            ReplayError::Tampered {
                frame: 4,
                why: Tampered::Anchor,
                ..
            }
        ),
        "{error}"
    );
    fs::write(&touched.path, &touched.bytes[..at[4]]).unwrap();
    let error = verify(&touched.path, &all).unwrap_err();
    assert!(
        matches!(
            error,
            ReplayError::Tampered {
                why: Tampered::CutOff,
                ..
            }
        ),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_flipped_bit_is_noticed(at: prop::sample::Index, bit in 0u8..8) {
        static TOUCHED: OnceLock<Vec<u8>> = OnceLock::new();
        let bytes = TOUCHED.get_or_init(|| Touched::new().bytes);
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= 1 << bit;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{}.hoop", header(1).session));
        fs::write(&path, &changed).unwrap();
        let verified = verify(&path, &[]);
        prop_assert!(!verified.is_ok_and(|v| v.sealed_by.is_some()));
    }
}

#[tokio::test]
async fn what_is_durable_was_synced_after_it_was_written() {
    let place = Place::new(Durability::Disk);
    let mut session = place.session(1);
    let slow = place.store.slow_disk();
    session.permitted(permitted("SELECT 1", 1)).unwrap();
    assert!(session.waits_for_disk());
    let mut durable = Box::pin(session.durable());
    let early = tokio::time::timeout(Duration::from_millis(250), &mut durable).await;
    assert!(early.is_err(), "nothing had been synced");
    drop(slow);
    durable.await.unwrap();
    session.durable().await.unwrap();
}

#[tokio::test]
async fn kernel_grade_reaches_the_disk_by_itself() {
    let place = Place::new(Durability::Kernel);
    let mut session = place.session(1);
    session.permitted(permitted("SELECT 1", 1)).unwrap();
    assert!(!session.waits_for_disk());
    let (began, syncs) = (Instant::now(), session.syncs_for_test());
    while session.syncs_for_test() == syncs {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "it was not synced"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_file_that_failed_takes_nothing_more() {
    let place = Place::new(Durability::Kernel);
    let mut session = place.session(1);
    session.break_for_test();
    assert!(session.refusal(refusal(1)).is_err());
    assert!(session.masked(masked(1, 1, 1)).is_err());
    assert!(session.ended(&End::Finished, Stopped::Idle).is_err());
}

/// A disk of its own that fills up.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        use nix::mount::{MsFlags, mount};
        let folder = tempfile::tempdir().unwrap();
        let (tmpfs, size) = (Some("tmpfs"), Some("size=600k"));
        mount(tmpfs, folder.path(), tmpfs, MsFlags::empty(), size)
            .expect("mounting a small disk needs root: run the unit tests as root");
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn on_a_full_disk_the_end_is_still_recorded() {
    let disk = SmallDisk::new();
    let folder = tempfile::tempdir_in(disk.0.path()).unwrap();
    let place = Place::at(folder, Durability::Kernel);
    let mut session = place.session(1);
    let error = (0..10_000)
        .find_map(|i| session.masked(masked(i, 10, 200)).err())
        .expect("600 KiB hold no more");
    assert!(matches!(error, RecordError::Full { .. }), "{error}");
    assert!(session.permitted(permitted("SELECT 1", 1)).is_err());
    session.refusal(refusal(9)).unwrap();
    let end = End::Unrecordable(error.to_string());
    session.ended(&end, Stopped::Cancelled).unwrap();
    let verified = verify(&place.path(1), &[]).unwrap();
    assert!(verified.sealed_by.is_some());
}

#[test]
fn what_detectors_find_in_requests_never_reaches_the_disk() {
    let text = "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
         login = { user = \"hoop\" }\n[[mask]]\nresource = \"orders\"\n\
         detect = [\"pii\", \"card\"]\nhow = \"redact\"\n";
    let bundle = Bundle::from_text(std::path::Path::new("hoop.toml"), text);
    let config = Config::from_bundle(&bundle).unwrap();
    let rules = Rules::new(&config, &"orders".into(), &HashKey::new(&[0; 32]));
    let place = Place::new(Durability::Kernel);
    let mut session = place.session(1);
    session.redact(rules.detection().cloned());
    let sql = "INSERT INTO t VALUES ('4111 1111 1111 1111', 'ada@example.com')";
    let forwarded = session.permitted(permitted(sql, 1)).unwrap();
    assert!(String::from_utf8_lossy(forwarded.get().wire()).contains(sql));
    let mut refused = refusal(2);
    refused.message = "no such thing as ada@example.com".into();
    session.refusal(refused).unwrap();
    let bulk = Bulk {
        wire: Bytes::from_static(b"d\0\0\0\x16ada@example.com\t1\n"),
        end: true,
    };
    session.bulk(ExchangeId(3), &bulk).unwrap();
    session.ended(&End::Finished, Stopped::Idle).unwrap();
    let kept = fs::read(place.path(1)).unwrap();
    let kept = String::from_utf8_lossy(&kept);
    for secret in ["4111 1111", "ada@"] {
        assert!(!kept.contains(secret), "{secret}");
    }
    assert!(kept.contains("VALUES ('[masked:card]', '[masked:email]')"));
    assert!(verify(&place.path(1), &[]).unwrap().sealed_by.is_some());
}
