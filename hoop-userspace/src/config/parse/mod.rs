//! From what was written to what is valid: every reference resolved, every bound checked, every
//! mistake with its place.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::bundle::Bundle;
use super::problem::{Problem, Problems, did_you_mean};
use super::raw;
use super::sockets::{
    DEFAULT_WORD, LsmTier, MAX_PATTERNS, SocketPattern, default_patterns, own_folder,
};
use super::text;
use super::{Capture, ClaimNames, Config, Durability, Issuer, Policy, Record, Worker};
use crate::ids::IssuerName;

mod agent;
mod approvals;
mod console;
mod containers;
mod kubernetes;
mod mask;
mod resource;
mod ssh;
mod token;

/// Whether a secret or file that the bundle lacks is still to be reported.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Report,
    /// Gathering said so already.
    Known,
}

/// Every table's upper bound: past it a typo, a loop in a generator or an attack is likelier.
const MAX_ENTRIES: usize = 1000;
const MAX_SKEW: Duration = Duration::from_secs(300);

/// Parses all of it; `None` exactly if there are problems (which may be [`Missing::Known`]).
pub(super) fn config(bundle: &Bundle, missing: Missing) -> (Option<Config>, Vec<Problem>) {
    let mut problems = Problems::new(&bundle.path, &bundle.text);
    let file = raw::File::read(&bundle.text, &mut problems);
    let mut parser = Parser {
        bundle,
        missing,
        problems,
        incomplete: false,
    };
    let config = parser.file(&file);
    let incomplete = parser.incomplete || !file.broken.is_empty();
    let found = parser.problems.into_found();
    let whole = found.is_empty() && !incomplete;
    (whole.then_some(config), found)
}

struct Parser<'a> {
    bundle: &'a Bundle,
    missing: Missing,
    problems: Problems<'a>,
    /// Something was left out that gathering had reported.
    incomplete: bool,
}

