//! One connection of a client: reads a request, does to it what the plan says.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::Linger};
use rustls::{ServerConnection, StreamOwned};

use super::fault::{Fault, SAID};
use super::message::Message;
use super::{Seen, Shared, lock};

/// Nothing takes longer: neither a server nor a client of a test.
const LIMIT: Duration = Duration::from_secs(120);

/// How often a connection that is left open is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Serves the one request of a connection.
pub(super) fn serve(tcp: TcpStream, shared: &Shared) -> io::Result<()> {
    tcp.set_nonblocking(false)?;
    tcp.set_read_timeout(Some(LIMIT))?;
    tcp.set_write_timeout(Some(LIMIT))?;
    let raw = tcp.try_clone()?;
    match &shared.identity {
        None => talk(tcp, &raw, shared),
        Some(identity) => {
            let tls = ServerConnection::new(Arc::clone(&lock(identity))).map_err(io::Error::other)?;
            talk(StreamOwned::new(tls, tcp), &raw, shared)
        }
    }
}

/// `raw` is the same connection below any TLS.
fn talk(stream: impl Read + Write, raw: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut client = BufReader::new(stream);
    let Some(mut request) = Message::read_head(&mut client)? else { return Ok(()) };
    let (method, path) = request.method_and_path();
    let fault = shared.next(path);
    let mut seen = Seen {
        at: Instant::now(),
        method: method.to_owned(),
        path: path.to_owned(),
        bytes: 0,
        fault: fault.clone(),
        status: None,
    };
    if fault == Fault::ResetRequest {
        shared.note(seen);
        return reset(raw);
    }
    if request.header("expect").is_some() {
        client.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let whole = request.read_body(&mut client);
    seen.bytes = request.body.len();
    if whole.is_err() {
        shared.note(seen);
        return whole;
    }
    let answer = Answer::to(&fault, &request, shared.upstream);
    seen.status = answer.as_ref().ok().and_then(Answer::status);
    // Noted before the client hears of it, so that a test that heard of it finds it.
    shared.note(seen);
    match answer {
        Ok(answer) => answer.give(client.get_mut(), raw, shared),
        // The server is away: so is the proxy.
        Err(_) => reset(raw),
    }
}

/// What the client gets to see.
enum Answer {
    Whole(Vec<u8>),
    Slowly(Vec<u8>, Duration),
    Cut(Vec<u8>),
    Reset,
    HalfClosed,
    Nothing,
}

impl Answer {
    fn to(fault: &Fault, request: &Message, upstream: SocketAddr) -> io::Result<Self> {
        Ok(match fault {
            Fault::Pass => Self::Whole(forward(request, upstream)?),
            Fault::Trickle(pause) => Self::Slowly(forward(request, upstream)?, *pause),
            Fault::Truncate => Self::Cut(truncated(forward(request, upstream)?)),
            Fault::ScrambleBody => Self::Whole(scrambled(forward(request, upstream)?)),
            Fault::ResetAnswer => {
                forward(request, upstream)?;
                Self::Reset
            }
            Fault::Answer { status, retry_after, body } => {
                Self::Whole(own(*status, retry_after.as_deref(), body))
            }
            Fault::AnswerLate { status, retry_after } => {
                forward(request, upstream)?;
                Self::Whole(own(*status, retry_after.as_deref(), SAID))
            }
            Fault::Garbage => Self::Cut(b"\x16\x03\x01 this is not HTTP\r\n\r\n\0\0\0".to_vec()),
            Fault::HalfClose => Self::HalfClosed,
            Fault::Silence => Self::Nothing,
            Fault::ResetRequest => Self::Reset,
        })
    }

    /// The status that the client will read.
    fn status(&self) -> Option<u16> {
        let (Self::Whole(bytes) | Self::Slowly(bytes, _) | Self::Cut(bytes)) = self else { return None };
        str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()
    }

    fn give(self, client: &mut impl Write, raw: &TcpStream, shared: &Shared) -> io::Result<()> {
        match self {
            Self::Whole(bytes) | Self::Cut(bytes) => {
                client.write_all(&bytes)?;
                client.flush()?;
                raw.shutdown(Shutdown::Write)
            }
            Self::Slowly(bytes, pause) => trickle(&bytes, pause, client, shared),
            Self::Reset => reset(raw),
            Self::HalfClosed => {
                raw.shutdown(Shutdown::Write)?;
                hold(raw, shared)
            }
            Self::Nothing => hold(raw, shared),
        }
    }
}

/// Sends a request to the server and returns its whole answer.
fn forward(request: &Message, upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(upstream)?;
    server.set_read_timeout(Some(LIMIT))?;
    let (bytes, mut sending) = (request.to_bytes(), server.try_clone()?);
    let mut answer = Vec::new();
    // Who refuses a request need not read it: the answer may be there before all of it is sent.
    let (sent, read) = thread::scope(|scope| {
        let sent = scope.spawn(move || sending.write_all(&bytes));
        let read = read_answer(&mut server, &mut answer);
        drop(server.shutdown(Shutdown::Both));
        (sent.join().unwrap_or(Ok(())), read)
    });
    if answer.is_empty() {
        sent.and(read)?;
    }
    if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(last(answer)) }
}

