//! A request as the gateway delivered it: headers, body, and the endpoints it allows; and the head of its answer. Pure;
//! knows no protocol.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use epp_framework::endpoint::FixedMeta;
use epp_framework::snapshot::Snapshot;

/// Longest body that is believed when it is only announced, in bytes.
const MAX_ANNOUNCED_BYTES: usize = 1 << 40;

/// A request when it is to be decided.
#[derive(Default)]
pub struct RawRequest {
    /// Headers, names in lower case, pseudo headers included.
    pub headers: Vec<(String, Bytes)>,
    /// Whether the headers never came.
    pub headless: bool,
    /// What came of the body; `None` when nothing did.
    pub body: Option<Bytes>,
    /// Whether there is more of the body than came: its mode hides it, or only let its beginning be seen.
    pub more: bool,
    /// Endpoints that the gateway allows.
    pub subset: Subset,
}

impl fmt::Debug for RawRequest {
    /// Names and lengths only: values belong to clients.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { headers, headless, body, more, subset } = self;
        let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        let n_bytes = body.as_ref().map(Bytes::len);
        write!(f, "RawRequest {names:?}, headless: {headless}, {n_bytes:?} bytes, more: {more}, {subset:?}")
    }
}

impl RawRequest {
    /// The first value of the header `name` (lower case), if it is UTF-8 and not empty.
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// The path without its query; empty if no header tells it.
    pub fn path(&self) -> &str {
        let path =
            [":path", "x-original-path", "x-forwarded-path"].into_iter().find_map(|name| self.header(name));
        path.map_or("", |path| path.split(['?', '#']).next().unwrap_or_default())
    }

    /// Whether the body is compressed, by its headers or by its first bytes.
    pub fn is_compressed(&self) -> bool {
        let encodings = ["content-encoding", "x-body-compressed"].map(|name| self.header(name));
        let starts = |magic: &[u8]| self.body.as_ref().is_some_and(|body| body.starts_with(magic));
        // No text begins like gzip or zstd.
        encodings.into_iter().flatten().any(is_compression)
            || starts(&[0x1F, 0x8B])
            || starts(&[0x28, 0xB5, 0x2F, 0xFD])
    }

    /// Length of what did not come of the body, in bytes, if the client announced the whole length.
    pub fn unseen_bytes(&self) -> Option<usize> {
        if !self.more {
            return Some(0);
        }
        let announced = self.header("content-length")?.parse::<usize>().ok()?;
        let seen = self.body.as_ref().map_or(0, Bytes::len);
        announced.checked_sub(seen).filter(|_| announced <= MAX_ANNOUNCED_BYTES)
    }
}

/// The first value of the header `name` (lower case) among `headers`, if it is UTF-8 and not empty.
pub fn value<'a>(headers: &'a [(String, Bytes)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(known, _)| known == name)?;
    std::str::from_utf8(value).ok().filter(|value| !value.is_empty())
}

/// The head of an answer, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// HTTP status; `None` if it did not come.
    pub status: Option<u16>,
    /// Media type as it was sent; empty without one.
    pub content_type: String,
    /// Whether the body is compressed.
    pub compressed: bool,
    /// Who served it, `ip:port`, if the gateway says so.
    pub served: Option<String>,
}

/// Whether a value of `content-encoding` says that the bytes are compressed. Some clients name a character set there,
/// which says nothing of the kind.
pub fn is_compression(encoding: &str) -> bool {
    const KNOWN: [&str; 9] =
        ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "lz4", "snappy"];
    let known = |one: &str| KNOWN.iter().any(|known| one.trim().eq_ignore_ascii_case(known));
    encoding.split(',').any(known)
}

/// An address; a port narrows it to that port.
type Entry = (IpAddr, Option<u16>);

/// Endpoints that may serve a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subset {
    /// All of them.
    #[default]
    Any,
    /// Those that one of these names; sorted, each once.
    Only(Vec<Entry>),
}

impl Subset {
    /// The endpoints that `entries` name, each `ip`, `ip:port`, `[v6]` or `[v6]:port`; others name nobody.
    pub fn only<'a>(entries: impl Iterator<Item = &'a str>) -> Self {
        Self::only_entries(entries.filter_map(parse_entry).collect())
    }

    fn only_entries(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        Self::Only(entries)
    }

    /// The same subset for one pool: an entry whose port no endpoint has means every endpoint at that address, since
    /// gateways that speak to v1.0.1 send ports that need not be the endpoints'.
    #[must_use]
    pub fn resolve(&self, pool: &Snapshot) -> Self {
        let Self::Only(entries) = self else { return Self::Any };
        // Both lists may be long, so neither is gone through for each entry of the other.
        let mut named = vec![false; entries.len()];
        for endpoint in &pool.endpoints {
            let entry = (endpoint.meta.address, Some(endpoint.meta.port));
            if let Ok(at) = entries.binary_search(&entry) {
                named[at] = true;
            }
        }
        let resolve = |(&(address, port), named): (&Entry, bool)| (address, port.filter(|_| named));
        Self::only_entries(entries.iter().zip(named).map(resolve).collect())
    }

    /// Whether `endpoint` is allowed, by a resolved subset.
    pub fn allows(&self, endpoint: &FixedMeta) -> bool {
        match self {
            Self::Any => true,
            Self::Only(entries) => [None, Some(endpoint.port)]
                .iter()
                .any(|&port| entries.binary_search(&(endpoint.address, port)).is_ok()),
        }
    }
}

