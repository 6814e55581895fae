//! `[[approver]]` and `[approvals]`: who may approve, and how long is waited.

use std::time::Duration;

use toml::Spanned;
use url::Url;

use super::super::{Approvals, Approver, Channel, ChannelKind, raw};
use super::Parser;

const DAY: Duration = Duration::from_secs(86_400);
const QUARTER: Duration = Duration::from_secs(15 * 60);
const MINUTE: Duration = Duration::from_secs(60);

impl Parser<'_> {
    pub(super) fn approvers(&mut self, raw: &[Spanned<raw::Approver>]) -> Vec<Approver> {
        let raw = raw.iter().map(Spanned::get_ref);
        self.unique(raw.clone().map(|a| &a.name), "approver");
        self.unique(raw.clone().filter_map(|a| a.user.as_ref()), "user");
        self.unique(raw.clone().filter_map(|a| a.login.as_ref()), "login");
        // Issuers tell no letters' cases apart, and the console does not either.
        let mut logins: Vec<&str> = Vec::new();
        for login in raw.clone().filter_map(|a| a.login.as_ref()) {
            let own = login.get_ref().as_str();
            let lower = own.to_lowercase();
            let same = |known: &&str| *known != own && known.to_lowercase() == lower;
            if logins.iter().any(same) {
                let what = format!("{own:?} is another approver's login but for its case");
                self.problems.add(login.span(), what);
            }
            logins.push(own);
        }
        raw.map(|approver| {
            let name = approver.name.get_ref();
            self.name(&approver.name, "an approver");
            let groups = approver.groups.get_ref();
            if groups.is_empty() {
                let what = "an approver in no group can approve nothing";
                self.problems.add(approver.groups.span(), what);
            }
            groups.iter().for_each(|group| self.group(group));
            let user = approver.user.as_ref().map(|user| user.get_ref());
            Approver {
                name: name.clone(),
                user: user.unwrap_or(name).clone(),
                login: approver.login.as_ref().map(|login| login.get_ref().clone()),
                groups: groups.iter().map(|g| g.get_ref().clone()).collect(),
            }
        })
        .collect()
    }

    pub(super) fn channels(&mut self, raw: &[Spanned<raw::Channel>]) -> Vec<Channel> {
        let raw = raw.iter().map(Spanned::get_ref);
        self.unique(raw.clone().map(|c| &c.name), "channel");
        raw.filter_map(|channel| {
            self.name(&channel.name, "a channel");
            match (channel.kind, &channel.url) {
                (ChannelKind::Webhook, None) => {
                    let what = "a webhook needs a `url`";
                    self.problems.add(channel.name.span(), what);
                }
                (ChannelKind::Slack, Some(url)) => {
                    let what = "Slack's address is a secret: let `secret` hold it";
                    self.problems.add(url.span(), what);
                }
                _ => {}
            }
            let url = channel.url.as_ref().and_then(|url| self.address(url));
            let ca = self.certificates(channel.ca.as_ref());
            Some(Channel {
                name: channel.name.get_ref().clone(),
                kind: channel.kind,
                url,
                secret: self.secret(&channel.secret)?,
                ca,
                statements: channel.statements,
            })
        })
        .collect()
    }

    fn address(&mut self, written: &raw::Text) -> Option<Url> {
        let url = Url::parse(written.get_ref()).ok();
        let sound = |url: &Url| {
            let host = url.host_str().unwrap_or_default();
            let local = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
            url.scheme() == "https" || url.scheme() == "http" && local
        };
        let url = url.filter(sound);
        if url.is_none() {
            let what = "a channel is reached by an https URL (http only on loopback)";
            self.problems.add(written.span(), what);
        }
        url
    }

    pub(super) fn approvals(&mut self, raw: &raw::Approvals) -> Approvals {
        let groups = raw.groups.iter().map(|(name, of)| {
            let of = of.get_ref().iter().map(|group| group.get_ref().clone());
            (name.clone(), of.collect())
        });
        Approvals {
            groups: groups.collect(),
            wait: self.span(raw.wait.as_ref(), QUARTER, DAY),
            wait_in_transaction: self.span(raw.wait_in_transaction.as_ref(), MINUTE, DAY),
            answer_for: self.span(raw.answer_for.as_ref(), QUARTER, DAY),
            on_hangup: raw.on_hangup.unwrap_or_default(),
            remind: self.span(raw.remind.as_ref(), MINUTE / 2, DAY),
        }
    }

    /// What no annotation can name is in no rule.
    fn group(&mut self, written: &raw::Text) {
        let name = written.get_ref();
        if name.trim() != name || name.is_empty() || name.contains([',', '&']) {
            let what = format!("{name:?} cannot name a group of approvers");
            self.problems.add(written.span(), what);
        }
    }
}
