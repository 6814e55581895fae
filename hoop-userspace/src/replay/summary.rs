//! One line for each recorded session.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::ids::SessionId;

use super::read::{Reader, ReplayError, Told};
use crate::record::IdentityNote;
use crate::record::{EndNote, Header};
use crate::record::{LEDGER_EXTENSION, Store};

/// What `hoop sessions` prints. The keys are kept.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub session: String,
    pub started: String,
    pub agent: Option<String>,
    pub mode: String,
    /// Issuer and subject, if verified.
    pub identity: Option<String>,
    pub client_id: Option<String>,
    /// `service` or `user`.
    pub kind: Option<String>,
    /// Why the identity was not verified.
    pub unverified: Option<String>,
    pub resource: Option<String>,
    pub protocol: String,
    pub destination: String,
    pub database: Option<String>,
    pub login: Option<String>,
    pub application: Option<String>,
    pub pid: u32,
    pub uid: u32,
    pub executable: Option<String>,
    pub argv: Vec<String>,
    pub cgroup: String,
    pub unit: Option<String>,
    pub requests: u64,
    pub refusals: u64,
    pub rows: u64,
    /// `finished`, `identity`, `killed`, `drained`, `unrecordable`, `broken`; `None` while it is open.
    pub end: Option<String>,
    pub reason: Option<String>,
    pub outcome: Option<String>,
    /// What was refused last, for sessions that were refused before they began.
    pub last_refusal: Option<String>,
    pub sealed: bool,
    #[serde(skip)]
    pub path: PathBuf,
}

impl Summary {
    /// Reads one recording.
    pub fn read(path: &Path) -> Result<Self, ReplayError> {
        let mut reader = Reader::open(path)?;
        let mut summary: Option<Self> = None;
        while let Some(event) = reader.next_event()? {
            if let Told::Header(header) = &event.told {
                summary = Some(Self::of(header, path));
            }
            let Some(summary) = &mut summary else {
                continue;
            };
            match event.told {
                Told::Permitted(note) => summary.requests += u64::from(!note.is_connection()),
                Told::Refused(refusal) => {
                    summary.refusals += 1;
                    summary.last_refusal = Some(refusal.message);
                }
                Told::Replies(replies) => {
                    let rows = replies.spans.iter().map(|s| u64::from(s.rows));
                    summary.rows = rows.fold(summary.rows, u64::saturating_add);
                }
                Told::End(end) => summary.end(end),
                Told::Seal(..) => summary.sealed = true,
                _ => {}
            }
        }
        summary.ok_or_else(|| ReplayError::NoSession(path.display().to_string()))
    }

    fn of(header: &Header, path: &Path) -> Self {
        let process = &header.process;
        let (identity, client_id, kind, unverified) = match &header.identity {
            IdentityNote::Verified {
                issuer,
                subject,
                client_id,
                kind,
                ..
            } => (
                Some(format!("{issuer}/{subject}")),
                Some(client_id.clone()),
                Some(kind.name().to_owned()),
                None,
            ),
            IdentityNote::Unverified { why } => (None, None, None, Some(why.clone())),
        };
        Self {
            session: header.session.to_string(),
            started: rfc3339(header.started),
            agent: header.agent.clone(),
            mode: format!("{:?}", header.mode).to_lowercase(),
            identity,
            client_id,
            kind,
            unverified,
            resource: header.resource.clone(),
            protocol: header.protocol.clone(),
            destination: header.destination.to_string(),
            database: header.database.clone(),
            login: header.login.clone(),
            application: header.application.clone(),
            pid: process.pid,
            uid: process.uid,
            executable: process.executable.as_ref().map(|e| e.display().to_string()),
            argv: process.argv.clone(),
            cgroup: process.cgroup.clone(),
            unit: process.unit.clone(),
            requests: 0,
            refusals: 0,
            rows: 0,
            end: None,
            reason: None,
            outcome: None,
            last_refusal: None,
            sealed: false,
            path: path.to_owned(),
        }
    }

    fn end(&mut self, end: EndNote) {
        self.end = Some(end.kind);
        self.reason = (!end.reason.is_empty()).then_some(end.reason);
        self.outcome = Some(end.outcome);
    }
}

/// Summaries of all sessions below a directory that began since then, oldest first; and what could
/// not be read.
pub fn list(
    directory: &Path,
    since: Option<SystemTime>,
) -> impl Iterator<Item = Result<Summary, ReplayError>> {
    let recent = move |path: &PathBuf| since.is_none_or(|since| began(path) >= Some(since));
    let files = Store::files(directory).into_iter().filter(recent);
    files.map(|path| Summary::read(&path))
}

/// A session's id begins with the milliseconds at which it began.
fn began(path: &Path) -> Option<SystemTime> {
    let id: SessionId = path.file_stem()?.to_str()?.parse().ok()?;
    let (millis, _) = id.as_bytes().split_first_chunk::<6>()?;
    let millis = millis
        .iter()
        .fold(0, |all, byte| all << 8 | u64::from(*byte));
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// The recording of the one session whose id begins so.
pub fn find(directory: &Path, id: &str) -> Result<PathBuf, ReplayError> {
    let id = id.to_ascii_lowercase();
    let begins = |path: &PathBuf| {
        path.file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n.starts_with(&id))
    };
    let mut found = Store::files(directory).into_iter().filter(begins);
    match (found.next(), found.next()) {
        (Some(path), None) if !id.is_empty() => Ok(path),
        (None, _) => Err(ReplayError::NoSession(id)),
        _ => Err(ReplayError::Several(id)),
    }
}

/// All ledgers of a directory, oldest first.
pub fn ledgers(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_ledger = |p: &PathBuf| p.extension().is_some_and(|e| e == LEDGER_EXTENSION);
    let mut found: Vec<_> = entries.map(|e| e.path()).filter(is_ledger).collect();
    // Named for what they are about and then for when they were begun.
    let begun = |path: &PathBuf| {
        let name = path.file_stem().map(|n| n.to_string_lossy().into_owned());
        name.unwrap_or_default()
            .rsplit('-')
            .next()
            .map(str::to_owned)
    };
    found.sort_by_cached_key(|path| (begun(path), path.clone()));
    found
}

/// As every line that is replayed has it: RFC 3339 in UTC, to the microsecond.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).map(|d| d.as_nanos());
    at(since.map_or(0, |nanos| i128::try_from(nanos).unwrap_or(i128::MAX)))
}

/// RFC 3339 of nanoseconds since the Unix epoch, to the microsecond. A time that no calendar has,
/// as only a file that was tampered with can claim, is empty.
pub(super) fn at(nanos: i128) -> String {
    const FORM: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    time.and_then(|t| t.format(FORM).ok()).unwrap_or_default()
}
