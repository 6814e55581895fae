//! The world that the demo, the scenarios and the bench share: real parts, made and removed by us.
//!
//! A [`World`] is a PostgreSQL server, an OpenID provider, the daemon with its kernel programs and
//! a tree of agent cgroups, in a mount namespace where the original hostname resolves. Every
//! process of it lives in one cgroup that we made, which is how all of it goes away at the end.

mod agent;
pub mod browser;
pub mod certificates;
mod client;
mod daemon;
mod files;
pub mod idle;
mod interrupt;
mod issuer;
pub mod kubernetes;
mod place;
mod postgres;
mod ran;
mod recording;
mod settings;
pub mod sshd;
mod state;
mod world;

pub mod enter;
pub mod janitor;

pub use agent::Who;
pub use client::Client;
pub use daemon::Daemon;
pub use files::{program, target};
pub use interrupt::Interrupt;
pub use issuer::Issuer;
pub use kubernetes::Kubernetes;
pub use place::Place;
pub use postgres::{PASSWORD, Postgres, TRUSTED};
pub use ran::{Ran, run, wait, wait_within};
pub use recording::{Exchange, Recording};
pub use settings::{ASKS, AgentSettings, READER, Settings, WRITER};
pub use sshd::Sshd;
pub use state::State;
pub use world::{PATIENCE, World};
