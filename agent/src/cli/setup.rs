//! `conntally setup SINK`: installs at a server what a sink needs there.

use super::args::Cli;
use super::settings;
use crate::config::{SinkConfig, SinkKind};
use crate::sinks::elasticsearch::setup::install;
use anyhow::{Context, ensure};
use std::process::ExitCode;

/// Sets up the sinks of that name or type.
pub(super) fn run(cli: &Cli, sink: &str) -> anyhow::Result<ExitCode> {
    let config = settings::start(cli)?;
    let meant: Vec<_> = config.sinks.iter().filter(|one| one.name == sink || type_of(one) == sink).collect();
    ensure!(!meant.is_empty(), "{}", nothing_meant(&config.sinks, sink));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut told = String::new();
    for sink in meant {
        let sentences = runtime.block_on(set_up(sink)).with_context(|| format!("sink {}", sink.name))?;
        for sentence in sentences {
            told.push_str(&format!("{}: {sentence}\n", sink.name));
        }
    }
    super::print(told.as_bytes())
}

async fn set_up(sink: &SinkConfig) -> anyhow::Result<Vec<String>> {
    match &sink.kind {
        SinkKind::Elasticsearch(options) => {
            let report = install(options, sink.delivery.timeout).await?;
            Ok(report.sentences().map(str::to_owned).collect())
        }
        SinkKind::Influxdb(_) => {
            Ok(vec!["nothing is done here: with create = true the agent makes bucket or database".to_owned()])
        }
        SinkKind::Stdio(..) | SinkKind::Null => Ok(vec!["there is nothing to set up".to_owned()]),
    }
}

const fn type_of(sink: &SinkConfig) -> &'static str {
    sink.kind.type_name()
}

fn nothing_meant(sinks: &[SinkConfig], sink: &str) -> String {
    if sinks.is_empty() {
        return "no sinks are configured; see [sinks.NAME] in `conntally config default`".to_owned();
    }
    let names: Vec<_> = sinks.iter().map(|one| format!("{} ({})", one.name, type_of(one))).collect();
    format!("no sink has the name or type {sink:?}; there are {}", names.join(", "))
}
