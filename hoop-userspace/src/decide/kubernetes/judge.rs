//! What the policies say of a request to an API server.

use std::sync::Arc;

use crate::decide::cedar::{Answer, ApiObject, ApiQuery, join};
use crate::decide::decider::{Decider, Verdict};
use crate::decide::outcome::Outcome;
use crate::decide::words::{self, Words};
use crate::decide::{Code, Demand, Question, Refusal, Retry, Rule, Subject};
use crate::terminate::{Asked, KubernetesAsked};
use crate::wire::kubernetes::marker;

use super::patch::{self, Moving};
use super::{KubernetesAction, KubernetesFacts, KubernetesFlag};

/// A decision about a request to an API server with its reasons, for `hoop policy test`.
#[derive(Debug)]
pub struct ExplainedKubernetes {
    pub facts: Arc<KubernetesFacts>,
    /// The rules that permit or ask, or the one that forbids.
    pub rules: Vec<Rule>,
    pub refusal: Option<Refusal>,
    /// A human could permit it.
    pub asks: bool,
}

impl Decider {
    /// What is found in a request, whoever sends it.
    pub fn kubernetes_facts_of(&self, asked: &KubernetesAsked) -> Arc<KubernetesFacts> {
        Arc::new(self.kubernetes.facts(&self.shell, asked))
    }

    /// Whether a question is about requests to an API server alone, and each was understood whole.
    pub fn understands(&self, question: &Question) -> bool {
        let understood = |asked: &Asked| match asked {
            Asked::Kubernetes(asked) => {
                let facts = self.kubernetes.facts(&self.shell, asked);
                !facts.has(KubernetesFlag::Opaque)
            }
            _ => false,
        };
        let mut units = question.request.units.iter();
        units.all(|unit| understood(&unit.asked))
    }

    pub(in crate::decide) fn kubernetes(
        &self,
        subject: &Subject,
        asked: &KubernetesAsked,
    ) -> Outcome {
        let facts = self.kubernetes_facts_of(asked);
        Outcome::judged(self.judge_kubernetes(subject, &facts, asked), &asked.text())
    }

    /// Decides a request as if it were sent now, and says why.
    pub fn explain_kubernetes(
        &self,
        subject: &Subject,
        asked: &KubernetesAsked,
    ) -> ExplainedKubernetes {
        let facts = self.kubernetes_facts_of(asked);
        let (rules, refusal, asks) = self.judge_kubernetes(subject, &facts, asked).explained();
        ExplainedKubernetes {
            facts,
            rules,
            refusal,
            asks,
        }
    }

    /// The request needs its permit, and what was not understood one that names it. Refuse beats ask
    /// beats allow.
    fn judge_kubernetes(
        &self,
        subject: &Subject,
        facts: &KubernetesFacts,
        asked: &KubernetesAsked,
    ) -> Verdict {
        let agent = subject.identity.agent();
        let what = what(facts);
        if facts.writes()
            && let Some(at) = marker::finds_masked(asked.content_type.as_deref(), &asked.body)
        {
            return Verdict::Refuse(Arc::new(masked(agent.as_str(), &what, &at)));
        }
        if let Some(moving) = self.moves_hidden(subject, facts, asked) {
            return Verdict::Refuse(Arc::new(moved(agent.as_str(), &what, &moving)));
        }
        let query = ApiQuery {
            identity: &subject.identity,
            process: &subject.process,
            resource: subject.resource.as_str(),
            host: &subject.database,
            login: &subject.login,
            activity: self.watches().then_some(&subject.activity),
            facts,
            streams: (asked.options.stdin, asked.options.tty),
        };
        let object = ApiObject::of(facts);
        let opaque = facts.has(KubernetesFlag::Opaque)
            || facts.command.as_ref().is_some_and(|command| command.opaque);
        let unknown = facts.action == KubernetesAction::Unknown;
        let mut actions = vec![facts.action];
        if opaque && !unknown {
            actions.push(KubernetesAction::Unknown);
        }
        let mut rules: Vec<Rule> = Vec::new();
        let mut ask: Option<Vec<Arc<Demand>>> = None;
        for action in actions {
            match self.policies().ask_api(query, action, &object) {
                Answer::Permit(more) => rules.extend(more),
                Answer::Ask(more, asks) => {
                    rules.extend(more);
                    join(ask.get_or_insert_default(), asks);
                }
                answer => {
                    return Verdict::Refuse(Arc::new(self.request_refused(
                        agent.as_str(),
                        facts,
                        action,
                        &what,
                        answer,
                    )));
                }
            }
        }
        rules.sort();
        rules.dedup();
        match ask {
            None => Verdict::Permit(rules.into()),
            Some(demands) => Verdict::Ask {
                rules: rules.into(),
                otherwise: Arc::new(words::asking(agent, &what, &demands)),
                demands: demands.into(),
            },
        }
    }

    /// Whether a JSON patch moves or tests what is masked of its object: a copy in a label or a name
    /// is not masked, and what a test says is told by its success.
    fn moves_hidden(
        &self,
        subject: &Subject,
        facts: &KubernetesFacts,
        asked: &KubernetesAsked,
    ) -> Option<Moving> {
        let kind = asked.content_type.as_deref().unwrap_or_default();
        let secrets = facts.group.is_empty() && facts.kind == "secrets";
        let hidden = || secrets || self.masks(subject).of_kind(&facts.namespace, &facts.kind);
        let is_patch = facts.action == KubernetesAction::Patch && kind.contains("json-patch");
        match is_patch && hidden() {
            true => patch::moving(&asked.body),
            false => None,
        }
    }

