//! Who the agent says it is: headers that are never shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use crate::config::Revealed;

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

/// What a server said, without the secret if it said that.
#[must_use]
pub fn hide(told: &str, secret: &Revealed) -> String {
    told.replace(secret.expose(), "***")
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
        assert_eq!(hide("no such token: hunter2", &secret), "no such token: ***");
    }
}
