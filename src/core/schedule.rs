//! Schedules: intervals, cron lines and windows. The time is always an argument.

use croner::{Cron, parser::CronParser};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::time::Duration;

/// The schedule on which an image repository is scanned.
#[derive(Debug, Clone)]
pub enum Schedule {
    Every(Duration),
    /// At the times of a cron line.
    Cron(Box<CronLine>),
}

/// A cron line with the time zone it is read in.
#[derive(Debug, Clone)]
pub struct CronLine {
    cron: Cron,
    zone: TimeZone,
}

/// A span of time that opens at each time of a cron line.
#[derive(Debug, Clone)]
pub struct Window {
    opens: CronLine,
    duration: SignedDuration,
}

/// Text that is no duration, cron line or time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// No duration in Go's notation.
    #[error(
        "{0:?} is no duration; write hours, minutes and seconds as \"72h\", \"5m\" or \"1h30m\""
    )]
    Duration(String),
    /// No cron line.
    #[error(
        "{line:?} is no cron line: {why}; write minute, hour, day of month, month, day of week as \"0 9 * * 1-5\""
    )]
    Cron { line: String, why: String },
    /// No zone of the IANA time zone database.
    #[error(
        "{0:?} is no time zone; write a name of the IANA database as \"Europe/Berlin\", or \"UTC\""
    )]
    TimeZone(String),
}

impl Schedule {
    /// The next time after `last`. A cron line that never comes again gives none.
    pub fn next(&self, last: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Every(interval) => last.checked_add(*interval).ok(),
            Schedule::Cron(line) => line.next(last),
        }
    }
}

impl CronLine {
    /// Reads a five-field line (or a nickname such as `@daily`) in `zone`, UTC where none is named.
    pub fn new(line: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let cron = CronParser::new()
            .parse(line)
            .map_err(|error| ScheduleError::Cron {
                line: line.to_owned(),
                why: error.to_string().to_lowercase(),
            })?;
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => {
                TimeZone::get(name).map_err(|_| ScheduleError::TimeZone(name.to_owned()))?
            }
        };
        Ok(Self { cron, zone })
    }

    /// The first time after `last`.
    pub fn next(&self, last: Timestamp) -> Option<Timestamp> {
        self.cron
            .find_next_occurrence(&last.to_zoned(self.zone.clone()), false)
            .ok()
            .map(|time| time.timestamp())
    }

    fn latest(&self, now: Timestamp) -> Option<Timestamp> {
        self.cron
            .find_previous_occurrence(&now.to_zoned(self.zone.clone()), true)
            .ok()
            .map(|time| time.timestamp())
    }
}

impl Window {
    /// Opens at each time of `opens`, for `duration`.
    pub fn new(opens: CronLine, duration: Duration) -> Self {
        Self {
            opens,
            duration: SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX),
        }
    }

    /// Returns whether the window is open. The end of its duration is exclusive.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.opens
            .latest(now)
            .is_some_and(|opened| now.duration_since(opened) < self.duration)
    }
}

/// Checks that any window is open; no windows mean always. The error has the time of the next
/// opening, if there is one.
pub fn open(windows: &[Window], now: Timestamp) -> Result<(), Option<Timestamp>> {
    if windows.is_empty() || windows.iter().any(|window| window.is_open(now)) {
        return Ok(());
    }
    Err(windows
        .iter()
        .filter_map(|window| window.opens.next(now))
        .min())
}

/// Reads a duration in Go's notation: `72h`, `1h30m`, `1.5h`, `500ms`. Zero and negative ones are
/// refused.
pub fn duration(text: &str) -> Result<Duration, ScheduleError> {
    let bad = || ScheduleError::Duration(text.chars().take(60).collect());
    let mut rest = text;
    let mut nanoseconds = 0u128;
    while !rest.is_empty() {
        let number = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let unit = rest[number..].len()
            - rest[number..]
                .trim_start_matches(|c: char| c.is_alphabetic())
                .len();
        let scale: u128 = match &rest[number..number + unit] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return Err(bad()),
        };
        let (whole, fraction) = rest[..number]
            .split_once('.')
            .unwrap_or((&rest[..number], ""));
        if number == 0
            || number > 18
            || fraction.len() > 9
            || fraction.contains('.')
            || (whole.is_empty() && fraction.is_empty())
        {
            return Err(bad());
        }
        let value = |digits: &str| {
            if digits.is_empty() {
                Ok(0u128)
            } else {
                digits.parse().map_err(|_| bad())
            }
        };
        nanoseconds +=
            value(whole)? * scale + value(fraction)? * scale / 10u128.pow(fraction.len() as u32);
        rest = &rest[number + unit..];
    }
    match u64::try_from(nanoseconds) {
        Ok(nanoseconds) if nanoseconds > 0 => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err(bad()),
    }
}

/// A duration in Go's notation, to the second: `72h0m0s` is written `72h`.
pub fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let mut text = String::new();
    for (amount, unit) in [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ] {
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
        }
    }
    if text.is_empty() {
        format!("{}ms", duration.as_millis())
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn duration_parses_like_go() {
        for (text, seconds) in [
            ("72h", 259_200.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            ("500ms", 0.5),
            ("0.5s", 0.5),
        ] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for bad in [
            "",
            "5",
            "m",
            "-5m",
            "0s",
            "5d",
            "5 m",
            "1h30",
            "1..5h",
            "..h",
            "99999999999999999h",
            "h5",
            "5m\n",
            "١m",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(show(duration("1h30m").unwrap()), "1h30m");
        assert_eq!(show(duration("10ms").unwrap()), "10ms");
    }

    #[test]
    fn window_follows_zone_across_dst() {
        let window = |zone| {
            Window::new(
                CronLine::new("0 9 * * 1-5", Some(zone)).unwrap(),
                duration("8h").unwrap(),
            )
        };
        for (time, zone, is_open) in [
            ("2026-03-27T07:59:59Z", "Europe/Berlin", false), // Friday, winter time: opens at 08:00 UTC
            ("2026-03-27T08:00:00Z", "Europe/Berlin", true),
            ("2026-03-30T06:59:59Z", "Europe/Berlin", false), // Monday, summer time: opens at 07:00 UTC
            ("2026-03-30T07:00:00Z", "Europe/Berlin", true),
            ("2026-03-30T14:59:59Z", "Europe/Berlin", true),
            ("2026-03-30T15:00:00Z", "Europe/Berlin", false),
            ("2026-03-28T10:00:00Z", "UTC", false), // Saturday
        ] {
            assert_eq!(window(zone).is_open(at(time)), is_open, "{time}");
        }
        let closed = open(&[window("UTC")], at("2026-03-28T10:00:00Z"));
        assert_eq!(closed, Err(Some(at("2026-03-30T09:00:00Z"))));
        assert_eq!(open(&[], at("2026-03-28T10:00:00Z")), Ok(()));
    }

    #[test]
    fn schedule_bad_cron_or_zone_is_named() {
        assert!(matches!(
            CronLine::new("0 9 * *", None),
            Err(ScheduleError::Cron { .. })
        ));
        assert!(matches!(
            CronLine::new("61 9 * * *", None),
            Err(ScheduleError::Cron { .. })
        ));
        assert!(matches!(
            CronLine::new("0 9 * * *", Some("Mars/Base")),
            Err(ScheduleError::TimeZone(_))
        ));
        let never =
            CronLine::new("0 0 30 2 *", None).map(|line| line.next(at("2026-01-01T00:00:00Z")));
        assert!(matches!(never, Ok(None) | Err(_)));
    }
}
