//! How the agent shows who it is.

use super::super::http::{Failure, authorization, basic, header::HeaderValue, hide};
use crate::config::{Secret, SecretInUse};

/// A token, or a user with a password; read again when its file changes.
#[derive(Debug)]
pub(super) enum Login {
    /// Nobody asks.
    None,
    /// A token of version 2.
    Token(SecretInUse),
    /// A user of version 1. Its password goes into a header: in the address, logs of proxies would hold it.
    User(String, SecretInUse),
}

impl Login {
    pub(super) fn token(token: Secret) -> Self {
        Self::Token(SecretInUse::new(token))
    }

    pub(super) fn user(login: Option<(String, Secret)>) -> Self {
        login.map_or(Self::None, |(user, password)| Self::User(user, SecretInUse::new(password)))
    }

    fn secret(&self) -> Option<&SecretInUse> {
        match self {
            Self::None => None,
            Self::Token(secret) | Self::User(_, secret) => Some(secret),
        }
    }

    /// The header as it is now.
    ///
    /// # Errors
    /// When the secret's file was never readable.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(secret) = self.secret() else { return Ok(None) };
        let failed = |reason| Failure { reason, in_doubt: false };
        let revealed = secret.get().map_err(|error| failed(error.to_string()))?;
        let header = match self {
            Self::User(user, _) => basic(user, &revealed),
            _ => authorization("Token", &revealed),
        };
        header.map(Some).ok_or_else(|| failed("the secret has a character that no header can hold".into()))
    }

    /// The token, where there is one.
    pub(super) fn reveal(&self) -> String {
        let revealed = self.secret().and_then(|secret| secret.get().ok());
        revealed.map(|secret| secret.expose().to_owned()).unwrap_or_default()
    }

    /// What to check when the server does not know who this is: the keys that are in use.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::None => "set user and password_file: the server wants to know who this is",
            Self::Token(token) => {
                token.key("check token", "check token_file: it is read again when it changes")
            }
            Self::User(_, password) => password.key(
                "check user and password",
                "check user and password_file: it is read again when it changes",
            ),
        }
    }

    /// The server refused it: it is read again before the next try, even if its file looks unchanged.
    pub(super) fn refused(&self) {
        if let Some(secret) = self.secret() {
            secret.refused();
        }
    }

    /// What a server said, without the secret.
    pub(super) fn hide(&self, told: &str) -> String {
        let revealed = self.secret().and_then(|secret| secret.get().ok());
        revealed.map_or_else(
            || told.to_owned(),
            |secret| hide(told, &secret, self.header().ok().flatten().as_ref()),
        )
    }
}
