//! The kernel programs: thin entry points for each hook, which call the bodies in the modules.
//!
//! [`entry`] and [`extensions`] read a conntrack entry, [`slots`] keeps which flows are live and when they may speak,
//! [`speak`], [`ends`], [`sweep`] and [`walk`] make events of both, [`maps`] is what user space shares. Every hook exists twice, as a typed program
//! (fentry, fexit) and as a kprobe; both call the same body.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod ends;
mod entry;
mod event;
mod existing;
mod extensions;
mod maps;
mod packet;
mod slots;
mod speak;
mod sweep;
mod tour;
mod walk;

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_ktime_get_boot_ns, bpf_probe_read_kernel,
        generated::{bpf_jiffies64, bpf_kallsyms_lookup_name},
    },
    macros::{fentry, fexit, kprobe, raw_tracepoint},
    programs::{FEntryContext, FExitContext, ProbeContext, RawTracePointContext},
};
use conntally_common::{ANNOUNCE_BATCH, Clock};
use entry::Conntrack;
use packet::{OwnPacket, Refresh};

/// `NF_ACCEPT`
const ACCEPT: u32 = 1;

/// `nf_ct_acct_add(ct, dir, packets, bytes)`: the counters do not hold these packets yet.
#[fentry]
fn acct_add(ctx: FEntryContext) -> i32 {
    speak::on_packet(Conntrack(ctx.arg(0)), || {
        (first_argument(&ctx), OwnPacket { direction: ctx.arg(1), packets: ctx.arg(2), bytes: ctx.arg(3) })
    });
    0
}

/// The same by kprobe.
#[kprobe]
fn acct_add_kprobe(ctx: ProbeContext) -> u32 {
    let conntrack = Conntrack(argument(&ctx, 0));
    speak::on_packet(conntrack, || {
        let own = OwnPacket {
            direction: argument(&ctx, 1) as u32,
            packets: argument(&ctx, 2) as u32,
            bytes: argument(&ctx, 3) as u32,
        };
        (conntrack.0, own)
    });
    0
}

/// `__nf_ct_refresh_acct`, whose parameters differ between kernels, see [`Refresh`].
#[fentry]
fn refresh_acct(ctx: FEntryContext) -> i32 {
    // Only the skb variant has a fifth parameter; elsewhere the verifier never follows the read.
    let refresh = Refresh { info: ctx.arg(1), third: ctx.arg(2), fourth: ctx.arg(3) };
    if refresh.has_packet(|| ctx.arg(4)) {
        speak::on_packet(Conntrack(ctx.arg(0)), || (first_argument(&ctx), refresh.own_packet()));
    }
    0
}

/// The same by kprobe.
#[kprobe]
fn refresh_acct_kprobe(ctx: ProbeContext) -> u32 {
    let refresh = Refresh { info: argument(&ctx, 1), third: argument(&ctx, 2), fourth: argument(&ctx, 3) };
    if refresh.has_packet(|| argument(&ctx, 4)) {
        let conntrack = Conntrack(argument(&ctx, 0));
        speak::on_packet(conntrack, || (conntrack.0, refresh.own_packet()));
    }
    0
}

/// `__nf_conntrack_confirm(skb)` has returned: only now is the flow's identity final and the verdict known.
#[fexit]
fn confirm(ctx: FExitContext) -> i32 {
    let verdict: u64 = ctx.arg(1);
    if verdict as u32 == ACCEPT
        && let Some(conntrack) = Conntrack::of_packet(ctx.arg(0))
    {
        speak::on_new(conntrack);
    }
    0
}

/// `__nf_conntrack_confirm(skb)` is about to run: a kprobe cannot tell how it will end, so the flow only gets its
/// slot here; its next packet announces it, or the program `announce`, whichever comes first.
#[kprobe]
fn confirm_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(conntrack) = Conntrack::of_packet(argument(&ctx, 0)) {
        speak::on_registration(conntrack);
    }
    0
}

