//! What an nftables ruleset, as `nft list ruleset` prints it, says about conntrack.

use super::facts::Flowtable;

/// Words of rules that make the kernel track connections.
const NEEDS_CONNTRACK: [&str; 7] =
    ["ct", "conntrack", "masquerade", "snat", "dnat", "redirect", "MASQUERADE"];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    /// Whether any rule needs conntrack.
    pub(super) tracks: bool,
    /// All flowtables.
    pub(super) flowtables: Vec<Flowtable>,
}

/// Reads a ruleset. What it does not understand it passes over.
pub(super) fn parse(text: &str) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let mut table = (String::new(), String::new());
    let mut inside: Option<Flowtable> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != "comment").collect();
        match (words.as_slice(), &mut inside) {
            (["table", family, name, "{", ..], _) => table = ((*family).to_owned(), (*name).to_owned()),
            (["flowtable", name, "{"], _) => {
                let (family, table) = table.clone();
                inside = Some(Flowtable { family, table, name: (*name).to_owned(), counter: false });
            }
            (["counter"], Some(flowtable)) => flowtable.counter = true,
            (["}"], Some(_)) => ruleset.flowtables.extend(inside.take()),
            (["chain", ..], _) => {}
            (words, _) => ruleset.tracks |= words.iter().any(|word| NEEDS_CONNTRACK.contains(word)),
        }
    }
    ruleset
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUTER: &str = r#"
table inet filter {
	flowtable fast {
		hook ingress priority filter
		devices = { eth0, eth1 }
		counter
	}

	flowtable blind {
		hook ingress priority filter + 10
		devices = { eth2 }
		flags offload
	}

	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
	}
}
"#;

    #[test]
    fn flowtables_are_told_apart_by_their_counter() {
        let ruleset = parse(ROUTER);
        assert!(ruleset.tracks);
        let found: Vec<_> =
            ruleset.flowtables.iter().map(|it| (it.table.as_str(), it.name.as_str(), it.counter)).collect();
        assert_eq!(found, [("filter", "fast", true), ("filter", "blind", false)]);
    }

    #[test]
    fn rules_that_translate_addresses_need_conntrack_too() {
        for rule in ["masquerade", "ip saddr 10.0.0.0/8 snat to 192.0.2.1", "tcp dport 80 redirect to :8080"]
        {
            assert!(
                parse(&format!("table ip nat {{\n\tchain c {{\n\t\t{rule}\n\t}}\n}}\n")).tracks,
                "{rule}"
            );
        }
    }

    #[test]
    fn a_counter_in_a_rule_or_a_word_in_a_comment_is_nothing() {
        let ruleset = parse(
            "table ip t {\n\tchain c {\n\t\ttcp dport 22 counter packets 1 bytes 2 accept comment \"no ct here\"\n\t\tcounter\n\t}\n}\n",
        );
        assert_eq!(ruleset, Ruleset::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[a-z{}\n \t]{0,200}") {
            parse(&text);
        }
    }
}
