//! A server that says what a test wants said, for what no real server does on request.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::Endpoint;

/// What becomes of one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A whole answer: status, headers as lines, body.
    Say(u16, &'static str, String),
    /// These bytes, then the connection is closed.
    Close(&'static str),
    /// No answer, and the connection stays open.
    Hang,
}

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Request line and headers, as they came.
    pub(crate) head: String,
    /// The body, unpacked.
    pub(crate) body: Vec<u8>,
}

/// The server, which ends with the test's runtime.
pub(crate) struct Double {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    replies: Mutex<VecDeque<Reply>>,
    asked: Mutex<Vec<Asked>>,
}

impl Double {
    /// Answers one request after the other by the replies, and by 204 when there are no more.
    pub(crate) async fn plain(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::start(replies, None).await
    }

    /// The same behind TLS.
    pub(crate) async fn tls(
        replies: impl IntoIterator<Item = Reply>,
        config: tokio_rustls::rustls::ServerConfig,
    ) -> Self {
        Self::start(replies, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start(replies: impl IntoIterator<Item = Reply>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        shared.replies.lock().unwrap().extend(replies);
        let scheme = if tls.is_some() { "https" } else { "http" };
        tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, scheme, shared }
    }

    /// Its address with a path behind it.
    pub(crate) fn endpoint(&self, path: &str) -> Endpoint {
        Endpoint::parse(&format!("{}://localhost:{}{path}", self.scheme, self.address.port())).unwrap()
    }

    /// All that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let _ = connection(stream, tls, &shared).await;
        });
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, shared: &Shared) -> io::Result<()> {
    match tls {
        Some(tls) => serve(tls.accept(stream).await?, shared).await,
        None => serve(stream, shared).await,
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> io::Result<()> {
    loop {
        let asked = request(&mut stream).await?;
        shared.asked.lock().unwrap().push(asked);
        let reply = shared.replies.lock().unwrap().pop_front();
        match reply.unwrap_or(Reply::Say(204, "", String::new())) {
            Reply::Say(status, headers, body) => {
                let length = body.len();
                let text = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\n\r\n{body}");
                let text = if status == 204 { format!("HTTP/1.1 204 x\r\n{headers}\r\n") } else { text };
                stream.write_all(text.as_bytes()).await?;
            }
            Reply::Close(text) => {
                stream.write_all(text.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Reply::Hang => std::future::pending().await,
        }
    }
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (first, headers) = head.split_once("\r\n").unwrap_or_default();
    let names = headers.to_lowercase();
    let length = names.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    if names.contains("content-encoding: gzip") {
        let mut plain = Vec::new();
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body.as_slice()), &mut plain)?;
        body = plain;
    }
    Ok(Asked { head: format!("{first}\r\n{headers}"), body })
}
