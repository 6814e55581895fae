//! The narrowest permits that let through what was refused: for this agent, this object and this shape
//! of statement alone.
//!
//! A permit is proposed only after it was tried: with it among the policies the same is permitted, and
//! each of several is needed for that. None is proposed where it would cover code or files that the
//! constants of a statement name, what hoop does not understand, or what a rule forbids.

mod kubernetes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use super::decided::{Said, decide};
use super::policy::Verdict;
use crate::config::{Config, PolicyFile};
use crate::decide::{
    Access, Action, Decider, Facts, FileVerb, Flag, Object, RelationName, ShellCommand, ShellFacts,
    ShellFlag, Subject, outline,
};
use crate::terminate::{Asked, FileAction, FilesAsked, SshAsked};

/// As many permits are tried one by one; more are proposed together.
const TRIED: usize = 8;
/// Of files that a shape touches, so many are named; of more, the folder that holds them.
const NAMED: usize = 16;

/// What the commands or requests of one shape named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Files, by what is done to them.
    files: BTreeMap<(&'static str, bool), Places>,
    objects: kubernetes::Objects,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places {
    named: BTreeSet<String>,
    /// The folder of all, once there are too many.
    folder: Option<String>,
}

impl Named {
    /// Adds what one more of the shape touches.
    pub fn add(&mut self, decider: &Decider, asked: &Asked) {
        match asked {
            Asked::Ssh(SshAsked::Exec { text, terminal }) => {
                let facts = shell_facts(decider, &text.text, *terminal);
                for file in facts.commands.iter().flat_map(|c| &c.files) {
                    self.place(file.verb.as_str(), file.exact, &file.path);
                }
            }
            Asked::Ssh(SshAsked::Files(files)) => {
                for path in &files.paths {
                    self.place(files.action.as_str(), true, path);
                }
            }
            Asked::Kubernetes(asked) => self.objects.add(&decider.kubernetes_facts_of(asked)),
            _ => {}
        }
    }

    fn place(&mut self, verb: &'static str, exact: bool, path: &str) {
        let places = self.files.entry((verb, exact)).or_default();
        if let Some(folder) = &mut places.folder {
            *folder = common(folder, path);
            return;
        }
        places.named.insert(path.to_owned());
        if places.named.len() > NAMED {
            let mut all = std::mem::take(&mut places.named).into_iter();
            let first = all.next().unwrap_or_default();
            let folder = first.rsplit_once('/').map_or("", |(folder, _)| folder);
            places.folder = Some(all.fold(format!("{folder}/"), |f, path| common(&f, &path)));
        }
    }
}

/// The folder that holds this folder's content and that file, with a slash at its end.
fn common(folder: &str, path: &str) -> String {
    let same = folder.bytes().zip(path.bytes()).take_while(|(a, b)| a == b);
    let same = same.count();
    let shared = folder.get(..same).unwrap_or_default();
    let end = shared.rfind('/').map_or(0, |at| at + 1);
    shared.get(..end).unwrap_or_default().to_owned()
}

/// Permits that let this through, as a file of policies; or why none is proposed.
pub fn permits(
    config: &Config,
    decider: &Decider,
    subject: &Subject,
    asked: &Asked,
    named: &Named,
) -> Result<String, String> {
    match decide(decider, subject, asked.clone()) {
        Said {
            verdict: Verdict::Allow,
            ..
        } => return Err("the policies as they are now permit it".into()),
        Said {
            verdict: Verdict::Ask,
            rules,
            ..
        } => {
            return Err(format!(
                "the policies as they are now ask people ({})",
                rules.join(", ")
            ));
        }
        said => explained(&said)?,
    }
    let mut bodies = bodies(decider, subject, asked, named)?;
    bodies.sort();
    bodies.dedup();
    let passes = |bodies: &[String]| -> Result<Option<Said>, String> {
        let mut config = config.clone();
        config.policy.files.push(PolicyFile {
            name: "proposed".into(),
            text: text(bodies),
        });
        let decider = Decider::new(&config).map_err(|e| format!("no valid permit: {e}"))?;
        let said = decide(&decider, subject, asked.clone());
        Ok((said.verdict != Verdict::Allow).then_some(said))
    };
    if let Some(said) = passes(&bodies)? {
        explained(&said)?;
        return Err("no single statement's permit is enough".into());
    }
    if bodies.len() <= TRIED {
        let mut at = 0;
        while at < bodies.len() && bodies.len() > 1 {
            let mut fewer = bodies.clone();
            fewer.remove(at);
            match passes(&fewer)? {
                None => bodies = fewer,
                Some(_) => at += 1,
            }
        }
    }
    Ok(text(&bodies))
}

/// Why no permit helps, where none does.
fn explained(said: &Said) -> Result<(), String> {
    let by = said.rules.join(", ");
    Err(match said.code {
        Some("not_permitted") => return Ok(()),
        Some("forbidden") if by == "hoop/grammar" => {
            "it would change how the server reads SQL: no rule permits that".into()
        }
        Some("forbidden") => format!("rule {by:?} forbids it, and no permit changes that"),
        Some("masked_read") => "masked values would leave the reach of the masks".into(),
        Some("unparsable") => {
            "hoop does not understand it, so nobody can say what a permit would let through".into()
        }
        Some("policy_error") => "a rule could not be evaluated".into(),
        Some(other) => format!("no matter of permits ({other})"),
        None => format!("people are asked by {by}"),
    })
}

/// Named for what they say: short, the same from run to run, and no two alike.
fn text(bodies: &[String]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bodies.concat().as_bytes());
    let name = crate::hex::encode(digest.as_ref().get(..6).unwrap_or_default());
    let mut text = String::new();
    for (number, body) in bodies.iter().enumerate() {
        let id = match bodies.len() {
            1 => format!("report/{name}"),
            _ => format!("report/{name}/{}", number + 1),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "@id({id:?})\n{body}");
    }
    text
}

