//! What texts in manifests must look like; each check says what it expected.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A DNS subdomain, as objects and listeners are named.
pub fn name(text: &str) -> Result<(), String> {
    if (1..=253).contains(&text.len()) && text.split('.').all(is_label) {
        return Ok(());
    }
    Err("a name of lower case letters, digits, `-` and `.`, at most 253 characters".to_owned())
}

/// A namespace.
pub fn namespace(text: &str) -> Result<(), String> {
    if is_label(text) {
        Ok(())
    } else {
        Err("a namespace: lower case letters, digits and `-`, at most 63".to_owned())
    }
}

/// An API group; the core group is empty.
pub fn group(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { name(text).map_err(|_| "an API group".to_owned()) }
}

/// A kind.
pub fn kind(text: &str) -> Result<(), String> {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_kind = begins && text.len() <= 63 && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    if is_kind { Ok(()) } else { Err("a kind, such as `Service`".to_owned()) }
}

fn is_label(label: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A hostname that may begin with `*.`.
pub fn hostname(text: &str) -> Result<(), String> {
    host(text.strip_prefix("*.").unwrap_or(text))
        .map_err(|()| "a hostname in lower case, which may begin with `*.` and is no address".to_owned())
}

/// A hostname without a wildcard.
pub fn precise_hostname(text: &str) -> Result<(), String> {
    host(text).map_err(|()| "a hostname in lower case, without `*`, and no address".to_owned())
}

fn host(text: &str) -> Result<(), ()> {
    let is_address = text.parse::<IpAddr>().is_ok();
    if is_address || text.len() > 253 || !text.split('.').all(is_label) { Err(()) } else { Ok(()) }
}

/// An endpoint's hostname, which may end in a dot and name one label only.
pub fn endpoint_hostname(text: &str) -> Result<(), String> {
    precise_hostname(text.strip_suffix('.').unwrap_or(text))
}

/// An IPv4 or IPv6 address.
pub fn address(text: &str) -> Result<(), String> {
    text.parse::<IpAddr>().map(drop).map_err(|_| "an IPv4 or IPv6 address".to_owned())
}

/// Milliseconds of a duration of the Gateway API: `1m30s`, `500ms`.
pub fn milliseconds(text: &str) -> Option<u64> {
    let (mut rest, mut total, mut parts) = (text, 0u64, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let unit = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        if !(1..=5).contains(&digits) {
            return None;
        }
        (total, parts, rest) = (total + number.parse::<u64>().ok()? * unit, parts + 1, behind);
    }
    (1..=4).contains(&parts).then_some(total)
}

/// Seconds since 1970 of a time that [`timestamp`] takes.
pub fn seconds(text: &str) -> Option<i64> {
    let time: Option<Time> = serde_json::from_value(serde_json::Value::String(text.to_owned())).ok();
    time.map(|time| time.0.as_second())
}

/// A header's value: one line of text.
pub fn header_value(text: &str) -> Result<(), String> {
    if text.len() <= 4096 && !text.chars().any(|c| c.is_control() && c != '\t') {
        return Ok(());
    }
    Err("one line of text, at most 4096 bytes".to_owned())
}

/// What a path becomes; it may be empty.
pub fn path_value(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { path(text) }
}

/// A duration.
pub fn duration(text: &str) -> Result<(), String> {
    let expected = "a duration such as `90s`, `1m30s` or `500ms`, without sign, fraction or blanks";
    milliseconds(text).map(drop).ok_or_else(|| expected.to_owned())
}

/// The name of a header: an HTTP token.
pub fn header_name(text: &str) -> Result<(), String> {
    let is_token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if (1..=256).contains(&text.len()) && text.bytes().all(is_token) {
        return Ok(());
    }
    Err("the name of a header, at most 256 characters".to_owned())
}

/// Most bytes that a compiled expression may take.
const MAX_COMPILED: usize = 1 << 20;

/// A regular expression that RE2 takes.
pub fn regex(text: &str) -> Result<(), String> {
    let compiled = regex::RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
    compiled.map(drop).map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("a regular expression of RE2 ({why})")
    })
}

/// A path that is compared as a whole or by its beginning.
pub fn path(text: &str) -> Result<(), String> {
    let fault = |why: &str| Err(format!("a path that {why}"));
    if !text.starts_with('/') {
        return fault("begins with `/`");
    }
    if text.len() > 1024 {
        return fault("has at most 1024 characters");
    }
    for forbidden in ["//", "/./", "/../", "%2f", "%2F", "#"] {
        if text.contains(forbidden) {
            return fault(&format!("does not contain `{forbidden}`"));
        }
    }
    if text.ends_with("/..") || text.ends_with("/.") {
        return fault("does not end with `/.` or `/..`");
    }
    if !text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&c)) {
        return fault("has only characters of URLs, others as `%` and two digits");
    }
    Ok(())
}

/// Any text that is not empty.
pub fn anything(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("a text that is not empty".to_owned()) } else { Ok(()) }
}

/// A date and time.
pub fn timestamp(text: &str) -> Result<(), String> {
    let pattern = "dddd-dd-ddTdd:dd:dd";
    let fits = text.len() > pattern.len()
        && pattern.bytes().zip(text.bytes()).all(|(want, found)| match want {
            b'd' => found.is_ascii_digit(),
            want => found == want,
        });
    if fits { Ok(()) } else { Err("a time such as `2025-01-31T12:00:00Z`".to_owned()) }
}

#[cfg(test)]
mod tests;
