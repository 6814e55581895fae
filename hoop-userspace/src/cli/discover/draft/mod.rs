//! A configuration from what was seen (`--toml`): it is taken as it stands, and only watches.
//!
//! Names of cgroups, programs and hosts come from whoever ran there. They are written as quoted
//! strings or, in comments, without anything that ends a line; what cannot be said in the file's own
//! words is left as a comment. Before it is printed it is read back by what reads such files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::super::visible::is_hidden;
use super::line::{Line, clean};
use super::protocol::GOVERNED;
use crate::attribute::unit;
use crate::config::{Bundle, Config, is_cgroup, is_name};
use resources::Resources;

mod resources;
#[cfg(test)]
mod tests;

/// Fewer than a configuration may have, so that it can still be worked on.
const MOST_AGENTS: usize = 300;
/// Suggestions of each agent, and units that are only mentioned.
const MOST_EGRESS: usize = 50;
const MOST_MENTIONED: usize = 50;
/// What a configuration may have, and from where on there is room for nothing but tables.
const MOST_BYTES: usize = 1 << 20;
const MOST_NOTES: usize = 512 << 10;
const KINDS: [&str; 3] = [".service", ".scope", ".slice"];
const DEFAULT_SLICE: &str = "agents.slice";
/// The agent that whatever has no entry of its own belongs to.
const REST: &str = "rest-of-the-slice";

/// What a configuration is made of.
#[derive(Default)]
pub struct Plan {
    pub lines: Vec<Line>,
    /// Below which agents run, as `[capture] attach` has it.
    pub slice: String,
    /// Cgroups that are there, whether or not they reached anything.
    pub existing: Vec<String>,
    /// Units that the operator named. Empty: all of the slice.
    pub units: Vec<String>,
    /// How it was seen, for the first line.
    pub origin: String,
    pub limits: Vec<String>,
}

/// The whole file.
pub fn text(plan: &Plan) -> Result<String> {
    let text = written(plan);
    let bundle = Bundle::from_text(Path::new("hoop.toml"), &text);
    ensure!(
        text.len() <= MOST_BYTES,
        "too much was seen for one configuration: watch for less time"
    );
    // What others named must not make it something else: better none than a wrong one.
    Config::from_bundle(&bundle).context("what was seen cannot be written as a configuration")?;
    Ok(text)
}

/// An `[[agent]]` to be.
#[derive(Default)]
struct Agent<'p> {
    name: Option<String>,
    lines: Vec<&'p Line>,
    /// Where it runs now, if that is elsewhere.
    moved_from: BTreeSet<&'p str>,
    missing: bool,
}

fn written(plan: &Plan) -> String {
    let mut out = Out::default();
    head(plan, &mut out);
    let resources = Resources::of(&plan.lines);
    let mut names = BTreeSet::from([REST.to_owned()]);
    let agents = agents(plan);
    for (pattern, agent) in agents.iter().take(MOST_AGENTS) {
        write_agent(plan, pattern, agent, &resources, &mut names, &mut out);
    }
    if let Some(more) = agents
        .len()
        .checked_sub(MOST_AGENTS)
        .filter(|more| *more > 0)
    {
        out.line(&format!(
            "# {more} more cgroups were seen, and have no entry of their own here."
        ));
        out.blank();
    }
    if plan.units.is_empty() && agents.is_empty() {
        mention(plan, &mut out);
    }
    rest(plan, &mut out);
    resources.write(&mut out);
    out.note("Nothing is decided while agents are only watched; this is where to begin.");
    out.line("[policy]");
    out.line("use = [\"read-only\"]");
    if out.cut {
        out.line("# There was more to say than there is room for.");
    }
    out.text
}

fn head(plan: &Plan, out: &mut Out) {
    out.note(&format!(
        "Written by `hoop discover --toml`, {}.",
        plan.origin
    ));
    out.note("It is taken as it stands (`hoop check`), and every agent in it is only watched: nothing is");
    out.note("redirected or refused. Read it before anything is enforced: it holds what was seen, which need");
    out.note("not be what should be allowed, and names were given by others.");
    for limit in &plan.limits {
        out.note(&format!("Not seen: {limit}."));
    }
    out.blank();
    if plan.slice != DEFAULT_SLICE {
        out.line("[capture]");
        out.line(&format!("attach = {}", quoted(&plan.slice)));
        out.blank();
    }
}

