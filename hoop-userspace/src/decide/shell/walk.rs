//! Goes through a parsed text as a shell would, every way at once, and collects what runs.
//!
//! Where one of several ways is taken, all are; what is known afterwards is what holds on each. A
//! loop is gone through until nothing new is learned of its variables.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::environment;
use super::facts::{FileAccess, ShellCommand, ShellFlag, Stdin};
use super::field::{Field, Piece, Scalar, known};
use super::programs::Programs;
use super::redirect::Descriptors;
use super::state::{State, Value, is_number, unknown};
use super::syntax::{self, Assignment, Command, Item, Join, Kind, List, Pipeline, Redirect, Word};

/// Why nothing more can be said of what follows: the whole text is unknown then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dark(pub &'static str);

/// Commands, calls and texts within each other.
const DEEPEST: usize = 40;
/// Commands gone through and files looked at, loops and calls counted each time.
const BUDGET: usize = 4096;
const MOST_VARIABLES: usize = 256;
/// Bytes of all arguments, values and paths that are made: `a=$a$a` doubles what it holds.
const MOST_BYTES: usize = 2 << 20;
/// Rounds of one loop until it must have settled.
const ROUNDS: usize = 8;

pub(super) struct Walk<'p> {
    pub programs: &'p Programs,
    /// The text runs on a terminal, which the client types into.
    pub terminal: bool,
    pub state: State,
    /// How the state is if the last command failed, where that differs: `cd`.
    failed: Option<State>,
    pub functions: BTreeMap<String, Vec<Rc<Command>>>,
    pub calling: Vec<String>,
    /// Of each function being called, the variables that it made its own, as they were before.
    locals: Vec<BTreeMap<String, Rc<Value>>>,
    /// What holds where the function being called is left by `return`.
    returned: Option<State>,
    /// The same where a loop is left, or goes on with its next round.
    broken: Option<State>,
    /// Variables that may not be set any more: some shells go on if they are.
    pub frozen: BTreeSet<String>,
    pub around: Around,
    /// What this text opened at each descriptor, and what it does to such a file by the
    /// descriptor's own name.
    pub descriptors: Descriptors,
    level: usize,
    budget: Cell<usize>,
    bytes: Cell<usize>,
    pub commands: Vec<ShellCommand>,
    /// Commands found, those that were found before counted too.
    pub pushed: usize,
}

/// What holds for every command that is run from here.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    pub user: Option<String>,
    pub through: Vec<String>,
    pub flags: BTreeSet<ShellFlag>,
    pub stdin: Stdin,
    /// What standard input holds, where that is known.
    pub input: Option<String>,
    pub why: Option<String>,
}

/// A command with its arguments, about to be looked up.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub argv: Vec<Field>,
    pub files: Vec<FileAccess>,
    pub flags: BTreeSet<ShellFlag>,
    pub why: Option<String>,
    /// An option says that there is no pager.
    pub unpaged: bool,
}

impl Run {
    pub(super) fn flag(&mut self, flag: ShellFlag, why: &str) {
        self.flags.insert(flag);
        if self.why.is_none() && !why.is_empty() {
            self.why = Some(why.to_owned());
        }
    }
}

impl<'p> Walk<'p> {
    pub(super) fn new(programs: &'p Programs, terminal: bool) -> Self {
        Self {
            programs,
            terminal,
            state: State::fresh(Some(Vec::new())),
            failed: None,
            functions: BTreeMap::new(),
            calling: Vec::new(),
            locals: Vec::new(),
            returned: None,
            broken: None,
            frozen: BTreeSet::new(),
            around: Around::default(),
            descriptors: Descriptors::default(),
            level: 0,
            budget: Cell::new(BUDGET),
            bytes: Cell::new(MOST_BYTES),
            commands: Vec::new(),
            pushed: 0,
        }
    }

