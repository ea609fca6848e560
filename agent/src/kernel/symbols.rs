//! Which of conntrack's functions the running kernel has, under which names, and whose they are.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};

/// The kernel's symbol table. Addresses in it are zero without CAP_SYSLOG; the names are always there.
pub const KALLSYMS: &str = "/proc/kallsyms";

/// A function of conntrack that a program may be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Adds a packet to an entry's counters (since Linux 5.8).
    AcctAdd,
    /// Refreshes an entry's timeout and counts the packet.
    RefreshAcct,
    /// Puts the entry of a flow's first packet into the table.
    Confirm,
    /// Puts an entry made through netlink into the table.
    HashCheckInsert,
    /// Takes an entry out of the table.
    Delete,
    /// Frees an entry after its last reference is gone.
    Destroy,
    /// What [`Hook::Destroy`] was called before Linux 5.17.
    DestroyConntrack,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AcctAdd,
        Self::RefreshAcct,
        Self::Confirm,
        Self::HashCheckInsert,
        Self::Delete,
        Self::Destroy,
        Self::DestroyConntrack,
    ];

    /// The function's name in the kernel's source.
    #[must_use]
    pub const fn function(self) -> &'static str {
        match self {
            Self::AcctAdd => "nf_ct_acct_add",
            Self::RefreshAcct => "__nf_ct_refresh_acct",
            Self::Confirm => "__nf_conntrack_confirm",
            Self::HashCheckInsert => "nf_conntrack_hash_check_insert",
            Self::Delete => "nf_ct_delete",
            Self::Destroy => "nf_ct_destroy",
            Self::DestroyConntrack => "destroy_conntrack",
        }
    }

    fn of_function(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.function().as_bytes() == name)
    }
}

/// A function as the symbol table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The name, with whatever suffix the compiler gave it.
    pub name: String,
    /// The module it belongs to; `None` when it is built in.
    pub module: Option<String>,
}

/// All symbols that the compiler made of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// The one under the function's own name, which other files call.
    pub exact: Option<Symbol>,
    /// Parts and clones: `nf_ct_delete.part.0`, `….isra.0`, `….constprop.0`. Calls may go to them directly, so a
    /// hook on the exact name alone may not see all.
    pub variants: Vec<Symbol>,
}

/// Where conntrack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conntrack {
    /// Part of the kernel image.
    BuiltIn,
    /// A loaded module.
    Module,
    /// Not loaded.
    Absent,
}

/// Conntrack's functions in the running kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    functions: BTreeMap<Hook, Function>,
}

impl Symbols {
    /// Reads the running kernel's symbol table, in one pass.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn read() -> io::Result<Self> {
        Self::parse(BufReader::with_capacity(64 << 10, std::fs::File::open(KALLSYMS)?))
    }

    /// Reads a symbol table. Lines that are no symbol are skipped.
    ///
    /// # Errors
    /// When reading fails.
    pub fn parse(mut table: impl BufRead) -> io::Result<Self> {
        let mut symbols = Self::default();
        let mut line = Vec::with_capacity(256);
        while table.read_until(b'\n', &mut line)? > 0 {
            if let Some((hook, symbol)) = parse_line(&line) {
                symbols.add(hook, symbol);
            }
            line.clear();
        }
        Ok(symbols)
    }

    /// What the kernel has of a function; empty when it has nothing.
    #[must_use]
    pub fn function(&self, hook: Hook) -> Function {
        self.functions.get(&hook).cloned().unwrap_or_default()
    }

    /// Whether conntrack is built in, loaded, or not there.
    #[must_use]
    pub fn conntrack(&self) -> Conntrack {
        let confirm = self.functions.get(&Hook::Confirm).and_then(|function| function.exact.as_ref());
        match confirm {
            None => Conntrack::Absent,
            Some(Symbol { module: None, .. }) => Conntrack::BuiltIn,
            Some(_) => Conntrack::Module,
        }
    }

    fn add(&mut self, hook: Hook, symbol: Symbol) {
        let function = self.functions.entry(hook).or_default();
        if symbol.name == hook.function() {
            function.exact.get_or_insert(symbol);
        } else {
            function.variants.push(symbol);
        }
    }
}

