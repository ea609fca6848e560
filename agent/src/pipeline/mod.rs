//! The way of records from the flow table to the sinks: filter, enrich, and for each sink a queue and a driver.

pub mod aggregate;
pub mod filter;
mod item;
pub mod networks;
mod outcome;
mod request;
pub mod services;
mod sink;

pub use aggregate::{Group, Point, Sums, TagName};
pub use item::{Item, Weight};
pub use networks::{Direction, Networks};
pub use outcome::{GivenUp, Outcome};
pub use request::Request;
pub use sink::Sink;
