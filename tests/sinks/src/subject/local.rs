//! The sinks that have no server: `stdout` and `null`.

use std::path::Path;

use anyhow::{Result, bail};

use super::{Subject, Target};
use crate::sum::Sum;

/// JSON lines on standard output, which the case reads itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stdout;

/// Nowhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Null;

impl Subject for Stdout {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn sink(&self) -> &'static str {
        "stdout"
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

    fn stored(&self, _: &Target<'_>) -> Result<Sum> {
        bail!("a terminal stores nothing")
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
        Stdout.servers()
    }

    fn word(&self) -> &'static str {
        ""
    }

    fn prepare(&self, _: &Target<'_>) -> Result<()> {
        Ok(())
    }

    fn stored(&self, target: &Target<'_>) -> Result<Sum> {
        Stdout.stored(target)
    }

    fn poison(&self, target: &Target<'_>) -> Result<()> {
        Stdout.poison(target)
    }
}
