//! The kernel's interfaces: what it is made of, what it offers, and how to read it.
//!
//! In: the kernel's own descriptions of itself (BTF, symbols, security state). Out: plain values that say where
//! things are and what is possible. Nothing here knows flows or sinks.

pub mod btf;

pub mod layout;

pub mod symbols;

pub mod netns;

#[cfg(test)]
mod fixtures;
