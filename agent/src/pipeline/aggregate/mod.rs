//! Records become sums of groups over intervals.
//!
//! Records enter, points leave: each record in exactly one point. Knows no sink and no clock: it is told the time.

mod aggregator;
mod candidates;
mod grouping;
mod interval;
mod key;
mod open_flows;
mod point;
mod saved;
mod series;
#[cfg(test)]
mod tests;

pub use aggregator::{AggregateConfig, Aggregator};
pub use grouping::{AddressBy, Ends, Grouping, PortBy};
pub use point::{Group, Point, Sums, TagName};
pub use saved::{Restored, SavedError};
