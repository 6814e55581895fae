//! Paths that stand out: those that hold secrets, and those from which things start by themselves.
//!
//! A path with patterns stands for every path that it may become; so does a directory that is
//! read with all below it.

use super::field::{Path, Token};

/// One list of patterns: `*` within a component, `**` across them.
#[derive(Debug)]
pub(super) struct Patterns(Vec<Vec<Vec<Token>>>);

/// Known by their place, also below a directory that is read whole.
const PLACED: &str = "/etc/shadow* /etc/gshadow* /etc/sudoers /etc/sudoers.d/** /etc/ssl/private/** \
    /etc/ssh/ssh_host_*_key /etc/krb5.keytab /etc/pki/tls/private/** /etc/letsencrypt/** \
    /etc/wireguard/** /etc/openvpn/** /etc/ppp/*-secrets /etc/kubernetes/** /etc/rancher/** \
    /var/lib/kubelet/** /var/lib/etcd/** /var/lib/docker/** /var/lib/hoop/** /run/credentials/** \
    /run/secrets/** /var/run/secrets/** /root*/** /proc/*/environ /proc/*/mem /proc/*/fd/** \
    /proc/*/root*/** /proc/*/cwd/** /proc/*/task/** /proc/*/map_files/** /proc/kcore /dev/** \
    /var/lib/sss/** /var/lib/mysql/** /var/lib/postgresql/** /var/lib/pgsql/** /var/lib/redis/** \
    /var/lib/mongodb/** /var/lib/vault/** /var/lib/jenkins/** /var/lib/private/** /var/backups/** \
    /etc/security/opasswd /etc/mysql/debian.cnf /run/user/** \
    /var/spool/cron/** /var/mail/** /etc/NetworkManager/system-connections/** \
    ~/.ssh ~/.ssh/** ~*/.ssh ~*/.ssh/** /home/*/.ssh /home/*/.ssh/** ~/.aws/** ~/.gnupg/** \
    ~/.kube/** ~/.docker/** ~/.config/gcloud/** ~/.azure/** ~root/**";

/// Known by their name, wherever they are.
const NAMED: &str = "**/.ssh/** **/.ssh **/.aws/** **/.gnupg/** **/.kube/** **/.docker/config.json \
    **/.azure/** **/gcloud/** **/id_rsa* **/id_dsa* **/id_ecdsa* **/id_ed25519* **/*.pem **/*.key \
    **/*.p12 **/*.pfx **/*.jks **/*.keystore **/*.kdbx **/*.keytab **/*.ovpn **/*.ppk **/*.asc \
    **/*.gpg **/.env **/.env.* **/*.env **/.netrc **/.pgpass **/.my.cnf **/.git-credentials \
    **/.npmrc **/.pypirc **/.htpasswd **/.vault-token **/.bash_history **/.zsh_history \
    **/.psql_history **/.mysql_history **/.python_history **/kubeconfig **/*.kubeconfig **/*.tfstate \
    **/.terraformrc **/.terraform.d/** **/.s3cfg **/.boto **/.mylogin.cnf **/.subversion/** **/rclone.conf **/*.tfvars";

/// The same, by a word in it: of a pattern only what is written counts, or every pattern would.
const WORDS: &str = "**/credentials* **/secrets.* **/secret.* **/*password* **/*secret* **/*token* \
    **/shadow **/gshadow **/wp-config.php";

/// Files with such names are published there.
const PUBLIC: &str = "/etc/ssl/certs/** /usr/share/** /usr/lib/** /usr/include/** /sys/** /usr/bin/** \
    /proc/meminfo /proc/cpuinfo /proc/loadavg";

/// Of these a bare `*` is not taken for a secret's name.
const PLAIN: &str = "/var/log/** /sys/** /usr/share/** /usr/include/** /proc/sys/**";

