//! Where functions and variables of the kernel are, from one pass over its symbol table.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

use super::symbols::KALLSYMS;

/// Where the name begins in a line: sixteen digits, a space, the kind, a space.
const NAME_AT: usize = 19;

/// Addresses of some symbols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: &'static str,
    address: u64,
    /// How many symbols have the name.
    count: u32,
}

impl Addresses {
    /// Looks for the names in the running kernel's table. That takes hundreds of milliseconds (at 1,000 million
    /// instructions per second: 350 on 5.10, 600 on 7.2), so ask only if it must be, and once for all.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn find(names: impl IntoIterator<Item = &'static str>) -> io::Result<Self> {
        Self::parse(names, BufReader::with_capacity(64 << 10, File::open(KALLSYMS)?))
    }

    /// The address of the only symbol of that name. `None` when there is none, there are several, or the kernel does
    /// not tell addresses (without CAP_SYSLOG they are 0).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        let entry = self.0.iter().find(|entry| entry.name == name)?;
        (entry.count == 1 && entry.address != 0).then_some(entry.address)
    }

    fn parse(names: impl IntoIterator<Item = &'static str>, mut table: impl BufRead) -> io::Result<Self> {
        let entry = |name| Entry { name, address: 0, count: 0 };
        let mut entries: Vec<Entry> = names.into_iter().map(entry).collect();
        let mut line = Vec::with_capacity(256);
        while table.read_until(b'\n', &mut line)? > 0 {
            note(&mut entries, &line);
            line.clear();
        }
        Ok(Self(entries))
    }
}

/// There are a hundred thousand lines, so the name is compared where it stands.
fn note(entries: &mut [Entry], line: &[u8]) {
    let Some(rest) = line.get(NAME_AT..) else { return };
    let is_name = |name: &str| {
        let after = rest.strip_prefix(name.as_bytes());
        after.is_some_and(|after| matches!(after.first(), None | Some(b'\n' | b'\t' | b' ')))
    };
    if let Some(entry) = entries.iter_mut().find(|entry| is_name(entry.name)) {
        entry.count += 1;
        entry.address = line.get(..16).and_then(hexadecimal).unwrap_or(0);
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
ffffffff81000000 T _text
ffffffff81000010 t twice
ffffffffc0a01000 t nf_ct_acct_add\t[nf_conntrack]
ffffffffc0a01100 t nf_ct_acct_add_more\t[nf_conntrack]
ffffffff81000020 t twice
0000000000000000 T hidden
short
ffffffffc0a03000 B nf_conntrack_hash\t[nf_conntrack]";

    fn find(name: &'static str) -> Option<u64> {
        Addresses::parse([name], TABLE.as_bytes()).unwrap().get(name)
    }

    #[test]
    fn a_symbol_is_found_by_its_whole_name() {
        assert_eq!(find("_text"), Some(0xffff_ffff_8100_0000));
        assert_eq!(find("nf_ct_acct_add"), Some(0xffff_ffff_c0a0_1000));
        assert_eq!(find("nf_conntrack_hash"), Some(0xffff_ffff_c0a0_3000));
        assert_eq!(find("nf_ct_acct"), None);
    }

    #[test]
    fn a_name_that_two_have_is_the_address_of_none() {
        assert_eq!(find("twice"), None);
    }

    #[test]
    fn an_address_that_the_kernel_hides_is_none() {
        assert_eq!(find("hidden"), None);
    }
}
