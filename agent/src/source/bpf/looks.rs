//! Looks at all living flows: walks of the kernel's table, or dumps where that cannot be walked.

use std::time::{Duration, Instant};

use super::{
    decode,
    plan::Plan,
    seed::{self, Part, Parts},
};
use crate::{
    clock::boot_ns,
    kernel::{
        bpf::{KernelSide, WalkProgress},
        netns,
    },
    model::Observation,
    source::{Look, Scope},
};

/// How long walking may keep the reader from the rings. Single runs are far shorter.
const GO: Duration = Duration::from_millis(2);

/// The looks, one after the other.
pub(super) struct Looks {
    plan: Plan,
    /// Whether the table can be walked, as far as is known.
    walks: bool,
    current: Option<Current>,
    /// Flows of a dump that were not handed over yet.
    dumped: Vec<Observation>,
    /// A look that is over, until what it saw was handed over.
    finished: Option<Look>,
    /// Whether any look was completed or given up.
    is_seeded: bool,
    /// Whether the last look was begun.
    is_over: bool,
}

/// A look under way.
struct Current {
    began_boot_ns: u64,
    /// The parts of a dump; `None` for a walk.
    dump: Option<Parts>,
}

impl Looks {
    /// The first begins at once.
    pub(super) fn new(every: Duration) -> Self {
        Self {
            plan: Plan::new(every, Instant::now()),
            walks: true,
            current: None,
            dumped: Vec::new(),
            finished: None,
            is_seeded: false,
            is_over: false,
        }
    }

    /// Ends may have been missed until now.
    pub(super) fn suspect(&mut self) {
        self.plan.suspect(Instant::now());
    }

    /// Asks for one look at flows that may rest unseen; false while others are to come, which may be under way already.
    pub(super) fn want(&mut self) -> bool {
        self.plan.want(Instant::now())
    }

    /// Begins anew with another kernel side.
    pub(super) fn restart(&mut self) {
        self.stop();
        self.suspect();
    }

    /// Gives up the look that is under way, if one is. One that is over stays.
    pub(super) fn give_up(&mut self) {
        self.current = None;
        self.dumped.clear();
        self.is_seeded = true;
    }

    fn stop(&mut self) {
        self.give_up();
        self.finished = None;
    }

    /// Has the last walk begin now; false when the table cannot be walked. No look follows it.
    pub(super) fn last_walk(&mut self, side: &mut KernelSide) -> bool {
        self.stop();
        self.is_over = true;
        if self.walks {
            self.begin(side);
        }
        self.is_walking()
    }

    /// Has another walk follow the last one as soon as what that saw was handed over; false when the table cannot be
    /// walked any more.
    pub(super) fn walk_again(&mut self, side: &mut KernelSide) -> bool {
        if self.walks && self.current.is_none() && self.finished.is_none() {
            self.begin(side);
        }
        self.walks
    }

    /// Whether the looks that tell which flows are gone are not over yet.
    pub(super) const fn are_owed(&self) -> bool {
        self.plan.owes_looks()
    }

    /// Whether a walk is under way, which goes on with the next call of [`Looks::advance`].
    pub(super) fn is_walking(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.dump.is_none())
    }

    /// Whether flows may still come that ended before what was read of the rings: a dump is a way of its own. The
    /// first look belongs to the start, whichever way it goes.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.is_seeded
            || !self.dumped.is_empty()
            || self.current.as_ref().is_some_and(|current| current.dump.is_some())
    }

    /// Whether flows of a dump wait to be handed over.
    pub(super) fn has_flows(&self) -> bool {
        !self.dumped.is_empty()
    }

    /// Begins a look that is due, and goes on with a walk; observes the flows that it meets.
    pub(super) fn advance(&mut self, side: &mut KernelSide, observations: &mut Vec<Observation>) {
        if !self.is_over
            && self.current.is_none()
            && self.finished.is_none()
            && self.plan.is_due(Instant::now())
        {
            self.begin(side);
        }
        let started = Instant::now();
        while self.is_walking() && self.step(side, observations) && started.elapsed() < GO {}
    }

    /// Waits for the next part of a dump.
    pub(super) async fn part(&mut self) {
        let Some(Current { dump: Some(parts), began_boot_ns }) = &mut self.current else {
            return std::future::pending().await;
        };
        let began_boot_ns = *began_boot_ns;
        match parts.recv().await {
            Some(Part::Flows(flows)) => self.dumped = flows,
            Some(Part::Complete(namespaces)) => {
                self.end(Some(Look { began_boot_ns, scope: Scope::Namespaces(namespaces) }));
            }
            None => self.end(None),
        }
    }

    /// Moves the flows of a dump to where they are handed over. To be called when the rings were emptied, so that a
    /// flow which both know was announced by its event.
    pub(super) fn hand_over(&mut self, observations: &mut Vec<Observation>) {
        observations.append(&mut self.dumped);
    }

    /// The look that is over, if one is. To be called when the rings were emptied after it was.
    pub(super) const fn take_finished(&mut self) -> Option<Look> {
        self.finished.take()
    }

    fn begin(&mut self, side: &mut KernelSide) {
        self.plan.began();
        let began_boot_ns = boot_ns();
        if self.walks
            && let Err(error) = side.begin_walk()
        {
            self.cannot_walk(&error);
        }
        let dump = (!self.walks).then(|| seed::start(netns::reachable()));
        self.current = Some(Current { began_boot_ns, dump });
    }

    /// One run of the walk; false when it is over or began anew.
    fn step(&mut self, side: &mut KernelSide, observations: &mut Vec<Observation>) -> bool {
        let Some(current) = &self.current else { return false };
        match side.walk_on(|event| decode::report(event, observations)) {
            Ok(WalkProgress::UnderWay) => return true,
            Ok(WalkProgress::Complete(walk)) => {
                tracing::debug!(
                    flows = walk.flows,
                    buckets = walk.size,
                    runs = walk.runs,
                    spent_ns = walk.spent_ns,
                    longest_ns = walk.longest_ns,
                    repeated = walk.repeated,
                    torn = walk.torn,
                    "walked through the kernel's table"
                );
                self.end(Some(Look { began_boot_ns: current.began_boot_ns, scope: Scope::All }));
            }
            Ok(WalkProgress::Resized) => {
                tracing::debug!("the kernel's table was resized: the walk through it begins anew");
                self.begin(side);
            }
            Ok(WalkProgress::Unreadable) => self.give_up_walking(side, &anyhow::anyhow!("it cannot be read")),
            Err(error) => self.give_up_walking(side, &error),
        }
        false
    }

    fn give_up_walking(&mut self, side: &mut KernelSide, error: &anyhow::Error) {
        self.cannot_walk(error);
        self.begin(side);
    }

    fn cannot_walk(&mut self, error: &anyhow::Error) {
        self.walks = false;
        tracing::warn!(
            "the kernel's connection table cannot be walked, dumps of the namespaces that can be reached are read \
             instead: {error:#}"
        );
    }

    fn end(&mut self, look: Option<Look>) {
        self.current = None;
        self.plan.ended(Instant::now(), look.is_some());
        self.finished = look;
        self.is_seeded = true;
    }
}