/// Whatever is written there runs later, or says who may come in.
const STARTS: &str = "/etc/cron* /etc/cron*/** /var/spool/cron/** /var/spool/at/** /etc/systemd/** \
    /lib/systemd/** /usr/lib/systemd/** /run/systemd/** **/.config/systemd/** **/.config/autostart/** \
    /etc/init.d/** /etc/rc*/** /etc/rc.local /etc/profile /etc/profile.d/** /etc/bash* /etc/zsh* /etc/zsh/** \
    /etc/environment /etc/ld.so.* /etc/ld.so.conf.d/** /etc/pam.d/** /etc/pam.conf /etc/security/** \
    /etc/sudoers /etc/sudoers.d/** /etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/ssh/** \
    /etc/udev/** /etc/apt/** /etc/modprobe.d/** /etc/modules* /etc/sysctl* /etc/sysctl.d/** \
    /etc/logrotate.d/** /etc/polkit-1/** /etc/nsswitch.conf /etc/hosts /etc/resolv.conf /etc/xdg/** \
    /etc/NetworkManager/** /etc/update-motd.d/** /etc/doas.conf /etc/crypttab /etc/fstab /boot/** \
    /etc/default/** /etc/sysconfig/** /etc/network/** /etc/inittab /etc/anacrontab /etc/tmpfiles.d/** \
    /etc/sysusers.d/** /etc/binfmt.d/** /etc/grub.d/** /etc/kernel/** /etc/initramfs-tools/** /etc/dhcp/** \
    /etc/ppp/** /etc/acpi/** /etc/X11/** /etc/dbus-1/** /etc/alternatives/** /etc/dpkg/** /etc/yum* /etc/yum*/** \
    /etc/dnf/** /etc/rsyslog* /etc/rsyslog.d/** /etc/skel/** /etc/shells /etc/login.defs /etc/subuid /etc/subgid \
    /etc/sudo.conf /etc/hosts.allow /etc/hosts.deny /etc/gitconfig /etc/inputrc /etc/csh* /etc/ksh* /etc/fish/** \
    /etc/vim/** /etc/aliases /etc/exports /etc/incron* /etc/incron.d/** /etc/supervisor/** /etc/docker/** \
    /etc/kubernetes/** /etc/wireguard/** /etc/openvpn/** /etc/letsencrypt/** /etc/ca-certificates* \
    /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hotplug /proc/sys/fs/binfmt_misc/** \
    /sys/kernel/uevent_helper \
    /bin/** /sbin/** /usr/bin/** /usr/sbin/** /usr/local/** /lib/** /lib64/** /usr/lib/** /usr/lib64/** \
    /usr/libexec/** /opt/** \
    **/.ssh **/.ssh/** **/.bash* **/.profile **/.zsh* **/.zprofile **/.zlogin **/.kshrc **/.login \
    **/.cshrc **/.inputrc **/.vimrc **/.vim/** **/.emacs* **/.gitconfig **/.config/** **/.git/** \
    **/.local/bin/** **/bin/** **/.pythonrc **/.psqlrc **/.tmux.conf **/config **/config.worktree **/hooks/** **/.screenrc **/.forward **/.rhosts \
    **/.pam_environment **/.shosts **/.k5login **/.curlrc **/.wgetrc **/.exrc **/.xinitrc **/.xsession* **/.xprofile \
    **/.gdbinit **/.lldbinit **/.npmrc **/.mailrc **/.muttrc **/.procmailrc **/.hgrc **/.lesskey **/.irbrc **/.pryrc \
    **/.Rprofile **/.sqliterc **/.my.cnf **/.envrc **/.jq **/.cargo/** **/.nanorc **/.rpmmacros";

/// Where programs of the system are.
const PROGRAMS: &[&str] = &[
    "/bin",
    "/usr/bin",
    "/sbin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
];

