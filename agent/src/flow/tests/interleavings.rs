//! Property: whatever happens in whatever order (births, updates, ends told, lost or skipped, walks, restarts), the
//! books balance, no byte is billed twice, and the audit names what is missing, or says that it cannot.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::audit::{Auditor, Completeness, Evidence, Statement};
use crate::flow::state::{Facts, FlowState};
use crate::model::{FlowId, ObservationKind as Kind, Sum};
use crate::source::Counted;

#[derive(Clone, Copy, Debug)]
enum Fate {
    Told,
    Lost,
    Skipped,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A flow appears; whether before the accounting, and whether the hook saw it.
    Birth { old: bool, told: bool },
    /// One of the flows moves so many packets.
    Move(prop::sample::Index, u8),
    /// One of them speaks.
    Update(prop::sample::Index),
    /// One of them ends.
    End(prop::sample::Index, Fate),
    /// What is in the rings is read.
    Read,
    /// The kernel's table is walked.
    Walk,
    /// Another agent takes over the table; what is in the rings is gone.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let flow = any::<prop::sample::Index>;
    let fate = prop_oneof![6 => Just(Fate::Told), 2 => Just(Fate::Lost), 1 => Just(Fate::Skipped)];
    prop_oneof![
        3 => (any::<bool>(), any::<bool>()).prop_map(|(old, told)| Step::Birth { old, told }),
        4 => (flow(), 1..9u8).prop_map(|(flow, n)| Step::Move(flow, n)),
        4 => flow().prop_map(Step::Update),
        3 => (flow(), fate).prop_map(|(flow, fate)| Step::End(flow, fate)),
        3 => Just(Step::Read),
        2 => Just(Step::Walk),
        1 => Just(Step::Restart),
    ]
}

/// A flow as the kernel has it.
#[derive(Clone, Copy, Debug)]
struct Flow {
    port: u16,
    old: bool,
    /// Boot time after [`SINCE`] when it began; of an old one, how long before.
    began: u64,
    /// When the hooks met it, and whether midlife; `None` while it has no slot.
    slot: Option<(u64, bool)>,
    announced: bool,
    n: u64,
    /// Totals that the table knows from a sight that counts for records.
    seen: u64,
    /// What an older flow had moved when it was first seen.
    baseline: Option<u64>,
    /// No record has told anything of it: all sights count until one does.
    held: bool,
}

#[derive(Debug)]
struct World {
    wanted: Wanted,
    table: FlowTable,
    auditor: Auditor,
    counted: Counted,
    now: u64,
    flows: Vec<Flow>,
    /// Events in the rings, and the flow that each speaks of.
    ring: Vec<Observation>,
    billed: HashMap<FlowId, u64>,
    delivered: u64,
    /// What lost ends cost, in packets of one direction.
    lost: u64,
    /// Whether an end vanished without a trace.
    uncertain: bool,
    true_totals: HashMap<u16, u64>,
}

