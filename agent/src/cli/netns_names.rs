//! Names of network namespaces for records, looked up when one is first seen.

use crate::kernel::netns;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Looking costs a walk through /proc, and namespaces may come by the thousand.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Namespaces remembered; beyond, all are looked up anew.
const MAX_KNOWN: usize = 16_384;

/// Namespaces by inode.
#[derive(Debug, Default)]
pub(super) struct NetnsNames(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// `None` for a namespace that has no name.
    names: HashMap<u32, Option<Arc<str>>>,
    looked: Option<Instant>,
}

impl NetnsNames {
    /// The name of a namespace, if it has one.
    pub(super) fn get(&self, inode: u32) -> Option<Arc<str>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.names.get(&inode) {
            return name.clone();
        }
        if known.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return None;
        }
        known.look(inode)
    }
}

impl Known {
    fn look(&mut self, wanted: u32) -> Option<Arc<str>> {
        self.looked = Some(Instant::now());
        if self.names.len() >= MAX_KNOWN {
            self.names.clear();
        }
        for namespace in netns::reachable() {
            self.names.insert(namespace.inode, namespace.name.map(Arc::from));
        }
        // One that is gone already will not get a name any more.
        self.names.entry(wanted).or_insert(None).clone()
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
}
