//! The default output: records as lines to standard output, or to standard error, by a thread behind a bounded queue.
//!
//! A slow reader of the output never holds up the agent: what does not fit into the queue is dropped and counted. A
//! quarter of the queue is kept for the last records of flows: a dropped update is made good for by the next record of
//! its flow, a dropped end by nothing. A reader that went away is no error, only the end.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::influxdb::schema::MEASUREMENT;
use super::influxdb::{Series, ToLine as _};
use super::json::{self, EncodeContext};
use super::tally::{SinkReport, Tally, ends};
use super::{logfmt, table};
use crate::model::{Backlog, Record, RecordKind, Records};
use crate::pipeline::Offered;

/// Records encoded before they are written: enough that a write costs each of them nothing, few enough that their
/// lines stay in the processor's cache and the buffer stays small.
const WRITTEN_TOGETHER: usize = 256;

/// Batches of which the memory is kept for later ones: one is filled while another is written.
const SPARES: usize = 2;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Rows for a person, as wide as given.
    Table {
        /// Columns of the terminal.
        width: usize,
    },
    /// One JSON object a line.
    Json,
    /// The same as pairs of names and values.
    Logfmt,
    /// InfluxDB's line protocol, a series for each flow.
    LineProtocol,
    /// Nothing, for measuring.
    Null,
}

/// Starts the sink.
pub struct StdioSink;

impl StdioSink {
    /// Starts the writing thread, one of the current Tokio runtime's for what blocks: a task would have to copy all
    /// lines to such a thread for each write. `capacity` bounds the records that wait.
    pub fn spawn(
        output: Output,
        context: EncodeContext,
        out: impl Write + Send + 'static,
        capacity: u32,
    ) -> SinkHandle {
        let capacity = capacity.max(1);
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(capacity as usize));
        let encoder = Encoder::new(output, context);
        let tally = Arc::new(Tally::default());
        let backlog = Arc::new(Backlog::default());
        let spare = Arc::new(Spare::default());
        let writer = Writer {
            encoder,
            out,
            room: Arc::clone(&room),
            capacity,
            tally: Arc::clone(&tally),
            backlog: Arc::clone(&backlog),
            spare: Arc::clone(&spare),
        };
        let task = tokio::task::spawn_blocking(move || writer.run(receiver));
        SinkHandle { sender, room, capacity, tally, backlog, spare, task }
    }
}

/// A batch that waits.
#[derive(Debug)]
struct Queued {
    records: Records,
    /// When it came.
    since: Instant,
    /// An earlier agent had it in its queue: it took no room in this one.
    is_earlier: bool,
}

/// The way to a running sink.
#[derive(Debug)]
pub struct SinkHandle {
    /// Unbounded, because `room` bounds it by records rather than batches.
    sender: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
    capacity: u32,
    tally: Arc<Tally>,
    backlog: Arc<Backlog>,
    spare: Arc<Spare>,
    task: JoinHandle<io::Result<()>>,
}

impl SinkHandle {
    /// Hands over what there is room for. Never waits. When room gets scarce, only the ends of flows are taken.
    /// `number` is by what the batch is known to whoever asks for the [`SinkHandle::backlog`].
    pub fn offer(&self, number: u64, records: Records) -> Offered {
        // Not for want of room, however little there is.
        if self.sender.is_closed() {
            return self.hand_over(number, records);
        }
        let kept = self.fitting(&records);
        if kept.len() == records.len() {
            return self.try_hand_over(number, records);
        }
        self.tally.count_dropped(&records, &kept);
        if kept.is_empty() {
            return Offered::Full;
        }
        match self.try_hand_over(number, kept) {
            Offered::Taken => Offered::Full,
            other => other,
        }
    }

    /// The part of a batch that may enter the queue now.
    fn fitting(&self, records: &Records) -> Records {
        let free = self.room.available_permits();
        let capacity = self.capacity as usize;
        let only_ends = || records.len() <= free && ends(records) == records.len();
        // A batch larger than the queue goes through alone.
        if free == capacity || records.len() + capacity / 4 <= free || only_ends() {
            return Arc::clone(records);
        }
        let ends = records.iter().filter(|record| record.kind == RecordKind::End);
        Arc::new(ends.take(free).copied().collect())
    }

    fn try_hand_over(&self, number: u64, records: Records) -> Offered {
        let Ok(permit) = self.room.try_acquire_many(self.permits(&records)) else {
            self.tally.count_dropped(&records, &[]);
            return Offered::Full;
        };
        permit.forget();
        self.hand_over(number, records)
    }

    /// Hands over a batch as soon as there is room: for a replay.
    pub async fn send(&self, number: u64, records: Records) -> Offered {
        self.room_for(records.len()).await;
        self.put(number, records)
    }

