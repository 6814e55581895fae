//! What stands before hoop comes, and what an administrator looks at afterwards.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt::Write as _, thread};

use anyhow::{Context, Result, bail, ensure};

use super::machine::Machine;
use super::outside::{Elsewhere, Issuer};
use crate::shell;

/// The machine with a server, an agent that works all day, and what is outside.
pub struct Site {
    pub machine: Machine,
    pub issuer: Issuer,
    pub elsewhere: Elsewhere,
    pub folder: PathBuf,
}

/// As an agent of its own unit, with the operator's drop-in, in its own account.
const UNIT: &str = "systemd-run --quiet --wait --pipe --collect --slice=agents.slice \
    --setenv=PGCONNECT_TIMEOUT=60";

impl Site {
    pub fn make(disk: &Path, folder: &Path, kvm: bool) -> Result<Self> {
        let issuer = Issuer::start(folder)?;
        let elsewhere = Elsewhere::listen()?;
        let machine = Machine::start(disk, folder, kvm)?;
        for (name, text) in [
            ("loop.py", include_str!("inside/loop.py")),
            ("doors.py", include_str!("inside/doors.py")),
            ("session.sh", include_str!("inside/session.sh")),
            ("older.py", include_str!("inside/older.py")),
        ] {
            machine.write(&format!("/srv/agent/{name}"), text)?;
        }
        let script = include_str!("inside/site.sh");
        machine.ok(&format!("ISSUER={}\n{script}", issuer.port))?;
        Ok(Self {
            machine,
            issuer,
            elsewhere,
            folder: folder.to_path_buf(),
        })
    }

    /// Puts a token of the issuer where the mapping looks for it.
    pub fn give_token(&self) -> Result<()> {
        let path = "/etc/hoop/tokens/billing-bot";
        self.machine.write(path, "")?;
        self.machine.ok(&format!("chmod 600 {path}"))?;
        self.machine.write(path, self.issuer.token()?)
    }

    /// Runs a command as an agent in a unit of that number, and takes what it printed, whatever its end.
    pub fn agent(&self, number: u32, command: &str) -> Result<String> {
        let run = format!("{UNIT} --unit=billing-bot-{number} -- {command}");
        Ok(self.machine.run(&run)?.text)
    }

    /// psql as the agent, by the server's own name, with its certificate verified.
    pub fn psql(&self, number: u32, sql: &str) -> Result<String> {
        let target = "host=db.prod.internal dbname=shop user=agent sslmode=verify-full";
        self.agent(
            number,
            &format!("psql -XAt -v VERBOSITY=verbose '{target}' -c \"{sql}\""),
        )
    }

    /// What the agent that works all day saw in the next seconds, each kind with its count.
    pub fn work(&self, seconds: u32) -> Result<Work> {
        let script = format!(
            "cursor=$(journalctl --quiet --show-cursor -n 0 -u billing-bot | sed -n 's/^-- cursor: //p')\n\
             sleep {seconds}\n\
             journalctl --quiet -o cat -u billing-bot --after-cursor=\"$cursor\" | grep -E '^(as|refused|nothing) ' \
             | sort | uniq -c"
        );
        Ok(Work::of(&self.machine.run(&script)?.text))
    }

    /// Everything that it saw since the machine started.
    pub fn work_since_boot(&self) -> Result<Work> {
        let script = "journalctl --quiet -b -o cat -u billing-bot | grep -E '^(as|refused|nothing) ' | sort | uniq -c";
        Ok(Work::of(&self.machine.run(script)?.text))
    }

    /// Waits until it sees nothing but that, for three seconds on end.
    pub fn until_work_is(&self, wanted: &str, limit: Duration) -> Result<Work> {
        let until = Instant::now() + limit;
        loop {
            let work = self.work(3)?;
            if work.only(wanted) {
                return Ok(work);
            }
            if Instant::now() > until {
                bail!(
                    "the agent sees {work} and not only `{wanted}`{}",
                    self.why()?
                );
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// How many logins the server saw of agents by themselves, that is past hoop.
    pub fn past_hoop(&self) -> Result<u64> {
        let script =
            "cat /var/log/postgresql/*.log | grep -c 'connection authorized: user=agent' || true";
        let count = self.machine.ok(script)?;
        count
            .trim()
            .parse()
            .with_context(|| format!("no count: {count}"))
    }

    /// Fails if anything went past hoop since the count was taken.
    pub fn nothing_past_hoop_since(&self, before: u64) -> Result<()> {
        let now = self.past_hoop()?;
        ensure!(now == before, "{} connections went past hoop", now - before);
        Ok(())
    }

    /// What is worth reading when a step fails.
    pub fn why(&self) -> Result<String> {
        let script = "systemctl --no-pager --lines=0 status hoop billing-bot; \
            journalctl --quiet --no-pager -n 25 -u hoop; hoop status; hoop events | tail -5";
        Ok(format!("\n{}", self.machine.run(script)?.text))
    }

    /// The same package under another version.
    pub fn repacked(&self, package: &Path, version: &str) -> Result<PathBuf> {
        let tree = self.folder.join(format!("tree-{version}"));
        let to = self.folder.join(format!("hoop_{version}.deb"));
        let mut unpack = shell::command("dpkg-deb");
        shell::quiet(unpack.arg("-R").arg(package).arg(&tree))?;
        let control = tree.join("DEBIAN/control");
        let mut text = String::new();
        for line in std::fs::read_to_string(&control)?.lines() {
            match line.starts_with("Version: ") {
                true => writeln!(text, "Version: {version}")?,
                false => writeln!(text, "{line}")?,
            }
        }
        std::fs::write(&control, text)?;
        let mut pack = shell::command("dpkg-deb");
        pack.args(["--root-owner-group", "-Zgzip", "-z1", "--build"]);
        shell::output(pack.arg(&tree).arg(&to))?;
        std::fs::remove_dir_all(&tree)?;
        Ok(to)
    }
}

/// What an agent saw, by kind, as `uniq -c` counts it.
pub struct Work(Vec<(u64, String)>);

impl Work {
    fn of(counted: &str) -> Self {
        let line = |line: &str| {
            let (count, what) = line.trim_start().split_once(' ')?;
            Some((count.parse().ok()?, what.to_owned()))
        };
        Self(counted.lines().filter_map(line).collect())
    }

    pub fn only(&self, wanted: &str) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(_, what)| what.starts_with(wanted))
    }

    pub fn count(&self, wanted: &str) -> u64 {
        let fit = self.0.iter().filter(|(_, what)| what.starts_with(wanted));
        fit.map(|(count, _)| count).sum()
    }
}

impl std::fmt::Display for Work {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return to.write_str("nothing at all");
        }
        for (place, (count, what)) in self.0.iter().enumerate() {
            if place > 0 {
                to.write_str(", ")?;
            }
            write!(to, "{count}x {what:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_by_kind() {
        let work =
            Work::of("      3 as hoop_orders\n      1 nothing [Errno 111] Connection refused\n\n");
        assert_eq!(work.count("as"), 3);
        assert!(!work.only("as"));
        assert_eq!(
            work.to_string(),
            "3x \"as hoop_orders\", 1x \"nothing [Errno 111] Connection refused\""
        );
        assert!(
            !Work::of("").only("as"),
            "who does nothing does not do that"
        );
    }
}