/// `nf_conntrack_hash_check_insert(ct)` has returned: a flow was inserted through netlink.
#[fexit]
fn insert(ctx: FExitContext) -> i32 {
    let error: u64 = ctx.arg(1);
    if error as u32 == 0 {
        speak::on_new(Conntrack(ctx.arg(0)));
    }
    0
}

/// The same by kprobe, before it is known whether the insertion succeeds.
#[kprobe]
fn insert_kprobe(ctx: ProbeContext) -> u32 {
    speak::on_registration(Conntrack(argument(&ctx, 0)));
    0
}

/// `nf_ct_destroy(nfct)` (`destroy_conntrack` on 5.10): the last reference is gone, the counters are final.
#[fentry]
fn destroy(ctx: FEntryContext) -> i32 {
    ends::on_end(&ctx, Conntrack(ctx.arg(0)));
    0
}

/// The same by kprobe.
#[kprobe]
fn destroy_kprobe(ctx: ProbeContext) -> u32 {
    ends::on_end(&ctx, Conntrack(argument(&ctx, 0)));
    0
}

/// `nf_ct_delete(ct, portid, report)`: who deletes the entry tells why it ends.
#[fentry]
fn delete(ctx: FEntryContext) -> i32 {
    speak::on_delete(Conntrack(ctx.arg(0)), ctx.arg(1));
    0
}

/// The same by kprobe.
#[kprobe]
fn delete_kprobe(ctx: ProbeContext) -> u32 {
    speak::on_delete(Conntrack(argument(&ctx, 0)), argument(&ctx, 1) as u32);
    0
}

/// Run by user space, never attached: reads two clocks at one moment.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn clock(_ctx: RawTracePointContext) -> i32 {
    if let Some(clock) = maps::CLOCK.get_ptr_mut(0) {
        // SAFETY: the pointer is the map's value; both helpers only read a clock.
        unsafe { *clock = Clock { jiffies: bpf_jiffies64(), boot_ns: bpf_ktime_get_boot_ns() } };
    }
    0
}

/// Run by user space, never attached: announces flows that probes gave a slot.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn announce(_ctx: RawTracePointContext) -> i32 {
    let mut taken = 0;
    while taken < ANNOUNCE_BATCH && speak::announce_next() != 0 {
        taken += 1;
    }
    if let Some(place) = maps::TAKEN.get_ptr_mut(0) {
        // SAFETY: the pointer is the map's value.
        unsafe { *place = taken };
    }
    0
}

/// Run by user space, never attached: looks at flows that are due although no packet made them speak.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn sweep(_ctx: RawTracePointContext) -> i32 {
    sweep::run();
    0
}

/// Run by user space, never attached: tells of the flows in the kernel's table, some at each run.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn walk(_ctx: RawTracePointContext) -> i32 {
    walk::run();
    0
}

/// Run by user space, never attached, and loaded as a program of type `syscall`: asks the kernel where its connection
/// table is.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn look_up(_ctx: RawTracePointContext) -> i32 {
    let names = [c"nf_conntrack_hash", c"nf_conntrack_htable_size", c"nf_conntrack_generation"];
    for (index, name) in (0..).zip(names) {
        if let Some(address) = maps::ADDRESSES.get_ptr_mut(index) {
            let bytes = name.to_bytes_with_nul();
            // SAFETY: a string with its final zero; the pointer is the map's value.
            unsafe { bpf_kallsyms_lookup_name(bytes.as_ptr().cast(), bytes.len() as i32, 0, address) };
        }
    }
    0
}

/// The function's `n`th argument; a register that cannot be read counts as 0.
#[inline(always)]
fn argument(ctx: &ProbeContext, n: usize) -> u64 {
    ctx.arg(n).unwrap_or(0)
}

/// A typed program's first argument as a plain number, which the verifier lets a global function take. Read the long
/// way, as a load from the context gives a pointer of a type.
#[inline(always)]
fn first_argument(ctx: &FEntryContext) -> u64 {
    // SAFETY: the context is an array of the arguments, and the helper survives any address.
    unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u64>()) }.unwrap_or(0)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
