//! The proxy does to a client what it says.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Certificate, Fault, Proxy};
use conntally_servers::Request;

/// A server that answers everything alike and counts.
fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"ok\": true}").unwrap();
        }
    });
    (address, count)
}

fn address(proxy: &Proxy) -> SocketAddr {
    proxy.url().rsplit('/').next().unwrap().parse().unwrap()
}

fn post(proxy: &Proxy, path: &str) -> anyhow::Result<conntally_servers::Answer> {
    let request = Request::new("POST", path).body("text/plain", "hello").within(Duration::from_millis(500));
    request.send(address(proxy))
}

#[test]
fn each_fault_is_for_one_request_of_the_path_and_then_all_passes() {
    let (upstream, count) = server();
    let proxy = Proxy::start(upstream, "/write").unwrap();
    proxy.order([Fault::busy(429, "2"), Fault::status(503)]);
    assert_eq!(post(&proxy, "/health").unwrap().status, 200);
    let busy = post(&proxy, "/write?x").unwrap();
    assert!(busy.status == 429 && busy.head.contains("Retry-After: 2"), "{busy:?}");
    assert_eq!(post(&proxy, "/write").unwrap().status, 503);
    assert_eq!(post(&proxy, "/write").unwrap().text(), "{\"ok\": true}");
    assert_eq!(count.load(Ordering::SeqCst), 2);
    let told: Vec<_> = proxy.seen().iter().map(|seen| seen.status).collect();
    assert_eq!(told, [Some(429), Some(503), Some(200)]);
    assert_eq!(proxy.seen()[0].bytes, 5);
}

#[test]
fn whether_the_server_has_taken_a_broken_request_is_as_the_fault_says() {
    let (upstream, count) = server();
    let proxy = Proxy::start(upstream, "/write").unwrap();
    let faults = [
        Fault::ResetRequest,
        Fault::ResetAnswer,
        Fault::Truncate,
        Fault::HalfClose,
        Fault::Silence,
        Fault::Garbage,
        Fault::Trickle(Duration::from_secs(1)),
    ];
    for fault in faults {
        let (before, taken) = (count.load(Ordering::SeqCst), fault.leaves_doubt());
        proxy.order([fault.clone()]);
        // Half an answer is an answer to a client that does not count.
        let answer = post(&proxy, "/write");
        assert!(answer.is_err() || answer.unwrap().body.len() < 12, "{fault:?}");
        assert_eq!(count.load(Ordering::SeqCst) - before, usize::from(taken), "{fault:?}");
    }
    assert_eq!(proxy.left(), 0);
}

#[test]
fn a_scrambled_answer_is_one_that_makes_no_sense() {
    let (upstream, count) = server();
    let proxy = Proxy::start(upstream, "/").unwrap();
    proxy.order([Fault::ScrambleBody]);
    let answer = post(&proxy, "/").unwrap();
    assert!(answer.status == 200 && answer.json().is_err(), "{answer:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn one_fault_may_be_for_all_requests_and_an_answer_may_hide_that_the_server_has_taken_it() {
    let (upstream, count) = server();
    let proxy = Proxy::start(upstream, "/").unwrap();
    proxy.insist(Fault::status(401));
    proxy.order([Fault::AnswerLate { status: 503, retry_after: Some("0".into()) }]);
    let statuses: Vec<_> = (0..3).map(|_| post(&proxy, "/").unwrap().status).collect();
    assert_eq!((statuses, count.load(Ordering::SeqCst)), (vec![503, 401, 401], 1));
    proxy.behave();
    assert_eq!(post(&proxy, "/").unwrap().status, 200);
}

#[test]
fn a_proxy_that_is_away_refuses_and_comes_back_at_its_address() {
    let (upstream, _) = server();
    let proxy = Proxy::start(upstream, "/").unwrap();
    proxy.go_away().unwrap();
    assert!(TcpStream::connect(address(&proxy)).is_err());
    proxy.come_back().unwrap();
    assert_eq!(post(&proxy, "/").unwrap().status, 200);
}

#[test]
fn dropping_a_proxy_frees_clients_that_wait_for_it() {
    let (upstream, _) = server();
    let proxy = Proxy::start(upstream, "/").unwrap();
    proxy.order([Fault::Silence]);
    let at = address(&proxy);
    let client = thread::spawn(move || {
        let begin = Instant::now();
        let answer = Request::new("GET", "/").within(Duration::from_secs(20)).send(at);
        (answer.is_err(), begin.elapsed())
    });
    while proxy.left() > 0 {
        thread::sleep(Duration::from_millis(5));
    }
    drop(proxy);
    let (failed, after) = client.join().unwrap();
    assert!(failed && after < Duration::from_secs(10), "{after:?}");
}

#[test]
fn only_the_right_certificate_is_taken_by_a_client_that_trusts_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (upstream, _) = server();
    for (certificate, good) in [
        (Certificate::Right, true),
        (Certificate::Expired, false),
        (Certificate::WrongName, false),
        (Certificate::Stranger, false),
    ] {
        let proxy = Proxy::start_tls(upstream, "/", certificate, folder.path()).unwrap();
        let answer = get_by_tls(&proxy);
        assert_eq!(answer.is_ok(), good, "{certificate:?}: {answer:?}");
    }
}

#[test]
fn a_certificate_may_expire_and_be_renewed_under_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (upstream, _) = server();
    let proxy = Proxy::start_tls(upstream, "/", Certificate::Right, folder.path()).unwrap();
    let taken = [Certificate::Right, Certificate::Expired, Certificate::Right].map(|certificate| {
        proxy.show(certificate).unwrap();
        get_by_tls(&proxy).is_ok()
    });
    assert_eq!(taken, [true, false, true]);
}

/// One request as a client that trusts nothing but the file's authority.
fn get_by_tls(proxy: &Proxy) -> anyhow::Result<String> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(proxy.authority().unwrap())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1")?;
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name)?;
    let mut tcp = TcpStream::connect(address(proxy))?;
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut text = vec![0; 12];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8(text)?)
}
