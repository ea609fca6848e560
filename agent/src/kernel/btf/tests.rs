//! The reader against BTF made by hand, and against bytes that lie.

use proptest::prelude::*;

use super::*;
use crate::kernel::fixtures;

/// Makes BTF out of types and the strings that they name.
#[derive(Default)]
struct Builder {
    types: Vec<u32>,
    strings: Vec<u8>,
    first_string: u32,
}

impl Builder {
    fn image() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    /// `first_string` is the length of the image's strings.
    fn module(first_string: u32) -> Self {
        Self { first_string, ..Self::image() }
    }

    fn string(&mut self, string: &str) -> u32 {
        if string.is_empty() {
            return 0;
        }
        let at = self.first_string + self.strings.len() as u32;
        self.strings.extend(string.bytes().chain([0]));
        at
    }

    fn ty(&mut self, name: &str, kind: Kind, len: u32, size_or_type: u32, data: &[u32]) -> &mut Self {
        let name = self.string(name);
        self.types.extend([name, (kind as u32) << 24 | len, size_or_type]);
        self.types.extend(data);
        self
    }

    fn aggregate(&mut self, name: &str, kind: Kind, size: u32, members: &[(&str, u32, u32)]) -> &mut Self {
        let mut data = Vec::new();
        for &(name, ty, bits) in members {
            data.extend([self.string(name), ty, bits]);
        }
        self.ty(name, kind, members.len() as u32, size, &data)
    }

    fn flagged(&mut self) -> &mut Self {
        // The last record is a struct with one member.
        let info = self.types.len() - 5;
        self.types[info] |= 1 << 31;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let len = self.types.len() as u32 * 4;
        let header = [0x1_eb9f, 24, 0, len, len, self.strings.len() as u32];
        let words = header.iter().chain(&self.types).flat_map(|word| word.to_ne_bytes());
        words.chain(self.strings.iter().copied()).collect()
    }

    fn parse(&self) -> Btf {
        Btf::parse(self.bytes()).unwrap()
    }
}

const INT: (&str, Kind, u32, u32, &[u32]) = ("u32", Kind::Int, 0, 4, &[32]);

fn with_int() -> Builder {
    let mut builder = Builder::image();
    builder.ty(INT.0, INT.1, INT.2, INT.3, INT.4);
    builder
}

#[test]
fn members_are_found_inside_of_anonymous_members() {
    let btf = with_int()
        .aggregate("", Kind::Union, 8, &[("a", 1, 0), ("b", 1, 0)])
        .aggregate("", Kind::Struct, 16, &[("pad", 1, 0), ("", 2, 64)])
        .aggregate("outer", Kind::Struct, 24, &[("first", 1, 0), ("", 3, 64)])
        .parse();
    assert_eq!(btf.member_offset("outer", "first"), Ok(0));
    assert_eq!(btf.member_offset("outer", "b"), Ok(16));
    assert_eq!(btf.member_offset("outer", "c"), Err(LookupError::NoMember { path: "outer.c".to_owned() }));
}

#[test]
fn paths_go_through_renamed_and_qualified_types_and_into_arrays() {
    let btf = with_int()
        .aggregate("inner", Kind::Struct, 12, &[("x", 1, 0), ("y", 1, 64)])
        .ty("inner_t", Kind::Typedef, 0, 2, &[])
        .ty("", Kind::Const, 0, 3, &[])
        .ty("", Kind::Array, 0, 0, &[4, 1, 3])
        .aggregate("outer", Kind::Struct, 40, &[("list", 5, 32)])
        .parse();
    assert_eq!(btf.member_offset("outer", "list[2].y"), Ok(4 + 2 * 12 + 8));
    assert_eq!(btf.member_size("outer", "list[2]"), Ok(12));
    assert_eq!(btf.member_size("outer", "list"), Ok(36));
    assert!(btf.member_offset("outer", "list[3].y").is_err(), "past the end");
    assert!(btf.member_offset("outer", "list.y").is_err(), "an array has no members");
    assert!(btf.member_offset("outer", "list[2.y").is_err());
}

