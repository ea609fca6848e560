//! The source that needs no tracing: ctnetlink events tell of births and ends, dumps tell the counters between.
//!
//! One thread owns all sockets and what is known of the flows; batches reach the reader through a bounded channel.
//! The start waits for the first dump of each namespace, and the end makes a last one of what still lives. When the reader is slow, the thread waits, and the sockets' buffers take what comes meanwhile.

mod clock;
mod flow;
mod known;
mod looks;
mod losses;
mod recent;
mod seed;
mod watch;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::mpsc;

pub use seed::{Seeded, dump_all};

use self::{losses::LossCounters, worker::Worker};
use super::{Batch, Look, Losses, Progress, Source, SourceError};
use crate::model::Observation;

/// How long a read waits at most.
const READ_TIME: Duration = Duration::from_millis(100);

/// Batches that may wait for the reader.
const CHANNEL: usize = 4;

/// What the netlink source can be told.
#[derive(Clone, Debug)]
pub struct NetlinkOptions {
    /// Receive buffer of each event socket, in bytes. The kernel takes 1,280 of them for one end of a flow.
    pub receive_buffer: usize,
    /// Time between two dumps of a namespace at least; a quarter of it where flows were born and the table is
    /// small. A dump that takes longer than half of it is followed by a pause of its own length, so that dumping
    /// never takes more than half of a core.
    pub dump_interval: Duration,
    /// From which age on a flow is reported how often, by ascending age. Flows that did not move are not reported.
    pub rate_curve: Vec<(Duration, Duration)>,
    /// Inodes of network namespaces to leave alone.
    pub ignore_netns: Vec<u32>,
    /// Flows to keep in mind at most, in all namespaces together: 200 to 400 bytes each. Those beyond are reported
    /// at their end only, and counted.
    pub max_flows: usize,
    /// Complete looks to make at the start, for a flow table that knows flows from before: two tell what is gone.
    pub looks: u32,
}

impl Default for NetlinkOptions {
    fn default() -> Self {
        Self {
            receive_buffer: 8 << 20,
            dump_interval: Duration::from_secs(1),
            rate_curve: [(0, 5), (60, 20), (300, 60)]
                .map(|(age, every)| (Duration::from_secs(age), Duration::from_secs(every)))
                .to_vec(),
            ignore_netns: Vec::new(),
            max_flows: 1 << 20,
            looks: 0,
        }
    }
}

/// What the worker and the reader share.
#[derive(Debug, Default)]
struct Shared {
    /// How many batches the reader has handed over.
    handed: AtomicU64,
    stop: AtomicBool,
    losses: LossCounters,
}

/// What the worker sends.
#[derive(Debug)]
struct Delivery {
    observations: Vec<Observation>,
    /// The value of [`Shared::handed`] before the sockets were last read until empty; `None` when they were not.
    as_of: Option<u64>,
    /// The look that ended with these observations.
    look: Option<Look>,
}

/// Observations by ctnetlink from every reachable network namespace, which it follows as they come and go.
#[derive(Debug)]
pub struct NetlinkSource {
    deliveries: mpsc::Receiver<Delivery>,
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

impl NetlinkSource {
    /// Listens in every reachable network namespace and dumps each once, which the first reads hand over: when this
    /// returns, what each flow moves is accounted. Waits at most 5 s for the dumps and names those that are late.
    ///
    /// # Errors
    /// When not even the own namespace can be listened to: CAP_NET_ADMIN or `nf_conntrack_netlink` is missing.
    pub fn start(options: NetlinkOptions) -> Result<Self, SourceError> {
        let shared = Arc::new(Shared::default());
        let (sender, deliveries) = mpsc::channel(CHANNEL);
        let mut worker = Worker::new(options, Arc::clone(&shared), sender)
            .map_err(|cause| failed("cannot listen to conntrack by netlink", cause))?;
        worker.prepare();
        let worker = thread::Builder::new()
            .name("netlink".into())
            .spawn(move || worker.run())
            .map_err(|cause| failed("cannot start the netlink thread", cause))?;
        Ok(Self { deliveries, shared, worker: Some(worker) })
    }

    /// Puts a delivery into the batch; `None` means that the worker has ended.
    fn hand_over(&mut self, delivery: Option<Delivery>, batch: &mut Batch) -> Option<()> {
        let delivery = delivery?;
        let handed = self.shared.handed.fetch_add(1, Ordering::AcqRel);
        batch.settled = delivery.as_of == Some(handed);
        batch.look = delivery.look;
        batch.observations.extend_from_slice(&delivery.observations);
        Some(())
    }

    fn ended(&mut self) -> Result<Progress, SourceError> {
        match self.worker.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(SourceError {
                what: "the netlink source stopped".into(),
                cause: anyhow::anyhow!("its thread panicked; this is a bug, please report it"),
            }),
            _ => Ok(Progress::Finished),
        }
    }
}

impl Source for NetlinkSource {
    async fn read(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        let Ok(delivery) = tokio::time::timeout(READ_TIME, self.deliveries.recv()).await else {
            return Ok(Progress::More);
        };
        match self.hand_over(delivery, batch) {
            Some(()) => Ok(Progress::More),
            None => self.ended(),
        }
    }

    async fn drain(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        self.shared.stop.store(true, Ordering::Release);
        let delivery = self.deliveries.recv().await;
        match self.hand_over(delivery, batch) {
            Some(()) => Ok(Progress::More),
            None => self.ended(),
        }
    }

    fn losses(&self) -> Losses {
        self.shared.losses.totals()
    }
}

impl Drop for NetlinkSource {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

fn failed(what: &str, cause: std::io::Error) -> SourceError {
    SourceError { what: what.into(), cause: cause.into() }
}
