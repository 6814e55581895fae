//! What SSH asks for: files one by one, shells and connections by name, commands by their text.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::smallvec;

use super::*;
use crate::ids::ExchangeId;
use crate::terminate::{Asked, FileAction, FilesAsked, Request, SshAsked, Unit};

fn decide(decider: &Decider, asked: SshAsked) -> Result<Vec<String>, Refusal> {
    let unit = Unit {
        end: 1,
        asked: Asked::Ssh(asked),
    };
    let request = Request {
        exchange: ExchangeId(1),
        wire: Bytes::from_static(b"x"),
        units: smallvec![unit],
    };
    match decider.decide(&subject(), request) {
        Decided::Permitted(permitted) => {
            let rules = permitted.units().iter().flat_map(|u| u.rules.iter());
            Ok(rules.map(|rule| rule.0.to_string()).collect())
        }
        Decided::Refused { refusal, .. } => Err(refusal),
        Decided::Ask { question, .. } => Err(question.unavailable("test")),
    }
}

fn files(action: FileAction, path: &str) -> SshAsked {
    SshAsked::Files(FilesAsked {
        action,
        paths: smallvec![path.into()],
    })
}

fn command(command: &str) -> SshAsked {
    SshAsked::Exec {
        text: text(command),
        terminal: false,
    }
}

#[test]
fn a_pager_on_a_terminal_is_another_question_than_one_without() {
    let reads = decider(&["read-only"], &[], &[]);
    let on_terminal = |command| SshAsked::Exec {
        text: text(command),
        terminal: true,
    };
    assert!(decide(&reads, command("journalctl -u x")).is_ok());
    assert!(decide(&reads, on_terminal("journalctl -u x")).is_err());
    assert!(decide(&reads, on_terminal("journalctl --no-pager -u x")).is_ok());
    let asking = |asked| {
        let units = [Unit {
            end: 1,
            asked: Asked::Ssh(asked),
        }];
        crate::decide::question::digest(crate::decide::question::waiting(&units))
    };
    assert_ne!(asking(command("id")), asking(on_terminal("id")));
}

fn connect(port: u16) -> SshAsked {
    SshAsked::Connect {
        host: "db2".into(),
        port,
        governed: None,
    }
}

#[test]
fn nothing_is_permitted_that_no_rule_names() {
    let decider = decider(
        &[],
        &[("all.cedar", "permit (principal, action, resource);")],
        &[],
    );
    assert!(decide(&decider, SshAsked::Shell).is_ok());
    assert!(decide(&decider, files(FileAction::Write, "/etc/passwd")).is_ok());
    // What is not understood must be named.
    let refusal = decide(&decider, command("eval \"$x\"")).unwrap_err();
    assert_eq!(refusal.code, Code::Unparsable);
    assert_eq!(refusal.asked.unwrap().text.as_ref(), "eval \"$x\"");
}

#[test]
fn the_pack_for_reading_reads_files_that_open_no_doors() {
    let decider = decider(&["read-only"], &[], &[]);
    for action in [FileAction::Read, FileAction::List, FileAction::Stat] {
        let rules = decide(&decider, files(action, "/var/log/syslog")).unwrap();
        assert_eq!(rules, ["read-only/files"]);
    }
    for action in [
        FileAction::Write,
        FileAction::ReadWrite,
        FileAction::SetStat,
        FileAction::Remove,
        FileAction::MakeFolder,
        FileAction::RemoveFolder,
        FileAction::Rename,
        FileAction::Link,
    ] {
        assert!(
            decide(&decider, files(action, "/tmp/x")).is_err(),
            "{action:?}"
        );
    }
    for path in [
        "/etc/shadow",
        "/home/a/.ssh/id_rsa",
        "~/.ssh/id_ed25519",
        "/srv/tls.key",
    ] {
        assert!(
            decide(&decider, files(FileAction::Read, path)).is_err(),
            "{path}"
        );
        assert!(
            decide(&decider, files(FileAction::Stat, path)).is_ok(),
            "{path}"
        );
    }
    for asked in [
        SshAsked::Shell,
        SshAsked::Subsystem("netconf".into()),
        connect(5432),
    ] {
        assert!(decide(&decider, asked).is_err());
    }
}

