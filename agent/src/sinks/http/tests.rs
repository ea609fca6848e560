//! The client against a server in this process that answers as it is told.

use std::time::Duration;

use super::double::{Double, Reply};
use super::*;
use crate::config::Secret;

const WRITE: &[&str] = &["write"];

const QUICK: Duration = Duration::from_millis(500);
const PATIENT: Duration = Duration::from_secs(20);

async fn post(double: &Double, body: &[u8]) -> Result<Answer, Failure> {
    post_by(&Client::new(&HttpOptions::default(), QUICK).unwrap(), double, body).await
}

async fn post_by(client: &Client, double: &Double, body: &[u8]) -> Result<Answer, Failure> {
    let call = Call {
        method: Method::POST,
        url: double.endpoint("").at(WRITE, &[]),
        authorization: authorization("Token", &Secret::of("hunter2").read().unwrap()),
        body: Some(("text/plain", body)),
        most: 1_000,
    };
    client.send(call).await
}

#[tokio::test]
async fn an_answer_has_its_status_headers_and_body() {
    let double = Double::plain([Reply::Say(503, "Retry-After: 7\r\n", "not\nnow".into())]).await;
    let answer = post(&double, b"x").await.unwrap();
    assert_eq!((answer.status, answer.retry_after()), (503, Some(Duration::from_secs(7))));
    assert_eq!(answer.said(&answer.text()), "status 503: not now");
    let asked = &double.asked()[0];
    assert!(asked.head.to_lowercase().contains("authorization: token hunter2"), "{}", asked.head);
    assert!(!asked.head.contains("gzip"), "a body that fits a packet goes as it is");
}

#[tokio::test]
async fn a_server_that_repeats_who_asks_is_not_quoted() {
    let double = Double::plain([Reply::Say(500, "", "you sent Authorization: Token hunter2".into())]).await;
    let answer = post(&double, b"x").await.unwrap();
    assert_eq!(answer.text(), "you sent Authorization: Token ***");
}

#[tokio::test]
async fn a_long_body_travels_as_gzip_unless_that_is_turned_off() {
    let body = b"flows,host=gw source_bytes=1i 1\n".repeat(1_000);
    for compress in [true, false] {
        let double = Double::plain([]).await;
        let options = HttpOptions { compress, ..HttpOptions::default() };
        let client = Client::new(&options, QUICK).unwrap();
        assert_eq!(post_by(&client, &double, &body).await.unwrap().status, 204);
        let asked = &double.asked()[0];
        assert_eq!(asked.head.contains("content-encoding: gzip"), compress);
        assert_eq!(asked.body, body);
    }
}

#[tokio::test]
async fn what_never_reached_a_server_is_not_in_doubt() {
    let double = Double::plain([]).await;
    let nobody = Endpoint::parse("http://127.0.0.1:1").unwrap().at(WRITE, &[]);
    let client = Client::new(&HttpOptions::default(), PATIENT).unwrap();
    let failure = client.send(Call::get(nobody, None, 9)).await.unwrap_err();
    assert!(!failure.in_doubt);
    assert!(failure.reason.contains("nothing listens there"), "{failure:?}");
    let nowhere = Endpoint::parse("http://no-such-host.invalid").unwrap().at(WRITE, &[]);
    let failure = client.send(Call::get(nowhere, None, 9)).await.unwrap_err();
    assert!(!failure.in_doubt);
    assert!(failure.reason.contains("check the name in the url"), "{failure:?}");
    assert!(double.asked().is_empty());
}

