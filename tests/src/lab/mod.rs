//! The test network: namespaces joined by veth pairs, tracked by conntrack, captured into ledgers.

mod topology;

pub use topology::{CLIENT, PORT_SHIFT, ROUTER, SERVER, TRANSLATED_BOTH, TRANSLATED_DESTINATION};

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::capture::{Capture, Vantage};
use crate::conntrack::{self, Entry};
use crate::key::{Totals, Tuple};
use crate::ledger::{Account, Expectation};
use crate::netns::Namespace;
use crate::traffic::{Path, Sent};

/// The last packets of a closing connection are sent by the kernel after the last system call returned.
const QUIET: Duration = Duration::from_millis(150);

/// Timeouts of half a minute and the like, which a slow machine may exceed between two packets.
const SHORT_TIMEOUTS: [&str; 4] = [
    "nf_conntrack_udp_timeout",
    "nf_conntrack_udp_timeout_stream",
    "nf_conntrack_icmp_timeout",
    "nf_conntrack_icmpv6_timeout",
];

/// What they are raised to, in seconds: flows time out where a scenario wants it.
const OUTLASTS: u64 = 3600;

/// Address families of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// Both of them.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A test network. Removed when dropped.
#[derive(Debug)]
pub struct Lab {
    nodes: Vec<Node>,
    promises: Vec<Sent>,
}

#[derive(Debug)]
struct Node {
    // Before the namespace: an open packet socket would keep the namespace alive.
    capture: Option<Capture>,
    namespace: Namespace,
    vantage: Vantage,
    tracked: bool,
}

impl Lab {
    /// Client and server joined directly; both ends track, so every flow has to be reported twice.
    ///
    /// # Errors
    /// When something of it cannot be made, which needs root.
    pub fn direct() -> Result<Self> {
        Self::direct_tracking(&[CLIENT, SERVER])
    }

    /// Client and server joined directly, with tracking at these places only.
    ///
    /// # Errors
    /// See [`Lab::direct`].
    pub fn direct_tracking(places: &[usize]) -> Result<Self> {
        let mut lab = topology::direct()?;
        lab.track(places)?;
        Ok(lab)
    }

    /// Client and server joined by a router, which alone tracks.
    ///
    /// # Errors
    /// See [`Lab::direct`].
    pub fn routed() -> Result<Self> {
        let mut lab = topology::routed()?;
        lab.track(&[ROUTER])?;
        Ok(lab)
    }

    /// A namespace by its place.
    ///
    /// # Errors
    /// When this network has none there.
    pub fn namespace(&self, place: usize) -> Result<&Namespace> {
        Ok(&self.nodes.get(place).context("this network has no such namespace")?.namespace)
    }

