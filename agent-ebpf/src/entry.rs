//! Reads a conntrack entry (`struct nf_conn`) by the offsets of the running kernel.

use core::{arch::asm, ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use conntally_common::{ABSENT, Event, EventFlags, KernelTuple};

use crate::maps::{HEAD_BYTES, constant, layout};

/// `IPS_CONFIRMED`
const CONFIRMED: u32 = 1 << 3;
/// `IPS_DYING`
const DYING: u32 = 1 << 9;
/// The low bits of `sk_buff._nfct` say how the packet relates to the entry.
const NFCT_POINTER: u64 = !7;
/// `IP_CT_IS_REPLY`: from here on `enum ip_conntrack_info` means the reply direction.
const IS_REPLY: u32 = 3;
/// Bytes of an entry's head that fit on the stack; user space refuses a kernel that needs more.
const HEAD_MAX: usize = 256;

const TCP: u8 = 6;
const DCCP: u8 = 33;
const SCTP: u8 = 132;

/// Address of a conntrack entry.
#[derive(Clone, Copy)]
pub struct Conntrack(pub u64);

impl Conntrack {
    /// The entry of a packet, given the address of its `sk_buff`.
    #[inline(always)]
    pub fn of_packet(skb: u64) -> Option<Self> {
        let nfct = read::<u64>(skb + u64::from(layout!(skb_nfct)))? & NFCT_POINTER;
        (nfct != 0).then_some(Self(nfct))
    }

    /// The low half of the address as a plain number.
    ///
    /// The verifier forbids arithmetic on a typed kernel pointer except by constants; a 32-bit move makes a
    /// number of it.
    #[inline(always)]
    pub fn low_half(self) -> u32 {
        let low: u32;
        // SAFETY: moves a register.
        unsafe { asm!("{0} = {1}", out(wreg) low, in(wreg) self.0 as u32) };
        low
    }
}

/// The packet that a hook was called for, which the counters do not hold yet at the function's entry.
#[derive(Clone, Copy)]
pub struct OwnPacket {
    /// 0 original, 1 reply.
    pub direction: u32,
    pub packets: u32,
    pub bytes: u32,
}

impl OwnPacket {
    /// No packet: the counters are complete.
    pub const NONE: Self = Self { direction: 0, packets: 0, bytes: 0 };
}

/// The parameters of `__nf_ct_refresh_acct`.
///
/// Before 6.9 they are `(ct, ctinfo, skb, extra_jiffies, do_acct)`, since then `(ct, ctinfo, extra_jiffies, bytes)`.
pub struct Refresh {
    pub info: u64,
    pub third: u64,
    pub fourth: u64,
}

impl Refresh {
    /// Whether a packet is accounted, or only the timeout refreshed.
    #[inline(always)]
    pub fn has_packet(&self, fifth: impl FnOnce() -> u64) -> bool {
        if layout!(refresh_takes_skb) == 1 { fifth() as u8 != 0 } else { self.fourth as u32 != 0 }
    }

    /// That packet.
    #[inline(always)]
    pub fn own_packet(&self) -> OwnPacket {
        let bytes = if layout!(refresh_takes_skb) == 1 {
            read::<u32>(self.third + u64::from(layout!(skb_len))).unwrap_or(0)
        } else {
            self.fourth as u32
        };
        OwnPacket { direction: u32::from(self.info as u32 >= IS_REPLY), packets: 1, bytes }
    }
}

/// The head of an entry, copied at once: all that lies at a fixed offset.
#[repr(C, align(8))]
pub struct Head(MaybeUninit<[u64; HEAD_MAX / 8]>);

impl Head {
    /// Room for a head. Not zeroed: that would cost a call per event.
    #[inline(always)]
    pub fn room() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// Copies the head of an entry; false if the address cannot be read.
    #[inline(always)]
    pub fn copy(&mut self, conntrack: Conntrack) -> bool {
        // SAFETY: user space never sets more than `HEAD_MAX` bytes, and the verifier checks it.
        unsafe {
            bpf_probe_read_kernel(
                self.0.as_mut_ptr().cast(),
                constant(&HEAD_BYTES),
                conntrack.0 as *const c_void,
            ) == 0
        }
    }

    /// The field at an offset below [`HEAD_BYTES`].
    #[inline(always)]
    fn field<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: the copied head is initialised up to [`HEAD_BYTES`], which covers every offset of the layout;
        // the verifier checks that too.
        unsafe { self.0.as_ptr().cast::<u8>().add(offset as usize).cast::<T>().read() }
    }

    /// `enum ip_conntrack_status`
    #[inline(always)]
    pub fn status(&self) -> u32 {
        self.field::<u32>(layout!(status))
    }

    /// Whether the entry is, or was until its end began, in the kernel's table.
    #[inline(always)]
    pub fn is_confirmed(&self) -> bool {
        self.status() & CONFIRMED != 0
    }

    /// Whether the entry is in the table and stays there.
    #[inline(always)]
    pub fn is_live(&self) -> bool {
        self.status() & (CONFIRMED | DYING) == CONFIRMED
    }

    /// Whether the entry's network namespace is being removed.
    #[inline(always)]
    pub fn netns_is_gone(&self) -> bool {
        layout!(net_references) != ABSENT
            && read::<u32>(self.field::<u64>(layout!(net)) + u64::from(layout!(net_references))) == Some(0)
    }

    /// Inode of the entry's network namespace, 0 if it cannot be read.
    #[inline(always)]
    pub fn netns(&self) -> u32 {
        read(self.field::<u64>(layout!(net)) + u64::from(layout!(net_inum))).unwrap_or(0)
    }
}

