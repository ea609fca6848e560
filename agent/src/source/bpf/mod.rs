//! Observations from the kernel programs: reads their two rings, has flows looked at that are due, and looks at all
//! living flows from time to time.

mod announcing;
mod decode;
mod end_reason;
mod looks;
mod module_watch;
mod plan;
mod rings;
mod seed;
mod slot_watch;
mod visits;

use std::time::{Duration, Instant};

use self::{
    announcing::Announcing, looks::Looks, module_watch::ModuleWatch, rings::Rings, slot_watch::SlotWatch,
    visits::Visits,
};
pub use self::{decode::observation, rings::take as take_events};
use super::{Batch, Counted, LongestRuns, Losses, Progress, Source, SourceError};
pub use crate::kernel::bpf::Ring;
use crate::{
    kernel::bpf::{HookKind, HookReport, KernelSide, KernelSideOptions, StartError},
    model::{Observation, Visit},
};

/// The longest time between two reads of the rings.
const TICK: Duration = Duration::from_millis(100);

/// The pause between two goes of the programs that look at many flows, which run without preemption; and until a program
/// that was stopped while it wrote an event is looked for again.
const PAUSE: Duration = Duration::from_millis(1);

/// How often the module, its limits and the losses are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Losses after which flows may live on in the table that are gone.
const ENDS_MISSED: [&str; 3] = ["end_lost", "end_read_failed", "hook_skipped"];

/// Losses after which flows may rest, or live unknown, with bytes that only a look at them, or their end, tells. Of the
/// programs that were skipped some would have given a flow its slot.
const UPDATES_MISSED: [&str; 3] = ["update_ring_full", "read_failed", "end_reason_unknown"];

/// What the configuration decides.
#[derive(Clone, Debug)]
pub struct BpfOptions {
    /// About the kernel programs.
    pub kernel: KernelSideOptions,
    /// Time between two looks at all living flows.
    pub reconcile_every: Duration,
    /// How long the last of them may take, before the programs are detached.
    pub last_walk: Duration,
    /// The flow table knows flows from before, of which two looks tell what is gone.
    pub follows_on: bool,
}

/// The kernel programs as a source.
pub struct BpfSource {
    options: BpfOptions,
    side: KernelSide,
    rings: Rings,
    visits: Visits,
    looks: Looks,
    /// What visits and looks brought in one go.
    sights: Vec<Observation>,
    draining: Draining,
    announcing: Announcing,
    watch: Option<ModuleWatch>,
    slot_watch: SlotWatch,
    watched: tokio::time::Instant,
    /// Ends that were missed for sure when it was last looked at.
    ends_missed: u64,
    /// Updates that were lost by then, for which a look was asked.
    updates_missed: u64,
    /// Whether what was read of the rings was handed over. Before, nothing of them may be given back.
    is_handed_over: bool,
    /// What earlier kernel sides lost and counted, before the module was loaded again.
    past_losses: Losses,
    past_counted: Counted,
    past_longest: LongestRuns,
    /// What was counted when this agent left its programs to a later one.
    counted_at_end: Option<Counted>,
}

/// How far the end of this source is.
enum Draining {
    No,
    /// The last look is under way; it is given up at this moment.
    Walking(Instant),
    /// Nothing is told any more, or nothing that this agent has to wait for.
    Detached,
    /// All that was taken was handed over; what comes now is for a later agent.
    Left,
}

impl BpfSource {
    /// Attaches the programs. Call it in a tokio runtime.
    ///
    /// # Errors
    /// When they cannot be attached; then another source must do.
    pub fn start(options: BpfOptions) -> Result<Self, StartError> {
        let mut side = KernelSide::start(&options.kernel)?;
        let rings = Rings::open(&mut side).map_err(|error| StartError::Other(error.into()))?;
        // A typed program holds the module; a probe outlives it without a word.
        let watch = (side.report().kind == HookKind::Kprobe).then(ModuleWatch::start);
        // Begun after the programs were attached: what the first does not see, they do.
        let mut looks = Looks::new(options.reconcile_every);
        if options.follows_on {
            // Flows that an earlier agent knew may have ended unseen.
            looks.suspect();
        }
        Ok(Self {
            side,
            rings,
            visits: Visits::default(),
            looks,
            sights: Vec::new(),
            draining: Draining::No,
            announcing: Announcing::default(),
            watch,
            slot_watch: SlotWatch::new(options.kernel.slots),
            watched: tokio::time::Instant::now(),
            ends_missed: 0,
            updates_missed: 0,
            is_handed_over: false,
            past_losses: Vec::new(),
            past_counted: Counted::default(),
            past_longest: LongestRuns::default(),
            counted_at_end: None,
            options,
        })
    }

