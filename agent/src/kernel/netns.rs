//! Which network namespaces can be reached, and how to run something inside one.

#![expect(unsafe_code, reason = "only an ioctl tells of which kind a namespace is")]

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        linux::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

/// The calling thread's own namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Where `ip netns` and container engines keep namespaces by name.
const NAMED: [&str; 3] = ["/run/netns", "/var/run/netns", "/run/docker/netns"];

/// A network namespace. It stays alive as long as this value does, even after everyone else has left it.
#[derive(Debug)]
pub struct Namespace {
    /// Its number, as in `readlink /proc/self/ns/net`.
    pub inode: u32,
    /// `init` for the one of process 1, else the name that `ip netns` or the container engine gave it.
    pub name: Option<String>,
    path: PathBuf,
    handle: OwnedFd,
}

impl Namespace {
    /// Opens the namespace that a path such as `/run/netns/NAME` or `/proc/PID/ns/net` stands for.
    ///
    /// # Errors
    /// When the path cannot be opened or is no network namespace.
    pub fn open(path: &Path, name: Option<String>) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = network_inode(&file)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no network namespace", path.display()))
        })?;
        Ok(Self { inode, name, path: path.to_path_buf(), handle: file.into() })
    }

    /// A second handle on the same namespace.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let handle = self.handle.try_clone()?;
        Ok(Self { inode: self.inode, name: self.name.clone(), path: self.path.clone(), handle })
    }

    /// Where it was found, for a cheap look later whether it is still there.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { inode: self.inode, candidate: Candidate { path: self.path.clone(), name: None } }
    }
}

/// Where a namespace was found. Unlike [`Namespace`] it does not keep it alive.
#[derive(Debug)]
pub struct Place {
    inode: u32,
    candidate: Candidate,
}

impl Place {
    /// Whether the namespace is still there. If not it may have other places: look with [`reachable_inodes`].
    #[must_use]
    pub fn holds(&self) -> bool {
        self.candidate.inode(namespace_device()) == Some(self.inode)
    }
}

/// The namespace's number, if the file is one of a network.
fn network_inode(file: &File) -> io::Result<Option<u32>> {
    let metadata = file.metadata()?;
    let is_network = namespace_device() == Some(metadata.st_dev()) && kind(file) == libc::CLONE_NEWNET;
    Ok(is_network.then(|| u32::try_from(metadata.st_ino()).ok()).flatten())
}

/// The kind of a namespace as one of the `CLONE_NEW*` flags, by `NS_GET_NSTYPE` (4.11); negative for other files.
fn kind(file: &File) -> libc::c_int {
    // SAFETY: the descriptor is open, and this request takes no argument and touches no memory.
    unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) }
}

/// The namespace of the calling thread.
///
/// # Errors
/// When /proc is not mounted.
pub fn current() -> io::Result<Namespace> {
    let mut namespace = Namespace::open(Path::new(OWN), None)?;
    let device = namespace_device();
    let found = [init()].into_iter().chain(named()).find(|c| c.inode(device) == Some(namespace.inode));
    namespace.name = found.and_then(|candidate| candidate.name);
    Ok(namespace)
}

/// Every namespace that can be found: the one of process 1, the named ones, those of all processes, and the
/// calling thread's. Each once. What may not be looked at is left out: without privileges only the own remains.
#[must_use]
pub fn reachable() -> Vec<Namespace> {
    let device = namespace_device();
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for candidate in candidates() {
        let Some(inode) = candidate.inode(device) else { continue };
        if seen.contains(&inode) {
            continue;
        }
        let Ok(namespace) = Namespace::open(&candidate.path, candidate.name) else { continue };
        // The path may have changed its meaning since it was looked at: what was opened counts.
        if seen.insert(namespace.inode) {
            found.push(namespace);
        }
    }
    found
}

/// The numbers of every namespace that [`reachable`] would find, without opening any.
#[must_use]
pub fn reachable_inodes() -> HashSet<u32> {
    let device = namespace_device();
    candidates().filter_map(|candidate| candidate.inode(device)).collect()
}

