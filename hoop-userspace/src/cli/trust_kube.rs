//! `hoop trust kubeconfig`: kubeconfigs of one account trust hoop for the clusters behind it.
//!
//! The CA is appended to what a cluster's entry trusts already, in the file's own lines; servers,
//! users and contexts stay as they are, and `--remove` leaves the file as it was. Only entries whose
//! server is a configured resource are touched.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use url::Url;

use super::home::{HomeFile, Place, become_owner, read_regular};
use super::trust::of_state;
use super::trust::{Ours, appended, without};
use super::trust_undo::{Given, Notes};
use crate::config::{Bundle, Config, Host, Resource};
use crate::terminate::authority::CERTIFICATE_FILE;
use crate::wire::tls::host_name;

pub(super) const FILE: HomeFile = HomeFile {
    folder: ".kube",
    name: "config",
};

#[derive(clap::Args)]
pub struct Args {
    /// The account's home: its ~/.kube/config is written with the rights of whoever owns it
    #[arg(long, value_name = "DIR", required_unless_present = "ca_file")]
    home: Option<PathBuf>,
    /// A bundle of certificates instead, such as the ca.crt of a service account's folder
    #[arg(long, value_name = "FILE", conflicts_with = "home")]
    ca_file: Option<PathBuf>,
    /// Take the CA out again
    #[arg(long)]
    remove: bool,
    /// The configuration file, which names the clusters and the state directory
    #[arg(long, value_name = "FILE", env = "HOOP_CONFIG", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    /// The state directory, where the configuration cannot be read: the CA is then taken out of every
    /// cluster that has it
    #[arg(long, value_name = "DIR", requires = "remove")]
    state: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let config = match &args.state {
        Some(_) => None,
        None => {
            let config = Bundle::without_secrets(&args.config);
            Some(config.context("the configuration cannot be read")?)
        }
    };
    let state = match (&args.state, &config) {
        (Some(state), _) => state,
        (None, Some(config)) => &config.worker.state,
        (None, None) => bail!("give --config or --state"),
    };
    let path = state.join(CERTIFICATE_FILE);
    let pem = of_state(&path)?;
    let ca = Ca {
        ours: Ours::of(&pem)?,
        pem,
        remove: args.remove,
    };
    // Opened while this is root: which bundles a kubeconfig names is known later.
    let mut notes = match args.remove {
        true => Notes::none(),
        false => Notes::open(state)?,
    };
    match (&args.home, &args.ca_file) {
        (Some(home), _) => {
            notes.add(Given::Kubeconfig, home)?;
            in_home(home, config.as_ref(), &ca, &mut notes)
        }
        (None, Some(file)) => {
            notes.add(Given::CaFile, file)?;
            in_file(file, &ca)
        }
        (None, None) => bail!("give --home or --ca-file"),
    }
}

/// What is put in or taken out.
struct Ca {
    ours: Ours,
    pem: String,
    remove: bool,
}

impl Ca {
    fn changed(&self, bundle: &str) -> String {
        let kept = without(bundle, &self.ours);
        match self.remove {
            true => kept,
            false => appended(kept, &self.pem),
        }
    }

    /// Whether it is in that file, as far as one can tell.
    fn is_in(&self, path: &Path) -> bool {
        let bundle = read_regular(path);
        bundle.is_some_and(|bundle| without(&bundle, &self.ours) != bundle)
    }
}

/// Without a configuration every cluster's entry is looked at, to take the CA out.
fn in_home(home: &Path, config: Option<&Config>, ca: &Ca, notes: &mut Notes) -> Result<()> {
    become_owner(home)?;
    let shown = FILE.shown(home);
    let Some(place) = FILE.open(home, false)? else {
        bail!("{} does not exist", shown.display());
    };
    let read = place.read();
    let read = read.with_context(|| format!("cannot read {}", shown.display()))?;
    let (before, kept) = read.unwrap_or_default();
    let edited = edited(&before, config, ca)
        .with_context(|| format!("{} is left as it is", shown.display()))?;
    for note in &edited.notes {
        println!("{note}");
    }
    if edited.text != before {
        let written = place.write(&edited.text, kept);
        written.with_context(|| format!("cannot write {}", shown.display()))?;
    }
    for file in &edited.files {
        let path = match file.is_absolute() {
            true => file.clone(),
            false => home.join(FILE.folder).join(file),
        };
        if config.is_none() && !ca.is_in(&path) {
            continue;
        }
        notes.add(Given::CaFile, &path)?;
        in_file(&path, ca)?;
    }
    Ok(())
}

