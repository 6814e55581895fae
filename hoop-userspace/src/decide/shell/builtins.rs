//! What the shell does itself.

use super::environment;
use super::facts::ShellFlag;
use super::field::{Field, Likeness, Piece, known};
use super::programs::joined;
use super::state::{Value, is_number, unknown};
use super::walk::{Dark, Run, Walk};

const NAMES: &[&str] = &[
    ":",
    ".",
    "source",
    "[",
    "test",
    "alias",
    "unalias",
    "bg",
    "fg",
    "jobs",
    "wait",
    "disown",
    "break",
    "continue",
    "cd",
    "chdir",
    "pushd",
    "popd",
    "dirs",
    "command",
    "builtin",
    "declare",
    "typeset",
    "local",
    "export",
    "readonly",
    "unset",
    "set",
    "shift",
    "shopt",
    "setopt",
    "unsetopt",
    "emulate",
    "eval",
    "exec",
    "exit",
    "return",
    "logout",
    "getopts",
    "hash",
    "let",
    "read",
    "readarray",
    "mapfile",
    "trap",
    "type",
    "ulimit",
    "umask",
    "times",
    "enable",
    "bind",
    "complete",
    "compgen",
    "compopt",
    "fc",
    "history",
    "help",
    "caller",
    "suspend",
    "printf",
    "kill",
    "autoload",
    "zmodload",
    "zle",
    "sched",
    "noglob",
    "nocorrect",
    "-",
];

