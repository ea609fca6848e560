//! A dump of what lived before the programs were attached, read beside them.

use std::thread;

use tokio::sync::mpsc;

use crate::{kernel::netns::Namespace, model::Observation, source::netlink};

/// Chunks of a dump, as they come.
pub(super) type Chunks = mpsc::Receiver<Vec<Observation>>;

/// Dumps the flows of the given namespaces in a thread of its own, at the pace at which the chunks are taken.
pub(super) fn start(namespaces: Vec<Namespace>) -> Chunks {
    let (sender, receiver) = mpsc::channel(1);
    let dump = move || {
        let seeded = netlink::dump_all(&namespaces, |chunk| {
            // The receiver is dropped when the agent stops; the rest of the dump is then of no use.
            let _ = sender.blocking_send(chunk);
        });
        report(&seeded);
    };
    if let Err(error) = thread::Builder::new().name("seed".into()).spawn(dump) {
        tracing::error!(%error, "flows that already live are reported only when they move or end");
    }
    receiver
}

fn report(seeded: &netlink::Seeded) {
    tracing::debug!(flows = seeded.flows, "flows that already lived are known");
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
