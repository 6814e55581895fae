//! (under construction)

pub mod trust;
