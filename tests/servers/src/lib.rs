//! Real servers for tests: built once from registry packages, kept in the cache, started on loopback.
//!
//! [`Kind`] is what can be had, [`Cache`] builds it, [`Server`] runs one, [`state`] remembers those that were left
//! running. Versions are pinned; a download that fails is an error, never a skip.

mod http;

mod shell;

mod workshop;

mod go;

mod jdk;

mod maven;

mod ports;

mod kind;

mod influxdb;

mod elasticsearch;

mod embedded;

mod telegraf;

mod cache;

mod server;

pub mod state;

pub use cache::Cache;
pub use http::{Answer, Request};
pub use kind::{ALL, Access, Kind, Place, find};
pub use ports::free_ports;
pub use server::Server;
pub use workshop::Workshop;
