//! What a recorded request of an SSH channel asked for.
//!
//! A recording of a refusal holds a text alone: a command as it was sent, anything else in the words
//! of [`SshAsked::text`]. The sentence that was said of it tells the two apart.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::session::{exec, named, placed};
use crate::terminate::again::{Again, Lost};
use crate::terminate::{Asked, FileAction, FilesAsked, SqlText, SshAsked, Undecidable};
use crate::wire::ssh::channel::Message;
use crate::wire::ssh::sftp;

/// A channel's request is one unit: what prepares it, and what it is.
pub(in crate::terminate) fn request(kept: &[u8], whole: bool) -> Again {
    if !whole {
        return Again::Lost(Lost::Cut);
    }
    let mut rest = Bytes::copy_from_slice(kept);
    let mut terminal = false;
    loop {
        let message = match Message::take(&mut rest) {
            Ok(Some(message)) => message,
            Ok(None) | Err(_) => return Again::Lost(Lost::Redacted),
        };
        let asked = match message {
            Message::Pty(_) => {
                terminal = true;
                continue;
            }
            Message::Env { .. } | Message::Resize(_) => continue,
            Message::Exec(command) => exec(&command, terminal),
            Message::Shell => Asked::Ssh(SshAsked::Shell),
            Message::Subsystem(name) if &*name == b"sftp" => Asked::Control,
            Message::Subsystem(name) => match std::str::from_utf8(&name) {
                Ok(name) => Asked::Ssh(SshAsked::Subsystem(name.into())),
                Err(_) => Asked::Undecidable(Undecidable::NotUtf8),
            },
            Message::Connect { host, port } => {
                return match (std::str::from_utf8(&host), u16::try_from(port)) {
                    (Ok(host), Ok(port)) => connect(host, port),
                    _ => Again::Lost(Lost::Words),
                };
            }
            Message::SftpRequest(packet) => return files(&packet),
            Message::Input(_) => return Again::Lost(Lost::Announced),
            _ => return Again::Lost(Lost::Words),
        };
        return Again::Asked(asked);
    }
}

fn connect(host: &str, port: u16) -> Again {
    Again::Asked(Asked::Ssh(SshAsked::Connect {
        host: host.into(),
        port,
        // One past hoop is refused, and so is none of what was permitted.
        governed: None,
    }))
}

fn files(packet: &Bytes) -> Again {
    let Ok(packet) = sftp::request(packet) else {
        return Again::Lost(Lost::Redacted);
    };
    let Some((action, paths)) = named(&packet.request) else {
        return Again::Lost(Lost::Elsewhere);
    };
    match paths.iter().all(|path| path.first() == Some(&b'/')) {
        true => Again::Asked(placed(None, action, &paths)),
        false => Again::Lost(Lost::Elsewhere),
    }
}

/// By the text of a refusal or a question, and the sentence with it.
pub(in crate::terminate) fn text(text: &str, message: &str, host: &str) -> Again {
    let said = |what: &str| message.contains(what);
    if text == "interactive shell" && said(&format!("open an interactive shell on {host}")) {
        return Again::Asked(Asked::Ssh(SshAsked::Shell));
    }
    if let Some(name) = text.strip_prefix("subsystem ")
        && said("start the subsystem ")
    {
        return match plain(name.trim_matches('"')) {
            Some(name) => Again::Asked(Asked::Ssh(SshAsked::Subsystem(name.into()))),
            None => Again::Lost(Lost::Words),
        };
    }
    if let Some(to) = text.strip_prefix("connect ")
        && said(&format!("connect from {host} to "))
    {
        let to = to.rsplit_once(':');
        return match to.map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => connect(host, port),
            _ => Again::Lost(Lost::Words),
        };
    }
    if let Some((action, rest)) = action(text) {
        let paths: SmallVec<[Arc<str>; 2]> = rest.split(' ').map(Into::into).collect();
        let of = |path: &Arc<str>| said(&format!("{} {path} on {host}", action.as_str()));
        let verbs = [FileAction::Read, FileAction::Write];
        let either = verbs.iter().any(|verb| {
            action == FileAction::ReadWrite && said(&format!("{} {rest} on {host}", verb.as_str()))
        });
        if paths.iter().any(of) || either {
            return match paths.iter().all(|path| plain(path).is_some()) {
                true => Again::Asked(Asked::Ssh(SshAsked::Files(FilesAsked { action, paths }))),
                false => Again::Lost(Lost::Words),
            };
        }
        // A path with blanks in it stands in quotes, which the sentence has not.
        if rest.contains('"') && said(&format!("{} /", action.as_str())) && !said("by ") {
            return Again::Lost(Lost::Words);
        }
    }
    // Of a command on a terminal the recording of a refusal does not say so, but what was said may.
    let terminal = said("as there is a terminal");
    let text = SqlText::hashed(text);
    Again::Asked(Asked::Ssh(SshAsked::Exec { text, terminal }))
}

