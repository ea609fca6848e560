//! Elasticsearch and OpenSearch: records become documents of a data stream, each of them once.

mod encode;

pub use encode::{BulkEncoder, Counters};
