//! Records become sums of groups over intervals.

mod point;

pub use point::{Group, Point, Sums, TagName};
