//! The whole of it against a kernel made of strings.

use super::*;
use std::collections::HashMap;
use std::sync::Arc;

/// Switches by scope; a missing one does not exist, one in `locked` cannot be written.
#[derive(Clone, Debug, Default)]
struct Fake(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    values: HashMap<(u32, &'static str), String>,
    locked: Vec<&'static str>,
}

/// The module's place among the namespaces.
const MODULE: u32 = 0;

impl Fake {
    fn get(&self, scope: u32, name: &'static str) -> Option<String> {
        self.0.lock().unwrap().values.get(&(scope, name)).cloned()
    }

    fn set(&self, scope: u32, name: &'static str, value: &str) {
        self.0.lock().unwrap().values.insert((scope, name), value.into());
    }

    fn key(owner: Owner<'_>, switch: Switch) -> (u32, &'static str) {
        match owner {
            Owner::Namespace(namespace) => (namespace.inode, switch.sysctl()),
            Owner::Module => (MODULE, switch.parameter()),
        }
    }
}

impl Kernel for Fake {
    fn reachable(&self) -> Vec<Namespace> {
        vec![own()]
    }

    fn read(&self, owner: Owner<'_>, switch: Switch) -> io::Result<String> {
        let (scope, name) = Self::key(owner, switch);
        self.get(scope, name).map(|value| format!("{value}\n")).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&self, owner: Owner<'_>, switch: Switch, value: &str) -> io::Result<()> {
        let (scope, name) = Self::key(owner, switch);
        if self.0.lock().unwrap().locked.contains(&name) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.set(scope, name, value);
        Ok(())
    }
}

fn own() -> Namespace {
    super::super::netns::current().unwrap()
}

const ACCT: &str = "nf_conntrack_acct";
const TIMESTAMP: &str = "nf_conntrack_timestamp";

struct Bench {
    dir: tempfile::TempDir,
    kernel: Fake,
    inode: u32,
}

impl Bench {
    /// Accounting off, timestamps on, module parameters off.
    fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap(), kernel: Fake::default(), inode: own().inode };
        bench.kernel.set(bench.inode, ACCT, "0");
        bench.kernel.set(bench.inode, TIMESTAMP, "1");
        bench.kernel.set(MODULE, "acct", "N");
        bench.kernel.set(MODULE, "tstamp", "N");
        bench
    }

    fn agent(&self) -> Sysctls<Fake> {
        self.agent_of_boot("b")
    }

    fn agent_of_boot(&self, boot_id: &str) -> Sysctls<Fake> {
        Sysctls::with_kernel(self.dir.path(), self.kernel.clone(), boot_id.into()).unwrap()
    }

    fn acct(&self) -> String {
        self.kernel.get(self.inode, ACCT).unwrap()
    }

    fn ledger_exists(&self) -> bool {
        self.dir.path().join("sysctls").exists()
    }
}

/// Ends an agent as `kill -9` does: its locks go, nothing else happens.
fn kill(agent: &Sysctls<Fake>) {
    drop(agent.presence.lock().unwrap().take());
}

#[test]
fn only_what_was_off_is_changed_and_put_back() {
    let bench = Bench::new();
    let agent = bench.agent();
    let adopted = agent.adopt(&own()).unwrap();
    assert_eq!((adopted.changed.len(), adopted.already_on), (1, 1));
    assert_eq!(bench.acct(), "1");
    let restored = agent.release().unwrap();
    assert_eq!((restored.restored.len(), restored.left.len(), restored.has_module), (1, 0, false));
    assert_eq!(bench.acct(), "0");
    assert_eq!(bench.kernel.get(bench.inode, TIMESTAMP).unwrap(), "1");
    assert!(!bench.ledger_exists());
}

#[test]
fn the_modules_parameters_are_put_back_as_they_were() {
    let bench = Bench::new();
    let agent = bench.agent();
    agent.adopt_module().unwrap();
    assert_eq!(bench.kernel.get(MODULE, "acct").unwrap(), "Y");
    assert!(agent.release().unwrap().has_module);
    assert_eq!(bench.kernel.get(MODULE, "acct").unwrap(), "N");
    assert_eq!(bench.kernel.get(MODULE, "tstamp").unwrap(), "N");
}

#[test]
fn one_switch_that_is_on_is_enough_to_be_on() {
    let bench = Bench::new();
    let agent = bench.agent();
    assert!(agent.is_any_on(&own()), "timestamps are");
    bench.kernel.set(bench.inode, TIMESTAMP, "0");
    assert!(!agent.is_any_on(&own()));
}

#[test]
fn a_panic_puts_everything_back() {
    let bench = Bench::new();
    let agent = bench.agent();
    agent.adopt(&own()).unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _agent = agent;
        panic!("on purpose");
    }));
    assert!(result.is_err());
    assert_eq!(bench.acct(), "0");
}

