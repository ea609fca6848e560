//! What may be typed.

use super::manual;
use crate::config::Override;
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

const SOURCES: [&str; 3] = ["auto", "bpf", "netlink"];
const HOOKS: [&str; 3] = ["auto", "fentry", "kprobe"];
const UPDATES: [&str; 2] = ["packet", "sweep"];
const OUTPUTS: [&str; 6] = ["auto", "table", "json", "logfmt", "line_protocol", "null"];
const LOG_FORMATS: [&str; 2] = ["text", "json"];

/// Exact flow accounting from the kernel's connection tracking.
///
/// Without a command it runs the agent: every connection that the kernel tracks becomes records on standard
/// output, a table on a terminal and JSON lines in a pipe. Logs go to standard error. Needs root, or what
/// `conntally check` tells.
#[derive(Debug, Parser)]
#[command(name = "conntally", version, after_help = manual::help(), max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,

    #[command(flatten)]
    pub(super) common: CommonArgs,

    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// Read this configuration file instead of searching for one
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Log more: -v debug, -vv trace
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(super) verbose: u8,

    /// Log less: -q warnings and errors, -qq errors
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) quiet: u8,

    /// What log lines on standard error look like
    #[arg(long, global = true, value_name = "FORMAT", value_parser = PossibleValuesParser::new(LOG_FORMATS))]
    pub(super) log_format: Option<String>,
}

/// Flags of `run`, each a shorthand for a configuration key.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) source: SourceArgs,

    #[command(flatten)]
    pub(super) output: OutputArgs,

    /// Keep flows and unwritten records here, so that a restart bills no byte twice and skips none
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Flags that choose where observations come from.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct SourceArgs {
    /// Where observations come from: kernel programs, or conntrack's netlink interface
    #[arg(long, value_name = "SOURCE", value_parser = PossibleValuesParser::new(SOURCES))]
    source: Option<String>,

    /// How the kernel programs are attached
    #[arg(long, value_name = "HOOK", value_parser = PossibleValuesParser::new(HOOKS))]
    hook: Option<String>,

    /// What updates come by: a hook on each packet, or looks at flows that are due
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(UPDATES))]
    updates: Option<String>,

    /// Make this network namespace track connections, by an nftables table of our own that is removed at exit
    #[arg(long)]
    track: bool,
}

