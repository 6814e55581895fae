//! A long list: one element at a time is read and masked.
//!
//! The members of the answer are told apart without being understood; each is read and masked when
//! it is complete, and so is each element of `items` (of a Table `rows`). As one value a list would
//! take several times the memory of its bytes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::object::Work;
use super::{KubernetesMasks, MAX_OBJECT, Place, Unmaskable};
use crate::wire::kubernetes::json;

/// Members of a list's own: API servers give it four.
const MAX_MEMBERS: usize = 64;

/// Whether a document says of itself that it is a list or a Table. API servers say that first.
pub(super) fn begins(document: &[u8]) -> bool {
    let mut rest = document;
    for expected in [&b"{"[..], b"\"kind\"", b":", b"\""] {
        match rest.trim_ascii_start().strip_prefix(expected) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    let kind = rest.split(|byte| *byte == b'"').next().unwrap_or_default();
    kind == b"Table" || kind.ends_with(b"List")
}

/// A list being masked.
#[derive(Debug)]
pub struct ListMasking<'m> {
    masks: &'m KubernetesMasks,
    place: Place<'m>,
    awaits: Awaits,
    /// Of the member that stands next.
    name: String,
    /// Members that came.
    names: BTreeSet<String>,
    /// Of the answer, where it came before.
    kind: String,
    /// What is held: the value at hand.
    held: Vec<u8>,
    scan: Scan,
    values: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Document,
    /// A member's name, or the end.
    Name,
    InName {
        escape: bool,
    },
    Colon,
    /// The value of a member.
    Value,
    InValue,
    /// An element of the list, or its end.
    Element,
    InElement,
    /// A comma or the end, of the members.
    Comma,
    /// The same, of the elements.
    ElementComma,
    /// Nothing but space.
    Nothing,
}

/// How far a value has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scan {
    depth: usize,
    text: bool,
    escape: bool,
    /// A number or a word, which what stands behind it ends.
    word: bool,
}

impl Scan {
    fn begin(byte: u8) -> Self {
        Self {
            depth: usize::from(matches!(byte, b'{' | b'[')),
            text: byte == b'"',
            escape: false,
            word: !matches!(byte, b'{' | b'[' | b'"'),
        }
    }