/// `ADDRESS TYPE NAME` and, for symbols of modules, `\t[MODULE]`.
fn parse_line(line: &[u8]) -> Option<(Hook, Symbol)> {
    let mut fields = line.trim_ascii_end().splitn(3, |&byte| byte == b' ');
    let (_address, kind, rest) = (fields.next()?, fields.next()?, fields.next()?);
    // Only text can be hooked: t and T, or w and W where it is weak.
    if !matches!(kind, b"t" | b"T" | b"w" | b"W") {
        return None;
    }
    let (name, module) = match rest.iter().position(|&byte| byte == b'\t') {
        Some(tab) => (rest.get(..tab)?, rest.get(tab..)?.trim_ascii()),
        None => (rest, &[][..]),
    };
    let mut parts = name.split(|&byte| byte == b'.');
    let hook = Hook::of_function(parts.next()?)?;
    // The unlikely part of a function (`….cold`) is jumped to, never called: no hook misses it.
    if parts.any(|part| part == b"cold") {
        return None;
    }
    let module = module.strip_prefix(b"[").and_then(|module| module.strip_suffix(b"]"));
    let symbol = Symbol {
        name: String::from_utf8_lossy(name).into_owned(),
        module: module.map(|module| String::from_utf8_lossy(module).into_owned()),
    };
    Some((hook, symbol))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODULE_6_12: &str = "\
ffffffff81000000 T _stext
ffffffffc0a01230 t nf_ct_acct_add\t[nf_conntrack]
ffffffffc0a01220 t __pfx_nf_ct_acct_add\t[nf_conntrack]
ffffffffc0a02000 r __ksymtab_nf_ct_delete\t[nf_conntrack]
ffffffffc0a03000 t __nf_ct_refresh_acct\t[nf_conntrack]
ffffffffc0a04000 t __nf_conntrack_confirm\t[nf_conntrack]
ffffffffc0a05000 t nf_conntrack_hash_check_insert\t[nf_conntrack]
ffffffffc0a06000 t nf_ct_delete\t[nf_conntrack]
ffffffffc0a07000 t nf_ct_destroy\t[nf_conntrack]
";

    fn parse(table: &str) -> Symbols {
        Symbols::parse(table.as_bytes()).unwrap()
    }

    /// Whether the kernel has it under its own name, and how many variants of it.
    fn found(symbols: &Symbols, hook: Hook) -> (bool, usize) {
        let function = symbols.function(hook);
        (function.exact.is_some(), function.variants.len())
    }

    #[test]
    fn functions_of_a_loaded_module_are_found() {
        let symbols = parse(MODULE_6_12);
        assert_eq!(symbols.conntrack(), Conntrack::Module);
        let acct_add = symbols.function(Hook::AcctAdd);
        let module = Some("nf_conntrack".to_owned());
        assert_eq!(acct_add.exact, Some(Symbol { name: "nf_ct_acct_add".to_owned(), module }));
        assert_eq!(found(&symbols, Hook::Delete), (true, 0), "an entry of the export table is no function");
        assert_eq!(found(&symbols, Hook::DestroyConntrack), (false, 0));
    }

    #[test]
    fn a_function_that_the_compiler_split_has_variants() {
        let symbols = parse(
            "0000000000000000 t nf_ct_delete.part.0\t[nf_conntrack]\n\
             0000000000000000 t nf_ct_delete\t[nf_conntrack]\n\
             0000000000000000 t destroy_conntrack\t[nf_conntrack]\n\
             0000000000000000 t nf_ct_destroy.isra.0\t[nf_conntrack]\n",
        );
        let delete = symbols.function(Hook::Delete);
        assert_eq!(
            delete.variants.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
            ["nf_ct_delete.part.0"]
        );
        assert_eq!(found(&symbols, Hook::DestroyConntrack), (true, 0));
        assert_eq!(found(&symbols, Hook::Destroy), (false, 1), "a clone alone does not make the function");
    }

    #[test]
    fn the_unlikely_part_of_a_function_is_no_variant_of_it() {
        let symbols = parse(
            "ffffffff81a00000 T nf_ct_delete\nffffffff81b00000 t nf_ct_delete.cold\n\
             ffffffff81b00010 t nf_ct_delete.part.0.cold\n",
        );
        assert_eq!(found(&symbols, Hook::Delete), (true, 0));
    }

    #[test]
    fn functions_without_a_module_are_built_in() {
        let symbols = parse("ffffffff81a00000 T __nf_conntrack_confirm\nffffffff81a00100 T nf_ct_destroy\n");
        assert_eq!(symbols.conntrack(), Conntrack::BuiltIn);
    }

    #[test]
    fn an_empty_or_foreign_table_means_that_conntrack_is_absent() {
        for table in ["", "\n\n", "ffffffff81000000 T _stext\n", "nonsense"] {
            let symbols = parse(table);
            assert_eq!(symbols.conntrack(), Conntrack::Absent, "{table:?}");
            assert!(
                Hook::ALL.into_iter().all(|hook| symbols.function(hook) == Function::default()),
                "{table:?}"
            );
        }
    }

    #[test]
    fn data_of_the_same_name_is_not_a_function() {
        let symbols = parse("ffffffff81a00000 d nf_ct_destroy\n");
        assert_eq!(found(&symbols, Hook::Destroy), (false, 0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            Symbols::parse(bytes.as_slice()).unwrap();
        }
    }
}