impl World {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            table: FlowTable::new(options(1000).with_wanted(wanted)),
            auditor: Auditor::default(),
            counted: Counted::default(),
            now: 0,
            flows: Vec::new(),
            ring: Vec::new(),
            billed: HashMap::new(),
            delivered: 0,
            lost: 0,
            uncertain: false,
            true_totals: HashMap::new(),
        }
    }

    fn take(&mut self, step: Step) {
        self.now += SECOND / 2;
        match step {
            Step::Birth { old, told } => self.bear(old, told),
            Step::Move(flow, n) => drop(self.pick(flow).map(|flow| flow.n += u64::from(n))),
            Step::Update(flow) => self.speak(flow),
            Step::End(flow, fate) => self.end(flow, fate),
            Step::Read => self.read(None),
            Step::Walk => self.walk(),
            Step::Restart => self.restart(),
        }
    }

    fn pick(&mut self, flow: prop::sample::Index) -> Option<&mut Flow> {
        if self.flows.is_empty() {
            return None;
        }
        let at = flow.index(self.flows.len());
        self.flows.get_mut(at)
    }

    fn bear(&mut self, old: bool, told: bool) {
        let port = self.true_totals.len() as u16;
        self.true_totals.insert(port, 0);
        let slot = (told && !old).then_some((self.now, false));
        let mut flow = Flow {
            port,
            old,
            began: self.now,
            slot,
            announced: false,
            n: 1,
            seen: 0,
            baseline: None,
            held: self.wanted != Wanted::ALL,
        };
        if let Some(new) = slot.map(|_| flow.sight(Kind::New, self.now)) {
            self.ring.push(new);
            flow.announced = true;
        }
        self.flows.push(flow);
    }

    fn speak(&mut self, flow: prop::sample::Index) {
        let now = self.now;
        let Some(flow) = self.pick(flow) else { return };
        flow.slot.get_or_insert((now, true));
        let update = flow.sight(Kind::Update, now);
        flow.announced = true;
        self.ring.push(update);
    }

    fn end(&mut self, flow: prop::sample::Index, fate: Fate) {
        if self.flows.is_empty() {
            return;
        }
        let flow = self.flows.swap_remove(flow.index(self.flows.len()));
        let whole = Sum::of_flow(&totals(flow.n));
        self.true_totals.insert(flow.port, flow.n);
        match fate {
            Fate::Told => {
                self.counted.ended += whole;
                self.ring.push(flow.sight(Kind::End, self.now));
            }
            Fate::Lost => {
                self.counted.ended += whole;
                self.counted.ends_lost += whole;
                // What is in the ring of updates will still be read.
                let in_ring = self.ring.iter().filter(|o| o.original.src_port == flow.port);
                let seen = in_ring.map(|o| o.totals.original.packets).fold(flow.seen, u64::max);
                self.lost += flow.n - seen;
            }
            Fate::Skipped => {
                self.counted.ends_skipped += 1;
                self.uncertain = true;
            }
        }
    }

    fn read(&mut self, look: Option<Look>) {
        let observations = std::mem::take(&mut self.ring);
        for o in &observations {
            self.note_sight(o);
        }
        let records = apply_batch(&mut self.table, &Batch { observations, settled: true, look });
        for record in &records {
            let delta = record.delta.original.packets;
            self.delivered += delta;
            *self.billed.entry(record.flow_id).or_default() += delta;
            assert!(self.billed[&record.flow_id] <= record.totals.original.packets, "billed twice");
        }
        let statement = self.audit(false);
        assert!(statement.balances(), "{statement:?}");
    }

    /// Follows what the table knows of a living flow.
    fn note_sight(&mut self, o: &Observation) {
        let Some(flow) = self.flows.iter_mut().find(|flow| flow.port == o.original.src_port) else { return };
        if flow.old && flow.baseline.is_none() {
            flow.baseline = Some(o.totals.original.packets);
        }
        // A walk tells nothing of a known flow that a record would show.
        let is_known = flow.seen > 0;
        if !is_known || flow.held || o.kind != Kind::Existing {
            flow.seen = flow.seen.max(o.totals.original.packets);
        }
        flow.held &= !(is_known && o.kind == Kind::Update && self.wanted.update);
    }

    fn walk(&mut self) {
        let now = self.now;
        for flow in &mut self.flows {
            flow.slot.get_or_insert((now, true));
            let existing = flow.sight(Kind::Existing, now);
            self.ring.push(existing);
            flow.announced = true;
        }
        self.read(Some(Look { began_boot_ns: SINCE + now, scope: Scope::All }));
        self.now += SECOND;
    }

    fn restart(&mut self) {
        // Ends that wait in the ring are gone, and no sum tells of them.
        self.uncertain |= self.ring.iter().any(|o| o.kind == Kind::End);
        self.ring.clear();
        let known = self.table.flows.positions().filter_map(|at| self.table.flows.get(at).copied());
        let is_kept = |flow: &FlowState| !flow.facts.has(Facts::ENDED) || flow.facts.has(Facts::MISSED);
        let known: Vec<_> = known.filter(is_kept).collect();
        let mut next = FlowTable::new(options(1000).with_wanted(self.wanted));
        for mut flow in known {
            // The programs are attached anew.
            (flow.conntrack, flow.born_ns) = (0, 0);
            next.adopt(flow);
        }
        // The table before it never told the ends of those whose end was lost.
        self.uncertain |= self.counted.ends_lost.flows > self.table.books().missed.flows;
        self.table = next;
        self.auditor = Auditor::default();
        self.counted = Counted::default();
        (self.delivered, self.lost) = (0, 0);
        for flow in &mut self.flows {
            (flow.slot, flow.announced) = (None, false);
        }
    }

    fn audit(&mut self, is_final: bool) -> Statement {
        self.auditor.audit(&Evidence {
            books: self.table.books(),
            counted: Some(self.counted.clone()),
            settled_batches: self.table.settled_batches(),
            is_final,
            ..Evidence::default()
        })
    }
}

impl Flow {
    fn not_told(&self) -> u64 {
        let told = if self.held { self.baseline.unwrap_or(0) } else { self.seen };
        self.n - told
    }

    fn sight(&self, kind: Kind, now: u64) -> Observation {
        let (born, midlife) = self.slot.unwrap_or_default();
        let start = if self.old { -(self.began as i64) - 1 } else { self.began as i64 };
        Observation {
            conntrack: 0xA000 + u64::from(self.port),
            born_ns: if self.slot.is_some() { SINCE + born } else { 0 },
            midlife,
            announced: self.announced,
            ..super::sight(kind, self.port, start, now, self.n)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_audit_names_what_is_missing(
        steps in prop::collection::vec(step(), 1..80),
        (new, update) in any::<(bool, bool)>(),
    ) {
        let mut world = World::new(Wanted { new, update });
        steps.into_iter().for_each(|step| world.take(step));
        world.walk();
        world.walk();
        world.walk();
        prop_assert_eq!(world.table.len(), world.flows.len(), "no flow is left behind");
        let statement = world.audit(true);
        prop_assert!(statement.balances());
        prop_assert_eq!(statement.delivered.packets, 2 * world.delivered);
        let not_told: u64 = world.flows.iter().map(Flow::not_told).sum();
        prop_assert_eq!(statement.not_yet_due.packets, 2 * not_told);
        if world.uncertain {
            return Ok(());
        }
        prop_assert_eq!(&statement.doubts, &vec![]);
        prop_assert_eq!(statement.lost_sum().packets, 2 * world.lost);
        prop_assert_eq!(statement.lost_sum().bytes, 110 * world.lost);
        let is_exact = matches!(statement.completeness.bytes, Completeness::Exact(_));
        prop_assert!(is_exact);
    }
}
