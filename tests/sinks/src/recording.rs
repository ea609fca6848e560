//! Recordings as `conntally replay` reads them, written by the layout alone, with a ledger of what is in them.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::sum::{Counter, Sum};

const RECORD_BYTES: u16 = 184;

/// Fewer than a block may have.
const RECORDS_OF_BLOCK: usize = 4_000;

/// The recording began so long after now by the clock that counts since the machine's start: what an agent meets there
/// is newer than itself, and so cannot have been sent by an agent before it.
const AHEAD_NS: u64 = 3_600_000_000_000;

/// How far back it began: more than an hour, which is the shortest retention of some servers, and another one, since
/// they keep what is older as long as it lies in the same hour as something younger.
const BEGAN_BEFORE: Duration = Duration::from_secs(7_800);

const IPS_SEEN_REPLY_ASSURED_CONFIRMED: u32 = 1 << 1 | 1 << 2 | 1 << 3;
const UDP: u8 = 17;

const NEW: u8 = 1;
const UPDATE: u8 = 2;
const EXISTING: u8 = 3;
const END: u8 = 4;
const GONE: u8 = 5;

/// The flow ended because no packet came.
const TIMEOUT: u8 = 2;
/// It was found gone.
const MISSED: u8 = 6;

const COUNTED: u8 = 1;
const MIDLIFE: u8 = 2;
/// The programs had told of it before.
const ANNOUNCED: u8 = 8;

/// What a flow that was there before the recording is older by.
const OLDER_NS: u64 = 1_000_000_000_000;

/// What the agent sees of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is born, moves and ends.
    Whole,
    /// It was there before, and is met when others are born.
    Midlife,
    /// Nobody counts what it moves.
    Uncounted,
    /// It is found gone, and its end is not seen.
    Missed,
    /// It does not end.
    Open,
}

/// Bytes of a recording, and what they tell.
#[derive(Debug)]
pub struct Recording {
    boot_ns: u64,
    real_ns: i64,
    flows: u64,
    ledger: Ledger,
}

/// What a recording holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger {
    /// All flows, ended or not, and what they moved from the recording's begin on.
    pub moved: Sum,
    /// Flows that ended, with their totals.
    pub ended: Sum,
    /// Flows to the port that [`Recording::NAMES`] tells, and what they moved; all of them are whole.
    pub names: Sum,
}

impl Recording {
    /// The port of every third flow that is whole; no other has it.
    pub const NAMES: u16 = 53;

    /// Begins one; returns its first bytes, too.
    #[must_use]
    pub fn begin() -> (Self, Vec<u8>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let real_ns = now.saturating_sub(BEGAN_BEFORE).as_nanos();
        let recording = Self {
            boot_ns: uptime_ns() + AHEAD_NS,
            real_ns: i64::try_from(real_ns).unwrap_or(i64::MAX),
            flows: 0,
            ledger: Ledger::default(),
        };
        let mut bytes = b"CTALLYRC".to_vec();
        bytes.extend(2_u16.to_le_bytes());
        bytes.extend(RECORD_BYTES.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(b"conntally--tests");
        recording.add_clocks(&mut bytes);
        bytes.extend([0; 12]);
        add_crc(0, &mut bytes);
        (recording, bytes)
    }

    /// So many flows are born, move and end; between these moments lie the given times.
    #[must_use]
    pub fn wave(&mut self, flows: u64, step: Duration) -> Vec<u8> {
        self.lives(&[(Life::Whole, flows)], step)
    }

    /// The same with so many flows of each kind.
    #[must_use]
    pub fn lives(&mut self, lives: &[(Life, u64)], step: Duration) -> Vec<u8> {
        let mut all = Vec::new();
        for &(life, flows) in lives {
            all.extend((self.flows..self.flows + flows).map(|number| self.flow(number, life)));
            self.flows += flows;
        }
        let mut bytes = Vec::new();
        for moment in [NEW, UPDATE, END] {
            self.pass(step);
            let spoken: Vec<_> = all.iter().copied().filter(|flow| flow.is_spoken_of(moment)).collect();
            for part in spoken.chunks(RECORDS_OF_BLOCK) {
                self.add_block(moment, part, &mut bytes);
            }
        }
        all.iter().for_each(|flow| self.ledger.note(*flow));
        bytes
    }

    /// The first flows of a recording if they are whole: who opened each, to whom, and what it moved.
    pub fn first_flows(flows: u64) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr, Sum)> {
        let flow = |number| Flow { number, life: Life::Whole, start_ns: 0, born_ns: 0 };
        (0..flows).map(flow).map(|flow| {
            let (asks, answers, ..) = flow.tuple();
            let (source, destination) = flow.at(END);
            (asks.into(), answers.into(), Sum { flows: 1, source, destination })
        })
    }

