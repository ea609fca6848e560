//! Plays the cases that every sink must pass, with the agent and real servers.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use conntally_servers::{Cache, Kind, Server, find};
use conntally_sink_tests::boards;
use conntally_sink_tests::case::{self, Case};
use conntally_sink_tests::scene::Scene;
use conntally_sink_tests::subject::{self, Subject};

/// What every sink must do, tried with real servers.
#[derive(Parser)]
struct Options {
    /// The agent's binary
    #[arg(long)]
    agent: PathBuf,
    /// The project's cache, in which servers are built
    #[arg(long)]
    cache: PathBuf,
    /// Where configurations, logs and outputs go
    #[arg(long)]
    out: PathBuf,
    /// Only this sink, by its name in the table
    #[arg(long)]
    sink: Vec<String>,
    /// Only this case
    #[arg(long)]
    case: Vec<String>,
    /// Only with this server
    #[arg(long)]
    server: Vec<String>,
    /// Each sink with all its servers instead of its usual ones
    #[arg(long)]
    full: bool,
}

/// So many parts are played at once: their cases mostly wait.
const AT_ONCE: usize = 3;

/// How often agents are killed with `--full`, unless this variable says otherwise.
const MANY_KILLS: usize = 50;
const KILLS_VARIABLE: &str = "CONNTALLY_TEST_KILLS";

/// How many cases ended how.
#[derive(Default)]
struct Tally {
    passed: AtomicU32,
    failed: Mutex<Vec<String>>,
    left_out: AtomicU32,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let tally = Tally::default();
    let registered = registered(&options.agent, &options.out)?;
    let wants_boards = chosen(&options.sink, "boards") && chosen(&options.case, "boards");
    let is_wanted = |server: &str| wants_boards && chosen(&options.server, server);
    for (name, result) in boards::play(&options.agent, &options.cache, &options.out, is_wanted) {
        tally.note(&name, result)?;
    }
    tally.note("every-sink-is-in-the-table", covered(&registered))?;
    let is_played = |subject: &&&dyn Subject| {
        chosen(&options.sink, subject.name()) && registered.contains(subject.sink())
    };
    let subjects = subject::ALL.iter().filter(is_played).copied();
    play_all(&options, subjects.flat_map(|subject| parts(&options, subject)), &tally)?;
    let (passed, left_out) = (tally.passed.into_inner(), tally.left_out.into_inner());
    let failed = tally.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut out = io::stdout().lock();
    writeln!(out, "\n{passed} passed, {} failed, {left_out} not applicable", failed.len())?;
    for name in &failed {
        writeln!(out, "  {name}")?;
    }
    Ok(if failed.is_empty() && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Tally {
    fn note(&self, name: &str, result: Result<()>) -> Result<()> {
        let mut out = io::stdout().lock();
        match result {
            Ok(()) => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                writeln!(out, "test {name} ... ok")?;
            }
            Err(error) => {
                writeln!(out, "test {name} ... FAILED\n{}\n", indented(&format!("{error:#}")))?;
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
            }
        }
        Ok(())
    }
}

/// A sink with one of its servers, or with none if it has none.
type Part = (&'static dyn Subject, Option<&'static str>);

/// The parts of a sink that are wanted.
fn parts(options: &Options, subject: &'static dyn Subject) -> Vec<Part> {
    if subject.servers().is_empty() {
        return if options.server.is_empty() { vec![(subject, None)] } else { Vec::new() };
    }
    let cases = || case::ALL.iter().filter(|case| chosen(&options.case, case.name));
    let is_played = |server: &&&str| cases().any(|case| is_played_with(options, subject, server, case));
    let wanted = subject.servers().iter().filter(|name| chosen(&options.server, name)).filter(is_played);
    wanted.map(|name| (subject, Some(*name))).collect()
}

/// Whether a case is played with a server: the usual ones of the sink play all, others what they are there for.
fn is_played_with(options: &Options, subject: &dyn Subject, server: &str, case: &Case) -> bool {
    let is_usual = || subject.servers().iter().take(subject.kinds()).any(|usual| *usual == server);
    options.full || !options.server.is_empty() || is_usual() || case.also == Some(server)
}

/// Several parts at a time, each in a thread.
fn play_all(options: &Options, parts: impl Iterator<Item = Part> + Send, tally: &Tally) -> Result<()> {
    let parts = Mutex::new(parts);
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(part) = next() {
            play_part(options, part, tally)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a case panicked: see above"),
        })
    })
}

/// The server is started once for all cases.
fn play_part(options: &Options, (subject, server): Part, tally: &Tally) -> Result<()> {
    let Some(name) = server else {
        return play_cases(options, subject, None, tally).map(drop);
    };
    let kind = find(name).with_context(|| format!("there is no server {name}"))?;
    match start(options, subject, kind) {
        Ok(mut server) => {
            let all_passed = play_cases(options, subject, Some(&mut server), tally)?;
            let ended = if all_passed { server.discard() } else { left(server) };
            tally.note(&format!("{}/{name}/stops", subject.name()), ended)
        }
        Err(error) => tally.note(&format!("{}/{name}/starts", subject.name()), Err(error)),
    }
}

/// A server with no data.
fn start(options: &Options, subject: &dyn Subject, kind: &'static dyn Kind) -> Result<Server> {
    let installed = Cache::below(&options.cache)?.ensure(kind, |words| {
        // Whoever watches may be gone; the tests go on.
        drop(writeln!(io::stdout(), "servers: {words}"));
    })?;
    let name = format!("conntally-sinks-{}-{}-{}", std::process::id(), subject.name(), kind.name());
    let home = std::env::temp_dir().join(name);
    Server::start(kind, &installed, &home, &[])
}

