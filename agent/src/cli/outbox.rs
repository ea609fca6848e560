//! Batches that wait for room in the output: those that the agent before may not have written, and new ones behind them.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::model::{Backlog, NumberedBatch, RecordKind, Records};
use crate::sinks::stdout::{Offered, SinkHandle};
use crate::sinks::tally::{SinkReport, deltas};

/// Keeps each flow's records in their order without ever waiting. It is empty but for some time after a start.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Of the agent before.
    earlier: VecDeque<NumberedBatch>,
    new: VecDeque<NumberedBatch>,
    /// Records in `new`.
    records: usize,
    /// How many those may be.
    room: usize,
}

impl Outbox {
    /// Begins with what the agent before may not have written; behind it, so many new records have room.
    pub(super) fn new(earlier: Vec<NumberedBatch>, room: usize) -> Self {
        Self { earlier: earlier.into(), room, ..Self::default() }
    }

    /// Hands on what the output has room for now, then offers a batch: to the output if nothing waits, else to wait
    /// with the others. What has no room is dropped and counted.
    pub(super) fn offer(&mut self, number: u64, records: Records, sink: &SinkHandle) -> Offered {
        match self.hand_on(sink) {
            Offered::Taken => sink.offer(number, records),
            Offered::Full => self.push(number, &records, sink),
            Offered::Closed => Offered::Closed,
        }
    }