    /// All that ended so far.
    #[must_use]
    pub const fn ledger(&self) -> Sum {
        self.ledger.ended
    }

    /// All of it.
    #[must_use]
    pub const fn whole_ledger(&self) -> Ledger {
        self.ledger
    }

    /// The wall clock at its end, milliseconds since the Unix epoch.
    #[must_use]
    pub const fn real_ms(&self) -> i64 {
        self.real_ns / 1_000_000
    }

    fn flow(&self, number: u64, life: Life) -> Flow {
        let real_ns = u64::try_from(self.real_ns).unwrap_or(0);
        let older_ns = if life == Life::Midlife { OLDER_NS } else { 0 };
        Flow {
            number,
            life,
            start_ns: (real_ns + 1_000 + number % 1_000).saturating_sub(older_ns),
            born_ns: self.boot_ns + number % 1_000,
        }
    }

    /// Nothing happens for that time.
    pub fn pass(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(0);
        self.boot_ns += ns;
        self.real_ns += i64::try_from(ns).unwrap_or(0);
    }

    /// Somebody sets the wall clock, by so many seconds.
    pub const fn step_clock(&mut self, seconds: i64) {
        self.real_ns += seconds * 1_000_000_000;
    }

    fn add_clocks(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.boot_ns.to_le_bytes());
        bytes.extend(self.real_ns.to_le_bytes());
    }

    fn add_block(&self, moment: u8, flows: &[Flow], bytes: &mut Vec<u8>) {
        let records: Vec<u8> = flows.iter().flat_map(|flow| flow.record(moment, self.boot_ns)).collect();
        let begin = bytes.len();
        bytes.extend(b"CTBK");
        bytes.extend(u32::try_from(flows.len()).unwrap_or(0).to_le_bytes());
        // Settled.
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        self.add_clocks(bytes);
        bytes.extend(crc32c::crc32c(&records).to_le_bytes());
        add_crc(begin, bytes);
        bytes.extend(records);
    }
}

impl Ledger {
    fn note(&mut self, flow: Flow) {
        let sum = |(source, destination)| Sum { flows: 1, source, destination };
        let nothing = (Counter::default(), Counter::default());
        let last = match flow.life {
            Life::Whole | Life::Midlife => flow.at(END),
            // What it moved after it was last seen is in no record.
            Life::Missed | Life::Open => flow.at(UPDATE),
            Life::Uncounted => nothing,
        };
        let before = if flow.life == Life::Midlife { flow.at(NEW) } else { nothing };
        let moved = sum((last.0 - before.0, last.1 - before.1));
        self.moved += moved;
        if flow.life != Life::Open {
            self.ended += sum(last);
        }
        if flow.service() == Recording::NAMES {
            self.names += moved;
        }
    }
}

/// Everything about a flow follows from its number and its life.
#[derive(Clone, Copy, Debug)]
struct Flow {
    number: u64,
    life: Life,
    start_ns: u64,
    born_ns: u64,
}

impl Flow {
    /// Whether anything is said of it when whole flows are born, move, or end.
    fn is_spoken_of(self, moment: u8) -> bool {
        moment != END || self.life != Life::Open
    }

    /// What it has moved when it is born, in its middle, and in the end.
    fn at(self, moment: u8) -> (Counter, Counter) {
        let last = self.number % 7 + 2;
        let packets = match moment {
            NEW => 1,
            UPDATE => last / 2 + 1,
            _ => last,
        };
        let answered = packets - 1;
        let size = 60 + self.number % 1_400;
        (
            Counter { packets, bytes: packets * size },
            Counter { packets: answered, bytes: answered * (size + 40) },
        )
    }

    /// The host that asks, and the one that answers.
    fn tuple(self) -> ([u8; 4], [u8; 4], u16, u16) {
        let [.., a, b] = (self.number / 50 % 65_536).to_be_bytes();
        let port = u16::try_from(self.number % 28_000).unwrap_or(0) + 32_768;
        let [.., last] = (self.number % 20).to_be_bytes();
        ([10, 32, a, b], [192, 0, 2, last], port, self.service())
    }

    fn service(self) -> u16 {
        let is_name = self.life == Life::Whole && self.number.is_multiple_of(3);
        if is_name { Recording::NAMES } else { 443 }
    }

