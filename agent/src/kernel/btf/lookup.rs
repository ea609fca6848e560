//! Questions to BTF by name: where a member is, what a function takes, what an enum's constant is worth.

use std::sync::PoisonError;

use super::{Btf, Kind, LookupError, Member, Type, TypeId, section::Section};

/// Types may be nested, renamed and qualified this deep. The kernel's are not a quarter of it.
const MAX_DEPTH: usize = 64;

/// Members looked at before a search gives up. The kernel's largest struct has some hundreds.
const MAX_MEMBERS: u32 = 100_000;

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name; empty when it has none.
    pub name: String,
    /// Its type.
    pub ty: TypeId,
}

/// A place inside a type: how far from its beginning, and what is there.
#[derive(Clone, Copy)]
struct Place {
    bits: u64,
    ty: TypeId,
    bit_size: u32,
}

/// Kinds that share a space of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Struct,
    Function,
    Enum,
}

impl Class {
    const fn contains(self, kind: Kind) -> bool {
        match self {
            Self::Struct => matches!(kind, Kind::Struct),
            Self::Function => matches!(kind, Kind::Function),
            Self::Enum => matches!(kind, Kind::Enum | Kind::Enum64),
        }
    }
}

/// A name that was looked up before, found or not.
#[derive(Debug)]
pub(super) struct Known {
    name: String,
    class: Class,
    id: Option<TypeId>,
}

/// What a search for a member may still spend: without a limit, structs that contain themselves twice would keep
/// it busy for ever.
struct Search {
    depth: usize,
    members: u32,
}

impl Btf {
    /// The struct of that name. In a module's BTF the module's own comes first, and the first of several.
    #[must_use]
    pub fn find_struct(&self, name: &str) -> Option<TypeId> {
        self.find(name, Class::Struct)
    }

    /// The function of that name, the module's own first: the number that `attach_btf_id` wants.
    #[must_use]
    pub fn find_func(&self, name: &str) -> Option<TypeId> {
        self.find(name, Class::Function)
    }

    /// Whether a type is defined by this BTF itself, not by its base.
    #[must_use]
    pub fn is_own(&self, id: TypeId) -> bool {
        id >= self.own.first_id() && id < self.own.end_id()
    }

    /// Names and types of a function's parameters.
    ///
    /// # Errors
    /// When `id` is not a function or its records make no sense.
    pub fn func_params(&self, id: TypeId) -> Result<Vec<Param>, LookupError> {
        let nonsense = || LookupError::Nonsense { path: format!("function {}", id.0) };
        let function = self.type_by_id(id).filter(|ty| ty.kind == Kind::Function).ok_or_else(nonsense)?;
        let prototype = self.type_by_id(function.target()).ok_or_else(nonsense)?;
        if prototype.kind != Kind::Prototype {
            return Err(nonsense());
        }
        Ok(prototype.params().map(|(name, ty)| Param { name: self.name(name), ty }).collect())
    }

    /// Byte offset of a member in a struct. The path goes through nested structs and unions, anonymous ones
    /// unnamed, and into arrays: `tuplehash[1].tuple`.
    ///
    /// # Errors
    /// When struct or member do not exist, the member is no whole number of bytes away, or the BTF lies.
    pub fn member_offset(&self, struct_name: &str, path: &str) -> Result<u32, LookupError> {
        let place = self.place(struct_name, path)?;
        let full_path = || format!("{struct_name}.{path}");
        if place.bit_size != 0 || !place.bits.is_multiple_of(8) {
            return Err(LookupError::BitField { path: full_path() });
        }
        u32::try_from(place.bits / 8).map_err(|_| LookupError::Nonsense { path: full_path() })
    }

    /// Size in bytes of a member, or of one element when the path ends in an index.
    ///
    /// # Errors
    /// As [`Btf::member_offset`].
    pub fn member_size(&self, struct_name: &str, path: &str) -> Result<u32, LookupError> {
        let place = self.place(struct_name, path)?;
        let size = self.size_of(place.ty, MAX_DEPTH).and_then(|size| u32::try_from(size).ok());
        size.ok_or_else(|| LookupError::Nonsense { path: format!("{struct_name}.{path}") })
    }

    /// The value of a constant of an enum.
    ///
    /// # Errors
    /// When enum or constant do not exist.
    pub fn enum_value(&self, enum_name: &str, constant: &str) -> Result<u64, LookupError> {
        let no_type = || LookupError::NoType { kind: "enum", name: enum_name.to_owned() };
        let id = self.find(enum_name, Class::Enum).ok_or_else(no_type)?;
        let ty = self.type_by_id(id).ok_or_else(no_type)?;
        let value = ty.constants().find(|&(name, _)| self.string_is(name, constant.as_bytes()));
        let no_member = || LookupError::NoMember { path: format!("{enum_name}.{constant}") };
        value.map(|(_, value)| value).ok_or_else(no_member)
    }

