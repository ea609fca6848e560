//! The way of records from the flow table to the sinks: filter, enrich, and for each sink a queue and a driver.

mod item;
mod outcome;
mod queue;
mod request;
mod retry;
mod sink;

pub use item::{Item, Weight};
pub use outcome::{GivenUp, Outcome};
pub use request::Request;
pub use sink::Sink;
