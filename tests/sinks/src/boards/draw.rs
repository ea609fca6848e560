//! What the boards show of an hour: the answers to all their queries as the servers sent them, for whoever draws them.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use conntally_servers::{Cache, Server, find};
use serde_json::{Map, Value, json};

use super::board::{Board, Fill};
use super::{BOARDS, file_of, play, reader_of, settled};
use crate::agent::Agent;
use crate::recording::{Life, Recording};

/// One server for each board.
const SERVERS: [&str; 2] = ["influxdb-2", "elasticsearch-small-8"];

/// The time that boards show when they are opened.
const SHOWN_MS: i64 = 3_600_000;

/// Of panels over time: that of waves, each of which is a point.
const INTERVAL_MS: u64 = 30_000;

/// Recorded time between two moments of a wave.
const STEP: Duration = Duration::from_secs(10);

/// Agents in the hour, one after the other: a replay tells its status once, at its end.
const AGENTS: u64 = 12;

/// Waves that each of them sees, of three moments.
const WAVES: u64 = 10;

/// The agents that lose something.
const LOSING: [u64; 3] = [3, 7, AGENTS - 1];

/// The one that meets flows that are not as others; its recording has to begin after those that it meets in mid-life.
const ODD: u64 = 2;

/// Plays an hour into one server after the other; writes a file for each board: the board, the time that it shows, and
/// by the panel's id what came of each of its queries.
///
/// # Errors
/// When a server cannot be had, the agent fails, or a query does.
pub fn draw(agent: &Path, cache: &Path, folder: &Path) -> Result<()> {
    SERVERS
        .iter()
        .try_for_each(|name| draw_from(name, agent, cache, folder).with_context(|| format!("with {name}")))
}

fn draw_from(name: &str, agent: &Path, cache: &Path, folder: &Path) -> Result<()> {
    let kind = find(name).with_context(|| format!("there is no server {name}"))?;
    let say = |words: &str| drop(writeln!(io::stdout(), "servers: {words}"));
    let installed = Cache::below(cache)?.ensure(kind, say)?;
    let home = std::env::temp_dir().join(format!("conntally-draw-{}-{name}", std::process::id()));
    let server = Server::start(kind, &installed, &home, &[])?;
    let scratch = folder.join(name);
    // Of an hour that was drawn before something may wait in a spool.
    drop(fs::remove_dir_all(&scratch));
    fs::create_dir_all(&scratch)?;
    let asked = an_hour(agent, &server, &scratch).and_then(|until_ms| answers(&server, until_ms));
    let (file, answers) = asked.with_context(|| server.remains())?;
    fs::write(folder.join(file), answers.to_string()).with_context(|| format!("cannot write {file}"))?;
    server.discard()
}

/// All that a board asks, and what it is told.
fn answers(server: &Server, until_ms: i64) -> Result<(&'static str, Value)> {
    let file = file_of(server);
    let path = Path::new(BOARDS).join(file);
    let board = Board::read(&path)?;
    let reader = reader_of(server)?;
    let fill = board.everything(INTERVAL_MS).until(until_ms).since(until_ms - SHOWN_MS);
    let fill = settled(&board, &*reader, fill)?;
    let mut answers = Map::new();
    for panel in board.panels() {
        let told = panel.targets().iter().map(|target| reader.raw(target, &fill));
        let told: Vec<_> = told.collect::<Result<_>>().with_context(|| format!("{:?}", panel.title()))?;
        answers.insert(panel.id().to_string(), json!(told));
    }
    let text = fs::read_to_string(&path)?;
    let json: Value = serde_json::from_str(&text)?;
    Ok((file, shown(&json, &fill, &answers)))
}

fn shown(board: &Value, fill: &Fill, answers: &Map<String, Value>) -> Value {
    let (from, to) = (fill.from as u64, fill.to as u64);
    json!({ "board": board, "from": from, "to": to, "interval": fill.interval_ms, "answers": answers })
}

