//! Datagrams: nobody answers.

use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::Mutex;

use crate::pipeline::{GivenUp, Outcome, Request};

/// How long an address that a name stands for is believed.
const BELIEVED: Duration = Duration::from_secs(60);

/// Datagrams after which the receiver is given time to take them out of its buffer, which holds some 90 of them by
/// default.
const BURST: usize = 8;
const PAUSE: Duration = Duration::from_millis(1);

/// Where datagrams go.
#[derive(Debug)]
pub(super) struct Datagrams {
    address: String,
    payload: usize,
    socket: Mutex<Option<(UdpSocket, Instant)>>,
}

impl Datagrams {
    pub(super) fn new(address: &str, payload: u32) -> Self {
        Self { address: address.to_owned(), payload: payload as usize, socket: Mutex::new(None) }
    }

    /// Sends all of it once, as many whole lines in a datagram as it holds.
    pub(super) async fn deliver(&self, request: &Request) -> Outcome {
        let (datagrams, given_up) = pack(request, self.payload);
        let mut kept = self.socket.lock().await;
        let socket = match kept.take() {
            Some((socket, since)) if since.elapsed() < BELIEVED => Ok((socket, since)),
            _ => connect(&self.address).await,
        };
        let sent = match &socket {
            Ok((socket, _)) => send(socket, &datagrams).await,
            Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
        };
        if let Err(error) = sent {
            let reason =
                format!("cannot send datagrams to {}: {error}; is the server running?", self.address);
            // Those before the one that failed may have arrived: sent again, they are the same points.
            return Outcome::NotNow { reason, retry_after: None, in_doubt: socket.is_ok() };
        }
        *kept = socket.ok();
        if given_up.is_empty() {
            return Outcome::Delivered;
        }
        Outcome::Partly { again: Vec::new(), reason: String::new(), given_up, retry_after: None }
    }
}

/// Whole lines put together, and those that fit no datagram.
fn pack(request: &Request, payload: usize) -> (Vec<Vec<u8>>, Vec<GivenUp>) {
    let (mut datagrams, mut given_up) = (Vec::<Vec<u8>>::new(), Vec::new());
    for position in 0..request.items.len() {
        let line = request.piece(position).unwrap_or_default();
        if line.len() > payload {
            let reason = format!("its line of {} bytes does not fit udp_payload", line.len());
            given_up.push(GivenUp { position, reason });
            continue;
        }
        match datagrams.last_mut() {
            Some(last) if last.len() + line.len() <= payload => last.extend_from_slice(line),
            _ => datagrams.push(line.to_vec()),
        }
    }
    (datagrams, given_up)
}

async fn connect(address: &str) -> std::io::Result<(UdpSocket, Instant)> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name stands for no address");
    for found in tokio::net::lookup_host(address).await? {
        let own = if found.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(own).await?;
        match socket.connect(found).await {
            Ok(()) => return Ok((socket, Instant::now())),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn send(socket: &UdpSocket, datagrams: &[Vec<u8>]) -> std::io::Result<()> {
    for burst in datagrams.chunks(BURST) {
        for datagram in burst {
            socket.send(datagram).await?;
        }
        if burst.len() == BURST {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}
