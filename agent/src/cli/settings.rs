//! The configuration as the commands get it, and `config validate`.

use super::args::Cli;
use super::logging;
use crate::config::{Config, LoadError, Loaded, OutputConfig, Request, load};
use anyhow::bail;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Loads the configuration that the command line asks for.
fn get(cli: &Cli) -> anyhow::Result<Loaded> {
    match load(&request(cli)) {
        Ok(loaded) => Ok(loaded),
        Err(LoadError::Invalid(problems)) => {
            let count = problems.0.len();
            bail!("{} in the configuration, nothing was started:\n{problems}", plural(count, "problem"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Loads the configuration, starts logging as it says, and tells where it comes from.
pub(super) fn start(cli: &Cli) -> anyhow::Result<Config> {
    let Loaded { config, file, unknown_variables } = get(cli)?;
    logging::start(&config.log);
    match file {
        Some(file) => tracing::info!("configuration: {}", file.display()),
        None => tracing::debug!("no configuration file; the defaults"),
    }
    for name in unknown_variables {
        tracing::warn!("environment variable {name} names no configuration key; ignored");
    }
    if !config.sinks.is_empty() && config.output != OutputConfig::default() {
        tracing::warn!(
            "[output] and --output mean nothing where there are [sinks]; one of type \"stdout\" writes to standard output"
        );
    }
    Ok(config)
}

/// `conntally config validate [FILE]`
pub(super) fn check_file(cli: &Cli, file: &Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let mut request = request(cli);
    request.file = file.clone().or(request.file);
    request.outside_service = true;
    match load(&request) {
        Ok(loaded) => {
            warn_of(&loaded.unknown_variables);
            let name =
                loaded.file.map_or("no configuration file; the defaults".into(), |f| f.display().to_string());
            super::print(format!("{name}: valid\n").as_bytes())
        }
        Err(LoadError::Invalid(problems)) => {
            let count = problems.0.len();
            writeln!(io::stderr(), "{problems}\n{}", plural(count, "problem"))?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}

fn warn_of(unknown_variables: &[String]) {
    for name in unknown_variables {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(
            io::stderr(),
            "warning: environment variable {name} names no configuration key; ignored"
        );
    }
}

fn request(cli: &Cli) -> Request {
    Request {
        file: cli.common.config.clone(),
        environment: std::env::vars_os().collect(),
        overrides: cli.overrides(),
        outside_service: false,
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
