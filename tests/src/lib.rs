//! End-to-end tests of conntally: real traffic in network namespaces, a ledger that does not come from conntrack,
//! and a comparison per flow, to the byte.

pub mod capture;
pub mod compare;
pub mod conntrack;
pub mod key;
pub mod ledger;
pub mod netns;
pub mod packet;
pub mod records;
pub mod sys;
