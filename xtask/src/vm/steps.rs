//! What an administrator does with a host, from the first installation to the removal, and what must be
//! seen after each step.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::containers;
use super::doors;
use super::machine::PATIENCE;
use super::site::Site;
use super::tier;

/// From `dpkg -i` to a masked query by following the guide.
const FIRST_QUERY: Duration = Duration::from_secs(300);

/// What `hoop doctor` finds well, at least.
const DOCTORS: usize = 30;

const DISCOVER: &str = r#"
[[agent]]
name = "billing-bot"
cgroup = "agents.slice/billing-bot*.service"
mode = "discover"

[policy]
use = ["read-only"]
"#;

/// With the issuer's address and a mode filled in.
const GOVERNED: &str = r#"
[issuer.okta]
url = "@ISSUER@"
audience = "api://hoop"

[[agent]]
name = "billing-bot"
cgroup = "agents.slice/billing-bot*.service"
issuer = "okta"
client_id = "billing-bot"
token = { file = "/etc/hoop/tokens/billing-bot" }
mode = "@MODE@"

[[resource]]
name = "orders"
protocol = "postgres"
hosts = ["db.prod.internal"]
ca = "/etc/site/ca.pem"
login = { user = "hoop_orders", password = { credential = "orders-password" } }

[[mask]]
resource = "orders"
columns = ["public.users.ssn"]
how = "partial"

[policy]
use = ["read-only"]
"#;

/// Tells each step as it is done.
struct Log<'a> {
    kernel: &'a str,
}

impl Log<'_> {
    fn step(&self, name: &str, site: &Site, step: impl FnOnce() -> Result<String>) -> Result<()> {
        let started = Instant::now();
        match step() {
            Ok(seen) => {
                println!(
                    "  {name:<34} ok {:>5.1} s  {seen}",
                    started.elapsed().as_secs_f64()
                );
                Ok(())
            }
            Err(error) => {
                println!("  {name:<34} FAILED");
                let why = site.why().unwrap_or_else(|error| format!("\n{error:#}"));
                Err(error).with_context(|| format!("{name}, with kernel {}: {why}", self.kernel))
            }
        }
    }
}

/// Every step of a host's life with hoop.
pub fn all(site: &mut Site, kernel: &str, package: &Path) -> Result<()> {
    let log = Log { kernel };
    let running = site.machine.ok("uname -r")?;
    println!("vm: {kernel}: {}", running.trim());
    log.step("before: the agent connects itself", site, || before(site))?;
    let mut without = Vec::new();
    log.step("before: the doors are open", site, || {
        without = doors::without(site)?;
        Ok(format!(
            "{} ways go through without hoop, and a connection to an agent's port",
            without.len()
        ))
    })?;
    let started = Instant::now();
    log.step("install", site, || install(site, package))?;
    log.step("discover", site, || discover(site))?;
    log.step("observe", site, || observe(site))?;
    log.step("enforce", site, || enforce(site))?;
    ensure!(
        started.elapsed() < FIRST_QUERY,
        "from the installation to the first masked query: {} s",
        started.elapsed().as_secs()
    );
    println!(
        "  from dpkg -i to a masked query, by way of discover and observe: {} s",
        started.elapsed().as_secs()
    );
    let before = site.past_hoop()?;
    log.step("doctor", site, || doctor(site))?;
    log.step("side doors", site, || doors::with(site, &without))?;
    log.step("LSM tier", site, || tier::with_daemon(&site.machine))?;
    log.step("containers", site, || contained(site))?;
    log.step("the agent's unit restarts", site, || restart(site))?;
    log.step("the worker is killed", site, || kill_worker(site))?;
    log.step("the daemon is killed", site, || kill_daemon(site))?;
    log.step("the daemon is stopped", site, || stop(site))?;
    log.step("upgrade, with a session open", site, || {
        change(site, package, "9.9.9", 10)
    })?;
    log.step("downgrade, with a session open", site, || {
        change(site, package, "0.0.9", 20)
    })?;
    log.step("nothing went past hoop", site, || {
        site.nothing_past_hoop_since(before)?;
        Ok(format!(
            "{} connections by agents themselves, none since enforce",
            before
        ))
    })?;
    let came = site.elsewhere.came();
    ensure!(came.is_empty(), "outside received {came:?}");
    site.machine.reboot()?;
    log.step("reboot", site, || rebooted(site, before))?;
    log.step("remove", site, || remove(site))
}

