//! The way of records from the flow table to the sinks: filter, enrich, and for each sink a queue and a driver.

pub mod aggregate;
mod batch;
mod delivery;
mod driver;
#[cfg(test)]
mod driver_tests;
pub mod filter;
mod folded;
#[cfg(test)]
mod folded_tests;
mod guard;
mod handle;
mod inlet;
mod item;
pub mod networks;
mod outcome;
mod queue;
mod request;
mod retry;
pub mod services;
mod shared;
mod sink;
mod size;
pub mod spool;
mod spooled;
mod spooled_since;
#[cfg(test)]
mod spooled_tests;
mod status;
mod tally;
mod voice;

pub use aggregate::{Group, Point, Sums, TagName};
pub use driver::{spawn, spawn_beside, spawn_with};
pub use folded::{Fold, Folded};
pub use handle::{Handle, Offered};
pub use inlet::{Inlet, Wait};
pub use item::{Item, Items, Weight};
pub use networks::{Direction, Networks};
pub use outcome::{GivenUp, Outcome};
pub use request::Request;
pub use sink::Sink;
pub use status::{Stated, Status, Subject, Whole};
pub use tally::Report;
pub use voice::Trouble;
