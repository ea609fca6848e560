//! Who the agent is to the cluster: nobody, a user, or the holder of an API key.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::config::{Secret, SecretInUse};
use crate::sinks::http::header::HeaderValue;
use crate::sinks::http::{authorization, basic, hide};

/// How the agent shows who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Login {
    /// Not at all, or by its certificate.
    #[default]
    None,
    /// By an API key: as the server encoded it, or `id:key`.
    ApiKey(Secret),
    /// By name and password.
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// The same in use: files that changed are read again.
#[derive(Debug)]
pub(super) struct Credentials {
    user: Option<String>,
    secret: Option<SecretInUse>,
}

impl Credentials {
    pub(super) fn new(login: &Login) -> Self {
        let (user, secret) = match login {
            Login::None => (None, None),
            Login::ApiKey(key) => (None, Some(key)),
            Login::Basic { user, password } => (Some(user.clone()), Some(password)),
        };
        Self { user, secret: secret.cloned().map(SecretInUse::new) }
    }

    /// The header `Authorization`, as it is now.
    ///
    /// # Errors
    /// When a secret cannot be read or sent; the message does not hold it.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, String> {
        let Some(secret) = &self.secret else { return Ok(None) };
        let secret = secret.get().map_err(|error| error.to_string())?;
        let header = match &self.user {
            Some(user) => basic(user, &secret),
            None => match secret.expose().split_once(':') {
                Some((id, key)) => authorization(
                    KEY,
                    &Secret::of(&STANDARD.encode(format!("{id}:{key}")))
                        .read()
                        .map_err(|error| error.to_string())?,
                ),
                None => authorization(KEY, &secret),
            },
        };
        header.map(Some).ok_or_else(|| "the secret has a character that no header can hold".to_owned())
    }

    /// What to check when the server does not know who this is: the keys that are in use.
    pub(super) fn advice(&self) -> &'static str {
        match (&self.secret, &self.user) {
            (None, _) => "set api_key_file, or user and password_file: the server wants to know who this is",
            (Some(key), None) => key.key("check api_key", "check api_key_file"),
            (Some(password), Some(_)) => {
                password.key("check user and password", "check user and password_file")
            }
        }
    }

    /// What a server said, without the secret if it said that.
    pub(super) fn hide(&self, told: String) -> String {
        match self.secret.as_ref().map(SecretInUse::get) {
            Some(Ok(secret)) => hide(&told, &secret, self.header().ok().flatten().as_ref()),
            _ => told,
        }
    }
}

/// The scheme of API keys.
const KEY: &str = "ApiKey";

#[cfg(test)]
mod tests {
    use super::*;

    fn header(login: &Login) -> Option<String> {
        Credentials::new(login).header().unwrap().map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn who_is_not_known_is_told_the_keys_that_are_in_use() {
        let in_file = || Secret::in_file("/x".into(), crate::config::Place::Flag("x"), "x".into());
        let basic = |password| Login::Basic { user: "ann".into(), password };
        for (login, advice) in [
            (Login::ApiKey(Secret::of("k")), "check api_key"),
            (Login::ApiKey(in_file()), "check api_key_file"),
            (basic(Secret::of("p")), "check user and password"),
            (basic(in_file()), "check user and password_file"),
        ] {
            assert_eq!(Credentials::new(&login).advice(), advice);
        }
        assert!(Credentials::new(&Login::None).advice().starts_with("set api_key_file, or user"));
    }

    #[test]
    fn keys_are_sent_as_they_are_or_encoded_and_users_with_their_password() {
        assert_eq!(header(&Login::None), None);
        let key = |text| header(&Login::ApiKey(Secret::of(text))).unwrap();
        assert_eq!(key("aWQ6a2V5"), "ApiKey aWQ6a2V5");
        assert_eq!(key("id:key"), "ApiKey aWQ6a2V5");
        let login = Login::Basic { user: "ann".into(), password: Secret::of("hunter:2") };
        assert_eq!(header(&login).unwrap(), "Basic YW5uOmh1bnRlcjoy");
        assert!(!format!("{login:?} {:?}", Credentials::new(&login)).contains("hunter"));
    }
}
