//! A server of lines that is away, stuck or slow as it is told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::http;

/// What it does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Closes connections.
    Away,
    /// Reads them, and does not answer until its mood changes.
    Stuck,
    /// Stores what it reads, and answers after so long.
    Up(Duration),
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<(Mood, Stored)>>,
}

/// What it has taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// How often each line came.
    pub(crate) lines: HashMap<String, usize>,
    pub(crate) requests: usize,
}

impl Server {
    pub(crate) fn start(mood: Mood) -> Self {
        let shared = Arc::new(Mutex::new((mood, Stored::default())));
        let taking = Arc::clone(&shared);
        let address = http::serve(move |asked| take(&taking, &asked.body)).unwrap();
        Self { address, shared }
    }

    pub(crate) fn become_(&self, mood: Mood) {
        self.shared.lock().unwrap().0 = mood;
    }

    pub(crate) fn stored(&self) -> Stored {
        self.shared.lock().unwrap().1.clone()
    }
}

/// Nothing is answered by one that is away.
fn take(shared: &Mutex<(Mood, Stored)>, body: &str) -> Option<String> {
    let mood = || shared.lock().unwrap().0;
    while mood() == Mood::Stuck {
        thread::sleep(Duration::from_millis(5));
    }
    let Mood::Up(slowness) = mood() else { return None };
    {
        let stored = &mut shared.lock().unwrap().1;
        stored.requests += 1;
        for line in body.lines() {
            *stored.lines.entry(line.to_owned()).or_default() += 1;
        }
    }
    thread::sleep(slowness);
    Some("HTTP/1.1 204 No Content\r\n\r\n".to_owned())
}
