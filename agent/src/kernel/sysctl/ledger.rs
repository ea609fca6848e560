//! The file of old values: what each switch was before an agent turned it on.
//!
//! Text, one entry a line, so that a person can put the values back by hand:
//!
//! ```text
//! conntally sysctls 1
//! boot 2f1c…            the boot it belongs to; after another boot it means nothing
//! netns 4026531840 acct 0
//! module timestamp N
//! ```
//!
//! It is replaced as a whole (write beside, rename). A line that is not understood is left out with a warning.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const HEADER: &str = "conntally sysctls 1";

/// Two lines for each of 100,000 namespaces fit.
const MAX_BYTES: u64 = 8 << 20;

/// What can be turned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Counting of packets and bytes.
    Accounting,
    /// Start and stop times.
    Timestamps,
}

impl Switch {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Accounting, Self::Timestamps];

    /// Its name below `net.netfilter`.
    #[must_use]
    pub const fn sysctl(self) -> &'static str {
        match self {
            Self::Accounting => "nf_conntrack_acct",
            Self::Timestamps => "nf_conntrack_timestamp",
        }
    }

    /// Its name among the parameters of `nf_conntrack`.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::Accounting => "acct",
            Self::Timestamps => "tstamp",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Accounting => "acct",
            Self::Timestamps => "timestamp",
        }
    }

    /// What turns it on.
    pub(super) const fn on(self, scope: Scope) -> &'static str {
        match scope {
            Scope::Namespace(_) => "1",
            Scope::Module => "Y",
        }
    }

    /// Whether a text read from the kernel means on.
    pub(super) fn is_on(self, value: &str) -> bool {
        matches!(value.trim(), "1" | "Y")
    }
}

/// Whose value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// That of the network namespace with this inode.
    Namespace(u32),
    /// The module's.
    Module,
}

/// One old value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) scope: Scope,
    pub(super) switch: Switch,
    pub(super) old: String,
}

impl Entry {
    /// An old value that means off; `None` for anything else: it is never written back.
    pub(super) fn new(scope: Scope, switch: Switch, old: &str) -> Option<Self> {
        let off = match scope {
            Scope::Namespace(_) => old == "0",
            Scope::Module => matches!(old, "N" | "0"),
        };
        off.then(|| Self { scope, switch, old: old.to_owned() })
    }

    /// What a person calls the switch.
    pub(super) fn name(scope: Scope, switch: Switch) -> String {
        match scope {
            Scope::Namespace(inode) => {
                format!("net.netfilter.{} of network namespace {inode}", switch.sysctl())
            }
            Scope::Module => format!("parameter {} of nf_conntrack", switch.parameter()),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let (scope, name, old) = match words.as_slice() {
            ["netns", inode, name, old] => (Scope::Namespace(inode.parse().ok()?), name, old),
            ["module", name, old] => (Scope::Module, name, old),
            _ => return None,
        };
        let switch = Switch::ALL.into_iter().find(|switch| switch.name() == *name)?;
        Self::new(scope, switch, old)
    }

    fn line(&self) -> String {
        match self.scope {
            Scope::Namespace(inode) => format!("netns {inode} {} {}\n", self.switch.name(), self.old),
            Scope::Module => format!("module {} {}\n", self.switch.name(), self.old),
        }
    }
}

/// The old values of one boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    boot_id: String,
    entries: Vec<Entry>,
}

impl Ledger {
    /// Nothing changed yet.
    pub(super) fn new(boot_id: &str) -> Self {
        Self { boot_id: boot_id.to_owned(), entries: Vec::new() }
    }

