//! End-to-end tests of conntally.
