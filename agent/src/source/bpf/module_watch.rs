//! Notices that the module `nf_conntrack` was unloaded and loaded again.

use crate::kernel::module;

/// Remembers which load of the module was seen last.
pub(super) struct ModuleWatch {
    seen: Option<u64>,
}

impl ModuleWatch {
    pub(super) fn start() -> Self {
        Self { seen: module::incarnation() }
    }

    /// Whether another load of the module is there than the one seen last. Absence changes nothing yet: without
    /// the module there is nothing to attach to.
    pub(super) fn was_reloaded(&mut self) -> bool {
        self.notice(module::incarnation())
    }

    /// Makes the load that is there now count as another one again, after it could not be attached to.
    pub(super) const fn forget(&mut self) {
        self.seen = None;
    }

    fn notice(&mut self, now: Option<u64>) -> bool {
        let changed = now.is_some() && now != self.seen;
        if changed {
            self.seen = now;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_load_counts() {
        let mut watch = ModuleWatch { seen: Some(7) };
        assert!(!watch.notice(Some(7)));
        assert!(!watch.notice(None));
        assert!(watch.notice(Some(9)));
        assert!(!watch.notice(Some(9)));
        watch.forget();
        assert!(watch.notice(Some(9)));
    }
}
