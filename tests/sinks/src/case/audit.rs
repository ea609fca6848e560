//! What an agent says that it lost, beside what is stored.

use std::fmt;

use anyhow::{Result, ensure};

use crate::agent::Ended;
use crate::scene::Scene;
use crate::sum::Sum;

/// What the audit says was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) bytes: u64,
    pub(super) packets: u64,
    pub(super) flows: u64,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, packets, flows } = self;
        write!(f, "{flows} flows, {packets} packets, {bytes} bytes")
    }
}

/// The sum over all reasons of the sink, in the last audit.
pub(super) fn lost(log: &str) -> Loss {
    let audit = log.lines().rev().find(|line| line.contains("audit: ")).unwrap_or_default();
    let mut sum = Loss::default();
    for words in audit.split(';').filter(|words| words.contains("test.")) {
        let figure = |unit: &str| {
            let before = words.split(unit).next().unwrap_or_default();
            before.rsplit(' ').next().and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0)
        };
        sum.bytes += figure(" bytes");
        sum.packets += figure(" packets");
        sum.flows += figure(" flows");
    }
    sum
}

/// What is stored and what was lost have to be what moved; tells all three.
pub(super) fn expect_sum(scene: &Scene<'_>, lost: Loss, moved: Sum, ended: &Ended) -> Result<()> {
    let stored = scene.stored()?;
    let both = |stored: Sum, lost: Loss| Loss {
        flows: stored.flows + lost.flows,
        packets: stored.source.packets + stored.destination.packets + lost.packets,
        bytes: stored.source.bytes + stored.destination.bytes + lost.bytes,
    };
    ensure!(
        both(stored, lost) == both(moved, Loss::default()),
        "stored {stored}\nand lost {lost}\nbut moved {moved}\nlog of the agent:\n{}",
        ended.log
    );
    scene.say(&format!("moved {moved}; stored {stored}; lost {lost}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_the_sink_are_added_up_from_the_last_audit() {
        let log = "WARN audit: a; lost by test.queue_full: 1 bytes, 1 packets, 0 flows\n\
            WARN audit: completeness; lost by test.queue_full: 300 bytes, 3 packets, 1 flows; lost by \
            test.unwritten: 20 bytes, 2 packets, 0 flows; of unknown amount: no_slot 2\n\
            INFO bye";
        assert_eq!(lost(log), Loss { bytes: 320, packets: 5, flows: 1 });
    }
}
