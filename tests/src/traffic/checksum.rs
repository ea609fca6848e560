//! Checksums of packets that are built by hand.

use std::net::IpAddr;

/// The Internet checksum (RFC 1071) of the bytes.
pub(super) fn internet(bytes: &[u8]) -> u16 {
    fold(sum(bytes))
}

/// The same with the pseudo-header of UDP-Lite (RFC 3828, RFC 8200) in front; never 0, which means "none".
pub(super) fn with_pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, bytes: &[u8]) -> u16 {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    match fold(address(from) + address(to) + u64::from(protocol) + length + sum(bytes)) {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// CRC32c (RFC 9260, appendix A) as SCTP writes it.
pub(super) fn crc32c(bytes: &[u8]) -> [u8; 4] {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32, _: u32| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step));
    (!crc).to_le_bytes()
}

fn address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    }
}

fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        u64::from(u16::from_be_bytes([high, low]))
    };
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // The loop left 16 bits.
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_holds() {
        assert_eq!(internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn the_check_value_of_crc32c_holds() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283u32.to_le_bytes());
    }
}
