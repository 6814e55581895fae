//! The configuration of a world's daemon, as an operator would write it.

use std::path::PathBuf;

use anyhow::Result;

use crate::files;
use crate::place::Place;
use crate::postgres::{HOST, PASSWORD, ROLE};

/// What a scenario may vary; `Default` is the demo's own.
#[derive(Clone, Debug)]
pub struct Settings {
    pub agents: Vec<AgentSettings>,
    /// `schema.table.column` patterns, and how they are masked.
    pub masks: Vec<(String, &'static str)>,
    /// Ready-made packs.
    pub packs: Vec<&'static str>,
    /// Policy files: name and Cedar text.
    pub policies: Vec<(&'static str, String)>,
    /// How hoop reaches the server: `verify-full`, `verify-ca` or `disable`.
    pub upstream_tls: &'static str,
    /// More lines for the issuer's table, where `FOLDER` stands for the world's folder.
    pub issuer: String,
    /// More lines for the resource, where `FOLDER` stands for the world's folder.
    pub resource: String,
    /// Files in `etc` that only root may read, and what they hold.
    pub secrets: Vec<(&'static str, &'static str)>,
    /// Where the console is: whoever signs in at the issuer comes back there. Empty: nobody does.
    pub console: String,
    /// Who can sign in, and the groups of each.
    pub people: Vec<(&'static str, &'static [&'static str])>,
    /// The login of the SSH resource, as the file has it; without one there is no such server.
    /// `FOLDER` stands for the world's folder.
    pub ssh: Option<&'static str>,
    /// Whether there is a Kubernetes cluster, and more lines for its resource.
    pub kubernetes: Option<&'static str>,
    /// More lines for the end of the file.
    pub more: String,
    /// More lines of `[capture]`, each with its end.
    pub capture: &'static str,
    /// How much the daemon logs.
    pub log: &'static str,
}

#[derive(Clone, Debug)]
pub struct AgentSettings {
    pub name: &'static str,
    pub client_id: &'static str,
    pub mode: &'static str,
    pub egress: Vec<String>,
    pub listen: Vec<u16>,
    /// The `token` of its mapping, where `FOLDER` stands for the world's folder. Empty for the file
    /// that the world writes.
    pub token: &'static str,
    /// How its client proves itself to the provider: empty for a secret in the header, or `post`,
    /// `RS256`, `ES256`.
    pub auth: &'static str,
    /// Who may not approve what it asks; empty for nobody.
    pub owner: &'static str,
    /// Its `container` or `pod`, as the file has it: its cgroups are then Docker's. Empty for none.
    pub pick: &'static str,
    /// From where what it asks for is dialled; empty for the default.
    pub network: &'static str,
}

impl AgentSettings {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            client_id: name,
            mode: "enforce",
            egress: Vec::new(),
            listen: Vec::new(),
            token: "",
            auth: "",
            owner: "",
            pick: "",
            network: "",
        }
    }
}

/// The agent of the demo: it may read.
pub const READER: &str = "billing-bot";
/// An agent that may write and define, for what the contract suite must do.
pub const WRITER: &str = "etl-bot";

impl Default for Settings {
    fn default() -> Self {
        Self {
            agents: vec![AgentSettings::new(READER), AgentSettings::new(WRITER)],
            masks: vec![
                ("public.users.ssn".to_owned(), "partial"),
                ("*.*.email".to_owned(), "redact"),
            ],
            packs: vec!["read-only"],
            policies: vec![("writer.cedar", WRITER_POLICY.to_owned())],
            upstream_tls: "verify-full",
            issuer: String::new(),
            resource: String::new(),
            secrets: Vec::new(),
            console: String::new(),
            people: Vec::new(),
            ssh: None,
            kubernetes: None,
            more: String::new(),
            capture: "",
            log: "info",
        }
    }
}

/// Lets the writer do what its job is, but neither drop a table nor delete without a condition.
const WRITER_POLICY: &str = include_str!("writer.cedar");

/// [`Settings::issuer`] that has the issuer asked whether tokens still hold.
pub const ASKS: &str = "introspection = { client_id = \"hoop-asks\", secret = { file = \"FOLDER/etc/clients/hoop-asks\" } }";

/// The files of one configuration, below the world's folder.
pub struct Written {
    pub config: PathBuf,
    pub recordings: PathBuf,
    pub state: PathBuf,
}

impl Settings {
    pub fn write(&self, place: &Place, issuer: &str) -> Result<Written> {
        let written = Written {
            config: place.path("etc/hoop.toml"),
            recordings: place.path("state/recordings"),
            state: place.path("state"),
        };
        for (name, text) in &self.policies {
            files::write(&place.path("etc/policies").join(name), text)?;
        }
        std::fs::create_dir_all(place.path("etc/policies"))?;
        files::write_secret(&place.path("etc/orders-password"), PASSWORD)?;
        for (name, secret) in &self.secrets {
            files::write_secret(&place.path("etc").join(name), secret)?;
        }
        files::write_secret(&place.path("etc/web-password"), crate::sshd::PASSWORD)?;
        for agent in &self.agents {
            let secret = place.path("etc/clients").join(agent.client_id);
            files::write_secret(&secret, format!("{}-secret", agent.client_id))?;
        }
        files::write_secret(&place.path("etc/clients/hoop-asks"), "hoop-asks-secret")?;
        files::write(&written.config, self.text(place, issuer))?;
        Ok(written)
    }

    fn text(&self, place: &Place, issuer: &str) -> String {
        let folder = place.folder.display();
        let mut text = format!(
            "[capture]\nattach = \"{slice}\"\npins = \"{folder}/bpf/hoop\"\n{capture}\n\
             [worker]\nuser = \"nobody\"\nstate = \"{folder}/state\"\nruntime = \"{folder}/run\"\n\n\
             [record]\ndirectory = \"{folder}/state/recordings\"\n\n\
             [issuer.okta]\nurl = \"{issuer}\"\naudience = \"api://hoop\"\n{more}\n\n",
            slice = place.slice,
            capture = self.capture,
            more = self.issuer.replace("FOLDER", &folder.to_string()),
        );
        for agent in &self.agents {
            text += &agent.text(place);
        }
        let ca = match self.upstream_tls {
            "disable" => String::new(),
            _ => format!("ca = \"{folder}/servers/ca.pem\"\n"),
        };
        text += &format!(
            "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"{HOST}\"]\n\
             port = 5432\ntls = \"{tls}\"\n{ca}\
             login = {{ user = \"{ROLE}\", password = {{ file = \"{folder}/etc/orders-password\" }} }}\n{more}\n",
            tls = self.upstream_tls,
            more = self.resource.replace("FOLDER", &folder.to_string()),
        );
        if let Some(login) = self.ssh {
            let login = login.replace("FOLDER", &folder.to_string());
            text += &format!(
                "[[resource]]\nname = \"web\"\nprotocol = \"ssh\"\nhosts = [\"{}\"]\n\
                 known_hosts = \"{folder}/sshd/users_known_hosts\"\nlogin = {login}\n\n",
                crate::sshd::HOST,
            );
        }
        if let Some(more) = self.kubernetes {
            let certificates = format!("{folder}/kubernetes/certificates");
            text += &format!(
                "[[resource]]\nname = \"prod\"\nprotocol = \"kubernetes\"\nhosts = [\"{host}\"]\n\
                 port = {port}\nca = \"{certificates}/ca.pem\"\n\
                 login = {{ certificate = \"{certificates}/hoop.pem\", key = {{ file = \"{certificates}/hoop.key\" }}, impersonate = {{}} }}\n\
                 {more}\n\n",
                host = crate::kubernetes::HOST,
                port = crate::kubernetes::PORT,
            );
        }
        for (columns, how) in &self.masks {
            text += &format!(
                "[[mask]]\nresource = \"orders\"\ncolumns = [\"{columns}\"]\nhow = \"{how}\"\n\n"
            );
        }
        text += &format!(
            "[policy]\nuse = {:?}\ndirectory = \"{folder}/etc/policies\"\n\n{}",
            self.packs, self.more
        );
        text
    }
}

impl AgentSettings {
    fn text(&self, place: &Place) -> String {
        let folder = place.folder.display().to_string();
        let token = match self.token {
            "" => format!("{{ file = \"{folder}/tokens/{}\" }}", self.name),
            other => other.replace("FOLDER", &folder),
        };
        let owner = match self.owner {
            "" => String::new(),
            owner => format!("owner = \"{owner}\"\n"),
        };
        let network = match self.network {
            "" => String::new(),
            network => format!("network = \"{network}\"\n"),
        };
        let cgroup = match self.pick {
            "" => format!("{}/{}*.service", place.slice, self.name),
            _ => format!("{}/docker-*.scope", place.slice),
        };
        format!(
            "[[agent]]\nname = \"{name}\"\ncgroup = \"{cgroup}\"\n{pick}\nissuer = \"okta\"\n\
             client_id = \"{client}\"\ntoken = {token}\n\
             egress_allow = {egress:?}\nlisten = {listen:?}\nmode = \"{mode}\"\n{owner}{network}\n",
            name = self.name,
            pick = self.pick,
            client = self.client_id,
            egress = self.egress,
            listen = self.listen,
            mode = self.mode,
        )
    }
}
