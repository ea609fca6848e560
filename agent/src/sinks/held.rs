//! Outputs for tests.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// An output that keeps what is written, and that writes nothing while its gate is there.
pub(crate) struct Held {
    gate: Receiver<()>,
    text: Text,
}

/// What was written to it.
#[derive(Clone, Default)]
pub(crate) struct Text(Arc<Mutex<Vec<u8>>>);

impl Text {
    pub(crate) fn read(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gate.recv().unwrap_err();
        self.text.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One that writes nothing until its gate is dropped.
pub(crate) fn stalled() -> (Held, Text, Sender<()>) {
    let ((sender, gate), text) = (channel(), Text::default());
    (Held { gate, text: text.clone() }, text, sender)
}

/// One that writes at once.
pub(crate) fn kept() -> (Held, Text) {
    let (out, text, _) = stalled();
    (out, text)
}
