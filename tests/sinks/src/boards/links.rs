//! The links of the live board: each is followed to the archive, which has to show the flows of the group, all of them and
//! no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use conntally_servers::Server;
use regex::Regex;
use serde_json::Value;

use super::board::{Board, Fill, INTERVALS_MS, Panel, text_of};
use super::play::sink;
use super::{BOARDS, POINTS_BEHIND_MS, Reader, file_of, reader_of, started};
use crate::agent::Agent;
use crate::recording::Recording;
use crate::sum::Sum;

/// One that has the live board's data, one that has the archive's.
pub(super) const SERVERS: [&str; 2] = ["influxdb-2", "elasticsearch-small-8"];

/// Fewer than the archive shows at once.
const FLOWS: u64 = 400;

const STEP: Duration = Duration::from_secs(20);

/// The ends that the live board shows.
const ENDS: [&str; 2] = ["Opened", "Answered"];

/// How flows are grouped, and what the ends of one are called then.
struct Grouping {
    name: &'static str,
    networks: &'static str,
    /// Of the sink with the live flows.
    options: &'static str,
    called: fn(Ipv4Addr) -> String,
    /// Whether there are more groups than series.
    has_others: bool,
}

const GROUPINGS: [Grouping; 3] = [
    Grouping {
        name: "networks",
        networks: "[networks]\n\"office & lab+1\" = [\"10.32.0.0/31\"]\n\"far/away (1) #2\" = [\"192.0.2.8/29\"]\n",
        options: "",
        called: |address| match address.octets() {
            [10, _, 0, 0 | 1] => "office & lab+1".to_owned(),
            [192, _, _, 8..16] => "far/away (1) #2".to_owned(),
            _ => "none".to_owned(),
        },
        has_others: false,
    },
    Grouping {
        name: "prefixes",
        networks: "",
        options: "group_by = { src = \"/31\", dst = \"/29\", port = \"service\", proto = true }\n",
        called: |address| {
            let length = if address.octets().first() == Some(&10) { 31 } else { 29 };
            format!("{}/{length}", Ipv4Addr::from(u32::from(address) >> (32 - length) << (32 - length)))
        },
        has_others: false,
    },
    Grouping {
        name: "addresses",
        networks: "",
        options: "group_by = { src = \"address\", dst = \"address\", proto = true }\nmax_series = 40\n",
        called: |address| address.to_string(),
        has_others: true,
    },
];

/// Tries all groupings, each with servers of its own.
pub(super) fn play(agent: &Path, cache: &Path, folder: &Path) -> Result<()> {
    GROUPINGS.iter().try_for_each(|grouping| {
        let folder = folder.join(format!("boards-links-{}", grouping.name));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder)?;
        let what = format!("links-{}", grouping.name);
        let [live, archive] = SERVERS.map(|name| started(name, cache, &what));
        let (live, archive) = (live?, archive?);
        follow_all(agent, &live, &archive, &folder, grouping).with_context(|| {
            format!("grouped by {}\n{}\n{}", grouping.name, live.remains(), archive.remains())
        })?;
        live.discard()?;
        archive.discard()
    })
}

fn follow_all(
    agent: &Path,
    live: &Server,
    archive: &Server,
    folder: &Path,
    grouping: &Grouping,
) -> Result<()> {
    let (mut recording, mut bytes) = Recording::begin();
    bytes.extend(recording.wave(FLOWS, STEP));
    let (file, configured) = (folder.join("recording"), folder.join("conntally.toml"));
    fs::write(&file, bytes)?;
    let Grouping { networks, options, .. } = grouping;
    let [of_live, of_archive] = [sink(live), sink(archive)];
    fs::write(&configured, format!("{networks}{of_live}{options}{of_archive}"))?;
    let ended = Agent::replay(agent, &file, &configured, folder)?.wait(Duration::from_secs(60))?;
    ensure!(ended.success, "the agent failed:\n{}", ended.log);

    let live = Shown::of(live, recording.real_ms())?;
    let archive = Shown::of(archive, recording.real_ms())?;
    let mut followed = 0;
    for title in ["Top talkers", "Flows by group"] {
        followed += follow_table(&live, &archive, title, grouping).with_context(|| title.to_owned())?;
    }
    ensure!(followed > 4, "only {followed} links");
    Ok(())
}

