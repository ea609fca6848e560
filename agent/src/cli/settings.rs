//! The configuration as the commands get it, and `config validate`.

use super::args::Cli;
use super::logging;
use crate::config::{
    Config, LoadError, Loaded, LogFormat, OutputConfig, OutputFormat, Request, SinkKind, Stream, load,
};
use anyhow::{Context as _, bail};
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
    logging::start(&config.log).context("cannot start the thread that writes the log")?;
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
    if let Some(mixture) = mixture(&config) {
        tracing::warn!("{mixture}");
    }
    Ok(config)
}

/// What to know of a sink that writes where the log goes, unless a program can tell the lines of both apart.
fn mixture(config: &Config) -> Option<String> {
    let (name, format) = config.sinks.iter().find_map(|sink| match sink.kind {
        SinkKind::Stdio(Stream::Stderr, format) => Some((&sink.name, format)),
        _ => None,
    })?;
    let can_be_told = match format {
        OutputFormat::Json | OutputFormat::Auto => config.log.format == LogFormat::Json,
        OutputFormat::Null => true,
        OutputFormat::Table | OutputFormat::Logfmt | OutputFormat::LineProtocol => false,
    };
    (!can_be_told).then(|| {
        format!(
            "sinks.{name} writes to standard error, between the lines of the log; to tell them apart set its format and \
             log.format to \"json\" (only lines of the log have a \"level\"), or write to standard output instead"
        )
    })
}

/// `conntally config validate [FILE]`
pub(super) fn check_file(cli: &Cli, file: &Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let mut request = request(cli);
    request.file = file.clone().or(request.file);
    request.outside_service = true;
    match load(&request) {
        Ok(loaded) => {
            warn_of(&loaded.unknown_variables);
            if let Some(mixture) = mixture(&loaded.config) {
                // As with unknown variables.
                let _ = writeln!(io::stderr(), "warning: {mixture}");
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, validate};
    use std::path::Path;

    #[test]
    fn records_among_lines_of_the_log_are_warned_of_unless_both_are_json() {
        let said = |text: &str| {
            let document = Document::parse(text, Path::new("conntally.toml")).unwrap();
            mixture(&validate(&document).unwrap())
        };
        let sink = |format: &str| format!("[sinks.err]\ntype = \"stderr\"\nformat = \"{format}\"\n");
        let is_told = ["auto", "table", "json", "logfmt", "line_protocol", "null"].map(|format| {
            let json = format!("{}[log]\nformat = \"json\"\n", sink(format));
            (said(&sink(format)).is_some(), said(&json).is_some())
        });
        let (never, always, if_text) = ((false, false), (true, true), (true, false));
        assert_eq!(is_told, [if_text, always, if_text, always, always, never]);
        assert!(said(&sink("json")).unwrap().starts_with("sinks.err writes to standard error"));
        assert_eq!(said("[sinks.out]\ntype = \"stdout\"\n"), None);
    }
}