fn bodies(
    decider: &Decider,
    subject: &Subject,
    asked: &Asked,
    named: &Named,
) -> Result<Vec<String>, String> {
    match asked {
        Asked::Sql(asked) => {
            let text = asked.candidates.first().ok_or("there is no statement")?;
            let facts = decider.facts_of(text);
            covered(&facts, &text.text)?;
            let statements = facts.statements.iter();
            let accesses = statements.flat_map(|statement| &statement.accesses);
            Ok(accesses.map(|a| of_access(subject, &facts, a)).collect())
        }
        Asked::Ssh(SshAsked::Exec { text, terminal }) => {
            let facts = shell_facts(decider, &text.text, *terminal);
            of_shell(decider, subject, &facts, named)
        }
        Asked::Ssh(SshAsked::Files(asked)) => of_files(subject, asked, named),
        Asked::Ssh(SshAsked::Shell) => Ok(vec![of_host(subject, "ssh:shell", "")]),
        Asked::Ssh(SshAsked::Subsystem(name)) => {
            let when = format!(" && context.subsystem == {}", quoted(name));
            Ok(vec![of_host(subject, "ssh:subsystem", &when)])
        }
        Asked::Ssh(SshAsked::Connect { host, port, .. }) => {
            let host = quoted(host);
            let when = format!(" && context.to_host == {host} && context.to_port == {port}");
            Ok(vec![of_host(subject, "ssh:forward", &when)])
        }
        Asked::Kubernetes(asked) => {
            let facts = decider.kubernetes_facts_of(asked);
            kubernetes::body(subject, asked, &facts, &named.objects).map(|body| vec![body])
        }
        Asked::FunctionCall { .. } | Asked::Undecidable(_) | Asked::Control => {
            Err("what it does is not known".into())
        }
    }
}

/// A permit by fingerprint covers every constant, and whatever is bound to parameters. Where that may be
/// code, the value of a setting, or name a file, an account or a place, it is more than what was seen.
fn covered(facts: &Facts, text: &str) -> Result<(), String> {
    if facts.unparsable.is_some() || facts.fingerprint.is_empty() {
        return Err(
            "hoop does not understand it, so nobody can say what a permit would let through".into(),
        );
    }
    let mut accesses = facts.statements.iter().flat_map(|s| &s.accesses);
    let plain = accesses.all(|access| match (access.action, &access.object) {
        (Action::Write, Object::Setting { .. }) => false,
        (Action::Read | Action::Write, _) => true,
        (Action::Procedural, object) => matches!(object, Object::Function(_)),
        (Action::Ddl | Action::Admin | Action::Unknown, _) => false,
    });
    let places = !facts.files.is_empty() || !facts.programs.is_empty();
    let plain = plain && !places && !facts.has(Flag::ServerProgram);
    if facts.has(Flag::RunsText) {
        return Err(
            "it runs text as code: a permit for its shape would let any code through".into(),
        );
    }
    if facts.has(Flag::ServerFile) {
        return Err(
            "it reads or writes a file of the server's, and a permit for its shape would cover every file: write the rule by hand".into(),
        );
    }
    let (_, varying) = outline(text, 0);
    // Code that the database holds may make anything of a text that it is given.
    if plain && facts.opaque && (varying.strings || varying.parameters) {
        return Err("it gives texts to code of the database's own, which may run them or go by them: write the rule by hand, with a look at `hoop replay`".into());
    }
    match plain || !(varying.any() || facts.opaque) {
        true => Ok(()),
        false => Err("its constants or parameters may be code, a setting's value, or name files or accounts: write the rule by hand, with a look at `hoop replay`".into()),
    }
}

