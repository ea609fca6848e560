//! Loads the kernel programs, attaches them and keeps them.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use conntally_common::{CURVE_STEPS, Control, CurveStep, Event, LOSS_REASONS};

use super::{
    abi::Plain,
    announce::Announcer,
    clock::Watch,
    constants,
    hooks::{HookKind, HookPreference, HookReport, Role},
    loader::{self, Constants, LoadedObject, Probe, Program, RingSizes, Target, Typed},
    log::KernelLog,
    selftest,
    start_error::StartError,
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

/// Names of [`conntally_common::LossReason`], in the order of their numbers.
const LOSS_NAMES: [&str; LOSS_REASONS as usize] =
    ["update_ring_full", "end_ring_full", "no_slot", "read_failed", "end_read_failed"];

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
}

/// The kernel programs, attached. Dropping it detaches them.
pub struct KernelSide {
    attached: Vec<Attached>,
    updates: RingBuf<MapData>,
    ends: RingBuf<MapData>,
    log: KernelLog,
    object: LoadedObject,
    announcer: Option<Announcer>,
    /// Of functions to probe, where the kernel is slow to look names up.
    addresses: Option<Addresses>,
    ticks_per_second: u32,
    wakeup_bytes: u32,
    kind: HookKind,
    passed_over: Vec<String>,
    proven: Result<(), String>,
    set_aside: Vec<Event>,
    /// What was counted until the programs were detached.
    ends_skipped: Option<u64>,
}

/// A program on a function. Dropping it detaches the program.
struct Attached {
    role: Role,
    function: String,
    program: Program,
    _link: Link,
}

#[expect(dead_code, reason = "held so that the program stays attached")]
enum Link {
    Typed(Typed),
    Probe(Probe),
}

impl KernelSide {
    /// Loads, attaches and proves the programs.
    ///
    /// # Errors
    /// When no hook can be used; nothing stays attached then.
    pub fn start(options: &KernelSideOptions) -> Result<Self, StartError> {
        let btf = constants::kernel_btf().map_err(StartError::of)?;
        let constants = constants::constants(&btf, options)?;
        let mut side = Self::load(&constants)?;
        let watch = Watch::load(&side.object).map_err(StartError::of)?;
        let tick = watch.next_tick(&side.object).map_err(StartError::of)?;
        side.configure(&options.rate_curve, 0).map_err(StartError::of)?;
        side.attach_all(options, &btf)?;
        side.ticks_per_second = watch.ticks_per_second(&side.object, tick).map_err(StartError::of)?;
        side.configure(&options.rate_curve, 0).map_err(StartError::of)?;
        Ok(side)
    }

    fn load(constants: &Constants) -> Result<Self, StartError> {
        let mut object = LoadedObject::load(constants).map_err(StartError::of)?;
        let updates = take_ring(&mut object, "UPDATES").map_err(StartError::of)?;
        let ends = take_ring(&mut object, "ENDS").map_err(StartError::of)?;
        Ok(Self {
            attached: Vec::new(),
            updates,
            ends,
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
            ends_skipped: None,
        })
    }

    /// The ring of new flows and updates.
    pub fn updates(&mut self) -> &mut RingBuf<MapData> {
        &mut self.updates
    }

    /// The ring of ends.
    pub fn ends(&mut self) -> &mut RingBuf<MapData> {
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

    /// Detaches all programs. What they submitted stays in the rings.
    pub fn detach(&mut self) {
        self.ends_skipped = self.ends_skipped();
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
            passed_over: self.passed_over.clone(),
            proven: self.proven.clone(),
        }
    }

    /// What the kernel side lost so far, by reason.
    #[must_use]
    pub fn losses(&self) -> Vec<(&'static str, u64)> {
        let Ok(map) = self.object.maps.get("LOSSES") else { return Vec::new() };
        let Ok(map) = PerCpuArray::<_, u64>::try_from(map) else { return Vec::new() };
        (0u32..)
            .zip(LOSS_NAMES)
            .map(|(index, name)| (name, map.get(&index, 0).map_or(0, |values| values.iter().sum())))
            .collect()
    }

    /// How often the kernel skipped the program that tells of ends, because another program was running on that CPU.
    /// `None` where the kernel does not count that (before 5.12).
    #[must_use]
    pub fn ends_skipped(&self) -> Option<u64> {
        let ends = self.attached.iter().find(|attached| attached.role == Role::Destroy);
        ends.map_or(self.ends_skipped, |ends| ends.program.skipped())
    }

