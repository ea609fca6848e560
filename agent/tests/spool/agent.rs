//! The agent as a process: replays a recording into a sink with a spool.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use conntally::model::ObservationKind;
use conntally::source::Batch;
use conntally::source::replay::RecordingWriter;
use conntally::source::replay::format::Header;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::server::Server;
use crate::ports_of_flows::{SINCE, sight};

/// Everything of one test: the server's address, the spool, what the agent said.
pub(crate) struct Lab {
    folder: TempDir,
    pub(crate) spool: PathBuf,
    config: String,
    /// Another sink.
    watching: String,
}

/// What an agent says that has read all and still delivers.
pub(crate) const READ_TO_ITS_END: &str = "the recording was read to its end";

/// An agent that runs; killed when dropped.
pub(crate) struct Agent {
    child: Child,
    log: PathBuf,
}

impl Lab {
    /// Spools go below the folder, if there is one.
    pub(crate) fn new(server: &Server, spools: Option<&Path>) -> Self {
        let folder = TempDir::new().unwrap();
        let spool = spools.unwrap_or(folder.path()).join("spool");
        let config = format!(
            "shutdown_timeout = \"40s\"\n[sinks.live]\ntype = \"influxdb\"\nversion = 1\nurl = \"http://{}\"\n\
             database = \"flows\"\nper_flow = true\ncompress = false\nqueue_records = 1024\nbatch_records = 100\n\
             batch_age = \"20ms\"\ntimeout = \"30s\"\nretry_max = \"1s\"\nwhen_full = \"spool\"\n\
             status = false\nspool = {{ dir = \"{}\", segment_bytes = \"1MiB\" }}\n",
            server.address,
            spool.display()
        );
        Self { folder, spool, config, watching: String::new() }
    }

    /// With agents whose shutdown may take a second.
    pub(crate) fn hasty(mut self) -> Self {
        self.config = self.config.replacen("\"40s\"", "\"1s\"", 1);
        self
    }

    /// With agents that write to this database.
    pub(crate) fn into_database(mut self, name: &str) -> Self {
        self.config = self.config.replacen("database = \"flows\"", &format!("database = \"{name}\""), 1);
        self
    }

    /// With another sink, to which the agent tells how it is doing.
    pub(crate) fn watched_by(mut self, server: &Server) -> Self {
        self.watching = format!(
            "[sinks.watching]\ntype = \"influxdb\"\nversion = 1\nurl = \"http://{}\"\ndatabase = \"flows\"\n\
             compress = false\n",
            server.address
        );
        self
    }

    /// Starts an agent that reads so many flows; each is told of when it is born and when it ends.
    pub(crate) fn replay(&self, flows: u16) -> Agent {
        let path = |name: &str| self.folder.path().join(name);
        fs::write(path("conntally.toml"), format!("{}{}", self.config, self.watching)).unwrap();
        fs::write(path("recording"), recording(flows)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_conntally"));
        command.arg("replay").arg(path("recording")).arg("--config").arg(path("conntally.toml"));
        let command = command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(File::create(path("log")).unwrap()).spawn().unwrap();
        Agent { child, log: path("log") }
    }

    /// Waits until the spool has not grown for a while: nothing of the recording is left in memory.
    pub(crate) fn wait_until_spooled(&self) {
        let mut before = 0;
        loop {
            sleep(Duration::from_millis(700));
            let now = bytes(&self.spool);
            if now == before && now > 0 {
                return;
            }
            before = now;
        }
    }
}

fn bytes(dir: &Path) -> u64 {
    let Ok(files) = fs::read_dir(dir) else { return 0 };
    files.flatten().map(|file| file.metadata().map_or(0, |data| data.len())).sum()
}

impl Agent {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until its log holds some words.
    pub(crate) fn wait_for(&self, words: &str) {
        self.wait_until(words, || self.log().contains(words));
    }

    pub(crate) fn wait_until(&self, what: &str, happened: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !happened() {
            assert!(Instant::now() < deadline, "waited in vain for {what}:\n{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and returns its log. Once it has read its recording it is asked to stop: then it leaves in its
    /// spool what the server does not take.
    pub(crate) fn finish(self) -> String {
        self.ended(true)
    }

    /// Waits until it ends by itself, and returns its log.
    pub(crate) fn finish_unasked(self) -> String {
        self.ended(false)
    }

    fn ended(mut self, is_to_be_asked: bool) -> String {
        let deadline = Instant::now() + Duration::from_secs(90);
        let mut is_asked = !is_to_be_asked;
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            if !is_asked && self.log().contains(READ_TO_ITS_END) {
                is_asked = true;
                kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
            }
            sleep(Duration::from_millis(10));
        };
        let log = self.log();
        assert!(status.success(), "{log}");
        log
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn recording(flows: u16) -> Vec<u8> {
    let header = Header { boot_id: [7; 16], accounting_since: SINCE };
    let mut writer = RecordingWriter::new(Vec::new(), &header).unwrap();
    let ports: Vec<u16> = (1..=flows).collect();
    for (kind, packets) in [(ObservationKind::New, 1), (ObservationKind::End, 9)] {
        for ports in ports.chunks(500) {
            let observations = ports.iter().map(|port| sight(kind, *port, packets)).collect();
            writer.write(&Batch { observations, settled: true, look: None }, SINCE).unwrap();
        }
    }
    writer.finish().unwrap()
}