impl Parser<'_> {
    fn file(&mut self, file: &raw::File) -> Config {
        let counts = [
            file.agents.len(),
            file.resources.len(),
            file.masks.len(),
            file.detectors.len(),
        ];
        if counts.into_iter().any(|n| n > MAX_ENTRIES) {
            self.problems
                .add(0..0, format!("more than {MAX_ENTRIES} tables of one kind"));
        }
        let capture = self.capture(&file.capture, &file.worker);
        let issuers = self.issuers(&file.issuers);
        let agents = self.agents(file, &issuers, &capture);
        let resources = self.resources(&file.resources);
        let masks = self.masks(file);
        Config {
            capture,
            issuers,
            agents,
            resources,
            masks,
            approvers: self.approvers(&file.approvers),
            approvals: self.approvals(&file.approvals),
            channels: self.channels(&file.channels),
            policy: self.policy(&file.policy),
            record: self.record(&file.record),
            worker: self.worker(&file.worker),
            containers: self.containers(&file.containers),
            console: file
                .console
                .as_ref()
                .and_then(|raw| self.console(raw, file)),
        }
    }

    fn capture(&mut self, raw: &raw::Capture, worker: &raw::Worker) -> Capture {
        let mut attach = "agents.slice".to_owned();
        if let Some(written) = &raw.attach {
            attach.clone_from(written.get_ref());
            self.cgroup(written);
            if attach.contains(['*', '?']) {
                self.problems.add(
                    written.span(),
                    "`attach` is one cgroup: it takes no wildcards",
                );
            }
        }
        let resolvers = match &raw.resolvers {
            None => self.bundle.resolvers.clone(),
            Some(list) => list
                .iter()
                .filter_map(|written| {
                    let parsed = written.get_ref().parse();
                    if parsed.is_err() {
                        let what = format!("{:?} is no address", written.get_ref());
                        self.problems.add(written.span(), what);
                    }
                    parsed.ok()
                })
                .collect(),
        };
        // Whether that is absolute, the worker's table says.
        let own = worker
            .runtime
            .as_ref()
            .map_or("/run/hoop", |path| path.get_ref());
        Capture {
            attach,
            resolvers,
            port: raw.port.unwrap_or(0),
            pins: self.absolute(raw.pins.as_ref(), "/sys/fs/bpf/hoop"),
            lsm: LsmTier {
                wish: raw.lsm.unwrap_or_default(),
                refused: self.refused_sockets(raw.refused_sockets.as_ref(), own),
                own: own.into(),
            },
        }
    }

    fn refused_sockets(
        &mut self,
        raw: Option<&Spanned<Vec<raw::Text>>>,
        runtime: &str,
    ) -> Vec<SocketPattern> {
        let Some(written) = raw else {
            return default_patterns().collect();
        };
        let list = written.get_ref();
        if list.len() > MAX_PATTERNS {
            let what = format!("more than {MAX_PATTERNS} patterns");
            self.problems.add(written.span(), what);
        }
        self.unique(list.iter(), "pattern");
        let own = own_folder(runtime.as_ref());
        let mut patterns = Vec::new();
        for text in list {
            if text.get_ref() == DEFAULT_WORD {
                patterns.extend(default_patterns());
                continue;
            }
            match SocketPattern::parse(text.get_ref()) {
                Ok(pattern) if pattern.is_below(&own) => {
                    let what = format!("{:?} means hoop's own sockets", text.get_ref());
                    let fix = "leave out what lies below `runtime` under [worker]";
                    self.problems.add_with_fix(text.span(), what, fix);
                }
                Ok(pattern) => patterns.push(pattern),
                Err(what) => {
                    let fix = "write \"/a/path\", \"/a/folder/*\", \"*/a-file\", \"*/beginning-of-a-file*\", \"@abstract\" or \"default\"";
                    self.problems.add_with_fix(text.span(), what, fix);
                }
            }
        }
        patterns.sort();
        patterns.dedup();
        patterns
    }

    fn issuers(
        &mut self,
        raw: &[(raw::Text, Spanned<raw::Issuer>)],
    ) -> BTreeMap<IssuerName, Issuer> {
        raw.iter()
            .filter_map(|(name, issuer)| {
                self.name(name, "an issuer");
                let issuer = self.issuer(name.get_ref(), issuer.get_ref())?;
                Some((issuer.name.clone(), issuer))
            })
            .collect()
    }

    fn issuer(&mut self, name: &str, raw: &raw::Issuer) -> Option<Issuer> {
        let url = self.issuer_url(&raw.url);
        if raw.audience.get_ref().is_empty() {
            self.problems.add(
                raw.audience.span(),
                "the audience is empty: any token would do",
            );
        }
        let skew = raw
            .skew
            .as_ref()
            .map_or(Duration::from_secs(30), |s| s.get_ref().0);
        if let Some(written) = raw.skew.as_ref().filter(|_| skew > MAX_SKEW) {
            self.problems.add(written.span(), "`skew` is at most 300s");
        }
        let claims = ClaimNames {
            client_id: self.claims(raw.claims.client_id.as_ref(), &["cid", "azp", "client_id"]),
            groups: self.claims(raw.claims.groups.as_ref(), &["groups"]),
            scopes: self.claims(raw.claims.scopes.as_ref(), &["scp", "scope"]),
        };
        let algorithms = self.algorithms(raw.algorithms.as_ref());
        let introspection = self.introspection(raw.introspection.as_ref());
        let recheck = self.recheck(raw.recheck.as_ref());
        let grace = self.grace(raw.unreachable.as_ref());
        let events = self.events(&raw.events);
        let ca = self.certificates(raw.ca.as_ref());
        Some(Issuer {
            name: name.into(),
            identifier: raw.url.get_ref().clone(),
            url: url?,
            audience: raw.audience.get_ref().clone(),
            ca,
            skew,
            algorithms,
            claims,
            introspection,
            userinfo: raw.userinfo.unwrap_or(false),
            recheck,
            events,
            grace,
        })
    }

    fn issuer_url(&mut self, written: &raw::Text) -> Option<url::Url> {
        let fault = match url::Url::parse(written.get_ref()) {
            Err(error) => format!("{:?} is no URL: {error}", written.get_ref()),
            Ok(url) => match url_fault(&url) {
                None => return Some(url),
                Some(fault) => fault.to_owned(),
            },
        };
        self.problems.add(written.span(), fault);
        None
    }

    fn claims(&mut self, raw: Option<&Spanned<raw::OneOrMany>>, default: &[&str]) -> Vec<String> {
        let Some(written) = raw else {
            return default.iter().map(|&name| name.to_owned()).collect();
        };
        let names = &written.get_ref().0;
        if names.is_empty() || names.len() > 8 || names.iter().any(String::is_empty) {
            self.problems.add(
                written.span(),
                "give 1 to 8 claim names, none of them empty",
            );
        }
        names.clone()
    }

    fn algorithms(&mut self, raw: Option<&Spanned<Vec<String>>>) -> Vec<String> {
        let known = crate::identify::ALGORITHMS;
        let Some(written) = raw else {
            return known.iter().map(|&name| name.to_owned()).collect();
        };
        let names = written.get_ref();
        if names.is_empty() || names.iter().any(|name| !known.contains(&name.as_str())) {
            self.problems.add_with_fix(
                written.span(),
                "`algorithms` lists signatures that hoop can verify, at least one",
                format!("use some of: {}", known.join(", ")),
            );
        }
        names.clone()
    }

    fn policy(&mut self, raw: &raw::Policy) -> Policy {
        self.unique(raw.packs.iter(), "pack");
        Policy {
            packs: raw
                .packs
                .iter()
                .map(|pack| pack.get_ref().clone())
                .collect(),
            files: self.bundle.policies.clone(),
        }
    }

    fn record(&mut self, raw: &raw::Record) -> Record {
        Record {
            directory: self.absolute(raw.directory.as_ref(), "/var/lib/hoop/recordings"),
            durability: raw.durability.unwrap_or(Durability::Kernel),
            result_bytes: self.size(raw.result_bytes.as_ref(), 64 << 10, 0..=64 << 20),
        }
    }

    fn worker(&mut self, raw: &raw::Worker) -> Worker {
        let drain = raw
            .drain
            .as_ref()
            .map_or(Duration::from_secs(30), |d| d.get_ref().0);
        if let Some(written) = raw
            .drain
            .as_ref()
            .filter(|_| drain > Duration::from_secs(3600))
        {
            self.problems.add(written.span(), "`drain` is at most 1h");
        }
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let retire = raw.retire.as_ref().map_or(DAY, |r| r.get_ref().0);
        if let Some(written) = raw.retire.as_ref().filter(|_| retire > 7 * DAY) {
            self.problems
                .add(written.span(), "`retire` is at most 168h");
        }
        if let Some(user) = raw.user.as_ref().filter(|u| u.get_ref().is_empty()) {
            self.problems.add(user.span(), "the user has no name");
        }
        Worker {
            user: raw.user.as_ref().map_or("hoop", |u| u.get_ref()).to_owned(),
            state: self.absolute(raw.state.as_ref(), "/var/lib/hoop"),
            runtime: self.absolute(raw.runtime.as_ref(), "/run/hoop"),
            drain,
            retire,
        }
    }

    // What the tables above share.

    fn take<T>(&mut self, written: &raw::Text, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        parse(written.get_ref())
            .map_err(|what| self.problems.add(written.span(), what))
            .ok()
    }

    fn name(&mut self, written: &raw::Text, whose: &str) {
        if !text::is_name(written.get_ref()) {
            let what = format!("{:?} cannot name {whose}", written.get_ref());
            let fix = "use up to 64 letters, digits, dots, dashes and underscores, a letter or digit first";
            self.problems.add_with_fix(written.span(), what, fix);
        }
    }

    fn cgroup(&mut self, written: &raw::Text) -> bool {
        let fault = text::cgroup_fault(written.get_ref());
        if let Some((what, fix)) = &fault {
            self.problems.add_with_fix(written.span(), what, *fix);
        }
        fault.is_none()
    }

    fn reference(&mut self, written: &raw::Text, known: &[&str], kind: &str) {
        let name = written.get_ref().as_str();
        if known.contains(&name) {
            return;
        }
        let fix = did_you_mean(name, known.iter().copied()).unwrap_or_else(|| match known {
            [] => format!("there is no {kind} in this file"),
            _ => format!("there are: {}", known.join(", ")),
        });
        let what = format!("there is no {kind} `{name}`");
        self.problems.add_with_fix(written.span(), what, fix);
    }

    fn unique<'t>(&mut self, names: impl Iterator<Item = &'t raw::Text>, kind: &str) {
        let mut seen = HashMap::new();
        for name in names {
            if let Some(first) = seen.insert(name.get_ref().as_str(), name.span().start) {
                let line = self.problems.line(first);
                let what = format!(
                    "the {kind} `{}` stands on line {line} already",
                    name.get_ref()
                );
                self.problems.add(name.span(), what);
            }
        }
    }

    fn absolute(&mut self, written: Option<&raw::Text>, default: &str) -> PathBuf {
        let Some(written) = written else {
            return default.into();
        };
        let path = PathBuf::from(written.get_ref());
        if !path.is_absolute() {
            // The two processes may stand in different directories.
            let what = format!("{:?} is not an absolute path", written.get_ref());
            self.problems.add(written.span(), what);
        }
        path
    }

    fn size(
        &mut self,
        written: Option<&Spanned<raw::Size>>,
        default: usize,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> usize {
        let Some(written) = written else {
            return default;
        };
        let bytes = written.get_ref().0;
        if !bounds.contains(&bytes) {
            let what = format!("must be {} to {} bytes", bounds.start(), bounds.end());
            self.problems.add(written.span(), what);
        }
        usize::try_from(bytes).unwrap_or(default)
    }
}

fn url_fault(url: &url::Url) -> Option<&'static str> {
    let loopback = match url.host() {
        None => return Some("the issuer's URL names no host"),
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
        return Some(
            "an issuer is reached by https (http only on loopback): whoever changes its keys in transit could name any agent",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Some("an issuer's URL has no query and no fragment");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("an issuer's URL holds no user and no password");
    }
    None
}