    /// Waits until there is room for so many records, or nothing can be written any more. Cancel safe.
    pub async fn room_for(&self, records: usize) {
        tokio::select! {
            // Given back at once: only who hands over takes room, and that is who waits here.
            _ = self.room.acquire_many(permits(records, self.capacity)) => {}
            () = self.sender.closed() => {}
        }
    }

    /// Hands over a batch for which there is room, see [`SinkHandle::room_for`]. Never waits.
    pub fn put(&self, number: u64, records: Records) -> Offered {
        if self.sender.is_closed() {
            return self.hand_over(number, records);
        }
        self.try_hand_over(number, records)
    }

    /// Hands over a batch that an earlier agent may not have written. Never waits, and leaves all room to new batches,
    /// which are written after it. Until it is written, it is in that agent's account and not in this one's.
    pub fn admit(&self, number: u64, records: Records) -> Offered {
        self.backlog.push(number, Arc::clone(&records));
        self.enqueue(Queued { records, since: Instant::now(), is_earlier: true })
    }

    /// Waits until nothing can be written any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// The counters, which outlive the handle.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// What was handed over and is not written, which outlives the handle.
    #[must_use]
    pub fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.backlog)
    }

    /// Memory for the next batch: that of one which was written, if there is any.
    #[must_use]
    pub fn spare(&self) -> Vec<Record> {
        self.spare.take()
    }

    /// Ends the input, waits until all of it is written, and tells what was done.
    pub async fn finish(self) -> SinkReport {
        drop(self.sender);
        let result = self.task.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        let report = self.tally.report();
        let error = result.err().filter(|_| !report.broken_pipe);
        SinkReport { error, ..report }
    }

    fn hand_over(&self, number: u64, records: Records) -> Offered {
        // Also when nothing can be written any more: then it stays unwritten.
        self.tally.count_taken(&records);
        self.backlog.push(number, Arc::clone(&records));
        self.enqueue(Queued { records, since: Instant::now(), is_earlier: false })
    }

    fn enqueue(&self, batch: Queued) -> Offered {
        match self.sender.send(batch) {
            Ok(()) => Offered::Taken,
            Err(_) => Offered::Closed,
        }
    }

    /// A batch larger than the whole queue goes through alone.
    fn permits(&self, records: &[Record]) -> u32 {
        permits(records.len(), self.capacity)
    }
}

fn permits(records: usize, capacity: u32) -> u32 {
    u32::try_from(records).unwrap_or(u32::MAX).min(capacity)
}

struct Writer<W> {
    encoder: Encoder,
    out: W,
    room: Arc<Semaphore>,
    capacity: u32,
    tally: Arc<Tally>,
    backlog: Arc<Backlog>,
    spare: Arc<Spare>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, mut batches: mpsc::UnboundedReceiver<Queued>) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(batch) = batches.blocking_recv() {
            self.tally.note_writing(Some(batch.since));
            for part in batch.records.chunks(WRITTEN_TOGETHER) {
                self.encoder.encode(part, &mut buffer);
                // Noted before the input closes: whoever sees it closed may ask why.
                self.write(&buffer).inspect_err(|error| self.tally.note_error(error))?;
                buffer.clear();
            }
            self.note_written(batch);
            self.tally.note_writing(None);
        }
        Ok(())
    }

    fn note_written(&self, Queued { records, is_earlier, .. }: Queued) {
        if is_earlier {
            self.tally.count_taken(&records);
        } else {
            self.room.add_permits(permits(records.len(), self.capacity) as usize);
        }
        self.tally.count_written(&records);
        self.backlog.pop();
        self.spare.put(records);
    }

    fn write(&mut self, buffer: &[u8]) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        self.out.write_all(buffer)?;
        self.out.flush()
    }
}

/// Memory of batches that were written, which saves taking fresh pages from the kernel for each.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<Vec<Record>>>);

impl Spare {
    fn take(&self) -> Vec<Record> {
        self.lock().pop().unwrap_or_default()
    }

