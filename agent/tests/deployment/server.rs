//! A server that takes everything and remembers it: InfluxDB and Elasticsearch as far as writing needs them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What was asked of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

/// It listens as long as the process lives.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let server = Self { address: listener.local_addr()?, asked: Arc::default() };
        let asked = Arc::clone(&server.asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = Arc::clone(&asked);
                // A client that goes away is served.
                thread::spawn(move || drop(serve(stream, &asked)));
            }
        });
        Ok(server)
    }

    /// The requests so far to paths that begin so.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|asked| asked.path.starts_with(path)).cloned().collect()
    }
}

fn serve(stream: TcpStream, all: &Mutex<Vec<Asked>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(asked) = read(&mut reader)? {
        let answer = answer(&asked);
        all.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Asked>> {
    let (mut asked, mut length, mut line) = (Asked::default(), 0, String::new());
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    asked.path = line.split(' ').nth(1).unwrap_or_default().to_owned();
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

fn answer(asked: &Asked) -> String {
    if asked.path.starts_with("/api/v2/write") {
        return "HTTP/1.1 204 No Content\r\n\r\n".to_owned();
    }
    if asked.body.is_empty() {
        let body = r#"{"error":{"type":"index_not_found_exception","reason":"no such index"},"status":404}"#;
        return json("404 Not Found", body);
    }
    let items = vec![r#"{"create":{"status":201}}"#; asked.body.lines().count() / 2].join(",");
    json("200 OK", &format!(r#"{{"errors":false,"items":[{items}]}}"#))
}

fn json(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Elastic-Product: Elasticsearch\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
