//! Which person somebody is who signed in, and what that person may do.

use super::sessions::Who;
use crate::ask::Voter;
use crate::config::Config;
use crate::handover::console::Role;

/// The person behind a session, by the configuration as it is now.
pub fn person(config: &Config, who: &Who) -> (Voter, Vec<Role>) {
    match who {
        Who::Account(voter) => (voter.clone(), of_account(voter)),
        Who::Login { login, groups } => (signed_in(config, login, groups), roles(config, groups)),
    }
}

/// Whoever may use the control socket may see and answer questions there as well; all else needs root.
fn of_account(voter: &Voter) -> Vec<Role> {
    match voter.root {
        true => Role::ALL.to_vec(),
        false => vec![Role::Viewer, Role::Approver],
    }
}

/// A person of the issuer's: by `[[approver]]`, or else under a name that no account of the host has.
fn signed_in(config: &Config, login: &str, groups: &[String]) -> Voter {
    let known = config
        .approvers
        .iter()
        .find(|approver| approver.login.as_deref() == Some(login));
    let console = config.console.as_ref();
    let of_issuer = console.into_iter().flat_map(|console| &console.groups);
    let of_issuer = of_issuer.filter(|(_, of)| groups.iter().any(|group| of.contains(group)));
    let mut mine: Vec<String> = of_issuer.map(|(group, _)| group.clone()).collect();
    mine.extend(
        known
            .into_iter()
            .flat_map(|approver| approver.groups.clone()),
    );
    mine.sort();
    mine.dedup();
    Voter {
        // An account's name holds no slash.
        name: known.map_or_else(
            || format!("login/{login}"),
            |approver| approver.name.clone(),
        ),
        groups: mine,
        root: false,
        via: "console",
    }
}

fn roles(config: &Config, groups: &[String]) -> Vec<Role> {
    let Some(console) = &config.console else {
        return Vec::new();
    };
    let of = |role: Role| match role {
        Role::Viewer => &console.roles.viewer,
        Role::Approver => &console.roles.approver,
        Role::Auditor => &console.roles.auditor,
        Role::Admin => &console.roles.admin,
    };
    let has = |role: &Role| groups.iter().any(|group| of(*role).contains(group));
    Role::ALL.into_iter().filter(has).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bundle;

    fn config() -> Config {
        let text = r#"
            [[approver]]
            name = "ada"
            user = "games"
            login = "ada@acme.example"
            groups = ["dba"]
            [issuer.okta]
            url = "https://acme.okta.example"
            audience = "api://hoop"
            [console]
            listen = "127.0.0.1:8443"
            issuer = "okta"
            client_id = "hoop-console"
            roles = { viewer = ["staff"], approver = ["dbas"], admin = ["platform"] }
            [console.groups]
            oncall = ["pager"]
        "#;
        Config::from_bundle(&Bundle::from_text("hoop.toml".as_ref(), text)).unwrap()
    }

    fn login(login: &str, groups: &[&str]) -> (Voter, Vec<Role>) {
        let who = Who::Login {
            login: login.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        };
        person(&config(), &who)
    }

    #[test]
    fn one_person_is_the_same_at_the_console_and_at_the_command_line() {
        let (ada, roles) = login("ada@acme.example", &["staff", "dbas", "pager"]);
        assert_eq!(ada.name, "ada");
        assert_eq!(ada.groups, ["dba", "oncall"]);
        assert_eq!(roles, [Role::Viewer, Role::Approver]);
    }

    #[test]
    fn nobody_signs_in_as_an_account_of_the_host() {
        let (root, roles) = login("root", &["everyone"]);
        assert_eq!(root.name, "login/root");
        assert!(!root.root && root.groups.is_empty() && roles.is_empty());
        assert_eq!(login("eve", &["platform"]).1, [Role::Admin]);
    }

    #[test]
    fn an_account_that_is_not_root_may_see_and_answer() {
        let voter = |root| Voter {
            name: "ada".into(),
            groups: Vec::new(),
            root,
            via: "console",
        };
        let (_, roles) = person(&config(), &Who::Account(voter(false)));
        assert_eq!(roles, [Role::Viewer, Role::Approver]);
        assert_eq!(person(&config(), &Who::Account(voter(true))).1, Role::ALL);
    }
}
