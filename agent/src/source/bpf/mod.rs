//! Observations from the kernel programs: reads their two rings, and seeds with a dump what lived before them.

mod decode;
mod end_reason;
mod module_watch;
mod rings;
mod seed;
mod slot_watch;

use std::time::Duration;

pub use self::{decode::observation, rings::take as take_events};
use self::{module_watch::ModuleWatch, rings::Rings, seed::Chunks, slot_watch::SlotWatch};
use super::{Batch, Losses, Progress, Source, SourceError};
use crate::{
    kernel::{
        bpf::{HookKind, HookReport, KernelSide, KernelSideOptions, StartError},
        netns,
    },
    model::Observation,
};

/// The longest time between two reads of the rings.
const TICK: Duration = Duration::from_millis(100);

/// How often the module and its limits are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The kernel programs as a source.
pub struct BpfSource {
    options: KernelSideOptions,
    side: KernelSide,
    rings: Rings,
    /// The dump, until it has ended.
    seed: Option<Chunks>,
    seeded: Vec<Observation>,
    watch: Option<ModuleWatch>,
    slot_watch: SlotWatch,
    watched: tokio::time::Instant,
    /// What earlier kernel sides lost, before the module was loaded again.
    past_losses: Losses,
}

impl BpfSource {
    /// Attaches the programs. Call it in a tokio runtime.
    ///
    /// # Errors
    /// When they cannot be attached; then another source must do.
    pub fn start(options: KernelSideOptions) -> Result<Self, StartError> {
        let mut side = KernelSide::start(&options)?;
        let rings = Rings::open(&mut side).map_err(|error| StartError::Other(error.into()))?;
        // A typed program holds the module; a probe outlives it without a word.
        let watch = (side.report().kind == HookKind::Kprobe).then(ModuleWatch::start);
        let slot_watch = SlotWatch::new(options.slots);
        Ok(Self {
            options,
            side,
            rings,
            // Begun after the programs were attached: what it does not see, they do.
            seed: Some(seed::start(netns::reachable())),
            seeded: Vec::new(),
            watch,
            slot_watch,
            watched: tokio::time::Instant::now(),
            past_losses: Vec::new(),
        })
    }

    /// Which hooks are in place, and why.
    #[must_use]
    pub fn report(&self) -> HookReport {
        self.side.report()
    }

    /// Waits for events, a chunk of the seed, or the next tick.
    async fn wait(&mut self) {
        if !self.rings.was_emptied() || !self.seeded.is_empty() {
            return;
        }
        tokio::select! {
            () = self.rings.woken() => {}
            chunk = next_chunk(&mut self.seed) => match chunk {
                Some(chunk) => self.seeded = chunk,
                None => self.seed = None,
            },
            () = tokio::time::sleep(TICK) => {}
        }
    }

    /// Reads the rings first and the seed last: a flow that both know was then announced by its event. Until the
    /// seed is complete it may still bring a flow whose end was read already, so nothing is settled.
    fn fill(&mut self, batch: &mut Batch) {
        if let Err(error) = self.side.announce() {
            tracing::warn!("new flows are reported only at their second packet: {error:#}");
        }
        self.rings.read(&mut self.side, batch);
        self.side.flush_log();
        if self.rings.was_emptied() {
            batch.settled = self.seed.is_none() && self.seeded.is_empty();
            batch.observations.append(&mut self.seeded);
        }
    }

    /// Looks at what changes rarely.
    async fn look_around(&mut self) {
        if self.watched.elapsed() < WATCH_EVERY {
            return;
        }
        self.watched = tokio::time::Instant::now();
        self.slot_watch.look();
        if self.watch.as_mut().is_some_and(ModuleWatch::was_reloaded) {
            self.attach_anew().await;
        }
    }

    /// Attaches anew after the module was unloaded and loaded again, which leaves probes dead. What cannot be done
    /// now is tried again at the next look.
    async fn attach_anew(&mut self) {
        tracing::warn!("nf_conntrack was unloaded and loaded again: attaching to it anew");
        self.side.detach();
        let options = self.options.clone();
        let started = tokio::task::spawn_blocking(move || KernelSide::start(&options)).await;
        let attached = match started {
            Ok(Ok(side)) => self.take_over(side).map_err(anyhow::Error::from),
            Ok(Err(error)) => Err(error.into()),
            Err(panicked) => Err(panicked.into()),
        };
        match attached {
            Ok(()) => tracing::info!(hooks = %self.side.report(), "attached to nf_conntrack again"),
            Err(error) => {
                tracing::error!("flows are not accounted until the next try: {error:#}");
                if let Some(watch) = &mut self.watch {
                    watch.forget();
                }
            }
        }
    }

    fn take_over(&mut self, mut side: KernelSide) -> std::io::Result<()> {
        self.rings = Rings::open(&mut side)?;
        add_losses(&mut self.past_losses, self.side.losses());
        self.side = side;
        self.seed = Some(seed::start(netns::reachable()));
        Ok(())
    }
}

impl Source for BpfSource {
    async fn read(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        self.wait().await;
        self.fill(batch);
        if self.rings.was_emptied() {
            self.look_around().await;
        }
        Ok(Progress::More)
    }

    async fn drain(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        self.side.detach();
        self.seed = None;
        self.seeded.clear();
        self.fill(batch);
        Ok(if batch.settled { Progress::Finished } else { Progress::More })
    }

    fn losses(&self) -> Losses {
        let mut losses = self.side.losses();
        add_losses(&mut losses, self.past_losses.clone());
        losses
    }
}

async fn next_chunk(seed: &mut Option<Chunks>) -> Option<Vec<Observation>> {
    match seed {
        Some(seed) => seed.recv().await,
        None => std::future::pending().await,
    }
}

fn add_losses(to: &mut Losses, from: Losses) {
    for (reason, count) in from {
        match to.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, total)) => *total += count,
            None => to.push((reason, count)),
        }
    }
}