fn agents(plan: &Plan) -> BTreeMap<String, Agent<'_>> {
    let mut agents: BTreeMap<String, Agent<'_>> = BTreeMap::new();
    if plan.units.is_empty() {
        for cgroup in &plan.existing {
            if let Some(pattern) = below(&plan.slice, cgroup) {
                agents.entry(pattern).or_default();
            }
        }
        for line in &plan.lines {
            if let Some(pattern) = below(&plan.slice, &line.cgroup) {
                let agent = agents.entry(pattern).or_default();
                agent.name = agent.name.take().or_else(|| line.agent.clone());
                agent.lines.push(line);
            }
        }
    }
    for wanted in &plan.units {
        let name = with_kind(wanted);
        let mut found = false;
        for line in &plan.lines {
            if !is_called(&line.cgroup, &name, wanted) {
                continue;
            }
            found = true;
            let inside = below(&plan.slice, &line.cgroup);
            let pattern = inside
                .clone()
                .unwrap_or_else(|| format!("{}/{name}", plan.slice));
            let agent = agents.entry(pattern).or_default();
            agent.lines.push(line);
            if inside.is_none() {
                agent.moved_from.insert(&line.cgroup);
            }
        }
        let here = plan
            .existing
            .iter()
            .find(|path| is_called(path, &name, wanted));
        if let Some(pattern) = here.and_then(|path| below(&plan.slice, path)) {
            agents.entry(pattern).or_default();
        } else if !found {
            let pattern = format!("{}/{name}", plan.slice);
            agents.entry(pattern).or_default().missing = true;
        }
    }
    agents
}

/// The unit's name; one without a kind is a service.
fn with_kind(name: &str) -> String {
    let name = name
        .trim_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    match KINDS.iter().any(|kind| name.ends_with(kind)) {
        true => name.to_owned(),
        false => format!("{name}.service"),
    }
}

fn is_called(cgroup: &str, name: &str, wanted: &str) -> bool {
    unit(cgroup).as_deref() == Some(name)
        || cgroup
            .split('/')
            // Below its own level an agent calls cgroups what it likes.
            .take(
                cgroup
                    .split('/')
                    .take_while(|level| level.ends_with(".slice"))
                    .count()
                    + 1,
            )
            .any(|level| level == name || level == wanted)
}

/// The agent's own level in the slice: its unit, or what stands in its place. `None` outside of it.
fn below(slice: &str, cgroup: &str) -> Option<String> {
    let rest = cgroup.strip_prefix(slice)?.strip_prefix('/')?;
    let mut pattern = slice.to_owned();
    for level in rest.split('/') {
        pattern = format!("{pattern}/{level}");
        if !level.ends_with(".slice") {
            return Some(pattern);
        }
    }
    None
}

fn write_agent(
    plan: &Plan,
    pattern: &str,
    agent: &Agent<'_>,
    resources: &Resources<'_>,
    names: &mut BTreeSet<String>,
    out: &mut Out,
) {
    if !is_cgroup(pattern) {
        out.note(&format!(
            "{} cannot be written as a pattern; {REST:?} below covers it.",
            clean(pattern)
        ));
        out.blank();
        return;
    }
    for from in &agent.moved_from {
        out.note(&format!(
            "It runs in {} now: hoop sees it once it runs below {} (Slice= in its unit).",
            clean(from),
            clean(&plan.slice)
        ));
    }
    if agent.missing {
        out.note("Nothing of it was seen.");
    }
    let last = pattern.rsplit('/').next().unwrap_or_default();
    let name = agent
        .name
        .clone()
        .filter(|name| is_name(name) && !names.contains(name));
    let name = name.unwrap_or_else(|| unique(last, names));
    names.insert(name.clone());
    out.line("[[agent]]");
    out.line(&format!("name = {}", quoted(&name)));
    out.line(&format!("cgroup = {}", quoted(pattern)));
    out.line("mode = \"discover\"");
    for line in agent
        .lines
        .iter()
        .filter(|line| is_governed(line))
        .take(MOST_EGRESS)
    {
        let resource = resources.name_of(line).unwrap_or("(left out)");
        out.note(&format!(
            "It reached the resource {resource}: {}.",
            seen(line)
        ));
    }
    egress(&agent.lines, out);
    out.blank();
}

/// What it reached besides resources. Only a name that a client's TLS greeting can show is a rule as it
/// stands; an address may be another's tomorrow.
fn egress(lines: &[&Line], out: &mut Out) {
    let others: Vec<&&Line> = lines.iter().filter(|line| !is_governed(line)).collect();
    if others.is_empty() {
        return;
    }
    out.line("egress_allow = [");
    let mut written = BTreeSet::new();
    for line in others.iter().take(MOST_EGRESS) {
        let port = line.destination.port();
        let by_name = line
            .hosts()
            .next()
            .filter(|_| line.how == "tcp" && is_tls(line));
        if let Some(why) = line.doubt() {
            let entry = quoted(&line.destination.to_string());
            out.aside(&format!("{entry}, # {} ({why})", seen(line)));
            continue;
        }
        match by_name {
            Some(name) => {
                let entry = quoted(&format!("{name}:{port}"));
                match written.insert(entry.clone()) {
                    true => out.line(&format!("    {entry}, # {}", seen(line))),
                    false => out.aside(&format!("{entry}: {}", seen(line))),
                }
            }
            None if line.how != "tcp" => {
                out.aside(&format!(
                    "only resolvers may be asked by UDP: {}",
                    seen(line)
                ));
            }
            None => {
                let entry = quoted(&line.destination.to_string());
                out.aside(&format!("{entry}, # {}", seen(line)));
            }
        }
    }
    if let Some(more) = others
        .len()
        .checked_sub(MOST_EGRESS)
        .filter(|more| *more > 0)
    {
        out.aside(&format!("and {more} more destinations"));
    }
    out.line("]");
}

