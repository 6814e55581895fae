//! `[[agent]]`: which cgroup is whose, and how it proves itself.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::{Agent, Capture, Issuer, Mode, glob, raw, text};
use super::Parser;
use crate::ids::{AgentName, IssuerName};

impl Parser<'_> {
    pub(super) fn agents(
        &mut self,
        file: &raw::File,
        issuers: &BTreeMap<IssuerName, Issuer>,
        capture: &Capture,
    ) -> Vec<Agent> {
        self.unique(file.agents.iter().map(|a| &a.get_ref().name), "agent");
        let known = file.issuers.iter().map(|(name, _)| name.get_ref().as_str());
        let known: Vec<&str> = known
            .chain(file.broken.iter().map(String::as_str))
            .collect();
        let agents: Vec<Agent> = file
            .agents
            .iter()
            .map(|agent| {
                let (span, agent) = (agent.span(), agent.get_ref());
                if let Some(issuer) = &agent.issuer {
                    self.reference(issuer, &known, "issuer");
                }
                self.pattern(&agent.cgroup, &capture.attach);
                self.agent(span, agent, issuers)
            })
            .collect();
        let written = file.agents.iter().map(|agent| &agent.get_ref().cgroup);
        let mappings = written.zip(&agents);
        let mappings: Vec<_> = mappings
            .map(|(cgroup, agent)| (cgroup.clone(), agent.pick.clone()))
            .collect();
        self.unique_mappings(&mappings);
        agents
    }

    fn agent(
        &mut self,
        span: Range<usize>,
        raw: &raw::Agent,
        issuers: &BTreeMap<IssuerName, Issuer>,
    ) -> Agent {
        self.name(&raw.name, "an agent");
        let mode = raw.mode.unwrap_or(Mode::Enforce);
        let named = raw.client_id.is_some();
        let token = raw.token.as_ref();
        let token = token.and_then(|token| self.token(token, named));
        let kind = self.kind(raw, span.clone());
        self.identity_keys(span, raw, mode);
        let egress = raw
            .egress_allow
            .iter()
            .filter_map(|written| self.take(written, text::egress))
            .collect();
        for port in raw.listen.iter().filter(|p| *p.get_ref() == 0) {
            self.problems
                .add(port.span(), "port 0 cannot be listened on");
        }
        let issuer = raw
            .issuer
            .as_ref()
            .map(|i| IssuerName::from(i.get_ref().as_str()));
        Agent {
            name: AgentName::from(raw.name.get_ref().as_str()),
            cgroup: raw.cgroup.get_ref().clone(),
            pick: self.pick(raw),
            issuer: issuer.filter(|name| issuers.contains_key(name)),
            client_id: raw.client_id.as_ref().map(|id| id.get_ref().clone()),
            kind,
            token,
            instance_claim: self.instance_claim(raw),
            required_claims: self.required_claims(raw),
            egress,
            owners: raw
                .owner
                .as_ref()
                .map_or_else(Vec::new, |owner| owner.get_ref().0.clone()),
            mode,
            listen: raw.listen.iter().map(|port| *port.get_ref()).collect(),
            network: raw.network,
        }
    }

    /// Enforcing needs to know who it is; observing may do without, but not with half of it.
    fn identity_keys(&mut self, span: Range<usize>, raw: &raw::Agent, mode: Mode) {
        let given = [
            ("issuer", raw.issuer.is_some()),
            // What the instance claim says tells the instances apart instead.
            (
                "client_id",
                raw.client_id.is_some() || raw.instance_claim.is_some(),
            ),
            ("token", raw.token.is_some()),
        ];
        let none = given.iter().all(|(_, given)| !given);
        if mode == Mode::Discover || (mode == Mode::Observe && none) {
            return;
        }
        let absent: Vec<&str> = given.iter().filter(|(_, g)| !g).map(|(k, _)| *k).collect();
        if !absent.is_empty() {
            self.problems.add_with_fix(
                span,
                format!(
                    "agent `{}` lacks {}, so it could never be identified",
                    raw.name.get_ref(),
                    absent.join(" and ")
                ),
                "add what is missing, or begin with mode = \"discover\"",
            );
        }
        if let Some(id) = raw.client_id.as_ref().filter(|id| id.get_ref().is_empty()) {
            self.problems.add(id.span(), "the client id is empty");
        }
    }

    fn pattern(&mut self, written: &raw::Text, attach: &str) {
        if !self.cgroup(written) {
            return;
        }
        // What is not below `attach` never meets the kernel programs.
        let mut pattern = written.get_ref().split('/');
        let apart = attach.split('/').any(|level| {
            pattern
                .next()
                .is_some_and(|glob| !glob::matches(glob, level))
        });
        if apart {
            self.problems.add_with_fix(
                written.span(),
                format!(
                    "{:?} lies outside `{attach}`, where nothing is captured",
                    written.get_ref()
                ),
                "move the agent there, or set [capture] attach",
            );
        }
    }
}
