//! Sizes as Kubernetes writes them.

/// Reads a size in bytes: a number with a suffix such as `Ki`, `Mi`, `Gi` (powers of 1024) or `k`, `M`, `G` (powers of
/// 1000), or an exponent; a `B` at its end is ignored. Fractions of a byte are rounded up.
pub fn parse(text: &str) -> Result<usize, String> {
    let invalid = || format!("expected a size such as 10MiB, 25MB or 1048576, found {text:?}");
    let quantity = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let digits = quantity.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(quantity.len());
    let number: f64 = quantity[..digits].parse().map_err(|_| invalid())?;
    let factor = match &quantity[digits..] {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        exponent => exponent.strip_prefix(['e', 'E']).and_then(power_of_ten).ok_or_else(invalid)?,
    };
    let bytes = (number * factor).ceil();
    // Beyond 2^53 not every integer is a double, and no machine has that much.
    if !(1.0..=9e15).contains(&bytes) {
        return Err(format!("expected a size from 1 to 9PB, found {text:?}"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1 and 9e15")]
    Ok(bytes as usize)
}

fn power_of_ten(exponent: &str) -> Option<f64> {
    let exponent: i32 = exponent.parse().ok()?;
    (-30..=30).contains(&exponent).then(|| 10f64.powi(exponent))
}

/// Writes a size for people, exactly.
pub(super) fn shown(bytes: usize) -> String {
    match [(30, "GiB"), (20, "MiB"), (10, "KiB")].iter().find(|(bits, _)| bytes.is_multiple_of(1 << bits)) {
        Some((bits, unit)) if bytes > 0 => format!("{}{unit}", bytes >> bits),
        _ => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_writes_them() {
        for (text, want) in [
            ("10MiB", Some(10 << 20)),
            ("10Mi", Some(10 << 20)),
            ("25MB", Some(25_000_000)),
            ("25Mb", Some(25_000_000)),
            ("4194304", Some(4 << 20)),
            ("100b", Some(100)),
            ("1.5Gi", Some(3 << 29)),
            ("2k", Some(2000)),
            ("1e6", Some(1_000_000)),
            ("1E3B", Some(1000)),
            ("1500m", Some(2)),
            ("0", None),
            ("", None),
            ("B", None),
            ("MiB", None),
            ("-1Mi", None),
            ("10 MiB", None),
            ("10mib", None),
            ("1e", None),
            ("1e99", None),
            ("1.2.3", None),
            ("99999Pi", None),
        ] {
            assert_eq!(parse(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn sizes_out_of_range_are_told_the_range() {
        for (text, in_range) in
            [("0", false), ("99999999999999999999", false), ("0.0", false), ("9PB", true), ("1", true)]
        {
            let said = parse(text).err().unwrap_or_default();
            assert_eq!(said.contains("from 1 to 9PB"), !in_range, "{text}: {said}");
        }
        assert!(parse("x").unwrap_err().contains("10MiB"));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for (bytes, want) in [(64 << 20, "64MiB"), (1 << 30, "1GiB"), (1000, "1000"), (1536, "1536")] {
            assert_eq!(shown(bytes), want);
            assert_eq!(parse(want), Ok(bytes));
        }
    }
}
