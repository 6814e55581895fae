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
fn users_by_number() {
    for text in [
        "sudo -u '#0' id",
        "sudo -u root id",
        "doas -u 0 id",
        "docker exec -u 0:0 web id",
    ] {
        let found = facts(text);
        assert!(!found.opaque, "{text}");
        let user = found.commands.last().unwrap().user.as_deref();
        assert_eq!(user, Some("root"), "{text}");
    }
    for text in [
        "sudo -u '#-1' id",
        "sudo -u '#1000' id",
        "sudo -u 1000 id",
        "sudo -u '' id",
    ] {
        assert!(facts(text).opaque, "{text}");
    }
}

#[test]
fn files_under_other_names_are_listed() {
    let cases = [
        ("tar cf - -C /var log -f x", vec!["/var/log/**"]),
        (
            "tar cf - /etc/hosts -C /var log",
            vec!["/etc/hosts/**", "/var/log/**"],
        ),
        ("mv /srv/a /srv/b", vec!["/srv/a"]),
        ("gzip /srv/a", vec!["/srv/a"]),
        ("git --work-tree=/srv/a status", vec!["/srv/a", "/srv/a/**"]),
    ];
    for (text, reads) in cases {
        let found = facts(text);
        for path in reads {
            assert!(
                found.reads.iter().any(|read| read == path),
                "{text} {found:?}"
            );
        }
    }
    let cases = [
        ("sed -i.bak p /srv/a", "/srv/a.bak"),
        ("cp -b -S ile x /srv/prof", "/srv/profile"),
        ("mv --suffix=ile x -t /srv", "/srv/xile"),
        ("cp --parents a/b /srv", "/srv/a/b"),
        ("gunzip /srv/a.gz", "/srv/a"),
        ("split /srv/a /srv/part", "/srv/part*"),
    ];
    for (text, path) in cases {
        let found = facts(text);
        assert!(
            found.writes.iter().any(|write| write == path),
            "{text} {found:?}"
        );
    }
}

#[test]
fn a_folder_that_is_filled_may_hold_what_starts() {
    for text in [
        "tar xf /srv/a -C /etc",
        "tar xf /srv/a",
        "rsync -a /srv/a/ ~",
        "rsync -a /srv/a/ /",
    ] {
        assert!(facts(text).has(ShellFlag::Persistent), "{text}");
    }
    for text in [
        "tar xf /srv/a -C /srv",
        "rsync -a /srv/a /srv/b",
        "tar xf /srv/a -C ~/app",
    ] {
        assert!(!facts(text).has(ShellFlag::Persistent), "{text}");
    }
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