    /// The old values, oldest first.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Removes what `gone` tells; whether there was any.
    pub(super) fn forget(&mut self, gone: impl Fn(&Entry) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| !gone(entry));
        self.entries.len() != before
    }

    /// Adds an old value, unless an older one of the same switch is known.
    pub(super) fn note(&mut self, entry: Entry) {
        if !self.entries.iter().any(|known| known.scope == entry.scope && known.switch == entry.switch) {
            self.entries.push(entry);
        }
    }

    /// Reads the file. One that is absent, of another boot or of another version holds nothing.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(super) fn read(path: &Path, boot_id: &str) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match open_for_reading(path) {
            Ok(file) => file.take(MAX_BYTES).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::new(boot_id)),
            Err(error) => return Err(error),
        };
        Ok(Self::parse(&String::from_utf8_lossy(&bytes), boot_id))
    }

    fn parse(text: &str, boot_id: &str) -> Self {
        let mut ledger = Self::new(boot_id);
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            tracing::warn!("the file of old sysctl values is not of this version; ignored");
            return ledger;
        }
        if lines.next().and_then(|line| line.strip_prefix("boot ")) != Some(boot_id) {
            return ledger;
        }
        for line in lines {
            match Entry::parse(line) {
                Some(entry) => ledger.note(entry),
                None => {
                    tracing::warn!("the file of old sysctl values has a line that means nothing; ignored")
                }
            }
        }
        ledger
    }

    fn text(&self) -> String {
        let mut text = format!("{HEADER}\nboot {}\n", self.boot_id);
        text.extend(self.entries.iter().map(Entry::line));
        text
    }

    /// Replaces the file as a whole; removes it when there is nothing to keep.
    ///
    /// # Errors
    /// When it cannot be written; then the former one is still there.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        if self.entries.is_empty() {
            return ignore_absence(fs::remove_file(path));
        }
        let beside = path.with_extension("new");
        // A leftover of an agent that was killed; or something planted there, which must not be followed.
        ignore_absence(fs::remove_file(&beside))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }
}

/// Opens a plain file, and nothing that someone put in its place.
fn open_for_reading(path: &Path) -> io::Result<fs::File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("is no plain file; remove it")) }
}

fn ignore_absence(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new("b");
        ledger.note(Entry::new(Scope::Namespace(7), Switch::Accounting, "0").unwrap());
        ledger.note(Entry::new(Scope::Module, Switch::Timestamps, "N").unwrap());
        ledger
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sysctls");
        ledger().write(&path).unwrap();
        assert_eq!(Ledger::read(&path, "b").unwrap(), ledger());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "conntally sysctls 1\nboot b\nnetns 7 acct 0\nmodule timestamp N\n");
    }

    #[test]
    fn an_empty_ledger_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sysctls");
        ledger().write(&path).unwrap();
        Ledger::new("b").write(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(Ledger::read(&path, "b").unwrap(), Ledger::new("b"));
    }

    #[test]
    fn values_of_another_boot_or_version_mean_nothing() {
        assert_eq!(Ledger::parse(&ledger().text(), "other"), Ledger::new("other"));
        assert_eq!(Ledger::parse(&ledger().text().replace("sysctls 1", "sysctls 2"), "b"), Ledger::new("b"));
    }

    #[test]
    fn the_oldest_value_of_a_switch_is_kept() {
        let text = "conntally sysctls 1\nboot b\nmodule acct N\nmodule acct 0\n";
        assert_eq!(Ledger::parse(text, "b").entries()[0].old, "N");
        assert_eq!(Ledger::parse(text, "b").entries().len(), 1);
    }

    #[test]
    fn no_hostile_line_becomes_something_to_write() {
        for line in [
            "netns 7 acct 1",
            "netns 7 ../../kernel/x 0",
            "netns -1 acct 0",
            "module acct 0\u{0}",
            "netns 7 acct",
        ] {
            assert_eq!(Entry::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_link_in_place_of_the_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("sysctls"));
        fs::write(&target, ledger().text()).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(Ledger::read(&link, "b").is_err());
        std::os::unix::fs::symlink(&target, link.with_extension("new")).unwrap();
        Ledger { boot_id: "c".into(), ..ledger() }.write(&link).unwrap();
        assert_eq!(
            fs::read_to_string(&target).unwrap(),
            ledger().text(),
            "the target was written through the link"
        );
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(text in "(conntally sysctls 1\nboot b\n)?[a-z0-9 \n\\PC]{0,80}") {
            for entry in Ledger::parse(&text, "b").entries() {
                prop_assert!(matches!(entry.old.as_str(), "0" | "N"));
            }
        }
    }
}
