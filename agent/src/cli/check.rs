//! `conntally check`: what this machine lacks, told by trying what `run` would do.

use super::args::Cli;
use super::{message, settings, sources};
use crate::check::facts::{HookPlan, TracingSupport};
use crate::check::gather::Probes;
use crate::check::verdict::Settings;
use crate::check::{self, Format};
use crate::config::Config;
use crate::kernel::bpf::{KernelSide, StartError};
use crate::kernel::netlink::conntrack;
use crate::kernel::netlink::socket::NetfilterSocket;
use anyhow::Context;
use std::io;
use std::process::ExitCode;

/// Looks at the machine, tells the verdict, and ends with its exit code.
pub(super) fn run(cli: &Cli, json: bool) -> anyhow::Result<ExitCode> {
    let config = settings::start(cli)?;
    let probes = Probes { tracing: &|| tracing(&config), netlink: &netlink };
    let settings = Settings {
        manage_sysctls: config.source.manage_sysctls,
        enable_tracking: config.source.enable_tracking,
    };
    let format = if json { Format::Json } else { Format::Text };
    match check::run(&probes, settings, format, &mut io::stdout().lock()) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// Loads, attaches, proves and detaches the kernel programs.
fn tracing(config: &Config) -> TracingSupport {
    match KernelSide::start(&sources::kernel_side(config)) {
        Ok(side) => {
            let report = side.report();
            TracingSupport::Works(HookPlan {
                kind: report.kind.name(),
                packet: report.packet,
                life: report.life,
                passed_over: report.passed_over,
                unproven: report.proven.err(),
            })
        }
        Err(error @ StartError::NotPermitted(_)) => {
            let why = message(&error.into());
            // The line that tells it begins with these words.
            TracingSupport::NotPermitted(why.trim_start_matches("tracing is not permitted here: ").to_owned())
        }
        Err(error) => TracingSupport::Failed(error.to_string()),
    }
}

/// Asks conntrack how many entries it has.
fn netlink() -> Result<(), String> {
    let asked = NetfilterSocket::open().and_then(|socket| conntrack::entries(&socket, 1));
    asked.map(|_| ()).map_err(|error| error.to_string())
}
