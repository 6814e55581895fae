//! PostgreSQL (under construction)
