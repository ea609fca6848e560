//! conntally: exact flow accounting from the kernel's connection tracking.
//!
//! The modules stand in the order of the data: what a flow is ([`model`]), the kernel interfaces ([`kernel`]),
//! where observations come from ([`source`]), how they become records ([`flow`]), what outlives a process ([`state`]),
//! where records go ([`sinks`]), how much of what the kernel counted that was ([`audit`]); then what a person meets:
//! [`config`], [`check`], [`cli`].

pub mod model;

mod causes;

mod clock;

mod folder;

pub mod pipeline;

pub mod kernel;

pub mod source;

pub mod flow;

pub mod state;

pub mod sinks;

pub mod audit;

pub mod config;

pub mod check;

pub mod cli;
