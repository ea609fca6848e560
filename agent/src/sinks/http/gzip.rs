//! Bodies made smaller.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

/// The body as gzip. At the fastest level: lines of flows shrink to a tenth at any.
pub(super) fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
