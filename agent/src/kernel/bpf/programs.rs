//! Loads the kernel programs, attaches them and keeps them.

use std::{
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use aya::maps::Array;
use conntally_common::{CURVE_STEPS, Control, CurveStep, Event, EventKind, Sum};

use super::{
    abi::Plain,
    announce::Announcer,
    clock::Watch,
    constants,
    counted::Skips,
    custody::Custody,
    hooks::{HookKind, HookPreference, HookReport, Role, Updates},
    loader::{self, Constants, Link, LoadedObject, Probe, Program, RingSizes, Target},
    log::KernelLog,
    pinned::Pinned,
    pins::{Place, Told},
    ring::Ring,
    selftest::{self, Trial},
    start_error::StartError,
    sweep::Sweeper,
    table,
    walk::Walker,
};
use crate::kernel::{addresses::Addresses, btf::Btf};

/// The kernel module whose functions are hooked.
const MODULE: &str = "nf_conntrack";

/// Jiffies per second until they were measured, which goes on while the programs are attached.
const PRESUMED_TICKS: u32 = 250;

/// Setting a probe by name takes longer than this only where the kernel unpacks all its names for each look-up (5.10:
/// 130 ms at 1,000 million instructions per second; 7.2: 20 ms). Reading the symbol table once then pays for the other
/// probes, though it takes longer itself (5.10: 350 ms, 7.2: 600 ms).
const SLOW_LOOKUP: Duration = Duration::from_millis(100);

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

    const fn mask(self) -> u32 {
        ((self.new as u32) << EventKind::NEW) | ((self.update as u32) << EventKind::UPDATE)
    }
}

/// What is told to the programs while they run.
#[derive(Clone, Debug)]
struct Settings {
    curve: Vec<RateStep>,
    updates: Updates,
    wanted: Wanted,
}

/// The kernel programs, attached. Dropping it detaches them.
pub struct KernelSide {
    pub(super) object: LoadedObject,
    pub(super) sweeper: Option<Sweeper>,
    pub(super) walker: Option<Walker>,
    settings: Settings,
    pub(super) attached: Vec<Attached>,
    pub(super) updates: Ring,
    pub(super) ends: Ring,
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
    /// Where ends are held that were taken out of their queue, if programs outlive this process.
    pub(super) custody: Option<Custody>,
    /// What earlier agents told of the counters, and what happened during the self-test.
    pub(super) told: Told,
    /// What flows moved whose ends earlier agents were handed.
    pub(super) ended_before: Sum,
}

/// A program on a function. Dropping it detaches the program, unless it is pinned.
pub(super) struct Attached {
    pub(super) role: Role,
    pub(super) function: String,
    pub(super) program: Program,
    pub(super) link: Link,
}

/// What came of attaching a program.
type Outcome = Result<Attached, StartError>;

/// A typed program for a function, before it is attached.
struct Loaded {
    role: Role,
    function: &'static str,
    program: Program,
}