    /// Tells the programs how often flows speak; in `selftest_netns` every packet does.
    pub(super) fn configure(&mut self, curve: &[RateStep], selftest_netns: u32) -> anyhow::Result<()> {
        let mut steps = [CurveStep::default(); CURVE_STEPS];
        for (step, rate) in steps.iter_mut().zip(curve) {
            step.age_ns = u64::try_from(rate.age.as_nanos()).unwrap_or(u64::MAX);
            step.every = self.jiffies(rate.every);
        }
        let control = Control {
            curve: steps,
            steps: u32::try_from(curve.len().clamp(1, CURVE_STEPS))?,
            selftest_netns,
            retry: self.jiffies(Duration::from_millis(250)),
            wakeup_bytes: self.wakeup_bytes,
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
    fn attach_all(&mut self, options: &KernelSideOptions, btf: &Btf) -> Result<(), StartError> {
        match options.hook {
            HookPreference::Fentry => self.attach_kind(HookKind::Fentry, options, btf),
            HookPreference::Kprobe => self.attach_kind(HookKind::Kprobe, options, btf),
            HookPreference::Auto => {
                let Err(fentry) = self.attach_kind(HookKind::Fentry, options, btf) else { return Ok(()) };
                self.passed_over.push(format!("fentry: {fentry}"));
                self.attach_kind(HookKind::Kprobe, options, btf).map_err(|kprobe| fentry.and(&kprobe))
            }
        }
    }

    fn attach_kind(
        &mut self,
        kind: HookKind,
        options: &KernelSideOptions,
        btf: &Btf,
    ) -> Result<(), StartError> {
        self.kind = kind;
        self.announcer = match kind {
            HookKind::Fentry => None,
            HookKind::Kprobe => Some(Announcer::load(&self.object).map_err(StartError::of)?),
        };
        let attached = self.attach_life(btf).and_then(|()| self.attach_packet(&options.rate_curve, btf));
        if attached.is_err() {
            self.attached.clear();
        }
        attached
    }

    /// Attaches what tells of the life of flows.
    fn attach_life(&mut self, btf: &Btf) -> Result<(), StartError> {
        for role in Role::LIFE {
            match self.attach(role, btf) {
                Ok(()) => {}
                Err(error) if role.is_required() => return Err(error),
                Err(error) => self.passed_over.push(format!("{}: {error}", role.name())),
            }
        }
        Ok(())
    }

    /// Attaches a packet hook that sees every packet exactly once: the accounting function if the kernel really
    /// calls it, else also the function into which the compiler inlined it.
    fn attach_packet(&mut self, curve: &[RateStep], btf: &Btf) -> Result<(), StartError> {
        let mut test = match selftest::PrivateNamespace::open() {
            Ok(test) => test,
            Err(error) => return self.attach_packet_unproven(btf, &error),
        };
        self.configure(curve, test.netns()).map_err(StartError::of)?;
        let mut tried = Vec::new();
        for role in [Role::AcctAdd, Role::RefreshAcct] {
            if let Err(error) = self.attach(role, btf) {
                tried.push(format!("{}: {error}", role.name()));
                continue;
            }
            match self.prove(&mut test).map_err(StartError::of)? {
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
    fn prove(&mut self, test: &mut selftest::PrivateNamespace) -> anyhow::Result<selftest::Verdict> {
        let mut outcome = test.run(self)?;
        if matches!(outcome.packets, selftest::Verdict::Wrong(_)) {
            outcome = test.run(self)?;
        }
        if outcome.packets == selftest::Verdict::EachOnce {
            self.judge_deletion(outcome.deletion_is_seen);
        }
        Ok(outcome.packets)
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
            HookKind::Fentry => self.attach_typed(role, btf)?,
            HookKind::Kprobe => self.attach_kprobe(role)?,
        };
        self.attached.push(attached);
        Ok(())
    }

    fn attach_typed(&self, role: Role, btf: &Btf) -> Result<Attached, StartError> {
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
        let name = role.typed_program();
        let program = Program::load_typed(&self.object, name, role.position(), target)?;
        let link = Link::Typed(program.attach_typed(name)?);
        Ok(Attached { role, function: function.to_owned(), program, _link: link })
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
                    return Ok(Attached { role, function: (*function).to_owned(), program, _link: link });
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

/// Addresses of all functions that may be probed.
fn addresses() -> std::io::Result<Addresses> {
    Addresses::find(Role::ALL.iter().flat_map(|role| role.functions()).copied())
}

fn take_ring(object: &mut LoadedObject, name: &str) -> anyhow::Result<RingBuf<MapData>> {
    Ok(RingBuf::try_from(object.maps.take(name)?)?)
}
