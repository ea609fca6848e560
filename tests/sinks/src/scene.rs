//! One case with one sink: its folder, its place on the server, the proxy in between.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use conntally_servers::{Access, Server};

use crate::agent::{Agent, Ended};
use crate::feed::{self, Feed};
use crate::proxy::{Certificate, Proxy};
use crate::subject::{Subject, Target};
use crate::sum::Sum;

const POLL: Duration = Duration::from_millis(20);

/// How long an agent may take to deliver what it has; more than it is allowed itself.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// Settings of every agent here: impatient, so that a case takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const IMPATIENT: &str = "batch_age = \"50ms\"\ntimeout = \"2s\"\nretry_max = \"1s\"\n";

/// An impatient agent that has something to deliver has tried again by then.
const STILL: Duration = Duration::from_secs(5);

/// How often a case kills agents that it kills again and again.
const KILLS: usize = 5;

/// What a case plays with.
pub struct Scene<'a> {
    program: &'a Path,
    subject: &'static dyn Subject,
    server: Option<&'a mut Server>,
    proxy: Option<Proxy>,
    folder: PathBuf,
    tag: String,
    patience: Duration,
    elsewhere: Option<String>,
    key_file: Option<PathBuf>,
    /// All that was in that file.
    keys: Vec<String>,
    kills: usize,
}

/// An agent and what it is fed with.
#[derive(Debug)]
pub struct Run {
    /// It reads the recording, and delivers.
    pub agent: Agent,
    /// The recording.
    pub feed: Feed,
}

