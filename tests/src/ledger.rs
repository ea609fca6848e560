//! What really went over the wire, per flow: the truth the agent is compared with. Knows nothing of conntrack.

use std::collections::HashMap;

use crate::key::{Counter, FlowKey, Totals, Tuple};
use crate::packet::{Parsed, Seen};
use crate::reassembly::Reassembly;

/// What the agent is expected to say of a flow besides its counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// Any of these end reasons; any at all when empty.
    pub end_reasons: Vec<&'static str>,
    /// Moved before the agent was there: in the totals but in no delta. `Some` also means flagged as midlife.
    pub baseline: Option<Totals>,
    /// Created while accounting was off: flagged, its totals mean nothing.
    pub no_counters: bool,
    /// Tuple of the answering packets where it is not the mirror image of the original one.
    pub nat_reply: Option<Tuple>,
    /// Its entry was deleted at moments that nobody noted: it may be several flows one after another, opened from
    /// either side, which together have moved what was on the wire.
    pub pieces: bool,
    /// Its end may be lost if the agent says so: what is missing is summed up instead of being a problem.
    pub loss_admitted: bool,
    /// Its packets are not counted on a way around conntrack: flagged, and its totals may be too low.
    pub offloaded: bool,
    /// The kernel's table was resized while it lived. An answer whose look-up the move overtook was taken for the first
    /// packet of another flow; when that clashed with this one, the kernel merged it into the counters of the opener
    /// (`nf_ct_acct_merge`). Only the sum of both directions is the wire's; `conntrack -L` tells which it was.
    /// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_core.c>
    pub resized: bool,
    /// Two CPUs opened it at once, and this kernel reads twice whether the entry's counters may be used. Where the entry
    /// is confirmed between the two (`nf_ct_ext_valid_post`), `__nf_ct_ext_find` finds none, and the packet of the other
    /// CPU is not counted: one of the opener's is missing, in `conntrack -L` too. From 5.19 on (c56716c69ce1) until that
    /// infrastructure was reverted in 2026.
    /// <https://github.com/torvalds/linux/blob/v6.18/net/netfilter/nf_conntrack_extend.c>
    pub raced: bool,
    /// Marks that its records must show, in this order; the last of them in its end.
    pub marks: Vec<u32>,
    /// Label bits that its end must show, in the kernel's byte order; any when `None`.
    pub labels: Option<[u8; 16]>,
}

/// One flow as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name. Flows that follow each other under one name stand in their order.
    pub key: FlowKey,
    /// What was seen of it.
    pub totals: Totals,
    /// What the agent should say besides.
    pub expected: Expectation,
}

/// Accounts of one namespace, in the order in which they were opened.
#[derive(Debug, Default)]
pub struct Ledger {
    netns: u32,
    accounts: Vec<Account>,
    /// The zone that packets are in at present.
    zone: u16,
    /// Where packets of an original tuple go at present, by zone.
    open: HashMap<(u16, Tuple), usize>,
    /// Answering tuple → original tuple, where addresses are translated.
    translated: HashMap<Tuple, Tuple>,
    parts: Reassembly,
}

impl Ledger {
    /// An empty one for a namespace.
    #[must_use]
    pub fn new(netns: u32) -> Self {
        Self { netns, ..Self::default() }
    }

    /// Takes what was on the wire: a packet, or a part of one, which is booked when it is whole.
    pub fn note(&mut self, parsed: Parsed) {
        let whole = match parsed {
            Parsed::Whole(seen) => Some(seen),
            Parsed::Part(part) => self.parts.add(part),
        };
        if let Some(seen) = whole {
            self.book(seen);
        }
    }

    /// Books a packet. The first packet of a tuple opens its flow and tells which direction is the original.
    pub fn book(&mut self, seen: Seen) {
        let packet = Counter::packet(seen.bytes);
        if let Some(account) = self.opened(&seen.tuple) {
            account.totals.original += packet;
        } else if let Some(account) = self.opened(&seen.tuple.answer()) {
            account.totals.reply += packet;
        } else {
            let totals = Totals { original: packet, reply: Counter::default() };
            self.open(seen.tuple, totals);
        }
    }

    /// From here on all packets are in this zone, where flows of other zones are unknown.
    pub fn enter_zone(&mut self, zone: u16) {
        self.zone = zone;
    }

    /// From here on packets of this tuple belong to another flow: the present one's entry is gone.
    pub fn cut(&mut self, tuple: &Tuple) {
        self.open.remove(&(self.zone, *tuple));
    }

    /// The same for all tuples.
    pub fn cut_all(&mut self) {
        self.open.clear();
    }

    /// Says that packets of `reply` answer the flow `original`, because of address translation.
    pub fn translate(&mut self, original: Tuple, reply: Tuple) {
        self.translated.insert(reply, original);
    }

