//! A server that takes everything and remembers it: InfluxDB and Elasticsearch as far as writing needs them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::http::{self, Asked};

/// It listens as long as the process lives.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn start() -> io::Result<Self> {
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let all = Arc::clone(&asked);
        let address = http::serve(move |asked| {
            let answer = answer(&asked);
            all.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            Some(answer)
        })?;
        Ok(Self { address, asked })
    }

    /// The requests so far to paths that begin so.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|asked| asked.path.starts_with(path)).cloned().collect()
    }
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
