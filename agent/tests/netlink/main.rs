//! The netlink parts against the running kernel. They need root for namespaces and say so when they are skipped.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod namespace;

mod tracking;

mod source;
