//! Dumps of all flows of the reachable namespaces, read beside the kernel programs where these cannot walk the table.

use std::thread;

use tokio::sync::mpsc;

use crate::{kernel::netns::Namespace, model::Observation, source::netlink};

/// What a dump brings.
pub(super) enum Part {
    /// Some of the flows.
    Flows(Vec<Observation>),
    /// It is over; the inodes of the namespaces of which it brought every flow.
    Complete(Vec<u32>),
}

/// The parts of a dump, as they come.
pub(super) type Parts = mpsc::Receiver<Part>;

/// Dumps the flows of the given namespaces in a thread of its own, at the pace at which the parts are taken.
pub(super) fn start(namespaces: Vec<Namespace>) -> Parts {
    let (sender, receiver) = mpsc::channel(1);
    let dump = move || {
        let seeded = netlink::dump_all(&namespaces, |flows| {
            // The receiver is dropped when the agent stops; the rest of the dump is then of no use.
            let _ = sender.blocking_send(Part::Flows(flows));
        });
        report(&seeded);
        let inodes = namespaces.iter().map(|namespace| namespace.inode);
        let _ = sender.blocking_send(Part::Complete(complete(inodes, &seeded)));
    };
    if let Err(error) = thread::Builder::new().name("seed".into()).spawn(dump) {
        tracing::error!(%error, "flows that already live are reported only when they move or end");
    }
    receiver
}

/// The namespaces of which nothing is missing.
fn complete(namespaces: impl Iterator<Item = u32>, seeded: &netlink::Seeded) -> Vec<u32> {
    let is_complete = |netns: &u32| {
        seeded.malformed == 0
            && !seeded.incomplete.contains(netns)
            && seeded.failed.iter().all(|(failed, _)| failed != netns)
    };
    namespaces.filter(is_complete).collect()
}

fn report(seeded: &netlink::Seeded) {
    tracing::debug!(flows = seeded.flows, "flows that live are known");
    if seeded.malformed > 0 {
        tracing::warn!(
            messages = seeded.malformed,
            "some flows of the dump could not be read: they are met when they move"
        );
    }
    for (netns, error) in &seeded.failed {
        tracing::warn!(netns, %error, "the flows of a namespace could not be dumped: they are met when they move");
    }
    for netns in &seeded.incomplete {
        tracing::warn!(netns, "the dump of a namespace is incomplete: the rest is met when it moves");
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn only_namespaces_of_which_nothing_is_missing_are_complete() {
        let mut seeded = netlink::Seeded {
            failed: vec![(2, io::ErrorKind::NotFound.into())],
            incomplete: vec![3],
            ..netlink::Seeded::default()
        };
        assert_eq!(complete([1, 2, 3, 4].into_iter(), &seeded), [1, 4]);
        seeded.malformed = 1;
        assert!(complete([1, 4].into_iter(), &seeded).is_empty());
    }
}
