//! The sink `influxdb` with both versions of its interface.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use conntally_servers::Request;
use serde_json::{Value, json};

use super::{Keys, Narrow, Subject, Target};
use crate::sum::{Counter, Sum};

const FIELDS: [&str; 5] =
    ["flows_ended", "source_packets", "source_bytes", "destination_packets", "destination_bytes"];

/// What it has taken is in its file by then: it writes ten times a second.
const TELEGRAF_WRITES: Duration = Duration::from_millis(500);

/// What was sent to version 1 by UDP is stored by then: it writes ten times a second.
const DATAGRAMS_ARRIVE: Duration = Duration::from_secs(1);

/// One version, in one shape of its series.
#[derive(Clone, Copy, Debug)]
pub(super) struct InfluxDb {
    name: &'static str,
    interface: Interface,
    per_flow: bool,
    servers: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    One,
    Two,
    Udp,
}

impl InfluxDb {
    /// Version 2, a series for each flow: many lines.
    pub(super) const TWO: Self =
        Self { name: "influxdb-2", interface: Interface::Two, per_flow: true, servers: &["influxdb-2"] };

    /// Version 1, the same.
    pub(super) const ONE: Self = Self {
        name: "influxdb-1",
        interface: Interface::One,
        per_flow: true,
        servers: &["influxdb-1", "influxdb-2"],
    };

    /// Version 2, a series for each group of flows: sums.
    pub(super) const GROUPED: Self = Self {
        name: "influxdb-2-grouped",
        interface: Interface::Two,
        per_flow: false,
        servers: &["influxdb-2"],
    };

    /// Version 2, read by somebody else.
    pub(super) const TELEGRAF: Self =
        Self { name: "influxdb-telegraf", interface: Interface::Two, per_flow: true, servers: &["telegraf"] };

    /// Datagrams, of which nobody says whether they came.
    pub(super) const UDP: Self =
        Self { name: "influxdb-udp", interface: Interface::Udp, per_flow: true, servers: &["influxdb-1"] };

