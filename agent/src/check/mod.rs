//! `conntally check`: facts about this machine become a verdict, an exit code, and the commands that mend it.
//!
//! In: what the kernel says about itself, and two probes that the caller has at hand. Out: lines for a person or
//! a program. [`gather`] alone looks at the machine; the verdict is a pure fold over [`facts::Facts`].

pub mod facts;

pub mod gather;

mod ruleset;

pub mod verdict;

mod judge;

pub mod flowtables;

pub mod render;

use std::io::{self, Write};

use facts::Facts;
use gather::Probes;
use verdict::{Settings, Verdict};

/// How the verdict is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    Text,
    /// For a program: one JSON object on one line, the facts included.
    Json,
}

/// Looks at the machine, judges it and tells the verdict. Returns the exit code
/// ([`verdict::Outcome::exit_code`]).
///
/// # Errors
/// When `out` cannot be written.
pub fn run(probes: &Probes<'_>, settings: Settings, format: Format, out: &mut impl Write) -> io::Result<u8> {
    let facts = gather::gather(probes);
    let verdict = Verdict::of(&facts, settings);
    write(&facts, &verdict, format, out)?;
    out.flush()?;
    Ok(verdict.outcome.exit_code())
}

fn write(facts: &Facts, verdict: &Verdict, format: Format, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Text => out.write_all(render::text(verdict).as_bytes()),
        Format::Json => writeln!(out, "{}", render::json(facts, verdict).map_err(io::Error::other)?),
    }
}

#[cfg(test)]
mod tests;
