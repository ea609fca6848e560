//! A spool as tasks use it: whatever waits for the disk does so on threads that may.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::error::{Refused, SpoolError};
use super::segment::{Damaged, Ticket};
use super::store::{Recovered, Store};
use super::target;
use crate::config::SpoolConfig;
use crate::pipeline::{Request, Weight};

/// How long what was written may be kept from the disk with `fsync = "interval"`.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// How soon a spool that took nothing is tried again, if nothing was removed from it before.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How often the same trouble is told.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The spool of one sink.
#[derive(Debug)]
pub struct Spool {
    name: String,
    dir: PathBuf,
    store: Mutex<Store>,
    keeps_sets: bool,
    /// Something was appended, or nothing more comes.
    arrived: Notify,
    /// Something is done with.
    freed: Notify,
    has_ended: AtomicBool,
    will_sync: AtomicBool,
    /// Since something could not be done: when to tell that again.
    trouble: Mutex<Option<Instant>>,
}

impl Spool {
    /// Makes or opens the spool of the sink of this name and type, on a machine of this boot. Reads the heads of all
    /// requests that are there. `in_sets`: the sink's items are made of many records at a time, all of which are to be in
    /// the spool or none, so that a later agent knows which of those that it is told of once more are in them.
    ///
    /// # Errors
    /// When it cannot be used, another process uses it, or it holds what another type of sink has written.
    pub fn open(
        name: &str,
        config: &SpoolConfig,
        sink: &str,
        boot_id: [u8; 16],
        in_sets: bool,
    ) -> Result<Arc<Self>, SpoolError> {
        let mut store = Store::open(config, sink, boot_id)?;
        let kept = if in_sets { store.keep_sets() } else { store.forget_sets() };
        kept.map_err(|cause| SpoolError::Directory {
            what: "cannot note which requests belong together in",
            path: config.dir.clone(),
            cause,
        })?;
        let spool = Self {
            name: name.to_owned(),
            dir: config.dir.clone(),
            store: Mutex::new(store),
            keeps_sets: in_sets,
            arrived: Notify::new(),
            freed: Notify::new(),
            has_ended: AtomicBool::new(false),
            will_sync: AtomicBool::new(false),
            trouble: Mutex::new(None),
        };
        spool.tell_recovered();
        Ok(Arc::new(spool))
    }

