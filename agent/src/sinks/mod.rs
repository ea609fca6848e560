//! Where records go. Records enter, bytes leave; nothing here knows where records come from.

mod digits;

pub mod time;

pub mod names;

pub mod json;

pub mod table;

pub mod http;

pub mod elasticsearch;

pub mod stdout;

pub mod tally;

pub mod null;

#[cfg(test)]
pub(crate) mod samples;