/// On a kernel that lacks what hoop needs: it says so, and nothing is half governed.
pub fn refused(site: &mut Site, kernel: &str, package: &Path) -> Result<()> {
    let log = Log { kernel };
    println!("vm: {kernel}: {}", site.machine.ok("uname -r")?.trim());
    log.step("before: the agent connects itself", site, || before(site))?;
    log.step("install", site, || {
        site.machine.put(package, "/var/tmp/hoop.deb")?;
        let said = site.machine.ok("dpkg -i /var/tmp/hoop.deb")?;
        ensure!(said.contains("nothing is governed yet"), "{said}");
        Ok("nothing is governed yet".to_owned())
    })?;
    log.step("the service refuses to start", site, || {
        site.machine.write("/etc/hoop/hoop.toml", DISCOVER)?;
        let said = site
            .machine
            .run("systemctl start agents.slice hoop.service")?;
        ensure!(!said.ok, "it started");
        let journal = site
            .machine
            .ok("systemctl stop hoop; journalctl --quiet -o cat -u hoop | grep -m1 -i kernel")?;
        ensure!(
            journal.contains("6.1"),
            "no word about which kernel is needed: {journal}"
        );
        Ok(journal.trim().to_owned())
    })?;
    log.step("doctor says what is missing", site, || {
        let said = site
            .machine
            .run("hoop doctor --offline | grep -E '^FAIL +kernel'")?;
        ensure!(said.ok && !said.text.trim().is_empty(), "{}", said.text);
        Ok(said
            .text
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned())
    })?;
    log.step("nothing is left half attached", site, || {
        site.machine
            .ok("test ! -e /sys/fs/bpf/hoop || test -z \"$(ls /sys/fs/bpf/hoop)\"")?;
        let work = site.until_work_is("as agent", PATIENCE)?;
        Ok(work.to_string())
    })
}

fn before(site: &Site) -> Result<String> {
    site.machine.ok("systemctl start billing-bot")?;
    Ok(site.until_work_is("as agent", PATIENCE)?.to_string())
}

fn install(site: &Site, package: &Path) -> Result<String> {
    site.machine.put(package, "/var/tmp/hoop.deb")?;
    let said = site.machine.ok("dpkg -i /var/tmp/hoop.deb 2>&1")?;
    ensure!(said.contains("nothing is governed yet"), "{said}");
    let work = site.until_work_is("as agent", PATIENCE)?;
    Ok(format!("nothing is governed yet; the agent: {work}"))
}

/// The guide's steps 1 to 5, with a file that hoop writes itself.
fn discover(site: &Site) -> Result<String> {
    let written = site.machine.ok("set -e; cd /etc/hoop\n\
         hoop discover --host --for 10s --agent-unit billing-bot --toml >hoop.toml\n\
         chmod 640 hoop.toml; hoop check >&2; grep -c . hoop.toml")?;
    site.machine.ok(
        "set -e\n\
         for unit in billing-bot.service billing-bot-.service; do\n\
         mkdir -p /etc/systemd/system/$unit.d\n\
         cp /usr/share/doc/hoop/examples/agent.service.d-hoop.conf /etc/systemd/system/$unit.d/hoop.conf\n\
         done\n\
         systemctl daemon-reload\n\
         systemctl enable --quiet --now agents.slice hoop.service\n\
         systemctl restart billing-bot; systemctl enable --quiet billing-bot",
    )?;
    site.until_work_is("as agent", PATIENCE)?;
    let found = site.machine.ok("hoop discover | grep 10.77.0.1:5432")?;
    ensure!(found.contains("billing-bot"), "{found}");
    doors::older(site)?;
    Ok(format!(
        "`--host --toml` wrote {} lines; {}",
        written
            .lines()
            .find(|line| line.bytes().all(|byte| byte.is_ascii_digit()))
            .context("no count of lines")?,
        found.lines().next().unwrap_or_default().trim()
    ))
}