    /// Takes a byte of the value; whether it was the last.
    fn step(&mut self, byte: u8) -> bool {
        if self.text {
            match byte {
                _ if self.escape => self.escape = false,
                b'\\' => self.escape = true,
                b'"' => {
                    self.text = false;
                    return self.depth == 0;
                }
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

impl<'m> ListMasking<'m> {
    pub(super) fn new(masks: &'m KubernetesMasks, place: Place<'m>) -> Self {
        Self {
            masks,
            place,
            awaits: Awaits::Document,
            name: String::new(),
            names: BTreeSet::new(),
            kind: String::new(),
            held: Vec::new(),
            scan: Scan::default(),
            values: 0,
        }
    }

    /// Takes what came, and appends what can be sent on.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        for byte in bytes {
            self.take(*byte, out)?;
        }
        Ok(())
    }

    /// The answer is complete; returns how many values were masked in it.
    pub fn finish(self) -> Result<u64, Unmaskable> {
        match self.awaits {
            Awaits::Nothing => Ok(self.values),
            _ => Err(Unmaskable::Unfinished),
        }
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.awaits {
            Awaits::InName { escape } => {
                self.hold(byte)?;
                self.awaits = match byte {
                    _ if escape => Awaits::InName { escape: false },
                    b'\\' => Awaits::InName { escape: true },
                    b'"' => {
                        match json::parse(&self.held)? {
                            Value::String(name) => self.named(name)?,
                            _ => return malformed(),
                        }
                        out.append(&mut self.held);
                        Awaits::Colon
                    }
                    _ => Awaits::InName { escape: false },
                };
                return Ok(());
            }
            Awaits::InValue | Awaits::InElement => return self.within(byte, space, out),
            _ if space => {
                out.push(byte);
                return Ok(());
            }
            _ => {}
        }
        self.awaits = match (self.awaits, byte) {
            (Awaits::Document, b'{') => Awaits::Name,
            (Awaits::Name, b'"') => {
                self.hold(byte)?;
                self.awaits = Awaits::InName { escape: false };
                return Ok(());
            }
            (Awaits::Name | Awaits::Comma, b'}') => Awaits::Nothing,
            (Awaits::Colon, b':') => Awaits::Value,
            (Awaits::Value, b'[') if self.streams() => Awaits::Element,
            (Awaits::Value, _) => return self.begin(byte, Awaits::InValue),
            (Awaits::Element | Awaits::ElementComma, b']') => Awaits::Comma,
            (Awaits::Element, _) => return self.begin(byte, Awaits::InElement),
            (Awaits::Comma, b',') => Awaits::Name,
            (Awaits::ElementComma, b',') => Awaits::Element,
            _ => return malformed(),
        };
        out.push(byte);
        Ok(())
    }

    /// A member's name has come. One that stands twice has no one meaning.
    fn named(&mut self, name: String) -> Result<(), Unmaskable> {
        if self.names.len() >= MAX_MEMBERS || !self.names.insert(name.clone()) {
            return Err(json::Unreadable(format!("{name:?} stands twice in a list")).into());
        }
        self.name = name;
        Ok(())
    }

    fn streams(&self) -> bool {
        self.name == "items" || self.name == "rows"
    }

    fn begin(&mut self, byte: u8, awaits: Awaits) -> Result<(), Unmaskable> {
        if matches!(byte, b',' | b':' | b'}' | b']') {
            return malformed();
        }
        self.scan = Scan::begin(byte);
        self.awaits = awaits;
        self.hold(byte)
    }

    fn within(&mut self, byte: u8, space: bool, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if self.scan.word {
            if !space && !matches!(byte, b',' | b'}' | b']') {
                return self.hold(byte);
            }
            self.complete(out)?;
            return self.take(byte, out);
        }
        self.hold(byte)?;
        match self.scan.step(byte) {
            true => self.complete(out),
            false => Ok(()),
        }
    }

    fn complete(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let held = std::mem::take(&mut self.held);
        let mut value = json::parse(&held)?;
        let mut work = Work::new(self.masks, self.place);
        match self.awaits {
            Awaits::InElement => {
                let of = self.name.clone();
                work.element(&of, &mut value, &self.kind);
                self.awaits = Awaits::ElementComma;
            }
            _ => {
                if let ("kind", Value::String(kind)) = (self.name.as_str(), &value) {
                    self.kind.clone_from(kind);
                }
                self.member(&mut work, &mut value);
                self.awaits = Awaits::Comma;
            }
        }
        match work.values {
            0 => out.extend_from_slice(&held),
            values => {
                self.values += values;
                out.extend_from_slice(value.to_string().as_bytes());
            }
        }
        // Kept for the next, unless it was a large one.
        self.held = match held.capacity() > 1 << 20 {
            true => Vec::new(),
            false => {
                let mut held = held;
                held.clear();
                held
            }
        };
        Ok(())
    }

    /// A member that is no element. An answer that turns out to be no list is masked member by
    /// member, as the object that it is.
    fn member(&self, work: &mut Work<'_>, value: &mut Value) {
        match (
            self.kind.ends_with("List") || self.kind == "Table",
            &*self.name,
        ) {
            (true, name) => work.member(name, value, &self.kind),
            (false, "kind" | "apiVersion") => {}
            (false, name) => {
                let mut object = serde_json::Map::new();
                object.insert("kind".into(), self.kind.clone().into());
                object.insert(name.to_owned(), value.take());
                work.object(&mut object, None);
                *value = object.remove(name).unwrap_or_default();
            }
        }
    }

    fn hold(&mut self, byte: u8) -> Result<(), Unmaskable> {
        if self.held.len() >= MAX_OBJECT {
            return Err(Unmaskable::TooLarge);
        }
        self.held.push(byte);
        Ok(())
    }
}

fn malformed<T>() -> Result<T, Unmaskable> {
    Err(json::Unreadable("it is no JSON object".into()).into())
}
