//! End-to-end tests of conntally: real traffic in network namespaces, a ledger that does not come from conntrack,
//! and a comparison per flow, to the byte.
//!
//! Modules in the order in which to read them.

pub mod key;

pub mod sys;

pub mod netns;

pub mod isolation;

pub mod traffic;

pub mod packet;

pub mod reassembly;

pub mod ledger;

pub mod capture;

pub mod lab;

pub mod records;

pub mod compare;

pub mod conntrack;

pub mod audit;

pub mod agent;

pub mod scenario;

pub mod demo;

pub mod start;
