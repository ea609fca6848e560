//! The nftables table that makes a namespace track its connections, against the running kernel.

use crate::namespace::{TestNamespace, udp};
use conntally::kernel::{
    netlink::{conntrack, socket::NetfilterSocket},
    netns::within,
    tracking::Tracking,
};

fn entries() -> u32 {
    conntrack::entries(&NetfilterSocket::open().unwrap(), 1).unwrap()
}

fn tables(ns: &TestNamespace) -> String {
    ns.output(&["nft", "list", "ruleset"])
}

#[test]
fn an_idle_namespace_tracks_both_families_only_while_enabled() {
    let Some(ns) = TestNamespace::create("track") else { return };
    within(ns.namespace(), || {
        udp("127.0.0.1:5001", "127.0.0.1:5002", 1);
        assert_eq!(entries(), 0, "nothing asked for tracking yet");

        let tracking = Tracking::enable().unwrap();
        udp("127.0.0.1:5001", "127.0.0.1:5002", 1);
        udp("[::1]:5001", "[::1]:5002", 1);
        assert_eq!(entries(), 2);

        tracking.disable().unwrap();
        conntrack::flush(&NetfilterSocket::open().unwrap()).unwrap();
        udp("127.0.0.1:5003", "127.0.0.1:5004", 1);
        assert_eq!(entries(), 0, "tracking goes with the table");
    })
    .unwrap();
    assert_eq!(tables(&ns), "", "nothing is left behind");
}

#[test]
fn a_stale_table_is_replaced_and_nothing_else_is_touched() {
    let Some(ns) = TestNamespace::create("stale") else { return };
    ns.run(&["nft", "add table inet conntally { chain old { } ; }"]);
    ns.run(&["nft", "add table inet other { chain mine { type filter hook input priority 0 ; } ; }"]);
    let tracking = within(ns.namespace(), Tracking::enable).unwrap().unwrap();
    let during = tables(&ns);
    assert!(during.contains("chain tracking") && !during.contains("chain old"), "{during}");
    drop(tracking);
    let after = tables(&ns);
    assert!(after.contains("table inet other") && after.contains("chain mine"), "{after}");
    assert!(!after.contains("conntally"), "{after}");
}

#[test]
fn two_agents_keep_tracking_until_both_have_left() {
    let Some(ns) = TestNamespace::create("two") else { return };
    let first = within(ns.namespace(), Tracking::enable).unwrap().unwrap();
    let second = within(ns.namespace(), Tracking::enable).unwrap().unwrap();
    first.disable().unwrap();
    within(ns.namespace(), || {
        udp("127.0.0.1:5001", "127.0.0.1:5002", 1);
        assert_eq!(entries(), 1);
    })
    .unwrap();
    second.disable().unwrap();
    assert_eq!(tables(&ns), "");
}

#[test]
fn without_privilege_the_error_names_the_capability() {
    let Some(_ns) = TestNamespace::create("unpriv") else { return };
    let error = std::thread::spawn(|| {
        caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap();
        Tracking::enable().unwrap_err().to_string()
    });
    assert_eq!(
        error.join().unwrap(),
        "not permitted to add the nftables table `inet conntally`; run with CAP_NET_ADMIN"
    );
}
