//! The sink `elasticsearch` with Elasticsearch and OpenSearch.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use conntally_servers::Request;
use serde_json::{Value, json};

use super::{Indices, Keys, Narrow, Subject, Target};
use crate::sum::{Counter, Sum};

/// For a server without security, which does not look at it: there has to be a secret that a log could tell.
const UNASKED_KEY: &str = "dW5hc2tlZDprZXktb2YtdGhlLXRlc3Rz";

/// The real distributions.
const WITH_SECURITY: [&str; 2] = ["elasticsearch-8", "elasticsearch-9"];

/// Well-formed, and nobody's.
const NO_KEY: &str = "bm9ib2R5Om5vLWtleS1vZi10aGUtdGVzdHM=";

/// Finished flows, one document each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elasticsearch;

impl Subject for Elasticsearch {
    fn name(&self) -> &'static str {
        "elasticsearch"
    }

    fn sink(&self) -> &'static str {
        "elasticsearch"
    }

    fn servers(&self) -> &'static [&'static str] {
        &[
            "elasticsearch-small-8",
            "opensearch-2",
            "elasticsearch-9",
            "elasticsearch-8",
            "elasticsearch-small-9",
            "opensearch-3",
        ]
    }

    /// Elasticsearch and OpenSearch.
    fn kinds(&self) -> usize {
        2
    }

    fn word(&self) -> &'static str {
        "/_bulk"
    }

    fn lacks(&self, case: &str, server: &str) -> Option<&'static str> {
        match case {
            "soon-live" => Some("it waits for no interval: see soon"),
            "real-token" if !WITH_SECURITY.contains(&server) => {
                Some("this server asks for no key: elasticsearch-8 and -9 do")
            }
            _ => None,
        }
    }

    /// The agent makes the data stream itself.
    fn prepare(&self, _: &Target<'_>) -> Result<()> {
        Ok(())
    }

    fn configuration(&self, target: &Target<'_>, url: &str, authority: Option<&Path>) -> String {
        let mut text = format!("urls = [\"{url}\"]\nnamespace = \"{}\"\nsetup = true\n", target.tag);
        // The cases count and break requests of flows.
        text.push_str("status = false\n");
        // Writing to a string cannot fail.
        let key = match target.access("api_key") {
            "" => UNASKED_KEY,
            key => key,
        };
        text.push_str(&target.key("api_key", key));
        let _ = authority.map_or(Ok(()), |file| writeln!(text, "ca_file = \"{}\"", file.display()));
        text
    }

    fn stored(&self, target: &Target<'_>) -> Result<Option<Sum>> {
        let stream = stream(target);
        let refreshed = ask(target, "POST", &format!("/{stream}/_refresh")).send(target.address)?;
        if refreshed.status == 404 {
            return Ok(Some(Sum::default()));
        }
        ensure!(refreshed.is_success(), "it does not refresh: {}", refreshed.text());
        let fields = ["source.packets", "source.bytes", "destination.packets", "destination.bytes"];
        let sums: serde_json::Map<_, _> =
            fields.iter().map(|field| ((*field).to_owned(), json!({"sum": {"field": field}}))).collect();
        let query = json!({"size": 0, "track_total_hits": true, "aggs": sums});
        let search = ask(target, "POST", &format!("/{stream}/_search")).json(&query);
        let answer = search.expect_success(target.address)?.json()?;
        let flows = answer.pointer("/hits/total/value").and_then(Value::as_u64).unwrap_or(0);
        let sum = |field: &str| {
            let value = answer.get("aggregations").and_then(|all| all.get(field)?.get("value")?.as_f64());
            // Far below the numbers that a double cannot hold exactly.
            value.unwrap_or(0.0) as u64
        };
        Ok(Some(Sum {
            flows,
            source: Counter { packets: sum("source.packets"), bytes: sum("source.bytes") },
            destination: Counter { packets: sum("destination.packets"), bytes: sum("destination.bytes") },
        }))
    }

    fn found(&self, target: &Target<'_>) -> Result<u64> {
        let search = ask(target, "POST", &format!("/{}/_search", stream(target)));
        let answer = search.json(&json!({"size": 0, "track_total_hits": true})).send(target.address)?;
        // There is no stream before the first document.
        let found = if answer.is_success() { answer.json()? } else { Value::Null };
        Ok(found.pointer("/hits/total/value").and_then(Value::as_u64).unwrap_or(0))
    }

    /// In a data stream that exists already a port is at most 127, which 53 is and 443 is not.
    fn poison(&self, target: &Target<'_>) -> Result<()> {
        let stream = stream(target);
        let mapping = json!({"properties": {
            "@timestamp": {"type": "date"},
            "destination": {"properties": {"port": {"type": "byte"}}},
        }});
        let template = json!({
            "index_patterns": [stream], "data_stream": {}, "priority": 1_000,
            "template": {"mappings": mapping, "settings": {"number_of_replicas": 0}},
        });
        let name = format!("/_index_template/poison-{}", target.tag);
        ask(target, "PUT", &name).json(&template).expect_success(target.address)?;
        Ok(())
    }

    /// One thread writes and one request waits for it: of a request for several shards some are refused.
    fn narrow(&self) -> Option<Narrow> {
        Some(Narrow {
            settings: &[
                "http.max_content_length=64kb",
                "thread_pool.write.size=1",
                "thread_pool.write.queue_size=1",
            ],
            url: "url",
            lines: "compress = false\nconcurrency = 16\nbatch_age = \"1s\"\ntimeout = \"20s\"\n",
            flows: 1_200,
            statuses: &[413],
            told: &["rejected_execution", "too large for the server"],
        })
    }

    fn prepare_narrow(&self, target: &Target<'_>) -> Result<()> {
        let template = json!({
            "index_patterns": [stream(target)], "data_stream": {}, "priority": 1_000,
            "template": {
                "mappings": {"properties": {"@timestamp": {"type": "date"}}},
                "settings": {"number_of_replicas": 0, "number_of_shards": 4},
            },
        });
        let name = format!("/_index_template/narrow-{}", target.tag);
        ask(target, "PUT", &name).json(&template).expect_success(target.address)?;
        Ok(())
    }

    fn keys(&self, target: &Target<'_>) -> Result<Option<Keys>> {
        let names = [stream(target)];
        let role = json!({"cluster": [], "indices": [{"names": names, "privileges": ["read"]}]});
        let wanted = json!({"name": "reader", "role_descriptors": {"reader": role}});
        let request = ask(target, "POST", "/_security/api_key").json(&wanted);
        let made = request.expect_success(target.address)?.json()?;
        let reader = made.get("encoded").and_then(Value::as_str).context("it gave no API key")?;
        Ok(Some(Keys {
            right: target.access("api_key").to_owned(),
            wrong: vec![
                (NO_KEY.to_owned(), &["401", "; check api_key_file"]),
                (reader.to_owned(), &["security_exception", "the key or user needs create_doc"]),
            ],
        }))
    }

    fn indices(&self) -> Option<&dyn Indices> {
        Some(self)
    }
}

impl Indices for Elasticsearch {
    fn roll_over(&self, target: &Target<'_>) -> Result<()> {
        ask(target, "POST", &format!("/{}/_rollover", stream(target))).expect_success(target.address)?;
        Ok(())
    }

    fn block(&self, target: &Target<'_>, is_blocked: bool) -> Result<()> {
        let request = ask(target, "PUT", &format!("/{}/_settings", stream(target)));
        request.json(&json!({"index.blocks.write": is_blocked})).expect_success(target.address)?;
        Ok(())
    }
}

fn stream(target: &Target<'_>) -> String {
    format!("logs-conntally.flow-{}", target.tag)
}

/// Asks as somebody who may do everything.
fn ask(target: &Target<'_>, method: &'static str, path: &str) -> Request {
    let request = Request::new(method, path);
    match (target.access("user"), target.access("password")) {
        ("", _) => request,
        (user, password) => request.login(user, password),
    }
}
