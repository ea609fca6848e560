//! Built servers, kept by version outside of any clone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::kind::Kind;
use crate::workshop::Workshop;

/// Says which recipe made a folder; the last file that is written.
const STAMP: &str = "stamp";

/// The folder of all built servers.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache below the folder where the project keeps what is worth keeping between clones.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn below(project: &Path) -> Result<Self> {
        let folder = project.join("servers");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Where a server is, if it is built.
    #[must_use]
    pub fn built(&self, kind: &dyn Kind) -> Option<PathBuf> {
        let folder = self.folder.join(kind.release());
        let stamp = fs::read_to_string(folder.join(STAMP)).ok()?;
        (stamp.trim() == kind.recipe().to_string()).then_some(folder)
    }

    /// Builds a server unless it is there, and returns where it is.
    ///
    /// # Errors
    /// When something cannot be downloaded or built; the message has the end of the log.
    pub fn ensure(&self, kind: &dyn Kind, mut say: impl FnMut(&str)) -> Result<PathBuf> {
        // Two tasks may want the same server at once.
        let lock = File::create(self.folder.join(format!("{}.lock", kind.release())))?;
        lock.lock().context("cannot lock the cache of servers")?;
        if let Some(folder) = self.built(kind) {
            return Ok(folder);
        }
        say(&format!("building {}, once; log: {}", kind.release(), self.log(kind).display()));
        let start = Instant::now();
        let folder = self.build(kind).with_context(|| format!("cannot build {}", kind.release()))?;
        say(&format!("built {} in {} s", kind.release(), start.elapsed().as_secs()));
        Ok(folder)
    }

    fn log(&self, kind: &dyn Kind) -> PathBuf {
        self.folder.join(format!("{}.log", kind.release()))
    }

    /// The folder appears only when it is whole.
    fn build(&self, kind: &dyn Kind) -> Result<PathBuf> {
        let work = self.folder.join(format!("{}.new", kind.release()));
        let shop = Workshop {
            result: work.join("result"),
            scratch: work.join("scratch"),
            shared: self.folder.clone(),
            log: self.log(kind),
        };
        empty(&work)?;
        drop(fs::remove_file(&shop.log));
        fs::create_dir_all(&shop.result)?;
        fs::create_dir_all(&shop.scratch)?;
        kind.build(&shop)?;
        fs::write(shop.result.join(STAMP), kind.recipe().to_string())?;
        let folder = self.folder.join(kind.release());
        empty(&folder)?;
        fs::rename(&shop.result, &folder).context("cannot put it into the cache")?;
        empty(&work)?;
        Ok(folder)
    }
}

/// Removes a folder, if it is there.
fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use anyhow::bail;

    use super::*;
    use crate::kind::{Access, Place};

    /// A server that is a file, and cannot be built a second time.
    struct Fake;

    impl Kind for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }

        fn release(&self) -> &'static str {
            "fake-1.0"
        }

        fn purpose(&self) -> &'static str {
            "a test"
        }

        fn build(&self, shop: &Workshop) -> Result<()> {
            let once = shop.shared.join("once");
            if once.exists() {
                bail!("no network");
            }
            fs::write(once, "")?;
            fs::write(shop.result.join("server"), "")?;
            Ok(())
        }

        fn ports(&self) -> u16 {
            0
        }

        fn command(&self, _: &Place) -> Result<Command> {
            bail!("it cannot run")
        }

        fn is_ready(&self, _: &Place) -> bool {
            false
        }

        fn prepare(&self, _: &Place) -> Result<Access> {
            Ok(Access::new())
        }
    }

    #[test]
    fn a_server_is_built_once() {
        let project = tempfile::tempdir().unwrap();
        let cache = Cache::below(project.path()).unwrap();
        assert!(cache.built(&Fake).is_none());
        let folder = cache.ensure(&Fake, |_| ()).unwrap();
        assert!(folder.join("server").exists());
        assert_eq!(cache.ensure(&Fake, |_| panic!("built again")).unwrap(), folder);
    }

    #[test]
    fn a_server_of_another_recipe_is_built_again_and_a_failure_is_an_error() {
        let project = tempfile::tempdir().unwrap();
        let cache = Cache::below(project.path()).unwrap();
        let folder = cache.ensure(&Fake, |_| ()).unwrap();
        fs::write(folder.join(STAMP), "0").unwrap();
        let error = format!("{:#}", cache.ensure(&Fake, |_| ()).unwrap_err());
        assert!(error.contains("fake-1.0") && error.contains("no network"), "{error}");
    }
}
