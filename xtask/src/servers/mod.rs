//! `cargo xtask servers`: real servers on loopback, to be worked with or to be tested against.

pub(crate) mod conformance;
mod own;

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use conntally_servers::state::{self, Entry};
use conntally_servers::{ALL, Cache, Kind, Server, find};

use crate::paths::Paths;

/// What to do with servers.
#[derive(clap::Subcommand)]
pub(crate) enum Task {
    /// Build (once) and start servers, and leave them running; without names one of each kind
    Up(Names),
    /// Stop servers and remove their data; without names all that run
    Down(Names),
    /// Tell which servers there are, which are built, which run and how to talk to them
    Status,
    /// Try every sink against real servers and a proxy that misbehaves
    Test(conformance::Options),
    /// Only build servers; without names one of each kind
    Build(Names),
}

/// Which servers.
#[derive(clap::Args)]
pub(crate) struct Names {
    /// Names, as `status` tells them
    names: Vec<String>,
    /// All servers instead of one of each kind
    #[arg(long, conflicts_with = "names")]
    full: bool,
}

/// One of each kind: what CI builds and tests with.
pub(crate) const ONE_OF_EACH: &[&str] =
    &["influxdb-2", "influxdb-1", "elasticsearch-small-8", "opensearch-2", "telegraf"];

/// Does it.
pub(crate) fn run(paths: &Paths, task: Task) -> Result<()> {
    match task {
        Task::Up(names) => up(paths, &names.chosen()?).map(drop),
        Task::Down(names) => down(paths, &names.names),
        Task::Status => status(paths),
        Task::Test(options) => test(paths, &options),
        Task::Build(names) => build(paths, &names.chosen()?),
    }
}

impl Names {
    fn chosen(&self) -> Result<Vec<&'static dyn Kind>> {
        if self.full {
            return Ok(ALL.to_vec());
        }
        if self.names.is_empty() {
            return ONE_OF_EACH.iter().map(|name| known(name)).collect();
        }
        self.names.iter().map(|name| known(name)).collect()
    }
}

/// The server of that name.
pub(crate) fn known(name: &str) -> Result<&'static dyn Kind> {
    find(name).with_context(|| {
        let names: Vec<_> = ALL.iter().map(|kind| kind.name()).collect();
        format!("there is no server {name}, but {}", names.join(", "))
    })
}

/// Builds what is not there.
pub(crate) fn build(paths: &Paths, kinds: &[&'static dyn Kind]) -> Result<()> {
    let cache = Cache::below(&paths.cache)?;
    for kind in kinds {
        cache.ensure(*kind, say)?;
    }
    Ok(())
}

fn test(paths: &Paths, options: &conformance::Options) -> Result<()> {
    let counted = conformance::run(paths, options)?;
    if counted.failed > 0 {
        bail!("{} cases failed", counted.failed);
    }
    Ok(())
}

fn say(words: &str) {
    println!("servers: {words}");
}

/// Has servers run, also those that run already, and shows how to talk to them.
pub(crate) fn up(paths: &Paths, kinds: &[&'static dyn Kind]) -> Result<Vec<Entry>> {
    let cache = Cache::below(&paths.cache)?;
    let file = state_file(paths);
    let mut running = Vec::new();
    for kind in kinds {
        let mut entries = state::read(&file)?;
        entries.retain(Entry::is_running);
        let known = entries.iter().find(|entry| entry.name == kind.name()).cloned();
        let entry = match known {
            Some(entry) => entry,
            None => {
                let entry = start(&cache, *kind)?;
                entries.push(entry.clone());
                state::write(&file, &entries)?;
                entry
            }
        };
        show(&entry);
        running.push(entry);
    }
    Ok(running)
}

/// Builds a server if need be, starts it and lets it run.
fn start(cache: &Cache, kind: &'static dyn Kind) -> Result<Entry> {
    let installed = cache.ensure(kind, say)?;
    let home = std::env::temp_dir().join(format!("conntally-{}-{}", kind.name(), std::process::id()));
    let start = Instant::now();
    let server = Server::start(kind, &installed, &home, &[])?;
    say(&format!("{} is up after {:.1} s", kind.name(), start.elapsed().as_secs_f32()));
    Entry::leave(server)
}

fn down(paths: &Paths, names: &[String]) -> Result<()> {
    let file = state_file(paths);
    let entries = state::read(&file)?;
    let (stopped, kept): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| names.is_empty() || names.contains(&entry.name));
    if let Some(name) = names.iter().find(|name| !stopped.iter().any(|entry| entry.name == **name)) {
        bail!("{name} was not started here");
    }
    for (done, entry) in stopped.iter().enumerate() {
        entry.stop()?;
        say(&format!("{} is down", entry.name));
        let left: Vec<_> = stopped.iter().skip(done + 1).chain(&kept).cloned().collect();
        state::write(&file, &left)?;
    }
    Ok(())
}

fn status(paths: &Paths) -> Result<()> {
    let cache = Cache::below(&paths.cache)?;
    let entries = state::read(&state_file(paths))?;
    for kind in ALL {
        let built = if cache.built(*kind).is_some() { "built" } else { "not built" };
        println!("{:<22} {:<28} {built:<10} {}", kind.name(), kind.release(), kind.purpose());
    }
    entries.iter().for_each(show);
    Ok(())
}

fn show(entry: &Entry) {
    let how = if entry.is_running() { "runs" } else { "has ended" };
    println!("{} {how}: process {}, log {}", entry.name, entry.pid, entry.log.display());
    for (name, value) in &entry.access {
        println!("  {name} = {value}");
    }
}

fn state_file(paths: &Paths) -> std::path::PathBuf {
    paths.target.join("servers.json")
}
