//! How the namespaces of a test network are joined, and their addresses.

use std::net::IpAddr;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Family, Lab, Node};
use crate::capture::Vantage;
use crate::netns::{Namespace, run};

/// Place of the namespace where flows are opened.
pub const CLIENT: usize = 0;
/// Place of the one where they are answered.
pub const SERVER: usize = 1;
/// Place of the router, where there is one.
pub const ROUTER: usize = 2;

/// An ordinary rule that makes a namespace track, as a firewall would have it.
const TRACKING: &str = "add table inet lab
add chain inet lab in { type filter hook prerouting priority 0; }
add rule inet lab in ct state new accept
add chain inet lab out { type filter hook output priority 0; }
add rule inet lab out ct state new accept";

/// All packets from now on are in a zone. Before conntrack, which looks flows up in the zone it is told.
const ZONING: &str = "add table inet zoning
add chain inet zoning in { type filter hook prerouting priority raw; }
add chain inet zoning out { type filter hook output priority raw; }
flush table inet zoning
add rule inet zoning in ct zone set ZONE
add rule inet zoning out ct zone set ZONE";

/// Port of the router that leads to the server; the source stays as it is.
pub const TRANSLATED_DESTINATION: u16 = 7003;
/// Another, where the source is translated too.
pub const TRANSLATED_BOTH: u16 = 7005;
/// How much higher the server's port is than the router's.
pub const PORT_SHIFT: u16 = 1000;

/// Rules of one address family: `FAMILY` and `SERVER` are filled in.
const TRANSLATION: &str = "add table FAMILY nat
add chain FAMILY nat in { type nat hook prerouting priority -100; }
add rule FAMILY nat in tcp dport 7003 dnat to SERVER:8003
add rule FAMILY nat in udp dport 7003 dnat to SERVER:8003
add rule FAMILY nat in tcp dport 7005 dnat to SERVER:8005
add rule FAMILY nat in udp dport 7005 dnat to SERVER:8005
add chain FAMILY nat out { type nat hook postrouting priority 100; }
add rule FAMILY nat out tcp dport 8003 accept
add rule FAMILY nat out udp dport 8003 accept
add rule FAMILY nat out oifname right meta l4proto tcp masquerade to :40000-41000
add rule FAMILY nat out oifname right meta l4proto udp masquerade to :40000-41000
add rule FAMILY nat out oifname right masquerade";

/// One end of a veth pair: where, its name, its addresses with their prefix lengths.
struct Port<'a> {
    namespace: &'a Namespace,
    name: &'static str,
    addresses: [&'static str; 2],
}

/// How long the two ends of a pair may take to be up.
const UP_WITHIN: Duration = Duration::from_secs(10);

const FIRST_MAC: &str = "02:00:00:20:03:01";
const SECOND_MAC: &str = "02:00:00:20:03:02";

pub(super) fn direct() -> Result<Lab> {
    let client = node("a", Vantage::Host)?;
    let server = node("b", Vantage::Host)?;
    join(
        &Port { namespace: &client.namespace, name: "left", addresses: ["10.203.1.2/24", "fd20:3:1::2/64"] },
        &Port { namespace: &server.namespace, name: "right", addresses: ["10.203.1.3/24", "fd20:3:1::3/64"] },
    )?;
    Ok(Lab { nodes: vec![client, server], promises: Vec::new() })
}

pub(super) fn routed() -> Result<Lab> {
    let client = node("a", Vantage::Host)?;
    let server = node("b", Vantage::Host)?;
    let router = node("r", Vantage::Router)?;
    let to_client =
        Port { namespace: &router.namespace, name: "left", addresses: ["10.203.1.1/24", "fd20:3:1::1/64"] };
    let to_server =
        Port { namespace: &router.namespace, name: "right", addresses: ["10.203.2.1/24", "fd20:3:2::1/64"] };
    let client_port =
        Port { namespace: &client.namespace, name: "uplink", addresses: ["10.203.1.2/24", "fd20:3:1::2/64"] };
    let server_port =
        Port { namespace: &server.namespace, name: "uplink", addresses: ["10.203.2.2/24", "fd20:3:2::2/64"] };
    join(&client_port, &to_client)?;
    join(&server_port, &to_server)?;
    default_route(&client.namespace, ["10.203.1.1", "fd20:3:1::1"])?;
    default_route(&server.namespace, ["10.203.2.1", "fd20:3:2::1"])?;
    let forwarding = ["-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    router.namespace.exec("sysctl", &forwarding)?;
    Ok(Lab { nodes: vec![client, server, router], promises: Vec::new() })
}

pub(super) fn direct_addresses(family: Family) -> (IpAddr, IpAddr) {
    match family {
        Family::V4 => (IpAddr::from([10, 203, 1, 2]), IpAddr::from([10, 203, 1, 3])),
        Family::V6 => (ula(1, 2), ula(1, 3)),
    }
}

pub(super) fn routed_addresses(family: Family) -> (IpAddr, IpAddr) {
    match family {
        Family::V4 => (IpAddr::from([10, 203, 1, 2]), IpAddr::from([10, 203, 2, 2])),
        Family::V6 => (ula(1, 2), ula(2, 2)),
    }
}

pub(super) fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 203, 1, 1]),
        Family::V6 => ula(1, 1),
    }
}

