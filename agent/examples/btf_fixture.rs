//! Cuts a kernel's BTF down to the types that the layout tests ask for, and writes it as their fixture.
//!
//! `cargo run -p conntally --example btf_fixture -- NAME VMLINUX [NF_CONNTRACK]` writes `NAME.vmlinux.btf` and, for
//! a kernel with BTF of modules, `NAME.nf_conntrack.btf` into `agent/src/kernel/fixtures`. Ids change; what is in
//! the image and what in the module, what is repeated and what is anonymous stays as the kernel had it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use conntally::kernel::btf::{Btf, Kind, Type, TypeId};

/// What is kept, with everything that it contains by value.
const ROOTS: [&str; 12] = [
    "nf_conn",
    "nf_ct_ext",
    "nf_ct_ext_id",
    "net",
    "sk_buff",
    "nf_ct_acct_add",
    "__nf_ct_refresh_acct",
    "__nf_conntrack_confirm",
    "nf_conntrack_hash_check_insert",
    "nf_ct_delete",
    "nf_ct_destroy",
    "destroy_conntrack",
];

/// Structs of which only some named members are kept.
const PRUNED: [(&str, &[&str]); 2] = [("net", &["ns", "count"]), ("sk_buff", &["len", "_nfct"])];

/// How often a repeated type is kept.
const COPIES: usize = 2;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(vmlinux)) = (args.next(), args.next()) else {
        bail!("usage: btf_fixture NAME VMLINUX [NF_CONNTRACK]");
    };
    let vmlinux = Btf::parse(read(&vmlinux)?)?;
    let module = args.next().map(|path| anyhow::Ok(Btf::parse_split(read(&path)?, &vmlinux)?)).transpose()?;
    let btf = module.as_ref().unwrap_or(&vmlinux);

    let mut fixture = Fixture::new(btf, &vmlinux);
    roots(&vmlinux).chain(module.iter().flat_map(roots)).try_for_each(|id| fixture.keep(id))?;
    let (image, split) = fixture.encode()?;
    write(&name, "vmlinux", &image)?;
    module.map_or(Ok(()), |_| write(&name, "nf_conntrack", &split))
}

fn read(path: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {path}"))
}

fn write(name: &str, part: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernel/fixtures");
    let path = folder.join(format!("{name}.{part}.btf"));
    std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn roots(btf: &Btf) -> impl Iterator<Item = TypeId> {
    let mut seen = BTreeMap::<&[u8], usize>::new();
    btf.own_ids().filter(move |&id| {
        let Some(ty) = btf.type_by_id(id) else { return false };
        let wanted = matches!(ty.kind, Kind::Struct | Kind::Enum | Kind::Enum64 | Kind::Function);
        let root = ROOTS.iter().find(|root| wanted && btf.string(ty.name) == Some(root.as_bytes()));
        root.is_some_and(|root| {
            let count = seen.entry(root.as_bytes()).or_default();
            *count += 1;
            *count <= COPIES
        })
    })
}

struct Fixture<'a> {
    btf: &'a Btf,
    vmlinux: &'a Btf,
    kept: BTreeSet<TypeId>,
}

impl<'a> Fixture<'a> {
    const fn new(btf: &'a Btf, vmlinux: &'a Btf) -> Self {
        Self { btf, vmlinux, kept: BTreeSet::new() }
    }

    /// Keeps a type and what it contains. Pointers are kept, what they point to is not.
    fn keep(&mut self, id: TypeId) -> anyhow::Result<()> {
        if id == TypeId::VOID || !self.kept.insert(id) {
            return Ok(());
        }
        let ty = self.ty(id)?;
        let inner: Vec<TypeId> = match ty.kind {
            Kind::Struct | Kind::Union => {
                self.members(&ty).into_iter().map(|[_, ty, _]| TypeId(ty)).collect()
            }
            Kind::Array => ty.data().take(2).map(TypeId).collect(),
            Kind::Prototype => ty.params().map(|(_, ty)| ty).chain([ty.target()]).collect(),
            Kind::Function => vec![ty.target()],
            kind if kind.is_transparent() => vec![ty.target()],
            _ => Vec::new(),
        };
        inner.into_iter().try_for_each(|id| self.keep(id))
    }