fn head(subject: &Subject, action: &str, resource: &str) -> String {
    let agent = quoted(subject.identity.agent().as_str());
    format!(
        "permit (\n    principal == Agent::{agent},\n    action == Action::{},\n    {resource}\n)",
        quoted(action)
    )
}

fn of_access(subject: &Subject, facts: &Facts, access: &Access) -> String {
    let (resource, database) = (subject.resource.as_str(), subject.database.as_str());
    let id = |parts: &[&str]| quoted(&joined(parts));
    let within = format!("Database::{}", id(&[resource, database]));
    let in_schema = |kind: &str, name: &RelationName| match &name.schema {
        Some(schema) => (
            format!(
                "resource == {kind}::{}",
                id(&[resource, database, schema, &name.name])
            ),
            String::new(),
        ),
        // It may lie in any schema, and the fingerprint holds it to this text.
        None => (
            format!("resource is {kind} in {within}"),
            format!("resource.name == {} && ", quoted(&name.name)),
        ),
    };
    let (scope, when) = match &access.object {
        Object::Table(name) => in_schema("Table", name),
        Object::Function(name) => in_schema("Function", name),
        Object::Schema { name } => (
            format!("resource == Schema::{}", id(&[resource, database, name])),
            String::new(),
        ),
        Object::Setting { name } => (
            format!("resource == Setting::{}", id(&[resource, database, name])),
            String::new(),
        ),
        Object::Other { class, name, .. } => (
            format!("resource is Object in {within}"),
            format!(
                "resource.class == {} && resource.name == {} && ",
                quoted(class),
                quoted(name)
            ),
        ),
        Object::Database => (format!("resource == {within}"), String::new()),
        Object::Server => (
            format!("resource == Resource::{}", id(&[resource])),
            String::new(),
        ),
    };
    format!(
        "{}\nwhen {{ {when}context.fingerprint == {} }};",
        head(subject, access.action.as_str(), &scope),
        quoted(&facts.fingerprint)
    )
}

fn of_host(subject: &Subject, action: &str, when: &str) -> String {
    let host = joined(&[subject.resource.as_str(), &subject.database]);
    let head = head(
        subject,
        action,
        &format!("resource == Host::{}", quoted(&host)),
    );
    format!(
        "{head}\nwhen {{ context.login == {}{when} }};",
        quoted(&subject.login)
    )
}

fn of_shell(
    decider: &Decider,
    subject: &Subject,
    facts: &ShellFacts,
    named: &Named,
) -> Result<Vec<String>, String> {
    if facts.opaque {
        return Err(
            "hoop does not see all that it runs: permit it as `ssh:unknown` by hand, if at all"
                .into(),
        );
    }
    if facts.has(ShellFlag::Unresolved) {
        return Err("which files or arguments it means is not known".into());
    }
    let programs: Vec<&str> = facts.programs.iter().map(String::as_str).collect();
    let whole = subset("context.programs", &programs);
    let mut found = Vec::new();
    for command in &facts.commands {
        let flags: Vec<&str> = command.flags.iter().map(|flag| flag.as_str()).collect();
        let through: Vec<&str> = command.through.iter().map(String::as_str).collect();
        let user = command.user.as_deref().unwrap_or(&subject.login);
        let same = [
            format!("context.user == {}", quoted(user)),
            subset("context.flags", &flags),
            subset("context.through", &through),
            whole.clone(),
        ];
        if let Some(program) = &command.program {
            let id = joined(&[subject.resource.as_str(), &subject.database, program]);
            let scope = format!("resource == Command::{}", quoted(&id));
            let mut all = same.to_vec();
            all.extend(subcommand(decider, command));
            found.push(conditioned(&head(subject, "ssh:exec", &scope), &all));
        }
        let mut verbs: Vec<(FileVerb, bool)> =
            command.files.iter().map(|f| (f.verb, f.exact)).collect();
        verbs.sort();
        verbs.dedup();
        for (verb, exact) in verbs {
            let mut all = same.to_vec();
            all.extend(places(verb.as_str(), exact, named)?);
            found.push(conditioned(&of_file(subject, "ssh:exec"), &all));
        }
    }
    Ok(found)
}

