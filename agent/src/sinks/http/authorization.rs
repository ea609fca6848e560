//! Who the agent says it is: headers that are never shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use crate::config::Revealed;

/// Stands for a secret.
const MASK: &str = "***";

/// The header `Authorization` with a scheme, such as `Token`, and a secret as it is; `None` where a character of the
/// secret can stand in no header.
#[must_use]
pub fn authorization(scheme: &str, secret: &Revealed) -> Option<HeaderValue> {
    sensitive(&format!("{scheme} {}", secret.expose()))
}

/// The header for a user and a password. RFC 7617.
#[must_use]
pub fn basic(user: &str, password: &Revealed) -> Option<HeaderValue> {
    let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
    sensitive(&format!("Basic {pair}"))
}

/// What a server said, without the secret if it said that, and without what it was sent of it, which may be encoded.
#[must_use]
pub fn hide(told: &str, secret: &Revealed, sent: Option<&HeaderValue>) -> String {
    let told = told.replace(secret.expose(), MASK);
    match sent.and_then(credentials) {
        Some(credentials) => told.replace(credentials, MASK),
        None => told,
    }
}

/// An answer without what it repeats of the request's header `Authorization`.
pub(super) fn hide_sent(body: &mut Vec<u8>, sent: &HeaderValue) {
    let Some(credentials) = credentials(sent) else { return };
    if memchr::memmem::find(body, credentials.as_bytes()).is_some() {
        *body = String::from_utf8_lossy(body).replace(credentials, MASK).into_bytes();
    }
}

/// What stands behind the scheme.
fn credentials(header: &HeaderValue) -> Option<&str> {
    let (_, credentials) = header.to_str().ok()?.split_once(' ')?;
    (!credentials.is_empty()).then_some(credentials)
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_header_has_the_secret_and_does_not_show_it() {
        let secret = Secret::of("hunter2").read().unwrap();
        let token = authorization("Token", &secret).unwrap();
        assert_eq!((token.to_str().unwrap(), format!("{token:?}").as_str()), ("Token hunter2", "Sensitive"));
        assert_eq!(basic("ann", &secret).unwrap().to_str().unwrap(), "Basic YW5uOmh1bnRlcjI=");
        assert_eq!(hide("no such token: hunter2", &secret, Some(&token)), "no such token: ***");
        let sent = basic("ann", &secret).unwrap();
        assert_eq!(hide("Basic YW5uOmh1bnRlcjI= of hunter2", &secret, Some(&sent)), "Basic *** of ***");
        let mut body = b"\xffauthorization: Basic YW5uOmh1bnRlcjI=\r\n".to_vec();
        hide_sent(&mut body, &sent);
        assert_eq!(String::from_utf8_lossy(&body), "\u{fffd}authorization: Basic ***\r\n");
    }
}
