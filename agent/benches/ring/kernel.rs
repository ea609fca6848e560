//! A ring buffer of the kernel, filled by a small program that runs on request and is attached to nothing.
//!
//! The program takes the next of many flows, lets its totals and its time grow, and submits the event. It is a
//! `sched_cls` program, which kernels that forbid tracing permit, too.
#![expect(unsafe_code, reason = "system calls and mapped memory")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::{Context as _, Result, ensure};
use conntally_common::Event;

const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;

const ARRAY: u32 = 2;
const RINGBUF: u32 = 27;
const MMAPABLE: u32 = 1 << 10;

const SCHED_CLS: u32 = 3;

/// What the program and this process share.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// How many events were asked for; tells whose turn it is.
    made: AtomicU64,
    flows: AtomicU64,
    /// Events that the ring had no room for.
    lost: AtomicU64,
}

/// Ring, flows and program.
pub(super) struct Kernel {
    pub(super) ring: OwnedFd,
    program: OwnedFd,
    shared: &'static Shared,
    _maps: [OwnedFd; 2],
}

impl Kernel {
    /// A ring of that many bytes for that many flows.
    pub(super) fn new(bytes: u32, flows: u32) -> Result<Self> {
        let ring = map(RINGBUF, 0, 0, bytes, 0).context("cannot make a ring buffer: this needs root")?;
        let shared_map = map(ARRAY, 4, size_of::<Shared>() as u32, 1, MMAPABLE)?;
        let events = map(ARRAY, 4, size_of::<Event>() as u32, flows, MMAPABLE)?;
        // SAFETY: the mapping is as long as the map's only value, is never unmapped, and is written by atomics.
        let shared: &Shared = unsafe { &*mapped(&shared_map, size_of::<Shared>())?.cast() };
        shared.flows.store(flows.into(), Relaxed);
        write_flows(&events, flows)?;
        let program = load(&program(&shared_map, &events, &ring)).context("cannot load the producer")?;
        Ok(Self { ring, program, shared, _maps: [shared_map, events] })
    }

    /// Submits events, one of each flow in turn, in an order without locality.
    pub(super) fn produce(&self, events: u32) -> Result<()> {
        let packet = [0u8; 64];
        let mut attr = TestRun {
            program: self.program.as_raw_fd() as u32,
            data_size_in: packet.len() as u32,
            data_in: packet.as_ptr() as u64,
            repeat: events,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attr).context("the producer did not run")?;
        Ok(())
    }

    /// How many events were asked for, and how many of them the ring had no room for.
    pub(super) fn made_and_lost(&self) -> (u64, u64) {
        (self.shared.made.load(Relaxed), self.shared.lost.load(Relaxed))
    }

    /// Lets programs that this one starts have the ring.
    pub(super) fn share_ring(&self) -> Result<RawFd> {
        let fd = self.ring.as_raw_fd();
        // SAFETY: changes nothing but a flag of a descriptor that is ours.
        ensure!(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } == 0, io::Error::last_os_error());
        Ok(fd)
    }
}

/// One UDP flow for each number.
fn write_flows(map: &OwnedFd, flows: u32) -> Result<()> {
    let bytes = flows as usize * size_of::<Event>();
    let start = mapped(map, bytes)?;
    for number in 0..flows {
        let event = flow(number);
        // SAFETY: `number` is below the number of values, which lie one behind the other (200 bytes is a multiple
        // of 8), and nobody else has the mapping yet.
        unsafe { ptr::copy_nonoverlapping((&raw const event).cast(), start.add(number as usize * 200), 200) };
    }
    // SAFETY: the mapping was made above and is not used any more.
    unsafe { libc::munmap(start.cast(), bytes) };
    Ok(())
}