    /// Parses and goes through a text in the shell that this is.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Dark> {
        let list = syntax::parse(text, 0).map_err(|trouble| Dark(trouble.0))?;
        self.deeper(|walk| walk.joined(&list))
    }

    pub(super) fn deeper(
        &mut self,
        go: impl FnOnce(&mut Self) -> Result<(), Dark>,
    ) -> Result<(), Dark> {
        if self.level >= DEEPEST {
            return Err(Dark("it is nested too deeply"));
        }
        self.spend()?;
        self.level += 1;
        let gone = go(self);
        self.level -= 1;
        gone
    }

    /// Bounds what one text costs.
    pub(super) fn spend(&self) -> Result<(), Dark> {
        let left = self.budget.get().checked_sub(1);
        self.budget.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Dark("it does too much"))
    }

    /// Bounds how much is made of it.
    pub(super) fn spend_bytes(&self, bytes: usize) -> Result<(), Dark> {
        let left = self.bytes.get().checked_sub(bytes);
        self.bytes.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Dark("it becomes too much"))
    }

    /// Whether both bounds still hold, where [`Self::spend`] could not say so.
    pub(super) fn solvent(&self) -> Result<(), Dark> {
        self.spend()?;
        self.spend_bytes(1)?;
        self.descriptors.sound()
    }

    /// Runs `go` with something else around, and as a process of its own: what it changes in the
    /// shell's state is lost.
    pub(super) fn apart(
        &mut self,
        around: Around,
        go: impl FnOnce(&mut Self) -> Result<(), Dark>,
    ) -> Result<(), Dark> {
        let before = std::mem::replace(&mut self.around, around);
        let state = self.state.clone();
        let functions = self.functions.clone();
        let gone = go(self);
        self.around = before;
        self.state = state;
        self.functions = functions;
        gone
    }

    /// Goes through a list; the state is then that of success, and that of failure is returned.
    fn list(&mut self, list: &List) -> Result<State, Dark> {
        let mut failed = self.state.clone();
        for (at, item) in list.iter().enumerate() {
            if at > 0 {
                self.state = std::mem::take(&mut self.state).join(failed);
            }
            failed = self.item(item)?;
        }
        Ok(failed)
    }

    fn joined(&mut self, list: &List) -> Result<(), Dark> {
        let failed = self.list(list)?;
        self.state = std::mem::take(&mut self.state).join(failed);
        Ok(())
    }

    fn item(&mut self, item: &Item) -> Result<State, Dark> {
        if !item.background {
            return self.chain(item);
        }
        let mut around = self.around.clone();
        around.flags.insert(ShellFlag::Background);
        self.apart(around, |walk| walk.chain(item).map(|_| ()))?;
        Ok(self.state.clone())
    }

    fn chain(&mut self, item: &Item) -> Result<State, Dark> {
        let mut failed = self.pipeline(&item.first)?;
        for (join, pipeline) in &item.rest {
            match join {
                Join::And => failed = failed.join(self.pipeline(pipeline)?),
                Join::Or => {
                    let succeeded = std::mem::replace(&mut self.state, failed);
                    failed = self.pipeline(pipeline)?;
                    self.state = std::mem::take(&mut self.state).join(succeeded);
                }
            }
        }
        Ok(failed)
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> Result<State, Dark> {
        self.failed = None;
        if let [command] = pipeline.0.as_slice() {
            self.command(command)?;
            let failed = self.failed.take();
            return Ok(failed.unwrap_or_else(|| self.state.clone()));
        }
        let before = self.state.clone();
        for (at, command) in pipeline.0.iter().enumerate() {
            let mut around = self.around.clone();
            if at > 0 {
                (around.stdin, around.input) = (Stdin::Pipe, None);
            }
            let outer = std::mem::replace(&mut self.around, around);
            let state = self.state.clone();
            self.command(command)?;
            self.around = outer;
            // Some shells run the last part themselves, others none.
            let after = std::mem::replace(&mut self.state, state);
            if at + 1 == pipeline.0.len() {
                self.state = before.clone().join(after);
            }
        }
        self.failed = None;
        Ok(self.state.clone())
    }

    fn command(&mut self, command: &Command) -> Result<(), Dark> {
        self.deeper(|walk| match &command.kind {
            Kind::Simple { assignments, words } => {
                walk.simple(assignments, words, &command.redirects)
            }
            kind => walk.redirected(&command.redirects, |walk| walk.compound(kind)),
        })
    }

    /// Goes through a compound command with its redirections in force.
    fn redirected(
        &mut self,
        redirects: &[Redirect],
        go: impl FnOnce(&mut Self) -> Result<(), Dark>,
    ) -> Result<(), Dark> {
        let outer = self.around.clone();
        let choices = self.choices(redirects.iter().map(|r| &r.target));
        for choice in &choices {
            self.redirected_to(redirects, choice, &mut Run::default())?;
        }
        // Which of its commands reads how much of a text is not known.
        self.around.input = None;
        let before = self.state.clone();
        let gone = go(self);
        self.around = outer;
        if !redirects.is_empty() {
            // Where a file cannot be opened, none of it is done.
            self.may_fail(before);
        }
        gone
    }

    fn compound(&mut self, kind: &Kind) -> Result<(), Dark> {
        match kind {
            Kind::Simple { .. } => Ok(()),
            Kind::Group(list) => {
                self.failed = Some(self.list(list)?);
                Ok(())
            }
            Kind::Subshell(list) => {
                let around = self.around.clone();
                self.apart(around, |walk| walk.joined(list))
            }
            Kind::If {
                branches,
                otherwise,
            } => self.condition(branches, otherwise.as_ref()),
            Kind::While { condition, body } => self.repeat(|walk| {
                let failed = walk.list(condition)?;
                walk.joined(body)?;
                Ok(failed)
            }),
            Kind::For { name, words, body } => self.iterate(name, words.as_deref(), body),
            Kind::Count { header, body } => {
                // Its first part comes before every round.
                self.arithmetic(header)?;
                self.repeat(|walk| {
                    walk.arithmetic(header)?;
                    let before = walk.state.clone();
                    walk.joined(body)?;
                    Ok(before)
                })
            }
            Kind::Case { word, arms } => self.choice(word, arms),
            Kind::Function {
                name,
                body,
                keyword,
                certain,
            } => {
                if environment::is_hook(name) {
                    return Err(Dark("a function is defined that the shell calls by itself"));
                }
                self.functions
                    .entry(name.clone())
                    .or_default()
                    .push(body.clone());
                if *certain {
                    self.state.certain.insert(name.clone());
                }
                if *keyword {
                    let before = self.state.clone();
                    self.command(body)?;
                    self.state = std::mem::take(&mut self.state).join(before);
                }
                Ok(())
            }
            Kind::Test(words) => self.test(words),
        }
    }

    fn condition(
        &mut self,
        branches: &[(List, List)],
        otherwise: Option<&List>,
    ) -> Result<(), Dark> {
        let mut end: Option<State> = None;
        for (condition, body) in branches {
            let failed = self.list(condition)?;
            self.joined(body)?;
            let after = std::mem::replace(&mut self.state, failed);
            end = Some(match end {
                Some(end) => end.join(after),
                None => after,
            });
        }
        if let Some(list) = otherwise {
            self.joined(list)?;
        }
        if let Some(end) = end {
            self.state = std::mem::take(&mut self.state).join(end);
        }
        Ok(())
    }

    /// Goes round until the state at the beginning holds for every round. `round` returns the
    /// state in which it may also end.
    fn repeat(&mut self, round: impl Fn(&mut Self) -> Result<State, Dark>) -> Result<(), Dark> {
        let mut left = self.broken.take();
        for at in 0..ROUNDS {
            let before = self.state.clone();
            let mut end = round(self)?;
            if let Some(broken) = self.broken.take() {
                note(&mut left, &broken);
                end = end.join(broken);
            }
            let after = std::mem::take(&mut self.state);
            let mut next = before.clone().join(after.clone()).join(end.clone());
            if next == before {
                self.state = before.join(after).join(end);
                // `break 2` leaves the loop around it as well.
                self.broken = left;
                return Ok(());
            }
            if at > 0 {
                next.widen(&before);
            }
            self.state = next;
        }
        Err(Dark("what a loop changes cannot be followed"))
    }

    fn iterate(&mut self, name: &str, words: Option<&[Word]>, body: &List) -> Result<(), Dark> {
        let value = match words {
            Some(words) => {
                let mut value = Value::new();
                for choice in self.choices(words.iter()) {
                    for field in self.fields(words, &choice)? {
                        let whole = !field.many || !field.has_unknown();
                        let scalar: Scalar = match whole {
                            true => field.pieces,
                            false => vec![Piece::Unknown],
                        };
                        if !value.contains(&scalar) {
                            value.push(scalar);
                        }
                    }
                }
                value
            }
            None => self.state.positional.clone().unwrap_or_else(unknown),
        };
        self.influence(name, &value)?;
        self.repeat(|walk| {
            let before = walk.state.clone();
            walk.assign(name, value.clone());
            walk.joined(body)?;
            Ok(before)
        })
    }

    fn choice(&mut self, word: &Word, arms: &[(Vec<Word>, List)]) -> Result<(), Dark> {
        self.value(word)?;
        let before = self.state.clone();
        let mut end = before.clone();
        for (patterns, list) in arms {
            for pattern in patterns {
                self.value(pattern)?;
            }
            self.joined(list)?;
            end = end.join(self.state.clone());
            // `;&` goes on with the next.
            self.state = std::mem::take(&mut self.state).join(before.clone());
        }
        self.state = end;
        Ok(())
    }

    /// `[[ … ]]`: arithmetic comparisons evaluate what they are given.
    fn test(&mut self, words: &[Word]) -> Result<(), Dark> {
        const COMPARISONS: &[&str] = &["-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-t"];
        let compares = words
            .iter()
            .any(|w| w.bare().is_some_and(|w| COMPARISONS.contains(&w)));
        for word in words {
            if matches!(word.bare(), Some("-v" | "-R")) {
                return Err(Dark("[[ -v evaluates what it is given"));
            }
            let value = self.value(word)?;
            let plain = word.bare().is_some_and(|w| w.starts_with('-') || w == "!");
            if compares && !plain && !value.iter().all(|scalar| is_number(scalar)) {
                return Err(Dark("[[ compares what is no number for certain"));
            }
        }
        Ok(())
    }

    pub(super) fn substitution(&mut self, list: &List) -> Result<(), Dark> {
        let around = self.around.clone();
        self.apart(around, |walk| walk.joined(list))
    }

    fn simple(
        &mut self,
        assignments: &[Assignment],
        words: &[Word],
        redirects: &[Redirect],
    ) -> Result<(), Dark> {
        if words.is_empty() {
            let before = self.state.clone();
            for assignment in assignments {
                self.assignment(assignment)?;
            }
            self.redirected(redirects, |_| Ok(()))?;
            if !redirects.is_empty() {
                self.may_fail(before);
            }
            return Ok(());
        }
        let targets = redirects.iter().map(|r| &r.target);
        let choices = self.choices(words.iter().chain(targets));
        let before = self.state.clone();
        let mut end: Option<(State, State)> = None;
        for choice in &choices {
            self.spend()?;
            self.state = before.clone();
            self.failed = None;
            let outer = self.around.clone();
            self.one_simple(assignments, words, redirects, choice)?;
            self.around = outer;
            let after = self.state.clone();
            let failed = self.failed.take().unwrap_or_else(|| after.clone());
            end = Some(match end {
                Some((ok, bad)) => (ok.join(after), bad.join(failed)),
                None => (after, failed),
            });
        }
        if let Some((ok, bad)) = end {
            self.state = ok;
            self.failed = Some(bad);
        }
        if !redirects.is_empty() {
            // Where a file cannot be opened, nothing of it is done.
            self.may_fail(before);
        }
        Ok(())
    }

    fn one_simple(
        &mut self,
        assignments: &[Assignment],
        words: &[Word],
        redirects: &[Redirect],
        choice: &super::expand::Choice,
    ) -> Result<(), Dark> {
        let mut run = Run {
            argv: self.fields(words, choice)?,
            ..Run::default()
        };
        self.declared_alike(&run, words, choice)?;
        if run.argv.is_empty() {
            // What expanded to nothing leaves the assignments.
            for assignment in assignments {
                self.assignment(assignment)?;
            }
        } else {
            for assignment in assignments {
                for word in &assignment.values {
                    let value = self.value(word)?;
                    // Special built-ins and functions keep it.
                    let both = self
                        .state
                        .variable(&assignment.name)
                        .iter()
                        .cloned()
                        .chain(value.iter().cloned())
                        .collect();
                    self.numeric(&assignment.name, &value)?;
                    self.assign(&assignment.name, both);
                }
                match environment::of(&assignment.name, assignment.values.first()) {
                    environment::Influence::None => {}
                    environment::Influence::Some => run.flag(ShellFlag::Environment, ""),
                    environment::Influence::Code => {
                        run.flag(ShellFlag::Opaque, "a variable makes it run something else");
                    }
                }
            }
        }
        self.redirected_to(redirects, choice, &mut run)?;
        match run.argv.is_empty() {
            true if run.flags.is_empty() => Ok(()),
            true => self.push(None, run),
            false => self.run_in_shell(run),
        }
    }

    /// Behind `export` bash takes `x=$y` for an assignment, dash splits it like any word.
    fn declared_alike(
        &mut self,
        run: &Run,
        words: &[Word],
        choice: &super::expand::Choice,
    ) -> Result<(), Dark> {
        const DECLARE: &[&str] = &["export", "readonly", "declare", "typeset", "local"];
        let names = |field: &Field| field.known().is_some_and(|n| DECLARE.contains(&&*n));
        if !run.argv.iter().take(3).any(names) {
            return Ok(());
        }
        for word in words {
            if self.fields(std::slice::from_ref(word), choice)?.len() != 1 {
                return Err(Dark("a declaration is split by some shells only"));
            }
        }
        Ok(())
    }

    /// Redirections are the shell's doing: a rule about a command says nothing of where it is led.
    fn redirected_to(
        &mut self,
        redirects: &[Redirect],
        choice: &super::expand::Choice,
        run: &mut Run,
    ) -> Result<(), Dark> {
        let mut own = Run::default();
        self.redirects(redirects, choice, &mut own)?;
        if own.flags.contains(&ShellFlag::Background) {
            run.flags.insert(ShellFlag::Background);
        }
        match own.files.is_empty() && own.flags.is_empty() {
            true => Ok(()),
            false => self.push(None, own),
        }
    }

    fn assignment(&mut self, assignment: &Assignment) -> Result<(), Dark> {
        let mut value = Value::new();
        for word in &assignment.values {
            value = self.value(word)?;
        }
        if !assignment.plain {
            value = unknown();
        }
        self.influence(&assignment.name, &value)?;
        match assignment.plain {
            true => self.assign(&assignment.name, value),
            false => self.assign_array(&assignment.name),
        }
        Ok(())
    }

    /// What some shell evaluates on assignment must be a number.
    pub(super) fn numeric(&self, name: &str, value: &[Scalar]) -> Result<(), Dark> {
        let negative = |scalar: &Scalar| {
            let text = known(scalar);
            let digits = text.as_deref().and_then(|text| text.strip_prefix('-'));
            digits.is_some_and(|digits| is_number(&[Piece::Text(digits.to_owned())]))
        };
        let number = |s: &Scalar| s.is_empty() || is_number(s) || negative(s);
        match environment::is_evaluated(name) && !value.iter().all(number) {
            true => Err(Dark("some shells evaluate what this variable is set to")),
            false => Ok(()),
        }
    }

    /// Refuses variables by which the shell itself, or what it starts, does something else. `value`
    /// is empty where none is given.
    pub(super) fn influence(&self, name: &str, value: &[Scalar]) -> Result<(), Dark> {
        self.numeric(name, value)?;
        if self.frozen.contains(name) {
            return Err(Dark("a variable is set that is read-only"));
        }
        match environment::of(name, None) {
            environment::Influence::Code => Err(Dark(
                "a variable is set that makes programs run something else",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn assign_array(&mut self, name: &str) {
        self.assign(name, unknown());
        if self.state.variables.contains_key(name) {
            self.state.assign_array(name);
        }
    }

    pub(super) fn assign(&mut self, name: &str, value: Value) {
        if self.state.variables.len() < MOST_VARIABLES {
            self.state.assign(name, value);
        } else {
            // Nothing is known of any then.
            self.budget.set(0);
        }
    }

    /// A function, a built-in or a program, in this order.
    fn run_in_shell(&mut self, run: Run) -> Result<(), Dark> {
        let name = run.argv.first().and_then(Field::known);
        if let Some(name) = &name
            && let Some(bodies) = self.functions.get(name).cloned()
        {
            let certain = self.state.certain.contains(name);
            let before = self.state.clone();
            self.call(name, &bodies, &run)?;
            if !certain {
                self.state = std::mem::take(&mut self.state).join(before);
            } else {
                return Ok(());
            }
        }
        if name.as_deref() == Some("time") {
            self.timed(&run)?;
        }
        let shadowed = name
            .as_ref()
            .is_some_and(|name| self.functions.contains_key(name));
        match name {
            Some(name) if super::builtins::is_builtin(&name) => self.builtin(&name, run)?,
            _ => self.run(run)?,
        }
        // What a function of that name did instead goes on, whatever `exit` does.
        self.state.dead &= !shadowed;
        Ok(())
    }

    /// To some shells `time` is a word of the grammar, behind which functions and built-ins are what
    /// they are elsewhere; to others it is a program, as which it is gone through then.
    fn timed(&mut self, run: &Run) -> Result<(), Dark> {
        let mut inner = run.clone();
        inner.argv.remove(0);
        let option = |field: &Field| field.known().is_some_and(|a| a == "-p" || a == "--");
        while inner.argv.first().is_some_and(option) {
            inner.argv.remove(0);
        }
        let name = inner.argv.first().and_then(Field::known);
        let own = name.is_some_and(|name| {
            name == "time"
                || self.functions.contains_key(&name)
                || super::builtins::is_builtin(&name)
        });
        if !own {
            return Ok(());
        }
        let before = self.state.clone();
        self.deeper(|walk| walk.run_in_shell(inner))?;
        self.state = std::mem::take(&mut self.state).join(before);
        Ok(())
    }

    fn call(&mut self, name: &str, bodies: &[Rc<Command>], run: &Run) -> Result<(), Dark> {
        if self.calling.iter().any(|called| called == name) {
            return Err(Dark("a function calls itself"));
        }
        if !run.files.is_empty() || !run.flags.is_empty() {
            let mut redirect = run.clone();
            redirect.argv.clear();
            self.push(None, redirect)?;
        }
        let arguments = run.argv.get(1..).unwrap_or_default();
        let fixed = arguments.iter().all(|field| !field.many);
        let positional = fixed.then(|| arguments.iter().map(|f| f.pieces.clone()).collect());
        self.around.input = None;
        let outer = std::mem::replace(&mut self.state.positional, positional);
        self.calling.push(name.to_owned());
        self.locals.push(BTreeMap::new());
        let before = self.state.clone();
        let outside = self.returned.take();
        let mut end: Option<State> = None;
        for body in bodies {
            self.state = before.clone();
            self.command(body)?;
            let after = self.state.clone();
            end = Some(match end {
                Some(end) => end.join(after),
                None => after,
            });
        }
        self.calling.pop();
        // Wherever it returned, or at its end.
        if let Some(returned) = std::mem::replace(&mut self.returned, outside) {
            end = Some(match end {
                Some(end) => end.join(returned),
                None => returned,
            });
        }
        self.state = end.unwrap_or(before);
        self.state.positional = outer;
        // What a variable was before it became local it is again; whether it became so depends.
        for (name, old) in self.locals.pop().unwrap_or_default() {
            let now = self.state.variable(&name);
            let both = old.iter().chain(now.iter()).cloned().collect();
            self.assign(&name, both);
        }
        // `return` ends the function alone.
        self.state.dead = false;
        self.failed = None;
        Ok(())
    }

    /// Notes that the function being called is about to make a variable its own.
    pub(super) fn localise(&mut self, name: &str) {
        let value = self.state.variable(name);
        if let Some(frame) = self.locals.last_mut() {
            frame.entry(name.to_owned()).or_insert(value);
        }
    }

    pub(super) fn set_failed(&mut self, state: State) {
        self.failed = Some(state);
    }

    /// If the last command failed, this may be how the state is.
    pub(super) fn may_fail(&mut self, state: State) {
        let failed = self.failed.take().unwrap_or_else(|| self.state.clone());
        self.failed = Some(failed.join(state));
    }

    pub(super) fn note_return(&mut self) {
        note(&mut self.returned, &self.state);
    }

    pub(super) fn note_break(&mut self) {
        note(&mut self.broken, &self.state);
    }
}

fn note(kept: &mut Option<State>, state: &State) {
    *kept = Some(match kept.take() {
        Some(before) => before.join(state.clone()),
        None => state.clone(),
    });
}