/// Units elsewhere that speak what hoop governs, where the slice is empty.
fn mention(plan: &Plan, out: &mut Out) {
    let mut units: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for line in plan.lines.iter().filter(|line| is_governed(line)) {
        if let Some(name) = unit(&line.cgroup) {
            units.entry(name).or_default().insert(&line.cgroup);
        }
    }
    let slice = clean(&plan.slice);
    if units.is_empty() {
        out.note(&format!(
            "Nothing runs below {slice}, and no unit spoke a protocol that hoop governs."
        ));
        out.blank();
        return;
    }
    out.note(&format!(
        "Nothing runs below {slice} yet. These units spoke what hoop governs; whichever are agents,"
    ));
    out.note(&format!(
        "have run there (Slice={slice} in the unit), and uncomment:"
    ));
    out.blank();
    let mut names = BTreeSet::new();
    for (name, cgroups) in units.iter().take(MOST_MENTIONED) {
        let pattern = format!("{}/{name}", plan.slice);
        if !is_cgroup(&pattern) {
            continue;
        }
        let of_unit = |line: &&Line| is_governed(line) && cgroups.contains(line.cgroup.as_str());
        for line in plan.lines.iter().filter(of_unit).take(3) {
            let protocol = line.protocol.unwrap_or_default();
            out.note(&format!(
                "{} spoke {protocol}: {}",
                clean(&line.cgroup),
                seen(line)
            ));
        }
        out.note("[[agent]]");
        out.note(&format!("name = {}", quoted(&unique(name, &mut names))));
        out.note(&format!("cgroup = {}", quoted(&pattern)));
        out.note("mode = \"discover\"");
        out.blank();
    }
}

fn rest(plan: &Plan, out: &mut Out) {
    out.note("Whatever else runs in the slice; without this it would be nobody's, and refused. Remove it");
    out.note("when each agent has an entry.");
    out.line("[[agent]]");
    out.line(&format!("name = {}", quoted(REST)));
    out.line(&format!("cgroup = {}", quoted(&plan.slice)));
    out.line("mode = \"discover\"");
    out.blank();
}

fn is_governed(line: &Line) -> bool {
    line.how == "tcp"
        && line.doubt().is_none()
        && line
            .protocol
            .is_some_and(|protocol| GOVERNED.contains(&protocol))
}

fn is_tls(line: &Line) -> bool {
    matches!(line.protocol, Some("https" | "tls" | "ldaps" | "amqps"))
}

/// How often, by what, when.
fn seen(line: &Line) -> String {
    let called = match line.called() {
        called if called.is_empty() => String::new(),
        called => format!(" ({called})"),
    };
    let times = if line.connections == 1 {
        "once"
    } else {
        "times"
    };
    let count = match line.connections {
        1 => String::new(),
        count => format!("{count} "),
    };
    format!(
        "{}{called}, {count}{times} by {}",
        line.destination,
        clean(&line.executable)
    )
}

/// A name like what others called it, of the letters that names may have.
fn unique(wanted: &str, taken: &mut BTreeSet<String>) -> String {
    const ROOM: usize = 56;
    let stem = [".service", ".scope"]
        .iter()
        .find_map(|kind| wanted.strip_suffix(kind));
    let plain = |c: char| match c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
        true => c,
        false => '-',
    };
    let name: String = stem
        .unwrap_or(wanted)
        .chars()
        .map(plain)
        .take(ROOM)
        .collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    let name = if name.is_empty() { "unnamed" } else { name };
    let numbered = (2..).map(|number: u32| format!("{name}-{number}"));
    let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
    let found = candidates
        .find(|name| !taken.contains(name))
        .unwrap_or_default();
    taken.insert(found.clone());
    found
}

/// A basic string of TOML 1.0, whatever the text holds.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if is_hidden(c) => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The text as it grows.
#[derive(Default)]
struct Out {
    text: String,
    /// Notes were left out.
    cut: bool,
}

impl Out {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn note(&mut self, note: &str) {
        self.comment("", note);
    }

    /// Within a list.
    fn aside(&mut self, note: &str) {
        self.comment("    ", note);
    }

    /// Left out once there are too many.
    fn comment(&mut self, before: &str, note: &str) {
        if self.text.len() < MOST_NOTES {
            self.line(&format!("{before}# {note}"));
        } else {
            self.cut = true;
        }
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }
}