#[test]
fn the_other_packs_say_of_files_what_they_say_of_tables() {
    let asks = decider(&["ask-before-write"], &[], &[]);
    let read = |path| decide(&asks, files(FileAction::Read, path));
    assert_eq!(read("/var/log/syslog").unwrap(), ["ask-before-write/files"]);
    for asked in [
        files(FileAction::Read, "/etc/shadow"),
        files(FileAction::Write, "/srv/x"),
        files(FileAction::ReadWrite, "/srv/x"),
        files(FileAction::Remove, "/srv/x"),
    ] {
        let refusal = decide(&asks, asked).unwrap_err();
        assert_eq!(refusal.code, Code::ApprovalUnavailable, "{refusal:?}");
    }
    let adds = decider(&["no-destroy"], &[], &[]);
    for action in [
        FileAction::Read,
        FileAction::List,
        FileAction::Stat,
        FileAction::MakeFolder,
    ] {
        assert!(decide(&adds, files(action, "/srv/x")).is_ok(), "{action:?}");
    }
    for action in [
        FileAction::Write,
        FileAction::ReadWrite,
        FileAction::Remove,
        FileAction::Rename,
        FileAction::SetStat,
        FileAction::Link,
        FileAction::RemoveFolder,
    ] {
        assert!(
            decide(&adds, files(action, "/srv/x")).is_err(),
            "{action:?}"
        );
    }
    assert!(decide(&adds, files(FileAction::Read, "/srv/a.pem")).is_err());
}

#[test]
fn policies_tell_hosts_paths_commands_and_ports_apart() {
    let policy = r#"
        @id("command") permit (principal, action == Action::"ssh:exec", resource == Command::"orders/appdb/uptime");
        @id("tunnel") permit (principal, action == Action::"ssh:forward", resource)
        when { context.to_host == "db2" && context.to_port == 5432 };
        @id("upload") permit (principal, action == Action::"ssh:sftp-write", resource in Host::"orders/appdb")
        when { resource.path like "/srv/upload/*" && context.verb == "write" };
        @id("no-secrets") forbid (principal, action in Action::"ssh:sftp-write", resource is File)
        when { resource.path like "*secret*" };
    "#;
    let decider = decider(&[], &[("ssh.cedar", policy)], &[]);
    let command = |text| decide(&decider, command(text));
    assert_eq!(command("uptime").unwrap(), ["command"]);
    assert!(command("uptime; id").is_err());
    assert!(decide(&decider, connect(5432)).is_ok());
    assert!(decide(&decider, connect(5433)).is_err());
    let past = SshAsked::Connect {
        host: "db2".into(),
        port: 5432,
        governed: Some("orders".into()),
    };
    let refusal = decide(&decider, past).unwrap_err();
    assert!(
        refusal.message.contains("the resource orders"),
        "{refusal:?}"
    );
    let write = |path| decide(&decider, files(FileAction::Write, path));
    assert_eq!(write("/srv/upload/a").unwrap(), ["upload"]);
    assert!(write("/srv/a").is_err());
    let refusal = write("/srv/upload/secret").unwrap_err();
    assert_eq!(
        (refusal.code, &*refusal.rule.unwrap().0),
        (Code::Forbidden, "no-secrets")
    );
    // Both ends of a renaming count.
    let both: SshAsked = SshAsked::Files(FilesAsked {
        action: FileAction::Rename,
        paths: smallvec![Arc::from("/srv/upload/a"), Arc::from("/etc/passwd")],
    });
    assert!(decide(&decider, both).is_err());
}
