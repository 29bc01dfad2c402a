//! Numbers as people read them. What is not known is a dash.

use std::time::Duration;

/// What stands where nothing is known.
pub(super) const UNKNOWN: &str = "-";

/// The value as `show` writes it, or a dash.
pub(super) fn or_dash<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}

/// Hours, minutes and seconds; days before them from the first on.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24);
    let clock = format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days == 0 { clock } else { format!("{days}d {clock}") }
}

/// With the largest unit that leaves a whole part.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

/// A share from 0 to 1 as percent with `decimals`.
pub(super) fn percent(share: f64, decimals: usize) -> String {
    format!("{:.decimals$} %", share * 100.0)
}

/// A rate with one decimal, as long as that says something.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 99.95 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

/// Seconds as milliseconds.
pub(super) fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_shown_in_hours_minutes_and_seconds() {
        assert_eq!(duration(Duration::ZERO), "0:00:00");
        assert_eq!(duration(Duration::from_secs(3 * 3600 + 61)), "3:01:01");
        assert_eq!(duration(Duration::from_secs(86400 * 2 + 59)), "2d 0:00:59");
    }

    #[test]
    fn bytes_take_the_largest_unit_that_leaves_a_whole_part() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(97 * (1 << 20) + (1 << 18)), "97.2 MiB");
        assert_eq!(bytes(6 << 30), "6.0 GiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn shares_rates_and_times_have_their_units() {
        assert_eq!(percent(0.99985, 3), "99.985 %");
        assert_eq!(percent(0.5, 1), "50.0 %");
        assert_eq!(rate(0.04), "0.0");
        assert_eq!(rate(99.94), "99.9");
        assert_eq!(rate(1234.5), "1234");
        assert_eq!(milliseconds(0.0123), "12.3 ms");
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!(or_dash(None, bytes), "-");
        assert_eq!(or_dash(Some(3), bytes), "3 B");
    }
}
