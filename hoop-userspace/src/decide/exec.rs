//! Shell commands: every program of a line, and every file that it touches, needs its permit.

use std::sync::Arc;

use super::cedar::{Answer, ExecObject, ExecQuery, join};
use super::decider::{Decider, Verdict};
use super::words::{self, Words};
use super::{Code, Demand, Refusal, Retry, Rule, ShellCommand, ShellFacts, Subject};

/// A decision about a shell text with its reasons, for `hoop policy test`.
#[derive(Debug)]
pub struct ExplainedExec {
    pub facts: Arc<ShellFacts>,
    /// The rules that permit or ask, or the one that forbids.
    pub rules: Vec<Rule>,
    pub refusal: Option<Refusal>,
    /// A human could permit it.
    pub asks: bool,
}

/// Of a longer line the first are told.
const SHOWN_COMMANDS: usize = 8;

impl Decider {
    /// What is found in a shell text, whoever sends it.
    pub fn shell_facts_of(&self, text: &str) -> Arc<ShellFacts> {
        Arc::new(self.shell.facts(text, false))
    }

    /// The same where the text runs on a terminal, which the client types into: a pager that
    /// starts there runs whatever is typed.
    pub fn shell_facts_on_terminal(&self, text: &str) -> Arc<ShellFacts> {
        Arc::new(self.shell.facts(text, true))
    }

    /// Where among a command's words the subcommand stands, if hoop knows it as one.
    pub fn subcommand(&self, command: &ShellCommand) -> Option<usize> {
        self.shell.subcommand(command)
    }

    /// A shell text by its programs alone, with their subcommands where hoop knows them as such:
    /// what else stands there may be a secret.
    pub fn shell_outline(&self, facts: &ShellFacts) -> String {
        let one = |command: &ShellCommand| {
            let Some(program) = &command.program else {
                return "(a redirection)".to_owned();
            };
            let sub = self.subcommand(command).and_then(|at| command.argv.get(at));
            let through = command.through.iter().map(|by| format!("{by} "));
            let mut shown: String = through.collect();
            shown.push_str(program);
            if let Some(Some(sub)) = sub {
                shown.push(' ');
                shown.push_str(sub);
            }
            shown
        };
        let mut shown: Vec<String> = facts.commands.iter().map(one).collect();
        shown.dedup();
        let more = shown.len().saturating_sub(SHOWN_COMMANDS);
        shown.truncate(SHOWN_COMMANDS);
        if more > 0 {
            shown.push(format!("and {more} more"));
        }
        if facts.opaque {
            shown.push("(more that is not seen)".to_owned());
        }
        shown.join(", ")
    }

    /// Decides a shell text as if it were sent now, and says why.
    pub fn explain_exec(&self, subject: &Subject, text: &str) -> ExplainedExec {
        let facts = self.shell_facts_of(text);
        let (rules, refusal, asks) = self.judge_exec(subject, &facts, text).explained();
        ExplainedExec {
            facts,
            rules,
            refusal,
            asks,
        }
    }

    /// What the policies say. Refuse beats ask beats allow.
    pub(super) fn judge_exec(&self, subject: &Subject, facts: &ShellFacts, line: &str) -> Verdict {
        let agent = subject.identity.agent();
        let query = ExecQuery {
            identity: &subject.identity,
            process: &subject.process,
            resource: subject.resource.as_str(),
            host: &subject.database,
            login: &subject.login,
            activity: self.watches().then_some(&subject.activity),
            facts,
            line,
        };
        let inquiry = match self.policies().exec(query) {
            Ok(inquiry) => inquiry,
            Err(error) => return Verdict::Refuse(Arc::new(words::unaskable(agent, &error))),
        };
        let mut verdict = Gathered::default();
        if facts.opaque {
            let opaque = facts
                .commands
                .iter()
                .find(|c| c.flags.contains(&super::ShellFlag::Opaque));
            let why = opaque.and_then(|command| command.why.as_deref());
            let why = facts
                .unparsable
                .as_deref()
                .or(why)
                .unwrap_or("code runs that is not seen");
            let doing = Doing::Unseen(why);
            if let Err(words) = verdict.add(self, subject, &doing, inquiry.ask_unknown()) {
                return Verdict::Refuse(Arc::new(words));
            }
        }
        for command in &facts.commands {
            let program = command.program.as_deref().map(ExecObject::Program);
            let files = command.files.iter().map(ExecObject::File);
            for object in program.into_iter().chain(files) {
                let doing = Doing::Command(command, object);
                let answer = inquiry.ask(command, object);
                if let Err(words) = verdict.add(self, subject, &doing, answer) {
                    return Verdict::Refuse(Arc::new(words));
                }
            }
        }
        verdict.settle(subject)
    }
}