#[tokio::test]
async fn what_got_no_answer_is_in_doubt() {
    for reply in [Reply::Hang, Reply::Close(""), Reply::Close("HTTP/1.1 2"), Reply::Close("garbage\r\n\r\n")]
    {
        let double = Double::plain([reply.clone()]).await;
        let failure = post(&double, b"x").await.unwrap_err();
        assert!(failure.in_doubt, "{reply:?}: {failure:?}");
        assert!(!failure.reason.is_empty() && !failure.reason.contains("hunter2"));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_keeps_its_status_and_says_so() {
    let cut = "HTTP/1.1 400 x\r\ncontent-length: 99\r\n\r\n{\"half\":";
    let double = Double::plain([Reply::Close(cut)]).await;
    let answer = post(&double, b"x").await.unwrap();
    assert_eq!((answer.status, answer.text().as_ref()), (400, "{\"half\":"));
    assert!(answer.cut.unwrap().in_doubt);
}

#[tokio::test]
async fn no_more_of_an_answer_is_read_than_is_wanted() {
    let double = Double::plain([Reply::Say(400, "", "y".repeat(1_000_000))]).await;
    assert_eq!(post(&double, b"x").await.unwrap().body.len(), 1_000);
}

#[tokio::test]
async fn a_server_that_sends_elsewhere_is_not_followed() {
    let double = Double::plain([Reply::Say(307, "Location: http://other/\r\n", String::new())]).await;
    let answer = post(&double, b"x").await.unwrap();
    assert_eq!(answer.said(""), "status 307: http://other/");
    assert_eq!(double.asked().len(), 1);
}

mod tls {
    use std::path::Path;
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio_rustls::rustls::server::WebPkiClientVerifier;
    use tokio_rustls::rustls::{RootCertStore, ServerConfig};

    use super::*;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn authority(name: &str) -> Issuer {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn signed(by: &Issuer, name: &str, until: i32) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, by).unwrap(), key)
    }

    fn server(by: &Issuer, name: &str, until: i32, asks_clients: bool) -> ServerConfig {
        let (certificate, key) = signed(by, name, until);
        let mut roots = RootCertStore::empty();
        roots.add(by.der().clone()).unwrap();
        let builder = ServerConfig::builder();
        let builder = if asks_clients {
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        builder.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap()
    }

    fn with(tls: TlsFiles) -> Result<Client, TlsError> {
        Client::new(&HttpOptions { tls, ..HttpOptions::default() }, PATIENT)
    }

    fn trusting(ca: &Path) -> Client {
        with(TlsFiles { ca: Some(ca.to_owned()), ..TlsFiles::default() }).unwrap()
    }

    #[tokio::test]
    async fn a_server_is_trusted_if_its_own_authority_signed_it_for_its_name_and_time() {
        let (own, other) = (authority("own"), authority("other"));
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, own.pem()).unwrap();
        for (server, expected) in [
            (server(&own, "localhost", 4_000, false), None),
            (server(&other, "localhost", 4_000, false), Some("by ca_file")),
            (server(&own, "other.example", 4_000, false), Some("for another name")),
            (server(&own, "localhost", 2_000, false), Some("out of date")),
        ] {
            let double = Double::tls([], server).await;
            match (post_by(&trusting(&ca), &double, b"x").await, expected) {
                (Ok(answer), None) => assert_eq!(answer.status, 204),
                (Err(failure), Some(part)) => {
                    assert!(failure.reason.contains(part), "{failure:?}");
                    assert!(!failure.in_doubt);
                }
                (result, expected) => panic!("{expected:?}: {result:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_client_certificate_is_shown_to_a_server_that_asks() {
        let own = authority("own");
        let (certificate, key) = signed(&own, "agent", 4_000);
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (ca, crt) = (file("ca.pem", own.pem()), file("agent.pem", certificate.pem()));
        let both = file("both.pem", certificate.pem() + &key.serialize_pem());
        let key = file("agent.key", key.serialize_pem());
        for tls in [
            TlsFiles { ca: Some(ca.clone()), certificate: Some(crt), key: Some(key) },
            TlsFiles { ca: Some(ca.clone()), certificate: Some(both), key: None },
        ] {
            let double = Double::tls([], server(&own, "localhost", 4_000, true)).await;
            assert_eq!(post_by(&with(tls).unwrap(), &double, b"x").await.unwrap().status, 204);
        }
        let double = Double::tls([], server(&own, "localhost", 4_000, true)).await;
        let failure = post_by(&trusting(&ca), &double, b"x").await.unwrap_err();
        assert!(failure.reason.contains("client_cert_file"), "{failure:?}");
    }

    #[test]
    fn files_that_hold_no_certificate_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pem");
        let failed = |tls: TlsFiles| with(tls).unwrap_err().to_string();
        let ca = || TlsFiles { ca: Some(path.clone()), ..TlsFiles::default() };
        assert!(failed(ca()).starts_with("cannot read "));
        std::fs::write(&path, "nothing").unwrap();
        assert!(failed(ca()).contains("x.pem holds no certificate"));
        let told = failed(TlsFiles { certificate: Some(path.clone()), ..TlsFiles::default() });
        assert!(told.contains("is no client certificate"), "{told}");
    }
}
