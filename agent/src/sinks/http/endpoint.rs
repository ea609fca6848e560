//! Where a server is.

use std::fmt;

use reqwest::Url;

use crate::config::Section;

/// Why an address of a server cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No URL at all.
    #[error("is no address: {0}; write it like https://host:8086")]
    Malformed(String),
    /// Another protocol.
    #[error("begins with {0}://; http:// and https:// are known here")]
    Scheme(String),
    /// A user or a password in it; they would appear wherever the address does.
    #[error("holds a user or a password; they have keys of their own")]
    Secret,
    /// A question or a fragment.
    #[error("must end before its ? or #")]
    Query,
}

/// The address of a server: scheme, host, port and the path below which its interface stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Reads it.
    ///
    /// # Errors
    /// When it is no address, or holds what does not belong there. The text itself is in no error.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(text).map_err(|error| EndpointError::Malformed(error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Secret);
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EndpointError::Scheme(url.scheme().to_owned()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(EndpointError::Query);
        }
        Ok(Self(url))
    }

    /// Reads the key of one address; `None` when it is absent or wrong.
    pub(crate) fn read(section: &mut Section<'_>, key: &'static str) -> Option<Self> {
        let text = section.text(key)?;
        match Self::parse(&text) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                let place = section.place(key)?;
                section.problem(key, &place, error.to_string());
                None
            }
        }
    }

    /// Whether calls are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether the server's interface stands below a path.
    #[must_use]
    pub fn has_base_path(&self) -> bool {
        self.0.path() != "/"
    }

    /// The address of something below it: `segments` of the path, and what is asked, both escaped as needed.
    #[must_use]
    pub fn at(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.0.clone();
        // Only addresses without a host, which were refused, have no segments.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_address_is_kept() {
        for (base, expected) in [
            ("http://db:8086", "http://db:8086/api/v2/write?org=n+o%26c"),
            ("http://db:8086/", "http://db:8086/api/v2/write?org=n+o%26c"),
            ("https://proxy/influx", "https://proxy/influx/api/v2/write?org=n+o%26c"),
            ("https://proxy/a/b/", "https://proxy/a/b/api/v2/write?org=n+o%26c"),
        ] {
            let url = Endpoint::parse(base).unwrap().at(&["api", "v2", "write"], &[("org", "n o&c")]);
            assert_eq!(url.as_str(), expected);
        }
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        let url = Endpoint::parse("http://db/x").unwrap().at(&["a/b?c"], &[]);
        assert_eq!(url.as_str(), "http://db/x/a%2Fb%3Fc");
    }

    #[test]
    fn an_address_with_a_secret_is_refused_without_saying_it() {
        let error = Endpoint::parse("https://ann:hunter2@db:8086").unwrap_err();
        assert_eq!(error, EndpointError::Secret);
        assert!(!error.to_string().contains("hunter2"));
        assert!(!Endpoint::parse("https://ann:hunter2@db:x").unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn other_addresses_are_refused_with_a_reason() {
        for (text, part) in [
            ("db:8086", "begins with db://"),
            ("ftp://db", "begins with ftp://"),
            ("", "is no address"),
            ("http://", "is no address"),
            ("http://db?org=x", "before its ?"),
        ] {
            let told = Endpoint::parse(text).unwrap_err().to_string();
            assert!(told.contains(part), "{text}: {told}");
        }
    }
}
