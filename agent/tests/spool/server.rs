//! A server that speaks as much HTTP as the agent needs to write lines to it.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, shared: Arc::new(Mutex::new((mood, Stored::default()))) };
        let shared = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = shared.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    pub(crate) fn become_(&self, mood: Mood) {
        self.shared.lock().unwrap().0 = mood;
    }

    pub(crate) fn stored(&self) -> Stored {
        self.shared.lock().unwrap().1.clone()
    }

    fn mood(&self) -> Mood {
        self.shared.lock().unwrap().0
    }

    /// Until the client is gone, or the mood is to be away.
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        while self.mood() != Mood::Away {
            let Some(body) = read(&mut reader) else { return };
            while self.mood() == Mood::Stuck {
                thread::sleep(Duration::from_millis(5));
            }
            let Mood::Up(slowness) = self.mood() else { return };
            self.store(&body);
            thread::sleep(slowness);
            if writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                return;
            }
        }
    }

    fn store(&self, body: &str) {
        let stored = &mut self.shared.lock().unwrap().1;
        stored.requests += 1;
        for line in body.lines() {
            *stored.lines.entry(line.to_owned()).or_default() += 1;
        }
    }
}

/// The body of the next request.
fn read(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}