fn flow(number: u32) -> Event {
    let mut event: Event = zerocopy::FromZeros::new_zeroed();
    let [low, mid, high, _] = number.to_le_bytes();
    let Event { tuples: [original, reply], .. } = &mut event;
    for (place, byte) in original.src.iter_mut().zip([10, high, mid, low]) {
        *place = byte;
    }
    for (place, byte) in original.dst.iter_mut().zip([192, 0, 2, 1]) {
        *place = byte;
    }
    (original.src_port, original.dst_port) = ([0x9c, 0x40], [0, 53]);
    (original.family, original.protocol) = (2, 17);
    (reply.src, reply.dst) = (original.dst, original.src);
    (reply.src_port, reply.dst_port) = (original.dst_port, original.src_port);
    (reply.family, reply.protocol, reply.direction) = (2, 17, 1);
    event.boot_ns = 1_000_000_000;
    event.conntrack = 0xffff_8880_0000_0000 + u64::from(number) * 256;
    event.born_ns = 1_000_000_000;
    event.start_ns = 1_700_000_000_000_000_000 + u64::from(number);
    (event.netns, event.status) = (4_026_531_840, 0x8a);
    (event.kind, event.flags) = (2, 1);
    event
}

/// A borrowed ring that another process gave to this one.
pub(super) fn inherited(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: whoever started this process left the descriptor open for it.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fd.try_clone_to_owned().context("no ring was inherited")
}

/// The bare consumer: finds out how long each event is and goes on.
pub(super) struct Bare {
    consumer: &'static AtomicU64,
    producer: &'static AtomicU64,
    data: *const u8,
    size: u64,
}

// SAFETY: the mappings stay for the life of the process, and only one thread at a time has this.
unsafe impl Send for Bare {}

