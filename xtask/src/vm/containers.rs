//! Agents in containers of the engines that Debian has: Docker, Podman and containerd, each told by what its
//! runtime wrote down.

use anyhow::{Result, ensure};

use super::site::Site;

const SCRIPT: &str = include_str!("inside/containers.sh");

/// Who else is an agent, where, and by what. Podman's other form is a unit with the container below it.
const AGENTS: [(&str, &str, &str); 4] = [
    (
        "docker-bot",
        "docker-*.scope",
        r#"container = { label = "hoop.agent=docker-bot" }"#,
    ),
    (
        "podman-bot",
        "libpod-*.scope",
        r#"container = { name = "podman-bot" }"#,
    ),
    ("quadlet-bot", "quadlet-bot.service", ""),
    (
        "containerd-bot",
        "nerdctl-*.scope",
        r#"container = { annotation = "hoop.agent=containerd-bot" }"#,
    ),
];

/// Their part of the configuration.
pub fn mappings() -> String {
    let mapping = |(name, cgroup, pick): &(&str, &str, &str)| {
        format!(
            r#"
[[agent]]
name = "{name}"
cgroup = "agents.slice/{cgroup}"
{pick}
issuer = "okta"
client_id = "billing-bot"
token = {{ file = "/etc/hoop/tokens/billing-bot" }}
"#
        )
    };
    AGENTS.iter().map(mapping).collect()
}

/// With [`mappings`] in the configuration that is in force.
pub fn agents(site: &Site) -> Result<String> {
    drop(site.elsewhere.came());
    site.machine.write("/var/tmp/containers.sh", SCRIPT)?;
    let part = |part: &str| {
        let port = site.elsewhere.tcp;
        site.machine
            .ok(&format!("bash /var/tmp/containers.sh {part} {port}"))
    };
    part("prepare")?;
    let mut said = String::new();
    for engine in ["docker", "podman", "containerd"] {
        said.push_str(&part(engine)?);
    }
    for name in ["labelled", "podman", "quadlet", "containerd"] {
        let wanted = format!("{name}|Ada Byron|*******1120");
        ensure!(said.lines().any(|line| line == wanted), "{name}: {said}");
    }
    let nobody = said.lines().find(|line| line.starts_with("unlabelled|"));
    ensure!(
        nobody.is_some_and(|line| line.contains("no agent is configured")),
        "a container without the label: {said}"
    );
    let whoami = part("whoami")?;
    ensure!(
        whoami.contains("docker-bot") && whoami.contains("registry.example/team/bot:1"),
        "hoop whoami: {whoami}"
    );
    for (agent, _, _) in AGENTS {
        let listed = format!("hoop sessions --agent {agent} --last 1 --json");
        let session = site.machine.ok(&listed)?;
        ensure!(session.contains(agent), "{agent} is not recorded");
    }
    let came = site.elsewhere.came();
    ensure!(came.is_empty(), "outside received {came:?}");
    Ok(format!(
        "Docker by label, Podman by name and as a unit, containerd by annotation: ssn is *******1120; one without the label is nobody; {}",
        whoami.trim().trim_end_matches(';')
    ))
}
