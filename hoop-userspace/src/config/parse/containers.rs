//! `[containers]`, and which containers an agent is.

use std::collections::HashMap;

use toml::Spanned;

use super::super::{ContainerPick, Containers, Pick, PodPick, Said, raw};
use super::Parser;

/// Labels or annotations that one mapping may ask for.
const MAX_SAID: usize = 16;
const MAX_TEXT: usize = 1024;

impl Parser<'_> {
    pub(super) fn containers(&mut self, raw: &raw::Containers) -> Containers {
        let default = Containers::default();
        let mut place = |written: Option<&raw::Text>, default: std::path::PathBuf| {
            self.absolute(written, &default.to_string_lossy())
        };
        Containers {
            docker: place(raw.docker.as_ref(), default.docker),
            containerd: place(raw.containerd.as_ref(), default.containerd),
            storage: place(raw.storage.as_ref(), default.storage),
        }
    }

    pub(super) fn pick(&mut self, raw: &raw::Agent) -> Option<Pick> {
        match (&raw.container, &raw.pod) {
            (None, None) => None,
            (Some(container), None) => self.container(container),
            (None, Some(pod)) => Some(self.pod(pod.get_ref())),
            (Some(_), Some(pod)) => {
                self.problems.add_with_fix(
                    pod.span(),
                    "an agent is picked by `container` or by `pod`, not by both",
                    "a pod's container is named by `container` inside of `pod`",
                );
                None
            }
        }
    }

    fn container(&mut self, written: &Spanned<raw::ContainerPick>) -> Option<Pick> {
        let raw = written.get_ref();
        let pick = Pick::Container(ContainerPick {
            name: self.pattern_of(raw.name.as_ref()),
            image: self.pattern_of(raw.image.as_ref()),
            labels: self.said(raw.label.as_ref(), "label"),
            annotations: self.said(raw.annotation.as_ref(), "annotation"),
        });
        if pick.conditions() == 0 {
            self.problems.add_with_fix(
                written.span(),
                "`container` asks for nothing, so it would take every container",
                "give label, name, image or annotation, or leave it out",
            );
            return None;
        }
        Some(pick)
    }

    fn pod(&mut self, raw: &raw::PodPick) -> Pick {
        let namespace = raw.namespace.get_ref();
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if namespace.is_empty() || namespace.len() > 63 || !namespace.chars().all(known) {
            self.problems.add_with_fix(
                raw.namespace.span(),
                format!("{namespace:?} is no namespace's name"),
                "name one namespace; it takes no wildcards, because labels count only within it",
            );
        }
        Pick::Pod(PodPick {
            namespace: namespace.clone(),
            name: self.pattern_of(raw.name.as_ref()),
            container: self.pattern_of(raw.container.as_ref()),
            image: self.pattern_of(raw.image.as_ref()),
            labels: self.said(raw.label.as_ref(), "label"),
            annotations: self.said(raw.annotation.as_ref(), "annotation"),
        })
    }

    fn pattern_of(&mut self, written: Option<&raw::Text>) -> Option<String> {
        let written = written?;
        let pattern = written.get_ref();
        if !is_text(pattern) || pattern.is_empty() {
            let what =
                format!("{pattern:?} can be no name: give 1 to {MAX_TEXT} visible characters");
            self.problems.add(written.span(), what);
        }
        Some(pattern.clone())
    }

    fn said(&mut self, written: Option<&raw::Said>, kind: &str) -> Vec<Said> {
        let Some(written) = written else {
            return Vec::new();
        };
        let all = &written.get_ref().0;
        if all.is_empty() || all.len() > MAX_SAID {
            let what = format!("give 1 to {MAX_SAID} of `{kind}`");
            self.problems.add(written.span(), what);
        }
        let mut said = Vec::new();
        for one in all {
            match one.split_once('=') {
                Some((key, value)) if !key.is_empty() && is_text(one) => said.push(Said {
                    key: key.to_owned(),
                    value: value.to_owned(),
                }),
                _ => {
                    let what = format!("{one:?} is no {kind}");
                    let fix = format!("write {kind} = \"key=value\"");
                    self.problems.add_with_fix(written.span(), what, fix);
                }
            }
        }
        said
    }

    /// Two mappings of one cgroup are told apart by their picks, or one of them is never used.
    pub(super) fn unique_mappings(&mut self, agents: &[(raw::Text, Option<Pick>)]) {
        let mut seen: HashMap<(&str, Option<&Pick>), usize> = HashMap::new();
        for (cgroup, pick) in agents {
            let start = cgroup.span().start;
            let Some(first) = seen.insert((cgroup.get_ref(), pick.as_ref()), start) else {
                continue;
            };
            let line = self.problems.line(first);
            let which = match pick {
                Some(_) => "with the same pick ",
                None => "",
            };
            let what = format!(
                "the cgroup pattern `{}` {which}stands on line {line} already",
                cgroup.get_ref()
            );
            self.problems.add(cgroup.span(), what);
        }
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= MAX_TEXT && !text.chars().any(char::is_control)
}
