//! Tests of the sinks' own code that need real servers: a plain `cargo test` leaves them out.

use anyhow::{Result, ensure};
use conntally_servers::{Cache, Server};

use super::{known, say};
use crate::{
    command::cargo,
    paths::Paths,
    test::{Count, followed},
};

/// All that speak as Elasticsearch does. The real distributions have what the others lack: security.
const SPEAK_ELASTICSEARCH: &str = "elasticsearch-small-8,elasticsearch-small-9,opensearch-2,opensearch-3,\
    elasticsearch-8,elasticsearch-9";

/// The test that starts its servers itself.
pub(super) const ELASTICSEARCH: &str = "elasticsearch";

/// Runs them; with `full` against all servers instead of one of each kind.
pub(crate) fn run(paths: &Paths, full: bool) -> Result<Count> {
    let mut counted = influxdb(paths)?;
    counted.add(elasticsearch(paths, full)?);
    Ok(counted)
}

fn influxdb(paths: &Paths) -> Result<Count> {
    let [two, one] = [started(paths, "influxdb-2")?, started(paths, "influxdb-1")?];
    let variables = [
        ("CONNTALLY_INFLUXDB_2", &two, "url"),
        ("CONNTALLY_INFLUXDB_1", &one, "url"),
        ("CONNTALLY_INFLUXDB_1_UDP", &one, "udp"),
    ];
    let variables = variables
        .map(|(variable, server, name)| (variable, server.access().get(name).cloned().unwrap_or_default()));
    let counted = tests(paths, &["--lib", "real_tests", "--", "--ignored"], &variables)?;
    for server in [two, one] {
        if counted.failed > 0 {
            say(&server.remains());
        } else {
            server.discard()?;
        }
    }
    Ok(counted)
}

fn elasticsearch(paths: &Paths, full: bool) -> Result<Count> {
    let servers = [("CONNTALLY_TEST_SERVERS", SPEAK_ELASTICSEARCH.to_owned())];
    // It says what a server lacks that something else has to be tried with.
    let arguments = ["--test", ELASTICSEARCH, "--", "--nocapture"];
    tests(paths, &arguments, if full { &servers } else { &[] })
}

fn started(paths: &Paths, name: &str) -> Result<Server> {
    let kind = known(name)?;
    let installed = Cache::below(&paths.cache)?.ensure(kind, say)?;
    let home = std::env::temp_dir().join(format!("conntally-own-{}-{name}", std::process::id()));
    Server::start(kind, &installed, &home, &[])
}

fn tests(paths: &Paths, arguments: &[&str], variables: &[(&str, String)]) -> Result<Count> {
    let mut command = cargo();
    command.current_dir(&paths.root).args(["test", "--quiet", "--locked", "--workspace"]);
    command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
    let (text, success) = followed(&mut command)?;
    let mut counted = Count::of_cargo_test(&text);
    ensure!(counted.passed + counted.failed > 0, "no test was run with {arguments:?}: see above");
    if !success && counted.failed == 0 {
        counted.add(Count::failure(format!("tests with {arguments:?} broke off: see above")));
    }
    Ok(counted)
}
