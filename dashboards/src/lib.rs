//! Grafana boards: live flows from InfluxDB, finished ones from Elasticsearch.
//!
//! The JSON files beside this crate are made by it (`cargo xtask dashboards`). Every name in a query is looked up in
//! the lists that the agent's encoders are tested against, so that a renamed field cannot leave a board behind.

mod archive;
mod board;
mod influxql;
mod live;
mod lucene;
mod names;
mod panel;
#[cfg(test)]
mod tests;

use serde_json::Value;

/// The boards with the names of their files.
#[must_use]
pub fn boards() -> [(&'static str, Value); 2] {
    [("conntally-live.json", live::board()), ("conntally-archive.json", archive::board())]
}