/// Fills in all that the entry itself says.
///
/// # Safety
/// `event` points to an event's memory, which need not be initialised.
#[inline(always)]
pub unsafe fn describe(event: *mut Event, conntrack: Conntrack, head: &Head) {
    // SAFETY: every write is to a field of the caller's event.
    unsafe {
        (*event).conntrack = conntrack.0;
        (*event).status = head.status();
        (*event).timeout = head.field(layout!(timeout));
        (*event).zone = if layout!(zone) == ABSENT { 0 } else { head.field(layout!(zone)) };
        (*event).mark = if layout!(mark) == ABSENT { 0 } else { head.field(layout!(mark)) };
        copy_tuple(&raw mut (*event).tuples[0], head, layout!(tuple_original));
        copy_tuple(&raw mut (*event).tuples[1], head, layout!(tuple_reply));
        let state = protocol_state(conntrack, (*event).tuples[0].protocol);
        // The state and the padding behind it, as the one word that they are: see `zero`.
        (&raw mut (*event).protocol_state).cast::<u64>().write(u64::from(state));
        read_extensions(event, head.field(layout!(ext)));
    }
}

/// Copies a tuple as five words.
///
/// # Safety
/// `tuple` points to memory for a tuple, 8-byte aligned as in [`Event`].
#[inline(always)]
unsafe fn copy_tuple(tuple: *mut KernelTuple, head: &Head, offset: u32) {
    let words = tuple.cast::<u64>();
    let mut i = 0;
    while i < 5 {
        // SAFETY: a tuple is five words.
        unsafe { words.add(i).write(head.field(offset + 8 * i as u32)) };
        i += 1;
    }
}

/// State of the protocol's tracker; 0 where there is none.
#[inline(always)]
fn protocol_state(conntrack: Conntrack, protocol: u8) -> u8 {
    let offset = match protocol {
        TCP => layout!(tcp_state),
        SCTP => layout!(sctp_state),
        DCCP => layout!(dccp_state),
        _ => ABSENT,
    };
    if offset == ABSENT { 0 } else { read(conntrack.0 + u64::from(offset)).unwrap_or(0) }
}

/// Reads counters, timestamps and labels from the entry's extensions (`struct nf_ct_ext`).
///
/// # Safety
/// As for [`describe`].
#[inline(always)]
unsafe fn read_extensions(event: *mut Event, ext: u64) {
    // SAFETY: every write is to a field of the caller's event.
    unsafe {
        zero::<4>((&raw mut (*event).counters).cast());
        zero::<2>((&raw mut (*event).start_ns).cast());
        zero::<2>((&raw mut (*event).labels).cast());
        // The positions are the first bytes of the struct; 16 of them are there on every kernel.
        let Some(positions) = read::<[u8; 16]>(ext) else { return };
        let counters = position(&positions, layout!(ext_acct));
        if counters != 0 && read_into(&raw mut (*event).counters, ext + counters) {
            (*event).flags |= EventFlags::COUNTERS;
        }
        let times = position(&positions, layout!(ext_tstamp));
        if times != 0 {
            read_into((&raw mut (*event).start_ns).cast::<[u64; 2]>(), ext + times);
        }
        let labels = position(&positions, layout!(ext_labels));
        if labels != 0 {
            read_into(&raw mut (*event).labels, ext + labels);
        }
    }
}

/// Writes words of zero, one by one: for an array of bytes the compiler would call a loop.
///
/// # Safety
/// `place` has room for so many words.
#[inline(always)]
unsafe fn zero<const WORDS: usize>(place: *mut u64) {
    let mut i = 0;
    while i < WORDS {
        // SAFETY: the caller's promise.
        unsafe { place.add(i).write_volatile(0) };
        i += 1;
    }
}

/// Where an extension lies, 0 when the entry does not have it.
#[inline(always)]
fn position(positions: &[u8; 16], index: u32) -> u64 {
    if index >= 16 {
        return 0;
    }
    // SAFETY: the index was compared just now. An indexing expression would do the same and drag in a panic.
    u64::from(unsafe { *positions.get_unchecked(index as usize) })
}

/// Reads a value of the kernel.
#[inline(always)]
fn read<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    read_into(value.as_mut_ptr(), address).then(|| {
        // SAFETY: the helper filled it.
        unsafe { value.assume_init() }
    })
}

/// Reads a value of the kernel to where it belongs; false when it cannot be read (the place is then zeroed).
#[inline(always)]
fn read_into<T: Copy>(place: *mut T, address: u64) -> bool {
    // SAFETY: `place` has room for a `T`; the helper survives any address.
    unsafe { bpf_probe_read_kernel(place.cast(), size_of::<T>() as u32, address as *const c_void) == 0 }
}
