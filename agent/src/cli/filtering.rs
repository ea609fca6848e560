//! Takes out of each batch what the user does not want, and adds it up.

use super::netns_names::NetnsNames;
use crate::config::Config;
use crate::model::{Record, Records, Sum};
use crate::pipeline::Networks;
use crate::pipeline::filter::{FilterLists, FilterSet, NetnsName};
use anyhow::Context as _;
use std::sync::Arc;

/// The global filter.
#[derive(Debug)]
pub(super) struct Filtering {
    filter: FilterSet,
    filtered: Sum,
}

impl Filtering {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let filter = filter(config, &config.filter).context("[filter] cannot be used")?;
        Ok(Self { filter, filtered: Sum::default() })
    }

    /// Takes out those that are not wanted, and counts them.
    pub(super) fn retain(&mut self, records: &mut Vec<Record>) {
        self.filtered += self.filter.retain(records);
    }

    pub(super) fn wants(&self, record: &Record) -> bool {
        self.filter.wants(record)
    }

    /// Those that are wanted of a batch that an agent before has counted.
    pub(super) fn pass_again(&self, records: Records) -> Records {
        if self.filter.wants_all() {
            return records;
        }
        let wanted = records.iter().filter(|record| self.filter.wants(record)).copied();
        wanted.collect::<Vec<_>>().into()
    }

    /// What the deltas of those that are not wanted add up to.
    pub(super) const fn filtered(&self) -> Sum {
        self.filtered
    }
}

/// What some of the filters in `config` let through.
pub(super) fn filter(config: &Config, lists: &FilterLists) -> anyhow::Result<FilterSet> {
    Ok(FilterSet::new(lists, networks(config)?, netns_name())?)
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
