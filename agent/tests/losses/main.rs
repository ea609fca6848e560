//! What is lost or cannot be known, forced on an agent that runs as a process: its audit and its account name the reason
//! and the amount, or say that the amount is unknown. What only kernel programs can lose is forced in guests (`tests`).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod delivered;
#[path = "../http/mod.rs"]
mod http;
mod live;
#[path = "../sights/ports.rs"]
mod ports_of_flows;
mod reasons;
mod replayed;
#[path = "../replaying/mod.rs"]
mod replaying;
#[path = "../script/mod.rs"]
mod script;
#[path = "../sights/mod.rs"]
mod sights;