    /// Which hooks are in place, and why.
    #[must_use]
    pub fn report(&self) -> HookReport {
        self.side.report()
    }

    /// Whether the programs are those of an earlier agent, so that the births they tell are still the same.
    #[must_use]
    pub fn was_taken_over(&self) -> bool {
        self.side.was_taken_over()
    }

    /// Since when the programs tell without a break, `CLOCK_BOOTTIME` nanoseconds.
    #[must_use]
    pub const fn tells_since_ns(&self) -> u64 {
        self.side.attached_boot_ns()
    }

    /// Waits for events, a part of a dump, or the next tick.
    async fn wait(&mut self) {
        let is_held_up = !self.rings.was_settled();
        if !self.rings.was_emptied() || (self.looks.has_flows() && !is_held_up) {
            return;
        }
        if self.looks.has_flows() {
            // The next part of the dump comes after these.
            return tokio::time::sleep(PAUSE).await;
        }
        let is_busy = self.looks.is_walking() || self.visits.are_ready() || is_held_up;
        tokio::select! {
            () = self.rings.woken() => {}
            () = self.looks.part() => {}
            () = tokio::time::sleep(if is_busy { PAUSE } else { TICK }) => {}
        }
    }

    /// Has flows looked at, then reads the rings, and hands over a dump's flows last: a flow that both know was then
    /// announced by its event.
    fn fill(&mut self, batch: &mut Batch) {
        self.announcing.run(|| self.side.announce());
        self.visits.run(&mut self.side, &mut self.sights);
        self.looks.advance(&mut self.side, &mut self.sights);
        self.rings.read(&mut self.side, &mut self.sights, batch);
        self.side.flush_log();
        if self.rings.was_settled() {
            self.looks.hand_over(&mut batch.observations);
            batch.settled = !self.looks.is_unsettled();
            batch.look = self.looks.take_finished();
        }
        self.is_handed_over = true;
    }

    /// Gives back the room of what the batch before held, which is kept by now. What was found at the start is in no
    /// batch yet at the first read.
    fn give_back(&mut self) {
        if self.is_handed_over {
            self.side.give_back();
        }
    }

    /// Looks at what changes rarely.
    async fn look_around(&mut self) {
        if self.watched.elapsed() < WATCH_EVERY {
            return;
        }
        self.watched = tokio::time::Instant::now();
        self.slot_watch.look().await;
        self.look_for_missed_ends();
        self.side.note_told();
        if self.watch.as_mut().is_some_and(ModuleWatch::wants_attaching) {
            tracing::warn!("nf_conntrack was unloaded and loaded again: attaching to it anew");
            self.attach_anew().await;
        }
    }

    fn look_for_missed_ends(&mut self) {
        let missed = self.ends_missed_until_now();
        if missed > self.ends_missed {
            self.looks.suspect();
        }
        self.ends_missed = missed;
        let missed = self.lost_by(&UPDATES_MISSED);
        if missed > self.updates_missed && self.looks.want() {
            self.updates_missed = missed;
        }
    }

    fn ends_missed_until_now(&self) -> u64 {
        self.lost_by(&ENDS_MISSED)
    }

    fn lost_by(&self, reasons: &[&str]) -> u64 {
        let losses = self.losses();
        losses.iter().filter(|(reason, _)| reasons.contains(reason)).map(|(_, count)| count).sum()
    }

    /// Attaches anew after the module was unloaded and loaded again, which leaves probes dead. What cannot be done
    /// now is tried again at the next look.
    async fn attach_anew(&mut self) {
        self.side.detach();
        let options = self.options.kernel.clone();
        let started = tokio::task::spawn_blocking(move || KernelSide::start(&options)).await;
        let attached = match started {
            Ok(Ok(side)) => self.take_over(side).map_err(anyhow::Error::from),
            Ok(Err(error)) => Err(error.into()),
            Err(panicked) => Err(panicked.into()),
        };
        match attached {
            Ok(()) => {
                self.watch.iter_mut().for_each(ModuleWatch::attached);
                tracing::info!(hooks = %self.side.report(), "attached to nf_conntrack again");
            }
            Err(error) => {
                let until = self.watch.as_mut().map_or(WATCH_EVERY, ModuleWatch::failed);
                tracing::error!("flows are not accounted; the next try is in {until:?}: {error:#}");
            }
        }
    }

