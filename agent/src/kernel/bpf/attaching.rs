//! Attaches the kernel programs: the first kind of hook that works, and a packet hook that sees each packet once.

use std::{
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;

use super::{
    KernelSide,
    announce::Announcer,
    hooks::{HookKind, HookPreference, Role, Updates},
    loader::{self, Link, Probe, Program, Target},
    selftest::{self, Trial},
    start_error::StartError,
    table,
};
use crate::kernel::{addresses::Addresses, btf::Btf};

/// The kernel module whose functions are hooked.
const MODULE: &str = "nf_conntrack";

/// Setting a probe by name takes longer than this only where the kernel unpacks all its names for each look-up (5.10:
/// 130 ms at 1,000 million instructions per second; 7.2: 20 ms). Reading the symbol table once then pays for the other
/// probes, though it takes longer itself (5.10: 350 ms, 7.2: 600 ms).
const SLOW_LOOKUP: Duration = Duration::from_millis(100);

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
    /// Attaches and proves the first kind of hook that works.
    pub(super) fn attach_all(&mut self, hook: HookPreference, btf: &Btf) -> Result<(), StartError> {
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
        for (role, may_see_nothing) in [(Role::AcctAdd, true), (Role::RefreshAcct, false)] {
            if let Err(error) = self.attach(role, btf) {
                tried.push(format!("{}: {error}", role.name()));
                continue;
            }
            match self.prove(&mut test, Trial::Packets, may_see_nothing).map_err(StartError::of)? {
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

    /// Sends packets past the hooks, and more if some went astray or the deletion did: on a busy machine the kernel may
    /// skip a program that interrupts another, and rings may be full. Hooks that may see nothing are believed if they do.
    fn prove(
        &mut self,
        test: &mut selftest::PrivateNamespace,
        trial: Trial,
        may_see_nothing: bool,
    ) -> anyhow::Result<selftest::Verdict> {
        let mut verdict = selftest::Verdict::None;
        let (mut deletion_is_seen, mut attempts) = (false, 0);
        for _ in 0..selftest::MOST_ATTEMPTS {
            let outcome = test.run(self, trial)?;
            deletion_is_seen |= outcome.deletion_is_seen;
            if verdict != selftest::Verdict::EachOnce {
                verdict = outcome.packets;
            }
            let is_settled = match verdict {
                selftest::Verdict::EachOnce => deletion_is_seen,
                selftest::Verdict::None => may_see_nothing,
                selftest::Verdict::Wrong(_) => false,
            };
            attempts += usize::from(!outcome.was_full);
            if is_settled || attempts == selftest::ATTEMPTS {
                break;
            }
        }
        if verdict == selftest::Verdict::EachOnce {
            self.judge_deletion(deletion_is_seen);
        }
        Ok(verdict)
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
        match self.prove(&mut test, trial, false).map_err(StartError::of)? {
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
        // Since 5.12, which counts it, the kernel does not let a program interrupt itself: an end is put together in
        // memory of the CPU, where the end of another flow would mix with it.
        if role == Role::Destroy && program.skipped().is_none() {
            return Err(StartError::Other(anyhow!("this kernel lets typed programs interrupt themselves")));
        }
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