    /// Hands on what the output has room for now. `Full`: something waits still.
    pub(super) fn hand_on(&mut self, sink: &SinkHandle) -> Offered {
        while let Some((number, records)) = self.front() {
            let handing_on = pin!(sink.send(number, records));
            match handing_on.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return Offered::Full,
                Poll::Ready(Offered::Closed) => return Offered::Closed,
                Poll::Ready(_) => self.pop(),
            }
        }
        Offered::Taken
    }

    /// Hands on everything, at the pace of the reader. Cancel safe.
    pub(super) async fn empty(&mut self, sink: &SinkHandle) {
        while let Some((number, records)) = self.front() {
            if sink.send(number, records).await == Offered::Closed {
                return;
            }
            self.pop();
        }
    }

    /// What is not written: all that the output has, then all that waits.
    pub(super) fn backlog(&self, output: &Arc<Backlog>) -> Arc<Backlog> {
        if self.earlier.is_empty() && self.new.is_empty() {
            return Arc::clone(output);
        }
        let all = Backlog::default();
        let waiting = self.earlier.iter().chain(&self.new).cloned();
        output.batches().into_iter().chain(waiting).for_each(|(number, records)| all.push(number, records));
        Arc::new(all)
    }

    /// What the output did, with the new records that wait as unwritten: earlier ones are in another agent's account.
    pub(super) fn complete(&self, output: SinkReport) -> SinkReport {
        if output.broken_pipe {
            return output;
        }
        let waiting = self.new.iter().map(|(_, records)| deltas(records));
        let unwritten_sum = waiting.fold(output.unwritten_sum, |sum, waiting| sum + waiting);
        SinkReport { unwritten: output.unwritten + self.records as u64, unwritten_sum, ..output }
    }

    fn front(&self) -> Option<NumberedBatch> {
        self.earlier.front().or_else(|| self.new.front()).cloned()
    }

    fn pop(&mut self) {
        if self.earlier.pop_front().is_none()
            && let Some((_, records)) = self.new.pop_front()
        {
            self.records -= records.len();
        }
    }

    /// As in the output itself, the last quarter is for the ends of flows.
    fn push(&mut self, number: u64, records: &Records, sink: &SinkHandle) -> Offered {
        let free = self.room.saturating_sub(self.records);
        let kept: Records = if records.len() + self.room / 4 <= free {
            Arc::clone(records)
        } else {
            let ends = records.iter().filter(|record| record.kind == RecordKind::End);
            ends.take(free).copied().collect::<Vec<_>>().into()
        };
        let is_whole = kept.len() == records.len();
        if !is_whole {
            sink.tally().count_dropped(records, &kept);
        }
        if !kept.is_empty() {
            self.records += kept.len();
            self.new.push_back((number, kept));
        }
        if is_whole { Offered::Taken } else { Offered::Full }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::*;
    use crate::sinks::held::{Text, kept, stalled};
    use crate::sinks::json::EncodeContext;
    use crate::sinks::samples::{end_of_tcp, ping};
    use crate::sinks::stdout::{Output, StdoutSink};

    /// Records that the output takes while nobody reads.
    const CAPACITY: u32 = 8;

    fn sink(out: impl Write + Send + 'static) -> SinkHandle {
        let context = EncodeContext { host: String::new(), netns_name: Box::new(|_| None) };
        StdoutSink::spawn(Output::Json, context, out, CAPACITY)
    }

    /// As many ends, told by their source ports.
    fn ends(ports: std::ops::Range<u16>) -> Records {
        let end = |port| {
            let mut record = end_of_tcp();
            record.original.src_port = port;
            record
        };
        ports.map(end).collect::<Vec<_>>().into()
    }

    fn earlier() -> Vec<NumberedBatch> {
        (0..5).map(|number| (u64::from(number), ends(4 * number..4 * number + 4))).collect()
    }

    fn ports(written: &Text) -> Vec<u64> {
        let text = written.read();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["source"]["port"].as_u64().unwrap()).collect()
    }

    #[tokio::test]
    async fn new_batches_wait_behind_earlier_ones_and_nobody_waits_for_the_reader() {
        let (out, written, gate) = stalled();
        let sink = sink(out);
        let mut outbox = Outbox::new(earlier(), 100);
        for number in 5..8 {
            let port = u16::try_from(15 + number).unwrap();
            // This returns although nobody reads.
            assert_eq!(outbox.offer(number, ends(port..port + 1), &sink), Offered::Taken);
        }
        assert!(sink.backlog().batches().len() < 5, "the output has no room for all of them");
        let numbers: Vec<_> = outbox.backlog(&sink.backlog()).batches().iter().map(|batch| batch.0).collect();
        assert_eq!(numbers, (0..8).collect::<Vec<_>>(), "a later agent finds all of it");
        drop(gate);
        outbox.empty(&sink).await;
        assert_eq!(outbox.hand_on(&sink), Offered::Taken);
        assert_eq!(sink.finish().await.written, 23);
        assert_eq!(ports(&written), (0..23).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn what_has_no_room_is_counted_and_ends_are_dropped_last() {
        let (out, _, _gate) = stalled();
        let sink = sink(out);
        let mut outbox = Outbox::new(earlier(), 4);
        assert_eq!(outbox.offer(5, ends(20..23), &sink), Offered::Taken);
        assert_eq!(outbox.offer(6, vec![ping()].into(), &sink), Offered::Full);
        assert_eq!(outbox.offer(7, ends(23..25), &sink), Offered::Full);
        let report = outbox.complete(sink.tally().report());
        assert_eq!((report.dropped, report.dropped_ends), (1, 1));
        let handed_over = sink.tally().report().unwritten;
        assert_eq!(report.unwritten, handed_over + 4, "those of the agent before are in its own account");
        assert!(report.unwritten_sum.flows >= 4);
    }

    #[tokio::test]
    async fn with_nothing_of_an_earlier_agent_it_is_as_if_it_were_not_there() {
        let (out, written) = kept();
        let sink = sink(out);
        let mut outbox = Outbox::default();
        assert_eq!(outbox.offer(1, ends(0..3), &sink), Offered::Taken);
        let output = sink.backlog();
        assert!(Arc::ptr_eq(&outbox.backlog(&output), &output));
        sink.finish().await;
        assert_eq!(ports(&written), [0, 1, 2]);
    }

    #[tokio::test]
    async fn when_the_reader_has_gone_it_says_so() {
        let (reader, out) = io::pipe().unwrap();
        drop(reader);
        let sink = sink(out);
        let mut outbox = Outbox::new(earlier(), 100);
        assert_eq!(outbox.hand_on(&sink), Offered::Full);
        sink.closed().await;
        assert_eq!(outbox.offer(5, ends(20..21), &sink), Offered::Closed);
        outbox.empty(&sink).await;
    }
}
