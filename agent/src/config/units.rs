//! Durations (`1h30m`) and sizes (`16MiB`) as a person writes them.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Why a text is no duration or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Neither number nor unit where one is expected.
    #[error("{text:?} is not a {what}; write it like {example}")]
    Malformed {
        /// What was read.
        text: String,
        /// "duration" or "size".
        what: &'static str,
        /// A correct one.
        example: &'static str,
    },
    /// A number without its unit.
    #[error("{text:?} lacks a unit; write {text}{unit} or another of {units}")]
    NoUnit {
        /// What was read.
        text: String,
        /// The likeliest unit.
        unit: &'static str,
        /// All units.
        units: &'static str,
    },
    /// A unit that does not exist.
    #[error("unknown unit {unit:?} in {text:?}; use one of {units}")]
    UnknownUnit {
        /// What was read.
        text: String,
        /// The unit in it.
        unit: String,
        /// All units.
        units: &'static str,
    },
    /// The largest unit does not stand first, or one stands twice.
    #[error("the units in {text:?} are not in descending order; write it like 1h30m")]
    Order {
        /// What was read.
        text: String,
    },
    /// More than 64 bits hold.
    #[error("{text:?} is too large")]
    TooLarge {
        /// What was read.
        text: String,
    },
}

/// Reads a duration: one or more of `d`, `h`, `m`, `s`, `ms`, the largest first, as in `1h30m`.
///
/// # Errors
/// When it is not one; the message says how to write it.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let grammar =
        Grammar { what: "duration", example: "\"5s\" or \"1h30m\"", unit: "s", units: "d, h, m, s, ms" };
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (number, unit, after) = grammar.part(text, rest)?;
        let scale = grammar.scale(text, unit, &DURATION_UNITS)?;
        if scale >= smallest {
            return Err(UnitError::Order { text: text.into() });
        }
        smallest = scale;
        total = number
            .checked_mul(scale)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| UnitError::TooLarge { text: text.into() })?;
        rest = after;
    }
    if smallest == u64::MAX { Err(grammar.malformed(text)) } else { Ok(Duration::from_millis(total)) }
}

/// Reads a size in bytes: a whole number and one of `B`, `KiB`, `MiB`, `GiB`, `TiB`.
///
/// # Errors
/// When it is not one; the message says how to write it.
pub fn size(text: &str) -> Result<u64, UnitError> {
    let grammar = Grammar { what: "size", example: "\"16MiB\"", unit: "B", units: "B, KiB, MiB, GiB, TiB" };
    let (number, unit, after) = grammar.part(text, text)?;
    if !after.is_empty() {
        return Err(grammar.malformed(text));
    }
    let scale = grammar.scale(text, unit, &SIZE_UNITS)?;
    number.checked_mul(scale).ok_or_else(|| UnitError::TooLarge { text: text.into() })
}

struct Grammar {
    what: &'static str,
    example: &'static str,
    unit: &'static str,
    units: &'static str,
}

impl Grammar {
    /// Splits off one number with its unit.
    fn part<'a>(&self, text: &str, rest: &'a str) -> Result<(u64, &'a str, &'a str), UnitError> {
        let (digits, rest) = split_while(rest, |c| c.is_ascii_digit());
        let rest = rest.trim_start_matches(' ');
        let (unit, rest) = split_while(rest, char::is_alphabetic);
        if digits.is_empty() {
            return Err(self.malformed(text));
        }
        let number = digits.parse().map_err(|_| UnitError::TooLarge { text: text.into() })?;
        if unit.is_empty() && rest.is_empty() {
            return Err(UnitError::NoUnit { text: text.into(), unit: self.unit, units: self.units });
        }
        Ok((number, unit, rest))
    }

    fn scale(&self, text: &str, unit: &str, known: &[(&str, u64)]) -> Result<u64, UnitError> {
        if unit.is_empty() {
            return Err(self.malformed(text));
        }
        known
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, scale)| *scale)
            .ok_or_else(|| UnitError::UnknownUnit { text: text.into(), unit: unit.into(), units: self.units })
    }

    fn malformed(&self, text: &str) -> UnitError {
        UnitError::Malformed { text: text.into(), what: self.what, example: self.example }
    }
}

fn split_while(text: &str, accept: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !accept(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_in_every_unit_and_combined() {
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("2d1h"), Ok(Duration::from_secs(49 * 3_600)));
    }

    #[test]
    fn a_duration_without_unit_is_told_which_to_write() {
        let message = duration("5").unwrap_err().to_string();
        assert_eq!(message, "\"5\" lacks a unit; write 5s or another of d, h, m, s, ms");
    }

    #[test]
    fn wrong_durations_are_refused() {
        for wrong in
            ["", "s", "5x", "1m1h", "1s1s", "-5s", "1.5s", "5s ", "99999999999999999999s", "9999999999999d"]
        {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_read_in_every_unit() {
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert_eq!(size("512 KiB"), Ok(512 << 10));
        assert_eq!(size("1TiB"), Ok(1 << 40));
        assert_eq!(size("7B"), Ok(7));
    }

    #[test]
    fn decimal_sizes_are_refused_with_the_units_that_exist() {
        let message = size("16MB").unwrap_err().to_string();
        assert_eq!(message, "unknown unit \"MB\" in \"16MB\"; use one of B, KiB, MiB, GiB, TiB");
        for wrong in ["", "MiB", "16", "1MiB2KiB", "99999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,24}") {
            let _ = duration(&text);
            let _ = size(&text);
        }

        #[test]
        fn what_is_written_is_read_back(hours in 0u64..1000, minutes in 0u64..60, millis in 0u64..1000) {
            let read = duration(&format!("{hours}h{minutes}m{millis}ms"));
            prop_assert_eq!(read, Ok(Duration::from_millis(hours * 3_600_000 + minutes * 60_000 + millis)));
        }
    }
}
