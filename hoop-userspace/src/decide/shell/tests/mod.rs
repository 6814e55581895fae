//! The corpus, properties, and real shells as the judges of what an argument is.

mod corpus;
mod hostile;
mod properties;
mod real;

use super::*;

fn facts(text: &str) -> ShellFacts {
    Shell::new().facts(text, false)
}

#[test]
fn a_line_of_several() {
    let facts = facts(
        "x=/srv; cd $x && sudo -u app timeout 5 grep -rn 'a b' lib | tee -a ~/out >/dev/null",
    );
    let shown: Vec<_> = facts
        .commands
        .iter()
        .map(|c| {
            let flags: Vec<_> = c.flags.iter().map(|f| f.as_str()).collect();
            let files: Vec<_> = c
                .files
                .iter()
                .map(|f| (f.verb.as_str(), &*f.path))
                .collect();
            format!(
                "{} {:?} {:?} {flags:?} {files:?}",
                c.line, c.user, c.through
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    cd /srv None [] [] []
    grep -rn 'a b' lib Some("app") ["sudo", "timeout"] ["privileged"] [("read", "/srv/lib/**")]
    tee -a ~/out None [] ["writes_files"] [("append", "~/out")]
    "#);
}

#[test]
fn a_terminal_lets_pagers_run_what_is_typed() {
    let shell = Shell::new();
    for text in [
        "journalctl -u nginx",
        "systemctl",
        "systemctl status nginx",
        "git -C /srv log",
        "git log -P",
        "sudo journalctl",
        "dpkg -l",
        "less /etc/hosts",
    ] {
        assert!(shell.facts(text, true).opaque, "{text}");
    }
    for text in [
        "journalctl -u nginx --no-pager",
        "systemctl --no-pager status nginx",
        "git --no-pager log",
        "git -P diff",
        "df -h",
        "cat /etc/hosts",
    ] {
        assert!(!shell.facts(text, true).opaque, "{text}");
        assert!(!shell.facts(text, false).opaque, "{text}");
    }
    assert!(!shell.facts("journalctl -u nginx", false).opaque);
}

#[test]
fn a_folder_that_may_not_be_entered() {
    // After `;` the shell is wherever cd left it.
    let facts = facts("cd /var/log; cat x");
    assert_eq!(facts.reads, ["/var/log/x", "~/x"]);
    let facts = super::tests::facts("cd /var/log && cat x");
    assert_eq!(facts.reads, ["/var/log/x"]);
    let facts = super::tests::facts("cd /var/log || exit 1; cat x");
    assert_eq!(facts.reads, ["/var/log/x"]);
}

#[test]
fn every_entry_of_the_table_is_read() {
    let names = programs::names();
    assert!(names.len() > 400, "{}", names.len());
    for (name, next) in names.iter().zip(names.iter().skip(1)) {
        assert_ne!(name, next);
    }
    for name in &names {
        assert!(
            !name.is_empty() && !name.contains(['-', ':']) || name.is_ascii(),
            "{name}"
        );
    }
    for name in [
        "cat",
        "sudo",
        "git log",
        "docker exec",
        "systemctl status",
        "[",
    ] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}
