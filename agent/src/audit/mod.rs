//! How much of what the kernel counted was delivered, and where the rest is.
//!
//! Sums enter (those that the kernel side keeps of every end, the flow table's books, what the output dropped), a
//! statement leaves. It rests on one identity, in flows, packets and bytes:
//!
//! ended + living − baseline = delivered + not yet due + filtered + lost by reason
//!
//! where *ended* is what the kernel side counted whether or not an end was delivered, *living* what the table and the
//! last walk know of flows that live, and *baseline* what flows had moved before the accounting began. A lost end
//! counts as its final totals minus what was delivered of its flow before. Nothing here knows a kernel, a file or a
//! clock.

mod evidence;

mod completeness;

mod statement;

mod window;

mod auditor;

mod render;

#[cfg(test)]
mod tests;

pub use auditor::Auditor;
pub use completeness::{Completeness, Figures};
pub use evidence::{Awaited, Doubt, Evidence, doubts};
pub use statement::{Loss, OUTPUT_READER_GONE, READER_GONE, Statement, is_of_reader};
pub use window::Window;