    fn ty(&self, id: TypeId) -> anyhow::Result<Type<'a>> {
        self.btf.type_by_id(id).with_context(|| format!("no type {}", id.0))
    }

    /// The members that are kept, as the words of their records.
    fn members(&self, ty: &Type<'_>) -> Vec<[u32; 3]> {
        let is = |offset, name: &str| self.btf.string(offset) == Some(name.as_bytes());
        let pruned = PRUNED.iter().find(|(name, _)| is(ty.name, name));
        let words: Vec<u32> = ty.data().collect();
        let members = words.as_chunks::<3>().0.iter().copied();
        let kept = |&[name, ..]: &[u32; 3]| {
            name == 0 || pruned.is_none_or(|(_, members)| members.iter().any(|member| is(name, member)))
        };
        members.filter(kept).collect()
    }

    fn encode(&self) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
        let ids = self.kept.iter().zip(1..).map(|(&old, new)| (old, new)).collect();
        let mut encoder = Encoder { fixture: self, ids, strings: Strings::new(self) };
        let (mut image, mut split) = (Vec::new(), Vec::new());
        // Strings of the module are numbered after all of the image's, so these must be complete first.
        for _ in 0..2 {
            (image, split) = (Vec::new(), Vec::new());
            for &id in &self.kept {
                let types = if self.vmlinux.is_own(id) { &mut image } else { &mut split };
                encoder.record(id, types)?;
            }
        }
        let Strings { image: image_strings, split: split_strings, .. } = encoder.strings;
        Ok((file(&image, &image_strings), file(&split, &split_strings)))
    }
}

struct Encoder<'a> {
    fixture: &'a Fixture<'a>,
    ids: BTreeMap<TypeId, u32>,
    strings: Strings<'a>,
}

impl Encoder<'_> {
    fn record(&mut self, id: TypeId, out: &mut Vec<u32>) -> anyhow::Result<()> {
        let ty = self.fixture.ty(id)?;
        let data = self.data(&ty)?;
        let items = if matches!(ty.kind, Kind::Struct | Kind::Union) { data.len() / 3 } else { ty.len };
        let refers =
            matches!(ty.kind, Kind::Pointer | Kind::Function | Kind::Prototype) || ty.kind.is_transparent();
        let size_or_type = if refers { self.id(ty.size_or_type) } else { ty.size_or_type };
        let info = u32::from(ty.flag) << 31 | (ty.kind as u32) << 24 | u32::try_from(items)?;
        out.extend([self.strings.add(ty.name)?, info, size_or_type]);
        out.extend(data);
        Ok(())
    }

    fn data(&mut self, ty: &Type<'_>) -> anyhow::Result<Vec<u32>> {
        let words: Vec<u32> = ty.data().collect();
        Ok(match ty.kind {
            Kind::Struct | Kind::Union => {
                let mut out = Vec::new();
                for [name, ty, offset] in self.fixture.members(ty) {
                    out.extend([self.strings.add(name)?, self.id(ty), offset]);
                }
                out
            }
            Kind::Prototype => self.named(&words, 2, true)?,
            Kind::Enum => self.named(&words, 2, false)?,
            Kind::Enum64 => self.named(&words, 3, false)?,
            Kind::Array => {
                words.iter().enumerate().map(|(i, &w)| if i < 2 { self.id(w) } else { w }).collect()
            }
            _ => words,
        })
    }

    /// Items of `len` words that begin with a name; the second word is a type or a value.
    fn named(&mut self, words: &[u32], len: usize, typed: bool) -> anyhow::Result<Vec<u32>> {
        let mut out = Vec::new();
        for (i, &word) in words.iter().enumerate() {
            out.push(match i % len {
                0 => self.strings.add(word)?,
                _ if typed => self.id(word),
                _ => word,
            });
        }
        Ok(out)
    }

    /// The new id; `void` for what a pointer alone leads to.
    fn id(&self, old: u32) -> u32 {
        self.ids.get(&TypeId(old)).copied().unwrap_or_default()
    }
}

/// The strings in use, under their new offsets.
struct Strings<'a> {
    fixture: &'a Fixture<'a>,
    new: BTreeMap<u32, (bool, usize)>,
    image: Vec<u8>,
    split: Vec<u8>,
}

impl<'a> Strings<'a> {
    fn new(fixture: &'a Fixture<'a>) -> Self {
        Self { fixture, new: BTreeMap::new(), image: vec![0], split: vec![0] }
    }

    fn add(&mut self, old: u32) -> anyhow::Result<u32> {
        if old == 0 {
            return Ok(0);
        }
        let (in_image, at) = match self.new.get(&old) {
            Some(&known) => known,
            None => self.copy(old)?,
        };
        Ok(u32::try_from(if in_image { at } else { self.image.len() + at })?)
    }

    fn copy(&mut self, old: u32) -> anyhow::Result<(bool, usize)> {
        let in_image = self.fixture.vmlinux.string(old).is_some();
        let string = self.fixture.btf.string(old).with_context(|| format!("no string at {old}"))?;
        let out = if in_image { &mut self.image } else { &mut self.split };
        let at = out.len();
        out.extend(string);
        out.push(0);
        self.new.insert(old, (in_image, at));
        Ok((in_image, at))
    }
}

fn file(types: &[u32], strings: &[u8]) -> Vec<u8> {
    let types_len = types.len() as u32 * 4;
    let header = [0x1_eb9f, 24, 0, types_len, types_len, strings.len() as u32];
    let words = header.iter().chain(types).flat_map(|word| word.to_ne_bytes());
    words.chain(strings.iter().copied()).collect()
}