    fn take_over(&mut self, mut side: KernelSide) -> std::io::Result<()> {
        self.rings = Rings::open(&mut side)?;
        self.is_handed_over = false;
        add_losses(&mut self.past_losses, self.side.losses());
        self.past_counted = self.counted_so_far();
        self.past_longest = self.longest_so_far();
        self.side = side;
        self.visits.clear();
        self.looks.restart();
        Ok(())
    }

    /// The same without ends that wait for a later agent.
    fn counted_until_now(&mut self) -> Counted {
        let ended = self.past_counted.ended + self.side.ended_until_now();
        Counted { ended, ..self.counted_so_far() }
    }

    fn counted_so_far(&self) -> Counted {
        let Counted { ended, ends_lost, ends_skipped, .. } = &self.past_counted;
        Counted {
            ended: *ended + self.side.ended(),
            ends_lost: *ends_lost + self.side.ends_lost(),
            ends_skipped: ends_skipped.saturating_add(self.side.ends_skipped().unwrap_or(0)),
            owes_looks: self.looks.are_owed() || self.ends_missed_until_now() > self.ends_missed,
        }
    }

    fn longest_so_far(&self) -> LongestRuns {
        let walk_ns = self.side.longest_walk_run_ns();
        self.past_longest.max(LongestRuns { sweep_ns: self.side.sweeps().longest_ns, walk_ns })
    }

    /// Looks at all flows once more while the programs still tell what happens meanwhile, then detaches them.
    fn wind_down(&mut self) {
        match self.draining {
            Draining::No => {
                self.visits.clear();
                self.look_for_missed_ends();
                if self.side.ends_skipped().is_none() || self.side.report().kind == HookKind::Kprobe {
                    // Nobody counted ends that the kernel kept from the programs; from probes in part before 6.7.
                    self.looks.suspect();
                }
                self.draining = if self.looks.last_walk(&mut self.side) {
                    Draining::Walking(Instant::now() + self.options.last_walk)
                } else {
                    Draining::Detached
                };
            }
            Draining::Walking(until) => {
                // Whose ends were lost only two walks can tell.
                let goes_on = self.looks.is_walking()
                    || (self.looks.are_owed() && self.looks.walk_again(&mut self.side));
                if !goes_on || Instant::now() > until {
                    self.draining = Draining::Detached;
                }
            }
            Draining::Detached | Draining::Left => {}
        }
        if matches!(self.draining, Draining::Detached) {
            self.looks.give_up();
            if !self.side.is_pinned() {
                self.side.detach();
            }
        }
    }

    fn leave(&mut self) {
        self.visits.report(self.side.sweeps());
        if self.side.is_pinned() {
            self.counted_at_end = Some(self.counted_until_now());
            self.side.note_told();
            tracing::info!(
                "the kernel programs stay, so that the next agent misses nothing; `conntally detach` removes them"
            );
        }
        self.draining = Draining::Left;
    }
}

impl Source for BpfSource {
    async fn read(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        self.give_back();
        // Before anything is taken, which would be lost where this is cancelled.
        if self.rings.was_emptied() {
            self.look_around().await;
        }
        self.wait().await;
        self.fill(batch);
        Ok(Progress::More)
    }

    async fn drain(&mut self, batch: &mut Batch) -> Result<Progress, SourceError> {
        self.give_back();
        match self.draining {
            Draining::Left => return Ok(Progress::Finished),
            Draining::Walking(_) => tokio::time::sleep(PAUSE).await,
            Draining::Detached if self.rings.was_emptied() => tokio::time::sleep(PAUSE).await,
            Draining::No | Draining::Detached => {}
        }
        self.wind_down();
        self.fill(batch);
        if matches!(self.draining, Draining::Detached) && batch.settled {
            self.leave();
        }
        Ok(Progress::More)
    }

    fn losses(&self) -> Losses {
        let mut losses = self.side.losses();
        add_losses(&mut losses, self.past_losses.clone());
        losses.push(("announce_failed", self.announcing.failures()));
        losses.push(("module_reloaded", self.watch.as_ref().map_or(0, ModuleWatch::reloads)));
        losses
    }

    fn visit(&mut self, due: &[Visit]) -> usize {
        self.visits.take(due)
    }

    fn counted(&self) -> Option<Counted> {
        Some(self.counted_at_end.clone().unwrap_or_else(|| self.counted_so_far()))
    }

    fn longest_runs(&self) -> Option<LongestRuns> {
        Some(self.longest_so_far())
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
