//! The type records of BTF: a head of three words, then data whose shape the kind decides.

use super::TypeId;

/// What a record describes. The numbers are the kernel's.
///
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/btf.h#L61>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are those of the C language and of the format's documentation")]
pub enum Kind {
    Int = 1,
    Pointer = 2,
    Array = 3,
    Struct = 4,
    Union = 5,
    Enum = 6,
    Forward = 7,
    Typedef = 8,
    Volatile = 9,
    Const = 10,
    Restrict = 11,
    Function = 12,
    Prototype = 13,
    Variable = 14,
    DataSection = 15,
    Float = 16,
    DeclTag = 17,
    TypeTag = 18,
    Enum64 = 19,
}

/// A type record.
#[derive(Clone, Copy, Debug)]
pub struct Type<'a> {
    /// What it describes.
    pub kind: Kind,
    /// Offset of its name; 0 when it has none.
    pub name: u32,
    /// How many members, values or parameters follow.
    pub len: usize,
    /// Changes the meaning of offsets (structs) and signs (enums).
    pub flag: bool,
    /// Size in bytes, or the type that this one refers to.
    pub size_or_type: u32,
    /// What follows the head: exactly this record's, as words.
    data: &'a [u8],
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Offset of its name; 0 when it is anonymous.
    pub name: u32,
    /// Its type.
    pub ty: TypeId,
    /// Where it begins in its struct.
    pub bit_offset: u32,
    /// Bits it has when it is a bit field, else 0.
    pub bit_size: u32,
}

impl<'a> Type<'a> {
    /// A record from its head and all bytes that follow it. `None` when its data is cut off.
    pub(super) fn new(head: &[u8; 12], rest: &'a [u8]) -> Option<Self> {
        let [name, info, size_or_type] = words(head);
        let kind = Kind::from_number(kind_number(info))?;
        let len = vlen(info);
        let data = rest.get(..kind.data_len(len))?;
        Some(Self { kind, name, len, flag: info >> 31 == 1, size_or_type, data })
    }

    /// The type that this one refers to, for kinds that refer to one.
    #[must_use]
    pub const fn target(&self) -> TypeId {
        TypeId(self.size_or_type)
    }

    /// What follows the head, in words.
    pub fn data(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.data.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word))
    }

    /// Members of a struct or union; nothing for other kinds.
    pub fn members(&self) -> impl Iterator<Item = Member> + use<'a> {
        let is_aggregate = matches!(self.kind, Kind::Struct | Kind::Union);
        let (flag, data) = (self.flag, if is_aggregate { self.data } else { &[] });
        data.as_chunks::<12>().0.iter().map(move |member| {
            let [name, ty, offset] = words(member);
            let (bit_offset, bit_size) = if flag { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            Member { name, ty: TypeId(ty), bit_offset, bit_size }
        })
    }

    /// Element type and number of elements of an array.
    #[must_use]
    pub fn array(&self) -> Option<(TypeId, u32)> {
        let (Kind::Array, Some(data)) = (self.kind, self.data.first_chunk::<12>()) else { return None };
        let [element, _index, count] = words(data);
        Some((TypeId(element), count))
    }

    /// Offset of the name and type of each parameter of a prototype; nothing for other kinds.
    pub fn params(&self) -> impl Iterator<Item = (u32, TypeId)> + use<'a> {
        let data = if self.kind == Kind::Prototype { self.data } else { &[] };
        data.as_chunks::<8>().0.iter().map(|param| {
            let [name, ty] = words(param);
            (name, TypeId(ty))
        })
    }

    /// Offset of the name and value of each constant of an enum; nothing for other kinds. Negative values come in
    /// two's complement: of 32 bits unless the enum has 64.
    pub fn constants(&self) -> impl Iterator<Item = (u32, u64)> + use<'a> {
        let narrow = if self.kind == Kind::Enum { self.data } else { &[] };
        let wide = if self.kind == Kind::Enum64 { self.data } else { &[] };
        let narrow = narrow.as_chunks::<8>().0.iter().map(|constant| {
            let [name, value] = words(constant);
            (name, u64::from(value))
        });
        narrow.chain(wide.as_chunks::<12>().0.iter().map(|constant| {
            let [name, low, high] = words(constant);
            (name, u64::from(high) << 32 | u64::from(low))
        }))
    }
}

impl Kind {
    const ALL: [Self; 19] = [
        Self::Int,
        Self::Pointer,
        Self::Array,
        Self::Struct,
        Self::Union,
        Self::Enum,
        Self::Forward,
        Self::Typedef,
        Self::Volatile,
        Self::Const,
        Self::Restrict,
        Self::Function,
        Self::Prototype,
        Self::Variable,
        Self::DataSection,
        Self::Float,
        Self::DeclTag,
        Self::TypeTag,
        Self::Enum64,
    ];

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get((number as usize).checked_sub(1)?).copied()
    }

    /// Whether it only renames or qualifies the type that it refers to.
    #[must_use]
    pub const fn is_transparent(self) -> bool {
        matches!(self, Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag)
    }

    /// Bytes that follow the head of a record with `len` items.
    const fn data_len(self, len: usize) -> usize {
        match self {
            Self::Int | Self::Variable | Self::DeclTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union | Self::DataSection | Self::Enum64 => 12 * len,
            Self::Enum | Self::Prototype => 8 * len,
            Self::Pointer
            | Self::Forward
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Function
            | Self::Float
            | Self::TypeTag => 0,
        }
    }
}

/// The kind of a record and the bytes that follow its head, or the number of its kind when that is unknown.
pub(super) fn record_len(head: &[u8; 12]) -> Result<(Kind, usize), u32> {
    let [_, info, _] = words(head);
    let number = kind_number(info);
    Kind::from_number(number).map(|kind| (kind, kind.data_len(vlen(info)))).ok_or(number)
}

/// Offset of the name, and kind of a record, from its head.
#[inline]
pub(super) fn name_and_kind(head: &[u8; 12]) -> Option<(u32, Kind)> {
    let [name, info, _] = words(head);
    Some((name, Kind::from_number(kind_number(info))?))
}

const fn kind_number(info: u32) -> u32 {
    info >> 24 & 0x1f
}

const fn vlen(info: u32) -> usize {
    (info & 0xffff) as usize
}

/// Splits bytes into words of the machine's byte order. `N` is a quarter of `M`.
fn words<const M: usize, const N: usize>(bytes: &[u8; M]) -> [u32; N] {
    let mut words = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word));
    std::array::from_fn(|_| words.next().unwrap_or_default())
}
