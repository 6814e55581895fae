//! `hoop whoami`: as whom hoop takes a cgroup or a process, and exactly why not if it does not.
//! It does what the daemon does for a connection: mapping, token, verification.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ConfigArg;
use crate::attribute::containers::Isolated;
use crate::attribute::{self, Cgroups, Container, Containers, Process, Seen};
use crate::config::{Agent, Bundle, ClientAuth, Config, Kind, Mode, TokenSource};
use crate::identify::token::Tokens;
use crate::identify::{self, Choice, Occasion, Proved, Standing, Verifier};
use crate::keeper::folders::KEEPER;
use crate::keeper::suspended::read_list;

/// Nobody, or not proved: what the daemon would refuse.
const REFUSED: u8 = 3;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    who: Who,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Who {
    /// A cgroup, below the cgroup2 mount or with it
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,
    /// A process
    #[arg(long)]
    pid: Option<u32>,
}

/// Everything but the token.
#[derive(Debug, Default, Serialize)]
struct Answer {
    cgroup: String,
    pid: Option<u32>,
    agent: Option<String>,
    pattern: Option<String>,
    /// What the mapping asks of a container.
    pick: Option<String>,
    /// What the container's runtime wrote down.
    container: Option<Arc<Container>>,
    /// What cuts it off from the kernel's hooks, and what shows it.
    isolated: Option<Isolated>,
    mode: Option<Mode>,
    kind: Option<Kind>,
    issuer: Option<String>,
    token_source: Option<String>,
    identified: bool,
    subject: Option<String>,
    client_id: Option<String>,
    groups: Vec<String>,
    scopes: Vec<String>,
    /// RFC 3339.
    expires: Option<String>,
    /// When the issuer confirmed the token, RFC 3339; null where it is not asked.
    confirmed: Option<String>,
    /// How long a revocation may go unnoticed; null: until the token expires.
    revocation_bound_ms: Option<u64>,
    suspended: bool,
    /// Why it is not identified.
    reason: Option<String>,
}

