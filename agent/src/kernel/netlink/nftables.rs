//! nf_tables requests (`nf_tables.h`): just enough for a table whose one rule looks at conntrack.
//!
//! <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nf_tables.h>

use std::ops::RangeInclusive;

use super::message::{Header, Writer};

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`: what stands between happens as a whole or not at all.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u16 = 10;

const NEWTABLE: u16 = SUBSYSTEM << 8;
const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEWRULE: u16 = SUBSYSTEM << 8 | 6;

/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;

/// `NFT_TABLE_F_OWNER` (since 5.12): the table goes with the socket that made it, and only that may change it.
pub const TABLE_OWNER: u32 = 2;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const CT_REGISTER: u16 = 1;
const CT_KEY: u16 = 2;

/// `NFT_REG_1`
const REGISTER_1: u32 = 1;
/// `NFT_CT_STATE`
const CT_STATE: u32 = 0;

/// libnftnl's `NFTNL_UDATA_RULE_COMMENT`, which `nft list` shows.
const COMMENT: u8 = 0;

/// Several requests that happen together.
#[derive(Debug)]
pub struct Batch {
    writer: Writer,
    first: u32,
    sequence: u32,
}

impl Batch {
    /// Begins a batch whose requests bear sequence numbers from `first` on.
    #[must_use]
    pub fn begin(first: u32) -> Self {
        let mut batch = Self { writer: Writer::default(), first, sequence: first };
        batch.boundary(BATCH_BEGIN);
        batch
    }

    /// Makes a table that must not exist yet. Returns the request's sequence number, as the other requests do.
    pub fn new_table(&mut self, name: &str, flags: u32) -> u32 {
        self.request(NEWTABLE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, |w| {
            w.string(TABLE_NAME, name);
            w.u32(TABLE_FLAGS, flags);
        })
    }

    /// Removes a table and all that is in it.
    pub fn delete_table(&mut self, name: &str) -> u32 {
        self.request(DELTABLE, libc::NLM_F_ACK, |w| w.string(TABLE_NAME, name))
    }

    /// Makes a chain that hangs on no hook: no packet comes by.
    pub fn new_chain(&mut self, table: &str, name: &str) -> u32 {
        self.request(NEWCHAIN, libc::NLM_F_CREATE, |w| {
            w.string(CHAIN_TABLE, table);
            w.string(CHAIN_NAME, name);
        })
    }

    /// Adds the rule `ct state`, with a comment.
    pub fn new_conntrack_rule(&mut self, table: &str, chain: &str, comment: &str) -> u32 {
        self.request(NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND | libc::NLM_F_ACK, |w| {
            w.string(RULE_TABLE, table);
            w.string(RULE_CHAIN, chain);
            w.nested(RULE_EXPRESSIONS, |w| {
                w.nested(LIST_ELEMENT, |w| {
                    w.string(EXPRESSION_NAME, "ct");
                    w.nested(EXPRESSION_DATA, |w| {
                        w.u32(CT_REGISTER, REGISTER_1);
                        w.u32(CT_KEY, CT_STATE);
                    });
                });
            });
            w.attribute(RULE_USERDATA, &user_data(comment));
        })
    }

    /// Ends the batch: its bytes, and the sequence numbers of what may be refused in it. The last one is that of
    /// the last request, which must bear `NLM_F_ACK`.
    #[must_use]
    pub fn end(mut self) -> (Vec<u8>, RangeInclusive<u32>) {
        let last = self.sequence;
        self.boundary(BATCH_END);
        (self.writer.into_bytes(), self.first..=last)
    }

    fn boundary(&mut self, kind: u16) {
        let header = Header { kind, flags: 0, sequence: self.sequence, family: 0, resource: SUBSYSTEM };
        self.writer.message(header, |_| ());
    }

    fn request(&mut self, kind: u16, flags: i32, body: impl FnOnce(&mut Writer)) -> u32 {
        self.sequence += 1;
        let header = Header { kind, flags: flags as u16, sequence: self.sequence, family: INET, resource: 0 };
        self.writer.message(header, body);
        self.sequence
    }
}

/// A comment as libnftnl stores it: type, length, text with its terminating zero.
fn user_data(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let text = comment.bytes().take(usize::from(length) - 1);
    [COMMENT, length].into_iter().chain(text).chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::message::Messages;

    #[test]
    fn a_batch_is_framed_and_numbered() {
        let mut batch = Batch::begin(40);
        assert_eq!(batch.new_table("t", TABLE_OWNER), 41);
        assert_eq!(batch.new_chain("t", "c"), 42);
        assert_eq!(batch.new_conntrack_rule("t", "c", "why"), 43);
        let (bytes, sequences) = batch.end();
        assert_eq!(sequences, 40..=43);
        let kinds: Vec<_> = Messages::new(&bytes).map(|m| m.unwrap().kind).collect();
        assert_eq!(kinds, [BATCH_BEGIN, NEWTABLE, NEWCHAIN, NEWRULE, BATCH_END]);
    }

    #[test]
    fn a_comment_of_any_length_keeps_its_length_true() {
        for length in [0, 5, 254, 255, 1000] {
            let data = user_data(&"x".repeat(length));
            assert_eq!(data.len(), 2 + usize::from(data[1]));
            assert_eq!(data.last(), Some(&0));
        }
    }
}
