//! What the boards have to show: two agents one after the other, of which the second loses a part and sees
//! flows that are not as others.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use conntally_servers::Server;

use crate::agent::{Agent, Ended};
use crate::recording::{Life, Recording};
use crate::sum::Sum;

const STEP: Duration = Duration::from_secs(20);
const FLOWS: [u64; 2] = [300, 150];

const NETWORKS: &str = "[networks]\n\"office\" = [\"10.32.0.0/31\"]\n\"lab\" = [\"10.32.0.2/31\"]\n\
                        \"cdn\" = [\"192.0.2.0/28\"]\n\"far/away (1)\" = [\"192.0.2.16/28\"]\n";

/// Nobody listens there: the agent gives up at its end what this sink has, and says so. It wants a part only.
fn dead() -> String {
    format!(
        "[sinks.dead]\ntype = \"influxdb\"\nversion = 1\nurl = \"http://127.0.0.1:9\"\ndatabase = \"x\"\n\
         status = false\ninclude = [\"dst_port = {}\"]\n",
        Recording::NAMES
    )
}

/// The same with a spool, in which all that this sink wants stays.
fn late(folder: &Path) -> String {
    let spool = folder.join("spool");
    let more = format!("when_full = \"spool\"\nspool = {{ dir = \"{}\" }}\n", spool.display());
    format!("{}{more}", dead().replacen("[sinks.dead]", "[sinks.late]", 1))
}

/// What the second agent sees beside whole flows.
const ODD: [(Life, u64); 4] =
    [(Life::Midlife, MIDLIFE), (Life::Uncounted, UNCOUNTED), (Life::Missed, MISSED), (Life::Open, OPEN)];

/// No two alike, so that none can be taken for another.
const MIDLIFE: u64 = 7;
const UNCOUNTED: u64 = 11;
const MISSED: u64 = 13;
const OPEN: u64 = 17;

/// The ledger.
#[derive(Debug)]
pub(super) struct Played {
    /// What the board is to sum: what is new of all flows, or the totals of those that ended.
    pub(super) sent: Sum,
    /// Flows whose birth was seen.
    pub(super) started: u64,
    /// Flows that ended, seen or not.
    pub(super) ended: u64,
    /// What the second agent counted.
    pub(super) counted: Sum,
    /// What the sink that is away did not get of it.
    pub(super) lost: Sum,
    /// The most flows that were open at the same time.
    pub(super) open: u64,
    /// Those that are open in the end.
    pub(super) still_open: u64,
    /// Flows that were found gone.
    pub(super) missed: u64,
    /// Flows without counters.
    pub(super) uncounted: u64,
    /// Flows that were there before the agent.
    pub(super) midlife: u64,
    /// When each agent made its last statement, milliseconds since the Unix epoch.
    pub(super) told_ms: [i64; 2],
}

/// Plays both.
pub(super) fn run(agent: &Path, server: &Server, folder: &Path, is_archive: bool) -> Result<Played> {
    let sink = sink(server);
    let [first, second] = FLOWS;
    let configuration = format!("shutdown_timeout = \"60s\"\n{NETWORKS}{sink}");
    let whole = [(Life::Whole, first)];
    let (ended, before) = replay(agent, folder, &configuration, Duration::ZERO, &whole)?;
    ensure!(ended.success, "the agent failed:\n{}", ended.log);
    // The second one is later, and its sums stand apart.
    let configuration = format!("shutdown_timeout = \"3s\"\n{NETWORKS}{sink}{}{}", dead(), late(folder));
    let lives = [&[(Life::Whole, second)], ODD.as_slice()].concat();
    let (ended, recording) = replay(agent, folder, &configuration, 6 * STEP, &lives)?;
    ensure!(ended.log.contains("dead.unwritten"), "nothing was lost:\n{}", ended.log);
    let [before, after] =
        [(before.whole_ledger(), before.real_ms()), (recording.whole_ledger(), recording.real_ms())];
    let told_ms = [before.1, after.1];
    let (before, after) = (before.0, after.0);
    let mut sent = if is_archive { before.ended } else { before.moved };
    sent += if is_archive { after.ended } else { after.moved };
    Ok(Played {
        sent,
        started: before.moved.flows + after.moved.flows - MIDLIFE,
        ended: before.ended.flows + after.ended.flows,
        counted: after.moved,
        lost: after.names,
        open: first,
        still_open: OPEN,
        missed: MISSED,
        uncounted: UNCOUNTED,
        midlife: MIDLIFE,
        told_ms,
    })
}

/// A recording that begins so much later than others.
fn replay(
    agent: &Path,
    folder: &Path,
    text: &str,
    later: Duration,
    lives: &[(Life, u64)],
) -> Result<(Ended, Recording)> {
    let (mut recording, mut bytes) = Recording::begin();
    bytes.extend(recording.wave(0, later / 3));
    bytes.extend(recording.lives(lives, STEP));
    let file = folder.join("recording");
    fs::write(&file, bytes)?;
    let configuration = folder.join("conntally.toml");
    fs::write(&configuration, text)?;
    let ended = Agent::replay(agent, &file, &configuration, folder)?.wait(Duration::from_secs(60))?;
    Ok((ended, recording))
}

/// The sink as a user would configure it.
pub(super) fn sink(server: &Server) -> String {
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