/// 0 if identified (or if the mode asks for no identity), 3 if not.
pub fn run(args: Args) -> Result<ExitCode> {
    let bundle = Bundle::gather(&args.config.config)?;
    let config = Config::from_bundle(&bundle)?;
    let cgroups = Cgroups::new(attribute::cgroup2_mount());
    let process = match (args.who.pid, &args.who.cgroup) {
        (Some(pid), _) => of_pid(pid, &cgroups)?,
        (None, Some(path)) => of_cgroup(path, &cgroups)?,
        (None, None) => bail!("give --cgroup or --pid"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(answer(&config, &process))?;
    if args.json {
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        print!("{}", text(&answer));
    }
    let fine = answer.identified || answer.mode == Some(Mode::Discover);
    Ok(if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    })
}

fn of_pid(pid: u32, cgroups: &Cgroups) -> Result<Process> {
    let proc = attribute::Proc::of(Path::new("/proc"), pid);
    let cgroup = proc
        .cgroup()
        .with_context(|| format!("there is no process {pid}, or it is in no cgroup2"))?;
    let cgroup_id = cgroups.id(&cgroup).with_context(|| {
        let mount = cgroups.mount().display();
        format!("process {pid} is in {cgroup:?}, which is not below {mount}: run this on the host itself")
    })?;
    let seen = Seen {
        pid,
        tid: pid,
        uid: 0,
        comm: [0; 16],
        cgroup_id,
    };
    Ok(attribute::read(&seen, cgroups))
}

/// A process of the cgroup stands for it, for tokens that are in environments.
fn of_cgroup(path: &str, cgroups: &Cgroups) -> Result<Process> {
    let below = Path::new(path)
        .strip_prefix(cgroups.mount())
        .ok()
        .and_then(Path::to_str)
        .unwrap_or(path)
        .trim_matches('/')
        .to_owned();
    let procs = cgroups.mount().join(&below).join("cgroup.procs");
    let first = std::fs::read_to_string(procs)
        .unwrap_or_default()
        .lines()
        .next()
        .and_then(|pid| pid.parse().ok());
    Ok(match first {
        Some(pid) => of_pid(pid, cgroups)?,
        None => Process {
            cgroup: below,
            gone: true,
            ..Process::default()
        },
    })
}

async fn answer(config: &Config, process: &Process) -> Result<Answer> {
    let mut answer = Answer {
        cgroup: process.cgroup.clone(),
        pid: (process.pid != 0).then_some(process.pid),
        ..Answer::default()
    };
    let containers = Containers::new(attribute::cgroup2_mount());
    let look = |cgroup: &str| containers.of(&config.containers, cgroup);
    answer.container = look(&process.cgroup).ok().flatten();
    answer.isolated = {
        let alive = (!process.gone).then_some(process);
        let by_it = containers.isolated(&config.containers, &process.cgroup, alive);
        by_it.or_else(|| containers.isolated(&config.containers, &process.cgroup, None))
    };
    let agent = match identify::agent_for(config, &process.cgroup, &look) {
        Choice::Of(agent) => agent,
        Choice::Nobody => {
            answer.reason = Some(format!(
                "no [[agent]] covers the cgroup {:?}, so its connections are refused",
                process.cgroup
            ));
            return Ok(answer);
        }
        Choice::Unknown { perhaps, why } => {
            answer.reason = Some(format!(
                "it cannot be told whether this is agent {} ({}), so its connections are refused: {why}",
                perhaps.name,
                perhaps
                    .pick
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ));
            return Ok(answer);
        }
    };
    answer.pick = agent.pick.as_ref().map(ToString::to_string);
    answer.agent = Some(agent.name.to_string());
    answer.pattern = Some(agent.cgroup.clone());
    answer.mode = Some(agent.mode);
    answer.kind = Some(agent.kind);
    answer.issuer = agent
        .issuer
        .as_ref()
        .and_then(|name| config.issuers.get(name))
        .map(|issuer| issuer.identifier.clone());
    answer.token_source = agent.token.as_ref().map(source);
    if let (Mode::Enforce, Some(isolated)) = (agent.mode, &answer.isolated) {
        let (by, seen) = (isolated.by.text(), &isolated.seen);
        answer.reason = Some(format!(
            "it is isolated by {by} ({seen}), so hoop sees only some of its connections and refuses all of them"
        ));
        return Ok(answer);
    }
    let suspended = read_list(&config.worker.state.join(KEEPER))?;
    let instance = identify::instance_of(agent, &process.cgroup);
    if let Some(suspension) = suspended.find(&agent.name, instance) {
        answer.suspended = true;
        answer.reason = Some(suspension.reason().to_string());
        return Ok(answer);
    }
    match verified(config, agent, process).await? {
        Ok(proved) => take(&mut answer, &proved)?,
        Err(reason) => answer.reason = Some(reason),
    }
    Ok(answer)
}

async fn verified(
    config: &Config,
    agent: &Agent,
    process: &Process,
) -> Result<Result<Proved, String>> {
    let Some(source) = &agent.token else {
        return Ok(Err(format!("agent `{}` has no token source", agent.name)));
    };
    if let (TokenSource::Env(name), 0) = (source, process.pid) {
        let why = "no process runs in this cgroup now, and the token is in each one's environment";
        return Ok(Err(format!("{why} (${name})")));
    }
    let token = Tokens::default().read(agent, process);
    let verifier = Verifier::new(config)?;
    let proved = verifier
        .verify(agent, &token, &process.cgroup, Occasion::Opening)
        .await;
    Ok(proved.map_err(|error| error.to_string()))
}

fn source(source: &TokenSource) -> String {
    match source {
        TokenSource::File(path) => format!("file {}", path.display()),
        TokenSource::Credential(name) => format!("systemd credential {name}"),
        TokenSource::Env(name) => format!("environment variable {name}"),
        TokenSource::Exec(exec) => format!(
            "command {}",
            exec.command.first().map_or("", String::as_str)
        ),
        TokenSource::ClientCredentials { client, .. } => {
            format!("the issuer, by client credentials with {}", proof(client))
        }
        TokenSource::Saml { file, client, .. } => {
            let with = client.as_ref().map_or("no client proof", proof);
            format!(
                "the issuer, for the SAML assertion {} with {with}",
                file.display()
            )
        }
    }
}

fn proof(client: &ClientAuth) -> &'static str {
    match client {
        ClientAuth::Key { .. } => "private_key_jwt",
        ClientAuth::Secret { post: true, .. } => "client_secret_post",
        ClientAuth::Secret { .. } => "client_secret_basic",
    }
}

