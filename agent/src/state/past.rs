//! What is known of the agent that ran before.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use crate::flow::SavedFlow;
use crate::model::{Anchor, FlowId, Record};
use crate::source::Losses;

/// Flows by their identity.
pub type Flows = HashMap<FlowId, SavedFlow, RandomState>;

/// What is known of the agent that ran before.
#[derive(Debug)]
pub struct Past {
    /// The boot in which it ran.
    pub boot_id: [u8; 16],
    /// Since when it, or an agent before it, saw each flow's birth.
    pub accounting_since: Anchor,
    /// Until when it ran, `CLOCK_BOOTTIME` nanoseconds of its boot.
    pub until_boot_ns: u64,
    /// Since when the source told without a break of which all of this is, `CLOCK_BOOTTIME` nanoseconds; `None` when it
    /// is of several.
    pub source_since_ns: Option<u64>,
    /// The flows it knew.
    pub flows: Flows,
    /// The flows whose ends it, or an agent before it, told last. What was read of them may come again from the kernel.
    pub ended: Vec<SavedFlow>,
    /// Batches that it may not have written, by number.
    pub unwritten: BTreeMap<u64, Vec<Record>>,
    /// The number of its next batch.
    pub next_batch: u64,
    /// What the clocks showed around steps of the wall clock.
    pub clock: Vec<Anchor>,
    /// What could not be read: the first of it.
    pub damage: Vec<Damage>,
}

/// Under which it is counted that an agent ran of which there is no state.
pub const MISSING: &str = "state_missing";

/// What is in a state directory.
#[derive(Debug, Default)]
pub struct Found {
    /// What can be gone on with, if anything.
    pub past: Option<Past>,
    /// How much of it could not be read, by reason. What of it was never written, or never billed, is not known.
    pub losses: Losses,
}

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (byte {})", self.file.display(), self.what, self.offset)
    }
}

impl Past {
    /// Whether all that it wrote could be read. If not, it is not certain up to where a flow was billed, and a flow
    /// that is not known here may have been billed nevertheless.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty()
    }

    /// The flows as they may be followed on: rather billed too little than twice.
    pub fn followed_on(&self) -> impl Iterator<Item = SavedFlow> + '_ {
        let is_whole = self.is_whole();
        self.flows.values().map(move |flow| if is_whole { *flow } else { flow.uncertain() })
    }
}
