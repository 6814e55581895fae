//! OpenSSH's regression tests, as Debian packages them: one script after the other, each against its own
//! server, which stands behind a name (tests/compat/ssh/regress.sh). What a script says before each step
//! is the name of a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoop_tests::PATIENCE;
use hoop_tests::sshd::ACCOUNT;

use super::{Outcome, Outcomes, Run, Told};
use crate::compat::ssh::{Hosts, PROXIED, REGRESS_PORT, STARTED};

/// Where the package has them.
const INSTALLED: &str = "/usr/lib/openssh/regress";
/// How long one script may take, in seconds: on a busy machine `rekey` needs more than ten minutes.
const LIMIT: &str = "1150";
/// The line before which ours is sourced.
const BODY: &str = "\n. $SCRIPT\n";

pub fn run(run: &Run<'_>) -> Result<Told> {
    let mut told = Told::default();
    every_script_is_told(run, &mut told)?;
    for script in &run.suite.arguments {
        let prefix = format!("{script}: ");
        if !run.only.is_empty() && !run.only.iter().any(|test| test.starts_with(&prefix)) {
            continue;
        }
        // A folder of its own: scripts change and leave what others read.
        let folder = prepared(run)?;
        let outcomes = folder.join("outcomes");
        let mut command = run
            .hosts()?
            .command(run.world, run.who, ACCOUNT, "timeout")?;
        command.args(["-k", "5", LIMIT, "sh"]);
        command.arg(folder.join("test-exec.sh")).arg(&folder);
        command.arg(folder.join(format!("{script}.sh")));
        command.current_dir(&folder).env_clear();
        command.envs(environment(&folder));
        run.bounded(&mut command, &format!("{script}.out"), "err")?;
        let text = super::super::read(&outcomes)?;
        std::fs::write(run.file(&format!("{script}.outcomes")), &text)?;
        for (test, outcome) in steps(&text) {
            let test = format!("{prefix}{test}");
            if run.wanted(&test) {
                told.outcomes.insert(test, outcome);
            }
        }
    }
    Ok(told)
}

/// Every script of the package is run, or is excluded with a reason.
fn every_script_is_told(run: &Run<'_>, told: &mut Told) -> Result<()> {
    let entries = std::fs::read_dir(INSTALLED)
        .with_context(|| format!("{INSTALLED} is missing: install openssh-tests"))?;
    let mut unknown = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(script) = name.strip_suffix(".sh") else {
            continue;
        };
        match run.suite.excluding(script) {
            Some(row) => {
                told.excluded.insert(row.test.clone());
            }
            None if run.suite.arguments.iter().any(|a| a == script) => {}
            None => {
                unknown.insert(script.to_owned());
            }
        }
    }
    ensure!(
        unknown.is_empty(),
        "tests/compat/suites.json neither runs nor excludes {unknown:?}"
    );
    Ok(())
}

