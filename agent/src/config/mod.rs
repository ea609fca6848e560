//! The configuration: from files, environment and flags to one typed, checked value.
//!
//! It is read in two steps. First every layer becomes a raw tree that remembers where each value stands
//! ([`Document`]: defaults < file < environment < flags). Then [`validate`] turns the tree into a [`Config`], or
//! into *all* that is wrong with it. Nothing here opens a socket, starts a task or ends the process.

mod aggregate;
mod annotations;
mod credential;
mod document;
mod environment;
mod filter;
mod json_schema;
mod problem;
mod reader;
mod schema;
mod search;
mod secret;
mod shape;
mod sinks;
mod spool;
mod units;
mod validate;

pub(crate) use aggregate::read as read_aggregate;
pub(crate) use credential::resolve as resolve_credential;
pub use document::Document;
pub use environment::PREFIX;
pub use json_schema::json_schema;
pub use problem::{Place, Problem, Problems};
pub(crate) use reader::Section;
pub use schema::{
    Choice, Config, FlowConfig, Hook, LogConfig, LogFormat, LogLevel, OutputConfig, OutputFormat, RateStep,
    RecordEvent, Slots, SourceConfig, SourceKind, Stream, Updates,
};
pub use search::{FILE_NAME, LoadError, Loaded, Override, Request, load};
pub use secret::{Revealed, Secret, SecretError, SecretInUse};
pub(crate) use sinks::ALL_EVENTS;
pub use sinks::{DeliveryConfig, QueueConfig, SinkConfig, SinkKind, WhenFull};
pub use spool::{Fsync, SpoolConfig};
pub use units::{UnitError, duration, size};
pub use validate::validate;

/// The annotated configuration: every option, its default and what it does. `configs/conntally.toml`.
pub const ANNOTATED: &str = include_str!("../../../configs/conntally.toml");