/// Reads until the answer is whole or its connection ends.
fn read_answer(server: &mut TcpStream, answer: &mut Vec<u8>) -> io::Result<()> {
    let mut bytes = [0; 16 << 10];
    while !is_whole(answer) {
        match server.read(&mut bytes)? {
            0 => break,
            read => answer.extend_from_slice(bytes.get(..read).unwrap_or_default()),
        }
    }
    Ok(())
}

/// Whether an answer has all that its head announces; one that announces nothing ends with its connection.
fn is_whole(answer: &[u8]) -> bool {
    let Some((head, body)) = parts(answer) else { return false };
    let value = |name: &str| {
        let line = head.split("\r\n").find(|line| is_header(line, &[name]))?;
        Some(line.split_once(':')?.1.trim())
    };
    if value("transfer-encoding").is_some() {
        return body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n");
    }
    let length = value("content-length").and_then(|length| length.parse().ok());
    head.get(9..12) == Some("204") || length.is_some_and(|length: usize| body.len() >= length)
}

/// An answer that says that its connection closes; not all servers repeat what they were asked for.
fn last(answer: Vec<u8>) -> Vec<u8> {
    let Some((head, body)) = parts(&answer) else { return answer };
    let lines = head.split("\r\n").filter(|line| !is_header(line, &["connection", "keep-alive"]));
    let head = lines.collect::<Vec<_>>().join("\r\n");
    [head.as_bytes(), b"\r\nConnection: close\r\n\r\n", body].concat()
}

fn own(status: u16, retry_after: Option<&str>, body: &str) -> Vec<u8> {
    let pause = retry_after.map(|value| format!("Retry-After: {value}\r\n")).unwrap_or_default();
    format!(
        "HTTP/1.1 {status} As Ordered\r\nContent-Type: application/json\r\nX-Elastic-Product: Elasticsearch\r\n\
         {pause}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An answer that announces more than there is; one without a body is cut off in its head.
fn truncated(mut answer: Vec<u8>) -> Vec<u8> {
    let Some((head, body)) = parts(&answer) else { return answer };
    if body.is_empty() {
        answer.truncate(head.len() / 2);
        return answer;
    }
    let announced = format!("\r\nContent-Length: {}\r\n\r\n", body.len());
    let lines = head.split("\r\n").filter(|line| !is_about_length(line));
    let mut bytes = lines.collect::<Vec<_>>().join("\r\n").into_bytes();
    bytes.extend_from_slice(announced.as_bytes());
    bytes.extend_from_slice(body.get(..body.len() / 2).unwrap_or_default());
    bytes
}

/// An answer whose body makes no sense; one without a body gets one that does not belong there.
fn scrambled(answer: Vec<u8>) -> Vec<u8> {
    let Some((head, _)) = parts(&answer) else { return answer };
    let garbage = "\u{fffd}{{{ this is what no server says ]";
    let lines = head.split("\r\n").filter(|line| !is_about_length(line));
    let mut text = lines.collect::<Vec<_>>().join("\r\n");
    text = text.replacen(" 204 No Content", " 200 OK", 1);
    format!("{text}\r\nContent-Length: {}\r\n\r\n{garbage}", garbage.len()).into_bytes()
}

fn is_about_length(line: &str) -> bool {
    is_header(line, &["content-length", "transfer-encoding", "content-encoding"])
}

fn is_header(line: &str, names: &[&str]) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    names.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// Head and body of an answer.
fn parts(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((str::from_utf8(answer.get(..end)?).ok()?, answer.get(end + 4..)?))
}

fn trickle(bytes: &[u8], pause: Duration, client: &mut impl Write, shared: &Shared) -> io::Result<()> {
    for byte in bytes {
        if shared.is_over() {
            break;
        }
        client.write_all(&[*byte])?;
        client.flush()?;
        sleep(pause);
    }
    Ok(())
}

/// Keeps a connection open until the client closes it.
fn hold(raw: &TcpStream, shared: &Shared) -> io::Result<()> {
    raw.set_read_timeout(Some(POLL))?;
    let (mut client, mut bytes) = (raw, [0; 1024]);
    while !shared.is_over() {
        match client.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Closes a connection so that the client gets an error rather than an end.
fn reset(raw: &TcpStream) -> io::Result<()> {
    // What is unsent is thrown away when the last handle is dropped, which is at the end of this connection's thread.
    setsockopt(raw, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    Ok(())
}
