//! Commands that run elsewhere: on another host, in a container.

use crate::decide::shell::facts::{FileVerb, ShellFlag};
use crate::decide::shell::field::{Field, Piece};
use crate::decide::shell::walk::{Dark, Run, Walk};

use super::users::{inner_run, variable};
use super::wrappers::joined;

/// Settings that start nothing.
const SETTINGS: &[&str] = &[
    "batchmode",
    "connecttimeout",
    "connectionattempts",
    "stricthostkeychecking",
    "userknownhostsfile",
    "globalknownhostsfile",
    "loglevel",
    "serveraliveinterval",
    "serveralivecountmax",
    "port",
    "user",
    "identityfile",
    "identitiesonly",
    "requesttty",
    "preferredauthentications",
    "pubkeyauthentication",
    "passwordauthentication",
    "addressfamily",
    "compression",
    "checkhostip",
    "hashknownhosts",
    "tcpkeepalive",
    "hostkeyalgorithms",
];

impl Walk<'_> {
    pub(super) fn ssh(&mut self, mut run: Run) -> Result<(), Dark> {
        run.flags.extend([ShellFlag::Network, ShellFlag::Elsewhere]);
        let Some(spec) = self.programs.spec("ssh") else {
            return self.unfamiliar("ssh", run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), false);
        self.apply(spec, &taken, &mut run);
        if taken.unlisted.is_some() || taken.perhaps {
            return self.opaque("ssh", run, "its options are not understood");
        }
        for (name, _, value) in &taken.options {
            let value = value.as_ref().and_then(Field::known).unwrap_or_default();
            let setting = value
                .split(['=', ' '])
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            match name.as_str() {
                "-o" if !SETTINGS.contains(&&*setting) => {
                    return self.opaque("ssh", run, "one of its settings may run a program");
                }
                "-D" | "-L" | "-R" | "-W" | "-w" | "-A" | "-X" | "-Y" | "-O" | "-S" | "-J" => {
                    run.flag(ShellFlag::Unfamiliar, "forwarding is not followed");
                }
                "-o" if setting == "userknownhostsfile" => {
                    let list = value.split_once(['=', ' ']).map_or("", |(_, list)| list);
                    if list.contains(['%', '$', '"', '=']) {
                        run.flag(
                            ShellFlag::Unresolved,
                            "which file it adds hosts to is not known",
                        );
                    }
                    for file in list.split_whitespace() {
                        let field = match file.strip_prefix('~') {
                            Some(rest) if rest.starts_with('/') => Field {
                                pieces: vec![
                                    Piece::Home(String::new()),
                                    Piece::Text(rest.to_owned()),
                                ],
                                many: false,
                            },
                            _ => Field::text(file),
                        };
                        self.file(&mut run, FileVerb::Append, &field, false);
                    }
                }
                "-f" => run.flag(ShellFlag::Background, ""),
                _ => {}
            }
        }
        let mut operands = taken.operands.as_slice();
        let Some((host, rest)) = operands.split_first() else {
            return self.push(Some("ssh".into()), run);
        };
        if host.many || host.option() == crate::decide::shell::field::Likeness::Yes {
            return self.opaque(
                "ssh",
                run,
                "which of its arguments is the host is not known",
            );
        }
        operands = rest;
        // Options may follow the host.
        if operands
            .first()
            .is_some_and(|f| f.option() != crate::decide::shell::field::Likeness::No)
        {
            return self.opaque("ssh", run, "options after the host are not understood");
        }
        if operands.is_empty() {
            return self.opaque("ssh", run, "it opens a shell");
        }
        match joined(operands) {
            Some(text) => {
                self.wrapper("ssh", &run, operands)?;
                let around = self.around.clone();
                self.apart(around, |walk| {
                    walk.state.folder = vec![vec![Piece::Home(String::new())]];
                    walk.code("ssh", run, &text, &[])
                })
            }
            None => self.opaque("ssh", run, "what runs there is not known"),
        }
    }

    /// `docker exec` and `kubectl exec`
    pub(super) fn container(&mut self, program: &str, mut run: Run) -> Result<(), Dark> {
        run.flag(ShellFlag::Elsewhere, "");
        let programs = self.programs;
        let kind = match program {
            "kubectl" => "kubectl",
            _ => "docker",
        };
        let inner = programs.spec(&format!("{kind} exec"));
        let (Some(outer), Some(spec)) = (programs.spec(kind), inner) else {
            return self.unfamiliar(program, run, "");
        };
        if kind == "kubectl" {
            run.flag(ShellFlag::Network, "");
        }
        let first = outer.take(run.argv.get(1..).unwrap_or_default(), false);
        let after = first.operands.get(1..).unwrap_or_default();
        // kubectl takes its options on both sides of the pod.
        let end = after
            .iter()
            .position(|f| f.known().is_some_and(|text| text == "--"));
        let (own, command) = match (kind, end) {
            ("kubectl", Some(end)) => (
                after.get(..end).unwrap_or_default(),
                after.get(end + 1..).unwrap_or_default(),
            ),
            _ => (after, [].as_slice()),
        };
        let taken = spec.take(own, kind == "kubectl");
        let unclear =
            first.unlisted.is_some() || first.perhaps || taken.unlisted.is_some() || taken.perhaps;
        let command = match command.is_empty() {
            true => taken.operands.get(1..).unwrap_or_default(),
            false => command,
        };
        if unclear || command.is_empty() || taken.operands.first().is_none_or(|pod| pod.many) {
            return self.opaque(program, run, "what runs in the container is not known");
        }
        self.apply(spec, &taken, &mut run);
        for (name, _, value) in &taken.options {
            if let ("-e" | "--env", Some(value)) = (&**name, value) {
                variable(value, &mut run);
            }
        }
        self.wrapper(program, &run, command)?;
        let mut around = self.wrapped_around(program, &run);
        around.user = taken
            .value(&["-u", "--user"])
            .map(Field::show)
            .map(|user| match user.split(':').next() {
                Some("0") => "root".to_owned(),
                Some(name) => name.to_owned(),
                None => user,
            })
            .or(around.user);
        let inner = inner_run(command);
        self.apart(around, |walk| {
            walk.state.folder = crate::decide::shell::state::unknown();
            walk.run(inner)
        })
    }

    /// Whether one of the words is `exec`, so that something runs inside.
    pub(super) fn runs_inside(&self, program: &str, run: &Run) -> bool {
        let Some(spec) = self.programs.spec(program) else {
            return false;
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), false);
        let first = taken.operands.first().and_then(Field::known);
        first.is_some_and(|word| word == "exec")
    }
}