/// Runs `f` inside a namespace, on a thread of its own, so that the caller's thread never changes its namespace.
/// What `f` opens (a socket) belongs to that namespace and can be used from anywhere.
///
/// # Errors
/// When the thread cannot be started or may not enter the namespace (CAP_SYS_ADMIN is needed, except for the
/// caller's own), or when `f` panicked.
pub fn within<T: Send>(ns: &Namespace, f: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name(format!("netns-{}", ns.inode))
            .spawn_scoped(scope, move || enter(ns).map(|()| f()))?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the work inside the network namespace panicked")))
    })
}

/// Moves the calling thread into a namespace, unless it is there already: that needs no privilege.
fn enter(ns: &Namespace) -> io::Result<()> {
    if own().inode(namespace_device()) == Some(ns.inode) {
        return Ok(());
    }
    setns(ns.handle.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| {
        io::Error::new(
            io::Error::from(errno).kind(),
            format!("cannot enter network namespace {} ({errno}); CAP_SYS_ADMIN is needed", ns.inode),
        )
    })
}

/// A path that may stand for a namespace.
#[derive(Debug)]
struct Candidate {
    path: PathBuf,
    name: Option<String>,
}

impl Candidate {
    /// The namespace's number, if the path is on the kernel's namespace file system at all.
    fn inode(&self, device: Option<u64>) -> Option<u32> {
        let metadata = fs::metadata(&self.path).ok()?;
        (device == Some(metadata.st_dev())).then(|| u32::try_from(metadata.st_ino()).ok()).flatten()
    }
}

/// The device number of the kernel's namespace file system.
fn namespace_device() -> Option<u64> {
    Some(fs::metadata(OWN).ok()?.st_dev())
}

/// In the order in which they may give a name. The own namespace comes last: the others may know its name.
fn candidates() -> impl Iterator<Item = Candidate> {
    [init()].into_iter().chain(named()).chain(processes()).chain([own()])
}

fn own() -> Candidate {
    Candidate { path: OWN.into(), name: None }
}

fn init() -> Candidate {
    Candidate { path: "/proc/1/ns/net".into(), name: Some("init".into()) }
}

fn named() -> impl Iterator<Item = Candidate> {
    NAMED.into_iter().flat_map(entries).map(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Candidate { path, name }
    })
}

fn processes() -> impl Iterator<Item = Candidate> {
    entries("/proc")
        .filter(|path| path.file_name().is_some_and(is_process))
        .map(|path| Candidate { path: path.join("ns/net"), name: None })
}

fn is_process(name: &OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

/// The paths in a directory; none when it does not exist.
fn entries(directory: &str) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_among_the_reachable_ones() {
        let own = current().unwrap();
        assert_eq!(reachable().iter().filter(|ns| ns.inode == own.inode).count(), 1);
        assert!(reachable_inodes().contains(&own.inode));
    }

    #[test]
    fn no_namespace_is_listed_twice() {
        let found = reachable();
        let distinct: HashSet<u32> = found.iter().map(|ns| ns.inode).collect();
        assert_eq!(distinct.len(), found.len());
    }

    #[test]
    fn work_inside_the_own_namespace_needs_no_privilege() {
        let own = current().unwrap();
        let inside = within(&own, || current().unwrap().inode).unwrap();
        assert_eq!(inside, own.inode);
    }

    #[test]
    fn a_panic_inside_is_an_error_outside() {
        let own = current().unwrap();
        assert!(within(&own, || panic!("on purpose")).is_err());
    }

    #[test]
    fn a_plain_file_is_no_namespace() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Namespace::open(file.path(), None).unwrap_err();
        assert!(error.to_string().contains("is no network namespace"), "{error}");
    }

    #[test]
    fn other_kinds_of_namespaces_are_refused() {
        assert!(Namespace::open(Path::new("/proc/self/ns/mnt"), None).is_err());
    }
}
