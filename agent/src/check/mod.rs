//! `conntally check`: facts about this machine become a verdict, an exit code, and the commands that mend it.
//!
//! In: what the kernel says about itself, and two probes that the caller has at hand. Out: lines for a person or
//! a program. [`gather`] alone looks at the machine; the verdict is a pure fold over [`facts::Facts`].

pub mod facts;

pub mod gather;

mod ruleset;

pub mod verdict;

mod judge;

pub mod render;

#[cfg(test)]
mod tests;
