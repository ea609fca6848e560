//! The Grafana boards: every query of every panel is run with its variables filled in, and what comes back has to be
//! the ledger's, in the unit that the panel declares.

mod answer;
mod board;
mod draw;
mod elasticsearch;
mod expected;
mod influxql;
mod links;
mod play;
mod top;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use conntally_servers::{Cache, Server, find};
use serde_json::Value;

pub use self::draw::draw;

use self::answer::Answer;
use self::board::{Board, Panel};
use self::expected::Expected;
use self::play::Played;

/// The servers that the boards are tried with.
const SERVERS: [&str; 3] = ["influxdb-2", "influxdb-1", "elasticsearch-small-8"];

/// The boards in the sources that this was built from.
const BOARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dashboards");

/// A point stands up to a tenth of its interval behind the begin of that, and so maybe behind the agent's end.
const POINTS_BEHIND_MS: i64 = 1_000;

/// Who answers the queries of a board.
trait Reader {
    /// Runs one; returns what the server answered, but for what is around it.
    fn raw(&self, target: &board::Target, fill: &board::Fill) -> Result<Value>;

    /// Runs one.
    fn ask(&self, panel: &Panel, target: &board::Target, fill: &board::Fill) -> Result<Answer>;

    /// The values that a variable offers.
    fn values(&self, variable: &board::Variable, fill: &board::Fill) -> Result<Vec<String>>;

    /// Chosen values as Grafana writes them into a query.
    fn chosen(&self, values: &[String]) -> String;
}

/// With what the variables find that nobody chooses, for the time and the choices of `fill`.
fn settled(board: &Board, reader: &dyn Reader, fill: board::Fill) -> Result<board::Fill> {
    board.found().try_fold(fill, |fill, variable| {
        let values = reader.values(variable, &fill);
        let values = values.with_context(|| format!("the variable {}", variable.name()))?;
        Ok(fill.with(variable.name(), &reader.chosen(&values)))
    })
}

/// Tries the boards with each server that is wanted; tells what was tried, and what came of it.
pub fn play(
    agent: &Path,
    cache: &Path,
    folder: &Path,
    is_wanted: impl Fn(&str) -> bool,
) -> impl Iterator<Item = (String, Result<()>)> {
    let are_linked = links::SERVERS.iter().all(|name| is_wanted(name));
    let wanted = SERVERS.into_iter().filter(move |name| is_wanted(name));
    let of_each = wanted.map(|name| (format!("boards/{name}"), play_with(name, agent, cache, folder)));
    let of_links = are_linked.then_some(()).into_iter();
    of_each.chain(of_links.map(|()| ("boards/links".to_owned(), links::play(agent, cache, folder))))
}

/// Starts a server without data, fills it by two agents, and tries the board that reads it.
fn play_with(name: &str, agent: &Path, cache: &Path, folder: &Path) -> Result<()> {
    let server = started(name, cache, "boards")?;
    try_board(agent, &server, &folder.join(format!("boards-{name}"))).with_context(|| server.remains())?;
    server.discard()
}

/// One without data, for something that is called so: what failed may have left its own behind.
fn started(name: &str, cache: &Path, what: &str) -> Result<Server> {
    let kind = find(name).with_context(|| format!("there is no server {name}"))?;
    // Whoever watches may be gone; the tests go on.
    let say = |words: &str| drop(writeln!(io::stdout(), "servers: {words}"));
    let installed = Cache::below(cache)?.ensure(kind, say)?;
    let home = std::env::temp_dir().join(format!("conntally-{what}-{}-{name}", std::process::id()));
    Server::start(kind, &installed, &home, &[])
}

fn try_board(agent: &Path, server: &Server, folder: &Path) -> Result<()> {
    drop(fs::remove_dir_all(folder));
    fs::create_dir_all(folder)?;
    let is_archive = is_archive(server);
    let played = play::run(agent, server, folder, is_archive)?;
    let board = Board::read(&Path::new(BOARDS).join(file_of(server)))?;
    let reader = reader_of(server)?;
    for interval_ms in board::INTERVALS_MS {
        try_panels(&board, &*reader, &played, interval_ms)
            .with_context(|| format!("in intervals of {interval_ms} ms"))?;
    }
    if !is_archive {
        try_headline(&board, &*reader, &played)?;
        top::try_top(&board, &*reader, &played)?;
    }
    try_variables(&board, &*reader, &played)
}

/// Whether it keeps finished flows.
fn is_archive(server: &Server) -> bool {
    server.access().get("database").or_else(|| server.access().get("bucket")).is_none()
}

/// The board that reads it.
fn file_of(server: &Server) -> &'static str {
    if is_archive(server) { "conntally-archive.json" } else { "conntally-live.json" }
}

fn reader_of(server: &Server) -> Result<Box<dyn Reader>> {
    Ok(if is_archive(server) {
        Box::new(elasticsearch::Cluster::of(server)?)
    } else {
        Box::new(influxql::Database::of(server)?)
    })
}