/// Devices that keep nothing of what is written to them.
const SINKS: &[&str] = &[
    "/dev/null",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/stdin",
    "/dev/tty",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

#[derive(Debug)]
pub(super) struct Places {
    placed: Patterns,
    named: Patterns,
    words: Patterns,
    public: Patterns,
    plain: Patterns,
    starts: Patterns,
    /// Those of them that have a place.
    rooted: Patterns,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            placed: Patterns::new(PLACED),
            named: Patterns::new(NAMED),
            words: Patterns::new(WORDS),
            public: Patterns::new(PUBLIC),
            plain: Patterns::new(PLAIN),
            starts: Patterns::new(STARTS),
            rooted: {
                let rooted: Vec<_> = STARTS
                    .split_whitespace()
                    .filter(|pattern| pattern.starts_with('/'))
                    .collect();
                Patterns::new(&rooted.join(" "))
            },
        }
    }

    /// Whether reading it may show a secret. With `recursive`, all below it is read.
    pub(super) fn secret(&self, path: &Path, recursive: bool) -> bool {
        if self.placed.may_be(path, recursive) {
            return true;
        }
        let last = path
            .components
            .last()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let literal = |token: &Token| matches!(token, Token::Char(_));
        // What is found below has any name; `grep -r x id_rsa` reads that one.
        if recursive && !last.iter().all(literal) || self.public.covers(path) {
            return false;
        }
        let mut written = path.components.clone();
        if let Some(last) = written.last_mut() {
            last.retain(literal);
        }
        let words = self.words.meets(&written, false);
        // `*.log` is what has that end: that it may be `id_rsa.log` counts for nothing, that `*` may
        // be `id_rsa` does, but among logs.
        let extension = last.iter().rposition(|token| *token == Token::Char('.'));
        let ends = extension.is_some_and(|dot| {
            let end = last.get(dot..).unwrap_or_default();
            dot > 0 && end.len() > 1 && end.iter().all(literal)
        });
        let open = last.first().is_some_and(|token| !literal(token));
        let named = match open && (ends || self.plain.covers(path)) {
            true => {
                if let Some(last) = written.last_mut() {
                    last.insert(0, Token::Char('x'));
                }
                self.named.meets(&written, false)
            }
            false => self.named.meets(&path.components, false),
        };
        words || named
    }

    /// Whether something there starts by itself, or lets somebody in.
    pub(super) fn starts(&self, path: &Path) -> bool {
        self.starts.may_be(path, false)
    }

    /// Whether such a thing has its place below this folder: all of `/etc`, or a home.
    pub(super) fn starts_below(&self, path: &Path) -> bool {
        let home = |part: &Vec<Token>| part.first() == Some(&Token::Char('~'));
        path.components.len() == 1 && path.components.iter().all(home)
            || self.rooted.may_be(path, true)
    }
}

/// Whether a program written with this path is the system's own.
pub(super) fn is_system(path: &Path) -> bool {
    let shown = path.show();
    path.exact
        && shown
            .rsplit_once('/')
            .is_some_and(|(folder, _)| PROGRAMS.contains(&folder))
}

/// Whether the path is a device that keeps nothing, or a descriptor under its own name.
pub(super) fn is_sink(path: &Path) -> bool {
    let shown = path.show();
    path.exact && SINKS.contains(&&*shown) || path.pipe || descriptor(path).is_some()
}

/// Which descriptor it is that the path names; [`ANY`] where its number is not known.
pub(super) fn descriptor(path: &Path) -> Option<u32> {
    if path.pipe || path.unknown {
        return None;
    }
    let shown = path.show();
    match &*shown {
        "/dev/stdin" => return Some(0),
        "/dev/stdout" => return Some(1),
        "/dev/stderr" => return Some(2),
        _ => {}
    }
    let number = shown.strip_prefix("/dev/fd/")?;
    let part = path.components.last()?;
    let digits = |token: &Token| match token {
        Token::Char(c) => c.is_ascii_digit(),
        _ => true,
    };
    // What goes on behind it is in the folder that the descriptor leads to.
    let alone = path.components.len() == 3 && part.iter().all(digits);
    alone.then(|| number.parse().unwrap_or(ANY))
}

pub(super) const ANY: u32 = u32::MAX;

/// Whether the path leads through a descriptor or a process to a file that it does not name.
pub(super) fn leads_on(path: &Path) -> bool {
    let word = |part: &Vec<Token>, word: &str| {
        part.len() == word.len()
            && part
                .iter()
                .zip(word.chars())
                .all(|(t, c)| *t == Token::Char(c))
    };
    let is = |at: usize, name: &str| path.components.get(at).is_some_and(|part| word(part, name));
    let behind = ["fd", "cwd", "root", "task", "map_files"];
    is(0, "dev") && is(1, "fd") && path.components.len() > 2
        || is(0, "dev") && ["stdin", "stdout", "stderr"].iter().any(|name| is(1, name))
        || is(0, "proc") && behind.iter().any(|name| is(2, name))
}

/// `/dev/tcp/HOST/PORT`, which is bash's own.
pub(super) fn is_network(path: &Path) -> bool {
    let shown = path.show();
    shown.starts_with("/dev/tcp/") || shown.starts_with("/dev/udp/")
}