pub(super) fn track(namespace: &Namespace) -> Result<()> {
    namespace.exec("nft", &[TRACKING])?;
    // Conntrack checks received UDP-Lite with UDP's protocol number in the pseudo-header, so right packets are
    // invalid to it and not counted: net/netfilter/nf_conntrack_proto_udp.c, udplite_error().
    namespace.netfilter("nf_conntrack_checksum", 0)?;
    // A segment that overtakes another on the way to the second CPU is no part of a flow by the strict rules, and the
    // ledger has what was sent.
    namespace.netfilter("nf_conntrack_tcp_be_liberal", 1)
}

pub(super) fn zone(namespace: &Namespace, zone: u16) -> Result<()> {
    namespace.exec("nft", &[&ZONING.replace("ZONE", &zone.to_string())])?;
    Ok(())
}

pub(super) fn translate(router: &Namespace) -> Result<()> {
    for (family, server) in [("ip", "10.203.2.2"), ("ip6", "[fd20:3:2::2]")] {
        let rules = TRANSLATION.replace("FAMILY", family).replace("SERVER", server);
        router.exec("nft", &[&rules])?;
    }
    Ok(())
}

fn ula(net: u16, host: u16) -> IpAddr {
    IpAddr::from([0xfd20, 3, net, 0, 0, 0, 0, host])
}

fn node(role: &str, vantage: Vantage) -> Result<Node> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let namespace = Namespace::create(format!("ct{}-{number}{role}", process::id()))?;
    Ok(Node { capture: None, namespace, vantage, tracked: false })
}

fn join(one: &Port<'_>, other: &Port<'_>) -> Result<()> {
    let (first, second) = (one.namespace.name(), other.namespace.name());
    let here = ["link", "add", one.name, "address", FIRST_MAC, "netns", first];
    let there = ["type", "veth", "peer", "name", other.name, "address", SECOND_MAC, "netns", second];
    run("ip", &[&here[..], &there].concat())?;
    set_up(one, other, SECOND_MAC)?;
    set_up(other, one, FIRST_MAC)?;
    await_up(one)?;
    await_up(other)
}

/// The end that was up first gets its queue when the kernel has noticed that the other one is up as well. Until then
/// it drops packets that conntrack has counted.
fn await_up(port: &Port<'_>) -> Result<()> {
    let deadline = Instant::now() + UP_WITHIN;
    while !port.namespace.ip(&["-brief", "link", "show", "dev", port.name])?.contains(" UP ") {
        ensure!(Instant::now() < deadline, "{} in {} does not come up", port.name, port.namespace.name());
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Without segmentation offloads each packet on the wire is one packet to conntrack. TCP builds large segments
/// on its own whatever the device offers, so these are limited to one segment too.
///
/// Packets that wait for their neighbour's address to be resolved may be dropped after conntrack counted them, so
/// the neighbour is made known.
fn set_up(port: &Port<'_>, neighbour: &Port<'_>, mac: &str) -> Result<()> {
    const OFFLOADS: [&str; 6] = ["tx", "rx", "tso", "gso", "gro", "lro"];
    let Port { namespace, name, addresses: [v4, v6] } = port;
    let off = OFFLOADS.map(|offload| [offload, "off"]).concat();
    // Not every kernel lets each be changed; what cannot be changed is off already, or the ledger will tell.
    let _ = namespace.exec("ethtool", &[&["-K", *name][..], &off].concat());
    let mut commands = vec![
        format!("addr add {v4} dev {name}"),
        format!("addr add {v6} dev {name} nodad"),
        format!("link set dev {name} gso_max_segs 1"),
        format!("link set {name} up"),
    ];
    for address in neighbour.addresses {
        let address = address.split('/').next().unwrap_or(address);
        commands.push(format!("neigh replace {address} lladdr {mac} dev {name} nud permanent"));
    }
    namespace.ip_all(&commands)
}

fn default_route(namespace: &Namespace, [v4, v6]: [&str; 2]) -> Result<()> {
    namespace.ip_all(&[format!("route add default via {v4}"), format!("route add ::/0 via {v6}")])
}
