//! The databases of `cargo xtask demo --full`: started, delivered to, asked what came, and left for Grafana.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use conntally_servers::{Request, state::Entry};

use crate::{paths::Paths, servers};

const NAMES: [&str; 2] = ["influxdb-2", "elasticsearch-small-8"];

const STREAM: &str = "logs-conntally.flow-demo";

/// Finished flows, and how complete the accounting is.
const STREAMS: &str = "logs-conntally.*-demo";

/// Of live flows, and of finished ones.
const BOARDS: [&str; 2] = ["dashboards/conntally-live.json", "dashboards/conntally-archive.json"];

/// Those that run.
pub(super) struct Databases {
    live: Entry,
    archive: Entry,
}

impl Databases {
    /// Starts them, or takes those that run already.
    pub(super) fn start(paths: &Paths) -> Result<Self> {
        let kinds: Result<Vec<_>> = NAMES.iter().map(|name| servers::known(name)).collect();
        let running: [Entry; 2] =
            servers::up(paths, &kinds?)?.try_into().ok().context("not both databases run")?;
        let [live, archive] = running;
        Ok(Self { live, archive })
    }

    /// Writes the configuration of an agent that delivers to them, and shows a table.
    pub(super) fn configure(&self, paths: &Paths) -> Result<PathBuf> {
        let file = paths.target.join("demo.toml");
        fs::write(&file, self.configuration()?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    fn configuration(&self) -> Result<String> {
        let [url, org, bucket, token] =
            ["url", "org", "bucket", "token"].map(|name| access(&self.live, name));
        let (url, org, bucket, token) = (url?, org?, bucket?, token?);
        let node = access(&self.archive, "url")?;
        Ok(format!(
            r#"[sinks.screen]
type = "stdout"
format = "table"
[sinks.live]
type = "influxdb"
url = "{url}"
org = "{org}"
bucket = "{bucket}"
token = "{token}"
[sinks.archive]
type = "elasticsearch"
urls = ["{node}"]
namespace = "demo"
setup = true
"#
        ))
    }

    /// Tells what came, and how to look at it.
    pub(super) fn tell(&self) -> Result<()> {
        let (points, documents) = (self.points()?, self.documents()?);
        println!(
            "
InfluxDB has {points} finished flows in its sums, Elasticsearch {documents} documents. Both run on until
`cargo xtask servers down`. {}",
            self.way_to_boards()?
        );
        ensure!(points > 0 && documents > 0, "nothing came to a database, see the agent's log above");
        Ok(())
    }

    /// What to enter in Grafana.
    fn way_to_boards(&self) -> Result<String> {
        let [url, org, bucket, token] =
            ["url", "org", "bucket", "token"].map(|name| access(&self.live, name));
        let (url, org, bucket, token) = (url?, org?, bucket?, token?);
        let node = access(&self.archive, "url")?;
        let [live, archive] = BOARDS;
        Ok(format!(
            "To point Grafana at them, add two data sources:

  InfluxDB       URL {url}, query language InfluxQL, database {bucket},
                 a custom header Authorization with the value `Token {token}`
                 (or Flux: organisation {org}, token {token}, default bucket {bucket})
  Elasticsearch  URL {node}, index {STREAMS}, time field @timestamp

and import the boards (Dashboards, New, Import): {live} of live flows, {archive} of
finished ones. The measurement is `flows`: try SELECT sum(source_bytes) FROM flows GROUP BY time(10s), src."
        ))
    }

    /// Finished flows in the sums of the last hour.
    fn points(&self) -> Result<u64> {
        let [bucket, token] = ["bucket", "token"].map(|name| access(&self.live, name));
        let query = "SELECT+sum(flows_ended)+FROM+flows+WHERE+time+%3E+now()-1h";
        let request = Request::new("GET", format!("/query?db={}&q={query}", bucket?));
        let request = request.header("Authorization", &format!("Token {}", token?));
        let answer = request.expect_success(address(&self.live)?)?.json()?;
        let sum = answer.pointer("/results/0/series/0/values/0/1").and_then(serde_json::Value::as_u64);
        Ok(sum.unwrap_or(0))
    }

    fn documents(&self) -> Result<u64> {
        let address = address(&self.archive)?;
        Request::new("POST", format!("/{STREAM}/_refresh")).expect_success(address)?;
        let answer = Request::new("GET", format!("/{STREAM}/_count")).expect_success(address)?.json()?;
        let count = answer.get("count").and_then(serde_json::Value::as_u64);
        count.with_context(|| format!("Elasticsearch counts nothing: {answer}"))
    }
}

fn access<'a>(server: &'a Entry, name: &str) -> Result<&'a str> {
    let value = server.access.get(name).with_context(|| format!("{} has no {name}", server.name))?;
    Ok(value)
}

fn address(server: &Entry) -> Result<SocketAddr> {
    let url = access(server, "url")?;
    let address = url.trim_start_matches("http://").parse();
    address.with_context(|| format!("{url} is no address of {}", server.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(access: &[(&str, &str)]) -> Entry {
        Entry {
            name: "test".into(),
            release: "1".into(),
            pid: 1,
            began: 1,
            home: "/x".into(),
            log: "/x.log".into(),
            access: access.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        }
    }

    fn databases() -> Databases {
        Databases {
            live: entry(&[("url", "http://127.0.0.1:1"), ("org", "o"), ("bucket", "b"), ("token", "t")]),
            archive: entry(&[("url", "http://127.0.0.1:2")]),
        }
    }

    #[test]
    fn a_person_is_told_of_both_boards_and_of_an_index_that_has_what_they_ask_for() {
        let text = databases().way_to_boards().unwrap();
        for board in BOARDS {
            let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(board);
            assert!(text.contains(board) && file.is_file(), "{board}: {text}");
        }
        assert!(text.contains(&format!("index {STREAMS},")), "{text}");
        let (before, behind) = STREAMS.split_once('*').unwrap();
        for stream in [STREAM, "logs-conntally.status-demo"] {
            assert!(stream.starts_with(before) && stream.ends_with(behind), "{stream}");
        }
    }

    #[test]
    fn the_agent_is_told_how_to_reach_both() {
        let databases = databases();
        let text = databases.configuration().unwrap();
        for line in ["url = \"http://127.0.0.1:1\"", "token = \"t\"", "urls = [\"http://127.0.0.1:2\"]"] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
        assert_eq!(address(&databases.archive).unwrap().port(), 2);
        assert!(access(&databases.archive, "token").is_err());
    }
}
