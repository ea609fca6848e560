//! Calendar time in UTC, from nanoseconds since the Unix epoch.

use super::digits::{nine, six, two};

/// Days from 0000-03-01 to 1970-01-01 in the Gregorian calendar.
const EPOCH_DAYS: i64 = 719_468;

/// Days in 400 years.
const ERA_DAYS: i64 = 146_097;

const HOUR_SECONDS: i64 = 3_600;

/// `YYYY-MM-DDThh:mm:ss.nnnnnnnnnZ`, RFC 3339.
#[must_use]
pub fn rfc3339(unix_ns: i64) -> [u8; 30] {
    let mut calendar = Calendar::new();
    let (seconds, eight, two) = calendar.rfc3339(unix_ns);
    let mut text = [0; 30];
    let pieces = seconds.iter().chain(&eight).chain(&two);
    text.iter_mut().zip(pieces).for_each(|(place, character)| *place = *character);
    text
}

/// A moment up to its second with the dot behind that, then the rest of it.
pub(crate) type Pieces<'a> = (&'a [u8; 20], [u8; 8], [u8; 2]);

/// Writes moments; those of the same hour as the one before take no calendar, those of the same second no clock.
pub(crate) struct Calendar {
    /// When the hour began, seconds since the Unix epoch.
    hour: i64,
    second: i64,
    /// `YYYY-MM-DDThh:mm:ss.`
    text: [u8; 20],
}

impl Calendar {
    /// Knows no day yet.
    pub(crate) const fn new() -> Self {
        Self { hour: i64::MIN, second: i64::MIN, text: *b"YYYY-MM-DDThh:mm:ss." }
    }

    /// The text of a moment in pieces.
    #[inline(always)]
    pub(crate) fn rfc3339(&mut self, unix_ns: i64) -> Pieces<'_> {
        let second = match u64::try_from(unix_ns) {
            Ok(unix_ns) => (unix_ns / 1_000_000_000).cast_signed(),
            Err(_) => unix_ns.div_euclid(1_000_000_000),
        };
        if second != self.second {
            self.turn_to(second);
        }
        let ns = unix_ns.wrapping_sub(second.wrapping_mul(1_000_000_000)) as u32;
        let (eight, two) = nine(ns, b'Z');
        (&self.text, eight, two)
    }

    fn turn_to(&mut self, second: i64) {
        self.second = second;
        let mut of_hour = second.wrapping_sub(self.hour);
        if !(0..HOUR_SECONDS).contains(&of_hour) {
            self.turn_to_hour(second);
            of_hour = second.wrapping_sub(self.hour);
        }
        let (minute, second) = (of_hour as u32 / 60, of_hour as u32 % 60);
        let ([m, i], [s, e]) = (two(minute), two(second));
        let [.., a, b, _, c, d, _] = &mut self.text;
        [*a, *b, *c, *d] = [m, i, s, e];
    }

    fn turn_to_hour(&mut self, second: i64) {
        let hours = second.div_euclid(HOUR_SECONDS);
        self.hour = hours.wrapping_mul(HOUR_SECONDS);
        let [date @ .., a, b, _, _, _, _, _, _, _] = &mut self.text;
        *date = self::date(hours.div_euclid(24));
        [*a, *b] = two(hours.rem_euclid(24) as u32);
    }
}

fn date(day: i64) -> [u8; 11] {
    let (year, month, of_month) = civil(day);
    let [_, _, y, e, a, r, _, _] = six(year as u32);
    let ([m, o], [d, t]) = (two(month as u32), two(of_month as u32));
    [y, e, a, r, b'-', m, o, b'-', d, t, b'T']
}

/// Year, month and day of a day counted from the epoch. Years run from March, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unix_ns: i64) -> String {
        String::from_utf8(rfc3339(unix_ns).to_vec()).unwrap()
    }

    #[test]
    fn known_moments_are_written_as_their_calendar_has_them() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(text(951_782_400_000_000_007), "2000-02-29T00:00:00.000000007Z");
        assert_eq!(text(1_709_251_199_500_000_000), "2024-02-29T23:59:59.500000000Z");
        assert_eq!(text(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(text(i64::MAX), "2262-04-11T23:47:16.854775807Z");
        assert_eq!(text(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    }

    #[test]
    fn days_follow_each_other_for_four_hundred_years() {
        let mut previous = civil(0);
        for day in 1..ERA_DAYS {
            let (year, month, of_month) = civil(day);
            let is_next = (year, month, of_month) == (previous.0, previous.1, previous.2 + 1);
            let is_month = (year, month, of_month) == (previous.0, previous.1 + 1, 1);
            let is_year = (year, month, of_month) == (previous.0 + 1, 1, 1) && previous.1 == 12;
            assert!(is_next || is_month || is_year, "{previous:?} {year}-{month}-{of_month}");
            previous = (year, month, of_month);
        }
        assert_eq!(previous, (2369, 12, 31));
    }
}