fn take(answer: &mut Answer, proved: &Proved) -> Result<()> {
    let identity = &proved.identity;
    if let Standing::Confirmed { at } = &proved.standing {
        answer.confirmed = Some(rfc3339(*at)?);
    }
    answer.revocation_bound_ms = proved
        .bound
        .within
        .and_then(|within| u64::try_from(within.as_millis()).ok());
    answer.identified = true;
    answer.subject = Some(identity.subject().to_owned());
    answer.client_id = Some(identity.client_id().to_owned());
    answer.groups = identity.groups().to_vec();
    answer.scopes = identity.scopes().to_vec();
    answer.expires = Some(rfc3339(identity.expires())?);
    Ok(())
}

fn rfc3339(time: SystemTime) -> Result<String> {
    let whole = OffsetDateTime::from(time).replace_nanosecond(0)?;
    Ok(whole.format(&Rfc3339)?)
}

fn text(answer: &Answer) -> String {
    let mut text = format!("cgroup       {}\n", answer.cgroup);
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("{name:<13}{value}\n"));
        }
    };
    line("pid", answer.pid.map(|pid| pid.to_string()));
    line("agent", answer.agent.clone());
    line("matched by", answer.pattern.clone());
    line("picked by", answer.pick.clone());
    line("container", answer.container.as_deref().map(described));
    let isolated = answer.isolated.as_ref();
    line(
        "isolated by",
        isolated.map(|isolated| format!("{} ({})", isolated.by.text(), isolated.seen)),
    );
    line(
        "mode",
        answer.mode.map(|mode| format!("{mode:?}").to_lowercase()),
    );
    line("kind", answer.kind.map(|kind| kind.name().to_owned()));
    line("issuer", answer.issuer.clone());
    line("token from", answer.token_source.clone());
    line("subject", answer.subject.clone());
    line("client", answer.client_id.clone());
    line("groups", Some(answer.groups.join(", ")));
    line("scopes", Some(answer.scopes.join(", ")));
    line("valid until", answer.expires.clone());
    if answer.identified {
        let asked = match &answer.confirmed {
            Some(at) => format!("at {at}"),
            None => "not asked: a revocation is not noticed before the token expires".into(),
        };
        line("confirmed", Some(asked));
    }
    line("REFUSED", answer.reason.clone());
    text
}

fn described(container: &Container) -> String {
    let mut parts = vec![container.engine.text().to_owned()];
    parts.extend(container.name.iter().cloned());
    parts.extend(container.image.iter().map(|image| format!("image {image}")));
    if let Some(pod) = &container.pod {
        parts.push(format!("pod {}/{}", pod.namespace, pod.name));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(mode: &str) -> Config {
        let text = format!(
            "[[agent]]\nname = \"bot\"\ncgroup = \"agents.slice/bot*\"\nmode = \"{mode}\"\n"
        );
        Config::from_bundle(&Bundle::from_text("t".as_ref(), &text)).unwrap()
    }

    async fn asked(cgroup: &str) -> Answer {
        let process = Process {
            cgroup: cgroup.to_owned(),
            gone: true,
            ..Process::default()
        };
        answer(&config("observe"), &process).await.unwrap()
    }

    #[tokio::test]
    async fn nobody_and_somebody_unproved() {
        let nobody = asked("system.slice/x").await;
        assert_eq!((nobody.agent.as_deref(), nobody.identified), (None, false));
        assert!(text(&nobody).contains("REFUSED      no [[agent]] covers"));
        let bot = asked("agents.slice/bot1/inner").await;
        assert_eq!(bot.pattern.as_deref(), Some("agents.slice/bot*"));
        assert!(
            bot.reason
                .as_deref()
                .is_some_and(|r| r.contains("no token source"))
        );
        assert!(text(&bot).contains("mode         observe\n"));
    }

    #[test]
    fn a_cgroup_may_be_named_with_its_mount() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let cgroups = Cgroups::new(dir.path().to_owned());
        let path = dir.path().join("a");
        for path in [path.to_str().unwrap(), "/a", "a/"] {
            assert_eq!(of_cgroup(path, &cgroups).unwrap().cgroup, "a");
        }
    }
}
