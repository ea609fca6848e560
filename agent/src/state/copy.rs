//! A snapshot that is written in pieces, between two batches each.

use std::io;
use std::ops::Range;

use super::Directory;
use super::format::{FileKind, Frame, FrameKind, Header};
use super::log::AppendOnly;
use super::row::write_flow;
use crate::flow::FlowTable;

/// Places of the flow table in a piece: a megabyte, written in about a millisecond.
const PIECE: u32 = 4096;

/// A snapshot under way.
#[derive(Debug)]
pub(super) struct Copy {
    file: AppendOnly,
    generation: u64,
    next_place: u32,
    flows: u64,
}

impl Copy {
    /// Begins the snapshot of the generation that the header tells.
    pub(super) fn begin(directory: &Directory, header: &Header) -> io::Result<Self> {
        let mut file = AppendOnly::new(directory.begin_snapshot()?);
        file.append(&header.bytes(FileKind::Snapshot))?;
        Ok(Self { file, generation: header.generation, next_place: 0, flows: 0 })
    }

    /// Writes a piece. Returns the size of the snapshot when that was the last one.
    pub(super) fn go_on(
        &mut self,
        directory: &Directory,
        table: &FlowTable,
        boot_ns: u64,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Option<u64>> {
        let places = self.next_place..self.next_place.saturating_add(PIECE).min(table.places());
        self.next_place = places.end;
        let is_last = places.end >= table.places();
        buffer.clear();
        self.flows += append_flows(self.flows, table, places, boot_ns, buffer);
        if is_last {
            Frame { kind: FrameKind::End, number: self.flows, boot_ns }.append(buffer, |_| ());
        }
        self.file.append(buffer)?;
        if !is_last {
            return Ok(None);
        }
        directory.finish_snapshot(self.generation)?;
        Ok(Some(self.file.bytes()))
    }
}

/// Returns how many flows there were.
fn append_flows(
    number: u64,
    table: &FlowTable,
    places: Range<u32>,
    boot_ns: u64,
    buffer: &mut Vec<u8>,
) -> u64 {
    let mut flows = 0;
    Frame { kind: FrameKind::Flows, number, boot_ns }.append(buffer, |payload| {
        for flow in table.save(places) {
            write_flow(&flow, payload);
            flows += 1;
        }
    });
    flows
}