    /// What is said of it at a moment: the kind of record, the reason of an end, and flags.
    fn said(self, moment: u8) -> [u8; 3] {
        let flags = match self.life {
            Life::Whole | Life::Missed | Life::Open => COUNTED | ANNOUNCED,
            Life::Midlife => COUNTED | MIDLIFE | ANNOUNCED,
            Life::Uncounted => ANNOUNCED,
        };
        match (moment, self.life) {
            (NEW, Life::Midlife) => [EXISTING, 0, flags],
            (END, Life::Missed) => [GONE, MISSED, flags],
            (END, _) => [END, TIMEOUT, flags],
            _ => [moment, 0, flags],
        }
    }

    fn record(self, moment: u8, boot_ns: u64) -> Vec<u8> {
        let [kind, reason, flags] = self.said(moment);
        let (source, destination) =
            if flags & COUNTED == 0 { (Counter::default(), Counter::default()) } else { self.at(moment) };
        let (asks, answers, port, service) = self.tuple();
        let mut bytes = vec![kind, reason, flags, 0];
        bytes.extend(4_026_531_840_u32.to_le_bytes());
        let entry = 0xffff_8880_0000_0000 + self.number * 256;
        for number in [boot_ns, entry, self.born_ns, self.start_ns] {
            bytes.extend(number.to_le_bytes());
        }
        for counter in [source, destination] {
            bytes.extend(counter.packets.to_le_bytes());
            bytes.extend(counter.bytes.to_le_bytes());
        }
        bytes.extend(IPS_SEEN_REPLY_ASSURED_CONFIRMED.to_le_bytes());
        // Mark, labels, zone.
        bytes.extend([0; 4 + 16 + 4]);
        add_tuple(asks, answers, port, service, &mut bytes);
        add_tuple(answers, asks, service, port, &mut bytes);
        bytes.extend([0; 4]);
        bytes
    }
}

/// What the clock shows that counts since the machine's start.
fn uptime_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(0)
}

fn add_tuple(from: [u8; 4], to: [u8; 4], from_port: u16, to_port: u16, bytes: &mut Vec<u8>) {
    bytes.extend([4, UDP]);
    bytes.extend(from_port.to_le_bytes());
    bytes.extend(to_port.to_le_bytes());
    bytes.extend([0; 2]);
    for address in [from, to] {
        bytes.extend(address);
        bytes.extend([0; 12]);
    }
}

fn add_crc(begin: usize, bytes: &mut Vec<u8>) {
    let crc = crc32c::crc32c(bytes.get(begin..).unwrap_or_default());
    bytes.extend(crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_layout() {
        let (mut recording, header) = Recording::begin();
        assert_eq!(header.len(), 64);
        let wave = recording.wave(5, Duration::from_secs(1));
        assert_eq!(wave.len(), 3 * (40 + 5 * usize::from(RECORD_BYTES)));
    }

    #[test]
    fn the_ledger_is_the_sum_of_what_the_flows_moved_in_the_end() {
        let (mut recording, _) = Recording::begin();
        let _ = recording.wave(2, Duration::from_secs(1));
        let source = Counter { packets: 2 + 3, bytes: 2 * 60 + 3 * 61 };
        let destination = Counter { packets: 1 + 2, bytes: 100 + 2 * 101 };
        assert_eq!(recording.ledger(), Sum { flows: 2, source, destination });
    }

    #[test]
    fn what_is_not_seen_is_not_in_the_ledger() {
        let one = |life| {
            let (mut recording, _) = Recording::begin();
            let bytes = recording.lives(&[(life, 1)], Duration::from_secs(1));
            let ledger = recording.whole_ledger();
            let packets = |sum: Sum| (sum.flows, sum.source.packets, sum.destination.packets);
            (packets(ledger.moved), packets(ledger.ended), bytes.len() / (40 + usize::from(RECORD_BYTES)))
        };
        assert_eq!(one(Life::Whole), ((1, 2, 1), (1, 2, 1), 3));
        assert_eq!(one(Life::Midlife), ((1, 1, 1), (1, 2, 1), 3));
        assert_eq!(one(Life::Uncounted), ((1, 0, 0), (1, 0, 0), 3));
        assert_eq!(one(Life::Missed), ((1, 2, 1), (1, 2, 1), 3));
        assert_eq!(one(Life::Open), ((1, 2, 1), (0, 0, 0), 2));
    }
}
