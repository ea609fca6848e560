//! Where the requests of a spool were meant to go: a configuration may name another place by the time they are delivered.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::Path;

use crate::folder;

const FILE: &str = "target";

/// More is not read of a file that somebody else may have written; addresses of many nodes fit.
const LONGEST: u64 = 64 << 10;

/// Notes where requests go from now on. Returns where they went before, if that was noted and is another place.
pub(super) fn note(dir: &Path, target: &str) -> io::Result<Option<String>> {
    let (path, target) = (dir.join(FILE), printable(target));
    let before = read(&path)?;
    if before.as_ref() == Some(&target) {
        return Ok(None);
    }
    let new = dir.join(format!("{FILE}.new"));
    let mut file = folder::private().write(true).create(true).truncate(true).open(&new)?;
    file.write_all(target.as_bytes())?;
    fs::rename(new, path)?;
    Ok(before)
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match folder::private().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(Some(printable(&String::from_utf8_lossy(&bytes))))
}

/// As it may stand in the log.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_place_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let note = |target| note(dir.path(), target).unwrap();
        assert_eq!([note("bucket a"), note("bucket a")], [None, None]);
        assert_eq!(note("bucket b").as_deref(), Some("bucket a"));
        assert_eq!(note("bucket b"), None);
    }

    #[test]
    fn what_another_has_written_there_is_bounded_and_harmless() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        fs::write(&file, [b"\x1b[2J\n\xff".as_slice(), &[b'a'; 99_000]].concat()).unwrap();
        let before = note(dir.path(), "b").unwrap().unwrap();
        assert!(before.len() < 66_000 && !before.contains(char::is_control), "{before:?}");
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
        assert!(note(dir.path(), "b").is_err(), "links are not followed");
    }
}