impl<'a> Scene<'a> {
    /// Makes the folder and the place on the server.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub fn set(
        program: &'a Path,
        subject: &'static dyn Subject,
        server: Option<&'a mut Server>,
        folder: &Path,
    ) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("t{}x{number}", std::process::id());
        let mut scene = Self {
            program,
            subject,
            server,
            proxy: None,
            folder: folder.join(&tag),
            tag,
            patience: PATIENCE,
            elsewhere: None,
            key_file: None,
            keys: Vec::new(),
            kills: KILLS,
        };
        fs::create_dir_all(&scene.folder)?;
        if scene.server.is_some() {
            subject.prepare(&scene.target()).context("the server cannot be set up for the case")?;
            scene.proxy = Some(Proxy::start(scene.target().address, subject.word())?);
        }
        Ok(scene)
    }

    /// The same case with another server.
    ///
    /// # Errors
    /// See [`Scene::set`].
    pub fn with_server<'b>(&'b self, server: &'b mut Server) -> Result<Scene<'b>> {
        Scene::set(self.program, self.subject, Some(server), &self.folder)
    }

    /// Has the proxy lead to another address of the server, by its name in what a client has to know.
    ///
    /// # Errors
    /// When there is no such address, or the proxy cannot listen.
    pub fn lead_to(&mut self, name: &str) -> Result<()> {
        let url = self.target().access(name);
        let address = url.rsplit('/').next().unwrap_or_default();
        let address = address.parse().with_context(|| format!("{name} is no address: {url}"))?;
        self.proxy = Some(Proxy::start(address, self.subject.word())?);
        Ok(())
    }

    /// Puts a token, password or key into a file, which the configuration names from then on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn hand_over(&mut self, key: &str) -> Result<()> {
        let file = self.folder.join("key");
        // Never seen half-written.
        let new = file.with_extension("new");
        fs::write(&new, key)?;
        fs::rename(&new, &file)?;
        self.keys.push(key.to_owned());
        self.key_file = Some(file);
        Ok(())
    }

    /// How long an agent may try to deliver when it is to end, instead of a minute.
    pub const fn hurry(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// How often an agent is killed by a case that does it again and again.
    pub const fn endure(&mut self, kills: usize) {
        self.kills = kills;
    }

    /// The same, as it was set.
    #[must_use]
    pub const fn kills(&self) -> usize {
        self.kills
    }

    /// Agents are told to write there, and not to the proxy.
    pub fn point_at(&mut self, url: impl Into<String>) {
        self.elsewhere = Some(url.into());
    }

    /// Replaces the proxy by one with TLS.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn secure(&mut self, certificate: Certificate) -> Result<()> {
        let (upstream, word) = (self.target().address, self.subject.word());
        self.proxy = Some(Proxy::start_tls(upstream, word, certificate, &self.folder)?);
        Ok(())
    }

    /// The proxy.
    ///
    /// # Errors
    /// When the sink has no server.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_ref().context("this sink has no server")
    }

    /// The server.
    ///
    /// # Errors
    /// When the sink has none.
    pub fn server(&mut self) -> Result<&mut Server> {
        self.server.as_deref_mut().context("this sink has no server")
    }

    /// The sink.
    #[must_use]
    pub const fn subject(&self) -> &'static dyn Subject {
        self.subject
    }

    /// Where the files of this case are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts an agent; more lines for the table of its sink may be given, which win over ours.
    ///
    /// # Errors
    /// When it does not start or read.
    pub fn start(&self, lines: &str) -> Result<Run> {
        let configuration = self.folder.join("conntally.toml");
        fs::write(&configuration, self.configuration(lines))?;
        let recording = self.folder.join("recording");
        drop(fs::remove_file(&recording));
        feed::make(&recording)?;
        let agent = Agent::replay(self.program, &recording, &configuration, &self.folder)?;
        let feed = Feed::open(&recording).with_context(|| format!("its log:\n{}", agent.log()))?;
        Ok(Run { agent, feed })
    }

    /// Starts one that follows live traffic instead, with its state below the case's folder; its settings are written as
    /// for a replay.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn follow(&self, lines: &str) -> Result<Agent> {
        let configuration = self.folder.join("conntally.toml");
        fs::write(&configuration, self.configuration(lines))?;
        Agent::live(self.program, &self.folder.join("state"), &configuration, &self.folder)
    }

    /// Ends a live agent in good order, and finds no secret in its log.
    ///
    /// # Errors
    /// When it does not end so.
    pub fn stop(&self, agent: Agent) -> Result<Ended> {
        agent.terminate()?;
        let ended = self.ended(agent)?;
        ensure!(ended.success, "the agent failed; its log:\n{}", ended.log);
        Ok(ended)
    }

    /// Ends the recording, waits until the agent has ended in good order, and finds no secret in its log.
    ///
    /// # Errors
    /// When that is not so.
    pub fn finish(&self, run: Run) -> Result<(Ended, Sum)> {
        let (ended, ledger) = self.end(run)?;
        ensure!(ended.success, "the agent failed; its log:\n{}", ended.log);
        Ok((ended, ledger))
    }

    /// The same, whatever its exit code.
    ///
    /// # Errors
    /// When it does not end, or tells a secret.
    pub fn end(&self, run: Run) -> Result<(Ended, Sum)> {
        let ledger = run.feed.end();
        Ok((self.ended(run.agent)?, ledger))
    }

    fn ended(&self, agent: Agent) -> Result<Ended> {
        let ended = agent.wait(ENDS_WITHIN)?;
        let configuration = fs::read_to_string(self.folder.join("conntally.toml"))?;
        let mut secrets = secrets(&configuration);
        secrets.extend(self.keys.iter().map(|key| ("key in the file", key.as_str())));
        ensure!(
            !secrets.is_empty() || !self.subject.is_told_a_secret(),
            "there is no secret in {configuration}"
        );
        for (name, secret) in secrets {
            ensure!(!tells(&ended.log, secret), "the log tells the {name}:\n{}", ended.log);
        }
        Ok(ended)
    }

    /// Says something beside whether the case passes.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn say(&self, words: &str) -> Result<()> {
        let server = self.server.as_ref().map_or("", |server| server.kind().name());
        Ok(writeln!(io::stdout(), "{}/{server}: {words}", self.subject.name())?)
    }

    /// How many flows the server finds at this moment.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn found(&self) -> Result<u64> {
        self.subject.found(&self.target())
    }

    /// What the server has stored.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn stored(&self) -> Result<Sum> {
        self.subject.stored(&self.target())?.context("nobody can tell what is stored")
    }

    /// Compares what is stored with what it has to be.
    ///
    /// # Errors
    /// When it is not the same.
    pub fn expect_stored(&self, ledger: Sum, ended: &Ended) -> Result<()> {
        let deadline = Instant::now() + self.subject.settles_within();
        let printed = || self.subject.printed(ended);
        let stored = loop {
            let Some(stored) = self.subject.stored(&self.target())?.or_else(printed) else { return Ok(()) };
            if stored == ledger || Instant::now() >= deadline {
                break stored;
            }
            sleep(POLL);
        };
        ensure!(stored == ledger, "stored {stored}\nbut sent {ledger}\nlog of the agent:\n{}", ended.log);
        Ok(())
    }

    /// Waits for something that has to happen.
    ///
    /// # Errors
    /// When it does not in two minutes, which is more than a busy machine takes for any case.
    pub fn until(&self, what: &str, agent: &Agent, mut happened: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !happened()? {
            if Instant::now() > deadline {
                bail!("waited in vain: {what}; log of the agent:\n{}", agent.log());
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Waits as long as more is stored: the end of an agent has a deadline, and leaves what is in a spool to the next one
    /// after a single failure. Some of it may come only with the end.
    ///
    /// # Errors
    /// When the server does not tell.
    pub fn until_still(&self, ledger: Sum) -> Result<()> {
        let (mut stored, mut since) = (self.stored()?, Instant::now());
        while stored != ledger && since.elapsed() < STILL {
            // The question is work for the server, too.
            sleep(STILL / 10);
            let now = self.stored()?;
            if now != stored {
                (stored, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Where this case writes.
    ///
    /// A sink without a server writes nowhere.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        static NOTHING: Access = Access::new();
        let server = self.server.as_deref();
        Target {
            access: server.map_or(&NOTHING, Server::access),
            address: server.map_or(([127, 0, 0, 1], 9).into(), address),
            tag: &self.tag,
            key_file: self.key_file.as_deref(),
        }
    }

    fn configuration(&self, lines: &str) -> String {
        let (url, authority) =
            self.proxy.as_ref().map_or((String::new(), None), |proxy| (proxy.url(), proxy.authority()));
        let url = self.elsewhere.clone().unwrap_or(url);
        let own = self.subject.configuration(&self.target(), &url, authority);
        let impatient: String = if self.proxy.is_some() { kept(IMPATIENT, lines) } else { String::new() };
        format!(
            "shutdown_timeout = \"{}s\"\n[sinks.test]\ntype = \"{}\"\n{impatient}{}{lines}\n",
            self.patience.as_secs(),
            self.subject.sink(),
            kept(&own, lines)
        )
    }
}

/// The lines whose keys are not set by other lines.
fn kept(lines: &str, others: &str) -> String {
    let key = |line: &str| line.split(" = ").next().unwrap_or_default().to_owned();
    let is_set = |line: &&str| others.lines().any(|other| key(other) == key(line));
    lines.lines().filter(|line| !is_set(line)).flat_map(|line| [line, "\n"]).collect()
}

/// Where a server takes what sinks write.
fn address(server: &Server) -> std::net::SocketAddr {
    let url = server.access().get("url").map_or("", String::as_str);
    url.rsplit('/').next().and_then(|at| at.parse().ok()).unwrap_or_else(|| server.place().address(0))
}

/// What an agent is told by its configuration and may not tell.
fn secrets(configuration: &str) -> Vec<(&str, &str)> {
    let pairs = configuration.lines().filter_map(|line| line.split_once(" = "));
    let secrets = pairs.filter(|(name, _)| ["token", "password", "api_key"].contains(name));
    secrets
        .map(|(name, value)| (name, value.trim_matches('"')))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// Whether a secret stands in a text as a word; ours are words that may well be part of others.
fn tells(text: &str, secret: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || "-_=".contains(c);
    text.split(|c: char| !is_part(c)).any(|word| word == secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_case_win() {
        assert_eq!(kept("a = 1\nb = 2\n", "b = 3\n"), "a = 1\n");
    }

    #[test]
    fn secrets_are_those_of_the_configuration() {
        let configuration = "user = \"me\"\npassword = \"s3cret\"\ntoken = \"\"\n";
        assert_eq!(secrets(configuration), [("password", "s3cret")]);
    }

    #[test]
    fn a_secret_is_found_as_a_word() {
        assert!(tells("token: s3cret!", "s3cret") && !tells("s3cretary", "s3cret"));
    }
}
