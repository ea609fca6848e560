//! Conntrack's accounting switches: turned on while an agent runs, put back when the last agent leaves.
//!
//! The promises: only what an agent changed is put back, and only when nobody else changed it since. Old values are
//! on disk *before* the kernel's are changed ([`ledger`]), so an agent that was killed is cleaned up after by the
//! next one. While any agent of the machine runs, nothing is put back ([`presence`]). Agents know each other by
//! their run directory: two agents with different ones do not.

mod files;
mod ledger;
mod presence;

pub use files::Host;
pub use ledger::Switch;

use self::ledger::{Entry, Ledger, Scope};
use self::presence::Presence;
use super::netns::Namespace;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Why the accounting switches cannot be managed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}: {cause}", path.display())]
pub struct SysctlError {
    /// What was being done.
    pub what: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// What went wrong.
    #[source]
    pub cause: io::Error,
}

/// What came of turning switches on.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Switches that were off and are on now, as a person calls them.
    pub changed: Vec<String>,
    /// Switches that were on already, by their owner's will or an agent's.
    pub already_on: usize,
    /// Switches that do not exist, because `nf_conntrack` is not loaded or built without them.
    pub absent: Vec<String>,
    /// Switches that are off and stay so, and why.
    pub refused: Vec<(String, io::Error)>,
}

impl Adopted {
    /// Adds what came of others.
    pub fn extend(&mut self, other: Self) {
        self.changed.extend(other.changed);
        self.already_on += other.already_on;
        self.absent.extend(other.absent);
        self.refused.extend(other.refused);
    }
}

/// What came of putting switches back.
#[derive(Debug, Default)]
pub struct Restored {
    /// Switches that have their old value again.
    pub restored: Vec<String>,
    /// Switches that someone else changed meanwhile: left alone.
    pub left: Vec<String>,
    /// Switches whose namespace or module is gone.
    pub gone: usize,
    /// Switches that could not be put back, and why. The next agent to leave tries again.
    pub failed: Vec<(String, io::Error)>,
    /// Another agent runs; it will put them back.
    pub others_run: bool,
    /// Among those put back are the module's: until now namespaces began with them on.
    pub has_module: bool,
}

/// The kernel's switches, wherever they are; a fake one in tests.
pub trait Kernel {
    /// Every namespace whose switches can be reached.
    fn reachable(&self) -> Vec<Namespace>;

    /// The text of a switch.
    ///
    /// # Errors
    /// `NotFound` when the kernel does not have it.
    fn read(&self, owner: Owner<'_>, switch: Switch) -> io::Result<String>;

    /// Sets a switch.
    ///
    /// # Errors
    /// When it may not be set.
    fn write(&self, owner: Owner<'_>, switch: Switch, value: &str) -> io::Result<()>;
}

/// Whose switch it is.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// That of one network namespace.
    Namespace(&'a Namespace),
    /// The module's: what new namespaces start with.
    Module,
}

impl Owner<'_> {
    const fn scope(self) -> Scope {
        match self {
            Self::Namespace(namespace) => Scope::Namespace(namespace.inode),
            Self::Module => Scope::Module,
        }
    }
}

/// An agent's hold on the switches. As long as any agent of the machine has one, none is put back; dropping the last
/// (also by a panic) puts back what agents changed.
#[derive(Debug)]
pub struct Sysctls<K: Kernel = Host> {
    kernel: K,
    ledger_path: PathBuf,
    boot_id: String,
    /// `None` once it was given back.
    presence: Mutex<Option<Presence>>,
}

impl Sysctls<Host> {
    /// Takes a hold, in a directory that is made if need be. Changes no switch yet.
    ///
    /// # Errors
    /// When the directory or its lock files cannot be made: mostly for want of privilege.
    pub fn hold(run_dir: &Path) -> Result<Self, SysctlError> {
        Self::with_kernel(run_dir, Host, files::boot_id())
    }
}

impl<K: Kernel> Sysctls<K> {
    fn with_kernel(run_dir: &Path, kernel: K, boot_id: String) -> Result<Self, SysctlError> {
        let presence = Presence::announce(run_dir)?;
        let ledger_path = run_dir.join("sysctls");
        Ok(Self { kernel, ledger_path, boot_id, presence: Mutex::new(Some(presence)) })
    }

    /// Turns accounting and timestamps on in a namespace. Harmless when repeated.
    ///
    /// # Errors
    /// When old values cannot be written down; then nothing was changed.
    pub fn adopt(&self, namespace: &Namespace) -> Result<Adopted, SysctlError> {
        self.turn_on(Owner::Namespace(namespace))
    }

    /// Turns both on for namespaces that will be made.
    ///
    /// # Errors
    /// When old values cannot be written down; then nothing was changed.
    pub fn adopt_module(&self) -> Result<Adopted, SysctlError> {
        self.turn_on(Owner::Module)
    }

    /// Gives the hold back; the last agent puts back what agents changed. Later calls do nothing.
    ///
    /// # Errors
    /// When the old values cannot be read.
    pub fn release(&self) -> Result<Restored, SysctlError> {
        let Some(presence) = self.presence.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(Restored::default());
        };
        let Some(alone) = presence.leave()? else {
            return Ok(Restored { others_run: true, ..Restored::default() });
        };
        let restored = self.put_back();
        drop(alone);
        restored
    }