    /// Changes what is expected of the latest flow of this tuple; `false` when there is none.
    pub fn expect(&mut self, tuple: &Tuple, change: impl FnOnce(&mut Expectation)) -> bool {
        let latest = self.accounts.iter_mut().rev().find(|account| account.key.tuple == *tuple);
        latest.map(|account| change(&mut account.expected)).is_some()
    }

    /// The same for every flow that has no expectation of end reasons yet.
    pub fn expect_remaining(&mut self, end_reasons: &[&'static str]) {
        for account in self.accounts.iter_mut().filter(|account| account.expected.end_reasons.is_empty()) {
            account.expected.end_reasons = end_reasons.to_vec();
        }
    }

    /// What moved so far is in no delta of the agent's: it starts now.
    pub fn baseline_all(&mut self) {
        for account in &mut self.accounts {
            account.expected.baseline = Some(account.totals);
        }
    }

    /// All flows, with translated answers booked to the flows they answer.
    #[must_use]
    pub fn accounts(&self) -> Vec<Account> {
        let mut accounts: Vec<Account> = Vec::with_capacity(self.accounts.len());
        let mut answers: Vec<&Account> = Vec::new();
        for account in &self.accounts {
            if self.translated.contains_key(&account.key.tuple) {
                answers.push(account);
            } else {
                accounts.push(account.clone());
            }
        }
        for answer in answers {
            self.settle_answer(&mut accounts, answer);
        }
        accounts
    }

    fn settle_answer(&self, accounts: &mut [Account], answer: &Account) {
        let original = self.translated.get(&answer.key.tuple);
        let asked = accounts.iter_mut().find(|account| Some(&account.key.tuple) == original);
        if let Some(asked) = asked {
            asked.totals.reply += answer.totals.original;
            asked.expected.nat_reply = Some(answer.key.tuple);
        }
    }

    fn opened(&mut self, tuple: &Tuple) -> Option<&mut Account> {
        self.accounts.get_mut(*self.open.get(&(self.zone, *tuple))?)
    }

    fn open(&mut self, tuple: Tuple, totals: Totals) {
        self.open.insert((self.zone, tuple), self.accounts.len());
        let key = FlowKey { netns: self.netns, zone: self.zone, tuple };
        self.accounts.push(Account { key, totals, expected: Expectation::default() });
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::key::protocol;

    fn tuple(source: u8, source_port: u16, destination: u8, destination_port: u16) -> Tuple {
        Tuple {
            protocol: protocol::UDP,
            source: IpAddr::from([10, 0, 0, source]),
            destination: IpAddr::from([10, 0, 0, destination]),
            source_port,
            destination_port,
        }
    }

    fn seen(tuple: Tuple, bytes: u64) -> Seen {
        Seen { tuple, bytes }
    }

    #[test]
    fn the_first_packet_tells_the_opener() {
        let mut ledger = Ledger::new(1);
        let asking = tuple(1, 1000, 2, 53);
        ledger.book(seen(asking, 40));
        ledger.book(seen(asking.answer(), 100));
        ledger.book(seen(asking, 41));
        let accounts = ledger.accounts();
        assert_eq!(accounts.len(), 1);
        assert_eq!(accounts[0].key.tuple, asking);
        assert_eq!(accounts[0].totals.original, Counter { packets: 2, bytes: 81 });
        assert_eq!(accounts[0].totals.reply, Counter { packets: 1, bytes: 100 });
    }

    #[test]
    fn after_a_cut_the_same_tuple_is_another_flow() {
        let mut ledger = Ledger::new(1);
        let asking = tuple(1, 1000, 2, 53);
        ledger.book(seen(asking, 40));
        ledger.cut(&asking);
        ledger.book(seen(asking, 50));
        let bytes: Vec<u64> = ledger.accounts().iter().map(|account| account.totals.original.bytes).collect();
        assert_eq!(bytes, [40, 50]);
    }

    #[test]
    fn the_same_tuple_in_two_zones_is_two_flows_that_go_on() {
        let mut ledger = Ledger::new(1);
        let asking = tuple(1, 1000, 2, 53);
        for (zone, bytes) in [(1, 40), (2, 50), (1, 60)] {
            ledger.enter_zone(zone);
            ledger.book(seen(asking, bytes));
        }
        let kept = ledger.accounts();
        let bytes: Vec<_> = kept.iter().map(|kept| (kept.key.zone, kept.totals.original.bytes)).collect();
        assert_eq!(bytes, [(1, 100), (2, 50)]);
    }

    #[test]
    fn translated_answers_are_booked_to_the_flow_they_answer() {
        let mut ledger = Ledger::new(1);
        let asking = tuple(1, 1000, 2, 53);
        let answering = tuple(2, 53, 9, 4000);
        ledger.book(seen(asking, 40));
        ledger.book(seen(answering, 100));
        ledger.translate(asking, answering);
        let accounts = ledger.accounts();
        assert_eq!(accounts.len(), 1);
        assert_eq!(accounts[0].totals.reply, Counter { packets: 1, bytes: 100 });
        assert_eq!(accounts[0].expected.nat_reply, Some(answering));
    }
}
