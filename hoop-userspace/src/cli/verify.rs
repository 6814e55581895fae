//! `hoop verify`: whether recordings are as they were written.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use super::sessions::DirectoryArg;
use crate::ids::SessionId;
use crate::record::{Anchor, SealingKey, Store};
use crate::replay::{Verified, find, ledgers, verify};

#[derive(clap::Args)]
pub struct Args {
    /// Sessions' ids, or how they begin; without one, everything is verified
    sessions: Vec<String>,
    #[command(flatten)]
    directory: DirectoryArg,
    /// A key that may have sealed them: 64 hexadecimal digits; instead of this host's
    #[arg(long, value_name = "HEX")]
    key: Vec<String>,
    /// Logs with anchors, as a collector received them: what they name must be there, as it was then
    #[arg(long, value_name = "FILE")]
    anchors: Vec<PathBuf>,
    /// Print the keys that this host has sealed with, and verify nothing
    #[arg(long)]
    print_keys: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Outcome {
    session: String,
    ok: bool,
    /// `sealed`, `open`, `broken` or `missing`.
    state: &'static str,
    frames: u64,
    forwarded: u64,
    key: Option<String>,
    /// Whether the key was compared with one that is known.
    known_key: bool,
    /// Anchors that were compared.
    anchors: usize,
    why: Option<String>,
}

/// 0 if every chain, seal and anchor holds, 1 if any does not.
pub fn run(args: Args) -> Result<ExitCode> {
    let keys = args.keys();
    if args.print_keys {
        keys.iter().for_each(|key| println!("{key}"));
        return Ok(ExitCode::SUCCESS);
    }
    let anchors = read_anchors(&args.anchors)?;
    let outcomes = args.outcomes(&keys, &anchors)?;
    let bad = outcomes.iter().filter(|o| !o.ok).count();
    for outcome in &outcomes {
        match args.json {
            true => println!("{}", serde_json::to_string(outcome)?),
            false => println!("{}", line(outcome)),
        }
    }
    if !args.json {
        println!("{} verified, {bad} broken", outcomes.len() - bad);
        if keys.is_empty() && outcomes.iter().any(|o| o.key.is_some()) {
            println!(
                "seals were compared with no key: give --key, or run this where the host's is"
            );
        }
    }
    Ok(match bad {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

type Anchors = BTreeMap<[u8; 16], Vec<Anchor>>;

impl Args {
    /// What may have sealed a recording; none if that is not known here.
    fn keys(&self) -> Vec<String> {
        if !self.key.is_empty() {
            return self.key.iter().map(|k| k.to_ascii_lowercase()).collect();
        }
        let state = self.directory.state();
        state.map(|s| SealingKey::published(&s)).unwrap_or_default()
    }

    fn outcomes(&self, keys: &[String], anchors: &Anchors) -> Result<Vec<Outcome>> {
        let directory = self.directory.directory()?;
        if !self.sessions.is_empty() {
            let of = |id: &String| Ok(outcome(&find(&directory, id)?, keys, anchors));
            return self.sessions.iter().map(of).collect();
        }
        let mut paths = Store::files(&directory);
        let mut outcomes: Vec<_> = paths.iter().map(|p| outcome(p, keys, anchors)).collect();
        let there: HashMap<String, ()> = outcomes.iter().map(|o| (o.session.clone(), ())).collect();
        let names = anchors
            .iter()
            .map(|(chain, of)| (SessionId::from(*chain).to_string(), of));
        let gone = names.filter(|(name, _)| !there.contains_key(name));
        outcomes.extend(gone.map(|(name, of)| missing(name, of)));
        paths = self
            .directory
            .ledgers()
            .map(|d| ledgers(&d))
            .unwrap_or_default();
        outcomes.extend(paths.iter().map(|p| outcome(p, keys, anchors)));
        Ok(outcomes)
    }
}

fn read_anchors(files: &[PathBuf]) -> Result<Anchors> {
    let mut anchors = Anchors::new();
    for file in files {
        let bytes = std::fs::read(file);
        let bytes = bytes.with_context(|| format!("cannot read {}", file.display()))?;
        let found = Anchor::find(&String::from_utf8_lossy(&bytes)).collect::<Vec<_>>();
        anyhow::ensure!(
            !found.is_empty(),
            "{} holds no anchors: give the daemon's log, lines of target `audit` included",
            file.display()
        );
        for anchor in found {
            anchors.entry(anchor.chain).or_default().push(anchor);
        }
    }
    Ok(anchors)
}

fn missing(session: String, anchors: &[Anchor]) -> Outcome {
    Outcome {
        session,
        ok: false,
        state: "missing",
        frames: 0,
        forwarded: 0,
        key: None,
        known_key: false,
        anchors: anchors.len(),
        why: Some("it was anchored, and its file is gone".into()),
    }
}

fn outcome(path: &Path, keys: &[String], anchors: &Anchors) -> Outcome {
    let stem = path.file_stem().and_then(|n| n.to_str());
    let session = stem.unwrap_or_default().to_owned();
    // A ledger's name is its process's, then its chain's.
    let chain = session
        .rsplit('-')
        .next()
        .and_then(|id| id.parse::<SessionId>().ok());
    let anchors = chain
        .and_then(|c| anchors.get(c.as_bytes()))
        .map_or(&[][..], Vec::as_slice);
    let mut outcome = Outcome {
        session,
        ok: true,
        state: "open",
        frames: 0,
        forwarded: 0,
        key: None,
        known_key: false,
        anchors: anchors.len(),
        why: None,
    };
    match verify(path, anchors) {
        Ok(verified) => outcome.holds(verified, keys),
        Err(error) => outcome.breaks(error.to_string()),
    }
    outcome
}

impl Outcome {
    fn holds(&mut self, verified: Verified, keys: &[String]) {
        (self.frames, self.forwarded) = (verified.frames, verified.forwarded);
        let Some(key) = verified.sealed_by else {
            self.why = Some(match verified.rest {
                0 => "ended without a seal: the session goes on, or its worker was killed".into(),
                n => format!("ended without a seal, {n} bytes behind the last whole frame"),
            });
            return;
        };
        let key = crate::hex::encode(key);
        self.state = "sealed";
        self.known_key = keys.contains(&key);
        if !keys.is_empty() && !self.known_key {
            self.breaks(format!("sealed by another key: {key}"));
        }
        self.key = Some(key);
    }

    fn breaks(&mut self, why: String) {
        (self.ok, self.state, self.why) = (false, "broken", Some(why));
    }
}

fn line(o: &Outcome) -> String {
    let why = o.why.as_ref().map(|w| format!("  {w}")).unwrap_or_default();
    format!(
        "{}  {}  {} frames, {} forwarded{why}",
        o.session, o.state, o.frames, o.forwarded
    )
}
