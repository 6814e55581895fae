//! Which columns of a result can carry what a detector finds, and in what form. Made once per
//! result; other columns are never looked at.

use crate::mask::FIRST_NORMAL_OID;
use crate::mask::detect::{Detectors, Id, Kind, Telling};
use crate::terminate::{Column, Columns};

/// Object ids of types (PostgreSQL's `pg_type.dat`).
mod kind {
    /// name, text, xml, unknown, character(n), varchar, cstring, tsvector.
    pub const TEXT: [u32; 8] = [19, 25, 142, 705, 1042, 1043, 2275, 3614];
    pub const JSON: u32 = 114;
    pub const JSONB: u32 = 3802;
    pub const BYTEA: u32 = 17;
    pub const INT8: u32 = 20;
    pub const NUMERIC: u32 = 1700;
    pub const RECORD: u32 = 2249;
    /// xml, name, text, character(n), varchar, cstring, record.
    pub const ARRAYS: [u32; 7] = [143, 1003, 1009, 1014, 1015, 1263, 2287];
    pub const JSON_ARRAYS: [u32; 2] = [199, 3807];
    pub const NUMBER_ARRAYS: [u32; 2] = [1016, 1231];
    pub const DATES: [u32; 3] = [1082, 1114, 1184];
    /// cidr, inet.
    pub const ADDRESSES: [u32; 2] = [650, 869];
}

/// How a value is read and what is put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text in either format.
    Text,
    /// Arrays, composites and types of the database's own in text form: what is put in may not end
    /// an element.
    Quoted,
    Json,
    /// jsonb in binary: a version, then text.
    Jsonb,
    /// bytea in text form.
    Hex,
    /// Text if it is UTF-8: bytea in binary, and what extensions bring (`citext`).
    Bytes,
    /// Arrays and composites in binary form.
    Nested(Nested),
    /// A number in text or binary form.
    Number {
        kind: u32,
        binary: bool,
    },
    /// Looked at as text; whatever is found makes the whole value NULL.
    Whole,
    /// A type that consists of what is masked: NULL, whatever it is.
    Always(Id),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nested {
    Array,
    Composite,
}

#[derive(Debug)]
pub(super) struct Field {
    pub form: Form,
    /// The column's label, where it says something about values.
    pub label: Option<Box<[u8]>>,
    /// What every value is, by the label.
    pub always: Option<Id>,
}

impl Field {
    /// Whether a value can only hold something where the batch has a mark.
    pub fn waits_for_marks(&self) -> bool {
        let marked = matches!(
            self.form,
            Form::Text
                | Form::Quoted
                | Form::Json
                | Form::Jsonb
                | Form::Bytes
                | Form::Nested(_)
                | Form::Whole
        );
        marked && self.always.is_none() && self.label.is_none()
    }
}

#[derive(Debug)]
pub(super) struct Plan {
    fields: Vec<Option<Field>>,
    /// Rows that nobody described: each value may be anything.
    unknown: Option<Field>,
    /// Some field is read without a mark.
    pub unmarked: bool,
}

impl Plan {
    pub fn of(detectors: &Detectors, columns: &Columns) -> Self {
        let fields = columns.columns.iter().map(|c| field(detectors, c));
        let fields: Vec<_> = fields.collect();
        Self {
            unmarked: fields.iter().flatten().any(|f| !f.waits_for_marks()),
            fields,
            unknown: None,
        }
    }

    pub fn unknown() -> Self {
        Self {
            fields: Vec::new(),
            unknown: Some(Field {
                form: Form::Bytes,
                label: None,
                always: None,
            }),
            unmarked: false,
        }
    }

    /// No column can hold anything.
    pub fn is_empty(&self) -> bool {
        self.unknown.is_none() && self.fields.iter().all(Option::is_none)
    }

    pub fn field(&self, index: usize) -> Option<&Field> {
        match &self.unknown {
            Some(unknown) => Some(unknown),
            None => self.fields.get(index)?.as_ref(),
        }
    }
}

fn field(detectors: &Detectors, column: &Column) -> Option<Field> {
    let told = detectors.telling(column.label.as_bytes());
    let mut form = form(detectors, column);
    let always = match told {
        Some(Telling::Value(id)) => Some(id),
        _ => None,
    };
    // A date is somebody's birth by its name only.
    if let Some(id) = always.filter(|_| kind::DATES.contains(&column.kind)) {
        form = (detectors.kind(id) == Some(Kind::BirthDate)).then_some(Form::Always(id));
    }
    let form = form?;
    // Of a column named like a birth only dates count, of a text named like a password all.
    let secret = always.filter(|id| detectors.is_password(*id));
    let named = matches!(form, Form::Text | Form::Quoted | Form::Bytes);
    Some(Field {
        form,
        always: secret.filter(|_| kind::TEXT.contains(&column.kind)),
        label: (told.is_some() && named).then(|| column.label.as_bytes().into()),
    })
}

fn form(detectors: &Detectors, column: &Column) -> Option<Form> {
    let binary = column.binary;
    let arrays = kind::ARRAYS.contains(&column.kind) || kind::JSON_ARRAYS.contains(&column.kind);
    let number = detectors.has(Kind::Card);
    Some(match column.kind {
        3614 if binary => return None,
        k if kind::TEXT.contains(&k) => Form::Text,
        kind::JSON => Form::Json,
        kind::JSONB if binary => Form::Jsonb,
        kind::JSONB => Form::Json,
        kind::BYTEA if binary => Form::Bytes,
        kind::BYTEA => Form::Hex,
        kind::RECORD if binary => Form::Nested(Nested::Composite),
        _ if arrays && binary => Form::Nested(Nested::Array),
        k if kind::JSON_ARRAYS.contains(&k) => Form::Whole,
        k if arrays || k == kind::RECORD => Form::Quoted,
        kind @ (kind::INT8 | kind::NUMERIC) if number => Form::Number { kind, binary },
        k if kind::NUMBER_ARRAYS.contains(&k) && number && !binary => Form::Whole,
        k if kind::ADDRESSES.contains(&k) => Form::Always(detectors.id(Kind::Ip)?),
        // A type of the database's own: an enumeration, a composite, what an extension brings.
        k if k >= FIRST_NORMAL_OID && binary => Form::Bytes,
        k if k >= FIRST_NORMAL_OID => Form::Quoted,
        _ => return None,
    })
}

/// The form of a part of a nested value, in binary.
pub(super) fn part(detectors: &Detectors, kind: u32) -> Option<Form> {
    let column = Column {
        label: String::new(),
        table: 0,
        attribute: 0,
        kind,
        binary: true,
    };
    form(detectors, &column)
}
