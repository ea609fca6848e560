//! The sink `influxdb` with both versions of its interface.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use conntally_servers::Request;
use serde_json::{Value, json};

use super::{Subject, Target};
use crate::sum::{Counter, Sum};

const FIELDS: [&str; 5] =
    ["flows_ended", "source_packets", "source_bytes", "destination_packets", "destination_bytes"];

/// One version, in one shape of its series.
#[derive(Clone, Copy, Debug)]
pub(super) struct InfluxDb {
    name: &'static str,
    version: u8,
    per_flow: bool,
    servers: &'static [&'static str],
}

impl InfluxDb {
    /// Version 2, a series for each flow: many lines.
    pub(super) const TWO: Self =
        Self { name: "influxdb-2", version: 2, per_flow: true, servers: &["influxdb-2"] };

    /// Version 1, the same.
    pub(super) const ONE: Self =
        Self { name: "influxdb-1", version: 1, per_flow: true, servers: &["influxdb-1", "influxdb-2"] };

    /// Version 2, a series for each group of flows: sums.
    pub(super) const GROUPED: Self =
        Self { name: "influxdb-2-grouped", version: 2, per_flow: false, servers: &["influxdb-2"] };
}

impl Subject for InfluxDb {
    fn name(&self) -> &'static str {
        self.name
    }

    fn sink(&self) -> &'static str {
        "influxdb"
    }

    fn servers(&self) -> &'static [&'static str] {
        self.servers
    }

    fn word(&self) -> &'static str {
        "/write"
    }

    fn prepare(&self, target: &Target<'_>) -> Result<()> {
        if is_two(target) {
            return make_bucket(target);
        }
        ask(target, &format!("CREATE DATABASE {}", target.tag))
    }

    fn configuration(&self, target: &Target<'_>, url: &str, authority: Option<&Path>) -> String {
        let mut text = format!("url = \"{url}\"\nper_flow = {}\n", self.per_flow);
        // Writing to a string cannot fail.
        let _ = match (self.version, is_two(target)) {
            (2, _) => writeln!(
                text,
                "org = \"{}\"\nbucket = \"{}\"\ntoken = \"{}\"",
                target.access("org"),
                target.tag,
                target.access("token")
            ),
            // Version 2 takes the token for a password.
            (_, true) => writeln!(
                text,
                "version = 1\ndatabase = \"{}\"\nuser = \"any\"\npassword = \"{}\"",
                target.tag,
                target.access("token")
            ),
            (_, false) => writeln!(
                text,
                "version = 1\ndatabase = \"{}\"\nuser = \"{}\"\npassword = \"{}\"",
                target.tag,
                target.access("user"),
                target.access("password")
            ),
        };
        let _ = authority.map_or(Ok(()), |file| writeln!(text, "ca_file = \"{}\"", file.display()));
        text
    }

    fn stored(&self, target: &Target<'_>) -> Result<Option<Sum>> {
        let sums: Vec<_> = FIELDS.iter().map(|field| format!("sum({field})")).collect();
        let query = format!("SELECT {} FROM /.*/", sums.join(",")).replace(' ', "%20").replace('+', "%2B");
        let path = format!("/query?db={}&q={query}", target.tag);
        let answer = login(Request::new("GET", path), target).expect_success(target.address)?.json()?;
        let [flows, source_packets, source_bytes, destination_packets, destination_bytes] = totals(&answer);
        Ok(Some(Sum {
            flows,
            source: Counter { packets: source_packets, bytes: source_bytes },
            destination: Counter { packets: destination_packets, bytes: destination_bytes },
        }))
    }

    /// What is older than an hour is refused.
    fn poison(&self, target: &Target<'_>) -> Result<()> {
        if is_two(target) {
            let path = format!("/api/v2/buckets?name={}", target.tag);
            let found = login(Request::new("GET", path), target).expect_success(target.address)?.json()?;
            let id = found.pointer("/buckets/0/id").and_then(Value::as_str).context("it has no bucket")?;
            let rules = json!({"retentionRules": [{"type": "expire", "everySeconds": 3_600}]});
            let request = Request::new("PATCH", format!("/api/v2/buckets/{id}")).json(&rules);
            login(request, target).expect_success(target.address)?;
            return Ok(());
        }
        let query = format!("ALTER RETENTION POLICY autogen ON {} DURATION 1h SHARD DURATION 1h", target.tag);
        ask(target, &query)
    }
}

/// Whether the server is version 2, whichever interface of it is used.
fn is_two(target: &Target<'_>) -> bool {
    !target.access("token").is_empty()
}

fn login(request: Request, target: &Target<'_>) -> Request {
    if is_two(target) {
        return request.header("Authorization", &format!("Token {}", target.access("token")));
    }
    request.login(target.access("user"), target.access("password"))
}

/// A query of version 1 that changes something.
fn ask(target: &Target<'_>, query: &str) -> Result<()> {
    let request = login(Request::new("POST", "/query"), target);
    let form = format!("q={}", query.replace(' ', "+"));
    request.body("application/x-www-form-urlencoded", form).expect_success(target.address)?;
    Ok(())
}

fn make_bucket(target: &Target<'_>) -> Result<()> {
    let orgs = login(Request::new("GET", "/api/v2/orgs"), target).expect_success(target.address)?.json()?;
    let org = orgs.pointer("/orgs/0/id").and_then(Value::as_str).context("it has no organisation")?;
    let bucket = json!({"orgID": org, "name": target.tag, "retentionRules": []});
    login(Request::new("POST", "/api/v2/buckets"), target).json(&bucket).expect_success(target.address)?;
    Ok(())
}

/// The sums of all measurements.
fn totals(answer: &Value) -> [u64; 5] {
    let mut totals = [0; 5];
    let series = answer.pointer("/results/0/series").and_then(Value::as_array);
    for one in series.into_iter().flatten() {
        let row = one.pointer("/values/0").and_then(Value::as_array);
        // The first column is the time.
        let sums = row.into_iter().flatten().skip(1);
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += sum.as_f64().unwrap_or(0.0) as u64;
        }
    }
    totals
}