/// Stops a server with which a case failed, and says where its remains are.
fn left(mut server: Server) -> Result<()> {
    server.stop()?;
    writeln!(io::stdout(), "servers: {}", server.remains())?;
    Ok(())
}

/// Held while a case is played: one that measures time waits until no other is, and others wait for it.
#[expect(dead_code, reason = "they only have to be held")]
enum Rest {
    Alone(RwLockWriteGuard<'static, ()>),
    Shared(RwLockReadGuard<'static, ()>),
}

impl Rest {
    fn before(case: &Case) -> Self {
        static PLAYED: RwLock<()> = RwLock::new(());
        if case.is_alone {
            return Self::Alone(PLAYED.write().unwrap_or_else(PoisonError::into_inner));
        }
        Self::Shared(PLAYED.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns whether all of them passed.
fn play_cases(
    options: &Options,
    subject: &'static dyn Subject,
    mut server: Option<&mut Server>,
    tally: &Tally,
) -> Result<bool> {
    let mut all_passed = true;
    let place = server.as_ref().map_or(String::new(), |server| format!("{}/", server.kind().name()));
    let with = server.as_ref().map_or("", |server| server.kind().name());
    let is_played = |case: &&Case| with.is_empty() || is_played_with(options, subject, with, case);
    for case in case::ALL.iter().filter(|case| chosen(&options.case, case.name)).filter(is_played) {
        let name = format!("{}/{place}{}", subject.name(), case.name);
        if let Some(why) = subject.lacks(case.name, with).or_else(|| forbidden(options, subject, case)) {
            tally.left_out.fetch_add(1, Ordering::Relaxed);
            writeln!(io::stdout(), "test {name} ... not applicable: {why}")?;
        } else if server.is_some() || !case.needs_server {
            let _rest = Rest::before(case);
            let begin = Instant::now();
            let result = play(options, subject, server.as_deref_mut(), case);
            all_passed &= result.is_ok();
            let name = format!("{name} ({:.1} s)", begin.elapsed().as_secs_f32());
            tally.note(&name, result.with_context(|| format!("it must be so: {}", case.must)))?;
        }
    }
    Ok(all_passed)
}

/// Why a case is left out: one that measures time says nothing on a busy machine, and one that needs root says nothing to
/// others, where it may be left out.
fn forbidden(options: &Options, subject: &dyn Subject, case: &Case) -> Option<&'static str> {
    let is_everyday = case.usual.is_none_or(|usual| usual.contains(&subject.name()));
    if !is_everyday && !options.full && options.case.is_empty() {
        return Some("it takes long: ask for it by --case, or --full");
    }
    if case.is_alone && !options.full && options.case.is_empty() {
        return Some("it measures time: ask for it by --case, or --full");
    }
    let is_left_out = case.needs_root
        && !nix::unistd::geteuid().is_root()
        && std::env::var_os("REQUIRE_ROOT_TESTS").is_none();
    is_left_out.then_some("it needs root for network namespaces")
}

/// How often agents are killed that are killed again and again.
fn kills(options: &Options) -> Result<Option<usize>> {
    match std::env::var(KILLS_VARIABLE) {
        Ok(text) => text.parse().map(Some).with_context(|| format!("{KILLS_VARIABLE} is no number: {text}")),
        Err(_) => Ok(options.full.then_some(MANY_KILLS)),
    }
}

fn play(
    options: &Options,
    subject: &'static dyn Subject,
    server: Option<&mut Server>,
    case: &Case,
) -> Result<()> {
    let mut scene = Scene::set(&options.agent, subject, server, &options.out)?;
    if let Some(kills) = kills(options)? {
        scene.endure(kills);
    }
    let result = case.play(&mut scene);
    // Whatever became of it, the next case needs a server.
    if let Ok(server) = scene.server() {
        match server.pid() {
            None => server.resume()?,
            // The case may have ended while it was held.
            Some(_) => server.thaw()?,
        }
    }
    if result.is_ok() {
        drop(std::fs::remove_dir_all(scene.folder()));
    }
    result
}

/// The types of sinks that the agent knows, in its own words about one that it does not.
fn registered(agent: &Path, folder: &Path) -> Result<BTreeSet<String>> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join("wrong.toml");
    std::fs::write(&file, "[sinks.x]\ntype = \"?\"\n")?;
    let output = Command::new(agent).args(["config", "validate", "--config"]).arg(&file).output()?;
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let names = types(&text);
    ensure!(names.len() > 1, "the agent does not tell its types of sinks: {text}");
    Ok(names)
}

/// The names that its message lists.
fn types(text: &str) -> BTreeSet<String> {
    let list = text.split_once("is not one of ").map_or("", |(_, list)| list);
    let list = list.split(['\n', ';']).next().unwrap_or_default();
    list.split(", ")
        .map(|name| name.trim_matches(['"', '.', ' ']).to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

fn covered(registered: &BTreeSet<String>) -> Result<()> {
    let known: BTreeSet<_> = subject::ALL.iter().map(|subject| subject.sink()).collect();
    let missing: Vec<_> = registered.iter().filter(|name| !known.contains(name.as_str())).collect();
    if !missing.is_empty() {
        bail!("no case is played with these sinks; put them into tests/sinks/src/subject: {missing:?}");
    }
    Ok(())
}

fn chosen(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|chosen| chosen == name)
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["    ", line, "\n"]).collect()
}
