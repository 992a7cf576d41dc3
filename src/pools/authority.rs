//! Authorities of calls, such as `picker.default.svc:9002`: [`Authority`], and [`Authorities`], which says whose they are.
//!
//! A Service has many names: `picker.default`, `picker.default.svc`, `picker.default.svc.cluster.local`. They are brought
//! into the shortest form. A port tells two pools apart that share a host, and else says nothing. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use smallvec::SmallVec;

use crate::config::problem::shown;

/// Whom a call is addressed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host in its shortest form.
    host: String,
    port: Option<u16>,
}

impl Authority {
    /// Reads `host` or `host:port`, or says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read = text.parse::<http::uri::Authority>().ok();
        let read = read.filter(|read| !read.host().is_empty() && !text.contains('@'));
        let odd_port = |read: &http::uri::Authority| read.port_u16().is_none() && read.host() != text;
        match read.filter(|read| !odd_port(read)) {
            Some(read) => Ok(Self { host: shortest(read.host()).into_owned(), port: read.port_u16() }),
            None => Err(format!("expected a host, perhaps with a port, found {}", shown(text))),
        }
    }

    /// That of a Service, or of what is named like one.
    pub fn of_service(name: &str, namespace: &str, port: Option<u16>) -> Self {
        Self { host: format!("{name}.{namespace}").to_ascii_lowercase(), port }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// In lower case, without the dot of the root, and of a Service only `service.namespace`.
fn shortest(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = match host.match_indices('.').nth(1) {
        Some((at, _)) if is_of_services(&host[at + 1..]) => &host[..at],
        _ => host,
    };
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Whether it is `svc`, or `svc` and the domain of a cluster.
fn is_of_services(rest: &str) -> bool {
    rest.split('.').next().is_some_and(|first| first.eq_ignore_ascii_case("svc"))
}

/// The owner of what could be that of several.
const NOBODY: usize = usize::MAX;

/// Who is called by a host: by the port, if that tells them apart.
type Called = SmallVec<[(Option<u16>, usize); 1]>;

/// Whose authorities are whose; owners are numbers.
#[derive(Debug, Default)]
pub struct Authorities {
    hosts: HashMap<String, Called>,
}

impl Authorities {
    /// Gives `authority` to `owner`. If it is another's, that one is the error.
    pub fn give(&mut self, authority: &Authority, owner: usize) -> Result<(), usize> {
        let called = self.hosts.entry(authority.host.clone()).or_default();
        match called.iter().find(|(port, _)| *port == authority.port) {
            Some(&(_, first)) if first != owner => Err(first),
            Some(_) => Ok(()),
            None => {
                called.push((authority.port, owner));
                Ok(())
            }
        }
    }

    /// Gives it to nobody, since it could be that of several.
    pub fn contest(&mut self, authority: &Authority) {
        let called = self.hosts.entry(authority.host.clone()).or_default();
        if called.iter().all(|(port, _)| *port != authority.port) {
            called.push((authority.port, NOBODY));
        }
    }

    /// Gives it to `owner` if nobody is called by that host.
    pub fn give_if_free(&mut self, authority: &Authority, owner: usize) {
        if !self.hosts.contains_key(&authority.host) {
            self.hosts.insert(authority.host.clone(), Called::from_iter([(authority.port, owner)]));
        }
    }

    /// Whose this is: who has this port, else who has the host without one, else who alone has the host.
    pub fn owner(&self, host: &str, port: Option<u16>) -> Option<usize> {
        let called = self.hosts.get(&*shortest(host))?;
        let with = |wanted: Option<u16>| called.iter().find(|(port, _)| *port == wanted);
        let owner = with(port).or_else(|| with(None)).or_else(|| {
            let first = called.first()?;
            called.iter().all(|(_, owner)| *owner == first.1).then_some(first)
        });
        owner.map(|&(_, owner)| owner).filter(|&owner| owner != NOBODY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(authorities: &Authorities, text: &str) -> Option<usize> {
        let read: http::uri::Authority = text.parse().unwrap();
        authorities.owner(read.host(), read.port_u16())
    }

    #[test]
    fn a_service_is_called_by_all_of_its_names() {
        let mut authorities = Authorities::default();
        authorities.give(&Authority::parse("picker.default.svc:9002").unwrap(), 0).unwrap();
        authorities.give(&Authority::parse("other.default").unwrap(), 1).unwrap();
        authorities.give(&Authority::parse("gateway.example.com").unwrap(), 2).unwrap();
        for (text, want) in [
            ("picker.default", Some(0)),
            ("picker.default:9002", Some(0)),
            ("picker.default.svc", Some(0)),
            ("picker.default.svc.cluster.local:9002", Some(0)),
            ("picker.default.svc.my.domain", Some(0)),
            ("Picker.Default.SVC.", Some(0)),
            ("picker.default:80", Some(0)),
            ("other.default.svc:1", Some(1)),
            ("gateway.example.com:443", Some(2)),
            ("gateway.example", None),
            ("picker", None),
            ("picker.default.example.com", None),
            ("picker.elsewhere.svc", None),
            ("127.0.0.1:9002", None),
            ("[::1]:9002", None),
        ] {
            assert_eq!(owner(&authorities, text), want, "{text}");
        }
    }

    #[test]
    fn a_port_tells_those_apart_who_share_a_host() {
        let mut authorities = Authorities::default();
        let authority = |text: &str| Authority::parse(text).unwrap();
        authorities.give(&authority("p.d.svc:1"), 0).unwrap();
        authorities.give(&authority("p.d:2"), 1).unwrap();
        assert_eq!(authorities.give(&authority("p.d:2"), 0), Err(1));
        assert_eq!(authorities.give(&authority("p.d:2"), 1), Ok(()), "said twice");
        authorities.give_if_free(&authority("p.d"), 2);
        authorities.give_if_free(&authority("own.d"), 2);
        for (text, want) in
            [("p.d:1", Some(0)), ("p.d.svc:2", Some(1)), ("p.d:3", None), ("p.d", None), ("own.d:7", Some(2))]
        {
            assert_eq!(owner(&authorities, text), want, "{text}");
        }
        authorities.give(&authority("p.d"), 3).unwrap();
        assert_eq!(owner(&authorities, "p.d:3"), Some(3), "who asks for no port has what is left");
    }

    #[test]
    fn what_could_be_that_of_several_is_nobodys() {
        let mut authorities = Authorities::default();
        let authority = |text: &str| Authority::parse(text).unwrap();
        authorities.contest(&authority("p.d:1"));
        authorities.contest(&authority("p.d:1"));
        assert_eq!(owner(&authorities, "p.d:1"), None);
        authorities.give(&authority("p.d:2"), 0).unwrap();
        for (text, want) in [("p.d:1", None), ("p.d:2", Some(0)), ("p.d:3", None), ("p.d", None)] {
            assert_eq!(owner(&authorities, text), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        for text in ["", "a b", "a@b", "a:b", "a:70000", "http://a", ":80"] {
            assert!(Authority::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Authority::parse("A.b.svc:1").unwrap().to_string(), "a.b:1");
        assert_eq!(Authority::of_service("A", "b", None).to_string(), "a.b");
    }
}