/// All panels, with everything chosen.
fn try_panels(board: &Board, reader: &dyn Reader, played: &Played, interval_ms: u64) -> Result<()> {
    let [.., told_ms] = played.told_ms;
    let fill = board.everything(interval_ms).until(told_ms + POINTS_BEHIND_MS);
    let fill = settled(board, reader, fill)?;
    for panel in board.panels() {
        let expected = expected::of(board, panel.title())
            .with_context(|| format!("nobody knows what {:?} has to show", panel.title()))?;
        if let [Expected::Together(expected)] = expected {
            let answer = together(panel, reader, &fill)?;
            check(panel, &answer, expected, played, interval_ms)
                .with_context(|| format!("{:?} shows something else: {answer:?}", panel.title()))?;
            continue;
        }
        ensure!(expected.len() == panel.targets().len(), "{:?} has another number of queries", panel.title());
        for (target, expected) in panel.targets().iter().zip(expected) {
            let answer = reader.ask(panel, target, &fill);
            let answer = answer.with_context(|| format!("{:?} cannot be asked for", panel.title()))?;
            check(panel, &answer, expected, played, interval_ms)
                .with_context(|| format!("{:?} shows something else: {answer:?}", panel.title()))?;
        }
    }
    Ok(())
}

/// What all queries of a panel return.
fn together(panel: &Panel, reader: &dyn Reader, fill: &board::Fill) -> Result<Answer> {
    let answers = panel.targets().iter().map(|target| reader.ask(panel, target, fill));
    let answers: Vec<_> = answers.collect::<Result<_>>()?;
    Ok(Answer(answers.into_iter().flat_map(|answer| answer.0).collect()))
}

fn check(
    panel: &Panel,
    answer: &Answer,
    expected: &Expected,
    played: &Played,
    interval_ms: u64,
) -> Result<()> {
    ensure!(answer.rows() > 0 || matches!(expected, Expected::Nothing), "no rows");
    expected.check(panel, answer, played, interval_ms)
}

/// The completeness over all agents is exact until the first agent has ended, a bound when the second one has, and
/// nothing when nobody has said anything for minutes.
fn try_headline(board: &Board, reader: &dyn Reader, played: &Played) -> Result<()> {
    let panel =
        board.panels().find(|panel| panel.title() == "Completeness").context("there is no such panel")?;
    let [first_ms, last_ms] = played.told_ms;
    let [interval_ms, ..] = board::INTERVALS_MS;
    let five_minutes_ms = 300_000;
    for (until_ms, is_exact, is_bound) in [
        (first_ms + 1, true, false),
        (last_ms + 1, false, true),
        (last_ms + five_minutes_ms - 1_000, false, true),
        (last_ms + five_minutes_ms + 1_000, false, false),
    ] {
        let fill = board.everything(interval_ms).until(until_ms);
        let answers = panel.targets().iter().map(|target| reader.ask(panel, target, &fill));
        let answers = answers.collect::<Result<Vec<_>>>()?;
        let shown: Vec<Vec<f64>> = answers.iter().map(|answer| answer.numbers(None).collect()).collect();
        let is_right = match shown.as_slice() {
            [exact, bound] if is_exact => *exact == [1.0] && bound.is_empty(),
            [exact, bound] => exact.is_empty() && (bound.len() == 1) == is_bound,
            _ => false,
        };
        ensure!(is_right, "the completeness shows {shown:?} {} ms after the end", until_ms - last_ms);
    }
    Ok(())
}

/// Each variable offers something; where no flow has two of its values, what these choose adds up to everything, and
/// where one may have, each chooses something and none more than there is.
fn try_variables(board: &Board, reader: &dyn Reader, played: &Played) -> Result<()> {
    let (title, expected) = expected::narrowed(board);
    let panel = board.panels().find(|panel| panel.title() == title).context("there is no such panel")?;
    let target = panel.targets().first().context("it has no query")?;
    let [interval_ms, ..] = board::INTERVALS_MS;
    for variable in board.variables() {
        let values = reader.values(variable, &board.everything(interval_ms))?;
        ensure!(!values.is_empty(), "the variable {} offers nothing", variable.name());
        let mut sum = 0.0;
        for value in &values {
            let fill = board
                .everything(interval_ms)
                .with(variable.name(), &reader.chosen(std::slice::from_ref(value)));
            let answer = reader.ask(panel, target, &fill)?;
            let part = expected.measured(panel, &answer)?;
            ensure!(part > 0.0, "{} = {value} chooses nothing", variable.name());
            ensure!(
                part <= expected.whole(played),
                "{} = {value} chooses more than there is",
                variable.name()
            );
            sum += part;
        }
        // Both ends of a flow have a network, and not every end has one.
        let is_apart = variable.name() != "network";
        ensure!(!is_apart || sum == expected.whole(played), "{values:?} of {} miss some", variable.name());
    }
    Ok(())
}
