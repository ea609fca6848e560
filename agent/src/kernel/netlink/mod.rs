//! Netlink as netfilter speaks it: bytes to and from the kernel become conntrack messages and nf_tables requests.

pub mod attribute;

pub mod message;

pub mod socket;

pub mod conntrack;

pub mod dump;

pub mod nftables;
