//! Reads a conntrack entry (`struct nf_conn`) by the offsets of the running kernel.

use core::{arch::asm, ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use conntally_common::{ABSENT, Event, KernelTuple};

use crate::maps::{HEAD_BYTES, TAIL_OFFSET, constant, layout};

/// `IPS_CONFIRMED`
const CONFIRMED: u32 = 1 << 3;
/// `IPS_DYING`
const DYING: u32 = 1 << 9;
/// The low bits of `sk_buff._nfct` say how the packet relates to the entry.
const NFCT_POINTER: u64 = !7;
/// Bytes of a `struct hlist_nulls_node`, which lies before each of an entry's tuples.
const NODE_BYTES: u32 = 16;
/// Where the head begins to be of use: before it lies the reference count, on every kernel.
const FIRST: u32 = 8;
/// Bytes of a tuple.
const TUPLE_BYTES: u32 = size_of::<KernelTuple>() as u32;
/// Where a tuple has its direction, its address family and its protocol.
const DIRECTION: u32 = core::mem::offset_of!(KernelTuple, direction) as u32;
const FAMILY: u32 = core::mem::offset_of!(KernelTuple, family) as u32;
const PROTOCOL: u32 = core::mem::offset_of!(KernelTuple, protocol) as u32;
/// Bytes of an entry's head that fit on the stack; user space refuses a kernel that needs more.
const HEAD_MAX: usize = 256;

/// `AF_INET`
pub const INET: u16 = 2;
/// `AF_INET6`
const INET6: u16 = 10;

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

    /// The entry whose node of the original direction is at an address.
    #[inline(always)]
    pub fn of_node(node: u64) -> Self {
        Self(node - u64::from(layout!(tuple_original) - NODE_BYTES))
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
        self.copy_part(conntrack, FIRST, constant(&HEAD_BYTES) - FIRST)
    }

    /// Copies what changes while the entry lives: status, mark, extensions.
    #[inline(always)]
    pub fn copy_tail(&mut self, conntrack: Conntrack) -> bool {
        let tail = constant(&TAIL_OFFSET);
        self.copy_part(conntrack, tail, constant(&HEAD_BYTES) - tail)
    }

    /// Copies the status alone.
    #[inline(always)]
    pub fn copy_status(&mut self, conntrack: Conntrack) -> bool {
        self.copy_part(conntrack, layout!(status), 4)
    }

    /// Copies what lies before the tail, and the status after it.
    #[inline(always)]
    pub fn copy_front(&mut self, conntrack: Conntrack) -> bool {
        self.copy_part(conntrack, FIRST, layout!(status) + 4 - FIRST)
    }

    /// Copies all up to the end of the first tuple, with the node before it.
    #[inline(always)]
    pub fn copy_node(&mut self, conntrack: Conntrack) -> bool {
        self.copy_part(conntrack, FIRST, layout!(tuple_original) + TUPLE_BYTES - FIRST)
    }

    /// Copies what lies behind the first tuple.
    #[inline(always)]
    pub fn copy_behind_node(&mut self, conntrack: Conntrack) -> bool {
        let node = layout!(tuple_original) + TUPLE_BYTES;
        self.copy_part(conntrack, node, constant(&HEAD_BYTES) - node)
    }

    /// Each byte costs an instruction, so no more than what is needed is copied.
    #[inline(always)]
    fn copy_part(&mut self, conntrack: Conntrack, offset: u32, bytes: u32) -> bool {
        // SAFETY: user space never sets more than `HEAD_MAX` bytes, and the verifier checks it.
        unsafe {
            bpf_probe_read_kernel(
                self.0.as_mut_ptr().cast::<u8>().add(offset as usize).cast(),
                bytes,
                (conntrack.0 + u64::from(offset)) as *const c_void,
            ) == 0
        }
    }

    /// The field at an offset below [`HEAD_BYTES`].
    #[inline(always)]
    fn field<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: the copied head is initialised up to [`HEAD_BYTES`], which covers every offset of the layout;
        // the verifier checks that too.
        unsafe { self.at::<T>(offset).read() }
    }

    /// Where the field at an offset below [`HEAD_BYTES`] is.
    #[inline(always)]
    fn at<T>(&self, offset: u32) -> *const T {
        // SAFETY: the head has that many bytes.
        unsafe { self.0.as_ptr().cast::<u8>().add(offset as usize).cast() }
    }

    /// `enum ip_conntrack_status`
    #[inline(always)]
    pub fn status(&self) -> u32 {
        self.field::<u32>(layout!(status))
    }

    /// Connection mark, 0 where the kernel has none.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        let offset = layout!(mark);
        if offset == ABSENT { 0 } else { self.field(offset) }
    }

    /// Address of the extensions (`struct nf_ct_ext`).
    #[inline(always)]
    pub fn ext(&self) -> u64 {
        self.field(layout!(ext))
    }

    /// Address of the network namespace (`struct net`).
    #[inline(always)]
    pub fn net(&self) -> u64 {
        self.field(layout!(net))
    }

    /// Whether the entry, met at its node of the original direction, was that of the original direction.
    #[inline(always)]
    pub fn is_original(&self) -> bool {
        self.field::<u8>(layout!(tuple_original) + DIRECTION) == 0
    }

    /// Whether this can be an entry at all. Memory that the kernel has put to another use does not have two tuples of
    /// one family and protocol, one for each direction, in an existing namespace.
    #[inline(always)]
    pub fn is_entry(&self) -> bool {
        let (original, reply) = (layout!(tuple_original), layout!(tuple_reply));
        let family = self.field::<u16>(original + FAMILY);
        let is_pair = self.is_original()
            && self.field::<u8>(reply + DIRECTION) == 1
            && self.field::<u16>(reply + FAMILY) == family
            && self.field::<u8>(reply + PROTOCOL) == self.field::<u8>(original + PROTOCOL);
        is_pair && (family == INET || family == INET6) && self.netns() != 0
    }

    /// Whether this is the entry's tuple of the original direction.
    ///
    /// # Safety
    /// `tuple` points to one that is initialised, 8-byte aligned as in [`Event`].
    #[inline(always)]
    pub unsafe fn is_of(&self, tuple: *const KernelTuple) -> bool {
        let (words, from) = (tuple.cast::<u64>(), self.at::<u64>(layout!(tuple_original)));
        let mut i = 0;
        while i < 5 {
            // SAFETY: a tuple is five words, and so many lie at its offset in the head.
            if unsafe { words.add(i).read() != from.add(i).read() } {
                return false;
            }
            i += 1;
        }
        true
    }

    /// The entry after this one in its bucket, as its node of the original direction says.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.field(layout!(tuple_original) - NODE_BYTES)
    }

    /// Whether the entry is, or was until its end began, in the kernel's table.
    #[inline(always)]
    pub fn is_confirmed(&self) -> bool {
        self.status() & CONFIRMED != 0
    }

    /// Whether the entry is in the table and stays there.
    #[inline(always)]
    pub fn is_live(&self) -> bool {
        is_live(self.status())
    }

    /// Whether the entry is not in the table yet, as far as nobody has given it up.
    #[inline(always)]
    pub fn is_on_its_way(&self) -> bool {
        self.status() & (CONFIRMED | DYING) == 0
    }

    /// Whether the entry's network namespace is being removed.
    #[inline(always)]
    pub fn netns_is_gone(&self) -> bool {
        layout!(net_references) != ABSENT
            && read::<u32>(self.net() + u64::from(layout!(net_references))) == Some(0)
    }

    /// Inode of the entry's network namespace, 0 if it cannot be read.
    #[inline(always)]
    pub fn netns(&self) -> u32 {
        read(self.net() + u64::from(layout!(net_inum))).unwrap_or(0)
    }
}

