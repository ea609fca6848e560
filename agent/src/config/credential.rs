//! Files that a service manager hands to the agent alone, as `$CREDENTIALS_DIRECTORY/NAME` names them.
//!
//! See `LoadCredential=` in `systemd.exec(5)`: the directory is one that only the service can read, and its path is in
//! the environment of the service.

use std::borrow::Cow;
use std::io;
use std::path::Path;

const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
const PREFIX: &str = "$CREDENTIALS_DIRECTORY";

/// The file that a path names: another one if it begins with `$CREDENTIALS_DIRECTORY/`, else itself.
///
/// # Errors
/// When the path begins so and no service manager handed anything over.
pub(crate) fn resolve(path: &Path) -> io::Result<Cow<'_, Path>> {
    resolve_in(path, std::env::var_os(VARIABLE).filter(|directory| !directory.is_empty()).as_deref())
}

/// Whether it is a file that a service manager has yet to hand over.
pub(super) fn is_awaited(path: &Path) -> bool {
    path.starts_with(PREFIX) && resolve(path).is_err()
}

fn resolve_in<'a>(path: &'a Path, directory: Option<&std::ffi::OsStr>) -> io::Result<Cow<'a, Path>> {
    match (path.strip_prefix(PREFIX), directory) {
        (Err(_), _) => Ok(Cow::Borrowed(path)),
        (Ok(name), Some(directory)) => Ok(Cow::Owned(Path::new(directory).join(name))),
        (Ok(_), None) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "$CREDENTIALS_DIRECTORY is not set; systemd sets it for a service with LoadCredential=",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(path: &str, directory: Option<&str>) -> Option<String> {
        let found = resolve_in(Path::new(path), directory.map(std::ffi::OsStr::new)).ok()?;
        Some(found.to_string_lossy().into_owned())
    }

    #[test]
    fn only_a_path_that_begins_with_the_variable_is_another_one() {
        let directory = Some("/run/credentials/x");
        assert_eq!(resolved("$CREDENTIALS_DIRECTORY/a", directory).unwrap(), "/run/credentials/x/a");
        for plain in ["/etc/a", "a/$CREDENTIALS_DIRECTORY/b", "$CREDENTIALS_DIRECTORY2/a", "$HOME/a"] {
            assert_eq!(resolved(plain, directory).unwrap(), plain);
        }
    }

    #[test]
    fn without_a_service_manager_there_is_no_such_file() {
        assert_eq!(resolved("$CREDENTIALS_DIRECTORY/a", None), None);
        assert_eq!(resolved("/etc/a", None).unwrap(), "/etc/a");
    }
}