/// A board, and who answers it for the time of the recording.
struct Shown {
    board: Board,
    reader: Box<dyn Reader>,
    fill: Fill,
}

impl Shown {
    fn of(server: &Server, until_ms: i64) -> Result<Self> {
        let board = Board::read(&Path::new(BOARDS).join(file_of(server)))?;
        let [interval_ms, ..] = INTERVALS_MS;
        let fill = board.everything(interval_ms).until(until_ms + POINTS_BEHIND_MS);
        Ok(Self { board, reader: reader_of(server)?, fill })
    }

    fn panel(&self, title: &str) -> Result<&Panel> {
        let found = self.board.panels().find(|panel| panel.title() == title);
        found.with_context(|| format!("there is no panel {title:?}"))
    }
}

/// Follows the link of each end of each row; returns how many different ones there were.
fn follow_table(live: &Shown, archive: &Shown, title: &str, grouping: &Grouping) -> Result<usize> {
    let panel = live.panel(title)?;
    let target = panel.targets().first().context("it has no query")?;
    let rows = rows(&live.reader.raw(target, &live.fill)?);
    let shown: u64 = rows.iter().map(|row| count(row, "Ended")).sum();
    let others = others(live)?;
    ensure!(shown + others == FLOWS, "{shown} flows in groups and {others} in others are not all");
    ensure!((others > 0) == grouping.has_others, "{others} flows have no group of their own");
    let mut followed = BTreeSet::new();
    for end in ENDS {
        for row in &rows {
            let value = text_of(row, end);
            if !followed.insert((end, value.clone())) {
                continue;
            }
            let url = link(panel, end, row, &live.fill)?;
            let ledger = ledger(grouping, end, &value);
            let found = follow(&url, archive).with_context(|| format!("{end} = {value:?} leads to {url}"))?;
            ensure!(found == ledger, "{end} = {value:?} leads to {found:?} instead of {ledger:?} by {url}");
        }
    }
    Ok(followed.len())
}

/// Flows in groups that have no series.
fn others(live: &Shown) -> Result<u64> {
    let panel = live.panel("Groups without series of their own")?;
    let target = panel.targets().first().context("it has no query")?;
    Ok(live.reader.ask(panel, target, &live.fill)?.numbers(Some("Ended")).sum::<f64>() as u64)
}

/// The flows of which an end is called so.
fn ledger(grouping: &Grouping, end: &str, value: &str) -> Sum {
    let of_group = Recording::first_flows(FLOWS).filter(|(asks, answers, _)| {
        (grouping.called)(if end == "Opened" { *asks } else { *answers }) == value
    });
    of_group.fold(Sum::default(), |mut sum, (_, _, moved)| {
        sum += moved;
        sum
    })
}

/// The rows of a table by the names of their columns.
fn rows(series: &Value) -> Vec<Value> {
    let one = |series: &Value| {
        let columns = series.get("columns").and_then(Value::as_array).cloned().unwrap_or_default();
        let rows = series.get("values").and_then(Value::as_array).cloned().unwrap_or_default();
        rows.into_iter().map(move |row| {
            let cells = row.as_array().cloned().unwrap_or_default();
            let names = columns.clone().into_iter().map(|name| name.as_str().unwrap_or_default().to_owned());
            Value::Object(names.zip(cells).collect())
        })
    };
    series.as_array().into_iter().flatten().flat_map(one).collect()
}

fn count(row: &Value, column: &str) -> u64 {
    row.get(column).and_then(Value::as_u64).unwrap_or(0)
}

