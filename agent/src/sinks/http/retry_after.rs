//! How long a server wants to be left alone.

use std::time::{Duration, SystemTime};

/// Reads the header `Retry-After`: seconds, or a date, of which one that has passed means now. `None` for what is
/// neither. RFC 9110, 10.2.3.
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than 64 bits hold are as good as all of them.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const SOME_DAY: Duration = Duration::from_secs(784_111_777);

    #[test]
    fn seconds_and_all_three_forms_of_a_date_are_read() {
        let before = SystemTime::UNIX_EPOCH + SOME_DAY - Duration::from_secs(7);
        for (text, seconds) in [
            ("120", 120),
            (" 0 ", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 7),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 7),
            ("Sun Nov  6 08:49:37 1994", 7),
            ("Sat, 05 Nov 1994 08:49:37 GMT", 0),
            ("99999999999999999999999", u64::MAX),
        ] {
            assert_eq!(retry_after(text, before), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_neither_seconds_nor_a_date_is_nothing() {
        for text in ["", "-1", "1.5", "soon", "+3", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(retry_after(text, SystemTime::UNIX_EPOCH), None, "{text}");
        }
    }
}
