//! The kernel programs of an agent, from their start to their end, and what user space asks of them.

use std::time::Duration;

use conntally_common::{CURVE_STEPS, Control, CurveStep, Event, EventKind, Runs, Tally};

use super::{
    announce::Announcer,
    attaching::Attached,
    clock::Watch,
    constants,
    counted::Skips,
    hooks::{HookKind, HookPreference, HookReport, Role, Updates},
    loader::{self, Constants, LoadedObject, RingSizes},
    log::KernelLog,
    pinned::Pinned,
    pins::{Place, Told},
    replaced::Untold,
    ring::Ring,
    shared::Shared,
    start_error::StartError,
    sweep::Sweeper,
    walk::Walker,
};
use crate::{
    clock::boot_ns,
    kernel::{addresses::Addresses, btf::Btf},
    model::Sum,
};

/// Jiffies per second until they were measured, which goes on while the programs are attached.
const PRESUMED_TICKS: u32 = 250;

/// One step of the rate curve: flows of at least this age speak this often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStep {
    /// Age of the flow.
    pub age: Duration,
    /// Time between two updates.
    pub every: Duration,
}

/// What the configuration decides.
#[derive(Clone, Debug)]
pub struct KernelSideOptions {
    /// fentry, kprobes, or whichever works.
    pub hook: HookPreference,
    /// Live flows to have room for.
    pub slots: u32,
    /// Sizes of the rings.
    pub rings: RingSizes,
    /// By ascending age, the first at age 0; at most 8 steps.
    pub rate_curve: Vec<RateStep>,
    /// By which way updates come.
    pub updates: Updates,
    /// What is to be told beside ends.
    pub wanted: Wanted,
    /// Where programs are pinned, so that they outlive the agent; `None`: they do not.
    pub pins: Option<Place>,
}

/// Kinds of event that somebody wants beside ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// New flows, when they begin.
    pub new: bool,
    /// Updates of living flows. Without them no packet is hooked.
    pub update: bool,
}

impl Wanted {
    /// Everything.
    pub const ALL: Self = Self { new: true, update: true };

    /// Kinds that the programs submit. A flow of which nobody has heard is not told to have moved, so that updates need
    /// its announcement, whoever wants that.
    const fn mask(self) -> u32 {
        (((self.new || self.update) as u32) << EventKind::NEW) | ((self.update as u32) << EventKind::UPDATE)
    }
}

/// What is told to the programs while they run.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    curve: Vec<RateStep>,
    pub(super) updates: Updates,
    pub(super) wanted: Wanted,
}

/// The kernel programs, attached. Dropping it detaches them.
pub struct KernelSide {
    pub(super) object: LoadedObject,
    pub(super) sweeper: Option<Sweeper>,
    pub(super) walker: Option<Walker>,
    pub(super) settings: Settings,
    pub(super) attached: Vec<Attached>,
    pub(super) updates: Ring,
    pub(super) ends: Ring,
    pub(super) overflow: Ring,
    control: Shared<Control>,
    pub(super) tallies: Shared<Tally>,
    pub(super) runs: Shared<Runs>,
    log: KernelLog,
    pub(super) announcer: Option<Announcer>,
    /// Of functions to probe, where the kernel is slow to look names up.
    pub(super) addresses: Option<Addresses>,
    pub(super) ticks_per_second: u32,
    wakeup_bytes: u32,
    pub(super) kind: HookKind,
    pub(super) passed_over: Vec<String>,
    pub(super) proven: Result<(), String>,
    set_aside: Vec<Event>,
    /// What was counted until the programs were detached.
    pub(super) skips: Skips,
    /// Where the programs outlive this process, if they do.
    pub(super) pinned: Option<Pinned>,
    /// What earlier agents told of the counters, and what happened during the self-test.
    pub(super) told: Told,
    /// What flows moved whose ends earlier agents were handed.
    pub(super) ended_before: Sum,
    /// When the programs were attached, `CLOCK_BOOTTIME` nanoseconds.
    pub(super) attached_boot_ns: u64,
    /// What programs that these replace had counted.
    pub(super) untold: Untold,
}

