//! The kernel's own description of its types (Documentation/bpf/btf.rst), as much of it as finding a
//! field by name takes.
//!
//! aya reads BTF too, and keeps what is in it to itself.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
/// Unnamed structures within each other, and names for names, that are followed.
const DEPTH: usize = 16;
/// Types that are looked at; kernels have some 150,000.
const MOST: usize = 1 << 21;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// All types, by number.
pub struct Btf<'b> {
    types: &'b [u8],
    strings: &'b [u8],
    /// Where each begins; number 0 is void.
    starts: Vec<usize>,
    /// The first structure of each name: a kernel has tens of thousands, so they are not searched.
    records: HashMap<&'b [u8], u32>,
}

/// Where a field is, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the beginning of the outermost structure.
    pub offset: u32,
    pub shape: Shape,
}

/// What a field is, as far as reading it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Pointer,
    /// Of so many bytes.
    Number(u32),
    Array,
    /// A structure or union of so many bytes.
    Record(u32),
    Other,
}

/// `struct btf_type`.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// Members, values or parameters that follow.
    count: usize,
    /// Members are bit fields.
    bits: bool,
    /// The size, or the number of another type.
    size_or_type: u32,
}

impl<'b> Btf<'b> {
    /// `None` if it is not what it should be, in whatever way.
    pub fn parse(bytes: &'b [u8]) -> Option<Self> {
        if u16_at(bytes, 0)? != MAGIC {
            return None;
        }
        let header = usize_at(bytes, 4)?;
        let section = |at: usize| -> Option<&'b [u8]> {
            let start = header.checked_add(usize_at(bytes, at)?)?;
            bytes.get(start..start.checked_add(usize_at(bytes, at + 4)?)?)
        };
        let mut btf = Self {
            types: section(8)?,
            strings: section(16)?,
            starts: vec![0],
            records: HashMap::new(),
        };
        let mut at = 0;
        while at < btf.types.len() {
            let of = btf.read(at)?;
            if btf.starts.len() > MOST {
                return None;
            }
            if of.kind == STRUCT && of.name != 0 {
                let number = u32::try_from(btf.starts.len()).ok()?;
                let name = btf.string(of.name)?;
                btf.records.entry(name).or_insert(number);
            }
            btf.starts.push(at);
            at += HEAD + of.rest()?;
        }
        Some(btf)
    }

    /// A field of a structure, by the names of the structures on the way.
    pub fn place(&self, record: &str, path: &[&str]) -> Option<Place> {
        let mut at = *self.records.get(record.as_bytes())?;
        let mut offset = 0_u32;
        for name in path {
            let (within, of) = self.member(at, name, DEPTH)?;
            offset = offset.checked_add(within)?;
            at = self.plain(of)?;
        }
        let shape = self.shape(at)?;
        Some(Place { offset, shape })
    }

    fn shape(&self, number: u32) -> Option<Shape> {
        let of = self.of(number)?;
        Some(match of.kind {
            PTR => Shape::Pointer,
            INT => Shape::Number(of.size_or_type),
            ARRAY => Shape::Array,
            STRUCT | UNION => Shape::Record(of.size_or_type),
            _ => Shape::Other,
        })
    }

    /// A member by name, in unnamed ones too: where it is, and the number of its type.
    fn member(&self, record: u32, name: &str, depth: usize) -> Option<(u32, u32)> {
        let of = self.of(record)?;
        if !matches!(of.kind, STRUCT | UNION) || depth == 0 {
            return None;
        }
        let start = *self.starts.get(usize::try_from(record).ok()?)? + HEAD;
        for index in 0..of.count {
            let at = start + index * MEMBER;
            let named = self.string(u32_at(self.types, at)?)?;
            let number = u32_at(self.types, at + 4)?;
            let place = u32_at(self.types, at + 8)?;
            // With bit fields about, the upper byte is a width.
            let (width, place) = match of.bits {
                true => (place >> 24, place & 0xff_ffff),
                false => (0, place),
            };
            if named == name.as_bytes() {
                return (width == 0 && place % 8 == 0).then_some((place / 8, number));
            }
            if named.is_empty()
                && let Some(plain) = self.plain(number)
                && let Some((within, found)) = self.member(plain, name, depth - 1)
            {
                return Some(((place / 8).checked_add(within)?, found));
            }
        }
        None
    }

    /// Without qualifiers and other names.
    fn plain(&self, mut number: u32) -> Option<u32> {
        for _ in 0..DEPTH {
            let of = self.of(number)?;
            if !matches!(of.kind, TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG) {
                return Some(number);
            }
            number = of.size_or_type;
        }
        None
    }

    fn of(&self, number: u32) -> Option<Type> {
        if number == 0 {
            return None;
        }
        self.read(*self.starts.get(usize::try_from(number).ok()?)?)
    }

    fn read(&self, at: usize) -> Option<Type> {
        let info = u32_at(self.types, at + 4)?;
        Some(Type {
            name: u32_at(self.types, at)?,
            kind: info >> 24 & 0x1f,
            count: usize::try_from(info & 0xffff).ok()?,
            bits: info >> 31 == 1,
            size_or_type: u32_at(self.types, at + 8)?,
        })
    }

    fn string(&self, at: u32) -> Option<&'b [u8]> {
        let from = self.strings.get(usize::try_from(at).ok()?..)?;
        from.split(|byte| *byte == 0).next()
    }
}

