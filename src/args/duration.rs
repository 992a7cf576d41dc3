//! Durations as Go writes them.

use std::time::Duration;

/// Reads a duration in Go's syntax: numbers with units, such as `50ms`, `1m30s` or `1.5h`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("expected a duration such as 50ms, 2s or 1m30s, found {text:?}");
    let mut rest = text;
    let mut seconds = 0.0;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(invalid()),
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

/// The same, and refuses a duration of no length.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    parse(text).and_then(|duration| {
        if duration.is_zero() { Err(format!("expected more than 0, found {text:?}")) } else { Ok(duration) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, want) in [
            ("50ms", Some(50_000)),
            ("2s", Some(2_000_000)),
            ("1m30s", Some(90_000_000)),
            ("1.5h", Some(5_400_000_000)),
            ("100us", Some(100)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1x", None),
            ("1..5s", None),
            ("99999999999999999999h", None),
        ] {
            let micros = parse(text).ok().map(|duration| duration.as_micros());
            assert_eq!(micros, want, "{text:?}");
        }
    }
}
