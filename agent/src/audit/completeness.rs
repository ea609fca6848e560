//! Delivered ÷ counted, never looking more certain than it is.

use std::fmt;

use crate::model::Sum;

/// Which part of what the kernel counted was delivered or will be when it is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Completeness {
    /// It is known: 1.0 is all.
    Exact(f64),
    /// Something was lost whose amount nobody counted: at most this.
    AtMost(f64),
}

/// The completeness of each figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Of flows.
    pub flows: Completeness,
    /// Of IP packets.
    pub packets: Completeness,
    /// Of bytes.
    pub bytes: Completeness,
}

impl Completeness {
    fn of(lost: u64, counted: u64, is_known: bool) -> Self {
        let part = if lost == 0 { 1.0 } else { 1.0 - lost as f64 / counted.max(lost) as f64 };
        if is_known { Self::Exact(part) } else { Self::AtMost(part) }
    }

    /// The fraction, or the upper bound of it.
    #[must_use]
    pub const fn fraction(self) -> f64 {
        match self {
            Self::Exact(part) | Self::AtMost(part) => part,
        }
    }

    /// Whether nothing at all is missing, for certain.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self == Self::Exact(1.0)
    }
}

/// Nothing is missing of nothing.
impl Default for Figures {
    fn default() -> Self {
        Self::of(Sum::default(), Sum::default(), true)
    }
}

impl Figures {
    /// Of what was counted, `lost` being missing and, unless `is_known`, perhaps more.
    pub(super) fn of(lost: Sum, counted: Sum, is_known: bool) -> Self {
        Self {
            flows: Completeness::of(lost.flows, counted.flows, is_known),
            packets: Completeness::of(lost.packets, counted.packets, is_known),
            bytes: Completeness::of(lost.bytes, counted.bytes, is_known),
        }
    }

    /// Whether nothing at all is missing, for certain.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.flows.is_whole() && self.packets.is_whole() && self.bytes.is_whole()
    }
}

/// Percent with as many digits as it takes not to call 100 % what is not.
impl fmt::Display for Completeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * self.fraction();
        let digits = (0..12).find(|&digits| percent == 100.0 || rounds_below_100(percent, digits));
        let digits = digits.unwrap_or(12).max(if percent == 100.0 { 0 } else { 2 });
        match self {
            Self::Exact(_) => write!(f, "{percent:.digits$} %"),
            Self::AtMost(_) => write!(f, "unknown, at most {percent:.digits$} %"),
        }
    }
}

fn rounds_below_100(percent: f64, digits: usize) -> bool {
    !format!("{percent:.digits$}").starts_with("100")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_everything_is_never_printed_as_everything() {
        assert_eq!(Completeness::of(0, 0, true).to_string(), "100 %");
        assert_eq!(Completeness::of(1, 4, true).to_string(), "75.00 %");
        assert_eq!(Completeness::of(1, 10_000_000, true).to_string(), "99.99999 %");
        assert_eq!(Completeness::of(2, 10_000, false).to_string(), "unknown, at most 99.98 %");
        assert_eq!(Completeness::of(0, 10_000, false).to_string(), "unknown, at most 100 %");
        assert_eq!(Completeness::of(9, 9, true).to_string(), "0.00 %");
        assert_eq!(Completeness::of(9, 3, true).fraction(), 0.0, "never below nothing");
    }
}