    /// Looks a name up, once: a scan takes up to a millisecond, and one struct is asked for many members.
    fn find(&self, name: &str, class: Class) -> Option<TypeId> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.iter().find(|known| known.name == name && known.class == class) {
            return known.id;
        }
        let id = self.scan(name, class);
        known.push(Known { name: name.to_owned(), class, id });
        id
    }

    fn scan(&self, name: &str, class: Class) -> Option<TypeId> {
        let is_name = |offset| self.string_is(offset, name.as_bytes());
        let wanted = |kind| class.contains(kind);
        let scan = |section: &Section| match class {
            Class::Function => section.find(wanted, is_name),
            Class::Struct | Class::Enum => section.find_aggregate(wanted, is_name),
        };
        scan(&self.own).or_else(|| scan(self.base.as_ref()?))
    }

    fn place(&self, struct_name: &str, path: &str) -> Result<Place, LookupError> {
        let no_type = || LookupError::NoType { kind: "struct", name: struct_name.to_owned() };
        let start = Place { bits: 0, ty: self.find_struct(struct_name).ok_or_else(no_type)?, bit_size: 0 };
        let mut walked = struct_name.to_owned();
        path.split('.').try_fold(start, |place, step| {
            walked = format!("{walked}.{step}");
            let next = self.step(place, step);
            next.ok_or_else(|| LookupError::NoMember { path: walked.clone() })
        })
    }

    /// Goes from a place into the member that `step` names: `name` or `name[index]`.
    fn step(&self, place: Place, step: &str) -> Option<Place> {
        let (name, index) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
            Some((name, index)) => (name, Some(index.parse().ok()?)),
            None => (step, None),
        };
        let search = &mut Search { depth: MAX_DEPTH, members: MAX_MEMBERS };
        let member = self.member(self.resolve(place.ty)?.1, name.as_bytes(), search)?;
        let member = Place { bits: place.bits.checked_add(member.bits)?, ..member };
        index.map_or(Some(member), |index| self.element(member, index))
    }

    /// Looks for a member by name, inside of anonymous members too.
    fn member(&self, parent: Type<'_>, name: &[u8], search: &mut Search) -> Option<Place> {
        search.depth = search.depth.checked_sub(1)?;
        for member in parent.members() {
            search.members = search.members.checked_sub(1)?;
            let here = Place::of(member);
            if member.name != 0 {
                if self.string_is(member.name, name) {
                    return Some(here);
                }
                continue;
            }
            let inner = self.resolve(member.ty).and_then(|(_, ty)| self.member(ty, name, search));
            if let Some(inner) = inner {
                return Some(Place { bits: here.bits.checked_add(inner.bits)?, ..inner });
            }
        }
        search.depth += 1;
        None
    }

    /// The element of the array at a place. An index past the end is no element; a flexible array has any.
    fn element(&self, place: Place, index: u32) -> Option<Place> {
        let (ty, count) = self.resolve(place.ty)?.1.array()?;
        if index >= count && count != 0 {
            return None;
        }
        let bits = self.size_of(ty, MAX_DEPTH)?.checked_mul(8)?.checked_mul(u64::from(index))?;
        Some(Place { bits: place.bits.checked_add(bits)?, ty, bit_size: 0 })
    }

    /// Follows names and qualifiers to the type that they stand for.
    fn resolve(&self, id: TypeId) -> Option<(TypeId, Type<'_>)> {
        let mut id = id;
        for _ in 0..MAX_DEPTH {
            let ty = self.type_by_id(id)?;
            if !ty.kind.is_transparent() {
                return Some((id, ty));
            }
            id = ty.target();
        }
        None
    }

    fn size_of(&self, id: TypeId, depth: usize) -> Option<u64> {
        let depth = depth.checked_sub(1)?;
        let (_, ty) = self.resolve(id)?;
        match ty.kind {
            Kind::Pointer => Some(size_of::<usize>() as u64),
            Kind::Array => {
                let (element, count) = ty.array()?;
                self.size_of(element, depth)?.checked_mul(u64::from(count))
            }
            Kind::Int | Kind::Float | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 => {
                Some(u64::from(ty.size_or_type))
            }
            _ => None,
        }
    }

    fn name(&self, offset: u32) -> String {
        self.string(offset).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    }

    fn string_is(&self, offset: u32, name: &[u8]) -> bool {
        match &self.base {
            Some(base) if offset < base.strings_len() => base.string_is(offset, name),
            _ => self.own.string_is(offset, name),
        }
    }
}

impl Place {
    const fn of(member: Member) -> Self {
        Self { bits: member.bit_offset as u64, ty: member.ty, bit_size: member.bit_size }
    }
}
