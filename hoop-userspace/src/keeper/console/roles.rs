//! Which person somebody is who signed in, and what that person may do.

use super::sessions::Who;
use crate::ask::Voter;
use crate::config::{Approver, Config};
use crate::handover::console::Role;
use crate::keeper::people::{self, NoPerson};

/// A person, and what that person may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub voter: Voter,
    pub roles: Vec<Role>,
    /// Whether hoop knows which one human it is. Whoever it does not know could vote here and at
    /// the command line under two names, and would count twice.
    pub votes: bool,
}

/// The person behind a session, by the configuration as it is now. Looks accounts up, which may
/// block.
pub fn person(config: &Config, who: &Who) -> Result<Known, NoPerson> {
    match who {
        Who::Account(account) => {
            let mut voter = people::person(config, *account)?;
            voter.via = "console";
            let roles = of_account(voter.root);
            Ok(Known {
                voter,
                roles,
                votes: true,
            })
        }
        Who::Login { login, groups } => Ok(signed_in(config, login, groups)),
    }
}

/// Whoever may use the control socket may see and answer questions there as well; all else needs root.
fn of_account(root: bool) -> Vec<Role> {
    match root {
        true => Role::ALL.to_vec(),
        false => vec![Role::Viewer, Role::Approver],
    }
}

/// Who that is whom the issuer calls so. Issuers tell no letters' cases apart, and write them as
/// they like.
fn named<'c>(config: &'c Config, login: &str) -> Option<&'c Approver> {
    let login = login.to_lowercase();
    let mut approvers = config.approvers.iter();
    approvers.find(|approver| {
        let own = approver.login.as_ref();
        own.is_some_and(|own| own.to_lowercase() == login)
    })
}

/// A person of the issuer's: by `[[approver]]`, or else somebody under a name that no account of the
/// host has, who answers nothing.
fn signed_in(config: &Config, login: &str, groups: &[String]) -> Known {
    let roles = roles(config, groups);
    let Some(approver) = named(config, login) else {
        return Known {
            voter: Voter {
                // An account's name holds no slash.
                name: format!("login/{}", login.to_lowercase()),
                groups: Vec::new(),
                root: false,
                via: "console",
            },
            roles: without_votes(roles),
            votes: false,
        };
    };
    let console = config.console.as_ref();
    let of_issuer = console.into_iter().flat_map(|console| &console.groups);
    let of_issuer = of_issuer.filter(|(_, of)| groups.iter().any(|group| of.contains(group)));
    let mut mine: Vec<String> = of_issuer.map(|(group, _)| group.clone()).collect();
    mine.extend(approver.groups.iter().cloned());
    mine.sort();
    mine.dedup();
    Known {
        voter: Voter {
            name: approver.name.clone(),
            groups: mine,
            root: false,
            via: "console",
        },
        roles,
        votes: true,
    }
}

/// Whoever may not answer may still see.
fn without_votes(mut roles: Vec<Role>) -> Vec<Role> {
    for role in &mut roles {
        if *role == Role::Approver {
            *role = Role::Viewer;
        }
    }
    roles.dedup();
    roles
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
    use crate::keeper::people::Account;

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

    fn login(login: &str, groups: &[&str]) -> Known {
        let who = Who::Login {
            login: login.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        };
        person(&config(), &who).unwrap()
    }

    #[test]
    fn one_person_is_the_same_at_the_console_and_at_the_command_line() {
        for name in ["ada@acme.example", "Ada@ACME.example"] {
            let ada = login(name, &["staff", "dbas", "pager"]);
            assert_eq!(ada.voter.name, "ada");
            assert_eq!(ada.voter.groups, ["dba", "oncall"]);
            assert_eq!(ada.roles, [Role::Viewer, Role::Approver]);
            assert!(ada.votes);
        }
    }

    #[test]
    fn whom_no_approver_names_sees_and_does_not_vote() {
        let eve = login("Eve@acme.example", &["staff", "dbas", "pager"]);
        assert_eq!(eve.voter.name, "login/eve@acme.example");
        assert!(eve.voter.groups.is_empty() && !eve.votes);
        assert_eq!(eve.roles, [Role::Viewer]);
        assert_eq!(login("eve", &["dbas"]).roles, [Role::Viewer]);
        assert!(!login("eve", &["platform"]).votes);
    }

    #[test]
    fn nobody_signs_in_as_an_account_of_the_host() {
        let root = login("root", &["everyone"]);
        assert_eq!(root.voter.name, "login/root");
        assert!(!root.voter.root && root.voter.groups.is_empty() && root.roles.is_empty());
        assert_eq!(login("eve", &["platform"]).roles, [Role::Admin]);
    }

    #[test]
    fn an_account_that_is_not_root_may_see_and_answer() {
        let of = |uid, root| {
            let who = Who::Account(Account { uid, root });
            person(&config(), &who).unwrap()
        };
        assert_eq!(of(1, false).roles, [Role::Viewer, Role::Approver]);
        assert_eq!(of(1, true).roles, Role::ALL);
        // By the configuration that holds when it is asked for; 5 is `games`.
        let games = of(5, false);
        assert_eq!((&*games.voter.name, games.voter.via), ("ada", "console"));
        assert_eq!(games.voter.groups, ["dba"]);
    }
}
