//! How complete the accounting is, as documents of a data stream of their own.
//!
//! They have no ids: one that is stored twice says the same twice, and nobody may sum them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::answer::{FILTER, fates, outcome};
use super::credentials::Credentials;
use super::nodes::{Ask, Nodes};
use super::{DataStream, LONGEST_ANSWER, LONGEST_ITEM, Options, Setup, not_now, refused, set_up};
use crate::model::{Sum, Waiting};
use crate::pipeline::{Outcome, Request, Sink, Stated, Status, Whole};
use crate::sinks::http::{Client, Failure, Method, TlsError};
use crate::sinks::json::ECS_VERSION;
use crate::sinks::time::rfc3339;

/// The sink.
pub struct StatusSink {
    nodes: Nodes,
    stream: DataStream,
    host: String,
    setup: Option<Arc<Setup>>,
}

impl StatusSink {
    /// Makes the sink; opens no connection. A try may take `timeout`.
    pub(super) fn new(
        options: &Options,
        timeout: Duration,
        host: String,
        setup: Option<Arc<Setup>>,
    ) -> Result<Self, TlsError> {
        let client = Client::new(&options.http, timeout)?;
        let nodes = Nodes::new(client, options.urls.clone(), Credentials::new(&options.login));
        Ok(Self { nodes, stream: options.stream.of_status(), host, setup })
    }
}

impl Sink for StatusSink {
    type Item = Status;

    fn encode(&self, item: &Status, out: &mut Vec<u8>) {
        let document = document(item, &self.stream, &self.host);
        out.extend_from_slice(format!("{{\"create\":{{}}}}\n{document}\n").as_bytes());
    }

    async fn deliver(&self, request: &Request) -> Outcome {
        if let Err(outcome) = set_up(self.setup.as_ref()).await {
            return outcome;
        }
        let items = request.items.len();
        let ask = Ask {
            method: Method::POST,
            path: &[self.stream.name(), "_bulk"],
            query: &[("filter_path", FILTER)],
            body: Some(&request.body),
            most: LONGEST_ANSWER + items * LONGEST_ITEM,
        };
        let answer = match self.nodes.ask(&ask).await {
            Ok(answer) => answer,
            Err(Failure { reason, in_doubt }) => return not_now(reason, in_doubt),
        };
        if answer.status != 200 {
            return refused(&answer, &self.nodes);
        }
        match fates(&answer.body, items, true) {
            Ok(fates) => outcome(&fates, &(0..items).collect::<Vec<_>>()),
            Err(reason) => not_now(reason, true),
        }
    }
}

/// One document.
pub(super) fn document(status: &Status, stream: &DataStream, host: &str) -> Value {
    let own = match status.stated {
        Stated::Whole(whole) => json!({ "audit": audit(&whole) }),
        Stated::Loss { reason, lost, unknown } => {
            json!({ "loss": { "reason": reason, "lost": figures(lost), "unknown": unknown } })
        }
        Stated::Waiting { sink, waiting } => json!({ "waiting": waits(sink, &waiting) }),
    };
    json!({
        "@timestamp": String::from_utf8_lossy(&rfc3339(status.real_ns)),
        "ecs": { "version": ECS_VERSION },
        "data_stream": stream.parts(),
        "event": { "kind": "metric", "dataset": stream.dataset() },
        "host": { "name": host },
        "conntally": own,
    })
}

fn audit(whole: &Whole) -> Value {
    let Whole { counted, delivered, not_yet_due, filtered, lost, doubts, live_flows } = *whole;
    let part = |lost: u64, counted: u64| {
        if lost == 0 { 1.0 } else { 1.0 - lost as f64 / counted.max(lost) as f64 }
    };
    json!({
        "counted": figures(counted),
        "delivered": figures(delivered),
        "not_yet_due": figures(not_yet_due),
        "filtered": figures(filtered),
        "lost": figures(lost),
        "completeness": {
            "bytes": part(lost.bytes, counted.bytes),
            "packets": part(lost.packets, counted.packets),
            "flows": part(lost.flows, counted.flows),
        },
        "doubts": doubts,
        "live_flows": live_flows,
    })
}

fn waits(sink: &str, waiting: &Waiting) -> Value {
    let Waiting { records, moved: Sum { flows, packets, bytes }, .. } = *waiting;
    json!({
        "sink": sink,
        "records": records,
        "bytes": bytes,
        "packets": packets,
        "flows": flows,
        "oldest_ms": waiting.oldest_ms(),
    })
}

fn figures(sum: Sum) -> Value {
    let Sum { flows, packets, bytes } = sum;
    json!({ "bytes": bytes, "packets": packets, "flows": flows })
}
