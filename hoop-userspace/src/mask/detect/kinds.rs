//! The detectors that there are, and the groups that stand for several of them.

/// A detector that hoop brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Email,
    Phone,
    BirthDate,
    UsSsn,
    UkNino,
    DeTaxId,
    FrNir,
    EsNif,
    ItFiscalCode,
    NlBsn,
    BrCpf,
    InAadhaar,
    Card,
    Iban,
    PrivateKey,
    Jwt,
    ApiKey,
    Password,
    Token,
    ConnectionString,
    Ip,
}

use Kind::*;

/// Every detector by its name in the configuration.
const KINDS: [(&str, Kind); 21] = [
    ("email", Email),
    ("phone", Phone),
    ("birth-date", BirthDate),
    ("us-ssn", UsSsn),
    ("uk-nino", UkNino),
    ("de-tax-id", DeTaxId),
    ("fr-nir", FrNir),
    ("es-nif", EsNif),
    ("it-fiscal-code", ItFiscalCode),
    ("nl-bsn", NlBsn),
    ("br-cpf", BrCpf),
    ("in-aadhaar", InAadhaar),
    ("card", Card),
    ("iban", Iban),
    ("private-key", PrivateKey),
    ("jwt", Jwt),
    ("api-key", ApiKey),
    ("password", Password),
    ("token", Token),
    ("connection-string", ConnectionString),
    ("ip", Ip),
];

const NATIONAL_ID: &[Kind] = &[
    UsSsn,
    UkNino,
    DeTaxId,
    FrNir,
    EsNif,
    ItFiscalCode,
    NlBsn,
    BrCpf,
    InAadhaar,
];

/// Names that stand for several detectors.
const GROUPS: [(&str, &[&[Kind]]); 4] = [
    ("pii", &[&[Email, Phone, BirthDate], NATIONAL_ID]),
    ("national-id", &[NATIONAL_ID]),
    ("financial", &[&[Card, Iban]]),
    (
        "secrets",
        &[&[PrivateKey, Jwt, ApiKey, Password, Token, ConnectionString]],
    ),
];

impl Kind {
    pub fn name(self) -> &'static str {
        let mut kinds = KINDS.iter();
        kinds.find(|(_, kind)| *kind == self).map_or("", |k| k.0)
    }

    /// The detectors that a name stands for: itself, or a group's. `None` for a name that there
    /// is not.
    pub fn named(name: &str) -> Option<Vec<Self>> {
        if let Some((_, kind)) = KINDS.iter().find(|(n, _)| *n == name) {
            return Some(vec![*kind]);
        }
        let (_, kinds) = GROUPS.iter().find(|(n, _)| *n == name)?;
        Some(kinds.concat())
    }

    /// Every name that [`Kind::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let kinds = KINDS.iter().map(|(name, _)| *name);
        kinds.chain(GROUPS.iter().map(|(name, _)| *name))
    }

    /// All detectors.
    #[cfg(test)]
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(_, kind)| *kind)
    }
}

/// Some of the detectors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Set(u32);

impl Set {
    pub fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u32)
    }

    pub fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }

    pub fn has_any(self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| self.has(*kind))
    }
}
