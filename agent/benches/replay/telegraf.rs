//! Records per second of CPU into an InfluxDB, beside a Telegraf that is fed the same lines.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conntally_servers::{Cache, Request, Server, find};
use serde::Serialize;

use crate::process::{cpu_ticks, followed};
use crate::{AGENT, recording, server};

/// Records, and so lines: each is a point of its own.
const RECORDS: u64 = 300_000;

/// The agent's rate over Telegraf's at least.
const RATIO: f64 = 3.0;

/// A Telegraf may take its time.
const PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(200);

/// A tick of `/proc/PID/stat`, see proc(5): the kernel's `USER_HZ` is 100 everywhere.
const TICKS_A_SECOND: f64 = 100.0;

/// One line of the result.
#[derive(Serialize)]
struct Line {
    bench: &'static str,
    way: &'static str,
    records: u64,
    agent_cpu_s: f64,
    telegraf_cpu_s: f64,
    ratio: f64,
    limit: f64,
    ok: bool,
}

/// Measures both one after the other with the same database, which is built in that cache if need be.
pub(super) fn compare(folder: &Path, cache: &Path) -> Result<bool> {
    let file = folder.join("flows.rec");
    recording::write(File::create(&file)?, RECORDS)?;
    let lines = captured(folder, &file)?;

    let database = started(cache, "influxdb-2", folder, &[])?;
    let access = |name: &str| database.access().get(name).cloned().unwrap_or_default();
    let (url, token) = (access("url"), access("token"));
    let agent = delivered(folder, &file, &sink(&url, &access("org"), &access("bucket"), &token, "agent"))?;
    let address = address(&url)?;
    ensure!(stored(address, &token, "agent")? == RECORDS, "the agent did not deliver every record");

    let settings = [
        format!("urls = [\"{url}\"]"),
        format!("token = \"{token}\""),
        format!("organization = \"{}\"", access("org")),
        format!("bucket = \"{}\"", access("bucket")),
    ];
    let settings = settings.each_ref().map(String::as_str);
    let telegraf = started(cache, "telegraf-writer", folder, &settings)?;
    let telegraf = passed_on(&telegraf, &lines, || stored(address, &token, "flows"))?;
    tell(agent, telegraf)
}

#[expect(clippy::cast_precision_loss, reason = "ticks of a few minutes are far below 2^52")]
fn tell(agent: u64, telegraf: u64) -> Result<bool> {
    let ratio = telegraf as f64 / agent.max(1) as f64;
    let ok = ratio >= RATIO;
    let line = Line {
        bench: "pipeline",
        way: "influxdb-beside-telegraf",
        records: RECORDS,
        agent_cpu_s: agent as f64 / TICKS_A_SECOND,
        telegraf_cpu_s: telegraf as f64 / TICKS_A_SECOND,
        ratio,
        limit: RATIO,
        ok,
    };
    crate::print(&line)?;
    Ok(ok)
}

fn started(cache: &Path, name: &str, folder: &Path, settings: &[&str]) -> Result<Server> {
    let kind = find(name).with_context(|| format!("there is no server {name}"))?;
    let installed = Cache::below(cache)?.ensure(kind, |words| eprintln!("{words}"))?;
    Server::start(kind, &installed, &folder.join(name), settings)
}

/// A point for each record, with the agent's defaults otherwise; the database takes longer for them than the agent.
fn sink(url: &str, org: &str, bucket: &str, token: &str, measurement: &str) -> String {
    format!(
        "shutdown_timeout = \"10m\"\n[sinks.measure]\ntype = \"influxdb\"\nurl = \"{url}\"\norg = \"{org}\"\nbucket = \"{bucket}\"\ntoken = \"{token}\"\n\
         measurement = \"{measurement}\"\nper_flow = true\n"
    )
}

/// The lines that the agent sends.
fn captured(folder: &Path, recording: &Path) -> Result<String> {
    let server = server::Server::start()?;
    let url = format!("http://{}", server.address);
    delivered(folder, recording, &format!("{}compress = false\n", sink(&url, "o", "b", "t", "flows")))?;
    Ok(server.asked("/api/v2/write").into_iter().map(|asked| asked.body).collect())
}

/// Has the agent deliver a recording; tells the ticks of CPU that it took.
fn delivered(folder: &Path, recording: &Path, configuration: &str) -> Result<u64> {
    let (file, log) = (folder.join("telegraf.toml"), folder.join("log"));
    fs::write(&file, configuration)?;
    let mut command = Command::new(AGENT);
    command.arg("replay").arg(recording).arg("--config").arg(file);
    let mut agent = command.stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
    let (status, peak) = followed(&mut agent)?;
    let told = fs::read_to_string(&log)?;
    ensure!(status.success(), "the agent failed ({status}):\n{told}");
    Ok(peak.cpu_ticks)
}

/// Feeds a Telegraf and waits until all is stored; tells the ticks of CPU that it took.
fn passed_on(telegraf: &Server, lines: &str, stored: impl Fn() -> Result<u64>) -> Result<u64> {
    let pid = telegraf.pid().context("Telegraf has ended")?;
    let before = cpu_ticks(pid).context("Telegraf has ended")?;
    let tcp = telegraf.access().get("tcp").context("Telegraf listens nowhere")?;
    let mut stream = TcpStream::connect(tcp)?;
    stream.write_all(lines.as_bytes())?;
    drop(stream);
    let deadline = Instant::now() + PATIENCE;
    while stored()? < RECORDS {
        ensure!(
            Instant::now() < deadline,
            "Telegraf did not deliver every line, see {}",
            telegraf.log().display()
        );
        thread::sleep(POLL);
    }
    Ok(cpu_ticks(pid).context("Telegraf has ended")?.saturating_sub(before))
}

/// Points of a measurement.
fn stored(database: SocketAddr, token: &str, measurement: &str) -> Result<u64> {
    let query = format!("/query?db=flows&q=SELECT+count(source_bytes)+FROM+{measurement}");
    let answer = Request::new("GET", query).header("Authorization", &format!("Token {token}"));
    let answer = answer.expect_success(database)?.json()?;
    let count = answer.pointer("/results/0/series/0/values/0/1").and_then(serde_json::Value::as_u64);
    Ok(count.unwrap_or(0))
}

fn address(url: &str) -> Result<SocketAddr> {
    url.trim_start_matches("http://").parse().with_context(|| format!("{url} is no address"))
}
