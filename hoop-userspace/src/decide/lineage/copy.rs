//! How `COPY … TO STDOUT` writes rows, as far as masks can follow (PostgreSQL manual, "COPY").

/// The format with its options.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CopyForm {
    /// The binary format, which has no options.
    pub binary: bool,
    pub csv: bool,
    pub delimiter: u8,
    /// CSV only, like `escape`.
    pub quote: u8,
    pub escape: u8,
    /// What stands for NULL, unquoted.
    pub null: Box<str>,
    /// The first line holds the columns' names.
    pub header: bool,
}

impl CopyForm {
    pub fn text() -> Self {
        Self {
            binary: false,
            csv: false,
            delimiter: b'\t',
            quote: b'"',
            escape: b'"',
            null: "\\N".into(),
            header: false,
        }
    }

    pub fn csv() -> Self {
        Self {
            csv: true,
            delimiter: b',',
            null: "".into(),
            ..Self::text()
        }
    }

    pub fn binary() -> Self {
        Self {
            binary: true,
            ..Self::text()
        }
    }
}
