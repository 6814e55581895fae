//! What an SSH client asks for beside commands: shells, subsystems, files, connections.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::ids::AgentName;
use crate::terminate::{FileAction, FilesAsked, SqlText, SshAsked};

use super::cedar::{Answer, HostObject, HostQuery, join};
use super::decider::Decider;
use super::outcome::{Ask, Outcome};
use super::words::{self, Words};
use super::{Code, Demand, PermittedUnit, Retry, Rule, Subject};

/// The policy's action on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostAction {
    Shell,
    Subsystem,
    SftpRead,
    SftpWrite,
    Forward,
}

impl HostAction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Shell => "ssh:shell",
            Self::Subsystem => "ssh:subsystem",
            Self::SftpRead => "ssh:sftp-read",
            Self::SftpWrite => "ssh:sftp-write",
            Self::Forward => "ssh:forward",
        }
    }
}

/// One thing that must be permitted.
struct Want {
    action: HostAction,
    /// As policies call it.
    verb: &'static str,
    object: HostObject,
    /// In words: `remove /var/log/x on web1`.
    what: String,
}

impl Decider {
    pub(super) fn ssh(&self, subject: &Subject, asked: &SshAsked) -> Outcome {
        let host = &subject.database;
        let wants: SmallVec<[Want; 2]> = match asked {
            SshAsked::Exec { text, terminal } => {
                let facts = match terminal {
                    true => self.shell_facts_on_terminal(&text.text),
                    false => self.shell_facts_of(&text.text),
                };
                return Outcome::judged(self.judge_exec(subject, &facts, &text.text), text);
            }
            SshAsked::Shell => {
                let what = format!("open an interactive shell on {host}");
                smallvec![plain(HostAction::Shell, "shell", what)]
            }
            SshAsked::Subsystem(name) => smallvec![Want {
                action: HostAction::Subsystem,
                verb: "subsystem",
                object: HostObject::Subsystem(name.clone()),
                what: format!("start the subsystem {name} on {host}"),
            }],
            SshAsked::Files(asked) => self.files(asked, host),
            SshAsked::Connect {
                host: to,
                port,
                governed: Some(resource),
            } => {
                let agent = subject.identity.agent();
                let words = words::past_hoop(agent, host, to, *port, resource);
                return Outcome::refuse(Arc::new(words), Some(asked.text()), None)
                    .final_unless(false);
            }
            SshAsked::Connect { host: to, port, .. } => smallvec![Want {
                action: HostAction::Forward,
                verb: "connect",
                object: HostObject::Endpoint(to.clone(), *port),
                what: format!("connect from {host} to {to}:{port}"),
            }],
        };
        self.wanted(subject, &wants, asked.text())
    }

    /// All must be permitted; refuse beats ask beats allow.
    fn wanted(&self, subject: &Subject, wants: &[Want], text: Arc<SqlText>) -> Outcome {
        let agent = subject.identity.agent();
        let query = HostQuery {
            identity: &subject.identity,
            process: &subject.process,
            resource: subject.resource.as_str(),
            host: &subject.database,
            login: &subject.login,
            activity: self.watches().then_some(&subject.activity),
        };
        let mut rules: Vec<Rule> = Vec::new();
        let mut ask: Option<(Vec<Arc<Demand>>, &Want)> = None;
        for want in wants {
            let answer = self
                .policies()
                .ask_host(query, want.action, want.verb, &want.object);
            match answer {
                Answer::Permit(more) => rules.extend(more),
                Answer::Ask(more, asks) => {
                    rules.extend(more);
                    let (demands, _) = ask.get_or_insert((Vec::new(), want));
                    join(demands, asks);
                }
                answer => {
                    let words = self.host_refused(agent, want, answer);
                    return Outcome::refuse(Arc::new(words), Some(text), None);
                }
            }
        }
        rules.sort();
        rules.dedup();
        let permitted = PermittedUnit {
            statement: None,
            rules: rules.into(),
            runs: true,
            would_refuse: None,
        };
        match ask {
            None => Outcome::Permit(permitted),
            Some((demands, want)) => Outcome::Ask(Ask {
                permitted,
                otherwise: Arc::new(words::asking(agent, &want.what, &demands)),
                demands: demands.into(),
                asked: Some(text),
            }),
        }
    }

    fn host_refused(&self, agent: &AgentName, want: &Want, answer: Answer) -> Words {
        let what = &want.what;
        let (code, message, rule, hint) = match answer {
            Answer::Forbid(rule) => (
                Code::Forbidden,
                format!("{agent} may not {what}: rule {:?} forbids it", rule.0),
                Some(rule),
                "do without it, or ask the operator whether the rule should change".to_owned(),
            ),
            Answer::Error(rule, why) => (
                Code::PolicyError,
                format!("{agent} may not {what}: a rule could not be evaluated: {why}"),
                rule,
                "tell the operator; nothing passes until the rule is corrected".to_owned(),
            ),
            Answer::Silent { .. } | Answer::Permit(_) | Answer::Ask(..) => (
                Code::NotPermitted,
                format!(
                    "{agent} may not {what} ({}): no rule permits it",
                    want.action.as_str()
                ),
                None,
                self.keep_to(),
            ),
        };
        Words {
            code,
            message,
            rule,
            retry: Retry::Never,
            hint,
        }
    }
}

fn plain(action: HostAction, verb: &'static str, what: String) -> Want {
    Want {
        action,
        verb,
        object: HostObject::Host,
        what,
    }
}

impl Decider {
    fn files(&self, asked: &FilesAsked, host: &str) -> SmallVec<[Want; 2]> {
        let verb = asked.action.as_str();
        let actions: &[HostAction] = match asked.action {
            FileAction::Read => &[HostAction::SftpRead],
            FileAction::Write => &[HostAction::SftpWrite],
            FileAction::ReadWrite => &[HostAction::SftpRead, HostAction::SftpWrite],
            FileAction::List => &[HostAction::SftpRead],
            FileAction::Stat => &[HostAction::SftpRead],
            FileAction::SetStat => &[HostAction::SftpWrite],
            FileAction::Remove => &[HostAction::SftpWrite],
            FileAction::MakeFolder => &[HostAction::SftpWrite],
            FileAction::RemoveFolder => &[HostAction::SftpWrite],
            FileAction::Rename => &[HostAction::SftpWrite],
            FileAction::Link => &[HostAction::SftpWrite],
        };
        let each = asked.paths.iter().flat_map(|path| {
            actions.iter().map(move |action| Want {
                action: *action,
                verb,
                object: HostObject::File {
                    path: path.clone(),
                    secret: self.shell.is_secret(path),
                },
                what: format!("{verb} {path} on {host}"),
            })
        });
        each.collect()
    }
}