    /// Gives the hold back and leaves every switch as it is. The last agent that releases its hold puts them back, also
    /// what this one changed.
    pub fn keep(&self) {
        drop(self.presence.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn turn_on(&self, owner: Owner<'_>) -> Result<Adopted, SysctlError> {
        let presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let mut adopted = Adopted::default();
        let Some(presence) = presence.as_ref() else { return Ok(adopted) };
        let _exclusive = presence.exclusive()?;
        let mut ledger = self.read_ledger()?;
        let off = self.switches_off(owner, &mut adopted);
        if off.is_empty() {
            return Ok(adopted);
        }
        // Written down before anything changes: a kill between the two must not lose the old values.
        for entry in &off {
            ledger.note(entry.clone());
        }
        self.write_ledger(&ledger)?;
        for entry in off {
            match self.kernel.write(owner, entry.switch, entry.switch.on(entry.scope)) {
                Ok(()) => adopted.changed.push(entry.to_string()),
                Err(error) => {
                    adopted.refused.push((entry.to_string(), error));
                    // What was not changed must not be put back: its owner may turn it on meanwhile.
                    ledger.forget(|noted| noted.scope == entry.scope && noted.switch == entry.switch);
                }
            }
        }
        if !adopted.refused.is_empty()
            && let Err(error) = self.write_ledger(&ledger)
        {
            tracing::warn!(
                "a switch that stays off would be turned off at the end, should it be on then: {error}"
            );
        }
        Ok(adopted)
    }

    /// Whether accounting or timestamps are on in a namespace.
    #[must_use]
    pub fn is_any_on(&self, namespace: &Namespace) -> bool {
        let owner = Owner::Namespace(namespace);
        Switch::ALL.iter().any(|switch| self.kernel.read(owner, *switch).is_ok_and(|now| switch.is_on(&now)))
    }

    /// Forgets the old values of a namespace that is gone: another one may get its number.
    ///
    /// # Errors
    /// When the old values cannot be read or written.
    pub fn forget(&self, inode: u32) -> Result<(), SysctlError> {
        let presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(presence) = presence.as_ref() else { return Ok(()) };
        let _exclusive = presence.exclusive()?;
        let mut ledger = self.read_ledger()?;
        if ledger.forget(|entry| entry.scope == Scope::Namespace(inode)) {
            self.write_ledger(&ledger)?;
        }
        Ok(())
    }

    /// The owner's switches that are off, with their values.
    fn switches_off(&self, owner: Owner<'_>, adopted: &mut Adopted) -> Vec<Entry> {
        let mut off = Vec::new();
        for switch in Switch::ALL {
            let name = Entry::name(owner.scope(), switch);
            match self.kernel.read(owner, switch) {
                Ok(value) if switch.is_on(&value) => adopted.already_on += 1,
                Ok(value) => match Entry::new(owner.scope(), switch, value.trim()) {
                    Some(entry) => off.push(entry),
                    None => {
                        adopted.refused.push((name, io::Error::other(format!("unexpected value {value:?}"))))
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => adopted.absent.push(name),
                Err(error) => adopted.refused.push((name, error)),
            }
        }
        off
    }

    fn put_back(&self) -> Result<Restored, SysctlError> {
        let ledger = self.read_ledger()?;
        let namespaces = if ledger.entries().is_empty() { Vec::new() } else { self.kernel.reachable() };
        let mut restored = Restored::default();
        let mut remaining = Ledger::new(&self.boot_id);
        for entry in ledger.entries() {
            let owner = match entry.scope {
                Scope::Module => Some(Owner::Module),
                Scope::Namespace(inode) => {
                    namespaces.iter().find(|ns| ns.inode == inode).map(Owner::Namespace)
                }
            };
            let outcome = owner.map_or(Ok(Outcome::Gone), |owner| self.put_back_one(owner, entry));
            match outcome {
                Ok(Outcome::Restored) => {
                    restored.restored.push(entry.to_string());
                    restored.has_module |= entry.scope == Scope::Module;
                }
                Ok(Outcome::Left) => restored.left.push(entry.to_string()),
                Ok(Outcome::Gone) => restored.gone += 1,
                Err(error) => {
                    restored.failed.push((entry.to_string(), error));
                    remaining.note(entry.clone());
                }
            }
        }
        self.write_ledger(&remaining)?;
        Ok(restored)
    }

    fn put_back_one(&self, owner: Owner<'_>, entry: &Entry) -> io::Result<Outcome> {
        let now = match self.kernel.read(owner, entry.switch) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Gone),
            now => now?,
        };
        if !entry.switch.is_on(&now) {
            return Ok(Outcome::Left);
        }
        self.kernel.write(owner, entry.switch, &entry.old).map(|()| Outcome::Restored)
    }

    fn read_ledger(&self) -> Result<Ledger, SysctlError> {
        Ledger::read(&self.ledger_path, &self.boot_id)
            .map_err(|cause| self.ledger_error("cannot read the old sysctl values", cause))
    }

    fn write_ledger(&self, ledger: &Ledger) -> Result<(), SysctlError> {
        ledger
            .write(&self.ledger_path)
            .map_err(|cause| self.ledger_error("cannot keep the old sysctl values", cause))
    }

    fn ledger_error(&self, what: &'static str, cause: io::Error) -> SysctlError {
        SysctlError { what, path: self.ledger_path.clone(), cause }
    }
}

impl<K: Kernel> Drop for Sysctls<K> {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            tracing::error!("sysctls were not put back: {error}");
        }
    }
}

enum Outcome {
    Restored,
    Left,
    Gone,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Self::name(self.scope, self.switch))
    }
}

#[cfg(test)]
mod tests;
