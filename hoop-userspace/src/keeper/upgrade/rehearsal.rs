//! `hoop run --rehearse`, as the build that would take over: says whether it could, and changes
//! nothing. It reads the configuration, has a worker of its own take it, and has the kernel look at
//! its programs without attaching them.
//!
//! What it read stands afterwards in the anonymous file that is its standard input: what was tried is
//! what will be run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::reload::fixed;
use super::super::{Start, child, folders, of_console, suspended, talk};
use super::luggage;
use crate::capture::Capture;
use crate::config::{Bundle, Config};
use crate::handover::{Channel, FromWorker, ToWorker};
use crate::identify::Suspensions;
use crate::worker::privileges;

/// What the build says of itself, as one line of JSON. The names are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    pub version: String,
    /// Formats of luggage that it reads.
    pub luggage: Vec<u32>,
    /// Of the kernel's maps.
    pub layout: u32,
    /// What cannot change while the keeper runs, by the names of the configuration.
    pub fixed: BTreeMap<String, String>,
    /// Why it cannot take over.
    pub problem: Option<String>,
}

/// Prints a [`Report`]; says whether there is no problem.
pub fn rehearse(start: &Start) -> io::Result<bool> {
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION").into(),
        luggage: vec![luggage::FORMAT],
        layout: hoop_common::LAYOUT,
        ..Report::default()
    };
    report.problem = try_all(start, &mut report).err();
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &report)?;
    writeln!(out)?;
    Ok(report.problem.is_none())
}

fn try_all(start: &Start, report: &mut Report) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let bundle = Bundle::gather(&start.config).map_err(|error| words(&error))?;
    let config = Config::from_bundle(&bundle).map_err(|error| words(&error))?;
    report.fixed = fixed(&config);
    let account = privileges::account(&config.worker.user).map_err(|error| words(&error))?;
    if let Some(console) = &config.console {
        of_console(console, &account).map_err(|error| words(&error))?;
    }
    suspended::read_list(&config.worker.state.join(folders::KEEPER))
        .map_err(|error| words(&error))?;
    Capture::rehearse_takeover(&config.capture).map_err(|error| words(&error))?;
    let wire = bundle.to_wire();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| words(&error))?;
    runtime
        .block_on(worker(start, &config, &wire))
        .map_err(|why| format!("its worker does not take the configuration: {why}"))?;
    let stdin = io::stdin().as_fd().try_clone_to_owned();
    let written = stdin.and_then(|file| File::from(file).write_all(&wire));
    written.map_err(|error| format!("the configuration cannot be handed over: {error}"))
}

/// A worker takes the configuration and ends again.
async fn worker(start: &Start, config: &Config, wire: &[u8]) -> Result<(), String> {
    let spawned = child::spawn("worker", &config.worker.user, &start.worker_arguments);
    let (mut child, channel) = spawned.map_err(|error| error.to_string())?;
    let taken = tokio::time::timeout(talk::CONFIGURED_WITHIN, take(&channel, wire));
    let taken = taken
        .await
        .unwrap_or_else(|_| Err("it does not answer".into()));
    // It ends with its socket.
    drop(channel);
    let ended = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
    if ended.is_err() {
        let _ = child.kill().await;
    }
    taken
}

async fn take(channel: &Channel, wire: &[u8]) -> Result<(), String> {
    let configure = ToWorker::Configure {
        epoch: 1,
        bundle: wire.to_vec(),
    };
    for message in [ToWorker::Suspended(Suspensions::default()), configure] {
        let sent = channel.send(&message, None).await;
        sent.map_err(|error| error.to_string())?;
    }
    loop {
        let message = channel.receive::<FromWorker>().await;
        match message.map_err(|error| error.to_string())? {
            Some((FromWorker::Configured { outcome, .. }, _)) => return outcome,
            Some(_) => {}
            None => return Err("it ended".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_build_is_read() {
        let line = r#"{"version":"9.0.0","luggage":[1,2],"layout":1,"fixed":{"[capture] port":"0"},"more":1}"#;
        let report: Report = serde_json::from_str(line).unwrap();
        assert_eq!((report.luggage, report.problem), (vec![1, 2], None));
        let report: Report = serde_json::from_str("{}").unwrap();
        assert!(report.luggage.is_empty());
    }
}
