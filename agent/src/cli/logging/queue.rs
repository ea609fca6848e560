//! Lines of the log on their way to standard error. It may take them slowly, or not at all: whoever logs never waits.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of lines that wait at most.
const ROOM: usize = 1 << 20;

/// Lines in their order.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// A line came, or one was written.
    changed: Condvar,
}

#[derive(Debug)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
    /// Lines for which there was no room, and of which nothing was said yet.
    left_out: u64,
}

impl Queue {
    pub(super) const fn new() -> Self {
        let waiting = Waiting { lines: VecDeque::new(), bytes: 0, is_writing: false, left_out: 0 };
        Self { waiting: Mutex::new(waiting), changed: Condvar::new() }
    }

    /// Takes a line, or counts it where there is no room.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut waiting = self.waiting();
        if waiting.bytes + line.len() > ROOM {
            waiting.left_out += 1;
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits for a line and writes it. Returns for how many there was no room, once all that wait are written.
    pub(super) fn write_next(&self, out: &mut impl Write) -> u64 {
        let mut waiting = self.waiting();
        let line = loop {
            if let Some(line) = waiting.lines.pop_front() {
                break line;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        };
        waiting.is_writing = true;
        drop(waiting);
        // Nobody is left to tell when it is closed.
        let _ = out.write_all(&line);
        let mut waiting = self.waiting();
        waiting.bytes -= line.len();
        waiting.is_writing = false;
        let left_out = if waiting.lines.is_empty() { std::mem::take(&mut waiting.left_out) } else { 0 };
        drop(waiting);
        self.changed.notify_all();
        left_out
    }

    /// Waits until all lines are written, but no longer than so.
    pub(super) fn flush(&self, longest: Duration) {
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        drop(self.changed.wait_timeout_while(self.waiting(), longest, is_busy));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_in_their_order_and_those_without_room_are_counted() {
        let queue = Queue::new();
        let line = vec![b'x'; ROOM / 4];
        for _ in 0..7 {
            queue.push(line.clone());
        }
        let (mut out, mut told) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            told.push(queue.write_next(&mut out));
        }
        assert_eq!((out.len(), told), (ROOM, vec![0, 0, 0, 3]));
        queue.push(b"more".into());
        assert_eq!(queue.write_next(&mut out), 0, "told once");
        assert!(out.ends_with(b"xmore"));
    }

    #[test]
    fn to_flush_ends_when_all_is_written_or_the_time_is_over() {
        let queue = Queue::new();
        queue.flush(Duration::from_secs(3_600));
        queue.push(b"a".into());
        queue.flush(Duration::from_millis(1));
        std::thread::scope(|scope| {
            scope.spawn(|| queue.write_next(&mut std::io::sink()));
            queue.flush(Duration::from_secs(3_600));
        });
    }
}