#[test]
fn what_someone_else_changed_meanwhile_is_left_alone() {
    let bench = Bench::new();
    let agent = bench.agent();
    agent.adopt_module().unwrap();
    bench.kernel.set(MODULE, "acct", "N");
    let restored = agent.release().unwrap();
    assert_eq!((restored.restored.len(), restored.left.len()), (1, 1));
}

#[test]
fn the_last_of_two_agents_puts_back_whichever_it_is() {
    let bench = Bench::new();
    let (first, second) = (bench.agent(), bench.agent());
    assert_eq!(first.adopt(&own()).unwrap().changed.len(), 1);
    assert_eq!(second.adopt(&own()).unwrap().changed.len(), 0);
    assert!(first.release().unwrap().others_run);
    assert_eq!(bench.acct(), "1");
    assert_eq!(second.release().unwrap().restored.len(), 1);
    assert_eq!(bench.acct(), "0");
}

#[test]
fn the_agent_after_a_killed_one_puts_back_what_that_one_changed() {
    let bench = Bench::new();
    let killed = bench.agent();
    killed.adopt(&own()).unwrap();
    kill(&killed);
    drop(killed);
    assert_eq!(bench.acct(), "1", "a killed agent puts nothing back");
    let next = bench.agent();
    assert_eq!(next.adopt(&own()).unwrap().changed.len(), 0);
    drop(next);
    assert_eq!(bench.acct(), "0");
}

#[test]
fn the_values_of_an_earlier_boot_are_not_put_back() {
    let bench = Bench::new();
    let killed = bench.agent();
    killed.adopt(&own()).unwrap();
    kill(&killed);
    drop(bench.agent_of_boot("c"));
    assert_eq!(bench.acct(), "1");
}

#[test]
fn switches_that_the_kernel_lacks_or_refuses_are_told() {
    let bench = Bench::new();
    bench.kernel.0.lock().unwrap().values.remove(&(bench.inode, TIMESTAMP));
    bench.kernel.0.lock().unwrap().locked.push(ACCT);
    let agent = bench.agent();
    let adopted = agent.adopt(&own()).unwrap();
    assert_eq!((adopted.changed.len(), adopted.absent.len(), adopted.refused.len()), (0, 1, 1));
    assert_eq!(adopted.refused[0].0, format!("net.netfilter.{ACCT} of network namespace {}", bench.inode));
}

#[test]
fn what_cannot_be_put_back_is_kept_for_the_next_agent() {
    let bench = Bench::new();
    let agent = bench.agent();
    agent.adopt(&own()).unwrap();
    bench.kernel.0.lock().unwrap().locked.push(ACCT);
    assert_eq!(agent.release().unwrap().failed.len(), 1);
    bench.kernel.0.lock().unwrap().locked.clear();
    drop(bench.agent());
    assert_eq!(bench.acct(), "0");
}

#[test]
fn nothing_is_changed_when_old_values_cannot_be_kept() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.dir.path().join("sysctls.new/x")).unwrap();
    let agent = bench.agent();
    let error = agent.adopt(&own()).unwrap_err().to_string();
    assert!(error.contains("cannot keep the old sysctl values"), "{error}");
    assert_eq!(bench.acct(), "0");
}

#[test]
fn after_its_release_an_agent_changes_nothing() {
    let bench = Bench::new();
    let agent = bench.agent();
    agent.release().unwrap();
    assert_eq!(agent.adopt(&own()).unwrap().changed.len(), 0);
    assert_eq!(bench.acct(), "0");
}

#[test]
fn a_switch_that_could_not_be_turned_on_is_left_to_its_owner() {
    let bench = Bench::new();
    bench.kernel.0.lock().unwrap().locked.push(ACCT);
    let agent = bench.agent();
    assert_eq!(agent.adopt(&own()).unwrap().refused.len(), 1);
    assert!(!bench.ledger_exists());
    bench.kernel.0.lock().unwrap().locked.clear();
    bench.kernel.set(bench.inode, ACCT, "1");
    assert!(agent.release().unwrap().restored.is_empty());
    assert_eq!(bench.acct(), "1");
}

#[test]
fn a_namespace_with_the_number_of_one_that_is_gone_is_left_alone() {
    let bench = Bench::new();
    let agent = bench.agent();
    agent.adopt(&own()).unwrap();
    agent.adopt_module().unwrap();
    agent.forget(bench.inode).unwrap();
    let restored = agent.release().unwrap();
    assert_eq!((restored.restored.len(), restored.left.len()), (2, 0), "the module's alone");
    assert_eq!(bench.acct(), "1");
}
