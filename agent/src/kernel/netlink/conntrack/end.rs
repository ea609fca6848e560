//! Why a flow ended, as far as its destroy event tells.

use super::ConntrackMessage;
use crate::model::{EndReason, protocol};

/// Whether the protocol tracker's state says that the connection was being closed or is closed.
///
/// `enum tcp_conntrack` FIN_WAIT..CLOSE, `enum sctp_conntrack` CLOSED and SHUTDOWN_*, `enum ct_dccp_states`
/// CLOSEREQ..TIMEWAIT.
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nf_conntrack_tcp.h#L9>
#[must_use]
pub const fn is_closing(protocol: u8, state: u8) -> bool {
    match protocol {
        protocol::TCP => matches!(state, 4..=8),
        protocol::SCTP => matches!(state, 1 | 5..=7),
        protocol::DCCP => matches!(state, 5..=7),
        _ => false,
    }
}

/// The reason, from the strongest sign to the weakest: a request names its author, then the protocol's state, then
/// the time that was left. Since 5.9 the event carries the latter two, and no timeout when nothing was left.
/// <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_netlink.c#L559>
#[must_use]
pub fn end_reason(message: &ConntrackMessage) -> EndReason {
    if message.requested_by != 0 {
        return EndReason::Deleted;
    }
    if message.protocol_state.is_some_and(|state| is_closing(message.original.protocol, state)) {
        return EndReason::Closed;
    }
    match message.timeout {
        None | Some(0) => EndReason::Timeout,
        Some(_) => EndReason::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tuple;

    fn ended(protocol: u8, state: Option<u8>, timeout: Option<u32>, requested_by: u32) -> EndReason {
        end_reason(&ConntrackMessage {
            destroyed: true,
            requested_by,
            original: Tuple { protocol, ..Tuple::default() },
            timeout,
            protocol_state: state,
            ..ConntrackMessage::default()
        })
    }

    #[test]
    fn a_request_deletes_whatever_the_state() {
        assert_eq!(ended(protocol::TCP, Some(7), Some(100), 4711), EndReason::Deleted);
    }

    #[test]
    fn a_connection_that_was_closing_is_closed_also_when_its_wait_expired() {
        assert_eq!(ended(protocol::TCP, Some(7), None, 0), EndReason::Closed);
        assert_eq!(ended(protocol::TCP, Some(8), Some(9), 0), EndReason::Closed);
        assert_eq!(ended(protocol::SCTP, Some(7), None, 0), EndReason::Closed);
        assert_eq!(ended(protocol::DCCP, Some(7), None, 0), EndReason::Closed);
    }

    #[test]
    fn without_time_left_it_timed_out() {
        assert_eq!(ended(protocol::UDP, None, None, 0), EndReason::Timeout);
        assert_eq!(ended(protocol::TCP, Some(3), None, 0), EndReason::Timeout);
    }

    #[test]
    fn with_time_left_the_kernel_does_not_tell() {
        assert_eq!(ended(protocol::UDP, None, Some(12), 0), EndReason::Unknown);
    }
}