/// Bytes of `struct btf_type`, and of `struct btf_member`.
const HEAD: usize = 12;
const MEMBER: usize = 12;

impl Type {
    /// Bytes that follow its head; `None` for a kind that is not known, whose end nobody knows either.
    fn rest(self) -> Option<usize> {
        let each = match self.kind {
            INT | VAR | DECL_TAG => return Some(4),
            ARRAY => return Some(12),
            PTR | FORWARD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
            STRUCT | UNION | DATASEC | ENUM64 => 12,
            ENUM | FUNC_PROTO => 8,
            _ => return None,
        };
        Some(each * self.count)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(two.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Makes types, as a compiler would.
    pub struct Types {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    impl Types {
        pub fn new() -> Self {
            Self {
                types: Vec::new(),
                strings: vec![0],
                count: 0,
            }
        }

        fn add(&mut self, name: &str, kind: u32, count: usize, last: u32, rest: &[u32]) -> u32 {
            let name = self.name(name);
            let info = kind << 24 | u32::try_from(count).unwrap();
            for word in [name, info, last].iter().chain(rest) {
                self.types.extend(word.to_le_bytes());
            }
            self.count += 1;
            self.count
        }

        fn name(&mut self, name: &str) -> u32 {
            if name.is_empty() {
                return 0;
            }
            let at = u32::try_from(self.strings.len()).unwrap();
            self.strings.extend(name.as_bytes());
            self.strings.push(0);
            at
        }

        pub fn int(&mut self, name: &str, size: u32) -> u32 {
            self.add(name, INT, 0, size, &[8 * size])
        }

        pub fn pointer(&mut self, to: u32) -> u32 {
            self.add("", PTR, 0, to, &[])
        }

        pub fn array(&mut self, of: u32) -> u32 {
            self.add("", ARRAY, 0, 0, &[of, of, 0])
        }

        pub fn typedef(&mut self, name: &str, of: u32) -> u32 {
            self.add(name, TYPEDEF, 0, of, &[])
        }

        pub fn constant(&mut self, of: u32) -> u32 {
            self.add("", CONST, 0, of, &[])
        }

        pub fn record(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
            self.with_members(name, STRUCT, size, members)
        }

        pub fn union(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
            self.with_members(name, UNION, size, members)
        }

        fn with_members(
            &mut self,
            name: &str,
            kind: u32,
            size: u32,
            members: &[(&str, u32, u32)],
        ) -> u32 {
            let words: Vec<u32> = members
                .iter()
                .flat_map(|(name, of, at)| [self.name(name), *of, at * 8])
                .collect();
            self.add(name, kind, members.len(), size, &words)
        }

        pub fn bytes(&self) -> Vec<u8> {
            let types = u32::try_from(self.types.len()).unwrap();
            let strings = u32::try_from(self.strings.len()).unwrap();
            let mut bytes = vec![0x9f, 0xeb, 1, 0];
            for word in [24, 0, types, types, strings] {
                bytes.extend(u32::to_le_bytes(word));
            }
            bytes.extend(&self.types);
            bytes.extend(&self.strings);
            bytes
        }
    }

    fn some() -> Vec<u8> {
        let mut types = Types::new();
        let int = types.int("int", 4);
        let inner = types.union("", 8, &[("deep", int, 0)]);
        types.record("outer", 16, &[("first", int, 0), ("", inner, 8)]);
        types.bytes()
    }

    #[test]
    fn a_field_is_found_by_name_in_unnamed_ones_too() {
        let bytes = some();
        let btf = Btf::parse(&bytes).unwrap();
        let place = |offset| {
            Some(Place {
                offset,
                shape: Shape::Number(4),
            })
        };
        assert_eq!(btf.place("outer", &["first"]), place(0));
        assert_eq!(btf.place("outer", &["deep"]), place(8));
        assert_eq!(btf.place("outer", &["none"]), None);
        assert_eq!(btf.place("outer", &["first", "none"]), None);
        assert_eq!(btf.place("none", &["first"]), None);
    }

    #[test]
    fn an_unknown_kind_ends_it() {
        let mut types = Types::new();
        types.add("new", 31, 0, 0, &[]);
        assert!(Btf::parse(&types.bytes()).is_none());
    }

    proptest! {
        #[test]
        fn no_damage_panics(at in 0_usize..200, byte: u8, cut in 0_usize..300) {
            let mut bytes = some();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            if let Some(btf) = Btf::parse(&bytes) {
                let _ = btf.place("outer", &["deep"]);
            }
        }
    }
}
