//! The servers that can be had.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::elasticsearch::Elasticsearch;
use crate::embedded::Embedded;
use crate::influxdb::{InfluxDb1, InfluxDb2};
use crate::telegraf::{Telegraf, TelegrafWriter};
use crate::workshop::Workshop;

/// A nearly full disk, as CI's may be, must not keep Elasticsearch or OpenSearch from making indices.
pub(crate) const DISK_THRESHOLD: &str = "cluster.routing.allocation.disk.threshold_enabled";

/// What a client has to know, by name: `url`, `user`, `password`, `token`, ….
pub type Access = BTreeMap<String, String>;

/// A server in one version.
pub trait Kind: Sync {
    /// What it is called here.
    fn name(&self) -> &'static str;

    /// The name that its makers gave it, and the version: names the folder in the cache.
    fn release(&self) -> &'static str;

    /// What it is for, in a few words.
    fn purpose(&self) -> &'static str;

    /// Counts changes of the way in which it is built.
    fn recipe(&self) -> u32 {
        1
    }

    /// Puts all it needs into the result folder.
    ///
    /// # Errors
    /// When something cannot be downloaded or built.
    fn build(&self, shop: &Workshop) -> Result<()>;

    /// How many consecutive ports it listens on.
    fn ports(&self) -> u16;

    /// What runs it in the foreground; SIGTERM stops it. Writes its configuration first.
    ///
    /// # Errors
    /// When it lacks something on this machine.
    fn command(&self, place: &Place) -> Result<Command>;

    /// Whether it can be worked with.
    fn is_ready(&self, place: &Place) -> bool;

    /// How long a start may take.
    fn starts_within(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Makes accounts and the like, once, after the first start; returns what a client has to know.
    ///
    /// # Errors
    /// When it refuses.
    fn prepare(&self, place: &Place) -> Result<Access>;
}

/// Where one server runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its programs.
    pub installed: PathBuf,
    /// Its data and configuration.
    pub home: PathBuf,
    /// The first of its ports.
    pub port: u16,
    /// Settings of its own beyond ours, as its configuration or command line spells them: `name=value`.
    pub settings: Vec<String>,
}

impl Place {
    /// An address on one of its ports.
    #[must_use]
    pub fn address(&self, index: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.saturating_add(index)).into()
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self, index: u16) -> String {
        format!("http://{}", self.address(index))
    }
}

/// All of them, in the order in which they are best built.
pub const ALL: &[&dyn Kind] = &[
    &InfluxDb2,
    &InfluxDb1,
    &Embedded::ELASTICSEARCH_8,
    &Embedded::ELASTICSEARCH_9,
    &Embedded::OPENSEARCH_2,
    &Embedded::OPENSEARCH_3,
    &Telegraf,
    &TelegrafWriter,
    &Elasticsearch::EIGHT,
    &Elasticsearch::NINE,
];

/// The server of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Kind> {
    ALL.iter().copied().find(|kind| kind.name() == name)
}

/// Access by pairs.
pub(crate) fn access<const N: usize>(pairs: [(&str, String); N]) -> Access {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_releases_are_unique() {
        let names: HashSet<_> = ALL.iter().map(|kind| kind.name()).collect();
        let releases: HashSet<_> = ALL.iter().map(|kind| kind.release()).collect();
        assert_eq!((names.len(), releases.len()), (ALL.len(), ALL.len()));
    }

    #[test]
    fn a_server_is_found_by_its_name_alone() {
        for kind in ALL {
            assert_eq!(find(kind.name()).map(|found| found.release()), Some(kind.release()));
        }
        assert!(find("nonesuch").is_none());
    }
}