/// The guide's steps 2 and 6, then the mode in which everything passes.
fn observe(site: &Site) -> Result<String> {
    site.give_token()?;
    site.machine.ok(
        "set -e; install -d -m 700 /etc/hoop/secrets\n\
         printf 'correct horse battery staple' | install -m 600 /dev/stdin /etc/hoop/secrets/orders-password\n\
         mkdir -p /etc/systemd/system/hoop.service.d\n\
         printf '[Service]\\nLoadCredential=orders-password:/etc/hoop/secrets/orders-password\\n' \
         >/etc/systemd/system/hoop.service.d/override.conf; systemctl daemon-reload",
    )?;
    site.machine
        .write("/etc/hoop/hoop.toml", governed(site, "discover"))?;
    // Credentials are loaded at a start.
    site.machine.ok("hoop check && systemctl restart hoop")?;
    site.machine.ok(
        "set -e; hoop trust postgres --home /srv/agent; chmod -R a+rX /srv/agent/.postgresql\n\
         for unit in billing-bot.service billing-bot-.service; do\n\
         printf '[Service]\\nEnvironment=PGSSLROOTCERT=/srv/agent/.postgresql/root.crt\\n' \
         >/etc/systemd/system/$unit.d/override.conf\n\
         done; systemctl daemon-reload; systemctl restart billing-bot",
    )?;
    set_mode(site, "observe")?;
    let work = site.until_work_is("as hoop_orders", PATIENCE)?;
    // What would be refused passes, and is counted.
    let passed = site.psql(1, "update orders set item = item")?;
    ensure!(passed.contains("UPDATE 1"), "it did not pass: {passed}");
    let report = site.machine.ok("hoop report")?;
    ensure!(
        report.to_lowercase().contains("update"),
        "the report does not tell of it: {report}"
    );
    Ok(format!(
        "{work}; hoop report tells of the UPDATE that would be refused"
    ))
}

fn enforce(site: &Site) -> Result<String> {
    set_mode(site, "enforce")?;
    site.until_work_is("as hoop_orders", PATIENCE)?;
    let masked = site.psql(2, "select name, ssn from users order by id")?;
    ensure!(
        masked.contains("Ada Byron|*******1120") && !masked.contains("078-05"),
        "not masked: {masked}"
    );
    let refused = site.psql(3, "drop table users")?;
    ensure!(refused.contains("42501"), "not refused: {refused}");
    let sessions = site
        .machine
        .ok("hoop sessions --refused --last 1 --json; hoop verify | tail -1")?;
    ensure!(sessions.contains("billing-bot"), "not recorded: {sessions}");
    ensure!(
        sessions.contains("0 broken"),
        "recordings do not verify: {sessions}"
    );
    Ok("ssn is *******1120; DROP TABLE is refused with 42501; both are recorded".to_owned())
}

/// With the mappings of the guide about containers, and without them again.
fn contained(site: &Site) -> Result<String> {
    let text = governed(site, "enforce") + &containers::mappings();
    site.machine.write("/etc/hoop/hoop.toml", text)?;
    site.machine.ok("hoop check && systemctl reload hoop")?;
    let seen = containers::agents(site)?;
    set_mode(site, "enforce")?;
    site.until_work_is("as hoop_orders", PATIENCE)?;
    Ok(seen)
}

fn governed(site: &Site, mode: &str) -> String {
    GOVERNED
        .replace("@ISSUER@", &site.issuer.url())
        .replace("@MODE@", mode)
}

fn set_mode(site: &Site, mode: &str) -> Result<()> {
    site.machine
        .write("/etc/hoop/hoop.toml", governed(site, mode))?;
    site.machine
        .ok("hoop check && systemctl reload hoop")
        .map(drop)
}

/// What the guide's command says; whatever fails must be named by the documents.
fn doctor(site: &Site) -> Result<String> {
    let said = site.machine.run("hoop doctor")?;
    let of = |kind: &str| -> Vec<&str> {
        let lines = said.text.lines();
        lines.filter(|line| line.starts_with(kind)).collect()
    };
    let (ok, warn, unknown) = (of("ok "), of("warn "), of("unknown "));
    ensure!(
        said.ok && of("FAIL").is_empty() && ok.len() >= DOCTORS,
        "{}",
        said.text
    );
    Ok(format!(
        "{} ok, {} warn, {} unknown, 0 FAIL",
        ok.len(),
        warn.len(),
        unknown.len()
    ))
}

fn restart(site: &Site) -> Result<String> {
    let stopped = site.machine.run("systemctl stop agents.slice")?;
    ensure!(
        !stopped.ok,
        "agents.slice can be stopped by hand: its cgroup would go, and the hooks with it"
    );
    site.machine
        .ok("for again in 1 2 3; do systemctl restart billing-bot; sleep 1; done")?;
    Ok(site.until_work_is("as hoop_orders", PATIENCE)?.to_string())
}

fn kill_worker(site: &Site) -> Result<String> {
    site.machine
        .ok("kill -9 $(pgrep -f '^hoop worker' | head -1)")?;
    let during = site.work(2)?;
    ensure!(during.count("as agent") == 0, "past hoop: {during}");
    let after = site.until_work_is("as hoop_orders", PATIENCE)?;
    Ok(format!("meanwhile {during}; then {after}"))
}

fn kill_daemon(site: &Site) -> Result<String> {
    site.machine
        .ok("systemctl kill --kill-who=main --signal=KILL hoop")?;
    let during = site.work(2)?;
    ensure!(during.count("as agent") == 0, "past hoop: {during}");
    let after = site.until_work_is("as hoop_orders", PATIENCE)?;
    Ok(format!("meanwhile {during}; then {after}"))
}

