//! What a sink delivers one by one: records, or sums of groups.

use std::hash::Hash;
use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use crate::model::{FlowId, Record, RecordKind, Sum};

/// What is missing if an item is not delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Records it stands for.
    pub records: u64,
    /// Those of them that were the last of their flows.
    pub ends: u64,
    /// What their deltas add up to; flows are last records.
    pub moved: Sum,
}

impl AddAssign for Weight {
    /// A spool's file may claim any number.
    fn add_assign(&mut self, other: Self) {
        self.records = self.records.saturating_add(other.records);
        self.ends = self.ends.saturating_add(other.ends);
        self.moved += other.moved;
    }
}

impl SubAssign for Weight {
    /// Of what is in it.
    fn sub_assign(&mut self, other: Self) {
        self.records = self.records.saturating_sub(other.records);
        self.ends = self.ends.saturating_sub(other.ends);
        self.moved -= other.moved;
    }
}

/// Items that several sinks hold.
pub type Items<I> = Arc<Vec<I>>;

/// A unit of delivery.
pub trait Item: Clone + Send + Sync + 'static {
    /// Items of the same key may be merged while they wait.
    type Key: Eq + Hash + Send;

    /// The flow or the group.
    fn key(&self) -> Self::Key;

    /// Adds a later item of the same key; `false`, and nothing changed, where that would lose more than resolution in
    /// time.
    fn merge(&mut self, later: &Self) -> bool;

    /// Whether nothing that comes later makes up for it.
    fn is_last(&self) -> bool;

    /// What is missing if it is not delivered.
    fn weight(&self) -> Weight;
}

impl Item for Record {
    type Key = FlowId;

    fn key(&self) -> FlowId {
        self.flow_id
    }

    /// A `new` swallows updates and stays a `new`; an end stays alone, so that each flow keeps both.
    fn merge(&mut self, later: &Self) -> bool {
        if self.kind == RecordKind::End || later.kind != RecordKind::Update {
            return false;
        }
        let mut delta = self.delta;
        for (sum, more) in
            [(&mut delta.original, later.delta.original), (&mut delta.reply, later.delta.reply)]
        {
            let packets = sum.packets.checked_add(more.packets);
            let bytes = sum.bytes.checked_add(more.bytes);
            let (Some(packets), Some(bytes)) = (packets, bytes) else { return false };
            (sum.packets, sum.bytes) = (packets, bytes);
        }
        *self = Self { kind: self.kind, delta, ..*later };
        true
    }

    fn is_last(&self) -> bool {
        self.kind == RecordKind::End
    }

    fn weight(&self) -> Weight {
        let ends = u64::from(self.is_last());
        Weight { records: 1, ends, moved: Sum { flows: ends, ..Sum::moved(&self.delta) } }
    }
}