    /// The database of version 1.
    fn database<'a>(&self, target: &Target<'a>) -> &'a str {
        if self.interface == Interface::Udp { target.access("udp_database") } else { target.tag }
    }
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

    fn lacks(&self, case: &str, server: &str) -> Option<&'static str> {
        match (self.name, case) {
            ("influxdb-udp", "delivers" | "accounts") => None,
            ("influxdb-udp", _) => Some("datagrams are not answered"),
            ("influxdb-telegraf", "gives-up-loudly") => Some("Telegraf keeps what is old"),
            ("influxdb-telegraf", "restart") => {
                Some("Telegraf forgets what it acknowledged when it is killed")
            }
            ("influxdb-telegraf", "soon" | "soon-live") => Some("nobody asks Telegraf for records"),
            ("influxdb-2-grouped", "soon") => {
                Some("its points come when their interval is over by the clock on the wall: see soon-live")
            }
            ("influxdb-telegraf", "real-token") => Some("Telegraf knows one token, and refuses others alike"),
            (_, "own-limits") if server == "influxdb-2" => Some("InfluxDB 2 has no limits of this kind"),
            (_, "soon-live") if self.per_flow => Some("it waits for no interval: see soon"),
            ("influxdb-2-grouped", "batches" | "keeps-limits" | "halves") => {
                Some("it has few points to send")
            }
            _ => None,
        }
    }

    fn prepare(&self, target: &Target<'_>) -> Result<()> {
        match maker(target) {
            Maker::InfluxDb2 => make_bucket(target),
            Maker::InfluxDb1 => {
                if self.interface == Interface::Udp {
                    sleep(DATAGRAMS_ARRIVE);
                }
                let database = self.database(target);
                ask(target, &format!("DROP DATABASE {database}"))?;
                ask(target, &format!("CREATE DATABASE {database}"))
            }
            Maker::Telegraf => {
                sleep(TELEGRAF_WRITES);
                File::create(target.access("output")).context("cannot empty what Telegraf wrote")?;
                Ok(())
            }
        }
    }

    fn configuration(&self, target: &Target<'_>, url: &str, authority: Option<&Path>) -> String {
        let url = if self.interface == Interface::Udp { target.access("udp") } else { url };
        let login = match (self.interface, maker(target)) {
            (Interface::Udp, _) => "version = 1\n".to_owned(),
            (Interface::Two, _) => {
                let org = Some(target.access("org")).filter(|org| !org.is_empty()).unwrap_or("any");
                let token = target.key("token", target.access("token"));
                format!("org = \"{org}\"\nbucket = \"{}\"\n{token}", target.tag)
            }
            (Interface::One, maker) => {
                // Version 2 takes the token for a password.
                let (user, password) = match maker {
                    Maker::InfluxDb1 => (target.access("user"), target.access("password")),
                    _ => ("any", target.access("token")),
                };
                let database = self.database(target);
                let password = target.key("password", password);
                format!("version = 1\ndatabase = \"{database}\"\nuser = \"{user}\"\n{password}")
            }
        };
        let authority =
            authority.map(|file| format!("ca_file = \"{}\"\n", file.display())).unwrap_or_default();
        // The cases count and break requests of flows.
        format!("url = \"{url}\"\nstatus = false\nper_flow = {}\n{login}{authority}", self.per_flow)
    }

    /// Datagrams know no login.
    fn is_told_a_secret(&self) -> bool {
        self.interface != Interface::Udp
    }

    /// Most flows of a case have an address or a port that no other flow has.
    fn apart(&self) -> &'static str {
        if self.per_flow {
            return "";
        }
        "group_by = { src = \"address\", dst = \"address\", port = \"number\", proto = true }\n"
    }

    fn stored(&self, target: &Target<'_>) -> Result<Option<Sum>> {
        if matches!(maker(target), Maker::Telegraf) {
            sleep(TELEGRAF_WRITES);
            let text =
                fs::read_to_string(target.access("output")).context("cannot read what Telegraf wrote")?;
            return Ok(Some(sum_of(lines(&text))));
        }
        let sums: Vec<_> = FIELDS.iter().map(|field| format!("sum({field})")).collect();
        let query = format!("SELECT {} FROM /.*/", sums.join(",")).replace(' ', "%20");
        let path = format!("/query?db={}&q={query}", self.database(target));
        let answer = login(Request::new("GET", path), target).expect_success(target.address)?.json()?;
        Ok(Some(sum_of(totals(&answer))))
    }

    /// InfluxDB 1 bounds what a request holds; Telegraf that, too, and what waits to be written.
    fn narrow(&self) -> Option<Narrow> {
        let narrow = Narrow {
            settings: &["max-body-size = 4096"],
            url: "url",
            lines: "compress = false\nbatch_age = \"1s\"\n",
            flows: 300,
            statuses: &[413],
            told: &["too large for the server"],
        };
        let busy = Narrow {
            settings: &[],
            url: "busy_url",
            flows: 20,
            statuses: &[413, 429],
            told: &["too large for the server", "the server is busy"],
            ..narrow
        };
        Some(if self.name == Self::TELEGRAF.name { busy } else { narrow })
    }

    fn keys(&self, target: &Target<'_>) -> Result<Option<Keys>> {
        let wrong = "a-token-that-nobody-has".to_owned();
        if self.interface == Interface::One {
            let right =
                target.access(if matches!(maker(target), Maker::InfluxDb1) { "password" } else { "token" });
            let told: &[_] = &["401", "check user and password_file: it is read again when it changes"];
            return Ok(Some(Keys { right: right.to_owned(), wrong: vec![(wrong, told)] }));
        }
        Ok(Some(Keys {
            right: target.access("token").to_owned(),
            wrong: vec![
                (wrong, &["401", "check token_file: it is read again when it changes"]),
                (make_reader(target)?, &["403", "the token or user must be allowed to write there"]),
            ],
        }))
    }

    fn settles_within(&self) -> Duration {
        if self.interface == Interface::Udp { Duration::from_secs(10) } else { Duration::ZERO }
    }

    fn most_flows(&self) -> u64 {
        if self.interface == Interface::Udp { 100 } else { u64::MAX }
    }

    /// What is older than an hour is refused.
    fn poison(&self, target: &Target<'_>) -> Result<()> {
        if matches!(maker(target), Maker::InfluxDb2) {
            let path = format!("/api/v2/buckets?name={}", target.tag);
            let found = login(Request::new("GET", path), target).expect_success(target.address)?.json()?;
            let id = found.pointer("/buckets/0/id").and_then(Value::as_str).context("it has no bucket")?;
            let rules = json!({"type": "expire", "everySeconds": 3_600, "shardGroupDurationSeconds": 3_600});
            let rules = json!({"retentionRules": [rules]});
            let request = Request::new("PATCH", format!("/api/v2/buckets/{id}")).json(&rules);
            login(request, target).expect_success(target.address)?;
            return Ok(());
        }
        let query = format!("ALTER RETENTION POLICY autogen ON {} DURATION 1h SHARD DURATION 1h", target.tag);
        ask(target, &query)
    }
}

