//! Complete looks at the start: what a flow table knows from before and two of them do not show is gone.

use std::time::{Duration, Instant};

use super::{clock::Moment, watch::Watch};
use crate::source::{Look, Scope};

/// Between two looks: a dump of a table that is resized meanwhile may miss a flow, two of them hardly.
const APART: Duration = Duration::from_secs(2);

/// The looks that are left to do.
#[derive(Debug)]
pub(super) struct Looks {
    left: u32,
    next: Instant,
    /// The look under way.
    running: Option<Look>,
}

impl Looks {
    /// So many looks, the first at once.
    pub(super) fn new(count: u32) -> Self {
        Self { left: count, next: Instant::now(), running: None }
    }

    /// Begins a look when it is time, or tells of the one that is complete. To be called when no dump is read.
    pub(super) fn advance(&mut self, watches: &mut [Watch]) -> Option<Look> {
        if self.running.is_none() {
            self.begin(watches);
            return None;
        }
        let seen = |watch: &&Watch| self.running.as_ref().is_some_and(|look| sees(look, watch));
        if !watches.iter().filter(seen).all(Watch::has_recited) {
            return None;
        }
        self.next = Instant::now() + APART;
        self.running.take()
    }

    fn begin(&mut self, watches: &mut [Watch]) {
        // A source that does not keep every flow in mind cannot tell of each.
        if self.left == 0 || Instant::now() < self.next || watches.iter().any(Watch::is_overfull) {
            return;
        }
        self.left -= 1;
        watches.iter_mut().for_each(Watch::recite);
        let scope = Scope::Namespaces(watches.iter().map(Watch::inode).collect());
        self.running = Some(Look { began_boot_ns: Moment::now().boot_ns, scope });
    }
}

fn sees(look: &Look, watch: &Watch) -> bool {
    matches!(&look.scope, Scope::Namespaces(inodes) if inodes.contains(&watch.inode()))
}
