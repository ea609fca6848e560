//! The data stream: how it is named, and how its documents say that they are its own.

use std::fmt;

use serde_json::{Value, json};

/// The type and the data sets in Elastic's naming scheme.
const TYPE: &str = "logs";
const FLOWS: &str = "conntally.flow";
const STATUS: &str = "conntally.status";

/// A data stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataStream {
    dataset: &'static str,
    namespace: String,
    name: String,
}

impl DataStream {
    /// That of the flows of a namespace.
    #[must_use]
    pub fn of(namespace: &str) -> Self {
        Self::named(FLOWS, namespace)
    }

    /// That which tells how complete the accounting is, in the same namespace.
    #[must_use]
    pub fn of_status(&self) -> Self {
        Self::named(STATUS, &self.namespace)
    }

    fn named(dataset: &'static str, namespace: &str) -> Self {
        Self { dataset, namespace: namespace.to_owned(), name: format!("{TYPE}-{dataset}-{namespace}") }
    }

    /// `logs-conntally.flow-<namespace>`
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data set.
    pub(super) const fn dataset(&self) -> &'static str {
        self.dataset
    }

    /// What every document says of where it belongs.
    pub(super) fn parts(&self) -> Value {
        json!({ "type": TYPE, "dataset": self.dataset, "namespace": self.namespace })
    }

    /// What every document of flows begins with.
    pub(super) fn beginning(&self) -> String {
        let Self { dataset, namespace, .. } = self;
        format!(r#"{{"data_stream":{{"type":"{TYPE}","dataset":"{dataset}","namespace":"{namespace}"}},"#)
    }

    /// What is wrong with a namespace, if anything.
    ///
    /// <https://www.elastic.co/guide/en/ecs/8.17/ecs-data_stream.html>
    #[must_use]
    pub fn wrong_namespace(namespace: &str) -> Option<&'static str> {
        const FORBIDDEN: &[char] = &['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':', '-'];
        if namespace.is_empty() || namespace.len() > 100 {
            return Some("must have 1 to 100 characters");
        }
        if namespace.contains(char::is_uppercase) {
            return Some("must be in lower case");
        }
        if namespace.contains(FORBIDDEN) || namespace.contains(char::is_control) {
            return Some("may have none of \\ / * ? \" < > | , # : - nor a space");
        }
        None
    }
}

impl fmt::Display for DataStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_scheme_and_documents_say_the_same() {
        let stream = DataStream::of("noc");
        assert_eq!(stream.to_string(), "logs-conntally.flow-noc");
        let document: serde_json::Value =
            serde_json::from_str(&format!("{}\"a\":1}}", stream.beginning())).unwrap();
        assert_eq!(document["data_stream"]["namespace"], "noc");
    }

    #[test]
    fn namespaces_that_the_server_refuses_are_refused_here() {
        for wrong in ["", "Noc", "a-b", "a b", "a/b", "a\"b", "a\nb"] {
            assert!(DataStream::wrong_namespace(wrong).is_some(), "{wrong:?}");
        }
        assert_eq!(DataStream::wrong_namespace("default"), None);
        assert_eq!(DataStream::wrong_namespace("site_7.eu"), None);
    }
}
