//! Queries of Elasticsearch: what Grafana makes of a panel's description, sent by `_msearch`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use conntally_servers::{Request, Server};
use serde_json::{Map, Value, json};

use super::Reader;
use super::answer::{Answer, Row, Series, Tags};
use super::board::{Fill, Panel, Target, Variable, lucene, text_of};

/// As the provisioned data source says; its time is `@timestamp`.
const INDEX: &str = "logs-conntally.*";

/// A cluster.
pub(super) struct Cluster(SocketAddr);

impl Cluster {
    pub(super) fn of(server: &Server) -> Result<Self> {
        let url = server.access().get("url").context("it has no address")?;
        let address = url.rsplit('/').next().unwrap_or_default().parse()?;
        Request::new("POST", format!("/{INDEX}/_refresh")).expect_success(address)?;
        Ok(Self(address))
    }

    fn search(&self, query: &Value) -> Result<Value> {
        let header = json!({ "search_type": "query_then_fetch", "ignore_unavailable": true, "index": INDEX });
        let body = format!("{header}\n{query}\n");
        let request = Request::new("POST", "/_msearch?max_concurrent_shard_requests=5");
        let answer = request.body("application/x-ndjson", body).expect_success(self.0)?.json()?;
        let answer = answer.pointer("/responses/0").cloned().context("there is no response")?;
        if let Some(error) = answer.get("error") {
            bail!("{error} for {query}");
        }
        Ok(answer)
    }
}

impl Reader for Cluster {
    fn raw(&self, target: &Target, fill: &Fill) -> Result<Value> {
        let [metrics, buckets] = described(target);
        let mut query =
            json!({ "size": 0, "query": filter(&fill.fill(&text_of(&target.0, "query")), Some(fill)) });
        let aggregations = aggregations(&metrics, &buckets, fill)?;
        if let Some(query) = query.as_object_mut() {
            if let Some(documents) = documents(&metrics) {
                query.insert("size".into(), number(documents.get("settings"), "size"));
                query.insert(
                    "sort".into(),
                    json!([{ "@timestamp": { "order": "desc", "unmapped_type": "boolean" } }]),
                );
            } else {
                query.insert("aggs".into(), aggregations);
            }
        }
        self.search(&query)
    }

    fn ask(&self, _: &Panel, target: &Target, fill: &Fill) -> Result<Answer> {
        let [metrics, buckets] = described(target);
        let answer = self.raw(target, fill)?;
        if documents(&metrics).is_some() {
            return Ok(Answer(hits(&answer)));
        }
        let mut series = BTreeMap::new();
        let root = answer.get("aggregations").context("there are no aggregations")?;
        walk(root, &buckets, &metrics, &Tags::new(), &mut series);
        Ok(Answer(series.into_iter().map(|(tags, rows)| Series { tags, rows }).collect()))
    }

    fn values(&self, variable: &Variable, fill: &Fill) -> Result<Vec<String>> {
        let asked: Value = serde_json::from_str(&variable.query())?;
        let terms = json!({ "terms": { "field": asked.get("field"), "size": asked.get("size") } });
        let answer =
            self.search(&json!({ "size": 0, "query": filter("*", Some(fill)), "aggs": { "1": terms } }))?;
        let buckets = answer.pointer("/aggregations/1/buckets").and_then(Value::as_array);
        Ok(buckets.into_iter().flatten().filter_map(key).collect())
    }

    fn chosen(&self, values: &[String]) -> String {
        let quoted: Vec<_> = values.iter().map(|value| format!("\"{}\"", lucene(value))).collect();
        format!("({})", quoted.join(" OR "))
    }
}

/// A panel's metrics, and the buckets around them.
fn described(target: &Target) -> [Vec<Value>; 2] {
    ["metrics", "bucketAggs"]
        .map(|key| target.0.get(key).and_then(Value::as_array).cloned().unwrap_or_default())
}

/// The metric that stands for documents themselves.
fn documents(metrics: &[Value]) -> Option<&Value> {
    metrics.first().filter(|metric| text_of(metric, "type") == "raw_data")
}

fn filter(query: &str, fill: Option<&Fill>) -> Value {
    let text = json!({ "query_string": { "analyze_wildcard": true, "query": query } });
    let time = fill.map(|fill| {
        let (from, to) = (fill.from as u64, fill.to as u64);
        json!({ "range": { "@timestamp": { "gte": from, "lte": to, "format": "epoch_millis" } } })
    });
    json!({ "bool": { "filter": time.into_iter().chain([text]).collect::<Vec<_>>() } })
}