impl Patterns {
    fn new(text: &str) -> Self {
        let patterns = text.split_whitespace().map(|pattern| {
            let parts = pattern.split('/').filter(|part| !part.is_empty());
            let component = |part: &str| match part {
                "**" => vec![Token::Any],
                part => part
                    .chars()
                    .map(|c| {
                        if c == '*' {
                            Token::Many
                        } else {
                            Token::Char(c)
                        }
                    })
                    .collect(),
            };
            parts.map(component).collect()
        });
        Self(patterns.collect())
    }

    /// Whether the path may become one that a pattern matches; or, with `above`, is a folder that
    /// such a one lies in.
    fn may_be(&self, path: &Path, above: bool) -> bool {
        self.meets(&path.components, above)
    }

    fn meets(&self, path: &[Vec<Token>], above: bool) -> bool {
        self.0.iter().any(|pattern| meet(pattern, path, above))
    }

    /// Whether whatever the path becomes is matched by one pattern.
    fn covers(&self, path: &Path) -> bool {
        self.0.iter().any(|pattern| {
            let fixed: Vec<_> = pattern
                .iter()
                .take_while(|part| part.as_slice() != [Token::Any])
                .collect();
            let open = fixed.len() < pattern.len();
            let enough = path.components.len() >= fixed.len()
                && (open || path.components.len() == fixed.len());
            enough
                && fixed
                    .iter()
                    .zip(&path.components)
                    .all(|(want, have)| *want == have)
        })
    }
}

/// Whether two sequences of components have a path in common.
fn meet(pattern: &[Vec<Token>], path: &[Vec<Token>], above: bool) -> bool {
    // One row of the usual table: `row[j]` says whether the pattern so far meets `path[..j]`.
    let mut row: Vec<bool> = vec![false; path.len() + 1];
    if let Some(first) = row.first_mut() {
        *first = true;
    }
    let mut passed_above = row.last().copied().unwrap_or_default();
    for part in pattern {
        let any = part.as_slice() == [Token::Any];
        let mut next = vec![false; path.len() + 1];
        for (at, slot) in next.iter_mut().enumerate() {
            let before = at.checked_sub(1);
            let have = before.and_then(|before| path.get(before));
            let diagonal = before.and_then(|b| row.get(b)).copied().unwrap_or_default();
            let up = row.get(at).copied().unwrap_or_default();
            *slot = match any {
                true => up || diagonal,
                false => diagonal && have.is_some_and(|have| meets(part, have)),
            };
        }
        if any {
            // `**` takes any number of components.
            let mut seen = false;
            for slot in &mut next {
                seen |= *slot;
                *slot = seen;
            }
        }
        row = next;
        passed_above |= row.last().copied().unwrap_or_default();
    }
    let whole = row.last().copied().unwrap_or_default();
    whole || (above && passed_above)
}

/// Whether two patterns of one name have a name in common. A leading dot must be written.
fn meets(one: &[Token], other: &[Token]) -> bool {
    let dot = |name: &[Token]| name.first() == Some(&Token::Char('.'));
    let open = |name: &[Token]| matches!(name.first(), Some(Token::One | Token::Many));
    if (dot(one) && open(other)) || (dot(other) && open(one)) {
        return false;
    }
    // Most differ in a letter that both have written.
    for (mine, theirs) in one.iter().zip(other) {
        match (mine, theirs) {
            (Token::Char(a), Token::Char(b)) if a == b => {}
            (Token::Char(_), Token::Char(_)) => return false,
            _ => break,
        }
    }
    let width = other.len() + 1;
    let mut row: Vec<bool> = Vec::with_capacity(width);
    row.push(true);
    for token in other {
        let before = row.last().copied().unwrap_or_default();
        row.push(before && matches!(token, Token::Many | Token::Any));
    }
    for mine in one {
        let many = matches!(mine, Token::Many | Token::Any);
        let mut next: Vec<bool> = Vec::with_capacity(width);
        next.push(many && row.first().copied().unwrap_or_default());
        for (at, theirs) in other.iter().enumerate() {
            let diagonal = row.get(at).copied().unwrap_or_default();
            let up = row.get(at + 1).copied().unwrap_or_default();
            let left = next.last().copied().unwrap_or_default();
            let theirs_many = matches!(theirs, Token::Many | Token::Any);
            let same = match (mine, theirs) {
                (Token::Char(a), Token::Char(b)) => a == b,
                _ => true,
            };
            next.push(
                diagonal && same
                    || many && (up || diagonal || left)
                    || theirs_many && (up || left || diagonal),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