pub(super) fn is_builtin(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Those that change nothing that is followed, and start nothing.
const QUIET: &[&str] = &[
    ":", "bg", "fg", "disown", "dirs", "type", "umask", "times", "help", "caller",
];

impl Walk<'_> {
    pub(super) fn builtin(&mut self, name: &str, run: Run) -> Result<(), Dark> {
        match name {
            name if QUIET.contains(&name) => self.push(Some(name.to_owned()), run),
            "ulimit" => self.limit(run),
            "jobs" | "wait" => self.jobs(name, run),
            "cd" | "chdir" => self.cd(run),
            "pushd" | "popd" => {
                self.state.folder = unknown();
                self.push(Some(name.to_owned()), run)
            }
            "exit" | "return" | "logout" | "break" | "continue" => self.leave(name, run),
            "eval" => self.eval(run),
            "exec" | "command" | "builtin" => self.external(name, run),
            "export" | "readonly" | "declare" | "typeset" | "local" => self.declare(name, run),
            "unset" => self.unset(run),
            "set" => self.set(run),
            "shift" => {
                numbers(&run)?;
                self.state.positional = None;
                self.push(Some("shift".into()), run)
            }
            "read" | "getopts" | "readarray" | "mapfile" => self.read(name, run),
            "test" | "[" => self.bracket(name, run),
            "printf" => self.printf(run),
            "alias" | "unalias" if run.argv.len() == 1 => self.push(Some(name.to_owned()), run),
            "unalias" => self.push(Some(name.to_owned()), run),
            "kill" => self.run(run),
            "trap" => self.trap(run),
            // Options of the grammar, code from elsewhere, what is typed.
            _ => Err(Dark("the shell is changed in a way that is not followed")),
        }
    }

    /// What leaves the shell, a function or a loop, if it does: `logout` fails in a shell that is no
    /// login's, `return` outside of functions, and `exit` with more than one number.
    fn leave(&mut self, name: &str, run: Run) -> Result<(), Dark> {
        numbers(&run)?;
        let certain = match run.argv.get(1..).unwrap_or_default() {
            [] => true,
            [status] => !status.many && is_number(&status.pieces),
            _ => false,
        };
        self.push(Some(name.to_owned()), run)?;
        match name {
            "exit" => self.state.dead |= certain,
            // What is known here holds behind the call as well.
            "return" if !self.calling.is_empty() => {
                self.note_return();
                self.state.dead |= certain;
            }
            // What follows is gone through too: some of them do nothing outside of loops.
            "break" | "continue" => self.note_break(),
            _ => {}
        }
        Ok(())
    }

    /// ksh computes the limit.
    fn limit(&mut self, run: Run) -> Result<(), Dark> {
        let plain = |field: &Field| {
            is_number(&field.pieces)
                || field.known().is_some_and(|text| {
                    let letters = text.strip_prefix('-').unwrap_or_default();
                    let option = letters.chars().all(|c| c.is_ascii_alphanumeric());
                    option && !letters.is_empty() || matches!(&*text, "unlimited" | "hard" | "soft")
                })
        };
        match run.argv.iter().skip(1).all(plain) {
            true => self.push(Some("ulimit".into()), run),
            false => Err(Dark("some shells compute a number from what is not one")),
        }
    }

    /// `jobs -x` runs a command, `wait -p` sets a variable.
    fn jobs(&mut self, name: &str, run: Run) -> Result<(), Dark> {
        let plain = |field: &Field| match field.option() {
            Likeness::No => true,
            Likeness::Yes => matches!(
                field.known().as_deref(),
                Some("-n" | "-l" | "-p" | "-r" | "-s")
            ),
            Likeness::Perhaps => false,
        };
        let options = name == "jobs" || run.argv.iter().all(|f| f.known().as_deref() != Some("-p"));
        match run.argv.iter().skip(1).all(plain) && options {
            true => self.push(Some(name.to_owned()), run),
            false => Err(Dark("what is done with jobs is not followed")),
        }
    }

    fn cd(&mut self, run: Run) -> Result<(), Dark> {
        let before = self.state.clone();
        let arguments = run.argv.get(1..).unwrap_or_default();
        let arguments = match arguments {
            [first, rest @ ..]
                if first
                    .known()
                    .is_some_and(|a| matches!(&*a, "--" | "-P" | "-L")) =>
            {
                rest
            }
            all => all,
        };
        self.state.folder = match arguments {
            [] => vec![vec![Piece::Home(String::new())]],
            [to] if to.known().is_none_or(|text| text != "-") => within(&before.folder, to),
            _ => unknown(),
        };
        self.set_failed(before);
        self.push(Some("cd".into()), run)
    }

    fn eval(&mut self, run: Run) -> Result<(), Dark> {
        let Some(text) = joined(run.argv.get(1..).unwrap_or_default()) else {
            return Err(Dark("eval runs what is not known"));
        };
        if !run.files.is_empty() || !run.flags.is_empty() {
            let mut redirect = run;
            redirect.argv.clear();
            self.push(None, redirect)?;
        }
        self.around.input = None;
        self.text(&text)
    }

    /// The program of that name, and no function.
    fn external(&mut self, name: &str, mut run: Run) -> Result<(), Dark> {
        let looks = |field: &Field| matches!(field.known().as_deref(), Some("-v" | "-V"));
        run.argv.remove(0);
        if name == "command" {
            if run.argv.first().is_some_and(looks) {
                run.argv.insert(0, Field::text("command"));
                return self.push(Some("command".into()), run);
            }
            if run.argv.first().and_then(Field::known).as_deref() == Some("-p") {
                run.argv.remove(0);
            }
        }
        if run.argv.first().and_then(Field::known).as_deref() == Some("--") {
            run.argv.remove(0);
        }
        let Some(first) = run.argv.first() else {
            // `exec >file` is a redirection.
            return match run.files.is_empty() && run.flags.is_empty() {
                true => Ok(()),
                false => self.push(None, run),
            };
        };
        if first.option() != Likeness::No {
            run.flag(ShellFlag::Opaque, "which program runs is not known");
            return self.push(None, run);
        }
        match first.known() {
            Some(builtin) if name != "exec" && is_builtin(&builtin) => {
                let before = self.state.clone();
                self.builtin(&builtin, run)?;
                // Not every shell has `builtin`, and behind `command` zsh looks for programs alone.
                self.may_fail(before.clone());
                if name == "builtin" {
                    self.state = std::mem::take(&mut self.state).join(before);
                }
                Ok(())
            }
            _ => {
                let before = self.state.clone();
                self.run(run)?;
                if name == "exec" {
                    // Where the program cannot be started, a shell may go on.
                    self.may_fail(before);
                    self.state.dead = true;
                }
                Ok(())
            }
        }
    }

    fn declare(&mut self, name: &str, run: Run) -> Result<(), Dark> {
        let mut exports = name == "export";
        let mut freezes = name == "readonly";
        let is_array = |f: &Field| matches!(f.known().as_deref(), Some("-a" | "-A"));
        let arrays = run.argv.iter().skip(1).any(is_array);
        for field in run.argv.get(1..).unwrap_or_default() {
            if field.option() == Likeness::Yes {
                match field.known().as_deref() {
                    Some("-x" | "-gx") => {
                        exports = true;
                        continue;
                    }
                    Some("-rx" | "-xr") => {
                        (exports, freezes) = (true, true);
                        continue;
                    }
                    Some("-r") => {
                        freezes = true;
                        continue;
                    }
                    Some("-p" | "-a" | "-A" | "-g") => continue,
                    // -n makes a variable another's name, -i evaluates, -f is of functions.
                    _ => return Err(Dark("a variable is declared in a way that is not followed")),
                }
            }
            let (variable, value) = match field.prefix().split_once('=') {
                Some((variable, _)) => (variable, Some(field.after(variable.len() + 1))),
                None => match field.known() {
                    Some(_) => (field.prefix(), None),
                    None => return Err(Dark("which variable is set is not known")),
                },
            };
            if field.many || !plain(variable) {
                return Err(Dark("which variable is set is not known"));
            }
            let harmless = environment::of(variable, None) == environment::Influence::None;
            self.state.exports |= exports && !harmless;
            let variable = variable.to_owned();
            let given = value.as_ref().map(|value| vec![value.pieces.clone()]);
            self.influence(&variable, &given.unwrap_or_default())?;
            let array = arrays || self.state.arrays.contains(&variable);
            if value.as_ref().is_some_and(|value| compound(value, array)) {
                return Err(Dark("the elements of an array are expanded once more"));
            }
            self.localise(&variable);
            // Where there is no such command, or none here, the variable keeps what it held.
            let kept = match name {
                "declare" | "typeset" => true,
                "local" => self.calling.is_empty(),
                _ => false,
            };
            match value {
                Some(value) if kept => {
                    let mut both = self.state.variable(&variable).to_vec();
                    both.push(value.pieces);
                    self.assign(&variable, both);
                }
                Some(value) => self.assign(&variable, vec![value.pieces]),
                // It keeps its value, or has none of its own.
                None if name == "local" || name == "declare" || name == "typeset" => {
                    self.assign(&variable, unknown());
                }
                None => {}
            }
            if arrays {
                self.assign_array(&variable);
            }
            if freezes {
                self.frozen.insert(variable);
            }
        }
        self.push(Some(name.to_owned()), run)
    }

    fn unset(&mut self, run: Run) -> Result<(), Dark> {
        for field in run.argv.get(1..).unwrap_or_default() {
            match field.known() {
                Some(option) if option == "-v" => {}
                Some(name) if plain(&name) => {
                    self.influence(&name, &[])?;
                    self.assign(&name, unknown());
                    if self.functions.contains_key(&name) {
                        self.state.certain.remove(&name);
                    }
                }
                _ => return Err(Dark("what is unset is not known")),
            }
        }
        self.push(Some("unset".into()), run)
    }

    fn set(&mut self, run: Run) -> Result<(), Dark> {
        const LETTERS: &str = "euxv";
        let mut words = run.argv.get(1..).unwrap_or_default().iter();
        while let Some(field) = words.next() {
            let Some(word) = field.known() else {
                return Err(Dark("which option of the shell is set is not known"));
            };
            if word == "--" {
                let rest: Vec<_> = words.cloned().collect();
                let fixed = rest.iter().all(|field| !field.many);
                let all = rest.into_iter().map(|field| field.pieces).collect();
                self.state.positional = fixed.then_some(all);
                break;
            }
            let Some(letters) = word.strip_prefix(['-', '+']) else {
                self.state.positional = None;
                break;
            };
            let option = letters.ends_with('o');
            if !letters
                .trim_end_matches('o')
                .chars()
                .all(|c| LETTERS.contains(c))
            {
                return Err(Dark("the shell is changed in a way that is not followed"));
            }
            if option {
                match words.next().and_then(Field::known).as_deref() {
                    None | Some("pipefail" | "errexit" | "nounset" | "xtrace" | "verbose") => {}
                    _ => return Err(Dark("the shell is changed in a way that is not followed")),
                }
            }
        }
        self.push(Some("set".into()), run)
    }

    /// Variables are filled with what is read.
    fn read(&mut self, name: &str, run: Run) -> Result<(), Dark> {
        let mut words = run.argv.get(1..).unwrap_or_default().iter();
        let skip = usize::from(name == "getopts");
        let mut given = 0;
        while let Some(field) = words.next() {
            let Some(word) = field.known() else {
                return Err(Dark("which variable is read is not known"));
            };
            if given < skip {
                given += 1;
                continue;
            }
            if let Some(letters) = word.strip_prefix('-') {
                let array = matches!(name, "mapfile" | "readarray");
                match letters {
                    "t" if array => continue,
                    // What is called for each line, and after how many.
                    letters if array => {
                        let valued = matches!(letters, "d" | "n" | "O" | "s" | "u");
                        if !valued || (letters != "d" && !words.next().is_some_and(number)) {
                            return Err(Dark("what is read, and how, is not followed"));
                        }
                        if letters == "d" {
                            words.next();
                        }
                        continue;
                    }
                    "r" | "s" | "e" | "t" | "rs" | "sr" | "rt" | "rp" | "p" | "n" | "N" | "d"
                    | "u" | "rd" | "rn" => {
                        // Some shells compute how long, how much and from where.
                        let computed = letters.ends_with(|c| "tnNu".contains(c));
                        let valued = letters.ends_with(|c| "pd".contains(c));
                        if (computed || valued)
                            && !words.next().is_none_or(|field| valued || number(field))
                        {
                            return Err(Dark("some shells compute a number from what is not one"));
                        }
                        continue;
                    }
                    _ => return Err(Dark("what is read, and how, is not followed")),
                }
            }
            if !plain(&word) {
                return Err(Dark("which variable is read is not known"));
            }
            self.influence(&word, &unknown())?;
            match name {
                "mapfile" | "readarray" => self.assign_array(&word),
                _ => self.assign(&word, unknown()),
            }
        }
        for variable in ["REPLY", "MAPFILE", "OPTARG"] {
            self.assign(variable, unknown());
        }
        if matches!(name, "mapfile" | "readarray") {
            self.assign_array("MAPFILE");
        }
        self.push(Some(name.to_owned()), run)
    }

    /// Some tests evaluate what they are given.
    fn bracket(&mut self, name: &str, run: Run) -> Result<(), Dark> {
        const EVALUATES: &[&str] = &["-v", "-R", "-t", "-eq", "-ne", "-lt", "-le", "-gt", "-ge"];
        let words: Vec<_> = run.argv.iter().skip(1).map(Field::known).collect();
        let named = |word: &Option<String>| word.as_deref().is_some_and(|w| EVALUATES.contains(&w));
        if words.iter().any(named) {
            let odd = |word: &Option<String>| {
                word.as_deref()
                    .is_some_and(|w| w.contains(['$', '`']) || (w.contains('[') && w != "["))
            };
            let variable = words
                .iter()
                .any(|w| matches!(w.as_deref(), Some("-v" | "-R")));
            // zsh and ksh take a name for the variable, and evaluate what that holds.
            let names = |at: Option<usize>| {
                let word = at.and_then(|at| words.get(at));
                word.and_then(Option::as_deref).is_some_and(plain)
            };
            let named = words
                .iter()
                .enumerate()
                .any(|(at, word)| match word.as_deref() {
                    Some("-t") => names(Some(at + 1)),
                    Some(word) if word != "-v" && word != "-R" && EVALUATES.contains(&word) => {
                        names(Some(at + 1)) || names(at.checked_sub(1))
                    }
                    _ => false,
                });
            if named || words.iter().any(odd) || (variable && words.iter().any(Option::is_none)) {
                return Err(Dark("a test evaluates what is not plain"));
            }
        }
        self.push(Some(name.to_owned()), run)
    }

    fn printf(&mut self, run: Run) -> Result<(), Dark> {
        computed(run.argv.get(1..).unwrap_or_default())?;
        let first = run.argv.get(1);
        match first.map(Field::option) {
            None | Some(Likeness::No) => {}
            Some(_) => match first.and_then(Field::known).as_deref() {
                Some("-v") => match run.argv.get(2).and_then(Field::known) {
                    Some(name) if plain(&name) => {
                        self.influence(&name, &unknown())?;
                        self.assign(&name, unknown());
                    }
                    _ => return Err(Dark("which variable is set is not known")),
                },
                Some(text) if !text.starts_with("-v") => {}
                _ => return Err(Dark("which variable is set is not known")),
            },
        }
        self.push(Some("printf".into()), run)
    }

    /// `trap - TERM` and `trap '' INT` run nothing later.
    fn trap(&mut self, run: Run) -> Result<(), Dark> {
        match run.argv.get(1).and_then(Field::known).as_deref() {
            None if run.argv.len() == 1 => {}
            Some("" | "-" | "-l" | "-p") => {}
            _ => return Err(Dark("what a trap runs is not followed")),
        }
        self.push(Some("trap".into()), run)
    }
}

