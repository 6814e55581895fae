//! `hoop verify`: whether recordings are as they were written.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::sessions::DirectoryArg;
use crate::record::Store;
use crate::replay::{Verified, find, verify};

#[derive(clap::Args)]
pub struct Args {
    /// Sessions' ids, or how they begin; without one, everything is verified
    sessions: Vec<String>,
    #[command(flatten)]
    directory: DirectoryArg,
    /// The key that must have sealed them: 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Outcome {
    session: String,
    ok: bool,
    /// `sealed`, `open` or `broken`.
    state: &'static str,
    frames: u64,
    forwarded: u64,
    key: Option<String>,
    why: Option<String>,
}

/// 0 if every chain and seal holds, 1 if any does not.
pub fn run(args: Args) -> Result<ExitCode> {
    let directory = args.directory.directory()?;
    let paths = match args.sessions.as_slice() {
        [] => Store::files(&directory),
        ids => ids
            .iter()
            .map(|id| find(&directory, id))
            .collect::<Result<_, _>>()?,
    };
    let mut bad = 0;
    for path in &paths {
        let outcome = outcome(path, args.key.as_deref());
        bad += usize::from(!outcome.ok);
        match args.json {
            true => println!("{}", serde_json::to_string(&outcome)?),
            false => println!("{}", line(&outcome)),
        }
    }
    if !args.json {
        println!("{} verified, {bad} broken", paths.len() - bad);
    }
    Ok(if bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn outcome(path: &Path, wanted: Option<&str>) -> Outcome {
    let session = path
        .file_stem()
        .and_then(|n| n.to_str())
        .unwrap_or_default()
        .to_owned();
    let broken = |why: String| Outcome {
        session: session.clone(),
        ok: false,
        state: "broken",
        frames: 0,
        forwarded: 0,
        key: None,
        why: Some(why),
    };
    let Verified {
        frames,
        forwarded,
        rest,
        sealed_by,
    } = match verify(path) {
        Ok(verified) => verified,
        Err(error) => return broken(error.to_string()),
    };
    let key: Option<String> = sealed_by.map(|k| k.iter().map(|b| format!("{b:02x}")).collect());
    if let (Some(wanted), Some(key)) = (wanted, &key)
        && !wanted.eq_ignore_ascii_case(key)
    {
        return broken(format!("sealed by another key: {key}"));
    }
    let state = if key.is_some() { "sealed" } else { "open" };
    let why = (key.is_none()).then(|| match rest {
        0 => "ended without a seal: the session goes on, or its worker was killed".into(),
        n => format!("ended without a seal, {n} bytes behind the last whole frame"),
    });
    Outcome {
        session,
        ok: true,
        state,
        frames,
        forwarded,
        key,
        why,
    }
}

fn line(o: &Outcome) -> String {
    let why = o.why.as_ref().map(|w| format!("  {w}")).unwrap_or_default();
    format!(
        "{}  {}  {} frames, {} forwarded{why}",
        o.session, o.state, o.frames, o.forwarded
    )
}