/// Buckets within each other, metrics innermost.
fn aggregations(metrics: &[Value], buckets: &[Value], fill: &Fill) -> Result<Value> {
    let Some((bucket, rest)) = buckets.split_first() else {
        let with_field = metrics.iter().filter(|metric| metric.get("field").is_some());
        let own = with_field.map(|metric| {
            let field = json!({ "field": metric.get("field") });
            (text_of(metric, "id"), json!({ (text_of(metric, "type")): field }))
        });
        return Ok(Value::Object(own.collect()));
    };
    let settings = bucket.get("settings");
    let (kind, field) = (text_of(bucket, "type"), text_of(bucket, "field"));
    let body = match kind.as_str() {
        "date_histogram" => json!({
            "field": field, "min_doc_count": number(settings, "min_doc_count"), "format": "epoch_millis",
            "extended_bounds": { "min": fill.from as u64, "max": fill.to as u64 },
            "fixed_interval": format!("{}ms", fill.interval_ms),
        }),
        "terms" => terms(&field, settings),
        other => bail!("{other} is no bucket that is known here"),
    };
    let mut inner = aggregations(metrics, rest, fill)?;
    // What buckets are ordered by stands beside those within them.
    if let (Some(inner), Some(first)) = (inner.as_object_mut(), metrics.first())
        && kind == "terms"
        && first.get("field").is_some()
    {
        let field = json!({ "field": first.get("field") });
        inner.insert(text_of(first, "id"), json!({ (text_of(first, "type")): field }));
    }
    Ok(json!({ (text_of(bucket, "id")): { (kind): body, "aggs": inner } }))
}

fn terms(field: &str, settings: Option<&Value>) -> Value {
    let text = |key: &str| settings.map(|settings| text_of(settings, key)).unwrap_or_default();
    let mut body = Map::new();
    body.insert("field".into(), json!(field));
    body.insert("size".into(), number(settings, "size"));
    body.insert("min_doc_count".into(), number(settings, "min_doc_count"));
    body.insert("order".into(), json!({ (text("orderBy")): text("order") }));
    if let Some(missing) = settings.and_then(|settings| settings.get("missing")) {
        body.insert("missing".into(), missing.clone());
    }
    Value::Object(body)
}

fn number(settings: Option<&Value>, key: &str) -> Value {
    let text = settings.map(|settings| text_of(settings, key)).unwrap_or_default();
    text.parse::<u64>().map_or(Value::Null, Value::from)
}

/// Series as Grafana names them: by the values of the buckets around.
fn walk(
    level: &Value,
    buckets: &[Value],
    metrics: &[Value],
    tags: &Tags,
    series: &mut BTreeMap<Tags, Vec<Row>>,
) {
    let Some((bucket, rest)) = buckets.split_first() else {
        series.entry(tags.clone()).or_default().push((0, values(level, metrics)));
        return;
    };
    let found =
        level.get(text_of(bucket, "id")).and_then(|level| level.get("buckets")).and_then(Value::as_array);
    for one in found.into_iter().flatten() {
        if text_of(bucket, "type") == "date_histogram" {
            let time = one.get("key").and_then(Value::as_i64).unwrap_or(0);
            series.entry(tags.clone()).or_default().push((time, values(one, metrics)));
        } else {
            let mut tags = tags.clone();
            tags.insert(text_of(bucket, "field"), key(one).unwrap_or_default());
            walk(one, rest, metrics, &tags, series);
        }
    }
}

fn values(bucket: &Value, metrics: &[Value]) -> BTreeMap<String, f64> {
    let value = |metric: &Value| {
        let kind = text_of(metric, "type");
        if kind == "count" {
            return Some(("Count".to_owned(), bucket.get("doc_count")?.as_f64()?));
        }
        let name = match kind.as_str() {
            "sum" => "Sum",
            "min" => "Min",
            _ => "Max",
        };
        let value = bucket.get(text_of(metric, "id"))?.get("value")?.as_f64()?;
        Some((format!("{name} {}", text_of(metric, "field")), value))
    };
    metrics.iter().filter_map(value).collect()
}

fn key(bucket: &Value) -> Option<String> {
    let key = bucket.get("key")?;
    key.as_str().map_or_else(|| Some(key.to_string()), |text| Some(text.to_owned()))
}

/// One series for each document: its fields by their names; those that are no numbers as tags.
fn hits(answer: &Value) -> Vec<Series> {
    let hits = answer.pointer("/hits/hits").and_then(Value::as_array);
    let documents = hits.into_iter().flatten().filter_map(|hit| hit.get("_source"));
    documents
        .map(|document| {
            let (mut tags, mut numbers) = (BTreeMap::new(), BTreeMap::new());
            flatten(document, "", &mut tags, &mut numbers);
            Series { tags, rows: vec![(0, numbers)] }
        })
        .collect()
}

fn flatten(value: &Value, path: &str, tags: &mut Tags, numbers: &mut BTreeMap<String, f64>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(value, &path, tags, numbers);
            }
        }
        Value::Number(number) => drop(numbers.insert(path.to_owned(), number.as_f64().unwrap_or(0.0))),
        other => drop(tags.insert(path.to_owned(), other.to_string())),
    }
}
