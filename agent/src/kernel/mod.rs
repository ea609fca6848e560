//! What the agent asks of the running kernel: namespaces and netlink. Knows no flow table and no sink.

pub mod netns;

pub mod sysctl;

pub mod netlink;

pub mod tracking;
