//! `hoop metrics`: the daemon's counters in Prometheus' text format, for a textfile collector.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::control::DaemonArg;
use crate::keeper::control::Ask;
use crate::keeper::status::Status;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    daemon: DaemonArg,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let answer = args.daemon.ask(&Ask::Status)?;
    let status: Status =
        serde_json::from_value(answer).context("the daemon is of another version")?;
    print!("{}", text(&status));
    Ok(ExitCode::SUCCESS)
}

fn text(status: &Status) -> String {
    let mut page = Page::default();
    page.one(
        "hoop_up",
        "gauge",
        "Whether everything is well",
        u64::from(status.well),
    );
    let attached = status.hooks.iter().filter(|hook| hook.attached).count() as u64;
    page.one(
        "hoop_hooks_attached",
        "gauge",
        "Kernel programs that are attached",
        attached,
    );
    page.one(
        "hoop_hooks",
        "gauge",
        "Kernel programs that should be",
        status.hooks.len() as u64,
    );
    page.one(
        "hoop_lsm_tier",
        "gauge",
        "Whether the LSM tier is on",
        u64::from(status.lsm.on),
    );
    page.one(
        "hoop_sessions",
        "gauge",
        "Sessions that go on now",
        status.sessions.len() as u64,
    );
    page.one(
        "hoop_worker_restarts_total",
        "counter",
        "Workers that died",
        status.worker.restarts,
    );
    page.one(
        "hoop_retiring_workers",
        "gauge",
        "Workers from before an upgrade that still have sessions",
        status.retiring.len() as u64,
    );
    page.one(
        "hoop_retiring_sessions",
        "gauge",
        "Sessions in them",
        status.retiring.iter().map(|w| w.sessions as u64).sum(),
    );
    let c = &status.counters;
    page.some(
        "hoop_connections_total",
        "counter",
        "Connections by what became of them in the keeper",
        "outcome",
        &[
            ("handed_over", c.handed_over),
            ("no_origin", c.no_origin),
            ("busy", c.busy),
            ("kernel_refused", c.kernel_refused),
        ],
    );
    let i = &status.identity;
    let verified = [("ok", i.verified), ("refused", i.refused)];
    page.some(
        "hoop_verify_total",
        "counter",
        "Tokens verified",
        "outcome",
        &verified,
    );
    let refreshed = [("ok", i.obtained), ("failed", i.not_obtained)];
    page.some(
        "hoop_refresh_total",
        "counter",
        "Tokens asked for at issuers",
        "outcome",
        &refreshed,
    );
    page.some(
        "hoop_introspect_total",
        "counter",
        "Questions to issuers about tokens",
        "answer",
        &[
            ("active", i.active),
            ("inactive", i.inactive),
            ("none", i.unanswered),
        ],
    );
    page.one(
        "hoop_grace_total",
        "counter",
        "Times that the grace was used",
        i.graced,
    );
    page.one(
        "hoop_revoke_total",
        "counter",
        "Agents suspended since their token was revoked",
        i.suspended,
    );
    page.one(
        "hoop_identity_ended_total",
        "counter",
        "Sessions that ended with their identity",
        i.ended,
    );
    page.one(
        "hoop_bypasses",
        "gauge",
        "Agents for which the glass is broken",
        status.bypasses.len() as u64,
    );
    for bypass in &status.bypasses {
        let labels = format!("agent=\"{}\"", bypass.agent);
        page.labelled("hoop_bypass_seconds_left", &labels, bypass.left_s as f64);
    }
    for agent in &status.agents {
        let labels = format!("agent=\"{}\"", agent.name);
        page.labelled(
            "hoop_agent_suspended",
            &labels,
            agent.suspended.len() as f64,
        );
        for identity in &agent.identities {
            let instance = identity.instance.as_deref().unwrap_or_default();
            let labels = format!("{labels},instance={instance:?}");
            let fine = identity.refused.is_none();
            page.labelled("hoop_agent_identified", &labels, f64::from(u8::from(fine)));
            if let Some(bound) = identity.revocation_bound_ms {
                let seconds = std::time::Duration::from_millis(bound).as_secs_f64();
                page.labelled("hoop_agent_revocation_bound_seconds", &labels, seconds);
            }
        }
    }
    page.0
}

/// The text exposition format, version 0.0.4.
#[derive(Default)]
struct Page(String);

impl Page {
    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn some(&mut self, name: &str, kind: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, kind, help);
        for (which, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{which}\"}} {value}");
        }
    }

    /// One gauge of an agent; its name says what it is.
    fn labelled(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }
}
