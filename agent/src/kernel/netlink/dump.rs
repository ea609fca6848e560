//! A dump of all flows of a namespace, read in pieces so that events can be read between them.

use std::io;

use super::{
    attribute::Malformed,
    conntrack::{self, ConntrackMessage, MESSAGE_NEW},
    message::Messages,
    socket::NetfilterSocket,
};
use crate::kernel::limits;

/// How far a dump has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpProgress {
    /// There is more.
    More,
    /// Every flow was delivered.
    Complete,
    /// It has ended, but flows may be missing: what could not be read, or what the kernel moved meanwhile to a table of
    /// another size. Dump again.
    Interrupted,
}

/// A dump under way. The socket must not be used for anything else until it has ended.
#[derive(Debug)]
pub struct Dump {
    sequence: u32,
    /// Of how many buckets the table was when it began.
    buckets: Option<u32>,
    interrupted: bool,
}

impl Dump {
    /// Asks for all flows. `sequence` tells its answers from those of an earlier, abandoned dump.
    ///
    /// # Errors
    /// When the kernel refuses the request.
    pub fn start(socket: &NetfilterSocket, sequence: u32) -> io::Result<Self> {
        let buckets = limits::buckets();
        socket.send(&conntrack::dump(sequence))?;
        Ok(Self { sequence, buckets, interrupted: false })
    }

    /// Reads the next datagram and hands its flows to `each`, malformed ones as errors.
    ///
    /// # Errors
    /// When the kernel ends the dump with an error.
    pub fn next(
        &mut self,
        socket: &NetfilterSocket,
        buffer: &mut [u8],
        mut each: impl FnMut(Result<ConntrackMessage, Malformed>),
    ) -> io::Result<DumpProgress> {
        let messages = Messages::new(socket.receive(buffer)?);
        // The kernel goes through the buckets by number, and does not say so itself.
        self.interrupted |= limits::buckets() != self.buckets;
        for message in messages {
            let message = match message {
                Ok(message) if message.sequence == self.sequence => message,
                Ok(_) => continue,
                Err(malformed) => {
                    each(Err(malformed));
                    // What follows in this datagram is lost, so absence from this dump proves nothing.
                    self.interrupted = true;
                    continue;
                }
            };
            self.interrupted |= message.is_interrupted();
            match i32::from(message.kind) {
                libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                    message.outcome()?;
                    return Ok(self.end());
                }
                kind if kind == i32::from(MESSAGE_NEW) => {
                    let flow = conntrack::decode(&message);
                    self.interrupted |= flow.is_err();
                    each(flow);
                }
                _ => {}
            }
        }
        Ok(DumpProgress::More)
    }

    const fn end(&self) -> DumpProgress {
        if self.interrupted { DumpProgress::Interrupted } else { DumpProgress::Complete }
    }
}
