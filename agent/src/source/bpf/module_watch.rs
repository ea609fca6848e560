//! Notices that the module `nf_conntrack` was unloaded and loaded again.

use crate::kernel::module;

/// Remembers which load of the module was seen last, and whether it was attached to.
#[derive(Debug)]
pub(super) struct ModuleWatch {
    seen: Option<u64>,
    is_attached: bool,
    reloads: u64,
}

impl ModuleWatch {
    /// To be called when the load that is there was attached to.
    pub(super) fn start() -> Self {
        Self::attached_to(module::incarnation())
    }

    const fn attached_to(seen: Option<u64>) -> Self {
        Self { seen, is_attached: true, reloads: 0 }
    }

    /// Whether a load of the module is there that was not attached to. Absence changes nothing yet: without the
    /// module there is nothing to attach to.
    pub(super) fn wants_attaching(&mut self) -> bool {
        self.look(module::incarnation())
    }

    /// Notes that the load that was seen last is attached to.
    pub(super) const fn attached(&mut self) {
        self.is_attached = true;
    }

    /// How often it was loaded again: counted when it is noticed, whatever comes of attaching.
    pub(super) const fn reloads(&self) -> u64 {
        self.reloads
    }

    fn look(&mut self, now: Option<u64>) -> bool {
        if now.is_some() && now != self.seen {
            (self.seen, self.is_attached) = (now, false);
            self.reloads += 1;
        }
        now.is_some() && !self.is_attached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_load_wants_attaching_until_it_is_attached_to_and_counts_once() {
        let mut watch = ModuleWatch::attached_to(Some(7));
        assert!(!watch.look(Some(7)));
        assert!(!watch.look(None));
        assert_eq!(watch.reloads(), 0);
        for _ in 0..3 {
            assert!(watch.look(Some(9)), "attaching fails and is tried again");
            assert_eq!(watch.reloads(), 1);
        }
        assert!(!watch.look(None), "there is nothing to attach to");
        assert!(watch.look(Some(11)), "loaded again before it was attached to");
        watch.attached();
        assert!(!watch.look(Some(11)));
        assert_eq!(watch.reloads(), 2);
    }
}