#[test]
fn bit_fields_have_no_byte_offset_but_their_neighbours_do() {
    let mut builder = with_int();
    builder.aggregate("bits", Kind::Struct, 8, &[("flag", 1, 3 << 24 | 8)]).flagged();
    builder.aggregate("whole", Kind::Struct, 8, &[("word", 1, 32)]).flagged();
    let btf = builder.parse();
    assert_eq!(
        btf.member_offset("bits", "flag"),
        Err(LookupError::BitField { path: "bits.flag".to_owned() })
    );
    assert_eq!(btf.member_offset("whole", "word"), Ok(4));
}

#[test]
fn every_kind_of_record_is_stepped_over() {
    let mut builder = with_int();
    for (kind, len, words) in [
        (Kind::Pointer, 0, 0),
        (Kind::Array, 0, 3),
        (Kind::Struct, 2, 6),
        (Kind::Union, 1, 3),
        (Kind::Enum, 3, 6),
        (Kind::Forward, 0, 0),
        (Kind::Typedef, 0, 0),
        (Kind::Volatile, 0, 0),
        (Kind::Const, 0, 0),
        (Kind::Restrict, 0, 0),
        (Kind::Function, 1, 0),
        (Kind::Prototype, 2, 4),
        (Kind::Variable, 0, 1),
        (Kind::DataSection, 2, 6),
        (Kind::Float, 0, 0),
        (Kind::DeclTag, 0, 1),
        (Kind::TypeTag, 0, 0),
        (Kind::Enum64, 2, 6),
    ] {
        builder.ty("", kind, len, 0, &vec![0; words]);
    }
    let btf = builder.aggregate("last", Kind::Struct, 4, &[("x", 1, 0)]).parse();
    assert_eq!(btf.find_struct("last"), Some(TypeId(20)));
}

#[test]
fn constants_of_narrow_and_wide_enums_have_their_values() {
    let mut builder = with_int();
    let (a, b, c) = (builder.string("A"), builder.string("B"), builder.string("C"));
    builder.ty("narrow", Kind::Enum, 2, 4, &[a, 7, b, u32::MAX]);
    builder.ty("wide", Kind::Enum64, 1, 8, &[c, 1, 2]);
    let btf = builder.parse();
    assert_eq!(btf.enum_value("narrow", "A"), Ok(7));
    assert_eq!(btf.enum_value("narrow", "B"), Ok(u64::from(u32::MAX)));
    assert_eq!(btf.enum_value("wide", "C"), Ok(2 << 32 | 1));
    assert!(btf.enum_value("wide", "A").is_err());
    assert!(btf.enum_value("none", "A").is_err());
}

#[test]
fn a_name_is_not_found_by_its_beginning_nor_in_another_kind() {
    let btf = with_int()
        .aggregate("net_device", Kind::Struct, 4, &[])
        .aggregate("net", Kind::Union, 4, &[])
        .parse();
    assert_eq!(btf.find_struct("net"), None);
    assert_eq!(btf.find_struct("net_device"), Some(TypeId(2)));
}

#[test]
fn a_module_counts_on_from_the_image_and_its_own_names_come_first() {
    let mut image = with_int();
    image.aggregate("both", Kind::Struct, 4, &[("x", 1, 32)]);
    let mut module = Builder::module(image.strings.len() as u32);
    module
        .aggregate("both", Kind::Struct, 8, &[("x", 1, 64)])
        .aggregate("both", Kind::Struct, 8, &[("x", 1, 96)])
        .aggregate("own", Kind::Struct, 8, &[("inner", 2, 64)]);
    let image = image.parse();
    let split = Btf::parse_split(module.bytes(), &image).unwrap();

    assert_eq!(split.find_struct("both"), Some(TypeId(3)), "the first of several");
    assert_eq!(split.member_offset("both", "x"), Ok(8));
    assert_eq!(image.member_offset("both", "x"), Ok(4));
    assert_eq!(split.member_offset("own", "inner.x"), Ok(12), "a member whose type is the image's");
    assert!(split.is_own(TypeId(5)) && !split.is_own(TypeId(2)) && !split.is_own(TypeId(6)));
    assert_eq!(Btf::parse_split(module.bytes(), &split).unwrap_err(), BtfError::BaseIsSplit);
}

