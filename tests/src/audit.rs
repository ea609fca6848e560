//! The audit that an agent logs at its end, read back.

use std::collections::BTreeMap;

/// Flows, packets and bytes have an identity each.
const FIGURES: u32 = 3;

/// Flows, packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Flows.
    pub flows: u64,
    /// IP packets.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Whether both sides of its identity are equal in all figures.
    pub balances: bool,
    /// Bytes that were delivered.
    pub delivered_bytes: u64,
    /// Packets that were delivered.
    pub delivered_packets: u64,
    /// What was lost, by reason.
    pub lost: BTreeMap<String, Sum>,
    /// Why more may be missing than it knows, and how often that happened.
    pub doubts: BTreeMap<String, u64>,
    /// Whether it calls a completeness unknown.
    pub unknown: bool,
}

impl Audit {
    /// The last audit of a log; `None` when there is none, or it cannot be read.
    #[must_use]
    pub fn of_log(log: &[String]) -> Option<Self> {
        let line = log.iter().rev().find_map(|line| line.split_once("audit: ")).map(|(_, audit)| audit)?;
        Self::parse(line)
    }

    /// What was lost for this reason.
    #[must_use]
    pub fn lost(&self, reason: &str) -> Sum {
        self.lost.get(reason).copied().unwrap_or_default()
    }

    /// Whether more may be missing than it knows.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.unknown || !self.doubts.is_empty()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut audit = Self { balances: true, ..Self::default() };
        let (mut said, mut identities) = (false, 0);
        for part in line.split("; ") {
            if let Some(completeness) = part.strip_prefix("completeness of ") {
                audit.unknown = completeness.contains("unknown");
                said = true;
            } else if let Some((figure, identity)) = part.split_once(": ended ") {
                audit.balances &= identity.contains(" = ");
                let delivered = after(identity, "delivered")?;
                identities += 1;
                match figure {
                    "bytes" => audit.delivered_bytes = delivered,
                    "packets" => audit.delivered_packets = delivered,
                    _ => {}
                }
            } else if let Some((reason, amounts)) =
                part.strip_prefix("lost by ").and_then(|lost| lost.split_once(": "))
            {
                audit.lost.insert(reason.to_owned(), sum(amounts)?);
            } else {
                let (reason, count) = part.strip_prefix("of unknown amount: ")?.split_once(' ')?;
                audit.doubts.insert(reason.to_owned(), count.parse().ok()?);
            }
        }
        (said && identities == FIGURES).then_some(audit)
    }
}

/// `12 bytes, 3 packets, 1 flows`
fn sum(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    for part in text.split(", ") {
        let (number, unit) = part.split_once(' ')?;
        let number = number.parse().ok()?;
        match unit {
            "bytes" => sum.bytes = number,
            "packets" => sum.packets = number,
            "flows" => sum.flows = number,
            _ => return None,
        }
    }
    Some(sum)
}

fn after(text: &str, word: &str) -> Option<u64> {
    text.split_whitespace().skip_while(|found| *found != word).nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "2026-11-21T09:00:00Z  WARN audit: completeness of bytes 99 %, packets 99 %, flows 99 %; \
        bytes: ended 500 + living 60 - baseline 10 = delivered 510 + not yet due 0 + filtered 0 + lost 40; \
        packets: ended 5 + living 1 - baseline 1 = delivered 4 + not yet due 0 + filtered 0 + lost 1; \
        flows: ended 2 + living 1 - baseline 0 = delivered 2 + not yet due 0 + filtered 0 + lost 1; \
        lost by end_lost: 40 bytes, 1 packets, 1 flows; lost by archive.queue_full: 7 bytes, 1 packets, 0 flows";

    #[test]
    fn an_audit_is_read_back() {
        let audit = Audit::of_log(&["ready".to_owned(), LINE.to_owned()]).unwrap();
        assert!(audit.balances && !audit.is_doubtful());
        assert_eq!((audit.delivered_bytes, audit.delivered_packets), (510, 4));
        assert_eq!(audit.lost("end_lost"), Sum { flows: 1, packets: 1, bytes: 40 });
        assert_eq!(
            audit.lost("archive.queue_full"),
            Sum { flows: 0, packets: 1, bytes: 7 },
            "of one of the sinks"
        );
        assert_eq!(audit.lost("missed"), Sum::default());
    }

    #[test]
    fn an_identity_that_does_not_hold_and_a_doubt_are_noticed() {
        let line = LINE.replacen(" = ", " ≠ ", 1) + "; of unknown amount: hook_skipped 3";
        let audit = Audit::of_log(&[line]).unwrap();
        assert!(!audit.balances && audit.is_doubtful());
        assert_eq!(audit.doubts, [("hook_skipped".to_owned(), 3)].into());
        let line = LINE.replacen("bytes 99 %", "bytes unknown, at most 100 %", 1);
        assert!(Audit::of_log(&[line]).unwrap().is_doubtful());
    }

    #[test]
    fn a_log_without_an_audit_or_with_half_of_one_has_none() {
        assert_eq!(Audit::of_log(&["ready".to_owned()]), None);
        let (half, _) = LINE.split_once("; flows:").unwrap();
        assert_eq!(Audit::of_log(&[half.to_owned()]), None);
        assert_eq!(Audit::of_log(&["INFO audit: all is well".to_owned()]), None);
    }
}