    /// Keeps a batch's memory, unless somebody still reads it or enough is kept.
    fn put(&self, batch: Records) {
        let Some(mut records) = Arc::into_inner(batch) else { return };
        records.clear();
        let mut spare = self.lock();
        if spare.len() < SPARES {
            spare.push(records);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<Record>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Encoder {
    output: Output,
    json: json::Encoder,
    /// Memory for lines of JSON of which others are made.
    lines: Vec<u8>,
    logfmt: logfmt::Encoder,
    series: Series,
    /// Rows written under all headers.
    rows: usize,
}

impl Encoder {
    fn new(output: Output, context: EncodeContext) -> Self {
        // A record has its own time, so that no interval matters, nor when the agent was born.
        let series = Series::new(MEASUREMENT, &context.host, Duration::ZERO, SystemTime::UNIX_EPOCH);
        let json = json::Encoder::new(context);
        Self { output, json, lines: Vec::new(), logfmt: logfmt::Encoder::default(), series, rows: 0 }
    }

    fn encode(&mut self, records: &[Record], out: &mut Vec<u8>) {
        match self.output {
            Output::Table { width } => records.iter().for_each(|record| self.encode_row(record, width, out)),
            Output::Json => self.json.encode(records, out),
            Output::Logfmt => {
                self.lines.clear();
                self.json.encode(records, &mut self.lines);
                self.logfmt.encode(&self.lines, out);
            }
            Output::LineProtocol => records.iter().for_each(|record| record.to_line(&self.series, out)),
            Output::Null => {}
        }
    }

    fn encode_row(&mut self, record: &Record, width: usize, out: &mut Vec<u8>) {
        if self.rows.is_multiple_of(table::HEADER_EVERY) {
            out.extend_from_slice(table::header(width).as_bytes());
            out.push(b'\n');
        }
        self.rows += 1;
        out.extend_from_slice(table::row(record, width).as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::{kept, stalled};
    use super::super::samples::{end_of_tcp, ping};
    use super::*;
    use crate::model::Sum;

    fn context() -> EncodeContext {
        EncodeContext { host: "gw1".to_owned(), netns_name: Box::new(|_| None), networks: Arc::default() }
    }

    fn batch(records: usize) -> Records {
        vec![end_of_tcp(); records].into()
    }

    #[tokio::test]
    async fn all_that_was_taken_is_written_before_it_ends() {
        let (out, text) = kept();
        let sink = StdioSink::spawn(Output::Json, context(), out, 100);
        assert_eq!(sink.offer(0, batch(3)), Offered::Taken);
        assert_eq!(sink.offer(0, vec![ping()].into()), Offered::Taken);
        let report = sink.finish().await;
        assert_eq!((report.written, report.dropped, report.broken_pipe), (4, 0, false));
        let text = text.read();
        assert_eq!(text.lines().count(), 4);
        assert!(text.ends_with("}\n"));
    }

    /// As many updates, then as many ends.
    fn mixed(updates: usize, ends: usize) -> Records {
        [vec![ping(); updates], vec![end_of_tcp(); ends]].concat().into()
    }

    #[tokio::test]
    async fn a_stalled_reader_costs_counted_records_and_never_time() {
        let (out, text, gate) = stalled();
        let sink = StdioSink::spawn(Output::Json, context(), out, 10);
        assert_eq!(sink.offer(0, batch(6)), Offered::Taken);
        assert_eq!(sink.offer(0, batch(6)), Offered::Full);
        assert_eq!(sink.tally().report().dropped_ends, 2);
        drop(gate);
        let report = sink.finish().await;
        assert_eq!((report.written, report.dropped, report.dropped_ends), (10, 0, 2));
        assert_eq!(text.read().lines().count(), 10);
    }

    #[tokio::test]
    async fn the_last_quarter_of_the_queue_is_for_ends() {
        let (out, _, _gate) = stalled();
        let sink = StdioSink::spawn(Output::Json, context(), out, 100);
        assert_eq!(sink.offer(0, mixed(50, 0)), Offered::Taken);
        assert_eq!(sink.offer(0, mixed(25, 0)), Offered::Taken);
        assert_eq!(sink.offer(0, mixed(1, 0)), Offered::Full);
        assert_eq!(sink.offer(0, mixed(30, 20)), Offered::Full);
        assert_eq!(sink.offer(0, mixed(0, 5)), Offered::Taken);
        assert_eq!(sink.offer(0, mixed(2, 3)), Offered::Full);
        let report = sink.tally().report();
        assert_eq!((report.dropped, report.dropped_ends, report.unwritten), (33, 3, 100));
        let deltas = |updates: u64, ends: u64| {
            let of = |record: Record| Sum::moved(&record.delta);
            let (update, end) = (of(ping()), of(end_of_tcp()));
            let packets = updates * update.packets + ends * end.packets;
            Sum { flows: ends, packets, bytes: updates * update.bytes + ends * end.bytes }
        };
        assert_eq!(report.dropped_sum, deltas(33, 3));
        assert_eq!(report.unwritten_sum + report.dropped_sum, deltas(108, 28));
    }

    #[tokio::test]
    async fn what_an_earlier_agent_left_is_written_first_and_takes_no_room() {
        let (out, text, gate) = stalled();
        let sink = StdioSink::spawn(Output::Json, context(), out, 4);
        for number in 0..3 {
            assert_eq!(sink.admit(number, mixed(5, 0)), Offered::Taken);
        }
        assert_eq!(sink.offer(3, batch(4)), Offered::Taken);
        assert_eq!(sink.offer(4, batch(2)), Offered::Full);
        let numbers: Vec<_> = sink.backlog().batches().iter().map(|batch| batch.0).collect();
        assert_eq!(numbers, [0, 1, 2, 3], "a later agent finds all of it");
        let report = sink.tally().report();
        assert_eq!(
            (report.unwritten, report.unwritten_sum.flows),
            (4, 4),
            "earlier ones are in another account"
        );
        drop(gate);
        let report = sink.finish().await;
        assert_eq!((report.written, report.unwritten, report.dropped_ends), (19, 0, 2));
        let text = text.read();
        let are_ends: Vec<_> = text.lines().map(|line| line.contains("\"tcp\"")).collect();
        assert_eq!(are_ends, [vec![false; 15], vec![true; 4]].concat());
    }

    #[tokio::test]
    async fn each_format_writes_a_line_for_each_record() {
        let begin = |output| async move {
            let (out, text) = kept();
            let sink = StdioSink::spawn(output, context(), out, 100);
            for number in 0..2 {
                assert_eq!(sink.offer(number, mixed(1, 1)), Offered::Taken);
            }
            assert_eq!(sink.finish().await.written, 4);
            text.read().lines().map(|line| line.chars().take(24).collect::<String>()).collect::<Vec<_>>()
        };
        let twice = |of_ping: &str, of_tcp: &str| [of_ping, of_tcp, of_ping, of_tcp].map(str::to_owned);
        let json = "{\"@timestamp\":\"2026-11-2";
        assert_eq!(begin(Output::Json).await, twice(json, json));
        let logfmt = "@timestamp=2026-11-20T10:";
        assert_eq!(begin(Output::Logfmt).await, twice(&logfmt[..24], &logfmt[..24]));
        let points = twice("flows,dst=2001:db8::2,fl", "flows,dst=198.51.100.7,d");
        assert_eq!(begin(Output::LineProtocol).await, points);
        assert!(begin(Output::Null).await.is_empty());
    }

    #[tokio::test]
    async fn room_is_waited_for_and_not_taken() {
        let (out, text, gate) = stalled();
        let sink = StdioSink::spawn(Output::Null, context(), out, 4);
        sink.room_for(4).await;
        assert_eq!(sink.put(0, batch(4)), Offered::Taken);
        sink.room_for(9).await;
        drop(gate);
        assert_eq!(sink.send(1, batch(9)).await, Offered::Taken);
        assert_eq!((sink.finish().await.written, text.read()), (13, String::new()));
    }

    #[tokio::test]
    async fn a_batch_larger_than_the_queue_goes_through_and_leaves_the_queue_as_it_was() {
        let (out, text) = kept();
        let sink = StdioSink::spawn(Output::Null, context(), out, 4);
        for _ in 0..3 {
            assert_eq!(sink.send(0, batch(9)).await, Offered::Taken);
        }
        assert_eq!(sink.finish().await.written, 27);
        assert_eq!(text.read(), "");
    }

    #[tokio::test]
    async fn a_reader_that_left_ends_the_sink_without_an_error() {
        let (reader, out) = io::pipe().unwrap();
        drop(reader);
        let sink = StdioSink::spawn(Output::Json, context(), out, 10);
        assert_eq!(sink.offer(0, batch(1)), Offered::Taken);
        sink.closed().await;
        assert_eq!(sink.offer(0, batch(1)), Offered::Closed);
        assert_eq!(sink.send(0, batch(10)).await, Offered::Closed);
        assert_eq!(sink.admit(0, batch(1)), Offered::Closed);
        let report = sink.finish().await;
        assert!(report.broken_pipe && report.error.is_none());
        assert_eq!((report.written, report.dropped, report.dropped_ends, report.unwritten), (0, 0, 0, 12));
        assert_eq!(report.unwritten_sum.flows, 12, "what an earlier agent left is in its account");
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_what_it_cost_is_counted() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let sink = StdioSink::spawn(Output::Json, context(), full, 10);
        assert_eq!(sink.offer(0, batch(2)), Offered::Taken);
        sink.closed().await;
        assert_eq!(sink.offer(0, batch(1)), Offered::Closed);
        let report = sink.finish().await;
        assert_eq!(report.error.unwrap().kind(), io::ErrorKind::StorageFull);
        assert_eq!((report.written, report.unwritten), (0, 3));
    }

    #[tokio::test]
    async fn the_table_has_its_header_first_and_again() {
        let (out, text) = kept();
        let sink = StdioSink::spawn(Output::Table { width: 80 }, context(), out, 1000);
        assert_eq!(sink.offer(0, batch(table::HEADER_EVERY + 1)), Offered::Taken);
        sink.finish().await;
        let text = text.read();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("TIME UTC"));
        assert_eq!(lines[table::HEADER_EVERY + 1], lines[0]);
        assert_eq!(lines.len(), table::HEADER_EVERY + 3);
    }
}