/// Flags that choose what records look like.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct OutputArgs {
    /// What records on standard output look like; auto: a table on a terminal, json elsewhere
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(OUTPUTS))]
    output: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Account flows until a signal comes (the default)
    Run(RunArgs),
    /// Tell what this machine lacks, and the command that mends it
    Check {
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
        /// Ask the agent that runs how much of what the kernel counted it has delivered
        #[arg(long)]
        live: bool,
    },
    /// Write what the kernel says to a file, for `replay`
    Record {
        /// The recording; it must not exist yet
        file: PathBuf,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Read a recording as if the kernel said it now; needs no privilege
    Replay {
        /// The recording
        file: PathBuf,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Install at a server what a sink needs there: for Elasticsearch and OpenSearch template, data stream, retention
    ///
    /// May be done again at any time. `setup = true` in the sink's table does the same before its first request.
    Setup {
        /// The sink's name in the configuration, or a type: all sinks of it
        sink: String,
    },
    /// Remove the kernel programs that outlive agents with a state directory
    ///
    /// An agent that keeps state leaves its kernel programs behind, so that the next one misses nothing. This removes
    /// them and says what it removed. Programs that a running agent uses are left alone; then the exit code is 1.
    Detach {
        /// Only those of this state directory
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
    /// Print or check a configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Write one page for each command into this directory instead
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Print the version
    Version,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every option with its default and what it does
    Default,
    /// Tell everything that is wrong with a configuration; exit code 1 if anything is
    Validate {
        /// The file; without it the one that `run` would read
        file: Option<PathBuf>,
    },
    /// Print a JSON Schema of the configuration, for editors that complete and check TOML
    Schema,
}

impl Cli {
    /// `conntally --output json check` means nothing: says so and ends.
    pub(super) fn refuse_stray_run_flags(&self) {
        if self.command.is_some() && self.run != RunArgs::default() {
            let message = "flags of `run` stand before another command; put them after it, if it takes them";
            Self::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
    }

    /// The configuration keys that the flags set.
    pub(super) fn overrides(&self) -> Vec<Override> {
        let mut list: Vec<_> = self.common.overrides().collect();
        match &self.command {
            None => list.extend(self.run.overrides()),
            Some(Command::Run(run)) => list.extend(run.overrides()),
            Some(Command::Record { source, .. }) => list.extend(source.overrides()),
            Some(Command::Replay { file, output }) => {
                list.push(set("FILE", &["source", "replay"], file.to_string_lossy()));
                list.push(set("FILE", &["source", "kind"], "replay"));
                list.extend(output.overrides());
            }
            Some(_) => {}
        }
        list
    }
}

impl CommonArgs {
    fn overrides(&self) -> impl Iterator<Item = Override> {
        let level = match (self.verbose, self.quiet) {
            (0, 0) => None,
            (0, 1) => Some(("-q", "warn")),
            (0, _) => Some(("-qq", "error")),
            (1, _) => Some(("-v", "debug")),
            (_, _) => Some(("-vv", "trace")),
        };
        let level = level.map(|(flag, level)| set(flag, &["log", "level"], level));
        let format = self.log_format.as_deref().map(|format| set("--log-format", &["log", "format"], format));
        level.into_iter().chain(format)
    }
}

impl RunArgs {
    fn overrides(&self) -> impl Iterator<Item = Override> {
        let state =
            self.state_dir.as_deref().map(|dir| set("--state-dir", &["state_dir"], dir.to_string_lossy()));
        self.source.overrides().chain(self.output.overrides()).chain(state)
    }
}

impl SourceArgs {
    fn overrides(&self) -> impl Iterator<Item = Override> {
        let source = self.source.as_deref().map(|kind| set("--source", &["source", "kind"], kind));
        let hook = self.hook.as_deref().map(|hook| set("--hook", &["source", "hook"], hook));
        let updates = self.updates.as_deref().map(|mode| set("--updates", &["source", "updates"], mode));
        let track = self.track.then(|| set("--track", &["source", "enable_tracking"], "true"));
        source.into_iter().chain(hook).chain(updates).chain(track)
    }
}

impl OutputArgs {
    fn overrides(&self) -> impl Iterator<Item = Override> {
        self.output.as_deref().map(|format| set("--output", &["output", "format"], format)).into_iter()
    }
}

fn set(flag: &'static str, key: &'static [&'static str], value: impl Into<String>) -> Override {
    Override { flag, key, value: value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Choice, Hook, LogFormat, OutputFormat, Request, SourceKind, Updates, load};

    fn loaded(line: &str) -> crate::config::Config {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let request =
            Request { file: Some("/dev/null".into()), overrides: cli.overrides(), ..Request::default() };
        load(&request).unwrap().config
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_offer_the_values_that_the_configuration_knows() {
        assert_eq!(SourceKind::names().filter(|name| *name != "replay").collect::<Vec<_>>(), SOURCES);
        assert_eq!(Hook::names().collect::<Vec<_>>(), HOOKS);
        assert_eq!(Updates::names().collect::<Vec<_>>(), UPDATES);
        assert_eq!(OutputFormat::names().collect::<Vec<_>>(), OUTPUTS);
        assert_eq!(LogFormat::names().collect::<Vec<_>>(), LOG_FORMATS);
    }

    #[test]
    fn run_is_the_default_command() {
        let flags =
            "--source netlink --hook kprobe --updates sweep --output null --track -qq --log-format json";
        let config = loaded(&format!("conntally {flags}"));
        assert_eq!(config, loaded(&format!("conntally run {flags}")));
        assert_eq!(config.source.kind, SourceKind::Netlink);
        assert_eq!(config.source.hook, Hook::Kprobe);
        assert_eq!(config.source.updates, Updates::Sweep);
        assert!(config.source.enable_tracking);
        assert_eq!(config.output.format, OutputFormat::Null);
        assert_eq!(config.log.level, crate::config::LogLevel::Error);
        assert_eq!(config.log.format, LogFormat::Json);
    }

    #[test]
    fn the_state_has_its_directory() {
        assert_eq!(loaded("conntally run --state-dir /tmp/state").state_dir, Some("/tmp/state".into()));
        assert_eq!(loaded("conntally run").state_dir, None);
    }

    #[test]
    fn replay_names_its_recording() {
        let config = loaded("conntally replay /tmp/a.rec --output json -v");
        assert_eq!(config.source.kind, SourceKind::Replay);
        assert_eq!(config.source.replay, Some("/tmp/a.rec".into()));
        assert_eq!(config.output.format, OutputFormat::Json);
        assert_eq!(config.log.level, crate::config::LogLevel::Debug);
    }

    #[test]
    fn common_flags_stand_before_or_after_the_command() {
        assert_eq!(loaded("conntally -v run"), loaded("conntally run -v"));
    }
}
