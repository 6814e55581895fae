//! (under construction)
pub mod postgres;
