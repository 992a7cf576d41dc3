//! How much is logged: the levels of `-v`, and the words that `--zap-log-level` and `/debug/log-level` also take.

use tracing::level_filters::LevelFilter;

/// What is expected where a verbosity is.
pub const EXPECTED: &str = "an integer from 0, or one of error, panic, warn, info, debug, trace";

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbosity {
    /// As for `-v`; -1 is errors only.
    v: i8,
}

impl Verbosity {
    /// The level of `-v`; a negative one is errors only. That is what it means to zap, as the Go EPP writes no warnings.
    pub fn of_v(v: i64) -> Self {
        u64::try_from(v).map_or(Self { v: -1 }, Self::at_least_0)
    }

    fn at_least_0(v: u64) -> Self {
        Self { v: i8::try_from(v).unwrap_or(i8::MAX) }
    }

    /// Reads an integer, or a word in upper or lower case.
    pub fn parse(text: &str) -> Result<Self, String> {
        let v = match text.to_ascii_lowercase().as_str() {
            "error" | "panic" => -1,
            "warn" => 0,
            "info" => 2,
            "debug" => 4,
            "trace" => 5,
            _ => {
                let number: Result<u64, _> = text.parse();
                let invalid =
                    |_| format!("expected {EXPECTED}, found {}", crate::config::problem::shown(text));
                return number.map(Self::at_least_0).map_err(invalid);
            }
        };
        Ok(Self { v })
    }

    /// The number.
    pub fn v(self) -> i8 {
        self.v
    }

    /// The least severe level that is shown.
    pub fn filter(self) -> LevelFilter {
        match self.v {
            ..0 => LevelFilter::ERROR,
            0 => LevelFilter::WARN,
            1..=3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            5.. => LevelFilter::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_numbers_and_as_words() {
        for (text, want) in [
            ("0", Some(LevelFilter::WARN)),
            ("1", Some(LevelFilter::INFO)),
            ("3", Some(LevelFilter::INFO)),
            ("4", Some(LevelFilter::DEBUG)),
            ("5", Some(LevelFilter::TRACE)),
            ("1000", Some(LevelFilter::TRACE)),
            ("panic", Some(LevelFilter::ERROR)),
            ("error", Some(LevelFilter::ERROR)),
            ("warn", Some(LevelFilter::WARN)),
            ("info", Some(LevelFilter::INFO)),
            ("debug", Some(LevelFilter::DEBUG)),
            ("trace", Some(LevelFilter::TRACE)),
            ("-1", None),
            ("", None),
            ("Info", Some(LevelFilter::INFO)),
            ("PANIC", Some(LevelFilter::ERROR)),
            ("4 ", None),
        ] {
            assert_eq!(Verbosity::parse(text).ok().map(Verbosity::filter), want, "{text:?}");
        }
        for negative in [-1, -3, i64::MIN] {
            assert_eq!(Verbosity::of_v(negative).filter(), LevelFilter::ERROR, "{negative}");
        }
        assert_eq!(Verbosity::of_v(4).v(), 4);
    }
}