fn number(field: &Field) -> bool {
    let signed = field.known();
    let signed = signed.as_deref().and_then(|text| text.strip_prefix('-'));
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let fraction = field.known().is_some_and(|text| {
        let parts = text.split_once('.');
        parts.is_some_and(|(whole, part)| digits(part) && (whole.is_empty() || digits(whole)))
    });
    is_number(&field.pieces) || fraction || signed.is_some_and(digits)
}

/// Whether bash takes what a variable is declared to be for the elements of an array, and expands
/// them as it would have without quotes.
fn compound(value: &Field, array: bool) -> bool {
    let first = value
        .pieces
        .iter()
        .find(|p| !matches!(p, Piece::Text(text) if text.is_empty()));
    match first {
        Some(Piece::Text(text)) => {
            text.starts_with('(') && (array || text.contains(['$', '`']) || value.has_unknown())
        }
        Some(Piece::Unknown | Piece::Glob(_)) => array,
        _ => false,
    }
}

/// zsh evaluates what `printf %d` is given.
fn computed(arguments: &[Field]) -> Result<(), Dark> {
    const COMPUTED: Dark = Dark("some shells compute a number from what is not one");
    let skipped = match arguments.first().and_then(Field::known).as_deref() {
        Some("-v") => 2,
        Some("--") => 1,
        _ => 0,
    };
    let Some((format, values)) = arguments.get(skipped..).and_then(<[Field]>::split_first) else {
        return Ok(());
    };
    let kinds = format.known().map(|format| conversions(&format));
    let kinds = kinds.unwrap_or_else(|| vec![true]);
    if kinds.is_empty() {
        return Ok(());
    }
    let mut kinds = kinds.iter().cycle();
    for value in values {
        let numeric = kinds.next().is_some_and(|numeric| *numeric);
        // Past one of several, which is which is not known.
        if value.many {
            kinds = [true].iter().cycle();
        }
        let odd = value.known().is_some_and(|text| {
            let literal = text.starts_with(['\'', '"']) && text.chars().count() <= 2;
            let digits = text.trim_start_matches(['-', '+', ' ', '.']);
            let number = digits.starts_with(|c: char| c.is_ascii_digit())
                && digits
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "+-.#".contains(c));
            !(text.is_empty() || literal || number)
        });
        let known = format.known().is_some();
        let code = value.known().is_some_and(|text| text.contains(['$', '`']));
        if numeric && odd && (known || code) {
            return Err(COMPUTED);
        }
    }
    Ok(())
}