/// An hour of traffic; returns when the last agent has made its statement.
fn an_hour(agent: &Path, server: &Server, folder: &Path) -> Result<i64> {
    let configuration = format!("shutdown_timeout = \"3s\"\n{}{}", networks(), play::sink(server));
    let (file, configured) = (folder.join("recording"), folder.join("conntally.toml"));
    let mut until_ms = 0;
    for number in 0..AGENTS {
        let (bytes, end_ms) = recorded(number);
        let loses = LOSING.contains(&number);
        fs::write(&file, bytes)?;
        let more = if loses { away(folder) } else { String::new() };
        fs::write(&configured, format!("{configuration}{more}"))?;
        let ended = Agent::replay(agent, &file, &configured, folder)?.wait(Duration::from_secs(60))?;
        ensure!(ended.success || loses, "the agent failed:\n{}", ended.log);
        ensure!(ended.log.contains("away.unwritten") == loses, "not what was to be lost:\n{}", ended.log);
        until_ms = end_ms + 1;
    }
    Ok(until_ms)
}

/// What one agent sees, after those before it; and when it ends, in milliseconds since the Unix epoch.
fn recorded(agent: u64) -> (Vec<u8>, i64) {
    let (mut recording, mut bytes) = Recording::begin();
    for _ in 0..agent * WAVES {
        recording.pass(3 * STEP);
    }
    // Intervals end where the flows of a wave are open.
    let past_ms = u64::try_from(recording.real_ms()).unwrap_or(0) % INTERVAL_MS;
    recording.pass(Duration::from_millis(INTERVAL_MS - past_ms) + STEP / 2);
    for wave in agent * WAVES..(agent + 1) * WAVES {
        let odd = [(Life::Midlife, 7), (Life::Uncounted, 11), (Life::Missed, 13)];
        let mut lives = vec![(Life::Whole, flows_of(wave)), (Life::Open, wave % 4)];
        lives.extend(odd.into_iter().filter(|_| agent == ODD && wave % WAVES == 0));
        bytes.extend(recording.lives(&lives, STEP));
    }
    (bytes, recording.real_ms())
}

/// More in the middle of the hour than at its ends, and seldom twice the same.
const fn flows_of(wave: u64) -> u64 {
    let left = AGENTS * WAVES - wave;
    let near = if wave < left { wave } else { left };
    40 + near + wave * 37 % 23
}

/// Hosts take turns, so that all networks are there all the time; some hosts are in none.
fn networks() -> String {
    let hosts = |of: u16| {
        let hosts = (0..256_u16).filter(|host| host % 4 == of).map(u16::to_be_bytes);
        hosts.map(|[high, low]| format!("\"10.32.{high}.{low}/32\"")).collect::<Vec<_>>().join(", ")
    };
    let (office, lab, guests) = (hosts(0), hosts(1), hosts(2));
    format!(
        "[networks]\n\"office\" = [{office}]\n\"lab\" = [{lab}]\n\"guests\" = [{guests}]\n\
         \"cdn\" = [\"192.0.2.0/28\"]\n\"partners\" = [\"192.0.2.16/28\"]\n"
    )
}

/// Nobody listens there. What one of these sinks wants is lost, a part of what one host opens; what the other one wants
/// waits, a part of what another host opens.
fn away(folder: &Path) -> String {
    let sink = |name: &str, host: u8| {
        format!(
            "[sinks.{name}]\ntype = \"influxdb\"\nversion = 1\nurl = \"http://127.0.0.1:9\"\ndatabase = \"x\"\n\
             status = false\ninclude = [\"src = 10.32.0.{host} and dst_port = 53\"]\n"
        )
    };
    let spool = folder.join("spool");
    let spool = format!("when_full = \"spool\"\nspool = {{ dir = \"{}\" }}\n", spool.display());
    format!("{}{}{spool}", sink("away", 9), sink("late", 10))
}
