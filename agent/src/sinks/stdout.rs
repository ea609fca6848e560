//! The default output: records as lines to standard output, by a task behind a bounded queue.
//!
//! A slow reader of the output never holds up the agent: what does not fit into the queue is dropped and counted
//! (`output_queue_full`). A reader that went away is no error, only the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::json::{self, EncodeContext};
use super::table;
use crate::model::Record;

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
    /// Nothing, for measuring.
    Null,
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offered {
    /// It will be written.
    Taken,
    /// There was no room: dropped and counted.
    Full,
    /// Nothing can be written any more.
    Closed,
}

/// What the sink did in its life.
#[derive(Debug, Default)]
pub struct SinkReport {
    /// Records written.
    pub written: u64,
    /// Records dropped because the queue was full, or lost by `error`.
    pub dropped: u64,
    /// The reader of the output went away: nobody wants more.
    pub broken_pipe: bool,
    /// Why writing failed otherwise.
    pub error: Option<io::Error>,
}

/// Starts the sink.
pub struct StdoutSink;

impl StdoutSink {
    /// Starts the writing task in the current Tokio runtime. `capacity` bounds the records that wait.
    pub fn spawn(
        output: Output,
        context: EncodeContext,
        out: impl AsyncWrite + Unpin + Send + 'static,
        capacity: u32,
    ) -> SinkHandle {
        let capacity = capacity.max(1);
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(capacity as usize));
        let encoder = Encoder { output, context, rows: 0 };
        let writer = Writer { encoder, out, room: Arc::clone(&room), capacity };
        let task = tokio::spawn(writer.run(receiver));
        SinkHandle { sender, room, capacity, taken: AtomicU64::new(0), dropped: AtomicU64::new(0), task }
    }
}

/// The way to a running sink.
#[derive(Debug)]
pub struct SinkHandle {
    /// Unbounded, because `room` bounds it by records rather than batches.
    sender: mpsc::UnboundedSender<Arc<[Record]>>,
    room: Arc<Semaphore>,
    capacity: u32,
    taken: AtomicU64,
    dropped: AtomicU64,
    task: JoinHandle<Written>,
}

impl SinkHandle {
    /// Hands over a batch if there is room. Never waits.
    pub fn offer(&self, records: Arc<[Record]>) -> Offered {
        let count = records.len() as u64;
        let Ok(permit) = self.room.try_acquire_many(self.permits(&records)) else {
            self.dropped.fetch_add(count, Relaxed);
            return Offered::Full;
        };
        permit.forget();
        self.hand_over(records)
    }

    /// Hands over a batch as soon as there is room: for a replay, and for the last batches before the end.
    pub async fn send(&self, records: Arc<[Record]>) -> Offered {
        tokio::select! {
            permit = self.room.acquire_many(self.permits(&records)) => {
                let Ok(permit) = permit else { return Offered::Closed };
                permit.forget();
                self.hand_over(records)
            }
            () = self.sender.closed() => Offered::Closed,
        }
    }

    /// Waits until nothing can be written any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Records dropped so far because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Ends the input, waits until all of it is written, and tells what was done.
    pub async fn finish(self) -> SinkReport {
        drop(self.sender);
        let Written { written, error } = self
            .task
            .await
            .unwrap_or_else(|panicked| Written { written: 0, error: Some(io::Error::other(panicked)) });
        let broken_pipe = error.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        let error = error.filter(|_| !broken_pipe);
        let unwritten = self.taken.into_inner().saturating_sub(written);
        let lost = if error.is_some() { unwritten } else { 0 };
        SinkReport { written, dropped: self.dropped.into_inner() + lost, broken_pipe, error }
    }

    fn hand_over(&self, records: Arc<[Record]>) -> Offered {
        let count = records.len() as u64;
        if self.sender.send(records).is_err() {
            return Offered::Closed;
        }
        self.taken.fetch_add(count, Relaxed);
        Offered::Taken
    }

    /// A batch larger than the whole queue goes through alone.
    fn permits(&self, records: &[Record]) -> u32 {
        permits(records.len(), self.capacity)
    }
}

fn permits(records: usize, capacity: u32) -> u32 {
    u32::try_from(records).unwrap_or(u32::MAX).min(capacity)
}

/// What the task tells at its end.
#[derive(Debug)]
struct Written {
    written: u64,
    error: Option<io::Error>,
}

struct Writer<W> {
    encoder: Encoder,
    out: W,
    room: Arc<Semaphore>,
    capacity: u32,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn run(mut self, mut batches: mpsc::UnboundedReceiver<Arc<[Record]>>) -> Written {
        let mut written = 0;
        let mut buffer = Vec::new();
        while let Some(batch) = batches.recv().await {
            self.encoder.encode(&batch, &mut buffer);
            if let Err(error) = self.write(&buffer).await {
                return Written { written, error: Some(error) };
            }
            buffer.clear();
            written += batch.len() as u64;
            self.room.add_permits(permits(batch.len(), self.capacity) as usize);
        }
        Written { written, error: None }
    }

