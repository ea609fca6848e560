//! What every sink must do, tried with the agent's binary against real servers.
//!
//! A [`recording`] made for the test is replayed by the agent into a sink; a [`proxy`] between it and its server
//! misbehaves as ordered; what the server has stored in the end is compared with the recording's ledger.

pub mod proxy;

pub mod sum;

pub mod recording;

pub mod feed;

pub mod agent;

pub mod subject;

pub mod scene;

pub mod case;

pub mod boards;
