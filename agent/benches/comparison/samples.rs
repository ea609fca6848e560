//! Records to encode: every field that the schema has for them, digits that vary.

use anyhow::{Result, bail};
use conntally::{
    flow::nat_kind,
    model::{
        Counter, EndReason, Family, FlowId, Record, RecordFlags, RecordKind, Status, Totals, Tuple, protocol,
    },
};

/// What there is.
pub(super) const KINDS: &[&str] = &["tcp4_snat_end", "udp6_update", "udp4_new"];

/// 2026-11-20T10:00:00Z
const NOW: i64 = 1_795_168_800_000_000_000;

/// That many records of a kind.
///
/// # Errors
/// When there is no such kind.
pub(super) fn of(kind: &str, count: u64) -> Result<Vec<Record>> {
    let make = match kind {
        "tcp4_snat_end" => tcp4_snat_end,
        "udp6_update" => udp6_update,
        "udp4_new" => udp4_new,
        _ => bail!("no such record: {kind}"),
    };
    Ok((0..count).map(|number| make(&mut Digits(number.wrapping_add(1)))).collect())
}

/// Numbers that look random and are always the same (a linear congruential generator).
struct Digits(u64);

impl Digits {
    /// A number of at most that many bits.
    fn bits(&mut self, bits: u32) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> (64 - bits)
    }

    fn port(&mut self) -> u16 {
        u16::try_from(self.bits(16)).unwrap_or_default()
    }

    fn v4(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (byte, random) in bytes.iter_mut().zip(self.bits(32).to_be_bytes()[4..].iter()) {
            *byte = *random;
        }
        bytes
    }

    fn v6(&mut self) -> [u8; 16] {
        let host = u128::from(self.bits(64)) | 0x2001_0db8_0000_0000 << 64 | u128::from(self.bits(24)) << 64;
        host.to_be_bytes()
    }

    /// Up to a million packets of up to a thousand bytes. Small flows are as frequent as big ones: as many have one
    /// digit as have six.
    fn counter(&mut self) -> Counter {
        let bits = 1 + self.bits(16) % 20;
        let packets = self.bits(u32::try_from(bits).unwrap_or(1));
        Counter { packets, bytes: packets * (40 + self.bits(10)) }
    }

    fn totals(&mut self) -> Totals {
        Totals { original: self.counter(), reply: self.counter() }
    }
}

fn record(digits: &mut Digits, original: Tuple, reply: Tuple) -> Record {
    let now = NOW + digits.bits(43).cast_signed();
    let lived = digits.bits(36);
    Record {
        flow_id: FlowId(u128::from(digits.bits(64)) << 64 | u128::from(digits.bits(64))),
        kind: RecordKind::Update,
        observed_ns: now,
        observed_boot_ns: digits.bits(50),
        start_ns: now.saturating_sub_unsigned(lived),
        duration_ns: lived,
        last_moved_ns: Some(now.saturating_sub_unsigned(lived / 3)),
        original,
        reply,
        nat: nat_kind(&original, &reply),
        totals: digits.totals(),
        delta: digits.totals(),
        status: Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED),
        protocol_state: None,
        end_reason: None,
        mark: 0,
        labels: [0; 16],
        zone: 0,
        netns: 4_026_531_840,
        flags: RecordFlags::default(),
    }
}

fn mirrored(of: &Tuple) -> Tuple {
    Tuple { src: of.dst, dst: of.src, src_port: of.dst_port, dst_port: of.src_port, ..*of }
}

fn tcp4_snat_end(digits: &mut Digits) -> Record {
    let original = Tuple {
        family: Family::V4,
        protocol: protocol::TCP,
        src: digits.v4(),
        dst: digits.v4(),
        src_port: digits.port(),
        dst_port: 443,
    };
    let reply = Tuple { dst: digits.v4(), dst_port: digits.port(), ..mirrored(&original) };
    Record {
        kind: RecordKind::End,
        protocol_state: Some(8),
        end_reason: Some(EndReason::Closed),
        mark: 0x1_0000,
        ..record(digits, original, reply)
    }
}

fn udp6_update(digits: &mut Digits) -> Record {
    let original = Tuple {
        family: Family::V6,
        protocol: protocol::UDP,
        src: digits.v6(),
        dst: digits.v6(),
        src_port: digits.port(),
        dst_port: 53,
    };
    record(digits, original, mirrored(&original))
}

fn udp4_new(digits: &mut Digits) -> Record {
    let original = Tuple {
        family: Family::V4,
        protocol: protocol::UDP,
        src: digits.v4(),
        dst: digits.v4(),
        src_port: digits.port(),
        dst_port: digits.port(),
    };
    let record = record(digits, original, mirrored(&original));
    let totals = Totals { original: Counter { packets: 1, bytes: 76 }, reply: Counter::default() };
    Record {
        kind: RecordKind::New,
        duration_ns: 0,
        start_ns: record.observed_ns,
        last_moved_ns: Some(record.observed_ns),
        status: Status(Status::CONFIRMED),
        totals,
        delta: totals,
        ..record
    }
}
