//! Datagrams of netlink: any bytes are read or refused, as flows and as answers to requests.
#![no_main]

use conntally::{
    kernel::netlink::{
        conntrack::{self, MESSAGE_DELETE, MESSAGE_NEW},
        message::Messages,
    },
    model::ObservationKind,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    for message in Messages::new(datagram) {
        let Ok(message) = message else { continue };
        // Only whether it comes back counts.
        let _ = message.outcome().map_err(|refused| refused.to_string());
        // Nearly all random numbers would be messages of other kinds.
        for kind in [MESSAGE_NEW, MESSAGE_DELETE] {
            let message = conntally::kernel::netlink::message::Message { kind, ..message };
            if let Ok(flow) = conntrack::decode(&message) {
                let observation = flow.observation(ObservationKind::End, 1, 2);
                assert_eq!(observation.has_counters, flow.counters.is_some());
            }
        }
    }
});
