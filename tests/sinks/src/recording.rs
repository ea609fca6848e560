//! Recordings as `conntally replay` reads them, written by the layout alone, with a ledger of what is in them.

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
const END: u8 = 4;

/// The flow ended because no packet came.
const TIMEOUT: u8 = 2;

/// Counters are there, and the programs had told of it before.
const COUNTED_AND_ANNOUNCED: u8 = 1 | 8;

/// Bytes of a recording, and what they tell.
#[derive(Debug)]
pub struct Recording {
    boot_ns: u64,
    real_ns: i64,
    flows: u64,
    ledger: Sum,
}

impl Recording {
    /// Begins one; returns its first bytes, too.
    #[must_use]
    pub fn begin() -> (Self, Vec<u8>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let real_ns = now.saturating_sub(BEGAN_BEFORE).as_nanos();
        let recording = Self {
            boot_ns: uptime_ns() + AHEAD_NS,
            real_ns: i64::try_from(real_ns).unwrap_or(i64::MAX),
            flows: 0,
            ledger: Sum::default(),
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
        let all: Vec<Flow> = (self.flows..self.flows + flows).map(|number| self.flow(number)).collect();
        self.flows += flows;
        let mut bytes = Vec::new();
        for kind in [NEW, UPDATE, END] {
            self.pass(step);
            for part in all.chunks(RECORDS_OF_BLOCK) {
                self.add_block(kind, part, &mut bytes);
            }
        }
        for flow in &all {
            self.ledger += Sum { flows: 1, source: flow.at(END).0, destination: flow.at(END).1 };
        }
        bytes
    }

    /// All that ended so far.
    #[must_use]
    pub const fn ledger(&self) -> Sum {
        self.ledger
    }

    fn flow(&self, number: u64) -> Flow {
        let real_ns = u64::try_from(self.real_ns).unwrap_or(0);
        Flow { number, start_ns: real_ns + 1_000 + number % 1_000, born_ns: self.boot_ns + number % 1_000 }
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

    fn add_block(&self, kind: u8, flows: &[Flow], bytes: &mut Vec<u8>) {
        let records: Vec<u8> = flows.iter().flat_map(|flow| flow.record(kind, self.boot_ns)).collect();
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

/// Everything about a flow follows from its number.
#[derive(Clone, Copy, Debug)]
struct Flow {
    number: u64,
    start_ns: u64,
    born_ns: u64,
}

impl Flow {
    /// What it has moved when it is born, in its middle, and in the end.
    fn at(self, kind: u8) -> (Counter, Counter) {
        let last = self.number % 7 + 2;
        let packets = match kind {
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
        let service = if self.number.is_multiple_of(3) { 53 } else { 443 };
        let [.., last] = (self.number % 20).to_be_bytes();
        ([10, 32, a, b], [192, 0, 2, last], port, service)
    }

    fn record(self, kind: u8, boot_ns: u64) -> Vec<u8> {
        let (source, destination) = self.at(kind);
        let (asks, answers, port, service) = self.tuple();
        let reason = if kind == END { TIMEOUT } else { 0 };
        let mut bytes = vec![kind, reason, COUNTED_AND_ANNOUNCED, 0];
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
}
