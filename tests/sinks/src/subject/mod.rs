//! The sinks under test: how each is configured, and how to ask its server what it has stored.

mod elasticsearch;
mod influxdb;
mod local;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use conntally_servers::Access;

use crate::agent::Ended;
use crate::sum::Sum;

/// A sink in one of its shapes.
pub trait Subject: Sync {
    /// What it is called here.
    fn name(&self) -> &'static str;

    /// The `type` in the configuration.
    fn sink(&self) -> &'static str;

    /// The servers that it is tried with, the usual ones first; none for a sink that has no server.
    fn servers(&self) -> &'static [&'static str];

    /// How many of them are usual ones, with which every case is played each time: one of each kind.
    fn kinds(&self) -> usize {
        1
    }

    /// What the path of a request that writes has in it.
    fn word(&self) -> &'static str;

    /// Makes an empty place for one case.
    ///
    /// # Errors
    /// When the server refuses.
    fn prepare(&self, target: &Target<'_>) -> Result<()>;

    /// The lines of its table in the configuration, but for the `type`.
    fn configuration(&self, target: &Target<'_>, url: &str, authority: Option<&Path>) -> String;

    /// Whether its configuration has a token, a password or a key, which a log must not tell.
    fn is_told_a_secret(&self) -> bool {
        !self.servers().is_empty()
    }

    /// Further lines of it for cases that need a record of each of many flows.
    fn apart(&self) -> &'static str {
        ""
    }

    /// What is stored; `None` where nobody can tell.
    ///
    /// # Errors
    /// When the server does not tell.
    fn stored(&self, target: &Target<'_>) -> Result<Option<Sum>>;

    /// How many flows somebody finds who asks now, without asking the server to hurry.
    ///
    /// # Errors
    /// When the server does not tell.
    fn found(&self, target: &Target<'_>) -> Result<u64> {
        Ok(self.stored(target)?.map_or(0, |stored| stored.flows))
    }

    /// How long after the agent has ended something may still be stored.
    fn settles_within(&self) -> Duration {
        Duration::ZERO
    }

    /// How many flows may come at once, so that none is lost on a way that loses what comes too fast.
    fn most_flows(&self) -> u64 {
        u64::MAX
    }

    /// The same of a sink without a server, by what the agent printed.
    fn printed(&self, _ended: &Ended) -> Option<Sum> {
        None
    }

    /// Makes the server refuse some of what is going to be written, for ever.
    ///
    /// # Errors
    /// When the server does not let itself be set up so.
    fn poison(&self, target: &Target<'_>) -> Result<()>;

    /// What its server keeps records in, where that can be seen from outside.
    fn indices(&self) -> Option<&dyn Indices> {
        None
    }

    /// Limits that its server keeps by itself.
    fn narrow(&self) -> Option<Narrow> {
        None
    }

    /// Makes an empty place for a case with these limits, where the usual one would not do.
    ///
    /// # Errors
    /// When the server refuses.
    fn prepare_narrow(&self, _: &Target<'_>) -> Result<()> {
        Ok(())
    }

    /// Keys that its server tells apart, if it asks for one.
    ///
    /// # Errors
    /// When the server makes none.
    fn keys(&self, _: &Target<'_>) -> Result<Option<Keys>> {
        Ok(None)
    }

    /// Why it cannot play a case with a server, if so.
    fn lacks(&self, _case: &str, _server: &str) -> Option<&'static str> {
        None
    }
}

/// Limits so low that a case meets them.
#[derive(Clone, Copy, Debug)]
pub struct Narrow {
    /// Settings of a server that is started for the case; none where the usual one has the limits already.
    pub settings: &'static [&'static str],
    /// The name of the address in what a client has to know.
    pub url: &'static str,
    /// Lines for the table of the sink.
    pub lines: &'static str,
    /// Flows that come.
    pub flows: u64,
    /// What the server has to answer by itself at least once.
    pub statuses: &'static [u16],
    /// What the agent has to say of it.
    pub told: &'static [&'static str],
}

/// What a server says to keys.
#[derive(Clone, Debug)]
pub struct Keys {
    /// May write.
    pub right: String,
    /// May not, each with what the agent has to say of it.
    pub wrong: Vec<(String, &'static [&'static str])>,
}

/// Indices of a server, one behind the other.
pub trait Indices {
    /// What comes from now on goes into another index.
    ///
    /// # Errors
    /// When the server refuses.
    fn roll_over(&self, target: &Target<'_>) -> Result<()>;

    /// Has all of them refuse to be written to, or no longer.
    ///
    /// # Errors
    /// When the server refuses.
    fn block(&self, target: &Target<'_>, is_blocked: bool) -> Result<()>;
}

/// Where one case writes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// How to talk to the server.
    pub access: &'a Access,
    /// Where it is.
    pub address: SocketAddr,
    /// Tells this case from all others: lower-case letters and digits.
    pub tag: &'a str,
    /// The file in which the agent finds its token, password or key, if it is not in the configuration itself.
    pub key_file: Option<&'a Path>,
}

impl<'a> Target<'a> {
    /// What a client has to know, empty if there is no such thing.
    pub(crate) fn access(&self, name: &str) -> &'a str {
        self.access.get(name).map_or("", String::as_str)
    }

    /// The line of a configuration that tells a token, password or key, or where it is.
    pub(crate) fn key(&self, name: &str, value: &str) -> String {
        match self.key_file {
            Some(file) => format!("{name}_file = \"{}\"\n", file.display()),
            None => format!("{name} = \"{value}\"\n"),
        }
    }
}

/// All of them.
pub const ALL: &[&dyn Subject] = &[
    &influxdb::InfluxDb::TWO,
    &influxdb::InfluxDb::ONE,
    &influxdb::InfluxDb::GROUPED,
    &influxdb::InfluxDb::TELEGRAF,
    &influxdb::InfluxDb::UDP,
    &elasticsearch::Elasticsearch,
    &local::Stdio::Stdout,
    &local::Stdio::Stderr,
    &local::Null,
];