/// Whether an entry of this status is in the table and stays there.
#[inline(always)]
pub fn is_live(status: u32) -> bool {
    status & (CONFIRMED | DYING) == CONFIRMED
}

/// Fills in all that the entry's head says; its extensions are apart, see [`crate::extensions`].
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
        let zone = layout!(zone);
        (*event).zone = if zone == ABSENT { 0 } else { head.field(zone) };
        (*event).mark = head.mark();
        copy_tuple(&raw mut (*event).tuples[0], head, layout!(tuple_original));
        copy_tuple(&raw mut (*event).tuples[1], head, layout!(tuple_reply));
        let state = protocol_state(conntrack, (*event).tuples[0].protocol);
        // The state and the padding behind it, as the one word that they are: for an array of bytes the compiler would call a loop.
        (&raw mut (*event).protocol_state).cast::<u64>().write(u64::from(state));
    }
}

/// Copies a tuple as five words.
///
/// # Safety
/// `tuple` points to memory for a tuple, 8-byte aligned as in [`Event`].
#[inline(always)]
unsafe fn copy_tuple(tuple: *mut KernelTuple, head: &Head, offset: u32) {
    let (words, from) = (tuple.cast::<u64>(), head.at::<u64>(offset));
    let mut i = 0;
    while i < 5 {
        // SAFETY: a tuple is five words, and so many lie at its offset in the head.
        unsafe { words.add(i).write(from.add(i).read()) };
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

/// Reads a value of the kernel.
#[inline(always)]
pub fn read<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    read_into(value.as_mut_ptr(), address).then(|| {
        // SAFETY: the helper filled it.
        unsafe { value.assume_init() }
    })
}

/// Reads a value of the kernel to where it belongs; false when it cannot be read (the place is then zeroed).
#[inline(always)]
pub fn read_into<T: Copy>(place: *mut T, address: u64) -> bool {
    // SAFETY: `place` has room for a `T`; the helper survives any address.
    unsafe { bpf_probe_read_kernel(place.cast(), size_of::<T>() as u32, address as *const c_void) == 0 }
}
