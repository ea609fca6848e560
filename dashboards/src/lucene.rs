//! Queries of Elasticsearch and OpenSearch, as Grafana writes them down.

use conntally::pipeline::networks::NO_NETWORK;
use serde_json::{Value, json};

use crate::names::document;

/// What matches every document, whether or not it has the field: a ping has no port.
pub(crate) fn every(field: &'static str) -> String {
    format!("(* OR (*:* AND NOT _exists_:{}))", document(field))
}

/// Which flows are meant, by the board's variables. Of figures that count from a flow's birth on only the last may be
/// summed; where documents say what is new, which those have that tell the total beside it, all may.
pub(crate) fn of_flows() -> String {
    let [last, total] = ["flow.final", "conntally.total.source.bytes"].map(document);
    format!("{} AND ({last}:true OR _exists_:{total})", of_records())
}

/// Flows that ended.
pub(crate) fn of_ends(more: &str) -> String {
    format!("{} AND {}:true{more}", of_records(), document("flow.final"))
}

fn of_records() -> String {
    let [dataset, host, ip, proto, port] =
        ["event.dataset", "host.name", "related.ip", "network.transport", "destination.port"].map(document);
    let [source, destination] = ["conntally.network.source", "conntally.network.destination"].map(document);
    format!(
        "{dataset}:\"conntally.flow\" AND {host}:$host AND {ip}:$address AND \
         ({source}:$network OR {destination}:$network) AND {proto}:$proto AND {port}:$port AND (${{filter:raw}})"
    )
}

/// What agents state of the accounting.
pub(crate) fn of_agents() -> String {
    let [dataset, host] = ["event.dataset", "host.name"].map(document);
    format!("{dataset}:\"conntally.status\" AND {host}:$host")
}

/// What they state of what waits for a sink.
pub(crate) fn of_waiting() -> String {
    format!("{} AND _exists_:{}", of_agents(), document("conntally.waiting.sink"))
}

/// What is looked for of a flow by an end of it, as the live board has it: its network, that it is in none, or its address
/// or prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// Who opened.
    Opener,
    /// Whom it opened to.
    Answerer,
}

impl End {
    /// How the text of a column is told that has the end, so that it is a query.
    pub(crate) fn mappings(self) -> Value {
        let (network, address) = match self {
            Self::Opener => ("conntally.network.source", "source.ip"),
            Self::Answerer => ("conntally.network.destination", "destination.ip"),
        };
        let [network, address] = [network, address].map(document);
        let regex = |pattern: &str, field: &str, index: u32| {
            let result = json!({ "text": format!("{field}:\"$1\""), "index": index });
            json!({ "type": "regex", "options": { "pattern": pattern, "result": result } })
        };
        let none = json!({ "text": format!("(*:* AND NOT _exists_:{network})"), "index": 0 });
        json!([
            { "type": "value", "options": { (NO_NETWORK): none } },
            regex(ADDRESS, address, 1),
            // Names have no quotes and no backslashes.
            regex("/^(.*)$/", network, 2),
        ])
    }
}

/// An address or a prefix of either family.
const ADDRESS: &str = "/^([0-9]+(?:\\.[0-9]+){3}(?:\\/[0-9]+)?|[0-9a-f]*:[0-9a-f:.]*(?:\\/[0-9]+)?)$/";

/// A metric of an aggregation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Metric {
    /// How many documents.
    Count,
    /// The sum of a field.
    Sum(&'static str),
    /// The least of it.
    Min(&'static str),
    /// The most of it.
    Max(&'static str),
}

impl Metric {
    fn json(self, id: usize) -> Value {
        let (kind, field) = match self {
            Self::Count => return json!({ "id": id.to_string(), "type": "count" }),
            Self::Sum(field) => ("sum", field),
            Self::Min(field) => ("min", field),
            Self::Max(field) => ("max", field),
        };
        json!({ "id": id.to_string(), "type": kind, "field": document(field) })
    }
}

/// Figures over time, one series for each value of the fields, if any; the largest ones.
pub(crate) fn over_time(filter: &str, metric: Metric, by: &[&'static str]) -> Value {
    let time = json!({
        "id": "10", "type": "date_histogram", "field": "@timestamp",
        "settings": { "interval": "auto", "min_doc_count": "0", "trimEdges": "0" },
    });
    let terms = |(at, field): (usize, &&'static str)| terms(&(11 + at).to_string(), field, 10, metric);
    let mut buckets: Vec<_> = by.iter().enumerate().map(terms).collect();
    buckets.push(time);
    target(filter, vec![metric.json(1)], buckets)
}

/// Rows, one for each pair of values, those with the largest sums of the first metric first.
pub(crate) fn largest(filter: &str, metrics: &[Metric], by: &[&'static str], size: usize) -> Value {
    let first = metrics.first().copied().unwrap_or(Metric::Count);
    let buckets = by.iter().enumerate().map(|(at, field)| terms(&(10 + at).to_string(), field, size, first));
    let metrics = metrics.iter().enumerate().map(|(at, metric)| metric.json(at + 1));
    target(filter, metrics.collect(), buckets.collect())
}

/// The newest documents.
pub(crate) fn newest(filter: &str, size: usize) -> Value {
    let metric = json!({ "id": "1", "type": "raw_data", "settings": { "size": size.to_string() } });
    target(filter, vec![metric], Vec::new())
}

fn terms(id: &str, field: &'static str, size: usize, by: Metric) -> Value {
    let order = if matches!(by, Metric::Count) { "_count" } else { "1" };
    let mut settings =
        json!({ "size": size.to_string(), "order": "desc", "orderBy": order, "min_doc_count": "1" });
    if field == "destination.port"
        && let Some(settings) = settings.as_object_mut()
    {
        // Else flows without ports would be in no row.
        settings.insert("missing".into(), "0".into());
    }
    json!({ "id": id, "type": "terms", "field": document(field), "settings": settings })
}

fn target(filter: &str, metrics: Vec<Value>, buckets: Vec<Value>) -> Value {
    json!({
        "refId": "A",
        "datasource": { "type": "elasticsearch", "uid": "${datasource}" },
        "query": filter,
        "timeField": document("@timestamp"),
        "metrics": metrics,
        "bucketAggs": buckets,
    })
}
