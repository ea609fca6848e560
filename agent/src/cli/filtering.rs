//! Takes out of each batch what the user does not want, and adds it up.

use super::netns_names::NetnsNames;
use crate::config::Config;
use crate::model::{Record, Sum};
use crate::pipeline::Networks;
use crate::pipeline::filter::{FilterSet, NetnsName};
use anyhow::Context as _;
use std::sync::Arc;

/// The global filter.
#[derive(Debug)]
pub(super) struct Filtering {
    filter: FilterSet,
    filtered: Sum,
    /// The wanted ones of the present batch, where they are not all.
    wanted: Vec<Record>,
}

impl Filtering {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let filter = FilterSet::new(&config.filter, networks(config)?, netns_name());
        let filter = filter.context("[filter] cannot be used")?;
        Ok(Self { filter, filtered: Sum::default(), wanted: Vec::new() })
    }

    /// Those that are wanted, in their order. The others are counted.
    pub(super) fn pass<'a>(&'a mut self, records: &'a [Record]) -> &'a [Record] {
        if self.filter.wants_all() {
            return records;
        }
        self.wanted.clear();
        self.wanted.extend_from_slice(records);
        self.filtered += self.filter.retain(&mut self.wanted);
        &self.wanted
    }

    /// Those that are wanted of a batch that an agent before has counted.
    pub(super) fn pass_again(&self, records: Arc<[Record]>) -> Arc<[Record]> {
        if self.filter.wants_all() {
            return records;
        }
        records.iter().filter(|record| self.filter.wants(record)).copied().collect()
    }

    /// What the deltas of those that are not wanted add up to.
    pub(super) const fn filtered(&self) -> Sum {
        self.filtered
    }
}

/// The named networks.
pub(super) fn networks(config: &Config) -> anyhow::Result<Arc<Networks>> {
    let networks = Networks::new(&config.networks);
    networks.map(Arc::new).map_err(|_| anyhow::anyhow!("[networks] has a prefix under two names"))
}

/// The names of network namespaces.
pub(super) fn netns_name() -> NetnsName {
    let names = NetnsNames::default();
    Arc::new(move |inode| names.get(inode))
}
