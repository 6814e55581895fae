//! What was found in a shell text, before any policy looks at it.
//!
//! The serialised form is part of `hoop policy test`'s contract: keys are kept.

use serde::Serialize;

/// Everything that is known of one shell text from the text alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ShellFacts {
    /// Why the text, or a part of it, could not be understood; `opaque` is set then, and what was
    /// found is not all.
    pub unparsable: Option<String>,
    /// Names of the programs that run, sorted, without repeats, as all lists but `commands`.
    pub programs: Vec<String>,
    /// Of all commands.
    pub flags: Vec<ShellFlag>,
    /// Files by what is done to them. A path is absolute, or begins at a home (`~/…`); `*` and `?`
    /// are patterns, `<?>` is what the text does not tell.
    pub reads: Vec<String>,
    pub writes: Vec<String>,
    pub deletes: Vec<String>,
    pub executes: Vec<String>,
    /// More may run than is listed.
    pub opaque: bool,
    /// In the order of the text.
    pub commands: Vec<ShellCommand>,
}

/// One program that runs, or a redirection without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ShellCommand {
    /// Its name without folders; `None` where nothing but a redirection happens, or it is not known.
    pub program: Option<String>,
    /// Where it is written with a slash.
    pub path: Option<String>,
    /// As the program receives it, its name included; `null` where that is not known.
    pub argv: Vec<Option<String>>,
    /// The same for people, as one line.
    pub line: String,
    /// As whom it runs, if not as the login.
    pub user: Option<String>,
    /// The programs that start it: `sudo`, `xargs`, `sh`.
    pub through: Vec<String>,
    pub stdin: Stdin,
    pub flags: Vec<ShellFlag>,
    pub files: Vec<FileAccess>,
    /// Why it is opaque or unfamiliar.
    pub why: Option<String>,
}

/// Where a command's standard input comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// The session: the client writes it.
    #[default]
    Session,
    Pipe,
    File,
    /// A here-document or here-string.
    Text,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FileAccess {
    pub verb: FileVerb,
    pub path: String,
    /// It is this path and no other, symbolic links apart.
    pub exact: bool,
    /// Reading it may show a secret.
    #[serde(skip)]
    pub secret: bool,
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileVerb {
    /// Its name or its attributes.
    List,
    Read,
    /// Made, and not if it is there already.
    Create,
    Append,
    /// Owner, mode and other attributes.
    Change,
    /// Its content is replaced.
    Write,
    Delete,
    Execute,
}

impl FileVerb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Read => "read",
            Self::Create => "create",
            Self::Append => "append",
            Self::Change => "change",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Execute => "execute",
        }
    }
}

/// What stands out in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellFlag {
    /// Code runs that is not seen.
    Opaque,
    /// hoop does not know the program, or one of its options.
    Unfamiliar,
    /// A path or an argument that matters is not known.
    Unresolved,
    /// A shell or another interpreter.
    Interpreter,
    /// As another user: sudo, su, doas.
    Privileged,
    /// Files are written, made or changed.
    WritesFiles,
    /// What a file held is lost: it is deleted or replaced.
    Deletes,
    /// Owners, modes, users and their rights change.
    Grants,
    /// The state of the host changes other than by its files: services, processes, packages, mounts.
    Administers,
    Network,
    /// In another host, container or namespace.
    Elsewhere,
    /// Goes on after the session.
    Background,
    ReadsSecrets,
    /// What starts by itself later, or lets somebody in, is written.
    Persistent,
    /// A variable is given to the program that may change what it does.
    Environment,
}

impl ShellFlag {
    pub const ALL: [Self; 15] = [
        Self::Opaque,
        Self::Unfamiliar,
        Self::Unresolved,
        Self::Interpreter,
        Self::Privileged,
        Self::WritesFiles,
        Self::Deletes,
        Self::Grants,
        Self::Administers,
        Self::Network,
        Self::Elsewhere,
        Self::Background,
        Self::ReadsSecrets,
        Self::Persistent,
        Self::Environment,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Unfamiliar => "unfamiliar",
            Self::Unresolved => "unresolved",
            Self::Interpreter => "interpreter",
            Self::Privileged => "privileged",
            Self::WritesFiles => "writes_files",
            Self::Deletes => "deletes",
            Self::Grants => "grants",
            Self::Administers => "administers",
            Self::Network => "network",
            Self::Elsewhere => "elsewhere",
            Self::Background => "background",
            Self::ReadsSecrets => "reads_secrets",
            Self::Persistent => "persistent",
            Self::Environment => "environment",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.as_str() == name)
    }
}

impl ShellCommand {
    /// What policies call `command`: its line, where nothing else decides what runs. With variables set
    /// for it, or in a container, it need not be the command that it reads as.
    pub fn exact_line(&self) -> Option<&str> {
        let other = [
            ShellFlag::Environment,
            ShellFlag::Elsewhere,
            ShellFlag::Opaque,
        ];
        let same = !self.flags.iter().any(|flag| other.contains(flag));
        let whole = self.argv.iter().all(Option::is_some);
        (same && whole).then_some(self.line.as_str())
    }
}

impl ShellFacts {
    pub fn has(&self, flag: ShellFlag) -> bool {
        self.flags.binary_search(&flag).is_ok()
    }

    /// Fills what sums up the commands.
    pub(super) fn summed(commands: Vec<ShellCommand>, unparsable: Option<String>) -> Self {
        let mut facts = Self {
            unparsable,
            commands,
            ..Self::default()
        };
        for command in &facts.commands {
            facts.programs.extend(command.program.clone());
            facts.flags.extend(&command.flags);
            for file in &command.files {
                let list = match file.verb {
                    FileVerb::List | FileVerb::Read => &mut facts.reads,
                    FileVerb::Delete => &mut facts.deletes,
                    FileVerb::Execute => &mut facts.executes,
                    _ => &mut facts.writes,
                };
                list.push(file.path.clone());
            }
        }
        if facts.unparsable.is_some() {
            facts.flags.push(ShellFlag::Opaque);
        }
        for list in [
            &mut facts.programs,
            &mut facts.reads,
            &mut facts.writes,
            &mut facts.deletes,
            &mut facts.executes,
        ] {
            list.sort();
            list.dedup();
        }
        facts.flags.sort();
        facts.flags.dedup();
        facts.opaque = facts.has(ShellFlag::Opaque);
        facts
    }
}
