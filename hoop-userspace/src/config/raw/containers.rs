//! Containers as the file has them.

use serde::Deserialize;
use toml::Spanned;

use super::{OneOrMany, Text};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Containers {
    pub docker: Option<Text>,
    pub containerd: Option<Text>,
    pub storage: Option<Text>,
}

/// One `"key=value"` or a list of them.
pub(in super::super) type Said = Spanned<OneOrMany>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ContainerPick {
    pub name: Option<Text>,
    pub image: Option<Text>,
    pub label: Option<Said>,
    pub annotation: Option<Said>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct PodPick {
    pub namespace: Text,
    pub name: Option<Text>,
    pub container: Option<Text>,
    pub image: Option<Text>,
    pub label: Option<Said>,
    pub annotation: Option<Said>,
}
