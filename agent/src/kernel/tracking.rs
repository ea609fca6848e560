//! Makes an otherwise idle network namespace track its connections.
//!
//! The kernel hooks conntrack into a namespace while a rule there uses it. The rule added here stands in a chain on
//! no hook, where no packet comes by: its existence is enough, and it costs nothing per packet.
//! <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nft_ct.c#L469>

use std::{io, process};

use super::netlink::{
    nftables::{Batch, TABLE_OWNER},
    socket::{NetfilterSocket, Refused},
};

/// The name of the table, in family `inet`.
const TABLE: &str = "conntally";

const CHAIN: &str = "tracking";

const COMMENT: &str = "makes the kernel track the connections of this network namespace";

/// Why connections cannot be tracked.
#[derive(Debug, thiserror::Error)]
pub enum TrackingError {
    /// The agent may not change the ruleset.
    #[error("not permitted to add the nftables table `inet conntally`; run with CAP_NET_ADMIN")]
    NotPermitted,
    /// The kernel has no nf_tables, or not for both address families.
    #[error(
        "the kernel has no nf_tables; load it with `modprobe nf_tables` (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)"
    )]
    NoTables,
    /// The kernel's nf_tables cannot look at conntrack.
    #[error("nf_tables cannot use conntrack; load it with `modprobe nft_ct` (CONFIG_NFT_CT)")]
    NoConntrack,
    /// Anything else.
    #[error("cannot add the nftables table `inet conntally`: {0}")]
    Other(#[source] io::Error),
}

/// A network namespace tracks connections as long as this value lives.
#[derive(Debug)]
pub struct Tracking {
    socket: NetfilterSocket,
    table: String,
    enabled: bool,
}

impl Tracking {
    /// Adds the table in the calling thread's network namespace. One that a killed agent left behind is replaced;
    /// beside that of a living agent another is added under the name `conntally-PID`. Nothing else of the ruleset
    /// is touched.
    ///
    /// Where the kernel has `flags owner` (5.12) the table goes with this value even when the agent is killed;
    /// where not, a second agent in the same namespace takes over the first one's table.
    ///
    /// # Errors
    /// Says what the kernel lacks.
    pub fn enable() -> Result<Self, TrackingError> {
        let socket = NetfilterSocket::open().map_err(TrackingError::Other)?;
        let own = format!("{TABLE}-{}", process::id());
        let done = match add(&socket, TABLE, SEQUENCE_OF_ADDING) {
            Err(failure) if failure.is_about_existing() => replace(&socket, TABLE).map(|()| TABLE),
            added => added.map(|()| TABLE),
        };
        let done = match done {
            Err(failure) if failure.is_about_another_owner() => {
                add(&socket, &own, SEQUENCE_OF_ADDING_BESIDE).map(|()| own.as_str())
            }
            done => done,
        };
        let table = done.map_err(Failure::explained)?.to_owned();
        Ok(Self { socket, table, enabled: true })
    }

    /// Removes the table.
    ///
    /// # Errors
    /// When the kernel refuses, other than because the table is gone already.
    pub fn disable(mut self) -> io::Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.enabled) {
            return Ok(());
        }
        let mut batch = Batch::begin(SEQUENCE_OF_REMOVAL);
        batch.delete_table(&self.table);
        let (bytes, sequences) = batch.end();
        match self.socket.acknowledged(&bytes, sequences) {
            Err(refused) if refused.errno != Some(libc::ENOENT) => Err(refused.cause),
            _ => Ok(()),
        }
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            let table = &self.table;
            tracing::warn!(%error, "cannot remove the nftables table; run `nft delete table inet {table}`");
        }
    }
}

/// Each attempt has its own sequence numbers: a refused batch leaves answers behind that nobody reads.
const SEQUENCE_OF_ADDING: u32 = 0x1000;
const SEQUENCE_OF_REPLACING: u32 = 0x2000;
const SEQUENCE_OF_ADDING_BESIDE: u32 = 0x3000;
const SEQUENCE_OF_REMOVAL: u32 = 0x4000;

/// A refusal, and what was being done.
#[derive(Debug)]
struct Failure {
    refused: Refused,
    batch: u32,
    table: u32,
    rule: u32,
}

impl Failure {
    fn is(&self, errno: i32) -> bool {
        self.refused.errno == Some(errno)
    }

    fn is_about_existing(&self) -> bool {
        self.refused.sequence == Some(self.table) && self.is(libc::EEXIST)
    }

    /// Whether a living agent owns the table. Without the privilege to change tables at all, it is the batch as a
    /// whole that is refused.
    fn is_about_another_owner(&self) -> bool {
        self.refused.sequence.is_some_and(|sequence| sequence > self.batch) && self.is(libc::EPERM)
    }

    /// Whether the kernel does not know the flag `owner`.
    fn is_about_owner_flag(&self) -> bool {
        self.refused.sequence == Some(self.table) && (self.is(libc::EINVAL) || self.is(libc::EOPNOTSUPP))
    }

    fn explained(self) -> TrackingError {
        match (self.refused.errno, self.refused.sequence) {
            (Some(libc::EPERM | libc::EACCES), _) => TrackingError::NotPermitted,
            (Some(libc::ENOENT | libc::EOPNOTSUPP), Some(sequence)) if sequence == self.rule => {
                TrackingError::NoConntrack
            }
            (Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT), _) => {
                TrackingError::NoTables
            }
            _ => TrackingError::Other(self.refused.cause),
        }
    }
}

fn add(socket: &NetfilterSocket, table: &str, sequence: u32) -> Result<(), Failure> {
    with_or_without_owner(socket, table, sequence, |_| ())
}

/// Removes and adds at once, so that the namespace never stops tracking.
fn replace(socket: &NetfilterSocket, table: &str) -> Result<(), Failure> {
    with_or_without_owner(socket, table, SEQUENCE_OF_REPLACING, |batch| {
        batch.delete_table(table);
    })
}

fn with_or_without_owner(
    socket: &NetfilterSocket,
    table: &str,
    sequence: u32,
    before: impl Fn(&mut Batch),
) -> Result<(), Failure> {
    match attempt(socket, table, sequence, TABLE_OWNER, &before) {
        Err(failure) if failure.is_about_owner_flag() => attempt(socket, table, sequence + 0x100, 0, &before),
        done => done,
    }
}

fn attempt(
    socket: &NetfilterSocket,
    name: &str,
    sequence: u32,
    flags: u32,
    before: impl Fn(&mut Batch),
) -> Result<(), Failure> {
    let mut batch = Batch::begin(sequence);
    before(&mut batch);
    let table = batch.new_table(name, flags);
    batch.new_chain(name, CHAIN);
    let rule = batch.new_conntrack_rule(name, CHAIN, COMMENT);
    let (bytes, sequences) = batch.end();
    socket.acknowledged(&bytes, sequences).map_err(|refused| Failure {
        refused,
        batch: sequence,
        table,
        rule,
    })
}
