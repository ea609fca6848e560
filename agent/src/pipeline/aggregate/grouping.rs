//! By what records are grouped.

use super::TagName;

/// Prefix length of IPv6 where only one is said: the least that a site gets for one network.
const DEFAULT_V6: u8 = 64;

/// By what records are grouped. Either the two ends by who opened, or by which is internal, or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grouping {
    /// The two ends.
    pub ends: Ends,
    /// The destination port.
    pub port: Option<PortBy>,
    /// The protocol.
    pub proto: bool,
    /// Which way the flow goes.
    pub direction: bool,
    /// The connection mark.
    pub mark: bool,
    /// The conntrack zone.
    pub zone: bool,
    /// The network namespace.
    pub netns: bool,
}

/// How the two ends of a flow are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ends {
    /// By who opened.
    Opened {
        /// The opener.
        src: Option<AddressBy>,
        /// Whom it opened to.
        dst: Option<AddressBy>,
    },
    /// By which is internal; the opener is local where both or none are.
    Internal {
        /// The internal one, behind any translation.
        local: Option<AddressBy>,
        /// The other.
        remote: Option<AddressBy>,
    },
}

impl Default for Ends {
    fn default() -> Self {
        Self::Opened { src: None, dst: None }
    }
}

/// How an address is grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressBy {
    /// By prefix; full length for single addresses.
    Prefix {
        /// Length for IPv4.
        v4: u8,
        /// Length for IPv6.
        v6: u8,
    },
    /// By the name of its network.
    Network,
}

/// How a port is grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortBy {
    /// Each by itself.
    Number,
    /// By the name of its service; ports that are no service's are `dynamic`, or stand by themselves.
    Service,
}

impl AddressBy {
    /// Single addresses.
    pub const ADDRESS: Self = Self::Prefix { v4: 32, v6: 128 };

    /// Reads `address`, `network`, `/24` or `/24,/56`.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "address" => return Ok(Self::ADDRESS),
            "network" => return Ok(Self::Network),
            _ => {}
        }
        let (v4, v6) = text.split_once(',').map_or((text, None), |(v4, v6)| (v4, Some(v6.trim())));
        let length = |text: &str, most| {
            let digits = text.strip_prefix('/')?;
            let is_plain = digits.chars().all(|c| c.is_ascii_digit());
            digits.parse::<u8>().ok().filter(|length| is_plain && *length <= most)
        };
        match (length(v4, 32), v6.map_or(Some(DEFAULT_V6), |v6| length(v6, 128))) {
            (Some(v4), Some(v6)) => Ok(Self::Prefix { v4, v6 }),
            _ => Err(format!(
                "{text:?} is none of \"address\", \"network\", a prefix length like \"/24\", or lengths for IPv4 and \
                 IPv6 like \"/24,/56\""
            )),
        }
    }
}

impl Grouping {
    /// What is grouped by when nothing is said: networks where there are names for them, else prefixes.
    #[must_use]
    pub const fn default_for(has_networks: bool) -> Self {
        let by = if has_networks { AddressBy::Network } else { AddressBy::Prefix { v4: 24, v6: DEFAULT_V6 } };
        Self {
            ends: Ends::Opened { src: Some(by), dst: Some(by) },
            port: Some(PortBy::Service),
            proto: true,
            direction: false,
            mark: false,
            zone: false,
            netns: false,
        }
    }

    /// The tags that its groups have, by ascending name.
    #[must_use]
    pub fn tags(&self) -> Vec<TagName> {
        let (first, second) = match self.ends {
            Ends::Opened { src, dst } => (src.map(|_| TagName::Src), dst.map(|_| TagName::Dst)),
            Ends::Internal { local, remote } => {
                (local.map(|_| TagName::Local), remote.map(|_| TagName::Remote))
            }
        };
        let flags = [
            (self.direction, TagName::Direction),
            (self.mark, TagName::Mark),
            (self.netns, TagName::Netns),
            (self.port.is_some(), TagName::Port),
            (self.proto, TagName::Proto),
            (self.zone, TagName::Zone),
        ];
        let mut tags: Vec<_> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, tag)| *tag).collect();
        tags.extend([first, second].into_iter().flatten());
        tags.sort_unstable();
        tags
    }

    /// A number that is the same in every process for the same grouping, and another for another one.
    pub(super) fn fingerprint(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(format!("{self:?}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_grouped_singly_by_prefix_or_by_network() {
        assert_eq!(AddressBy::parse("address"), Ok(AddressBy::ADDRESS));
        assert_eq!(AddressBy::parse("network"), Ok(AddressBy::Network));
        assert_eq!(AddressBy::parse("/24"), Ok(AddressBy::Prefix { v4: 24, v6: 64 }));
        assert_eq!(AddressBy::parse("/16, /48"), Ok(AddressBy::Prefix { v4: 16, v6: 48 }));
        for wrong in ["", "/", "/33", "24", "/24,", "/24,/129", "/24,56", "/+1", "net", "/24,/56,/1"] {
            assert!(AddressBy::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_tags_are_those_of_the_grouping_in_order() {
        let all =
            Grouping { direction: true, mark: true, zone: true, netns: true, ..Grouping::default_for(true) };
        let names: Vec<_> = all.tags().into_iter().map(TagName::name).collect();
        assert_eq!(names, ["direction", "dst", "mark", "netns", "port", "proto", "src", "zone"]);
        assert_eq!(Grouping::default().tags(), []);
    }
}