    async fn write(&mut self, buffer: &[u8]) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        self.out.write_all(buffer).await?;
        self.out.flush().await
    }
}

struct Encoder {
    output: Output,
    context: EncodeContext,
    /// Rows written under all headers.
    rows: usize,
}

impl Encoder {
    fn encode(&mut self, records: &[Record], out: &mut Vec<u8>) {
        for record in records {
            match self.output {
                Output::Table { width } => self.encode_row(record, width, out),
                Output::Json => json::encode(record, &self.context, out),
                Output::Null => {}
            }
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
    use tokio::io::AsyncReadExt;

    use super::super::samples::{end_of_tcp, ping};
    use super::*;

    fn context() -> EncodeContext {
        EncodeContext { host: "gw1".to_owned(), netns_name: Box::new(|_| None) }
    }

    fn batch(records: usize) -> Arc<[Record]> {
        vec![end_of_tcp(); records].into()
    }

    #[tokio::test]
    async fn all_that_was_taken_is_written_before_it_ends() {
        let (out, mut reader) = tokio::io::duplex(1 << 20);
        let sink = StdoutSink::spawn(Output::Json, context(), out, 100);
        assert_eq!(sink.offer(batch(3)), Offered::Taken);
        assert_eq!(sink.offer(vec![ping()].into()), Offered::Taken);
        let report = sink.finish().await;
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert_eq!((report.written, report.dropped, report.broken_pipe), (4, 0, false));
        assert_eq!(text.lines().count(), 4);
        assert!(text.ends_with("}\n"));
    }

    #[tokio::test]
    async fn a_stalled_reader_costs_counted_records_and_never_time() {
        let (out, mut reader) = tokio::io::duplex(16);
        let sink = StdoutSink::spawn(Output::Json, context(), out, 10);
        assert_eq!(sink.offer(batch(6)), Offered::Taken);
        assert_eq!(sink.offer(batch(6)), Offered::Full);
        assert_eq!(sink.offer(batch(4)), Offered::Taken);
        assert_eq!(sink.dropped(), 6);
        let read = tokio::spawn(async move {
            let mut text = String::new();
            reader.read_to_string(&mut text).await.map(|_| text)
        });
        let report = sink.finish().await;
        assert_eq!((report.written, report.dropped), (10, 6));
        assert_eq!(read.await.unwrap().unwrap().lines().count(), 10);
    }

    #[tokio::test]
    async fn a_batch_larger_than_the_queue_goes_through_and_leaves_the_queue_as_it_was() {
        let (out, mut reader) = tokio::io::duplex(1 << 20);
        let sink = StdoutSink::spawn(Output::Null, context(), out, 4);
        for _ in 0..3 {
            assert_eq!(sink.send(batch(9)).await, Offered::Taken);
        }
        assert_eq!(sink.finish().await.written, 27);
        assert_eq!(reader.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_reader_that_left_ends_the_sink_without_an_error() {
        let (out, reader) = tokio::io::duplex(16);
        drop(reader);
        let sink = StdoutSink::spawn(Output::Json, context(), out, 10);
        assert_eq!(sink.offer(batch(1)), Offered::Taken);
        sink.closed().await;
        assert_eq!(sink.offer(batch(1)), Offered::Closed);
        assert_eq!(sink.send(batch(10)).await, Offered::Closed);
        let report = sink.finish().await;
        assert!(report.broken_pipe && report.error.is_none());
        assert_eq!(report.dropped, 0);
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_what_it_cost_is_counted() {
        let full = tokio::fs::OpenOptions::new().write(true).open("/dev/full").await.unwrap();
        let sink = StdoutSink::spawn(Output::Json, context(), full, 10);
        assert_eq!(sink.offer(batch(2)), Offered::Taken);
        let report = sink.finish().await;
        assert_eq!(report.error.unwrap().kind(), io::ErrorKind::StorageFull);
        assert_eq!((report.written, report.dropped), (0, 2));
    }

    #[tokio::test]
    async fn the_table_has_its_header_first_and_again() {
        let (out, mut reader) = tokio::io::duplex(1 << 20);
        let sink = StdoutSink::spawn(Output::Table { width: 80 }, context(), out, 1000);
        assert_eq!(sink.offer(batch(table::HEADER_EVERY + 1)), Offered::Taken);
        sink.finish().await;
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("TIME UTC"));
        assert_eq!(lines[table::HEADER_EVERY + 1], lines[0]);
        assert_eq!(lines.len(), table::HEADER_EVERY + 3);
    }
}
