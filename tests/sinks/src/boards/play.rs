//! What the boards have to show: two agents one after the other, of which the second loses something.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use conntally_servers::Server;

use crate::agent::{Agent, Ended};
use crate::recording::Recording;
use crate::sum::Sum;

const STEP: Duration = Duration::from_secs(20);
const FLOWS: [u64; 2] = [300, 200];

const NETWORKS: &str = "[networks]\n\"office\" = [\"10.32.0.0/31\"]\n\"lab\" = [\"10.32.0.2/31\"]\n\
                        \"cdn\" = [\"192.0.2.0/28\"]\n\"far/away (1)\" = [\"192.0.2.16/28\"]\n";

/// Nobody listens there: the agent gives up at its end what this sink has, and says so.
const DEAD: &str = "[sinks.dead]\ntype = \"influxdb\"\nversion = 1\nurl = \"http://127.0.0.1:9\"\ndatabase = \"x\"\n\
                    status = false\n";

/// The ledger.
#[derive(Debug)]
pub(super) struct Played {
    /// All that was sent.
    pub(super) sent: Sum,
    /// What the sink that is away did not get.
    pub(super) lost: Sum,
    /// The most flows that were open at the same time.
    pub(super) open: u64,
}

/// Plays both.
pub(super) fn run(agent: &Path, server: &Server, folder: &Path) -> Result<Played> {
    let sink = sink(server);
    let [first, second] = FLOWS;
    let (ended, mut sent) = replay(
        agent,
        folder,
        &format!("shutdown_timeout = \"60s\"\n{NETWORKS}{sink}"),
        Duration::ZERO,
        first,
    )?;
    ensure!(ended.success, "the agent failed:\n{}", ended.log);
    // The second one is later, and its sums stand apart.
    let configuration = format!("shutdown_timeout = \"3s\"\n{NETWORKS}{sink}{DEAD}");
    let (ended, lost) = replay(agent, folder, &configuration, 6 * STEP, second)?;
    ensure!(ended.log.contains("dead.unwritten"), "nothing was lost:\n{}", ended.log);
    sent += lost;
    Ok(Played { sent, lost, open: first })
}

/// A recording that begins so much later than others.
fn replay(agent: &Path, folder: &Path, text: &str, later: Duration, flows: u64) -> Result<(Ended, Sum)> {
    let (mut recording, mut bytes) = Recording::begin();
    bytes.extend(recording.wave(0, later / 3));
    bytes.extend(recording.wave(flows, STEP));
    let file = folder.join("recording");
    fs::write(&file, bytes)?;
    let configuration = folder.join("conntally.toml");
    fs::write(&configuration, text)?;
    let ended = Agent::replay(agent, &file, &configuration, folder)?.wait(Duration::from_secs(60))?;
    Ok((ended, recording.ledger()))
}

/// The sink as a user would configure it.
fn sink(server: &Server) -> String {
    let access = |name: &str| server.access().get(name).map_or("", String::as_str);
    let url = access("url");
    if !access("token").is_empty() {
        let (org, bucket, token) = (access("org"), access("bucket"), access("token"));
        return format!(
            "[sinks.live]\ntype = \"influxdb\"\nurl = \"{url}\"\norg = \"{org}\"\nbucket = \"{bucket}\"\n\
             token = \"{token}\"\n"
        );
    }
    if !access("database").is_empty() {
        let (database, user, password) = (access("database"), access("user"), access("password"));
        return format!(
            "[sinks.live]\ntype = \"influxdb\"\nversion = 1\nurl = \"{url}\"\ndatabase = \"{database}\"\n\
             user = \"{user}\"\npassword = \"{password}\"\n"
        );
    }
    format!("[sinks.archive]\ntype = \"elasticsearch\"\nurls = [\"{url}\"]\nsetup = true\n")
}