/// A bundle in a file of its own. Written in its place: whoever reads it sees the old or the new one.
fn in_file(path: &Path, ca: &Ca) -> Result<()> {
    let read = match Place::at(path)? {
        Some(place) => place.read().map(|read| read.map(|read| (place, read))),
        None => Ok(None),
    };
    let Some((place, (before, kept))) =
        read.with_context(|| format!("cannot read {}", path.display()))?
    else {
        bail!("{} does not exist", path.display());
    };
    let after = ca.changed(&before);
    if after == before {
        println!("{} is as it should be already", path.display());
        return Ok(());
    }
    let written = place.write(&after, kept);
    written.with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", said(path.display(), ca.remove));
    Ok(())
}

fn said(what: impl std::fmt::Display, remove: bool) -> String {
    match remove {
        true => format!("{what} no longer trusts hoop"),
        false => format!("{what} trusts hoop"),
    }
}

struct Edited {
    text: String,
    notes: Vec<String>,
    /// Bundles that entries name.
    files: Vec<PathBuf>,
}

/// One entry of `clusters`, by the numbers of its lines.
#[derive(Default)]
struct Entry {
    server: Option<String>,
    data: Option<(usize, String)>,
    file: Option<String>,
    insecure: bool,
}

fn edited(text: &str, config: Option<&Config>, ca: &Ca) -> Result<Edited> {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let entries = match entries(&lines) {
        // What hoop does not edit, it has not edited before.
        Err(_) if config.is_none() => Vec::new(),
        entries => entries?,
    };
    let mut edited = Edited {
        text: String::new(),
        notes: Vec::new(),
        files: Vec::new(),
    };
    let mut found = false;
    for entry in entries {
        let met = |server: &String| config.is_none_or(|config| is_governed(server, config));
        let Some(server) = entry.server.filter(met) else {
            continue;
        };
        found = true;
        match (entry.data, entry.file) {
            _ if entry.insecure && config.is_some() => {
                let note = format!("{server}: it verifies nobody (insecure-skip-tls-verify)");
                edited.notes.push(note);
            }
            (Some((at, data)), _) => {
                let bundle = BASE64.decode(data.as_bytes()).ok();
                let bundle = bundle.and_then(|bytes| String::from_utf8(bytes).ok());
                if config.is_none() && bundle.as_ref().is_none_or(|b| ca.changed(b) == *b) {
                    continue;
                }
                let bundle = bundle.with_context(|| {
                    format!("{server}: its certificate-authority-data is no PEM")
                })?;
                let changed = BASE64.encode(ca.changed(&bundle));
                if let Some(line) = lines.get_mut(at) {
                    *line = line.replacen(&data, &changed, 1);
                }
                edited.notes.push(said(&server, ca.remove));
            }
            (None, Some(file)) => edited.files.push(file.into()),
            (None, None) if config.is_none() => {}
            (None, None) => {
                let note = format!("{server}: it goes by the system's list: see `hoop trust show`");
                edited.notes.push(note);
            }
        }
    }
    if !found && config.is_some() {
        bail!("none of its clusters is a configured resource with protocol = \"kubernetes\"");
    }
    edited.text = lines.concat();
    Ok(edited)
}

/// The entries of `clusters`, as kubectl writes them: block style, one key in a line.
fn entries(lines: &[String]) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut within = false;
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim_end();
        let bare = line.trim_start();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let top = bare.len() == line.len();
        if top && !bare.starts_with('-') {
            within = bare == "clusters:";
            if !within && bare.starts_with("clusters:") && bare != "clusters: []" {
                bail!("its clusters stand in one line, which hoop does not edit");
            }
            continue;
        }
        if !within {
            continue;
        }
        let bare = match bare.strip_prefix("- ") {
            // Extensions have lists of their own, further in.
            Some(rest) if line.len() - bare.len() <= 2 => {
                entries.push(Entry::default());
                rest.trim_start()
            }
            Some(rest) => rest,
            None => bare,
        };
        let (Some(entry), Some((key, value))) = (entries.last_mut(), bare.split_once(':')) else {
            continue;
        };
        let value = value.trim().trim_matches(['"', '\'']).to_owned();
        match key.trim() {
            "server" => entry.server = Some(value),
            "certificate-authority-data" if value.starts_with(['|', '>', '&', '*']) => {
                bail!("a certificate-authority-data does not stand in one line")
            }
            "certificate-authority-data" => entry.data = Some((at, value)),
            "certificate-authority" => entry.file = Some(value),
            "insecure-skip-tls-verify" => entry.insecure = value == "true",
            "cluster" if !value.is_empty() => {
                bail!("a cluster stands in one line, which hoop does not edit")
            }
            _ => {}
        }
    }
    Ok(entries)
}

/// Whether a client of this server would meet hoop.
fn is_governed(server: &str, config: &Config) -> bool {
    let mut resources = config.resources.iter();
    resources.any(|resource| is_met_at(server, resource))
}