/// The only link of a cell, as a browser is led there.
fn link(panel: &Panel, end: &str, row: &Value, fill: &Fill) -> Result<String> {
    let links = panel.property(end, "links").and_then(Value::as_array).context("it has no links")?;
    let [link] = links.as_slice() else { bail!("it has {} links", links.len()) };
    let url = text_of(link, "url")
        .replace("${__url_time_range}", &format!("from={}&to={}", fill.from, fill.to))
        .replace("${host:queryparam}", "var-host=$__all");
    let mut filled = url.clone();
    for (column, value) in row.as_object().into_iter().flatten() {
        let shown = mapped(panel, column, value.as_str().unwrap_or_default())?;
        filled = filled.replace(&format!("${{__data.fields.{column}.text:percentencode}}"), &encoded(&shown));
    }
    ensure!(!filled.contains("${"), "there is something left to fill in: {filled}");
    Ok(filled)
}

/// What a cell shows: the first mapping that fits tells.
fn mapped(panel: &Panel, column: &str, value: &str) -> Result<String> {
    let mappings = panel.property(column, "mappings").and_then(Value::as_array).cloned().unwrap_or_default();
    for mapping in &mappings {
        let options = mapping.get("options").context("a mapping has no options")?;
        match text_of(mapping, "type").as_str() {
            "value" => {
                if let Some(result) = options.get(value) {
                    return Ok(text_of(result, "text"));
                }
            }
            "regex" => {
                let pattern = text_of(options, "pattern");
                let pattern = pattern.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
                let pattern =
                    Regex::new(&pattern.context("no slashes around a pattern")?.replace("\\/", "/"))?;
                if pattern.is_match(value) {
                    let text = text_of(options.get("result").context("a mapping has no result")?, "text");
                    // "$1" is meant whatever follows it.
                    return Ok(pattern.replace(value, text.replace("$1", "${1}")).into_owned());
                }
            }
            other => bail!("{other} is no mapping that is known here"),
        }
    }
    Ok(value.to_owned())
}

/// What the archive shows where a link leads, by its table of flows.
fn follow(url: &str, archive: &Shown) -> Result<Sum> {
    let (place, parameters) = url.split_once('?').context("it has no parameters")?;
    ensure!(place == format!("/d/{}", archive.board.uid()), "that is no place of the archive");
    let parameters: BTreeMap<String, String> = parameters
        .split('&')
        .map(|parameter| parameter.split_once('=').map(|(name, value)| (decoded(name), decoded(value))))
        .collect::<Option<_>>()
        .context("a parameter has no value")?;
    let mut fill = archive.fill.clone();
    for (name, value) in &parameters {
        match (name.as_str(), value.as_str()) {
            ("from", from) => fill.from = from.parse()?,
            ("to", to) => fill.to = to.parse()?,
            (_, "$__all") => {}
            (name, value) => {
                let variable = name.strip_prefix("var-").context("that is no variable")?;
                ensure!(fill.has(variable), "the archive has no variable {variable}");
                fill = fill.with(&format!("{variable}:raw"), value);
            }
        }
    }
    let panel = archive.panel("Flows")?;
    let target = panel.targets().first().context("it has no query")?;
    let answer = archive.reader.ask(panel, target, &fill)?;
    let sum = |field: &str| answer.numbers(Some(field)).sum::<f64>() as u64;
    let mut found = Sum { flows: answer.rows() as u64, ..Sum::default() };
    (found.source.packets, found.source.bytes) = (sum("source.packets"), sum("source.bytes"));
    (found.destination.packets, found.destination.bytes) =
        (sum("destination.packets"), sum("destination.bytes"));
    Ok(found)
}

/// As `encodeURIComponent` does, and stricter.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if is_plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = || [rest.clone().next(), rest.clone().nth(1)].into_iter().flatten().collect::<Vec<_>>();
        let code = (byte == b'%').then(digits);
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok());
        if code.is_some() {
            let _ = rest.nth(1);
        }
        bytes.push(code.unwrap_or(byte));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let text = "a&b=c #1 (x) ü % \"q\" $__all";
        assert_eq!(decoded(&encoded(text)), text);
        assert!(!encoded(text).contains(['&', '=', '#', ' ', '(', '"']));
    }
}