/// What was answered so far.
#[derive(Default)]
struct Gathered {
    rules: Vec<Rule>,
    /// With the first thing that is asked about, in words.
    ask: Option<(Vec<Arc<Demand>>, String)>,
}

impl Gathered {
    fn add(
        &mut self,
        decider: &Decider,
        subject: &Subject,
        doing: &Doing<'_>,
        answer: Answer,
    ) -> Result<(), Words> {
        let agent = subject.identity.agent();
        let (code, message, rule, hint) = match answer {
            Answer::Permit(rules) => {
                self.rules.extend(rules);
                return Ok(());
            }
            Answer::Ask(rules, asks) => {
                self.rules.extend(rules);
                let (demands, _) = self.ask.get_or_insert_with(|| (Vec::new(), doing.what()));
                join(demands, asks);
                return Ok(());
            }
            Answer::Forbid(rule) => (
                Code::Forbidden,
                format!(
                    "{agent} may not {}: rule {:?} forbids it",
                    doing.what(),
                    rule.0
                ),
                Some(rule),
                "do without it, or ask the operator whether the rule should change".to_owned(),
            ),
            Answer::Error(rule, why) => (
                Code::PolicyError,
                format!(
                    "{agent} may not {}: a rule could not be evaluated: {why}",
                    doing.what()
                ),
                rule,
                "tell the operator; nothing passes until the rule is corrected".to_owned(),
            ),
            Answer::Silent { .. } => return Err(doing.silent(agent, decider)),
        };
        Err(Words {
            code,
            message,
            rule,
            retry: Retry::Never,
            hint,
        })
    }

    fn settle(mut self, subject: &Subject) -> Verdict {
        self.rules.sort();
        self.rules.dedup();
        let rules = self.rules.into();
        match self.ask {
            None => Verdict::Permit(rules),
            Some((demands, what)) => Verdict::Ask {
                rules,
                otherwise: Arc::new(words::asking(subject.identity.agent(), &what, &demands)),
                demands: demands.into(),
            },
        }
    }
}

enum Doing<'f> {
    /// With the reason.
    Unseen(&'f str),
    Command(&'f ShellCommand, ExecObject<'f>),
}

impl Doing<'_> {
    fn what(&self) -> String {
        match self {
            Self::Unseen(why) => format!("run what hoop cannot see through ({why})"),
            Self::Command(command, ExecObject::Program(_)) => {
                let flags: Vec<_> = command.flags.iter().map(|flag| flag.as_str()).collect();
                match flags.is_empty() {
                    true => format!("run {}", shown(command)),
                    false => format!("run {} ({})", shown(command), flags.join(", ")),
                }
            }
            Self::Command(command, ExecObject::File(file)) => {
                let verb = file.verb.as_str();
                match command.program {
                    Some(_) => format!("{verb} {} by {}", file.path, shown(command)),
                    None => format!("{verb} {} by a redirection", file.path),
                }
            }
        }
    }

    fn silent(&self, agent: &crate::ids::AgentName, decider: &Decider) -> Words {
        let what = self.what();
        match self {
            Self::Unseen(_) => Words {
                code: Code::Unparsable,
                message: format!("{agent} may not {what}"),
                rule: None,
                retry: Retry::Narrower,
                hint: "write the command itself, without code that is computed, encoded or read from elsewhere".into(),
            },
            Self::Command(command, _) => {
                let why = command.why.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
                Words {
                    code: Code::NotPermitted,
                    message: format!("{agent} may not {what} (ssh:exec): no rule permits it{why}"),
                    rule: None,
                    retry: Retry::Never,
                    hint: decider.keep_to(),
                }
            }
        }
    }
}

/// The command, not at length.
fn shown(command: &ShellCommand) -> String {
    const LONGEST: usize = 120;
    let mut line: String = command.line.chars().take(LONGEST).collect();
    if line.len() < command.line.len() {
        line.push('…');
    }
    match &command.user {
        Some(user) => format!("`{line}` as {user}"),
        None => format!("`{line}`"),
    }
}