#[test]
fn parameters_of_a_function_have_their_names() {
    let mut builder = with_int();
    let name = builder.string("skb");
    builder.ty("", Kind::Prototype, 2, 0, &[name, 1, 0, 1]).ty("f", Kind::Function, 1, 2, &[]);
    let btf = builder.parse();
    let params = btf.func_params(btf.find_func("f").unwrap()).unwrap();
    assert_eq!(params[0], Param { name: "skb".to_owned(), ty: TypeId(1) });
    assert_eq!(params[1].name, "");
    assert!(btf.func_params(TypeId(1)).is_err(), "an integer takes no parameters");
}

#[test]
fn types_that_refer_to_themselves_end_in_an_error() {
    let btf = with_int()
        .ty("loop", Kind::Typedef, 0, 2, &[])
        .aggregate("outer", Kind::Struct, 4, &[("a", 2, 0), ("", 3, 0)])
        .ty("", Kind::Array, 0, 0, &[4, 1, u32::MAX])
        .aggregate("array", Kind::Struct, 4, &[("a", 4, 0)])
        .parse();
    assert!(btf.member_offset("outer", "a.b").is_err());
    assert!(btf.member_offset("outer", "missing").is_err());
    assert!(btf.member_size("array", "a").is_err());
}

#[test]
fn structs_that_contain_themselves_many_times_end_in_an_error_soon() {
    let btf = with_int().aggregate("s", Kind::Struct, 4, &[("", 2, 0), ("", 2, 0), ("", 2, 0)]).parse();
    assert!(btf.member_offset("s", "missing").is_err());
}

#[test]
fn what_is_not_btf_gets_an_error_that_says_what_is_wrong() {
    let good = with_int().bytes();
    let parse = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Btf::parse(bytes).unwrap_err()
    };
    assert_eq!(parse(&|bytes| bytes.truncate(23)), BtfError::Truncated { len: 23 });
    assert_eq!(
        parse(&|bytes| bytes[0..2].copy_from_slice(&0x9feb_u16.to_ne_bytes())),
        BtfError::Magic { magic: 0x9feb }
    );
    assert_eq!(parse(&|bytes| bytes[2] = 2), BtfError::Version { version: 2 });
    assert_eq!(parse(&|bytes| bytes[4] = 20), BtfError::Section { section: "type", len: good.len() });
    let cut = good.len() - 1;
    assert_eq!(parse(&|bytes| bytes.truncate(cut)), BtfError::Section { section: "string", len: cut });
    assert_eq!(parse(&|bytes| bytes[12] = 15), BtfError::Record { id: 1 });
    assert_eq!(parse(&|bytes| bytes[31] = 20), BtfError::Kind { id: 1, kind: 20 });
}

/// Asks everything that the agent asks, for the sake of not panicking.
fn ask(btf: &Btf) {
    let _ = crate::kernel::layout::resolve(btf, None);
    for id in btf.own_ids().chain([TypeId(0), TypeId(u32::MAX)]) {
        let _ = btf.func_params(id);
        let _ = btf.type_by_id(id).map(|ty| btf.string(ty.name).is_some());
    }
}

proptest! {
    #[test]
    fn mutated_btf_is_read_or_refused_without_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let (image, module) = fixtures::X86_64_6_12;
        let vmlinux = Btf::parse(image.to_vec()).unwrap();
        for bytes in [image, module.unwrap()] {
            let mut bytes = bytes.to_vec();
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            Btf::parse(bytes.clone()).iter().for_each(ask);
            Btf::parse_split(bytes, &vmlinux).iter().for_each(ask);
        }
    }

    #[test]
    fn cut_btf_is_refused(len in any::<prop::sample::Index>()) {
        let (image, _) = fixtures::X86_64_6_12;
        prop_assert!(Btf::parse(image[..len.index(image.len())].to_vec()).is_err());
    }

    #[test]
    fn any_bytes_behind_a_header_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let len = bytes.len() as u32;
        let header: Vec<u8> = [0x1_eb9f, 24, 0, len, 0, len].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        Btf::parse([header, bytes].concat()).iter().for_each(ask);
    }
}
