//! Secrets: texts that are never printed, and files that hold them.

use super::{Place, Problems, credential};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Larger than any token.
const MAX_BYTES: u64 = 64 << 10;

/// Where a secret comes from. Nothing of it is ever printed but the name of its file.
#[derive(Clone)]
pub struct Secret {
    origin: Origin,
    /// Where it was configured and by which key, for problems with its file.
    configured: Option<(Place, String)>,
}

#[derive(Clone, PartialEq, Eq)]
enum Origin {
    Text(Revealed),
    File(PathBuf),
}

/// The text of a secret, which is not printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed(Arc<str>);

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file cannot be read.
    #[error("cannot read the secret in {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Its file holds none.
    #[error("{}: {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Secret {
    /// One that is known.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self { origin: Origin::Text(Revealed(text.into())), configured: None }
    }

    /// One that stands in a file, which `key` at `place` names.
    pub(crate) const fn in_file(path: PathBuf, place: Place, key: String) -> Self {
        Self { origin: Origin::File(path), configured: Some((place, key)) }
    }

    /// Reads it now.
    ///
    /// # Errors
    /// When its file cannot be read, is empty, has several lines, or holds what no header can.
    pub fn read(&self) -> Result<Revealed, SecretError> {
        match &self.origin {
            Origin::Text(text) => Ok(text.clone()),
            Origin::File(path) => read(path),
        }
    }

    /// The key by which it was configured: the first where it stands in the configuration, the other where in a file.
    fn key(&self, inline: &'static str, file: &'static str) -> &'static str {
        match self.origin {
            Origin::Text(_) => inline,
            Origin::File(_) => file,
        }
    }

    /// Whether a service manager has yet to hand over its file.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(&self.origin, Origin::File(path) if credential::is_awaited(path))
    }

    /// Notes it if it cannot be read now.
    pub(super) fn check(&self, problems: &mut Problems) {
        if let (Err(error), Some((place, key))) = (self.read(), &self.configured) {
            problems.add(place, key.clone(), error.to_string());
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.origin == other.origin
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Text(text) => text.fmt(f),
            Origin::File(path) => write!(f, "secret in {}", path.display()),
        }
    }
}

impl Revealed {
    /// The text. Not to be logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("secret")
    }
}

/// A secret in use: its file is read again when it was replaced or written.
#[derive(Debug)]
pub struct SecretInUse {
    secret: Secret,
    last: Mutex<Option<(Stamp, Revealed)>>,
}

/// What changes when a file does: device, inode, size, and when it last changed.
type Stamp = (u64, u64, u64, i64, i64);

impl SecretInUse {
    /// One that was not read yet.
    #[must_use]
    pub const fn new(secret: Secret) -> Self {
        Self { secret, last: Mutex::new(None) }
    }

    /// The key by which it was configured: the first where it stands in the configuration, the other where in a file.
    #[must_use]
    pub fn key(&self, inline: &'static str, file: &'static str) -> &'static str {
        self.secret.key(inline, file)
    }

    /// The secret as it is now. While its file cannot be read, what stood there last.
    ///
    /// # Errors
    /// See [`Secret::read`]; only as long as it was never read.
    pub fn get(&self) -> Result<Revealed, SecretError> {
        let path = match &self.secret.origin {
            Origin::Text(text) => return Ok(text.clone()),
            Origin::File(path) => path,
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(path);
        match (&*last, &stamp) {
            (Some((then, text)), Some(now)) if then == now => return Ok(text.clone()),
            _ => {}
        }
        match (read(path), last.as_ref()) {
            (Ok(text), _) => {
                // Read after the stamp was taken: a change in between shows the next time.
                *last = stamp.map(|stamp| (stamp, text.clone()));
                Ok(text)
            }
            (Err(error), Some((_, text))) => {
                tracing::debug!("the secret that was read before is used on: {error}");
                Ok(text.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Whoever asked for it refused it: it is read again the next time, even if its file looks unchanged.
    pub fn refused(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stamp, _)) = last.as_mut() {
            *stamp = Stamp::default();
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(credential::resolve(path).ok()?).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

fn read(path: &Path) -> Result<Revealed, SecretError> {
    let unusable = |what| SecretError::Unusable { path: path.to_path_buf(), what };
    let unreadable = |cause| SecretError::Unreadable { path: path.to_path_buf(), cause };
    let mut text = String::new();
    let file = credential::resolve(path).and_then(File::open).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(unusable("is larger than 64 KiB; is it the right file?"));
    }
    let text = text.trim();
    if text.is_empty() {
        return Err(unusable("is empty; write the secret into it"));
    }
    if !is_one_line(text) {
        return Err(unusable("holds more than one line; only the secret may stand in it"));
    }
    Ok(Revealed(text.into()))
}

/// Whether it is what a header can hold.
pub(super) fn is_one_line(text: &str) -> bool {
    !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, Secret, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, text).unwrap();
        let secret = Secret::in_file(path.clone(), Place::Flag("-x"), "sinks.a.token_file".into());
        (dir, secret, path)
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::of("hunter2");
        let printed = format!("{secret:?} {:?} {:?}", secret.read(), SecretInUse::new(secret.clone()));
        assert!(!printed.contains("hunter2"), "{printed}");
        assert_eq!(secret.read().unwrap().expose(), "hunter2");
    }

    #[test]
    fn the_line_end_of_a_file_is_no_part_of_the_secret() {
        let (_dir, secret, _) = file("hunter2\n");
        assert_eq!(secret.read().unwrap().expose(), "hunter2");
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_one_that_is_gone_is_remembered() {
        let (dir, secret, path) = file("first");
        let kept = SecretInUse::new(secret);
        assert_eq!(kept.get().unwrap().expose(), "first");
        // As tools that rotate secrets do it.
        std::fs::write(dir.path().join("new"), "other").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(kept.get().unwrap().expose(), "other");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(kept.get().unwrap().expose(), "other");
        std::fs::write(&path, "third").unwrap();
        assert_eq!(kept.get().unwrap().expose(), "third");
        kept.refused();
        assert_eq!(kept.get().unwrap().expose(), "third");
    }

    #[test]
    fn a_file_without_a_secret_is_told_and_none_of_its_text() {
        for text in ["", "\n", "two\nlines\n"] {
            let (_dir, secret, _) = file(text);
            let error = secret.read().unwrap_err().to_string();
            assert!(!error.contains("two"), "{error}");
        }
        let (_dir, secret, path) = file("x");
        std::fs::remove_file(path).unwrap();
        let mut problems = Problems::default();
        secret.check(&mut problems);
        assert!(problems.to_string().starts_with("flag -x: sinks.a.token_file: cannot read"), "{problems}");
    }
}