    /// The way from client to server.
    ///
    /// # Errors
    /// Never with a network made here.
    pub fn path(&self, family: Family) -> Result<Path<'_>> {
        let (client, server) = (self.namespace(CLIENT)?, self.namespace(SERVER)?);
        let (from, to) = if self.nodes.len() > ROUTER {
            topology::routed_addresses(family)
        } else {
            topology::direct_addresses(family)
        };
        Ok(Path { client, server, from, to, at: to, port_shift: 0 })
    }

    /// The way from client to server by a translated port of the router.
    ///
    /// # Errors
    /// Never with a routed network.
    pub fn translated_path(&self, family: Family) -> Result<Path<'_>> {
        Ok(Path { to: topology::gateway(family), port_shift: PORT_SHIFT, ..self.path(family)? })
    }

    /// Inodes of the namespaces that track.
    #[must_use]
    pub fn tracked(&self) -> Vec<u32> {
        self.tracked_nodes().map(|node| node.namespace.inode()).collect()
    }

    /// Makes the router translate: what goes to the server gets the router's address and a port of its choice as
    /// its source, and [`TRANSLATED_DESTINATION`] and [`TRANSLATED_BOTH`] of the router lead to the server.
    ///
    /// # Errors
    /// When the rules are refused.
    pub fn translate(&self) -> Result<()> {
        topology::translate(self.namespace(ROUTER)?)
    }

    /// Puts all packets from now on in this zone, in every tracking namespace.
    ///
    /// # Errors
    /// When the rules are refused, as by a kernel without zones.
    pub fn enter_zone(&self, zone: u16) -> Result<()> {
        self.quiet();
        for node in self.tracked_nodes() {
            topology::zone(&node.namespace, zone)?;
        }
        self.captures().for_each(|capture| capture.ledger().enter_zone(zone));
        Ok(())
    }

    /// Sets `net.netfilter.KEY` in every tracking namespace.
    ///
    /// # Errors
    /// When the key does not exist or is read-only.
    pub fn netfilter(&self, key: &str, value: u64) -> Result<()> {
        self.tracked_nodes().try_for_each(|node| node.namespace.netfilter(key, value))
    }

    /// Whether the tracking namespaces account and stamp flows: `nf_conntrack_acct`, `nf_conntrack_timestamp`.
    ///
    /// # Errors
    /// When the kernel has neither.
    pub fn accounting(&self) -> Result<Vec<String>> {
        let keys = ["nf_conntrack_acct", "nf_conntrack_timestamp"];
        let values =
            self.tracked_nodes().flat_map(|node| keys.map(|key| node.namespace.netfilter_value(key)));
        values.collect()
    }

    /// Starts to book in every tracking namespace. Everything sent from now on is in the ledger.
    ///
    /// # Errors
    /// When a packet socket cannot be made.
    pub fn capture(&mut self) -> Result<()> {
        for node in self.nodes.iter_mut().filter(|node| node.tracked) {
            node.capture = Some(Capture::start(&node.namespace, node.vantage)?);
        }
        Ok(())
    }

    /// Notes what the generator sent, to be checked against the capture.
    pub fn promise(&mut self, sent: Sent) {
        for node in self.nodes.iter().filter(|node| node.vantage == Vantage::Router) {
            if let (Some(capture), true) = (&node.capture, sent.answer != sent.tuple.answer()) {
                capture.ledger().translate(sent.tuple, sent.answer);
            }
        }
        self.promises.push(sent);
    }

    /// The present conntrack entry of this tuple is gone: packets from now on belong to another flow.
    pub fn cut(&self, tuple: &Tuple) {
        self.captures().for_each(|capture| capture.ledger().cut(tuple));
    }

    /// What moved until now was before the agent.
    pub fn baseline(&self) {
        self.captures().for_each(|capture| capture.ledger().baseline_all());
    }

    /// Changes what is expected of the latest flow of a tuple, in every tracking namespace.
    ///
    /// # Errors
    /// When no namespace has such a flow.
    pub fn expect(&self, tuple: &Tuple, change: impl Fn(&mut Expectation)) -> Result<()> {
        let found = self.captures().filter(|capture| capture.ledger().expect(tuple, &change)).count();
        if found == 0 {
            bail!("nothing was captured of {tuple}");
        }
        Ok(())
    }

    /// Expects one of these end reasons of all flows that have no expectation yet.
    pub fn expect_remaining(&self, end_reasons: &[&'static str]) {
        self.captures().for_each(|capture| capture.ledger().expect_remaining(end_reasons));
    }

    /// What `conntrack -L` says in all tracking namespaces. Makes the kernel remove what has expired.
    ///
    /// # Errors
    /// When `conntrack` fails.
    pub fn conntrack(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for node in self.tracked_nodes() {
            entries.extend(conntrack::list(&node.namespace)?);
        }
        entries.retain(|entry| !entry.key.tuple.destination.is_multicast());
        Ok(entries)
    }

    /// Deletes every entry of the tracking namespaces at any moment, unknown to the ledger.
    ///
    /// # Errors
    /// When `conntrack` fails.
    pub fn forget(&self) -> Result<()> {
        self.tracked_nodes().try_for_each(|node| node.namespace.exec("conntrack", &["-F"]).map(drop))
    }

    /// Deletes every entry of the tracking namespaces when nothing moves any more.
    ///
    /// # Errors
    /// When `conntrack` fails.
    pub fn flush(&self) -> Result<()> {
        self.quiet();
        self.forget()?;
        self.captures().for_each(|capture| capture.ledger().cut_all());
        Ok(())
    }

    /// Waits until nothing moves any more.
    pub fn quiet(&self) {
        thread::sleep(QUIET);
    }

    /// Removes a namespace with all its flows; its ledger stays.
    ///
    /// # Errors
    /// When there is none at this place.
    pub fn accounts_then_remove(&mut self, place: usize) -> Result<Vec<Account>> {
        if place >= self.nodes.len() {
            bail!("this network has no such namespace");
        }
        self.quiet();
        let node = self.nodes.remove(place);
        let accounts = node.capture.as_ref().map(|capture| capture.ledger().accounts());
        Ok(accounts.unwrap_or_default())
    }

    /// The ledger, after it was checked: the captures lost nothing, and agree with what the generator sent.
    ///
    /// # Errors
    /// When the ledger is worth nothing; this is a fault of the test, not of the agent.
    pub fn ledger(&self) -> Result<Vec<Account>> {
        let mut all = Vec::new();
        for node in self.tracked_nodes() {
            let capture = node.capture.as_ref().context("nothing was captured")?;
            let accounts = capture.ledger().accounts();
            let lost = capture.dropped()?;
            if lost > 0 {
                bail!("the capture in {} lost {lost} packets", node.namespace.name());
            }
            self.check_promises(&node.namespace, &accounts)?;
            all.extend(accounts);
        }
        Ok(all)
    }

    fn check_promises(&self, namespace: &Namespace, accounts: &[Account]) -> Result<()> {
        let mut seen: HashMap<Tuple, Vec<Totals>> = HashMap::new();
        for account in accounts {
            seen.entry(account.key.tuple).or_default().push(account.totals);
        }
        for sent in &self.promises {
            let seen = seen.get(&sent.tuple).map(Vec::as_slice).unwrap_or_default();
            let kept = sent.totals.map_or(!seen.is_empty(), |totals| seen.contains(&totals));
            if !kept {
                let (name, tuple, totals) = (namespace.name(), sent.tuple, sent.totals);
                bail!("{name}: {tuple} was sent as {totals:?}, captured as {seen:?}");
            }
        }
        Ok(())
    }

    fn track(&mut self, places: &[usize]) -> Result<()> {
        for place in places {
            let node = self.nodes.get_mut(*place).context("this network has no such namespace")?;
            topology::track(&node.namespace)?;
            for key in SHORT_TIMEOUTS {
                node.namespace.netfilter(key, OUTLASTS)?;
            }
            node.tracked = true;
        }
        Ok(())
    }

    fn tracked_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.tracked)
    }

    fn captures(&self) -> impl Iterator<Item = &Capture> {
        self.nodes.iter().filter_map(|node| node.capture.as_ref())
    }
}
