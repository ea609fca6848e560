//! A reader of BTF, the kernel's description of its own types, for members, functions and enum values.
//!
//! Nothing is indexed by name: a kernel has a hundred thousand types and the agent asks for a dozen, so each
//! question is one scan over the type records. Input is untrusted: every offset is checked where it is used, and
//! every chain of types is followed for a bounded number of steps.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>

mod bytes;
mod error;
mod fs;
mod lookup;
mod section;
mod types;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

pub use bytes::Bytes;
pub use error::{BtfError, LookupError};
pub use fs::{MODULE, ReadError, VMLINUX, read_module, read_vmlinux};
use lookup::Known;
pub use lookup::Param;
use section::Section;
pub use types::{Kind, Member, Type};

/// The number of a type as the kernel counts them: 0 is `void`; a module's first type follows vmlinux's last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

impl TypeId {
    /// The type of no value, which has no record.
    pub const VOID: Self = Self(0);
}

/// The types of the kernel image, or those of a module together with the image's.
#[derive(Clone, Debug)]
pub struct Btf {
    own: Arc<Section>,
    base: Option<Arc<Section>>,
    known: Arc<Mutex<Vec<Known>>>,
}

impl Btf {
    /// Reads BTF that stands for itself, such as `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// When the bytes are not BTF of this machine's byte order, are cut off, or hold a kind of type that this
    /// reader does not know and so cannot step over.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, BtfError> {
        Ok(Self {
            own: Arc::new(Section::parse(bytes.into(), TypeId(1), 0)?),
            base: None,
            known: Arc::default(),
        })
    }

    /// Reads a module's BTF, which goes on where that of the kernel image ends.
    ///
    /// # Errors
    /// As [`Btf::parse`], and when `base` itself is a module's.
    pub fn parse_split(bytes: impl Into<Bytes>, base: &Self) -> Result<Self, BtfError> {
        if base.base.is_some() {
            return Err(BtfError::BaseIsSplit);
        }
        let own = Section::parse(bytes.into(), base.own.end_id(), base.own.strings_len())?;
        Ok(Self { own: Arc::new(own), base: Some(Arc::clone(&base.own)), known: Arc::default() })
    }

    /// Whether this is a module's BTF.
    #[must_use]
    pub const fn is_split(&self) -> bool {
        self.base.is_some()
    }

    /// The record of a type; `None` for [`TypeId::VOID`] and for ids past the end.
    #[must_use]
    pub fn type_by_id(&self, id: TypeId) -> Option<Type<'_>> {
        self.own.record(id).or_else(|| self.base.as_ref()?.record(id))
    }

    /// The string at an offset as type records give it, without its terminator; `None` when it lies outside.
    #[must_use]
    pub fn string(&self, offset: u32) -> Option<&[u8]> {
        match &self.base {
            Some(base) if offset < base.strings_len() => base.string(offset),
            _ => self.own.string(offset),
        }
    }

    /// The ids that this BTF itself defines, without those of its base.
    pub fn own_ids(&self) -> impl Iterator<Item = TypeId> + use<> {
        (self.own.first_id().0..self.own.end_id().0).map(TypeId)
    }
}