impl Loaded {
    fn attach(self) -> Result<Attached, StartError> {
        let Self { role, function, program } = self;
        let link = Link::Typed(program.attach_typed(role.typed_program())?);
        Ok(Attached { role, function: function.to_owned(), program, link })
    }
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
        let tick = watch.next_tick(&side.object).map_err(StartError::of)?;
        side.configure(0).map_err(StartError::of)?;
        side.attach_all(options.hook, btf)?;
        side.ticks_per_second = watch.ticks_per_second(&side.object, tick).map_err(StartError::of)?;
        side.configure(0).map_err(StartError::of)?;
        // The test's own.
        let Skips { ends, deletions } = side.skips_ever();
        (side.told.ends_skipped, side.told.deletions_skipped) = (ends.unwrap_or(0), deletions.unwrap_or(0));
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
            custody: None,
            told: Told::default(),
            ended_before: Sum::default(),
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
        self.announcer.as_ref().map_or(Ok(()), |announcer| announcer.run(&self.object))
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
        let map = self.object.maps.get_mut("CONTROL")?;
        Array::try_from(map)?.set(0, Plain(control), 0).context("the settings cannot be written")
    }

    fn jiffies(&self, time: Duration) -> u32 {
        let jiffies = time.as_nanos() * u128::from(self.ticks_per_second) / 1_000_000_000;
        // Half the range, so that the comparison of wrapping clocks holds.
        u32::try_from(jiffies).unwrap_or(u32::MAX).min(u32::MAX / 2)
    }

    /// Attaches and proves the first kind of hook that works.
    fn attach_all(&mut self, hook: HookPreference, btf: &Btf) -> Result<(), StartError> {
        match hook {
            HookPreference::Fentry => self.attach_kind(HookKind::Fentry, btf),
            HookPreference::Kprobe => self.attach_kind(HookKind::Kprobe, btf),
            HookPreference::Auto => {
                let Err(fentry) = self.attach_kind(HookKind::Fentry, btf) else { return Ok(()) };
                self.passed_over.push(format!("fentry: {fentry}"));
                self.attach_kind(HookKind::Kprobe, btf).map_err(|kprobe| fentry.and(&kprobe))
            }
        }
    }

    fn attach_kind(&mut self, kind: HookKind, btf: &Btf) -> Result<(), StartError> {
        self.kind = kind;
        self.announcer = match kind {
            HookKind::Fentry => None,
            HookKind::Kprobe => Some(Announcer::load(&self.object).map_err(StartError::of)?),
        };
        let attached = self.attach_life(btf).and_then(|()| match self.trial() {
            Trial::Packets => self.attach_packet(btf),
            trial => self.prove_without_packets(trial),
        });
        if attached.is_err() {
            self.attached.clear();
        }
        attached
    }

    /// What is to be proven of the hooks.
    const fn trial(&self) -> Trial {
        match (self.settings.wanted.update, self.settings.updates) {
            (true, Updates::Packet) => Trial::Packets,
            (true, Updates::Sweep) => Trial::Sweep,
            (false, _) => Trial::Ends,
        }
    }

    /// Attaches what tells of the life of flows.
    fn attach_life(&mut self, btf: &Btf) -> Result<(), StartError> {
        let attached = match self.kind {
            HookKind::Fentry => self.attach_typed_in_turn(btf)?,
            HookKind::Kprobe => Role::LIFE.map(|role| (role, self.attach_kprobe(role))).into(),
        };
        for (role, attached) in attached {
            match attached {
                Ok(attached) => self.attached.push(attached),
                Err(error) if role.is_required() => return Err(error),
                Err(error) => self.passed_over.push(format!("{}: {error}", role.name())),
            }
        }
        Ok(())
    }

    /// Attaches typed programs in their order, while the next ones are loaded: attaching is mostly waiting, until no
    /// CPU runs the code that is replaced, and loading is work for the verifier.
    fn attach_typed_in_turn(&self, btf: &Btf) -> Result<Vec<(Role, Outcome)>, StartError> {
        thread::scope(|scope| {
            let (hand_on, loaded) = mpsc::channel::<(Role, Result<Loaded, StartError>)>();
            let attach = |(role, loaded): (Role, Result<Loaded, _>)| (role, loaded.and_then(Loaded::attach));
            let attaching = scope.spawn(move || loaded.into_iter().map(attach).collect());
            for role in Role::LIFE {
                // If nobody takes it any more, that thread has panicked, which is told below.
                let _ = hand_on.send((role, self.load_typed(role, btf)));
            }
            drop(hand_on);
            attaching.join().map_err(|_| StartError::Other(anyhow!("the thread that attaches panicked")))
        })
    }

    /// Attaches a packet hook that sees every packet exactly once: the accounting function if the kernel really
    /// calls it, else also the function into which the compiler inlined it.
    fn attach_packet(&mut self, btf: &Btf) -> Result<(), StartError> {
        let mut test = match selftest::PrivateNamespace::open() {
            Ok(test) => test,
            Err(error) => return self.attach_packet_unproven(btf, &error),
        };
        self.configure(test.netns()).map_err(StartError::of)?;
        let mut tried = Vec::new();
        for role in [Role::AcctAdd, Role::RefreshAcct] {
            if let Err(error) = self.attach(role, btf) {
                tried.push(format!("{}: {error}", role.name()));
                continue;
            }
            match self.prove(&mut test, Trial::Packets).map_err(StartError::of)? {
                selftest::Verdict::EachOnce => {
                    self.passed_over.append(&mut tried);
                    return Ok(());
                }
                // The function is called from elsewhere (flowtables); it stays, and the next joins it.
                selftest::Verdict::None => {
                    tried.push(format!("{} alone: sees no ordinary packet", role.name()));
                }
                selftest::Verdict::Wrong(why) => {
                    self.attached.retain(|attached| attached.role != role);
                    tried.push(format!("{}: {why}", role.name()));
                }
            }
        }
        Err(StartError::NoHook(tried.join("; ")))
    }

    /// Sends packets past the hooks, a second time if some went astray: on a busy machine the kernel may skip a
    /// program that interrupts another.
    fn prove(
        &mut self,
        test: &mut selftest::PrivateNamespace,
        trial: Trial,
    ) -> anyhow::Result<selftest::Verdict> {
        let mut outcome = test.run(self, trial)?;
        if matches!(outcome.packets, selftest::Verdict::Wrong(_)) {
            outcome = test.run(self, trial)?;
        }
        if outcome.packets == selftest::Verdict::EachOnce {
            self.judge_deletion(outcome.deletion_is_seen);
        }
        Ok(outcome.packets)
    }

    /// Proves that flows are seen right although no packet is hooked.
    fn prove_without_packets(&mut self, trial: Trial) -> Result<(), StartError> {
        let mut test = match selftest::PrivateNamespace::open() {
            Ok(test) => test,
            Err(error) => {
                self.proven = Err(format!("{error:#}"));
                return Ok(());
            }
        };
        self.configure(test.netns()).map_err(StartError::of)?;
        match self.prove(&mut test, trial).map_err(StartError::of)? {
            selftest::Verdict::EachOnce => Ok(()),
            selftest::Verdict::None => Err(StartError::NoHook("no packet of the test was seen".to_owned())),
            selftest::Verdict::Wrong(why) => Err(StartError::NoHook(why)),
        }
    }

    /// A hook on deletions that misses some is worse than none: it would make a request look like the kernel's doing.
    fn judge_deletion(&mut self, is_seen: bool) {
        let hooked = self.attached.iter().position(|attached| attached.role == Role::Delete);
        if let (Some(position), false) = (hooked, is_seen) {
            let function = self.attached.remove(position).function;
            self.passed_over
                .push(format!("{function}: does not see every deletion; some end reasons stay unknown"));
        }
    }

    /// Without a namespace of one's own nothing can be proven: hooks what is right on the kernels known.
    fn attach_packet_unproven(&mut self, btf: &Btf, error: &anyhow::Error) -> Result<(), StartError> {
        self.proven = Err(format!("{error:#}"));
        self.attach(Role::RefreshAcct, btf)
    }

    fn attach(&mut self, role: Role, btf: &Btf) -> Result<(), StartError> {
        let attached = match self.kind {
            HookKind::Fentry => self.load_typed(role, btf)?.attach()?,
            HookKind::Kprobe => self.attach_kprobe(role)?,
        };
        self.attached.push(attached);
        Ok(())
    }

    fn load_typed(&self, role: Role, btf: &Btf) -> Result<Loaded, StartError> {
        let (function, id) =
            role.functions().iter().find_map(|name| Some((*name, btf.find_func(name)?))).ok_or_else(
                || StartError::Other(anyhow!("no BTF of function {}", role.functions().join(" or "))),
            )?;
        let module = if btf.is_split() && btf.is_own(id) {
            loader::module_btf(MODULE).map_err(StartError::of)?
        } else {
            None
        };
        let target = Target { id: id.0, module: module.as_ref().map(AsFd::as_fd) };
        let program = Program::load_typed(&self.object, role.typed_program(), role.position(), target)?;
        Ok(Loaded { role, function, program })
    }

    fn attach_kprobe(&mut self, role: Role) -> Result<Attached, StartError> {
        let program = Program::load_kprobe(&self.object, role.kprobe_program())?;
        let started = Instant::now();
        let attached = self.probe(role, program);
        if self.addresses.is_none() && started.elapsed() > SLOW_LOOKUP {
            // Without addresses the other probes are set by name too.
            self.addresses = Some(addresses().unwrap_or_default());
        }
        attached
    }

    fn probe(&self, role: Role, program: Program) -> Result<Attached, StartError> {
        let address = |function| self.addresses.as_ref()?.get(function);
        let mut refusals = Vec::new();
        for function in role.functions() {
            match Probe::attach(&program, function, address(function)) {
                Ok(probe) => {
                    let link = Link::Probe(probe);
                    return Ok(Attached { role, function: (*function).to_owned(), program, link });
                }
                Err(error) => refusals.push(error),
            }
        }
        Err(refusals
            .into_iter()
            .next()
            .map_or_else(|| StartError::Other(anyhow!("no function to probe")), StartError::of))
    }
}

/// Addresses of all functions that may be probed, and of the table that is walked.
fn addresses() -> std::io::Result<Addresses> {
    let functions = Role::ALL.iter().flat_map(|role| role.functions()).copied();
    Addresses::find(functions.chain(table::VARIABLES))
}
