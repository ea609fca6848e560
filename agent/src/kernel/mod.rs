//! What the agent asks of the running kernel, and what it does to it. Knows no flow table and no sink.

pub mod btf;

pub mod layout;

#[cfg(test)]
pub(crate) mod fixtures;

pub mod symbols;

pub mod addresses;

pub mod netns;

pub mod module;

pub mod tool;

pub mod limits;

pub mod interface;

pub mod netlink;

pub mod sysctl;

pub mod tracking;

pub mod bpf;
