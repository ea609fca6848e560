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

/// The two hexadecimal digits of each byte.
#[expect(clippy::indexing_slicing, reason = "done by the compiler, which refuses what is out of bounds")]
static HEX: [[u8; 2]; 256] = {
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [hex_digit(byte as u8 >> 4), hex_digit(byte as u8 & 15)];
        byte += 1;
    }
    table
};

/// 16 bytes in hexadecimal, the first one first.
#[inline(always)]
pub(super) fn hex(value: u128) -> [[u8; 2]; 16] {
    value.to_be_bytes().map(|byte| HEX.get(usize::from(byte)).copied().unwrap_or_default())
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
            prop_assert_eq!(hex(bytes).as_flattened().to_vec(), format!("{bytes:032x}").into_bytes());
        }
    }
}
