//! The identity of a flow: the same from every source and over restarts, different for the next flow of a tuple.
//!
//! `flow_id` = XXH3-128 (seed 0, no secret) over these 68 bytes; integers are little-endian, addresses are in
//! network byte order, IPv4 in the first 4 of 16 bytes with the rest zero:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 16 | boot id (`/proc/sys/kernel/random/boot_id`), its 32 hex digits in the order they are printed |
//! | 16 | 4 | inode of the network namespace |
//! | 20 | 2 | conntrack zone |
//! | 22 | 1 | address family: 4 or 6 |
//! | 23 | 1 | IP protocol number |
//! | 24 | 16 | source address of the original tuple |
//! | 40 | 16 | destination address of the original tuple |
//! | 56 | 2 | source port, ICMP identifier or GRE key |
//! | 58 | 2 | destination port, GRE key or ICMP `type << 8 \| code` |
//! | 60 | 8 | start, `CLOCK_REALTIME` nanoseconds; for a weak id the first sight, `CLOCK_BOOTTIME` nanoseconds |

use crate::model::{FlowId, Tuple};

/// Computes the identity. `start_ns` is the kernel's start stamp or, for a weak id, the first sight in boot time.
#[must_use]
pub fn flow_id(boot_id: &[u8; 16], netns: u32, zone: u16, original: &Tuple, start_ns: u64) -> FlowId {
    let mut bytes = [0; 68];
    let mut rest = bytes.as_mut_slice();
    let mut put = |value: &[u8]| {
        if let Some((here, after)) = std::mem::take(&mut rest).split_at_mut_checked(value.len()) {
            here.copy_from_slice(value);
            rest = after;
        }
    };
    put(boot_id);
    put(&netns.to_le_bytes());
    put(&zone.to_le_bytes());
    put(&[original.family as u8, original.protocol]);
    put(&original.src);
    put(&original.dst);
    put(&original.src_port.to_le_bytes());
    put(&original.dst_port.to_le_bytes());
    put(&start_ns.to_le_bytes());
    FlowId(xxhash_rust::xxh3::xxh3_128(&bytes))
}

/// Reads a boot id as the kernel prints it. `None` if it is not 32 hex digits with or without dashes.
#[must_use]
pub fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    let is_id = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| u128::from_str_radix(&digits, 16).ok()).flatten().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;

    fn tuple() -> Tuple {
        let mut tuple =
            Tuple { family: Family::V4, protocol: 6, src_port: 40312, dst_port: 443, ..Tuple::default() };
        tuple.src[..4].copy_from_slice(&[10, 0, 0, 2]);
        tuple.dst[..4].copy_from_slice(&[198, 51, 100, 7]);
        tuple
    }

    #[test]
    fn the_layout_is_as_documented() {
        let mut bytes = vec![0xAB; 16];
        bytes.extend(4_026_531_840u32.to_le_bytes());
        bytes.extend([7, 0, 4, 6, 10, 0, 0, 2]);
        bytes.extend([0; 12]);
        bytes.extend([198, 51, 100, 7]);
        bytes.extend([0; 12]);
        bytes.extend([0x78, 0x9D, 0xBB, 0x01]);
        bytes.extend(42u64.to_le_bytes());
        let id = flow_id(&[0xAB; 16], 4_026_531_840, 7, &tuple(), 42);
        assert_eq!(id.0, xxhash_rust::xxh3::xxh3_128(&bytes));
        assert_eq!(id.to_string(), format!("{:032x}", id.0));
    }

    #[test]
    fn every_part_counts() {
        let base = flow_id(&[1; 16], 1, 1, &tuple(), 1);
        let other = Tuple { dst_port: 444, ..tuple() };
        let ids = [
            flow_id(&[2; 16], 1, 1, &tuple(), 1),
            flow_id(&[1; 16], 2, 1, &tuple(), 1),
            flow_id(&[1; 16], 1, 2, &tuple(), 1),
            flow_id(&[1; 16], 1, 1, &other, 1),
            flow_id(&[1; 16], 1, 1, &tuple(), 2),
        ];
        assert!(ids.iter().all(|id| *id != base));
    }

    #[test]
    fn a_boot_id_is_read_as_printed_and_nothing_else_is() {
        let id = parse_boot_id("0f3c0000-1111-2222-3333-44445555666f\n").unwrap();
        assert_eq!(id[..2], [0x0f, 0x3c]);
        assert_eq!(id[15], 0x6f);
        assert_eq!(parse_boot_id(""), None);
        assert_eq!(parse_boot_id("+f3c0000-1111-2222-3333-44445555666"), None);
        assert_eq!(parse_boot_id("0f3c0000-1111-2222-3333-44445555666g"), None);
    }
}
