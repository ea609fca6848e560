//! Calls that got no answer.

use std::error::Error;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened and what to do, free of secrets.
    pub reason: String,
    /// The call may have arrived.
    pub in_doubt: bool,
}

impl From<reqwest::Error> for Failure {
    /// Only what failed before a connection stood cannot have arrived.
    fn from(error: reqwest::Error) -> Self {
        let in_doubt = !(error.is_connect() || error.is_builder());
        let timed_out = error.is_timeout();
        let told = chain(&error.without_url());
        let told = match (timed_out, in_doubt) {
            (true, true) => "no complete answer within the timeout".to_owned(),
            (true, false) => format!("no connection within connect_timeout ({told})"),
            (false, _) => told,
        };
        Self { reason: with_advice(&told), in_doubt }
    }
}

/// What another client says of a failure, and what to do.
pub(in crate::sinks) fn explain(error: &dyn Error) -> String {
    with_advice(&chain(error))
}

/// What was said of a failure, and what to do.
pub(in crate::sinks) fn with_advice(told: &str) -> String {
    format!("{told}{}", advice(told))
}

/// An error with all its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some repeat their cause.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// What to do about the commonest failures.
fn advice(told: &str) -> &'static str {
    const ADVICE: [(&str, &str); 9] = [
        ("Connection refused", "; nothing listens there: is the server running, and its port right?"),
        ("dns error", "; check the name in the url, and the resolver"),
        ("UnknownIssuer", "; name the authority that signed the server's certificate by ca_file"),
        ("BadSignature", "; another authority of the same name signed it: see ca_file"),
        ("expired", "; the server's certificate is out of date: renew it, or mend the clock"),
        ("NotValidForName", "; the certificate is for another name than the url's"),
        ("not valid for name", "; the certificate is for another name than the url's"),
        ("CertificateRequired", "; the server wants a client certificate: client_cert_file"),
        ("InvalidContentType", "; the server does not speak TLS there: is it http?"),
    ];
    ADVICE.iter().find(|(part, _)| told.contains(part)).map_or("", |(_, advice)| advice)
}
