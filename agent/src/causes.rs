//! An error and its causes in one sentence, each of them once.

/// The error and its causes, less those that the error before already tells: many types show their cause and hand it
/// on, too.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let twice = anyhow::anyhow!("denied").context("cannot read: denied").context("start");
        assert_eq!(told(&twice), "start: cannot read: denied");
    }
}