impl KernelSide {
    /// Loads, attaches and proves the programs, or takes over those that an earlier agent left.
    ///
    /// # Errors
    /// When no hook can be used; nothing stays attached then.
    pub fn start(options: &KernelSideOptions) -> Result<Self, StartError> {
        let btf = constants::kernel_btf().map_err(StartError::of)?;
        let constants = constants::constants(&btf, options)?;
        match &options.pins {
            Some(place) => Self::start_pinned(place, &constants, options, &btf),
            None => Self::start_anew(&constants, options, &btf),
        }
    }

    /// Loads, attaches and proves the programs.
    pub(super) fn start_anew(
        constants: &Constants,
        options: &KernelSideOptions,
        btf: &Btf,
    ) -> Result<Self, StartError> {
        let object = LoadedObject::load(constants).map_err(StartError::of)?;
        let mut side = Self::on(object, constants, options).map_err(StartError::of)?;
        let watch = Watch::load(&side.object).map_err(StartError::of)?;
        let tick = watch.next_tick().map_err(StartError::of)?;
        side.configure(0).map_err(StartError::of)?;
        side.attach_all(options.hook, btf)?;
        side.ticks_per_second = watch.ticks_per_second(tick).map_err(StartError::of)?;
        side.configure(0).map_err(StartError::of)?;
        // The test's own.
        let Skips { ends, notes } = side.skips_ever();
        (side.told.ends_skipped, side.told.notes_skipped) = (ends.unwrap_or(0), notes.unwrap_or(0));
        Ok(side)
    }

    /// With nothing attached yet.
    pub(super) fn on(
        object: LoadedObject,
        constants: &Constants,
        options: &KernelSideOptions,
    ) -> anyhow::Result<Self> {
        let settings =
            Settings { curve: options.rate_curve.clone(), updates: options.updates, wanted: options.wanted };
        Ok(Self {
            sweeper: None,
            walker: None,
            settings,
            attached: Vec::new(),
            updates: object.maps.ring("UPDATES")?,
            ends: object.maps.ring("ENDS")?,
            overflow: object.maps.ring("ENDS_OVERFLOW")?,
            control: object.maps.shared("CONTROL")?,
            tallies: object.maps.shared("TALLIES")?,
            runs: object.maps.shared("SWEEPS")?,
            log: KernelLog::new(),
            object,
            announcer: None,
            addresses: None,
            ticks_per_second: PRESUMED_TICKS,
            // The reader is woken early enough that the rest takes what comes until it reads.
            wakeup_bytes: constants.rings.updates.min(constants.rings.ends) / 4,
            kind: HookKind::Fentry,
            passed_over: Vec::new(),
            proven: Ok(()),
            set_aside: Vec::new(),
            skips: Skips::default(),
            pinned: None,
            told: Told::default(),
            ended_before: Sum::default(),
            attached_boot_ns: boot_ns(),
            untold: Untold::default(),
        })
    }

    /// The ring of new flows and updates.
    pub fn updates(&mut self) -> &mut Ring {
        &mut self.updates
    }

    /// The ring of ends.
    pub fn ends(&mut self) -> &mut Ring {
        &mut self.ends
    }

    /// The ring of ends for which that one had no room. Nobody is woken for it: read it after each read of that.
    pub fn overflow(&mut self) -> &mut Ring {
        &mut self.overflow
    }

    /// Whether what comes next in any ring is still being written.
    #[must_use]
    pub const fn is_held_up(&self) -> bool {
        self.updates.is_held_up() || self.ends.is_held_up() || self.overflow.is_held_up()
    }

    /// Gives the room back of all that was taken of the rings. To be called when that is kept: until then a later agent
    /// would find it there again.
    pub fn give_back(&mut self) {
        [&mut self.updates, &mut self.ends, &mut self.overflow].into_iter().for_each(Ring::give_back);
        self.pinned.iter_mut().for_each(Pinned::forget_retired);
    }

