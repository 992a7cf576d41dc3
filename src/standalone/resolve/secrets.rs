//! What Secrets hold: [`certificate`] and [`text`].

use std::collections::BTreeMap;

use crate::config::Located;
use crate::standalone::manifest::workload::Secret;
use crate::standalone::topology::Certificate;
use crate::tls::material;

/// The certificate and the key that a Secret holds, and when the former ends; never quotes it.
pub(super) fn certificate(secret: &Secret) -> Result<(Certificate, Option<i64>), String> {
    if secret.kind != "kubernetes.io/tls" {
        return Err(format!("expected type `kubernetes.io/tls`, found `{}`", secret.kind));
    }
    let (chain, key) = (text(secret, "tls.crt")?, text(secret, "tls.key")?);
    material::check_pair(&chain, &key).map_err(|error| error.to_string())?;
    let ends = material::not_after(&chain);
    Ok((Certificate { chain, key }, ends))
}

/// What a Secret has under a key.
pub(super) fn text(secret: &Secret, key: &str) -> Result<String, String> {
    let find = |texts: &BTreeMap<String, Located<String>>| texts.get(key).map(|text| text.value.clone());
    if let Some(plain) = find(&secret.plain) {
        return Ok(plain);
    }
    let encoded = find(&secret.data).ok_or_else(|| format!("`{key}` is missing"))?;
    let decoded = base64(&encoded).and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| format!("expected text in base64 in `{key}`"))
}

/// Decodes what is under a Secret's `data`.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut n_bits) = (Vec::new(), 0u32, 0);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push(u8::try_from((held >> n_bits) & 0xff).ok()?);
            held &= (1 << n_bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        for (text, want) in [
            ("", Some(&b""[..])),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v\nYmFy", Some(b"foobar")),
            ("+/8=", Some(&[0xfb, 0xff])),
            ("a-b", None),
        ] {
            assert_eq!(base64(text).as_deref(), want, "{text:?}");
        }
    }
}
