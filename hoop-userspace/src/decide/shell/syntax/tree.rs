//! What a shell text is made of, once it is parsed.

use std::cell::OnceCell;
use std::rc::Rc;

pub(in crate::decide::shell) type List = Vec<Item>;

/// Pipelines joined by `&&` and `||`, up to `;`, `&` or the end of the line.
#[derive(Debug)]
pub(in crate::decide::shell) struct Item {
    pub first: Pipeline,
    /// Each may run or not.
    pub rest: Vec<(Join, Pipeline)>,
    pub background: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decide::shell) enum Join {
    And,
    Or,
}

#[derive(Debug)]
pub(in crate::decide::shell) struct Pipeline(pub Vec<Command>);

#[derive(Debug)]
pub(in crate::decide::shell) struct Command {
    pub kind: Kind,
    pub redirects: Vec<Redirect>,
}

#[derive(Debug)]
pub(in crate::decide::shell) enum Kind {
    Simple {
        assignments: Vec<Assignment>,
        words: Vec<Word>,
    },
    Group(List),
    Subshell(List),
    If {
        /// Condition and body, by turns: `if`, each `elif`.
        branches: Vec<(List, List)>,
        otherwise: Option<List>,
    },
    While {
        condition: List,
        body: List,
    },
    For {
        name: String,
        /// `None` goes through the positional parameters.
        words: Option<Vec<Word>>,
        body: List,
    },
    /// `for ((…))`
    Count {
        header: Word,
        body: List,
    },
    Case {
        word: Word,
        arms: Vec<(Vec<Word>, List)>,
    },
    Function {
        name: String,
        body: Rc<Command>,
        /// Written with `function`, which shells that do not know it take for a command's name:
        /// they run the body's lines as they come.
        keyword: bool,
        /// Whoever goes on behind it has defined the function.
        certain: bool,
    },
    /// `[[ … ]]`
    Test(Vec<Word>),
}

#[derive(Debug)]
pub(in crate::decide::shell) struct Assignment {
    pub name: String,
    /// `+=`, an array, an element: the value is not followed.
    pub plain: bool,
    pub values: Vec<Word>,
}

#[derive(Debug)]
pub(in crate::decide::shell) struct Redirect {
    pub kind: RedirectKind,
    pub target: Word,
    /// The descriptor, where one is written.
    pub descriptor: Option<u32>,
}

#[derive(Debug)]
pub(in crate::decide::shell) enum RedirectKind {
    Read,
    Write,
    Append,
    ReadWrite,
    /// `&>`, which other shells read as `&` and `>`.
    WriteBoth,
    AppendBoth,
    /// `<&` and `>&`: a descriptor, or with `>&` a file.
    Duplicate {
        output: bool,
    },
    /// The text comes with the lines that follow.
    Here(Rc<OnceCell<Word>>),
    HereString,
}

#[derive(Clone, Debug, Default)]
pub(in crate::decide::shell) struct Word(pub Vec<Part>);

#[derive(Clone, Debug)]
pub(in crate::decide::shell) enum Part {
    /// Outside quotes: braces, tildes and patterns count.
    Bare(String),
    Quoted(String),
    Variable(Rc<Variable>),
    Substitution {
        list: Rc<List>,
        quoted: bool,
    },
    Arithmetic {
        expression: Rc<Word>,
    },
    /// `<(…)` and `>(…)`
    Process(Rc<List>),
}

#[derive(Debug)]
pub(in crate::decide::shell) struct Variable {
    pub name: String,
    pub operation: Operation,
    pub operand: Word,
    pub quoted: bool,
    /// Written without braces, so that its name goes on with what comes to stand behind it.
    pub open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decide::shell) enum Operation {
    None,
    /// `:-`; with `assign`, `:=`.
    Default {
        assign: bool,
    },
    /// `:+`
    Instead,
    /// `-`, `=` and `+`, which ask whether the variable is set: that is not followed.
    IfSet {
        assign: bool,
    },
    /// `:?` and `?`
    OrFail,
    /// Lengths, pieces, replacements: the result is not followed.
    Other,
    /// All elements of an array: several words, even within quotes.
    Elements,
}

impl Word {
    /// The text, if it is one piece outside quotes.
    pub(in crate::decide::shell) fn bare(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Bare(text)] => Some(text),
            _ => None,
        }
    }

    pub(in crate::decide::shell) fn push_bare(&mut self, c: char) {
        match self.0.last_mut() {
            Some(Part::Bare(text)) => text.push(c),
            _ => self.0.push(Part::Bare(c.into())),
        }
    }

    pub(in crate::decide::shell) fn push_quoted(&mut self, more: &str) {
        match self.0.last_mut() {
            Some(Part::Quoted(text)) => text.push_str(more),
            _ => self.0.push(Part::Quoted(more.to_owned())),
        }
    }
}