/// Whose server it is, whichever interface of it is used.
fn maker(target: &Target<'_>) -> Maker {
    match (target.access("output"), target.access("token")) {
        ("", "") => Maker::InfluxDb1,
        ("", _) => Maker::InfluxDb2,
        _ => Maker::Telegraf,
    }
}

enum Maker {
    InfluxDb1,
    InfluxDb2,
    Telegraf,
}

fn login(request: Request, target: &Target<'_>) -> Request {
    if matches!(maker(target), Maker::InfluxDb2) {
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
    let bucket = json!({"orgID": organisation(target)?, "name": target.tag, "retentionRules": []});
    login(Request::new("POST", "/api/v2/buckets"), target).json(&bucket).expect_success(target.address)?;
    Ok(())
}

/// A token that may read, and nothing else.
fn make_reader(target: &Target<'_>) -> Result<String> {
    let org = organisation(target)?;
    let permission = json!({"action": "read", "resource": {"type": "buckets", "orgID": org}});
    let wanted = json!({"orgID": org, "permissions": [permission]});
    let request = login(Request::new("POST", "/api/v2/authorizations"), target).json(&wanted);
    let made = request.expect_success(target.address)?.json()?;
    Ok(made.get("token").and_then(Value::as_str).context("it gave no token")?.to_owned())
}

fn organisation(target: &Target<'_>) -> Result<String> {
    let orgs = login(Request::new("GET", "/api/v2/orgs"), target).expect_success(target.address)?.json()?;
    let org = orgs.pointer("/orgs/0/id").and_then(Value::as_str);
    Ok(org.context("it has no organisation")?.to_owned())
}

fn sum_of([flows, source_packets, source_bytes, destination_packets, destination_bytes]: [u64; 5]) -> Sum {
    Sum {
        flows,
        source: Counter { packets: source_packets, bytes: source_bytes },
        destination: Counter { packets: destination_packets, bytes: destination_bytes },
    }
}

/// The sums of lines; a line that came twice says the same of the same moment, as a database would find.
fn lines(text: &str) -> [u64; 5] {
    let mut totals = [0; 5];
    let unique: BTreeSet<_> = text.lines().collect();
    // Tags of ours have no blanks.
    for fields in unique.into_iter().filter_map(|line| line.split(' ').nth(1)) {
        for (field, value) in fields.split(',').filter_map(|pair| pair.split_once('=')) {
            let place = FIELDS.iter().position(|name| *name == field);
            if let Some(total) = place.and_then(|place| totals.get_mut(place)) {
                *total += value.trim_end_matches(['i', 'u']).parse::<u64>().unwrap_or(0);
            }
        }
    }
    totals
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_summed_by_field_and_counted_once() {
        let line = "flow,src=a flows_ended=1u,source_packets=2u,source_bytes=3i,other=9i 1";
        let text = format!("{line}\n{line}\nflow,src=b source_bytes=4i,destination_bytes=5i 1\n");
        assert_eq!(lines(&text), [1, 2, 7, 0, 5]);
    }
}
