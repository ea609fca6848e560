//! A proxy between a client and a real server that misbehaves as a test tells it.
//!
//! Each request has a connection of its own. Faults apply to requests whose path has a word in it, one fault each, in
//! the order in which they were ordered; when all are used up everything passes, unless one fault was ordered for all
//! further requests.

mod certificate;
mod connection;
mod fault;
mod message;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conntally_tests::traffic::bind_soon;

pub use certificate::Certificate;
pub use fault::Fault;

use certificate::Office;
use connection::serve;
use rustls::ServerConfig;

/// A name that its certificates are good for, beside its address; no resolver knows it.
pub const NAME: &str = "sinks.conntally.invalid";

const POLL: Duration = Duration::from_millis(5);

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When its head had been read.
    pub at: Instant,
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Bytes of its body, as they came; 0 when it was not read.
    pub bytes: usize,
    /// What was done to it.
    pub fault: Fault,
    /// The status that the client was told, as far as it was.
    pub status: Option<u16>,
}

/// A proxy that runs. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    office: Option<Office>,
    listener: Option<JoinHandle<()>>,
}

/// What the proxy's threads have in common.
#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    /// What the path of a request has to contain for faults to apply to it.
    word: &'static str,
    /// Its side of TLS, where it speaks that.
    identity: Option<Mutex<Arc<ServerConfig>>>,
    plan: Mutex<VecDeque<Fault>>,
    /// What happens when the plan is used up.
    lasting: Mutex<Fault>,
    seen: Mutex<Vec<Seen>>,
    is_away: AtomicBool,
    is_over: AtomicBool,
}

impl Proxy {
    /// Starts a proxy in front of a server. Faults apply to requests with that word in their path.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(upstream: SocketAddr, word: &'static str) -> Result<Self> {
        Self::run(upstream, word, None, None)
    }

    /// The same with TLS towards the client; files go below the folder.
    ///
    /// # Errors
    /// See there.
    pub fn start_tls(
        upstream: SocketAddr,
        word: &'static str,
        certificate: Certificate,
        folder: &Path,
    ) -> Result<Self> {
        let office = Office::open(folder)?;
        let identity = office.issue(certificate)?;
        Self::run(upstream, word, Some(office), Some(Mutex::new(identity)))
    }

    fn run(
        upstream: SocketAddr,
        word: &'static str,
        office: Option<Office>,
        identity: Option<Mutex<Arc<ServerConfig>>>,
    ) -> Result<Self> {
        let port = conntally_servers::free_ports(1)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let shared = Arc::new(Shared {
            upstream,
            word,
            identity,
            plan: Mutex::default(),
            lasting: Mutex::new(Fault::Pass),
            seen: Mutex::default(),
            is_away: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let first = bind_soon(|| listen(address)).with_context(|| format!("cannot listen on {address}"))?;
        let listener = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(Some(first), address, &shared)
        });
        Ok(Self { address, shared, office, listener: Some(listener) })
    }

    /// Where clients go.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.shared.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The file with the authority that signs its certificate, or would.
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.office.as_ref().map(Office::file)
    }

    /// Shows another certificate from now on.
    ///
    /// # Errors
    /// When it speaks no TLS.
    pub fn show(&self, certificate: Certificate) -> Result<()> {
        let (office, identity) =
            self.office.as_ref().zip(self.shared.identity.as_ref()).context("this proxy speaks no TLS")?;
        *lock(identity) = office.issue(certificate)?;
        Ok(())
    }

    /// The same address by a name that a resolver has to be told of.
    #[must_use]
    pub fn url_by_name(&self) -> String {
        self.url().replacen(&self.address.ip().to_string(), NAME, 1)
    }

    /// Orders faults for the next requests.
    pub fn order(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.shared.plan).extend(faults);
    }

    /// Orders one for all requests that come after those for which there is another.
    pub fn insist(&self, fault: Fault) {
        *lock(&self.shared.lasting) = fault;
    }

    /// Faults that no request met yet.
    #[must_use]
    pub fn left(&self) -> usize {
        lock(&self.shared.plan).len()
    }

    /// Forgets them, and the one for all requests.
    pub fn behave(&self) {
        lock(&self.shared.plan).clear();
        self.insist(Fault::Pass);
    }

    /// All requests to which faults could have applied, in the order in which they came.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).iter().filter(|seen| seen.path.contains(self.shared.word)).cloned().collect()
    }

    /// Refuses connections from now on, as a server does that is down.
    ///
    /// # Errors
    /// When it is still there after a while.
    pub fn go_away(&self) -> Result<()> {
        self.shared.is_away.store(true, Ordering::SeqCst);
        self.wait(|connects| !connects)
    }

    /// Is there again, under the same address.
    ///
    /// # Errors
    /// When it is not after a while.
    pub fn come_back(&self) -> Result<()> {
        self.shared.is_away.store(false, Ordering::SeqCst);
        self.wait(|connects| connects)
    }

    fn wait(&self, until: impl Fn(bool) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !until(TcpStream::connect(self.address).is_ok()) {
            ensure!(Instant::now() < deadline, "the proxy does not do as it is told");
            sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Some(listener) = self.listener.take() {
            // A panic there has been told already.
            drop(listener.join());
        }
    }
}

impl Shared {
    /// What happens to a request of that path.
    fn next(&self, path: &str) -> Fault {
        if !path.contains(self.word) {
            return Fault::Pass;
        }
        lock(&self.plan).pop_front().unwrap_or_else(|| lock(&self.lasting).clone())
    }

    fn note(&self, seen: Seen) {
        lock(&self.seen).push(seen);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

/// Takes connections while the proxy is there.
fn accept(mut listener: Option<TcpListener>, address: SocketAddr, shared: &Arc<Shared>) {
    while !shared.is_over() {
        if shared.is_away.load(Ordering::SeqCst) {
            listener = None;
        } else if listener.is_none() {
            listener = listen(address).ok();
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((stream, _))) => {
                let shared = Arc::clone(shared);
                // A client that goes away is none of the test's business.
                thread::spawn(move || drop(serve(stream, &shared)));
            }
            _ => sleep(POLL),
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The content; a thread that panicked with it has told so already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
