//! The command line: what a person types and reads. The only place that sees every other module.

mod account;
mod accounting;
mod args;
mod auditing;
mod check;
mod consumer;
mod counter_watch;
mod deadline;
mod detach;
mod fanout;
mod filtering;
mod generate;
mod groups;
mod influxdb;
mod live;
mod logging;
mod loss_watch;
mod machine;
mod manual;
mod netns_names;
mod offload_watch;
mod outlets;
mod pump;
mod readiness;
mod record;
mod replay;
mod reporters;
mod resume;
mod run;
mod series_file;
mod service;
mod settings;
mod setup;
mod signals;
mod sink_count;
mod source_report;
mod sources;
mod spooling;
mod status_file;

use crate::causes::told;
use crate::kernel::bpf::StartError;
use args::{Cli, Command, ConfigCommand};
use clap::Parser;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// How long the end waits for a log that is not read.
const LOG_TIME: Duration = Duration::from_secs(1);

/// Runs the command that the arguments name. Exit codes are told by `conntally --help`.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = dispatch(cli);
    logging::flush(LOG_TIME);
    match result {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    cli.refuse_stray_run_flags();
    match cli.command {
        Some(Command::Config { command: ConfigCommand::Default }) => {
            print(crate::config::ANNOTATED.as_bytes())
        }
        Some(Command::Config { command: ConfigCommand::Validate { ref file } }) => {
            settings::check_file(&cli, file)
        }
        Some(Command::Config { command: ConfigCommand::Schema }) => print(&generate::schema()?),
        Some(Command::Completions { shell }) => print(&generate::completions(shell)),
        Some(Command::Man { ref directory }) => match directory {
            Some(directory) => generate::man_pages(directory).map(|()| ExitCode::SUCCESS),
            None => print(&generate::man_page()?),
        },
        Some(Command::Version) => print(generate::version().as_bytes()),
        None | Some(Command::Run(_) | Command::Replay { .. }) => run::run(&cli),
        Some(Command::Record { ref file, .. }) => record::run(&cli, file),
        Some(Command::Check { json, live: true }) => live::run(&cli, json),
        Some(Command::Check { json, live: false }) => check::run(&cli, json),
        Some(Command::Setup { ref sink }) => setup::run(&cli, sink),
        Some(Command::Detach { ref state_dir }) => detach::run(&cli, state_dir.as_deref()),
    }
}

/// Writes what was asked for. A reader that has seen enough (`| head`) is no error.
fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output"))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let hint = if lacks_privilege(error) { "\nit needs root, or what `conntally check` names" } else { "" };
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "conntally: {}{hint}", message(error));
    ExitCode::FAILURE
}

/// What was asked of the kernel and failed, as the context of an error. A refusal below it is a matter of privilege;
/// elsewhere it is a matter of the file that the message names.
#[derive(Debug)]
struct AskedOfKernel(String);

impl fmt::Display for AskedOfKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn lacks_privilege(error: &anyhow::Error) -> bool {
    if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(StartError::NotPermitted(_)))) {
        return true;
    }
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    error.downcast_ref::<AskedOfKernel>().is_some() && causes.any(is_refusal)
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The error and its causes, less those that the error before already tells.
fn message(error: &anyhow::Error) -> String {
    tell_once(&told(error))
}

/// Each way to hook that fails says that tracing is not permitted: once is enough.
fn tell_once(text: &str) -> String {
    const REFUSED: &str = "tracing is not permitted here: ";
    let Some((before, after)) = text.split_once(REFUSED) else { return text.to_owned() };
    format!("{before}{REFUSED}{}", after.replace(REFUSED, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once() {
        let text = "tracing is not permitted here: ";
        let refused = anyhow::anyhow!("{text}fentry: {text}EPERM; kprobe: {text}EPERM");
        assert_eq!(message(&refused), format!("{text}fentry: EPERM; kprobe: EPERM"));
    }

    #[test]
    fn only_what_the_kernel_refuses_is_a_matter_of_privilege() {
        let denied = || anyhow::Error::new(io::Error::from_raw_os_error(libc::EACCES));
        let asked = || AskedOfKernel("asked".to_owned());
        assert!(!lacks_privilege(&denied().context("c.toml: cannot read the configuration")));
        assert!(lacks_privilege(&denied().context(asked()).context("start")));
        let absent = anyhow::Error::new(io::Error::from_raw_os_error(libc::ENOENT));
        assert!(!lacks_privilege(&absent.context(asked())));
        let refused = anyhow::Error::new(StartError::NotPermitted(denied()));
        assert!(lacks_privilege(&refused.context("start")));
    }
}