fn of_file(subject: &Subject, action: &str) -> String {
    let host = joined(&[subject.resource.as_str(), &subject.database]);
    head(
        subject,
        action,
        &format!("resource is File in Host::{}", quoted(&host)),
    )
}

fn of_files(subject: &Subject, asked: &FilesAsked, named: &Named) -> Result<Vec<String>, String> {
    let actions: &[&str] = match asked.action {
        FileAction::Read | FileAction::List | FileAction::Stat => &["ssh:sftp-read"],
        FileAction::ReadWrite => &["ssh:sftp-read", "ssh:sftp-write"],
        _ => &["ssh:sftp-write"],
    };
    let mut all = vec![format!("context.login == {}", quoted(&subject.login))];
    // Nobody is asked there how exact a path is.
    let when = places(asked.action.as_str(), true, named)?;
    all.extend(when.into_iter().filter(|when| when != EXACT));
    let each = actions.iter();
    Ok(each
        .map(|action| conditioned(&of_file(subject, action), &all))
        .collect())
}

const EXACT: &str = "context.exact";

fn places(verb: &str, exact: bool, named: &Named) -> Result<Vec<String>, String> {
    let found = named
        .files
        .iter()
        .find(|((v, e), _)| *v == verb && *e == exact);
    let Some((_, places)) = found else {
        return Err("which files it touched is not known any more".into());
    };
    let path = match &places.folder {
        None => {
            let all: Vec<_> = places.named.iter().map(|path| quoted(path)).collect();
            match all.as_slice() {
                [one] => format!("resource.path == {one}"),
                all => format!("[{}].contains(resource.path)", all.join(", ")),
            }
        }
        Some(folder) if folder.len() > 1 && folder != "~/" => {
            let pattern = quoted(folder).replace('*', "\\*");
            let open = pattern.strip_suffix('"').unwrap_or(&pattern);
            format!("resource.path like {open}*\"")
        }
        Some(_) => return Err("it touched files all over the host".into()),
    };
    let mut all = vec![format!("context.verb == {}", quoted(verb)), path];
    if exact {
        all.push(EXACT.to_owned());
    }
    Ok(all)
}

/// Holds a permit to the command's subcommand. Words before it are options; what might be more than
/// an option's name is not repeated.
fn subcommand(decider: &Decider, command: &ShellCommand) -> Option<String> {
    let at = decider.subcommand(command)?;
    let words: Option<Vec<&str>> = command
        .argv
        .get(..=at)?
        .iter()
        .map(Option::as_deref)
        .collect();
    let words = words?;
    let sub = words.last()?;
    let options = words.get(1..at).unwrap_or_default();
    let name = |word: &&str| {
        let name = word.trim_start_matches('-');
        word.starts_with('-') && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
    };
    if !options.iter().all(name) {
        return Some(format!("context.arguments.contains({})", quoted(sub)));
    }
    let line = quoted(&words.join(" "));
    let open = line.strip_suffix('"').unwrap_or(&line).replace('*', "\\*");
    Some(format!(
        "(context.command == {line} || context.command like {open} *\")"
    ))
}

fn conditioned(head: &str, all: &[String]) -> String {
    format!("{head}\nwhen {{\n    {}\n}};", all.join(" &&\n    "))
}

/// A set holds none but these.
fn subset(set: &str, all: &[&str]) -> String {
    let quoted: Vec<_> = all.iter().map(|one| quoted(one)).collect();
    match quoted.is_empty() {
        true => format!("{set}.isEmpty()"),
        false => format!("[{}].containsAll({set})", quoted.join(", ")),
    }
}

/// A string of Cedar, whose escapes are Rust's.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// Parts of an id, as docs/POLICY.md has it.
fn joined(parts: &[&str]) -> String {
    let escaped = |part: &&str| part.replace('%', "%25").replace('/', "%2F");
    parts.iter().map(escaped).collect::<Vec<_>>().join("/")
}

fn shell_facts(decider: &Decider, text: &str, terminal: bool) -> Arc<ShellFacts> {
    match terminal {
        true => decider.shell_facts_on_terminal(text),
        false => decider.shell_facts_of(text),
    }
}
