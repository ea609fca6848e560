//! Numbers as text, several digits at a time, without branches by digit.

/// The three digits of each number below 1,000, the first one in the lowest byte; the highest byte is zero.
#[expect(clippy::indexing_slicing, reason = "done by the compiler, which refuses what is out of bounds")]
static THREES: [u32; 1_000] = {
    let mut table = [0; 1_000];
    let mut value = 0;
    while value < 1_000 {
        let digits = [value / 100, value / 10 % 10, value % 10];
        table[value] =
            u32::from_le_bytes([b'0' + digits[0] as u8, b'0' + digits[1] as u8, b'0' + digits[2] as u8, 0]);
        value += 1;
    }
    table
};

/// The same without zeros before the number; in the highest byte, how many digits it has.
#[expect(clippy::indexing_slicing, reason = "done by the compiler, which refuses what is out of bounds")]
static SHORT: [u32; 1_000] = {
    let mut table = THREES;
    let mut value = 0;
    while value < 1_000 {
        let zeros = (value < 100) as u32 + (value < 10) as u32;
        table[value] = table[value] >> (8 * zeros) | (3 - zeros) << 24;
        value += 1;
    }
    table
};

#[inline(always)]
fn three(value: u32) -> u32 {
    THREES.get(value as usize).copied().unwrap_or_default()
}

/// A number below 10^6 in decimal without zeros before it, and how many characters that takes; what follows them in
/// the text is nothing.
#[inline(always)]
pub(super) fn short(value: u32) -> ([u8; 8], usize) {
    let first = if value < 1_000 { value } else { value / 1_000 };
    let digits = SHORT.get(first as usize).copied().unwrap_or_default();
    let (length, digits) = (digits >> 24, u64::from(digits));
    if value < 1_000 {
        return (digits.to_le_bytes(), length as usize);
    }
    let rest = u64::from(three(value % 1_000));
    ((digits & 0xFF_FFFF | rest << (8 * length)).to_le_bytes(), length as usize + 3)
}

/// The six digits of a number below 10^6, and two characters that are nothing.
#[inline(always)]
pub(super) fn six(value: u32) -> [u8; 8] {
    (u64::from(three(value / 1_000)) | u64::from(three(value % 1_000)) << 24).to_le_bytes()
}

/// The nine digits of a number below 10^9 and one character behind them, in two pieces.
#[inline(always)]
pub(super) fn nine(value: u32, end: u8) -> ([u8; 8], [u8; 2]) {
    let (millions, rest) = (value / 1_000_000, value % 1_000_000);
    let [first, second, third] =
        [millions, rest / 1_000, rest % 1_000].map(|three| u64::from(self::three(three)));
    let eight = first | second << 24 | third << 48;
    (eight.to_le_bytes(), ((third >> 16) as u16 | u16::from(end) << 8).to_le_bytes())
}

/// The two digits of a number below 100, the first one in the lower byte.
pub(super) fn two(value: u32) -> [u8; 2] {
    let [_, tens, ones, _] = three(value).to_le_bytes();
    [tens, ones]
}

/// 16 bytes in hexadecimal, the first one first.
#[inline(always)]
pub(super) fn hex(value: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    let words = [value >> 96, value >> 64, value >> 32, value].map(|word| eight_hex(word as u32));
    for (eight, word) in digits.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *eight = word.to_le_bytes();
    }
    digits
}

/// The eight hexadecimal digits of a number, the first one in the lowest byte.
#[inline(always)]
const fn eight_hex(value: u32) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    /// What letters stand behind digits.
    const LETTERS: u64 = (b'a' - b'9' - 1) as u64 * ONES;
    // A byte for each half of a byte.
    let spread = value.swap_bytes() as u64;
    let spread = (spread | spread << 16) & 0x0000_FFFF_0000_FFFF;
    let spread = (spread | spread << 8) & 0x00FF_00FF_00FF_00FF;
    let spread = (spread >> 4 | spread << 8) & 0x0F0F_0F0F_0F0F_0F0F;
    // One in each byte that is a letter, then all bits.
    let letters = (spread + 6 * ONES) >> 4 & ONES;
    let letters = (letters << 8).wrapping_sub(letters);
    spread + b'0' as u64 * ONES + (letters & LETTERS)
}

/// The two hexadecimal digits of each byte, the first one in the lowest byte, and a colon behind them.
#[expect(clippy::indexing_slicing, reason = "done by the compiler, which refuses what is out of bounds")]
static HEX: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let [high, low] = [hex_digit(byte as u8 >> 4), hex_digit(byte as u8 & 15)];
        table[byte] = u32::from_le_bytes([high, low, b':', 0]);
        byte += 1;
    }
    table
};

/// The same without a zero before the byte; in the highest byte, how many digits it has.
#[expect(clippy::indexing_slicing, reason = "done by the compiler, which refuses what is out of bounds")]
static SHORT_HEX: [u32; 256] = {
    let mut table = HEX;
    let mut byte = 0;
    while byte < 256 {
        let zeros = (byte < 16) as u32;
        table[byte] = table[byte] >> (8 * zeros) | (2 - zeros) << 24;
        byte += 1;
    }
    table
};

/// The two hexadecimal digits of a byte with a colon behind them, and a character that is nothing.
#[inline(always)]
pub(super) fn two_hex(byte: u8) -> [u8; 4] {
    HEX.get(usize::from(byte)).copied().unwrap_or_default().to_le_bytes()
}

/// The same without a zero before the byte, and how many digits that takes.
#[inline(always)]
pub(super) fn short_hex(byte: u8) -> ([u8; 4], usize) {
    let digits = SHORT_HEX.get(usize::from(byte)).copied().unwrap_or_default();
    (digits.to_le_bytes(), (digits >> 24) as usize)
}

/// The digit of a number below 16.
pub(super) const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal_text(value: u32) -> String {
        let (text, length) = short(value);
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    #[test]
    fn numbers_at_the_borders_are_written_in_full() {
        for value in [0, 1, 9, 10, 99, 100, 999, 1_000, 9_999, 99_999, 100_000, 999_999] {
            assert_eq!(decimal_text(value), value.to_string());
        }
    }

    #[test]
    fn every_three_digits_are_written() {
        for value in 0..1_000 {
            assert_eq!(decimal_text(value), value.to_string());
            assert_eq!(six(value * 1_000 + value)[..6], *format!("{value:03}{value:03}").as_bytes());
            assert_eq!(two(value % 100), *format!("{:02}", value % 100).as_bytes());
        }
        assert_eq!(nine(12_345_678, b'Z'), (*b"01234567", *b"8Z"));
    }

    proptest! {
        #[test]
        fn any_number_is_written_as_the_standard_library_does(value in 0u32..1_000_000, shift in 0u32..20, bytes: u128) {
            let value = value >> shift;
            prop_assert_eq!(decimal_text(value), value.to_string());
            prop_assert_eq!(hex(bytes).to_vec(), format!("{bytes:032x}").into_bytes());
        }
    }

    #[test]
    fn every_byte_is_written_in_hexadecimal() {
        for byte in 0..=255 {
            assert_eq!(two_hex(byte)[..3], *format!("{byte:02x}:").as_bytes());
            let (text, length) = short_hex(byte);
            assert_eq!(text[..=length], *format!("{byte:x}:").as_bytes());
        }
    }
}
