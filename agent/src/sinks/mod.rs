//! Where records go. Records enter, bytes leave; nothing here knows where records come from.

mod address;

mod digits;

mod draft;

pub mod time;

pub mod names;

pub mod json;

pub mod table;

pub mod http;

pub mod elasticsearch;

mod logfmt;

pub mod stdio;

pub mod tally;

pub mod influxdb;

pub mod null;

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
pub(crate) mod held;
