//! The tools that come as crates and are built here.

use anyhow::Result;

use crate::{
    command::{cargo, exists, output, program, run},
    paths::Paths,
};

/// A program that is built from its crate.
pub(crate) struct Tool {
    /// The crate, which is also the program.
    name: &'static str,
    /// The series that is known to work, as `major.minor`.
    series: &'static str,
    why: &'static str,
    /// More arguments of `cargo install`.
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

/// All of them.
pub(crate) const NEEDED: &[Tool] = &[
    Tool {
        name: "bpf-linker",
        series: "0.13",
        why: "links the kernel programs",
        arguments: &["--no-default-features", "--features", "llvm-22"],
        // The series goes with the LLVM of the packages.
        environment: &[("LLVM_PREFIX", "/usr/lib/llvm-22")],
    },
    Tool {
        name: "cargo-deny",
        series: "0.20",
        why: "checks the licences and sources of dependencies",
        arguments: &[],
        environment: &[],
    },
];

/// They run for seconds at a time: it is their build that takes long.
const PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
];

impl Tool {
    /// Builds it unless it is there.
    pub(crate) fn ensure(&self, paths: &Paths) -> Result<()> {
        let Self { name, series, why, .. } = self;
        if let Some(version) = self.version().filter(|version| in_series(version, series)) {
            println!("setup: {name} {version} is there");
            return Ok(());
        }
        println!("setup: building {name} {series}, which {why} (a few minutes)");
        run(cargo()
            // Outside the repository, whose cargo configuration is not meant for it.
            .current_dir(&paths.cache)
            .envs(PROFILE.iter().chain(self.environment).copied())
            .args(["install", "--quiet", "--locked", "--force", name, "--version", &format!("^{series}")])
            .args(self.arguments))
    }

    /// The version that is installed, if it runs.
    fn version(&self) -> Option<String> {
        if !exists(self.name) {
            return None;
        }
        let text = output(program(self.name).arg("--version")).ok()?;
        text.split_whitespace().nth(1).map(str::to_owned)
    }
}

fn in_series(version: &str, series: &str) -> bool {
    version.strip_prefix(series).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_its_own_point_releases_only() {
        assert!(in_series("0.13.0", "0.13"));
        assert!(!in_series("0.130.0", "0.13") && !in_series("0.12.9", "0.13") && !in_series("", "0.13"));
    }
}