/// Reads `ip`, `ip:port`, `[v6]` or `[v6]:port`.
fn parse_entry(text: &str) -> Option<Entry> {
    let text = text.trim();
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip(), Some(address.port())));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|address| (address, None))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use epp_framework::endpoint::{Endpoint, EndpointId, EndpointMeta};

    use super::*;

    fn endpoint(address: &str) -> Arc<Endpoint> {
        let socket: SocketAddr = address.parse().unwrap();
        let meta = EndpointMeta {
            name: "a".into(),
            namespace: "default".into(),
            address: socket.ip(),
            port: socket.port(),
            labels: BTreeMap::default(),
        };
        Arc::new(Endpoint::new(EndpointId { slot: 0, generation: 0 }, meta))
    }

    #[test]
    fn entries_name_addresses_with_or_without_port() {
        let hint = [
            "10.0.0.1",
            " 10.0.0.2:80",
            "10.0.0.4:8080",
            "[fd00::1]:80",
            "[fd00::2]",
            "fd00::3",
            "pod-a:80",
            "",
        ];
        let expected = [
            ("10.0.0.1:8000", true),
            ("10.0.0.2:80", true),
            ("10.0.0.2:81", false),
            ("10.0.0.3:80", false),
            // No endpoint has the port of the entry, so it means the address.
            ("10.0.0.4:8000", true),
            ("[fd00::1]:80", true),
            ("[fd00::1]:81", false),
            ("[fd00::2]:99", true),
            ("[fd00::3]:99", true),
        ];
        let pool = Snapshot { endpoints: expected.iter().map(|(address, _)| endpoint(address)).collect() };
        let subset = Subset::only(hint.into_iter()).resolve(&pool);
        for (endpoint, (address, allowed)) in pool.endpoints.iter().zip(expected) {
            assert_eq!(subset.allows(&endpoint.meta), allowed, "{address}");
        }
    }

    #[test]
    fn headers_are_found_by_name_unless_empty_or_not_text() {
        let headers = vec![
            ("a".to_owned(), Bytes::from_static(b"")),
            ("b".to_owned(), Bytes::from_static(b"\xff")),
            ("c".to_owned(), Bytes::from_static(b"1")),
            ("c".to_owned(), Bytes::from_static(b"2")),
        ];
        let request = RawRequest { headers, ..RawRequest::default() };
        assert_eq!((request.header("a"), request.header("b"), request.header("c")), (None, None, Some("1")));
    }

    #[test]
    fn compressed_bodies_are_told_by_their_headers_or_by_how_they_begin() {
        for (name, value, body, want) in [
            ("content-encoding", "gzip", &b"{}"[..], true),
            ("content-encoding", "identity, BR", b"{}", true),
            ("content-encoding", "identity", b"{}", false),
            ("content-encoding", "utf-8", b"{}", false),
            ("x-body-compressed", "zstd", b"{}", true),
            ("accept-encoding", "gzip", b"{}", false),
            ("a", "", b"\x1f\x8b\x08", true),
            ("a", "", b"\x28\xb5\x2f\xfd", true),
            ("a", "", b"", false),
        ] {
            let headers = vec![(name.to_owned(), Bytes::from(value))];
            let body = Some(Bytes::from(body));
            let request = RawRequest { headers, body, ..RawRequest::default() };
            assert_eq!(request.is_compressed(), want, "{request:?}");
        }
    }

    #[test]
    fn the_path_is_told_by_the_first_header_that_has_it() {
        let path = |headers: &[(&str, &'static str)]| {
            let headers =
                headers.iter().map(|&(name, value)| (name.to_owned(), Bytes::from(value))).collect();
            RawRequest { headers, ..RawRequest::default() }.path().to_owned()
        };
        assert_eq!(path(&[]), "");
        assert_eq!(path(&[(":path", "/v1/completions?a=b")]), "/v1/completions");
        let original = ("x-original-path", "/v1/chat/completions");
        assert_eq!(path(&[("x-forwarded-path", "/c"), original]), "/v1/chat/completions", "row 60");
        assert_eq!(path(&[(":path", "/a"), original]), "/a");
        assert_eq!(path(&[("x-forwarded-path", "/c#d")]), "/c");
    }

    #[test]
    fn what_was_not_seen_is_as_long_as_announced() {
        for (announced, body, more, want) in [
            ("", None, false, Some(0)),
            ("7", Some("abc"), false, Some(0)),
            ("7", Some("abc"), true, Some(4)),
            ("7", None, true, Some(7)),
            ("2", Some("abc"), true, None),
            ("", Some("abc"), true, None),
            ("-1", None, true, None),
            ("18446744073709551615", None, true, None),
        ] {
            let headers = vec![("content-length".to_owned(), Bytes::from(announced))];
            let body = body.map(Bytes::from);
            let request = RawRequest { headers, body, more, ..RawRequest::default() };
            assert_eq!(request.unseen_bytes(), want, "{request:?}");
        }
    }
}
