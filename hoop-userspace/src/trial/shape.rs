//! What is alike in what agents ask for, and can be shown to anybody: statements without their
//! constants and comments, commands by their programs.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Config;
use crate::decide::{Decider, KubernetesFlag, outline};
use crate::ids::ResourceName;
use crate::mask::{Detection, HashKey, Rules};
use crate::terminate::again::Again;
use crate::terminate::{Asked, FileAction, KubernetesAsked, SqlText, SshAsked};

/// Characters of a shape that are shown.
const LONGEST: usize = 400;
/// Nothing that is shown was hashed with it.
const KEY: [u8; 32] = *b"hoop report: shows none of these";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// For people.
    pub text: String,
    /// Of SQL: `context.fingerprint`.
    pub fingerprint: Option<String>,
}

/// Tells shapes, and hides in them what a resource's detectors find.
pub struct Shapes<'c> {
    config: &'c Config,
    detection: HashMap<ResourceName, Option<Arc<Detection>>>,
}

impl<'c> Shapes<'c> {
    pub fn new(config: &'c Config) -> Self {
        Self {
            config,
            detection: HashMap::new(),
        }
    }

    pub fn of(&mut self, decider: &Decider, resource: Option<&str>, what: &Again) -> Shape {
        let (text, fingerprint) = match what {
            Again::Asked(asked) => told(decider, asked),
            Again::Prepared => ("a statement that was prepared".to_owned(), None),
            Again::Lost(why) => (format!("(not known any more: {why})"), None),
        };
        let hidden = self.hidden(resource, &text);
        let mut text = hidden.unwrap_or(text);
        // Programs, paths and names are as long as the agent likes.
        if let Some((end, _)) = text.char_indices().nth(LONGEST + 1) {
            text.truncate(end);
            text.push('…');
        }
        Shape { text, fingerprint }
    }

    /// The text without what a mask of the resource would hide; `None` where nothing is.
    pub fn hidden(&mut self, resource: Option<&str>, text: &str) -> Option<String> {
        let resource = ResourceName::from(resource?);
        let config = self.config;
        let detection = self.detection.entry(resource).or_insert_with_key(|name| {
            let rules = Rules::new(config, name, &HashKey::new(&KEY));
            rules.detection().cloned()
        });
        let masked = detection.as_ref()?.masked_text(text.as_bytes())?;
        Some(String::from_utf8_lossy(&masked).into_owned())
    }
}

fn told(decider: &Decider, asked: &Asked) -> (String, Option<String>) {
    match asked {
        Asked::Sql(asked) => match asked.candidates.first() {
            Some(text) => sql(decider, text),
            None => ("(no statement)".to_owned(), None),
        },
        Asked::FunctionCall { oid } => (format!("function call {oid}"), None),
        Asked::Ssh(asked) => (ssh(decider, asked), None),
        Asked::Kubernetes(asked) => (kubernetes(decider, asked), None),
        Asked::Undecidable(_) => ("(what hoop does not read)".to_owned(), None),
        Asked::Control => ("(nothing)".to_owned(), None),
    }
}

fn sql(decider: &Decider, text: &Arc<SqlText>) -> (String, Option<String>) {
    let facts = decider.facts_of(text);
    let fingerprint = Some(facts.fingerprint.clone()).filter(|text| !text.is_empty());
    // What does not parse need not have its constants where they seem to be.
    let shown = match &facts.unparsable {
        Some(_) => "(SQL that does not parse)".to_owned(),
        None => outline(&text.text, LONGEST).0,
    };
    (shown, fingerprint)
}

/// The verb, the kind and where, what stands out in it, and of a command its programs; which object it
/// was, and what else it names, varies.
fn kubernetes(decider: &Decider, asked: &KubernetesAsked) -> String {
    let facts = decider.kubernetes_facts_of(asked);
    if facts.kind.is_empty() {
        return format!("{} {}", facts.verb, facts.path);
    }
    let mut shown = format!("{} {}", facts.verb, facts.kind);
    if !facts.subresource.is_empty() {
        shown = format!("{shown}/{}", facts.subresource);
    }
    if !facts.group.is_empty() {
        shown = format!("{shown}.{}", facts.group);
    }
    if !facts.namespace.is_empty() {
        shown = format!("{shown} in {}", facts.namespace);
    }
    if let Some(command) = &facts.command {
        shown = format!("{shown}: {}", decider.shell_outline(command));
    }
    let mut said: Vec<&str> = facts.flags.iter().filter_map(stands_out).collect();
    let streams = &asked.options;
    let also = [
        (facts.dry_run, "dry run"),
        (streams.stdin, "input"),
        (streams.tty, "terminal"),
    ];
    said.extend(also.into_iter().filter_map(|(is, word)| is.then_some(word)));
    match said.is_empty() {
        true => shown,
        false => format!("{shown} ({})", said.join(", ")),
    }
}

/// What the verb does not say already.
fn stands_out(flag: &KubernetesFlag) -> Option<&'static str> {
    match flag {
        KubernetesFlag::Deletes | KubernetesFlag::Overwrites | KubernetesFlag::Upgrade => None,
        flag => Some(flag.as_str()),
    }
}

fn ssh(decider: &Decider, asked: &SshAsked) -> String {
    match asked {
        SshAsked::Exec { text, terminal } => {
            let facts = match terminal {
                true => decider.shell_facts_on_terminal(&text.text),
                false => decider.shell_facts_of(&text.text),
            };
            let shown = decider.shell_outline(&facts);
            match terminal {
                true => format!("{shown} (on a terminal)"),
                false => shown,
            }
        }
        SshAsked::Shell => "(interactive shell)".to_owned(),
        SshAsked::Subsystem(name) => format!("(subsystem {name})"),
        SshAsked::Connect { host, port, .. } => format!("(connection to {host}:{port})"),
        SshAsked::Files(files) => {
            let verb = match files.action {
                FileAction::ReadWrite => "read and write",
                action => action.as_str(),
            };
            format!("(files: {verb})")
        }
    }
}
