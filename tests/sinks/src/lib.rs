//! What every sink must do, tried with the agent's binary against real servers.
//!
//! A [`recording`] made for the test is replayed by the agent into a sink; a [`proxy`] between it and its server
//! misbehaves as ordered; what the server has stored in the end is compared with the recording's ledger.
//! Where an agent has to be killed while records are made, it follows [`live`] traffic instead.

pub mod proxy;

pub mod sum;

pub mod chance;

pub mod recording;

pub mod feed;

pub mod live;

pub mod agent;

pub mod subject;

pub mod scene;

pub mod case;

pub mod boards;