impl Bare {
    pub(super) fn open(ring: &OwnedFd, bytes: u32) -> Result<Self> {
        const PAGE: usize = 4096;
        let consumer = map_at(ring, PAGE, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let rest = map_at(ring, PAGE + 2 * bytes as usize, libc::PROT_READ, PAGE)?;
        // SAFETY: the kernel keeps the positions as aligned words at the start of these pages, which stay mapped.
        let (consumer, producer) = unsafe { (&*consumer.cast::<AtomicU64>(), &*rest.cast::<AtomicU64>()) };
        // SAFETY: the data begins one page behind the producer's position.
        let data = unsafe { rest.add(PAGE) };
        Ok(Self { consumer, producer, data, size: bytes.into() })
    }

    /// Takes what is there; returns how many events that was.
    pub(super) fn take(&self) -> u64 {
        use std::sync::atomic::{
            AtomicU32,
            Ordering::{Acquire, Release},
        };
        const BUSY: u32 = 1 << 31;
        let (mut at, end, mut taken) = (self.consumer.load(Relaxed), self.producer.load(Acquire), 0);
        while at < end {
            // SAFETY: positions are modulo the ring's size, headers are aligned, and the mapping is twice as long.
            let header = unsafe { &*self.data.add((at & (self.size - 1)) as usize).cast::<AtomicU32>() };
            let length = header.load(Acquire);
            if length & BUSY != 0 {
                break;
            }
            at += (u64::from(length) + 8).next_multiple_of(8);
            self.consumer.store(at, Release);
            taken += 1;
        }
        taken
    }
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

fn map(kind: u32, key: u32, value: u32, entries: u32, flags: u32) -> Result<OwnedFd> {
    let fd = bpf(MAP_CREATE, &mut MapCreate { kind, key, value, entries, flags })?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

fn load(instructions: &[u64]) -> Result<OwnedFd> {
    let mut log = vec![0u8; 64 * 1024];
    let mut attr = ProgLoad {
        kind: SCHED_CLS,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log: log.as_mut_ptr() as u64,
    };
    let fd = bpf(PROG_LOAD, &mut attr).with_context(|| String::from_utf8_lossy(&log).into_owned())?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    rest: [u64; 4],
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> Result<RawFd> {
    // SAFETY: each attribute is laid out as the kernel's for its command, and outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attr), size_of::<T>()) };
    ensure!(answer >= 0, io::Error::last_os_error());
    Ok(answer as RawFd)
}

fn mapped(fd: &OwnedFd, bytes: usize) -> Result<*mut u8> {
    map_at(fd, bytes, libc::PROT_READ | libc::PROT_WRITE, 0)
}

fn map_at(fd: &OwnedFd, bytes: usize, protection: libc::c_int, offset: usize) -> Result<*mut u8> {
    // SAFETY: a new mapping at a place of the kernel's choice harms nobody.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            protection,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            offset as libc::off_t,
        )
    };
    ensure!(at != libc::MAP_FAILED, io::Error::last_os_error());
    Ok(at.cast())
}

const fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = number.to_le_bytes();
    u64::from_le_bytes([code, to | from << 4, low, high, a, b, c, d])
}

/// The producer, in the kernel's instruction set (RFC 9669).
fn program(shared: &OwnedFd, events: &OwnedFd, ring: &OwnedFd) -> Vec<u64> {
    const LOAD_MAP: u8 = 0x18;
    const LOAD: u8 = 0x79;
    const STORE: u8 = 0x7b;
    const STORE_WORD: u8 = 0x63;
    const MOVE: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const ADD: u8 = 0x07;
    const MULTIPLY: u8 = 0x27;
    const MODULO: u8 = 0x9f;
    const JUMP_ZERO: u8 = 0x15;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    let map = |fd: &OwnedFd| [instruction(LOAD_MAP, 1, 1, 0, fd.as_raw_fd()), 0];
    let grow = |field: i16, by: i32| {
        [instruction(LOAD, 1, 0, field, 0), instruction(ADD, 1, 0, 0, by), instruction(STORE, 0, 1, field, 0)]
    };
    let mut code = vec![
        instruction(SET, 1, 0, 0, 0),
        instruction(STORE_WORD, 10, 1, -4, 0),
        instruction(MOVE, 2, 10, 0, 0),
        instruction(ADD, 2, 0, 0, -4),
    ];
    code.extend(map(shared));
    code.extend([
        instruction(CALL, 0, 0, 0, 1),
        instruction(JUMP_ZERO, 0, 0, 0, 0),
        instruction(MOVE, 6, 0, 0, 0),
        instruction(LOAD, 7, 6, 0, 0),
        instruction(MOVE, 1, 7, 0, 0),
        instruction(ADD, 1, 0, 0, 1),
        instruction(STORE, 6, 1, 0, 0),
        // A prime: neighbours in time are no neighbours in memory, and all have their turn.
        instruction(MULTIPLY, 7, 0, 0, 0x1e35_a7bd),
        instruction(LOAD, 1, 6, 8, 0),
        instruction(MODULO, 7, 1, 0, 0),
        instruction(STORE_WORD, 10, 7, -4, 0),
        instruction(MOVE, 2, 10, 0, 0),
        instruction(ADD, 2, 0, 0, -4),
    ]);
    code.extend(map(events));
    code.extend([instruction(CALL, 0, 0, 0, 1), instruction(JUMP_ZERO, 0, 0, 0, 0)]);
    code.extend([grow(0, 1_000), grow(40, 1), grow(48, 100)].concat());
    code.extend([instruction(MOVE, 2, 0, 0, 0)]);
    code.extend(map(ring));
    code.extend([
        instruction(SET, 3, 0, 0, 200),
        // Without a wake-up: whoever reads comes by itself.
        instruction(SET, 4, 0, 0, 1),
        instruction(CALL, 0, 0, 0, 130),
        instruction(JUMP_ZERO, 0, 0, 3, 0),
        instruction(LOAD, 1, 6, 16, 0),
        instruction(ADD, 1, 0, 0, 1),
        instruction(STORE, 6, 1, 16, 0),
    ]);
    let end = code.len();
    code.extend([instruction(SET, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    // The two jumps after the look-ups lead to the end.
    for at in [7, 22] {
        if let Some(jump) = code.get_mut(at) {
            *jump = instruction(JUMP_ZERO, 0, 0, (end - at - 1) as i16, 0);
        }
    }
    code
}
