//! What sinks are told of the accounting itself, beside the records.

use super::{Item, Weight};
use crate::model::{Sum, Waiting};

/// One statement. Figures count from the agent's start on, so that a later one replaces an earlier one and nobody may
/// sum them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// When it was so: wall clock, nanoseconds since the Unix epoch.
    pub real_ns: i64,
    /// What is stated.
    pub stated: Stated,
}

/// What a status states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stated {
    /// How much there was and where it is.
    Whole(Whole),
    /// What was lost for one reason.
    Loss {
        /// The reason, as the audit calls it.
        reason: &'static str,
        /// As far as the amount is known.
        lost: Sum,
        /// How often something of unknown amount was lost.
        unknown: u64,
    },
    /// What waits to be delivered: how things stand, and no sum since a start.
    Waiting {
        /// The sink that has it.
        sink: &'static str,
        /// How much it is, and since when.
        waiting: Waiting,
    },
}

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// All of it.
    Whole,
    /// A reason.
    Loss(&'static str),
    /// A sink.
    Waiting(&'static str),
}

/// All that was counted, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// What was to be delivered: the sum of the following.
    pub counted: Sum,
    /// Handed to the sinks.
    pub delivered: Sum,
    /// Will be, when it is due.
    pub not_yet_due: Sum,
    /// Not wanted.
    pub filtered: Sum,
    /// Lost.
    pub lost: Sum,
    /// For how many reasons more may be missing than is counted; with 0 all figures are exact.
    pub doubts: u64,
    /// Flows that live.
    pub live_flows: u64,
}

impl Item for Status {
    type Key = Subject;

    fn key(&self) -> Subject {
        match self.stated {
            Stated::Whole(_) => Subject::Whole,
            Stated::Loss { reason, .. } => Subject::Loss(reason),
            Stated::Waiting { sink, .. } => Subject::Waiting(sink),
        }
    }

    /// The later one has all that the earlier one had.
    fn merge(&mut self, later: &Self) -> bool {
        *self = *later;
        true
    }

    fn is_last(&self) -> bool {
        false
    }

    /// No flow is missing without it.
    fn weight(&self) -> Weight {
        Weight::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_status_replaces_an_earlier_one_of_the_same_reason() {
        let loss = |reason, unknown, real_ns| Status {
            real_ns,
            stated: Stated::Loss { reason, lost: Sum::default(), unknown },
        };
        let (mut earlier, later) = (loss("end_lost", 1, 1), loss("end_lost", 5, 2));
        assert_eq!(earlier.key(), later.key());
        assert_ne!(earlier.key(), loss("missed", 1, 1).key());
        assert!(earlier.merge(&later));
        assert_eq!(earlier, later);
    }
}
