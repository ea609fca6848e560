//! Names of network namespaces for records, looked up when one is first seen.

use crate::kernel::netns::{self, Namespace};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Looking costs a walk through /proc, and namespaces may come by the thousand.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The kernel gives the number of a namespace that is gone to a new one: what is known is looked up again then.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Namespaces by inode.
#[derive(Debug, Default)]
pub(super) struct NetnsNames(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    names: HashMap<u32, Found>,
    looks: u64,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Found {
    /// `None` for a namespace that has no name.
    name: Option<Arc<str>>,
    /// The look by which it was found last.
    look: u64,
}

impl NetnsNames {
    /// The name of a namespace, if it has one.
    pub(super) fn get(&self, inode: u32) -> Option<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(inode, Instant::now(), netns::reachable)
    }
}

impl Known {
    fn get(&mut self, inode: u32, now: Instant, reachable: impl Fn() -> Vec<Namespace>) -> Option<Arc<str>> {
        let patience = if self.names.contains_key(&inode) { LOOK_AGAIN_AFTER } else { LOOK_EVERY };
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= patience) {
            self.looked = Some(now);
            self.look(inode, reachable());
        }
        self.names.get(&inode).and_then(|found| found.name.clone())
    }

    fn look(&mut self, wanted: u32, reachable: Vec<Namespace>) {
        self.looks += 1;
        let look = self.looks;
        for namespace in reachable {
            let name = namespace.name.map(Arc::from);
            self.names.insert(namespace.inode, Found { name, look });
        }
        // One that is gone keeps its name for one look more: the ends of its flows are still on their way.
        self.names.retain(|_, found| found.look + 1 >= look);
        // One that was never found will not get a name any more.
        self.names.entry(wanted).or_insert(Found { name: None, look });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_namespace_is_looked_up_once_and_has_no_name() {
        let names = NetnsNames::default();
        assert_eq!(names.get(1), None);
        let looked = names.0.lock().unwrap().looked;
        assert_eq!(names.get(1), None);
        assert_eq!(names.0.lock().unwrap().looked, looked);
    }

    #[test]
    fn the_own_namespace_has_the_name_that_the_kernel_module_tells() {
        let own = netns::current().unwrap();
        assert_eq!(NetnsNames::default().get(own.inode).as_deref(), own.name.as_deref());
    }

    #[test]
    fn a_name_outlives_its_namespace_for_one_look_and_no_longer() {
        let mut known = Known::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let there = || {
            let mut own = netns::current().unwrap();
            own.name = Some("blue".into());
            vec![own]
        };
        let inode = netns::current().unwrap().inode;
        assert_eq!(known.get(inode, at(0), there).as_deref(), Some("blue"));
        assert_eq!(known.get(inode, at(9), || panic!("looked too soon")).as_deref(), Some("blue"));
        assert_eq!(known.get(inode, at(10), Vec::new).as_deref(), Some("blue"));
        assert_eq!(known.get(inode, at(20), Vec::new), None);
        assert_eq!(known.get(inode, at(30), there).as_deref(), Some("blue"));
    }
}
