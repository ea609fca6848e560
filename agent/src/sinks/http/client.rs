//! The client: one call, one answer.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url, redirect};

use super::{Answer, Failure, HttpOptions, TlsError, authorization::hide_sent, gzip::gzip, tls};

/// Bodies below this are not worth making smaller: they fit a packet.
const WORTH_GZIP: usize = 1_000;

/// What is asked of a server.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// The whole address; see [`super::Endpoint::at`].
    pub url: Url,
    /// The header `Authorization`; see [`super::authorization`].
    pub authorization: Option<HeaderValue>,
    /// What the body is, and the body.
    pub body: Option<(&'static str, &'a [u8])>,
    /// How much of the answer's body is wanted, in bytes.
    pub most: usize,
}

impl Call<'_> {
    /// A question without a body.
    #[must_use]
    pub const fn get(url: Url, authorization: Option<HeaderValue>, most: usize) -> Self {
        Self { method: Method::GET, url, authorization, body: None, most }
    }
}

/// A client with its connections, which are kept open.
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
    compress: bool,
}

impl Client {
    /// Reads the certificates and makes the client; opens no connection. A call may take `timeout` until its answer is
    /// complete.
    ///
    /// A server that sends elsewhere is not followed, as the body and the token would go there.
    ///
    /// # Errors
    /// When certificates cannot be used.
    pub fn new(options: &HttpOptions, timeout: Duration) -> Result<Self, TlsError> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("conntally/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout.min(timeout))
            .timeout(timeout)
            .redirect(redirect::Policy::none())
            // Answers are short; that they could be unpacked comes with the crate `elasticsearch`.
            .no_gzip()
            .tcp_nodelay(true);
        let inner = tls::apply(&options.tls, builder)?
            .build()
            .map_err(|error| TlsError::Refused(super::failure::chain(&error)))?;
        Ok(Self { inner, compress: options.compress })
    }

    /// Calls once and waits for the answer, which may be an error of the server's.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let (most, authorization) = (call.most, call.authorization.clone());
        let response = self.request(call)?.send().await?;
        let mut answer = Answer::read(response, most).await;
        // What is no success is told.
        if let Some(sent) = authorization.filter(|_| !answer.is_success()) {
            hide_sent(&mut answer.body, &sent);
        }
        Ok(answer)
    }

    fn request(&self, call: Call<'_>) -> Result<reqwest::RequestBuilder, Failure> {
        let mut request = self.inner.request(call.method, call.url);
        if let Some(authorization) = call.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let Some((kind, body)) = call.body else { return Ok(request) };
        request = request.header(CONTENT_TYPE, kind);
        if !self.compress || body.len() < WORTH_GZIP {
            return Ok(request.body(body.to_vec()));
        }
        let body = gzip(body).map_err(|error| unsendable(&format!("cannot compress: {error}")))?;
        Ok(request.header(CONTENT_ENCODING, "gzip").body(body))
    }
}

fn unsendable(reason: &str) -> Failure {
    Failure { reason: reason.to_owned(), in_doubt: false }
}
