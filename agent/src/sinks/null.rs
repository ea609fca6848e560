//! Nowhere: records are taken, and that is all. For measuring what comes before a sink.

use crate::model::Record;
use crate::pipeline::{Outcome, Request, Sink};

/// Takes everything.
#[derive(Clone, Copy, Debug)]
pub struct NullSink;

impl Sink for NullSink {
    type Item = Record;

    fn encode(&self, _: &Record, _: &mut Vec<u8>) {}

    async fn deliver(&self, _: &Request) -> Outcome {
        Outcome::Delivered
    }
}
