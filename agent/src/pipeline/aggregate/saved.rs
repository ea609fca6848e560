//! The series that count against the limit, as bytes that outlive the process.
//!
//! Layout, numbers little-endian: magic `CNTSER02`; fingerprint of the grouping, 8 bytes; the CRC-32C of both, 4 bytes.
//! Then frames: how many rows, 4 bytes; the CRC-32C of that, 4 bytes, and of the rows, 4 bytes; the rows. The first
//! frame has all series, each further one what changed: a later row of a series replaces an earlier one. A row is the
//! key, 56 bytes, when the last interval began in which the series was written, 8 bytes of nanoseconds since the Unix
//! epoch, and why it counts, 8 bytes (0 closed, 1 closed but may return, 2 kept, 3 counts no longer: the time of the last
//! two means nothing).
//!
//! A frame is appended with one write before the points that came with it are on their way. So one that is cut off at the
//! end was never acted upon, and all before it holds.

use hashbrown::HashMap;

use super::key::Key;
use super::series::{Charge, Closed};

const MAGIC: &[u8; 8] = b"CNTSER02";
const HEADER: usize = 20;
const FRAME: usize = 12;
const ROW: usize = 72;

const CLOSED: u64 = 0;
const MAY_RETURN: u64 = 1;
const KEPT: u64 = 2;
const GONE: u64 = 3;

/// Set in keys of another grouping, and in no other.
const FOREIGN: u64 = 1 << 63;

/// Why saved series cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// Not of this version.
    #[error("no list of series that this version can read; remove it to begin anew")]
    Unknown,
    /// A checksum is wrong at the begin.
    #[error("the list of series is damaged; remove it to begin anew")]
    Damaged,
}

/// How much of a list could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Restored {
    /// Everything that was acted upon.
    All,
    /// What stands before a damage.
    Part,
}

/// A list with all series.
pub(super) fn encode(fingerprint: u64, series: &[(Key, Charge)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + FRAME + ROW * series.len());
    bytes.extend(MAGIC);
    bytes.extend(fingerprint.to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(frame(series.iter().map(|(key, charge)| (*key, Some(*charge)))));
    bytes
}

/// What is appended to it.
pub(super) fn encode_changes(changes: &[(Key, Option<Charge>)]) -> Vec<u8> {
    frame(changes.iter().copied())
}

fn frame(rows: impl ExactSizeIterator<Item = (Key, Option<Charge>)>) -> Vec<u8> {
    let count = (rows.len() as u32).to_le_bytes();
    let mut content = Vec::with_capacity(ROW * rows.len());
    for (key, charge) in rows {
        key.0.iter().for_each(|word| content.extend(word.to_le_bytes()));
        let (written, why) = match charge {
            Some(Charge::Kept) => (0, KEPT),
            Some(Charge::Closed(closed)) => {
                (closed.written, if closed.may_return { MAY_RETURN } else { CLOSED })
            }
            None => (0, GONE),
        };
        content.extend(written.to_le_bytes());
        content.extend(why.to_le_bytes());
    }
    let sums = [&count[..], &content].map(|part| crc32c::crc32c(part).to_le_bytes());
    [&count[..], sums.as_flattened(), &content].concat()
}

/// Series of another grouping count as written `now`, and no group comes back to them.
pub(super) fn decode(
    bytes: &[u8],
    fingerprint: u64,
    now: i64,
) -> Result<(Vec<(Key, Charge)>, Restored), SavedError> {
    let (header, frames) = bytes.split_first_chunk::<HEADER>().ok_or(SavedError::Unknown)?;
    let (content, sum) = header.split_last_chunk::<4>().ok_or(SavedError::Unknown)?;
    let grouping = content.strip_prefix(MAGIC).ok_or(SavedError::Unknown)?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*sum) {
        return Err(SavedError::Damaged);
    }
    // A list gets its name when its first frame is whole.
    let Next::Frame(first, mut rest) = next(frames) else { return Err(SavedError::Damaged) };
    let mut series: HashMap<Key, Charge> = HashMap::with_capacity(first.len());
    apply(&mut series, first);
    let restored = loop {
        match next(rest) {
            Next::Frame(rows, after) => {
                apply(&mut series, rows);
                rest = after;
            }
            Next::End => break Restored::All,
            Next::Damage => break Restored::Part,
        }
    };
    let is_foreign = grouping != fingerprint.to_le_bytes();
    let series = series.into_iter();
    Ok((series.map(|row| if is_foreign { foreign(row, now) } else { row }).collect(), restored))
}

/// What comes next in a list.
enum Next<'a> {
    Frame(&'a [[u8; ROW]], &'a [u8]),
    /// Nothing, or a frame that is cut off.
    End,
    Damage,
}

fn next(bytes: &[u8]) -> Next<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME>() else { return Next::End };
    let ([count, count_sum, rows_sum], []) = head.as_chunks::<4>() else { return Next::Damage };
    let is_right = |part: &[u8], sum: &[u8; 4]| crc32c::crc32c(part).to_le_bytes() == *sum;
    if !is_right(count, count_sum) {
        return Next::Damage;
    }
    let (all, _) = rest.as_chunks::<ROW>();
    let Some(rows) = all.get(..u32::from_le_bytes(*count) as usize) else { return Next::End };
    let (content, rest) = rest.split_at(rows.len() * ROW);
    if is_right(content, rows_sum) { Next::Frame(rows, rest) } else { Next::Damage }
}

fn apply(series: &mut HashMap<Key, Charge>, rows: &[[u8; ROW]]) {
    for row in rows {
        match decode_row(row) {
            (key, Some(charge)) => series.insert(key, charge),
            (key, None) => series.remove(&key),
        };
    }
}

fn decode_row(row: &[u8; ROW]) -> (Key, Option<Charge>) {
    let mut words = [0; ROW / 8];
    for (word, bytes) in words.iter_mut().zip(row.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let [a, b, c, d, e, f, g, written, why] = words;
    let closed = Closed { written: written as i64, may_return: why == MAY_RETURN };
    let charge = match why {
        KEPT => Some(Charge::Kept),
        GONE => None,
        _ => Some(Charge::Closed(closed)),
    };
    (Key([a, b, c, d, e, f, g]), charge)
}

fn foreign((key, charge): (Key, Charge), now: i64) -> (Key, Charge) {
    let Key([a, b, c, d, e, f, g]) = key;
    let written = match charge {
        Charge::Kept => now,
        Charge::Closed(closed) => closed.written,
    };
    (Key([a, b, c, d, e, f | FOREIGN, g]), Charge::Closed(Closed { written, may_return: false }))
}