fn stop(site: &Site) -> Result<String> {
    site.machine.ok("systemctl stop hoop")?;
    let down = site.until_work_is("nothing", PATIENCE)?;
    site.machine.ok("systemctl start hoop")?;
    let after = site.until_work_is("as hoop_orders", PATIENCE)?;
    Ok(format!("{down}; started again, {after}"))
}

/// Installs another version while an agent's session goes on.
fn change(site: &Site, package: &Path, version: &str, number: u32) -> Result<String> {
    let other = site.repacked(package, version)?;
    site.machine.put(&other, "/var/tmp/other.deb")?;
    site.machine.ok(&format!(
        "systemd-run --quiet --collect --slice=agents.slice --unit=billing-bot-{number} \
         -p StandardOutput=file:/var/tmp/session-{number} -p StandardError=inherit /bin/sh /srv/agent/session.sh\n\
         for try in $(seq 60); do grep -q 'said|3' /var/tmp/session-{number} && break; sleep 1; done"
    ))?;
    let daemons = "systemctl show -P MainPID hoop; pgrep -f '^hoop worker'";
    let earlier = site.machine.ok(daemons)?;
    let said = site
        .machine
        .ok("dpkg -i --force-downgrade /var/tmp/other.deb 2>&1")?;
    // A package whose program was not taken is installed as well.
    ensure!(said.contains("has taken over from"), "{said}");
    let later = site.machine.ok(daemons)?;
    let (mut earlier, mut later) = (earlier.lines(), later.lines());
    ensure!(
        earlier.next() == later.next(),
        "the keeper is another process"
    );
    let workers: Vec<&str> = earlier.collect();
    ensure!(
        later.any(|worker| !workers.contains(&worker)),
        "no worker of the new version"
    );
    let running = site
        .machine
        .ok("dpkg-query -W -f '${Version}' hoop; hoop status | head -3")?;
    ensure!(running.starts_with(version), "{said}\n{running}");
    let meanwhile = site.work(3)?;
    let after = site.until_work_is("as hoop_orders", PATIENCE)?;
    ensure!(
        meanwhile.only("as hoop_orders"),
        "connections failed: {meanwhile}"
    );
    site.machine.ok(&format!(
        "for try in $(seq 120); do systemctl --quiet is-active billing-bot-{number} || break; sleep 1; done"
    ))?;
    let session = site.machine.ok(&format!("cat /var/tmp/session-{number}"))?;
    let answered = session
        .lines()
        .filter(|line| line.starts_with("said|"))
        .count();
    ensure!(
        answered == 40,
        "the session was cut after {answered} of 40 statements: {session}"
    );
    Ok(format!(
        "to {version}, by the same keeper with another worker: the session's 40 statements were answered; {meanwhile}, {after}"
    ))
}

fn rebooted(site: &Site, before: u64) -> Result<String> {
    site.until_work_is("as hoop_orders", PATIENCE)?;
    let since = site.work_since_boot()?;
    ensure!(
        since.count("as agent") == 0,
        "past hoop after the start: {since}"
    );
    site.nothing_past_hoop_since(before)?;
    site.machine.ok("hoop status")?;
    Ok(format!("since the start {since}"))
}

fn remove(site: &Site) -> Result<String> {
    let said = site.machine.ok("dpkg -r hoop 2>&1")?;
    ensure!(said.contains("governed no longer"), "{said}");
    site.machine.ok(
        "set -e; test ! -e /sys/fs/bpf/hoop; test ! -e /usr/bin/hoop; test ! -s /srv/agent/.postgresql/root.crt\n\
         test -d /var/lib/hoop; test -s /etc/hoop/hoop.toml",
    )?;
    // The drop-in keeps its agent from starting without hoop, as it says.
    let kept = site.machine.run("systemctl restart billing-bot")?;
    ensure!(
        !kept.ok,
        "the agent started although its drop-in asserts that somebody enforces"
    );
    site.machine.ok(
        "rm -r /etc/systemd/system/billing-bot.service.d /etc/systemd/system/billing-bot-.service.d\n\
         systemctl daemon-reload; systemctl reset-failed billing-bot; systemctl restart billing-bot",
    )?;
    let work = site.until_work_is("as agent", PATIENCE)?;
    site.machine
        .ok("dpkg -P hoop 2>&1; test ! -e /var/lib/hoop && test ! -e /etc/hoop")?;
    Ok(format!(
        "pins, program and trust are gone; the agent by itself: {work}; purged"
    ))
}