fn is_met_at(server: &str, resource: &Resource) -> bool {
    let Ok(url) = Url::parse(server) else {
        return false;
    };
    let port = url.port_or_known_default();
    if resource.kubernetes.is_none() || Some(resource.port) != port {
        return false;
    }
    resource.hosts.iter().any(|host| match (host, url.host()) {
        (Host::Name(name), Some(url::Host::Domain(asked))) => host_name(name) == host_name(asked),
        (Host::Net(net), Some(url::Host::Ipv4(asked))) => {
            net.contains(&std::net::IpAddr::from(asked))
        }
        (Host::Net(net), Some(url::Host::Ipv6(asked))) => {
            net.contains(&std::net::IpAddr::from(asked))
        }
        _ => false,
    })
}

/// Whether all entries of a kubeconfig that meet hoop at this resource trust it. `None` where there is
/// none, where one goes by the system's list, or where the file is not as kubectl writes it.
/// `read` reads the bundle that an entry names, as its clients would.
pub(super) fn trusts(
    text: &str,
    resource: &Resource,
    ours: &Ours,
    read: &dyn Fn(&Path) -> Option<String>,
) -> Option<bool> {
    let lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let mut met = None;
    for entry in entries(&lines).ok()? {
        if !entry.server.is_some_and(|s| is_met_at(&s, resource)) {
            continue;
        }
        let bundle = match (entry.data, entry.file) {
            _ if entry.insecure => continue,
            (Some((_, data)), _) => String::from_utf8(BASE64.decode(data).ok()?).ok()?,
            (None, Some(file)) => read(Path::new(&file)).unwrap_or_default(),
            (None, None) => return None,
        };
        met = Some(met.unwrap_or(true) && ours.stand_in(&bundle));
    }
    met
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::fixture::{config, resource};
    use crate::terminate::authority::{Authority, Destinations};

    fn kubernetes(hosts: &[&str]) -> Config {
        let mut cluster = resource("prod", hosts);
        cluster.port = 6443;
        cluster.kubernetes = Some(crate::config::Kubernetes {
            credential: crate::config::KubernetesCredential::Agent,
            impersonate: None,
            hold: std::time::Duration::from_secs(50),
            show_secrets: Vec::new(),
        });
        config(vec![cluster])
    }

    fn ca(config: &Config, remove: bool) -> (tempfile::TempDir, Ca) {
        let state = tempfile::tempdir().unwrap();
        let authority = Authority::open(state.path(), &Destinations::of(config)).unwrap();
        let pem = authority.ca_pem();
        let ours = Ours::of(&pem).unwrap();
        (state, Ca { ours, pem, remove })
    }

    fn other() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::CertificateParams::new(vec!["x".into()]).unwrap();
        other.self_signed(&key).unwrap().pem()
    }

    fn kubeconfig(data: &str) -> String {
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {data}\n    server: https://k8s.internal:6443\n  name: prod\n- cluster:\n    certificate-authority-data: {data}\n    server: https://elsewhere:6443\n  name: other\nkind: Config\nusers:\n- name: me\n  user:\n    token: x\n"
        )
    }

    #[test]
    fn the_ca_is_added_where_it_belongs_and_goes_without_trace() {
        let config = kubernetes(&["k8s.internal"]);
        let (_state, mut ca) = ca(&config, false);
        let theirs = other();
        let before = kubeconfig(&BASE64.encode(&theirs));
        let with = edited(&before, Some(&config), &ca).unwrap();
        let both = format!("{}{}\n", theirs, ca.pem.trim_end());
        assert_eq!(
            with.text,
            before.replacen(&BASE64.encode(&theirs), &BASE64.encode(both), 1)
        );
        assert_eq!(
            edited(&with.text, Some(&config), &ca).unwrap().text,
            with.text
        );
        let trusts = |text: &str| trusts(text, &config.resources[0], &ca.ours, &read_regular);
        assert_eq!(trusts(&before), Some(false));
        assert_eq!(trusts(&with.text), Some(true));
        assert_eq!(trusts("clusters: []\n"), None);
        ca.remove = true;
        assert_eq!(edited(&with.text, Some(&config), &ca).unwrap().text, before);
        // Nor is the configuration needed, and what is none of hoop's stays.
        assert_eq!(edited(&with.text, None, &ca).unwrap().text, before);
        let odd = kubeconfig("AA==");
        assert_eq!(edited(&odd, None, &ca).unwrap().text, odd);
    }

    #[test]
    fn what_cannot_be_edited_is_said() {
        let config = kubernetes(&["10.0.0.0/24"]);
        let (_state, ca) = ca(&config, false);
        let elsewhere = edited(&kubeconfig("AA=="), Some(&config), &ca);
        assert!(elsewhere.is_err());
        let flow = "clusters: [{cluster: {server: https://10.0.0.1:6443}}]\n";
        assert!(edited(flow, Some(&config), &ca).is_err());
        let system = "clusters:\n- cluster:\n    server: https://10.0.0.1:6443\n";
        let edited = edited(system, Some(&config), &ca).unwrap();
        assert!(edited.text == system && edited.notes[0].contains("system's list"));
    }
}