    fn request_refused(
        &self,
        agent: &str,
        facts: &KubernetesFacts,
        action: KubernetesAction,
        what: &str,
        answer: Answer,
    ) -> Words {
        let (code, message, rule, retry, hint) = match answer {
            Answer::Forbid(rule) => (
                Code::Forbidden,
                format!("{agent} may not {what}: rule {:?} forbids it", rule.0),
                Some(rule),
                Retry::Never,
                "do without it, or ask the operator whether the rule should change".to_owned(),
            ),
            Answer::Error(rule, why) => (
                Code::PolicyError,
                format!("{agent} may not {what}: a rule could not be evaluated: {why}"),
                rule,
                Retry::Never,
                "tell the operator; nothing passes until the rule is corrected".to_owned(),
            ),
            _ if action == KubernetesAction::Unknown => (
                Code::Unparsable,
                format!("{agent} may not {what}: {}", unseen(facts)),
                None,
                Retry::Narrower,
                "send it as JSON that has one meaning, or the command itself".to_owned(),
            ),
            Answer::Silent { .. } | Answer::Permit(_) | Answer::Ask(..) => (
                Code::NotPermitted,
                format!(
                    "{agent} may not {what} ({}): no rule permits it",
                    action.as_str()
                ),
                None,
                Retry::Never,
                self.keep_to(),
            ),
        };
        Words {
            code,
            message,
            rule,
            retry,
            hint,
        }
    }
}

/// Why hoop does not know what it does.
fn unseen(facts: &KubernetesFacts) -> String {
    let of_command = || {
        let command = facts.command.as_ref()?;
        let mut why = command.commands.iter().filter_map(|c| c.why.clone());
        command.unparsable.clone().or_else(|| why.next())
    };
    match facts.unparsable.clone().or_else(of_command) {
        Some(why) => format!("hoop cannot see what it does: {why}"),
        None => "hoop cannot see what it does".to_owned(),
    }
}

/// What is asked, as people say it: `delete deployments.apps web in prod`.
fn what(facts: &KubernetesFacts) -> String {
    if facts.action == KubernetesAction::NonResource {
        return format!("{} {}", facts.verb, short(&facts.path));
    }
    let mut text = match (facts.action, facts.verb.as_str()) {
        (KubernetesAction::Exec, _) => match &facts.command {
            Some(command) => format!("run {} in", line(command)),
            None => "run a command in".to_owned(),
        },
        (KubernetesAction::Attach, _) => "attach to".to_owned(),
        (KubernetesAction::PortForward, _) => "forward ports of".to_owned(),
        (KubernetesAction::Proxy, _) => "connect through".to_owned(),
        (_, "") => "do something to".to_owned(),
        (_, verb) => verb.to_owned(),
    };
    text.push(' ');
    text.push_str(&facts.kind);
    if !facts.group.is_empty() {
        text.push('.');
        text.push_str(&facts.group);
    }
    let streams = ["exec", "attach", "portforward", "proxy", ""];
    if !streams.contains(&facts.subresource.as_str()) {
        text.push('/');
        text.push_str(&facts.subresource);
    }
    if !facts.name.is_empty() {
        text.push(' ');
        text.push_str(&short(&facts.name));
    }
    if !facts.namespace.is_empty() && facts.kind != "namespaces" {
        text.push_str(" in ");
        text.push_str(&short(&facts.namespace));
    }
    let told: Vec<_> = facts.flags.iter().filter(|flag| tells(**flag)).collect();
    if !told.is_empty() {
        let told: Vec<_> = told.iter().map(|flag| flag.as_str()).collect();
        text.push_str(&format!(" ({})", told.join(", ")));
    }
    text
}

/// Flags that say more than the verb does.
fn tells(flag: KubernetesFlag) -> bool {
    use KubernetesFlag::{Deletes, Opaque, Overwrites, Upgrade};
    !matches!(flag, Deletes | Opaque | Overwrites | Upgrade)
}

fn line(command: &crate::decide::ShellFacts) -> String {
    let lines = command.commands.iter().map(|c| c.line.as_str());
    let lines: Vec<_> = lines.collect();
    format!("`{}`", short(&lines.join("; ")))
}

fn short(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// What is written holds what a mask put there.
fn masked(agent: &str, what: &str, at: &str) -> Words {
    Words {
        code: Code::MaskedWrite,
        message: format!(
            "{agent} may not {what}: the body holds a value that hoop masked (at {at}), which would replace the real one"
        ),
        rule: Some(Rule("hoop/masked".into())),
        retry: Retry::Narrower,
        hint: "change the other fields alone, by a patch (kubectl patch, edit or set), or give the value itself".into(),
    }
}

/// A JSON patch takes what is masked to where it is not.
fn moved(agent: &str, what: &str, moving: &Moving) -> Words {
    let does = match moving {
        Moving::Moves(from) => format!(
            "its JSON patch copies or moves {}, and values of that object are masked: elsewhere they would not be",
            short(from)
        ),
        Moving::Tests(path) => format!(
            "its JSON patch tests {}, and values of that object are masked: the answer would tell whether one was guessed",
            short(path)
        ),
        Moving::Unreadable => {
            "its JSON patch cannot be read, and values of that object are masked".to_owned()
        }
    };
    Words {
        code: Code::MaskedRead,
        message: format!("{agent} may not {what}: {does}"),
        rule: Some(Rule("hoop/masked".into())),
        retry: Retry::Narrower,
        hint: "give the new values themselves, by add, replace and remove or by a merge patch; of the rest, /metadata/resourceVersion may be tested".into(),
    }
}
