//! The series that count against the limit, as bytes that outlive the process.
//!
//! Layout, numbers little-endian: magic `CNTSER01`; fingerprint of the grouping, 8 bytes; then for each series its key,
//! 56 bytes, when the last interval began in which it was written, 8 bytes of nanoseconds since the Unix epoch, and why it
//! counts, 8 bytes (0 closed, 1 closed but may return, 2 kept: the time means nothing); at the end the CRC-32C of all
//! before, 4 bytes.

use super::key::Key;
use super::series::{Charge, Closed};

const MAGIC: &[u8; 8] = b"CNTSER01";
const ROW: usize = 72;

const CLOSED: u64 = 0;
const MAY_RETURN: u64 = 1;
const KEPT: u64 = 2;

/// Set in keys of another grouping, and in no other.
const FOREIGN: u64 = 1 << 63;

/// Why saved series cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// Not of this version.
    #[error("no list of series that this version can read; remove it to begin anew")]
    Unknown,
    /// The checksum is wrong.
    #[error("the list of series is damaged; remove it to begin anew")]
    Damaged,
}

pub(super) fn encode(fingerprint: u64, series: &[(Key, Charge)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + ROW * series.len());
    bytes.extend(MAGIC);
    bytes.extend(fingerprint.to_le_bytes());
    for (key, charge) in series {
        key.0.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        let (written, why) = match charge {
            Charge::Kept => (0, KEPT),
            Charge::Closed(closed) => (closed.written, if closed.may_return { MAY_RETURN } else { CLOSED }),
        };
        bytes.extend(written.to_le_bytes());
        bytes.extend(why.to_le_bytes());
    }
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// Series of another grouping count as written `now`, and no group comes back to them.
pub(super) fn decode(bytes: &[u8], fingerprint: u64, now: i64) -> Result<Vec<(Key, Charge)>, SavedError> {
    let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(SavedError::Unknown)?;
    let content_after_magic = content.strip_prefix(MAGIC).ok_or(SavedError::Unknown)?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        return Err(SavedError::Damaged);
    }
    let (grouping, rows) = content_after_magic.split_first_chunk::<8>().ok_or(SavedError::Damaged)?;
    let is_foreign = u64::from_le_bytes(*grouping) != fingerprint;
    let (rows, rest) = rows.as_chunks::<ROW>();
    if !rest.is_empty() {
        return Err(SavedError::Damaged);
    }
    let rows = rows.iter().map(decode_row);
    Ok(rows.map(|row| if is_foreign { foreign(row, now) } else { row }).collect())
}

fn decode_row(row: &[u8; ROW]) -> (Key, Charge) {
    let mut words = [0; ROW / 8];
    for (word, bytes) in words.iter_mut().zip(row.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let [a, b, c, d, e, f, g, written, why] = words;
    let closed = Closed { written: written as i64, may_return: why == MAY_RETURN };
    (Key([a, b, c, d, e, f, g]), if why == KEPT { Charge::Kept } else { Charge::Closed(closed) })
}

fn foreign((key, charge): (Key, Charge), now: i64) -> (Key, Charge) {
    let Key([a, b, c, d, e, f, g]) = key;
    let written = match charge {
        Charge::Kept => now,
        Charge::Closed(closed) => closed.written,
    };
    (Key([a, b, c, d, e, f | FOREIGN, g]), Charge::Closed(Closed { written, may_return: false }))
}