    /// Events of other flows that came while the self-test read the rings.
    pub fn take_set_aside(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.set_aside)
    }

    /// Has flows announced that were met but could not be announced yet. Call it before reading the rings.
    ///
    /// # Errors
    /// When the program that does it cannot be run.
    pub fn announce(&mut self) -> anyhow::Result<()> {
        // Typed programs announce a flow at once.
        self.announcer.as_ref().map_or(Ok(()), Announcer::run)
    }

    /// Has the first of those flows announced. Returns whether more may wait.
    pub(super) fn announce_some(&mut self) -> anyhow::Result<bool> {
        self.announcer.as_ref().map_or(Ok(false), Announcer::step)
    }

    /// Hands what the programs logged to this process's log.
    pub fn flush_log(&mut self) {
        let Ok(ring) = self.object.maps.get("AYA_LOGS") else { return };
        let Some(ring) = loader::descriptor(ring) else { return };
        let ends = self.attached.iter().find(|attached| attached.role == Role::Destroy);
        self.log.flush(ring, || ends?.program.id());
    }

    /// Keeps events that are not the self-test's.
    pub(super) fn set_aside(&mut self, mut events: Vec<Event>) {
        self.set_aside.append(&mut events);
    }

    /// Keeps events that are older than all others.
    pub(super) fn set_aside_first(&mut self, mut events: Vec<Event>) {
        events.append(&mut self.set_aside);
        self.set_aside = events;
    }

    /// Since when the programs tell, `CLOCK_BOOTTIME` nanoseconds, whichever agents read it.
    #[must_use]
    pub const fn attached_boot_ns(&self) -> u64 {
        self.attached_boot_ns
    }

    /// Detaches all programs, also those that were to outlive this process. What they submitted stays in the rings.
    pub fn detach(&mut self) {
        self.skips = self.skips_ever();
        self.unpin();
        self.attached.clear();
    }

    /// Which hooks are in place, and why.
    #[must_use]
    pub fn report(&self) -> HookReport {
        let functions = |packet: bool| {
            self.attached
                .iter()
                .filter(|attached| Role::LIFE.contains(&attached.role) != packet)
                .map(|attached| attached.function.clone())
                .collect()
        };
        HookReport {
            kind: self.kind,
            life: functions(false),
            packet: functions(true),
            updates: self.settings.updates,
            passed_over: self.passed_over.clone(),
            proven: self.proven.clone(),
        }
    }

    /// Tells the programs how often flows speak; in `selftest_netns` every packet does.
    pub(super) fn configure(&mut self, selftest_netns: u32) -> anyhow::Result<()> {
        let Settings { curve, updates, wanted } = &self.settings;
        let mut steps = [CurveStep::default(); CURVE_STEPS];
        for (step, rate) in steps.iter_mut().zip(curve) {
            step.age_ns = u64::try_from(rate.age.as_nanos()).unwrap_or(u64::MAX);
            step.every = self.jiffies(rate.every);
        }
        // The self-test must see everything.
        let wanted = if selftest_netns == 0 { *wanted } else { Wanted::ALL };
        let control = Control {
            curve: steps,
            steps: u32::try_from(curve.len().clamp(1, CURVE_STEPS))?,
            selftest_netns,
            retry: self.jiffies(Duration::from_millis(250)),
            wakeup_bytes: self.wakeup_bytes,
            wants: wanted.mask(),
            sweeps: u32::from(*updates == Updates::Sweep),
        };
        self.control.set(0, control);
        Ok(())
    }

    fn jiffies(&self, time: Duration) -> u32 {
        let jiffies = time.as_nanos() * u128::from(self.ticks_per_second) / 1_000_000_000;
        // Half the range, so that the comparison of wrapping clocks holds.
        u32::try_from(jiffies).unwrap_or(u32::MAX).min(u32::MAX / 2)
    }
}
