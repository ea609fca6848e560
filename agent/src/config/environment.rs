//! The layer of the environment: `CONNTALLY_SOURCE__HOOK=kprobe` is the key `source.hook`.

use super::{Document, Place};

/// What the names of our variables begin with.
pub const PREFIX: &str = "CONNTALLY_";

/// Puts the variables that belong to us over `document`; returns those that mean nothing to us.
///
/// A variable without `__` that names no key is returned rather than made an error: container platforms set such
/// ones (`CONNTALLY_PORT`) for a service of our name. With `__` it can only be meant for us.
pub(super) fn apply(
    document: &mut Document,
    variables: impl Iterator<Item = (String, String)>,
    is_top_level_key: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut variables: Vec<_> = variables.collect();
    variables.sort();
    for (name, text) in variables {
        let Some(key) = name.strip_prefix(PREFIX).map(str::to_ascii_lowercase) else { continue };
        let path: Vec<&str> = key.split("__").collect();
        if path.len() == 1 && !is_top_level_key(&key) {
            unknown.push(name);
        } else {
            document.set(&path, Place::Environment(name.clone()), text);
        }
    }
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(variables: &[(&str, &str)]) -> (Document, Vec<String>) {
        let mut document = Document::default();
        let owned = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let unknown = apply(&mut document, owned, |key| key == "run_dir");
        (document, unknown)
    }

    #[test]
    fn two_underscores_stand_between_levels() {
        let (document, unknown) =
            applied(&[("CONNTALLY_SOURCE__MANAGE_SYSCTLS", "false"), ("HOME", "/root")]);
        let mut expected = Document::default();
        let place = Place::Environment("CONNTALLY_SOURCE__MANAGE_SYSCTLS".into());
        expected.set(&["source", "manage_sysctls"], place, "false".into());
        assert_eq!(document.root, expected.root);
        assert!(unknown.is_empty());
    }

    #[test]
    fn what_a_container_platform_sets_for_a_service_of_our_name_is_no_key() {
        let (document, unknown) =
            applied(&[("CONNTALLY_PORT", "tcp://10.0.0.1:80"), ("CONNTALLY_RUN_DIR", "/x")]);
        assert_eq!(unknown, ["CONNTALLY_PORT"]);
        assert_eq!(document.root.keys().collect::<Vec<_>>(), ["run_dir"]);
    }
}