/// What needs no quotes, and so is as it was.
fn plain(word: &str) -> Option<&str> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '\\';
    (!word.is_empty() && !word.contains(odd)).then_some(word)
}

fn action(text: &str) -> Option<(FileAction, &str)> {
    use FileAction as A;
    // The longest first: `read and write` begins as `read` does.
    let all = [
        ("read and write", A::ReadWrite),
        ("read", A::Read),
        ("write", A::Write),
        ("list", A::List),
        ("stat", A::Stat),
        ("setstat", A::SetStat),
        ("remove", A::Remove),
        ("mkdir", A::MakeFolder),
        ("rmdir", A::RemoveFolder),
        ("rename", A::Rename),
        ("link", A::Link),
    ];
    all.into_iter().find_map(|(word, action)| {
        let rest = text.strip_prefix(word)?.strip_prefix(' ')?;
        Some((action, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(again: Again) -> SshAsked {
        match again {
            Again::Asked(Asked::Ssh(asked)) => asked,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_what_it_was() {
        let wire = Message::Exec("ls -l".into()).to_bytes();
        let SshAsked::Exec { text, terminal } = asked(request(&wire, true)) else {
            panic!()
        };
        assert_eq!((&*text.text, terminal), ("ls -l", false));
        let scp = Message::Exec("scp -f /srv/x".into()).to_bytes();
        assert_eq!(&*asked(request(&scp, true)).text().text, "read /srv/x");
        let connect = Message::Connect {
            host: "db".into(),
            port: 5432,
        };
        let wire = connect.to_bytes();
        assert_eq!(&*asked(request(&wire, true)).text().text, "connect db:5432");
        assert!(matches!(
            request(&wire[..3], true),
            Again::Lost(Lost::Redacted)
        ));
        assert!(matches!(request(&wire, false), Again::Lost(Lost::Cut)));
        let input = Message::Input("C0644 1 x\n".into()).to_bytes();
        assert!(matches!(
            request(&input, true),
            Again::Lost(Lost::Announced)
        ));
    }

    #[test]
    fn a_text_is_a_command_unless_the_sentence_says_otherwise() {
        let sentence = "bot may not remove /srv/x on web1 (ssh:sftp-write): no rule permits it";
        let files = asked(text("remove /srv/x", sentence, "web1"));
        assert!(matches!(files, SshAsked::Files(_)), "{files:?}");
        let sentence =
            "bot may not run `remove /srv/x` (unfamiliar) (ssh:exec): no rule permits it";
        let command = asked(text("remove /srv/x", sentence, "web1"));
        assert!(matches!(command, SshAsked::Exec { .. }), "{command:?}");
        let sentence = "bot may not open an interactive shell on web1: rule \"x\" forbids it";
        assert!(matches!(
            asked(text("interactive shell", sentence, "web1")),
            SshAsked::Shell
        ));
        let sentence = "bot may not connect from web1 to db:5432 (ssh:forward): no rule permits it";
        let connect = asked(text("connect db:5432", sentence, "web1"));
        assert_eq!(&*connect.text().text, "connect db:5432");
        let sentence = "bot may not start the subsystem netconf on web1 (ssh:subsystem): no rule";
        let subsystem = asked(text("subsystem \"netconf\"", sentence, "web1"));
        assert!(matches!(subsystem, SshAsked::Subsystem(name) if &*name == "netconf"));
        let sentence = "bot may not read /a b on web1 (ssh:sftp-read): no rule permits it";
        assert!(matches!(
            text("read \"/a b\"", sentence, "web1"),
            Again::Lost(Lost::Words)
        ));
        let sentence = "bot may not read /a on web1 (ssh:sftp-read): no rule permits it";
        let both = asked(text("read and write /a", sentence, "web1"));
        assert_eq!(&*both.text().text, "read and write /a");
    }
}
