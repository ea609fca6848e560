//! A whole SCTP association (RFC 9260), both ends played by hand, so that no kernel module decides what is sent.

use anyhow::Result;

use super::raw::Ends;
use super::{Path, Sent, checksum};
use crate::key::protocol;

const CLIENT_TAG: u32 = 0x1122_3344;
const SERVER_TAG: u32 = 0x5566_7788;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// One association: opened, data of each size sent there and acknowledged, then shut down in order.
///
/// # Errors
/// When a packet does not arrive.
pub fn association(path: &Path<'_>, source_port: u16, port: u16, there: &[usize]) -> Result<Sent> {
    let mut ends = Ends::open(path, protocol::SCTP)?;
    let forth = |tag: u32, chunk: Vec<u8>| packet(source_port, port, tag, &chunk);
    let back = |tag: u32, chunk: Vec<u8>| packet(port, source_port, tag, &chunk);
    ends.there(&forth(0, init(INIT, CLIENT_TAG)))?;
    ends.back(&back(CLIENT_TAG, init(INIT_ACK, SERVER_TAG)))?;
    ends.there(&forth(SERVER_TAG, chunk(COOKIE_ECHO, &[0x6b; 32])))?;
    ends.back(&back(CLIENT_TAG, chunk(COOKIE_ACK, &[])))?;
    for (sequence, size) in (1u32..).zip(there) {
        ends.there(&forth(SERVER_TAG, data(sequence, *size)))?;
        ends.back(&back(CLIENT_TAG, sack(sequence)))?;
    }
    ends.there(&forth(SERVER_TAG, chunk(SHUTDOWN, &0u32.to_be_bytes())))?;
    ends.back(&back(CLIENT_TAG, chunk(SHUTDOWN_ACK, &[])))?;
    ends.there(&forth(SERVER_TAG, chunk(SHUTDOWN_COMPLETE, &[])))?;
    let tuple = path.tuple(protocol::SCTP, source_port, port);
    Ok(Sent::mirrored(tuple, ends.totals.original, ends.totals.reply))
}

/// Common header and one chunk; the checksum is computed with its own field zero.
fn packet(source_port: u16, port: u16, tag: u32, chunk: &[u8]) -> Vec<u8> {
    let whole = |checksum: [u8; 4]| {
        let mut packet = [source_port.to_be_bytes(), port.to_be_bytes()].concat();
        packet.extend(tag.to_be_bytes());
        packet.extend(checksum);
        packet.extend(chunk);
        packet
    };
    whole(checksum::crc32c(&whole([0; 4])))
}

/// Chunk header, value, padding to a multiple of 4. Values here are far below 64 KiB.
fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
    const FLAGS: u8 = 0;
    chunk_with_flags(kind, FLAGS, value)
}

fn chunk_with_flags(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut chunk = vec![kind, flags];
    chunk.extend(length.to_be_bytes());
    chunk.extend(value);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

/// Initiate tag, window, one stream each way, first sequence number.
fn init(kind: u8, tag: u32) -> Vec<u8> {
    let mut value = tag.to_be_bytes().to_vec();
    value.extend(65_536u32.to_be_bytes());
    value.extend([0, 1, 0, 1]);
    value.extend(1u32.to_be_bytes());
    chunk(kind, &value)
}

/// An unfragmented message on stream 0.
fn data(sequence: u32, size: usize) -> Vec<u8> {
    const BEGIN_AND_END: u8 = 3;
    let mut value = sequence.to_be_bytes().to_vec();
    value.extend([0; 8]);
    value.resize(value.len() + size, 0x68);
    chunk_with_flags(DATA, BEGIN_AND_END, &value)
}

fn sack(sequence: u32) -> Vec<u8> {
    let mut value = sequence.to_be_bytes().to_vec();
    value.extend(65_536u32.to_be_bytes());
    value.extend([0; 4]);
    chunk(SACK, &value)
}
