//! The way of records from the flow table to the sinks: filter, enrich, and for each sink a queue and a driver.

mod aggregate;
mod item;
mod outcome;
mod request;
mod sink;

pub use aggregate::{Group, Point, Sums, TagName};
pub use item::{Item, Weight};
pub use outcome::{GivenUp, Outcome};
pub use request::Request;
pub use sink::Sink;