/// A copy that the account owns, where our part is sourced, and hoop logs in with the key that stands
/// among those of the suite's own user.
fn prepared(run: &Run<'_>) -> Result<PathBuf> {
    let hosts = run.hosts()?;
    let folder = hosts.regress();
    remove(&folder)?;
    let step = |command: &mut Command| hoop_tests::run(command, "", PATIENCE)?.ok();
    step(Command::new("cp").arg("-a").arg(INSTALLED).arg(&folder))?;
    for entry in std::fs::read_dir(keys(hosts)?)? {
        let entry = entry?;
        std::fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/ssh");
    std::fs::copy(ours.join("regress.sh"), folder.join("hoop-regress.sh"))?;
    std::fs::copy(
        run.world.place.path("known_hosts"),
        folder.join("hoop-known"),
    )?;
    std::fs::write(folder.join("outcomes"), "")?;
    let body = folder.join("test-exec.sh");
    let text = super::super::read(&body)?;
    ensure!(
        text.matches(BODY).count() == 1,
        "{INSTALLED}/test-exec.sh sources its scripts in some other way"
    );
    std::fs::write(
        &body,
        text.replace(BODY, &format!("\n. $HOOP_PRELUDE{BODY}")),
    )?;
    step(
        Command::new("chown")
            .args(["-R", hosts.owner()])
            .arg(&folder),
    )?;
    Ok(folder)
}

/// Whatever a script has left running may write there for a moment longer.
fn remove(folder: &Path) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while folder.exists() {
        match std::fs::remove_dir_all(folder) {
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The user's keys, which are the server's too, made once: the scripts' own way takes seconds for each of
/// them.
fn keys(hosts: &Hosts) -> Result<PathBuf> {
    let folder = hosts.key().with_file_name("keys");
    if folder.exists() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder)?;
    for kind in ["ssh-dss", "ssh-rsa"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-N", "", "-C", kind, "-t", kind, "-f"]);
        hoop_tests::run(keygen.arg(folder.join(kind)), "", PATIENCE)?.ok()?;
    }
    for suffix in ["", ".pub"] {
        let key = format!("{}{suffix}", hosts.key().display());
        std::fs::copy(key, folder.join(format!("ssh-ed25519{suffix}")))?;
    }
    Ok(folder)
}

fn environment(folder: &Path) -> Vec<(&'static str, String)> {
    let at = folder.display().to_string();
    let mut all = vec![
        ("HOOP_PRELUDE", format!("{at}/hoop-regress.sh")),
        ("HOOP_KNOWN", format!("{at}/hoop-known")),
        ("HOOP_OUTCOMES", format!("{at}/outcomes")),
        ("TEST_SSH_PORT", REGRESS_PORT.to_string()),
        ("OBJ", at.clone()),
        ("BUILDDIR", at.clone()),
        ("HOME", at),
    ];
    let fixed = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("USER", ACCOUNT),
        ("LOGNAME", ACCOUNT),
        ("HOOP_PROXIED", PROXIED),
        ("HOOP_STARTED", STARTED),
        ("SUDO", ""),
        ("TEST_SHELL", "sh"),
        ("TEST_SSH_SSH", "ssh"),
        ("TEST_SSH_SSHD", "/usr/sbin/sshd"),
        ("TEST_SSH_SFTPSERVER", "/usr/lib/openssh/sftp-server"),
        ("TEST_SSH_PLINK", "plink"),
        ("TEST_SSH_PUTTYGEN", "puttygen"),
        ("TEST_SSH_UNSAFE_PERMISSIONS", "1"),
    ];
    all.extend(fixed.map(|(name, value)| (name, value.to_owned())));
    all
}

/// `step NAME`, and behind it `fail WHY` or `skip WHY` if it did not pass. The worst of two with one name
/// stands. The last step says `ok` of the whole; without it the script did not come to its end.
fn steps(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut current = "before the first step".to_owned();
    let mut ended = false;
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("step", name)) if name.starts_with("ok ") => ended = true,
            Some(("step", name)) => {
                name.clone_into(&mut current);
                outcomes
                    .entry(current.clone())
                    .or_insert_with(|| Outcome::new("passed", ""));
            }
            Some(("fail", why)) => {
                let first = outcomes.get(&current).is_none_or(|o| o.what != "failed");
                if first {
                    outcomes.insert(current.clone(), Outcome::new("failed", why));
                }
                ended = true;
            }
            Some(("skip", why)) => {
                outcomes.insert(current.clone(), Outcome::new("skipped", why));
                ended = true;
            }
            _ => {}
        }
    }
    let end = match ended {
        true => Outcome::new("passed", ""),
        false => Outcome::new("hung", "the script did not come to its end"),
    };
    outcomes.insert("its end".to_owned(), end);
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_says_is_read() {
        let text = "step one\nstep two\nfail no\nfail again\nstep three\nskip not here\n";
        let outcomes = steps(text);
        let what = |test: &str| outcomes[test].what.as_str();
        assert_eq!(what("one"), "passed");
        assert_eq!(
            (what("two"), outcomes["two"].why.as_str()),
            ("failed", "no")
        );
        assert_eq!((what("three"), what("its end")), ("skipped", "passed"));
        assert_eq!(steps("step one\n")["its end"].what, "hung");
        assert_eq!(steps("step one\nstep ok all\n")["its end"].what, "passed");
        assert_eq!(steps("fail no\n")["before the first step"].what, "failed");
    }
}
