//! What can be wrong with BTF, and with a question about it.

/// Why bytes cannot be read as BTF.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// Not even a header.
    #[error("BTF is cut off: {len} bytes are less than its header")]
    Truncated {
        /// Bytes there are.
        len: usize,
    },
    /// Another file, or of another byte order.
    #[error("not BTF of this machine: it begins with {magic:#06x} instead of 0xeb9f")]
    Magic {
        /// The first two bytes.
        magic: u16,
    },
    /// A format that does not exist yet.
    #[error("BTF version {version} is not known to this reader, update the agent")]
    Version {
        /// The version in the header.
        version: u8,
    },
    /// The header points outside.
    #[error("the {section} section of the BTF lies outside its {len} bytes")]
    Section {
        /// `type` or `string`.
        section: &'static str,
        /// Bytes there are.
        len: usize,
    },
    /// A type record goes past the end of its section.
    #[error("type {id} of the BTF is cut off")]
    Record {
        /// The type's id.
        id: u32,
    },
    /// A kind of unknown length.
    #[error("type {id} of the BTF has the kind {kind}, which this reader does not know, update the agent")]
    Kind {
        /// The type's id.
        id: u32,
        /// The kind's number.
        kind: u32,
    },
    /// A module's BTF builds on the kernel image's only.
    #[error("BTF of a module cannot be the base of another")]
    BaseIsSplit,
}

/// Why a question has no answer in BTF that is otherwise readable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No type of that name.
    #[error("the kernel has no {kind} {name}")]
    NoType {
        /// `struct`, `enum` or `function`.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// The type is there, the member is not.
    #[error("the kernel has no {path}")]
    NoMember {
        /// The path up to the missing member: `nf_conn.proto.tcp`.
        path: String,
    },
    /// The member does not begin at a byte.
    #[error("{path} is a bit field, which cannot be read by its offset")]
    BitField {
        /// The path of the member.
        path: String,
    },
    /// Type records that refer to each other endlessly, to nothing, or do not add up.
    #[error("the BTF of {path} makes no sense")]
    Nonsense {
        /// What was being looked up.
        path: String,
    },
}
