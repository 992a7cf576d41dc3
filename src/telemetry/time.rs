//! Times as log lines carry them, in UTC. A pure function of the time since 1970.

use std::time::Duration;

use clap::ValueEnum;

/// How `ts` is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TimeEncoding {
    /// Seconds since 1970, with a fraction.
    Epoch,
    /// Milliseconds since 1970, with a fraction.
    Millis,
    /// Nanoseconds since 1970.
    #[value(alias = "nanos")]
    Nano,
    /// `2026-11-21T10:00:00.123Z`
    #[value(name = "iso8601")]
    Iso8601,
    /// `2026-11-21T10:00:00Z`
    #[value(name = "rfc3339")]
    Rfc3339,
    /// `2026-11-21T10:00:00.123456789Z`
    #[value(name = "rfc3339nano")]
    Rfc3339Nano,
    /// What applies unless said: `2026-11-21T10:00:00.123Z`
    #[default]
    #[value(skip)]
    Rfc3339Millis,
}

impl TimeEncoding {
    /// Whether a time is a number.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Epoch | Self::Millis | Self::Nano)
    }

    /// Writes a time.
    pub fn write(self, since_1970: Duration) -> String {
        let (seconds, nanos) = (since_1970.as_secs(), since_1970.subsec_nanos());
        match self {
            Self::Epoch => format!("{seconds}.{:06}", nanos / 1000),
            Self::Millis => format!("{}.{:03}", since_1970.as_millis(), nanos / 1000 % 1000),
            Self::Nano => since_1970.as_nanos().to_string(),
            Self::Rfc3339 => format!("{}Z", date_and_time(seconds)),
            Self::Rfc3339Nano => format!("{}.{nanos:09}Z", date_and_time(seconds)),
            Self::Iso8601 | Self::Rfc3339Millis => {
                format!("{}.{:03}Z", date_and_time(seconds), nanos / 1_000_000)
            }
        }
    }
}

fn date_and_time(seconds: u64) -> String {
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    // Whole cycles of 400 years first, so that no time takes long.
    year += days / 146_097 * 400;
    days %= 146_097;
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while days >= days_of_month(year, month) {
        days -= days_of_month(year, month);
        month += 1;
    }
    let (hour, minute, second, day) = (second / 3600, second / 60 % 60, second % 60, days + 1);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_every_encoding() {
        let at = Duration::new(1_795_255_200, 123_456_789);
        for (encoding, want) in [
            (TimeEncoding::Epoch, "1795255200.123456"),
            (TimeEncoding::Millis, "1795255200123.456"),
            (TimeEncoding::Nano, "1795255200123456789"),
            (TimeEncoding::Iso8601, "2026-11-21T10:00:00.123Z"),
            (TimeEncoding::Rfc3339, "2026-11-21T10:00:00Z"),
            (TimeEncoding::Rfc3339Nano, "2026-11-21T10:00:00.123456789Z"),
            (TimeEncoding::Rfc3339Millis, "2026-11-21T10:00:00.123Z"),
        ] {
            assert_eq!(encoding.write(at), want);
            assert_eq!(encoding.is_number(), want.parse::<f64>().is_ok(), "{want}");
        }
    }

    /// From `date -u -d @SECONDS`.
    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (13_574_563_200, "2400-02-29T00:00:00"),
        ] {
            assert_eq!(date_and_time(seconds), want);
        }
    }
}
