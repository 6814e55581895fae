//! The kernel programs at work: real programs attached to a cgroup that each test makes, and real
//! sockets of processes in it. Needs root; everything stays on loopback and below that cgroup.

mod bypass;
mod ground;
mod lifecycle;
mod load;
mod lsm;
mod namespaces;
mod redirect;
mod refusals;
