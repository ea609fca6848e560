//! What can be asked of conntrack in the socket's own namespace.

use std::io;

use super::{MESSAGE_DELETE, SUBSYSTEM};
use crate::kernel::netlink::{
    attribute::Malformed,
    message::{Header, Messages, Writer},
    socket::{DATAGRAM, NetfilterSocket, malformed},
};

/// `IPCTNL_MSG_CT_GET`
const GET: u16 = SUBSYSTEM | 1;
/// `IPCTNL_MSG_CT_GET_STATS`
const GET_STATS: u16 = SUBSYSTEM | 5;
/// `CTA_STATS_GLOBAL_ENTRIES`
const GLOBAL_ENTRIES: u16 = 1;

fn request(kind: u16, flags: i32, sequence: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    let header = Header { kind, flags: flags as u16, sequence, family: libc::AF_UNSPEC as u8, resource: 0 };
    writer.message(header, |_| ());
    writer.into_bytes()
}

/// The request for every flow of both address families, counters included and left as they are.
#[must_use]
pub fn dump(sequence: u32) -> Vec<u8> {
    request(GET, libc::NLM_F_DUMP, sequence)
}

/// Deletes every flow of the socket's namespace.
///
/// # Errors
/// When the kernel refuses (CAP_NET_ADMIN is needed).
pub fn flush(socket: &NetfilterSocket) -> io::Result<()> {
    let request = request(MESSAGE_DELETE, libc::NLM_F_ACK, 1);
    socket.acknowledged(&request, 1..=1).map_err(|refused| refused.cause)
}

/// How many entries the socket's namespace has. Far cheaper than a dump, which walks the table of all namespaces.
///
/// # Errors
/// When the kernel refuses, or answers without the figure.
pub fn entries(socket: &NetfilterSocket, sequence: u32) -> io::Result<u32> {
    socket.send(&request(GET_STATS, 0, sequence))?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        for message in Messages::new(socket.receive(&mut buffer)?) {
            let message = message.map_err(malformed)?;
            if message.sequence != sequence {
                continue;
            }
            if message.kind == libc::NLMSG_ERROR as u16 {
                message.outcome()?;
                continue;
            }
            let place = "CTA_STATS_GLOBAL_ENTRIES";
            let mut attributes = message.netfilter_attributes(place).map_err(malformed)?.flatten();
            let count = attributes.find(|a| a.kind == GLOBAL_ENTRIES).ok_or(Malformed::Missing { place });
            return count.and_then(|a| a.u32(place)).map_err(malformed);
        }
    }
}
