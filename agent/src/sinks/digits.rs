//! Numbers as text, several digits at a time in one register, without branches by digit.

/// Every byte of a word the same.
const fn bytes(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The eight digits of a number below 10^8, the first one in the lowest byte.
#[inline]
pub(super) const fn eight(value: u32) -> u64 {
    let (high, low) = (value as u64 / 10_000, value as u64 % 10_000);
    // Two lanes of four digits, then four of two, then eight of one. A division by a constant is a multiplication
    // whose error stays below one as long as the lane holds no more than it should.
    let fours = high | low << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007F_0000_007F;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000F_000F_000F_000F;
    (tens | (twos - 10 * tens) << 8) + bytes(b'0')
}

/// The four digits of a number below 10^4, likewise.
#[inline]
const fn four(value: u32) -> u32 {
    let hundreds = (value * 10_486) >> 20;
    let twos = hundreds | (value - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000F_000F;
    (tens | (twos - 10 * tens) << 8) + 0x3030_3030
}

/// Appends a number in decimal, without zeros before it.
pub(super) fn decimal(value: u64, out: &mut Vec<u8>) {
    match value {
        0..10 => out.push(b'0' + value as u8),
        10..10_000 => {
            let digits = four(value as u32);
            let zeros = (digits ^ 0x3030_3030).trailing_zeros() / 8;
            front(&(digits >> (8 * zeros)).to_le_bytes(), 4 - zeros as usize, out);
        }
        10_000..100_000_000 => {
            let digits = eight(value as u32);
            let zeros = (digits ^ bytes(b'0')).trailing_zeros() / 8;
            front(&(digits >> (8 * zeros)).to_le_bytes(), 8 - zeros as usize, out);
        }
        // Mostly one or two digits more: without a call of its own for them.
        100_000_000..10_000_000_000 => {
            let (high, low) = ((value / 100_000_000) as u32, (value % 100_000_000) as u32);
            if high >= 10 {
                out.push(b'0' + (high / 10) as u8);
            }
            let [a, b, c, d, e, f, g, h] = eight(low).to_le_bytes();
            out.extend_from_slice(&[b'0' + (high % 10) as u8, a, b, c, d, e, f, g, h]);
        }
        _ => {
            decimal(value / 100_000_000, out);
            out.extend_from_slice(&eight((value % 100_000_000) as u32).to_le_bytes());
        }
    }
}

/// Appends the first characters of a text. To copy a fixed size and take some back is cheaper than to copy exactly.
#[inline(always)]
pub(super) fn front<const N: usize>(text: &[u8; N], length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    out.extend_from_slice(text);
    out.truncate(end);
}

/// 16 bytes in hexadecimal, the first one first.
pub(super) fn hex(value: u128) -> [u8; 32] {
    let mut text = [0; 32];
    let words = [value >> 96, value >> 64, value >> 32, value];
    for (eight, word) in text.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *eight = hex_word(word as u32);
    }
    text
}

/// The eight hexadecimal digits of a word.
#[inline]
const fn hex_word(value: u32) -> [u8; 8] {
    let wide = value as u64;
    let wide = (wide | wide << 16) & 0x0000_FFFF_0000_FFFF;
    let wide = (wide | wide << 8) & 0x00FF_00FF_00FF_00FF;
    let nibbles = (wide | wide << 4) & bytes(0x0F);
    let letters = (nibbles + bytes(6)) >> 4 & bytes(1);
    (nibbles + bytes(b'0') + letters * (b'a' - b'9' - 1) as u64).to_be_bytes()
}

/// The four hexadecimal digits of half a word.
#[inline]
pub(super) const fn hex_group(value: u16) -> [u8; 4] {
    let [.., a, b, c, d] = hex_word(value as u32);
    [a, b, c, d]
}

/// The digit of a number below 16.
pub(super) const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal_text(value: u64) -> String {
        let mut text = b"x".to_vec();
        decimal(value, &mut text);
        String::from_utf8(text).unwrap().split_off(1)
    }

    #[test]
    fn numbers_at_the_borders_are_written_in_full() {
        let borders =
            [0, 1, 9, 10, 99, 100, 9_999, 10_000, 99_999_999, 100_000_000, 999_999_999, 1_000_000_000];
        for value in borders.into_iter().chain([9_999_999_999, 10_000_000_000, u64::MAX]) {
            assert_eq!(decimal_text(value), value.to_string());
        }
    }

    #[test]
    fn every_lane_of_eight_digits_divides_exactly() {
        for four in 0..10_000 {
            assert_eq!(decimal_text(four.into()), four.to_string());
            assert_eq!(eight(four * 10_000 + four).to_le_bytes(), *format!("{four:04}{four:04}").as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_number_is_written_as_the_standard_library_does(value: u64, shift in 0u32..64, bytes: u128, half: u16) {
            let value = value >> shift;
            prop_assert_eq!(decimal_text(value), value.to_string());
            prop_assert_eq!(hex(bytes).to_vec(), format!("{bytes:032x}").into_bytes());
            prop_assert_eq!(hex_group(half).to_vec(), format!("{half:04x}").into_bytes());
        }
    }
}
