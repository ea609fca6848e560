//! InfluxDB: points of groups, or records of flows, as line protocol; by the HTTP interface of version 2 or 1, or by UDP.
//!
//! Items enter, requests leave, answers become outcomes. Knows no queue and repeats nothing.

mod line;

mod encode;

#[cfg(test)]
mod tests;

pub use encode::{Series, ToLine};
