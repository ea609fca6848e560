//! Tells why a flow ended, from the state in which its entry was destroyed.

use conntally_common::{Event, EventFlags};

use crate::{
    kernel::netlink::conntrack::is_closing,
    model::{EndReason, Status, protocol},
};

/// The reason, or [`EndReason::Unknown`] when the kernel leaves several open.
#[inline(never)]
pub(super) fn of(event: &Event) -> EndReason {
    let has = |flag| event.flags & flag != 0;
    let status = Status(event.status);
    if has(EventFlags::DELETED_BY_NETLINK) {
        return EndReason::Deleted;
    }
    let closing = is_closing(event.tuples[0].protocol, event.protocol_state);
    match (is_expired(event), closing) {
        (true, true) => return EndReason::Closed,
        (true, false) => return EndReason::Timeout,
        (false, _) => {}
    }
    if has(EventFlags::NETNS_GONE) {
        return EndReason::Deleted;
    }
    if was_refused(event, status) {
        return EndReason::Closed;
    }
    // The kernel removes a live entry by itself only when its tuple is opened again or when the table is full;
    // an assured one is spared then.
    match (closing, status.has(Status::ASSURED), has(EventFlags::DELETED_BY_KERNEL)) {
        (true, _, true) => EndReason::Replaced,
        (false, false, true) => EndReason::Evicted,
        (_, true, _) => EndReason::Deleted,
        (_, false, _) => EndReason::Unknown,
    }
}

/// Jiffies wrap around: later means less than half the range ahead.
const fn is_expired(event: &Event) -> bool {
    event.timeout.wrapping_sub(event.jiffies).cast_signed() <= 0
}

/// A reset as the only answer: the kernel counts it and removes the entry before it notes that a reply was seen.
///
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_proto_tcp.c#L1243>
const fn was_refused(event: &Event, status: Status) -> bool {
    event.tuples[0].protocol == protocol::TCP
        && !status.has(Status::SEEN_REPLY)
        && event.counters[1].packets > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::bpf::decode::tests::event;

    fn tcp(state: u8, left: i32, status: u32, flags: u8) -> Event {
        let mut event = event();
        event.tuples[0].protocol = protocol::TCP;
        event.protocol_state = state;
        event.jiffies = 3;
        event.timeout = event.jiffies.wrapping_add_signed(left);
        event.status = status;
        event.flags = flags;
        event
    }

    const KERNEL: u8 = EventFlags::DELETED_BY_KERNEL;

    #[test]
    fn what_expired_while_closing_was_closed_and_the_rest_timed_out() {
        assert_eq!(of(&tcp(7, 0, Status::ASSURED, KERNEL)), EndReason::Closed);
        assert_eq!(of(&tcp(3, -9, Status::ASSURED, KERNEL)), EndReason::Timeout);
        assert_eq!(of(&tcp(3, -9, Status::ASSURED, 0)), EndReason::Timeout);
    }

    #[test]
    fn what_netlink_or_the_end_of_a_namespace_removed_was_deleted() {
        assert_eq!(of(&tcp(3, 100, 0, EventFlags::DELETED_BY_NETLINK)), EndReason::Deleted);
        assert_eq!(of(&tcp(3, 100, 0, KERNEL | EventFlags::NETNS_GONE)), EndReason::Deleted);
    }

    #[test]
    fn what_the_kernel_removed_early_was_replaced_or_evicted() {
        assert_eq!(of(&tcp(7, 100, Status::ASSURED, KERNEL)), EndReason::Replaced);
        assert_eq!(of(&tcp(1, 100, 0, KERNEL)), EndReason::Evicted);
    }

    #[test]
    fn a_refused_connection_was_closed() {
        let mut event = tcp(1, 100, 0, KERNEL);
        event.counters[1].packets = 1;
        assert_eq!(of(&event), EndReason::Closed);
    }

    #[test]
    fn without_the_hook_on_deletion_an_unassured_flow_leaves_the_reason_open() {
        assert_eq!(of(&tcp(1, 100, 0, 0)), EndReason::Unknown);
    }
}
