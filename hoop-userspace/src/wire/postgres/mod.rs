//! PostgreSQL's frontend/backend protocol, version 3.

pub mod login;
