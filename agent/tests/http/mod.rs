//! As much of an HTTP server as the agent needs to write to it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

/// Listens as long as the process lives. What `answer` returns is sent as it is; a connection closes where it is nothing.
pub(crate) fn serve(
    answer: impl Fn(Asked) -> Option<String> + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let (address, answer) = (listener.local_addr()?, Arc::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // A client that goes away is served.
            thread::spawn(move || drop(connection(stream, &*answer)));
        }
    });
    Ok(address)
}

fn connection(mut stream: TcpStream, answer: &impl Fn(Asked) -> Option<String>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(answer) = read(&mut reader)?.and_then(answer) {
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Asked>> {
    let (mut asked, mut length, mut line) = (Asked::default(), 0, String::new());
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    line.split(' ').nth(1).unwrap_or_default().clone_into(&mut asked.path);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => value.clone_into(&mut asked.authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    asked.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(asked))
}
