//! The sinks that have no server: `stdout`, `stderr` and `null`.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;

use super::{Subject, Target};
use crate::agent::Ended;
use crate::sum::{Counter, Sum};

/// JSON lines on a standard stream, which the case reads itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stdio {
    /// Standard output.
    Stdout,
    /// Standard error, among lines of the log.
    Stderr,
}

/// Nowhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Null;

impl Subject for Stdio {
    fn name(&self) -> &'static str {
        self.sink()
    }

    fn sink(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn servers(&self) -> &'static [&'static str] {
        &[]
    }

    fn word(&self) -> &'static str {
        ""
    }

    fn prepare(&self, _: &Target<'_>) -> Result<()> {
        Ok(())
    }

    fn configuration(&self, _: &Target<'_>, _: &str, _: Option<&Path>) -> String {
        "format = \"json\"\n".to_owned()
    }

    fn stored(&self, _: &Target<'_>) -> Result<Option<Sum>> {
        Ok(None)
    }

    /// The sum of the last record of each flow.
    fn printed(&self, ended: &Ended) -> Option<Sum> {
        let lines: Vec<_> = match self {
            Self::Stdout => ended.output.lines().collect(),
            Self::Stderr => ended.log.lines().filter(|line| line.starts_with('{')).collect(),
        };
        let mut sum = Sum::default();
        for line in lines {
            let record: Value = serde_json::from_str(line).ok()?;
            if record.pointer("/flow/final").and_then(Value::as_bool) == Some(true) {
                let number = |at: &str| record.pointer(at).and_then(Value::as_u64).unwrap_or(0);
                let side =
                    |packets: &str, bytes: &str| Counter { packets: number(packets), bytes: number(bytes) };
                sum += Sum {
                    flows: 1,
                    source: side("/source/packets", "/source/bytes"),
                    destination: side("/destination/packets", "/destination/bytes"),
                };
            }
        }
        Some(sum)
    }

    fn poison(&self, _: &Target<'_>) -> Result<()> {
        bail!("a terminal refuses nothing")
    }
}

impl Subject for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn sink(&self) -> &'static str {
        "null"
    }

    fn configuration(&self, _: &Target<'_>, _: &str, _: Option<&Path>) -> String {
        String::new()
    }

    fn servers(&self) -> &'static [&'static str] {
        Stdio::Stdout.servers()
    }

    fn word(&self) -> &'static str {
        ""
    }

    fn prepare(&self, _: &Target<'_>) -> Result<()> {
        Ok(())
    }

    fn stored(&self, target: &Target<'_>) -> Result<Option<Sum>> {
        Stdio::Stdout.stored(target)
    }

    fn poison(&self, target: &Target<'_>) -> Result<()> {
        Stdio::Stdout.poison(target)
    }
}