    /// Notes where requests go from now on, and says so in the log if what waits was meant for another place.
    pub fn note_target(&self, target: &str) {
        let (name, dir) = (&self.name, self.dir.display());
        match target::note(&self.dir, target) {
            Ok(Some(before)) if self.recovered().requests > 0 => tracing::warn!(
                "sink {name}: what an earlier agent has left in the spool {dir} was meant for {before}; it goes to {target} \
                 now, as is configured (a request that was under way may be stored in both)"
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(
                "sink {name}: cannot note in the spool {dir} where its requests go ({error}); if that is changed, the log \
                 will not tell"
            ),
        }
    }

    /// What was there when it was opened.
    pub(in crate::pipeline) fn recovered(&self) -> Recovered {
        self.lock().recovered()
    }

    /// Appends a request, or gives it back.
    pub(in crate::pipeline) async fn append(
        self: &Arc<Self>,
        request: Request,
    ) -> Result<(), (Request, Refused)> {
        let work = |store: &mut Store| match store.append(&request) {
            Ok(()) => Ok(()),
            Err(refused) => Err((request, refused)),
        };
        // A runtime that ends drops whoever waits.
        let Some(appended) = self.run(work).await else { return std::future::pending().await };
        // Also what is refused may let go what waits.
        self.arrived.notify_one();
        if appended.is_ok() {
            self.sync_soon();
            self.tell_mended();
        }
        appended
    }

    /// The next request, as soon as there is one, and what was found damaged before it; no request when nothing more
    /// comes.
    pub(in crate::pipeline) async fn next(self: &Arc<Self>) -> (Option<(Ticket, Request)>, Damaged) {
        loop {
            let has_ended = self.has_ended.load(Relaxed);
            let taken = self.run(|store| (store.take(), store.take_damaged())).await;
            let Some((next, damaged)) = taken else { return std::future::pending().await };
            let (next, unreadable) = match next {
                Ok(next) => (next, None),
                Err(error) => (None, Some(error)),
            };
            if let Some(error) = &unreadable {
                self.complain(&format!(
                    "what waits in it cannot be read ({error}): it stays, and is tried again"
                ));
            }
            if next.is_some() || has_ended || damaged.weight.records > 0 {
                return (next, damaged);
            }
            match unreadable {
                Some(_) => sleep(TRY_AGAIN).await,
                None => self.arrived.notified().await,
            }
        }
    }

    /// Whether requests make up sets.
    pub(in crate::pipeline) const fn keeps_sets(&self) -> bool {
        self.keeps_sets
    }

    /// See [`Store::sealed_through`].
    pub(in crate::pipeline) fn sealed_through(&self) -> Option<u64> {
        self.lock().sealed_through()
    }

    /// See [`Store::seal`]. Returns whether it is noted; what was appended is taken out in any case.
    pub(in crate::pipeline) async fn seal(self: &Arc<Self>, through: u64) -> bool {
        let sealed = self.run(move |store| store.seal(Some(through))).await;
        if let Some(Err(error)) = &sealed {
            self.complain(&format!(
                "cannot note up to where it is whole ({error}); after a kill sums may be sent twice"
            ));
        }
        self.sync_soon();
        self.arrived.notify_one();
        matches!(sealed, Some(Ok(())))
    }

    /// Whether nothing more is appended.
    pub(in crate::pipeline) fn has_ended(&self) -> bool {
        self.has_ended.load(Relaxed)
    }

    /// Notes that all of a request is stored or given up.
    pub(in crate::pipeline) async fn done(self: &Arc<Self>, ticket: Ticket) {
        if let Some(Err(error)) = self.run(move |store| store.done(ticket)).await {
            self.complain(&format!("cannot note what is delivered ({error}); after a kill it is sent again"));
        }
        self.freed.notify_one();
    }

    /// Whether nothing waits and nothing is under way.
    pub(in crate::pipeline) async fn is_idle(self: &Arc<Self>) -> bool {
        self.run(|store| store.is_idle()).await.unwrap_or(false)
    }

    /// Waits until there may be room.
    pub(in crate::pipeline) async fn room(&self) {
        tokio::select! {
            () = self.freed.notified() => {}
            () = sleep(TRY_AGAIN) => {}
        }
    }

    /// Notes that nothing more is appended.
    pub(in crate::pipeline) fn end(&self) {
        self.has_ended.store(true, Relaxed);
        self.arrived.notify_one();
    }

    /// Brings all of it to the disk, unless it is configured not to, and removes what nobody needs.
    pub(in crate::pipeline) async fn close(self: &Arc<Self>, left: Weight) {
        if let Some(Err(error)) = self.run(Store::close).await {
            self.complain(&format!("cannot bring it to the disk ({error})"));
        }
        if left.records > 0 {
            tracing::warn!(
                records = left.records,
                "sink {}: these records stay in the spool {}, where the next agent finds them",
                self.name,
                self.dir.display()
            );
        }
    }

    /// Tells, not too often, that something cannot be done.
    pub(in crate::pipeline) fn complain(&self, what: &str) {
        let now = Instant::now();
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none_or(|say_again| now >= say_again) {
            *trouble = Some(now + SAY_EVERY);
            tracing::error!("sink {}: the spool {}: {what}", self.name, self.dir.display());
        }
    }

    fn tell_mended(&self) {
        if self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("sink {}: the spool {} takes records again", self.name, self.dir.display());
        }
    }

    fn tell_recovered(&self) {
        let Recovered { requests, weight, bytes, damaged, missing, torn } = self.recovered();
        let (name, dir) = (&self.name, self.dir.display());
        if requests > 0 {
            let records = weight.records;
            tracing::info!(
                records,
                requests,
                bytes,
                "sink {name}: an earlier agent has left these in the spool {dir}"
            );
        }
        if torn.records > 0 {
            let records = torn.records;
            tracing::info!(
                records,
                "sink {name}: an agent was killed while it wrote these to the spool {dir}"
            );
        }
        if damaged.records > 0 || missing > 0 {
            tracing::error!(
                records = damaged.records,
                missing_requests = missing,
                "sink {name}: files of the spool {dir} are damaged or missing; check the disk"
            );
        }
    }

    /// What is written now is on the disk a moment later.
    fn sync_soon(self: &Arc<Self>) {
        if !self.lock().is_unsynced() || self.will_sync.swap(true, Relaxed) {
            return;
        }
        let spool = Arc::clone(self);
        tokio::spawn(async move {
            sleep(SYNC_EVERY).await;
            spool.will_sync.store(false, Relaxed);
            // Others need not wait for it.
            let Some(unsynced) = spool.run(Store::take_unsynced).await else { return };
            let synced = spawn_blocking(move || unsynced.sync()).await;
            if let Ok(Err(error)) = synced {
                spool.complain(&format!("cannot bring it to the disk ({error})"));
            }
        });
    }

    /// `None` when the runtime ends.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Option<T> {
        let spool = Arc::clone(self);
        spawn_blocking(move || work(&mut spool.lock())).await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For messages: what it was that did not go.
impl Refused {
    pub(in crate::pipeline) fn advice(&self) -> &'static str {
        match self {
            Self::Full => "raise spool.max_bytes, or see to the server",
            Self::TooLarge => "set batch_bytes, or raise spool.max_bytes",
            Self::Disk(error) if error.kind() == io::ErrorKind::StorageFull => "make room on the disk",
            Self::Disk(_) => "see to the disk",
        }
    }
}