/// Of what a format of printf takes, whether it is a number.
fn conversions(format: &str) -> Vec<bool> {
    let mut kinds = Vec::new();
    let mut parts = format.split('%');
    parts.next();
    while let Some(part) = parts.next() {
        // `%%`
        if part.is_empty() {
            parts.next();
            continue;
        }
        // `%(%F %T)T` takes a time.
        if part.starts_with('(') {
            kinds.push(true);
            let mut inside = part;
            while !inside.contains(')') {
                let Some(next) = parts.next() else { break };
                inside = next;
            }
            continue;
        }
        let upto = part.find(|c: char| c.is_ascii_alphabetic());
        let (flags, rest) = part.split_at(upto.unwrap_or(part.len()));
        // They may be taken in another order.
        if flags.contains('$') {
            return vec![true];
        }
        kinds.extend(flags.chars().filter(|c| *c == '*').map(|_| true));
        let kind = rest.trim_start_matches(['h', 'l', 'L', 'q', 'j', 'z', 't']);
        let quoted = rest.starts_with('q');
        kinds.extend(match kind.chars().next() {
            _ if quoted => Some(false),
            Some('s' | 'b' | 'c' | 'S' | 'C' | 'n' | 'Q') => Some(false),
            Some(_) => Some(true),
            None => None,
        });
    }
    kinds
}

/// What zsh computes must be numbers: `exit 'a[$(rm x)]'` runs what is in it.
fn numbers(run: &Run) -> Result<(), Dark> {
    match run.argv.iter().skip(1).all(number) {
        true => Ok(()),
        false => Err(Dark("some shells compute a number from what is not one")),
    }
}

fn plain(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The folders that `to` may be from these.
pub(super) fn within(folders: &Value, to: &Field) -> Value {
    match to.many {
        true => unknown(),
        false => folders.iter().map(|folder| below(folder, to)).collect(),
    }
}

/// The folder after `cd to`.
fn below(folder: &[Piece], to: &Field) -> Vec<Piece> {
    let rooted = match to.pieces.first() {
        Some(Piece::Text(text)) => text.starts_with('/'),
        Some(Piece::Home(_)) => true,
        _ => false,
    };
    if rooted {
        return to.pieces.clone();
    }
    // Long ones are not followed.
    if folder.len() > 16 || known(folder).is_some_and(|text| text.len() > 1024) {
        return vec![Piece::Unknown];
    }
    let mut all = folder.to_vec();
    super::field::push(&mut all, Piece::Text("/".into()));
    for piece in &to.pieces {
        super::field::push(&mut all, piece.clone());
    }
    all
}
