//! The accounting switches of a real network namespace, made for the test. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use conntally::kernel::netns::{self, Namespace};
use conntally::kernel::sysctl::Sysctls;
use std::path::PathBuf;
use std::process::Command;

/// A namespace by `ip netns`, removed at the end.
struct Scratch {
    name: String,
    namespace: Namespace,
}

impl Scratch {
    /// `None`, with the reason said, where that is not permitted.
    fn new(name: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("REQUIRE_ROOT_TESTS").is_none(),
                "not root, and REQUIRE_ROOT_TESTS forbids to skip"
            );
            eprintln!("skipped: needs root to make a network namespace");
            return None;
        }
        let name = format!("conntally-{name}-{}", std::process::id());
        assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
        let path = PathBuf::from("/run/netns").join(&name);
        let namespace = Namespace::open(&path, Some(name.clone())).unwrap();
        Some(Self { name, namespace })
    }

    fn read(&self, switch: &str) -> String {
        let path = format!("/proc/sys/net/netfilter/{switch}");
        netns::within(&self.namespace, || std::fs::read_to_string(path).unwrap().trim().to_owned()).unwrap()
    }

    fn write(&self, switch: &str, value: &str) {
        let path = format!("/proc/sys/net/netfilter/{switch}");
        netns::within(&self.namespace, || std::fs::write(path, value).unwrap()).unwrap();
    }

    fn both(&self) -> [String; 2] {
        [self.read("nf_conntrack_acct"), self.read("nf_conntrack_timestamp")]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

#[test]
fn switches_of_a_namespace_are_turned_on_and_put_back_by_the_last_agent() {
    let Some(scratch) = Scratch::new("sysctl") else { return };
    scratch.write("nf_conntrack_acct", "0");
    scratch.write("nf_conntrack_timestamp", "1");
    let run_dir = tempfile::tempdir().unwrap();
    let (first, second) = (Sysctls::hold(run_dir.path()).unwrap(), Sysctls::hold(run_dir.path()).unwrap());

    let adopted = first.adopt(&scratch.namespace).unwrap();
    assert_eq!((adopted.changed.len(), adopted.already_on), (1, 1), "{adopted:?}");
    assert_eq!(scratch.both(), ["1", "1"]);
    assert_eq!(second.adopt(&scratch.namespace).unwrap().already_on, 2);

    assert!(first.release().unwrap().others_run);
    assert_eq!(scratch.both(), ["1", "1"]);
    assert_eq!(second.release().unwrap().restored.len(), 1);
    assert_eq!(scratch.both(), ["0", "1"]);
}

#[test]
fn a_namespace_that_is_gone_is_no_error() {
    let Some(scratch) = Scratch::new("gone") else { return };
    scratch.write("nf_conntrack_acct", "0");
    scratch.write("nf_conntrack_timestamp", "0");
    let run_dir = tempfile::tempdir().unwrap();
    let agent = Sysctls::hold(run_dir.path()).unwrap();
    assert_eq!(agent.adopt(&scratch.namespace).unwrap().changed.len(), 2);
    drop(scratch);
    let restored = agent.release().unwrap();
    assert_eq!((restored.gone, restored.failed.len()), (2, 0), "{restored:?}");
}
