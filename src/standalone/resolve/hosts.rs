//! Hostnames of routes and listeners: which of them they have in common.

/// All hosts.
pub(super) const ALL: &str = "*";

/// The hosts that a listener serves for a route; none if the two have none in common.
pub(super) fn effective(listener: Option<&str>, route: &[&str]) -> Vec<String> {
    match (listener, route) {
        (None, []) => vec![ALL.to_owned()],
        (Some(listener), []) => vec![listener.to_owned()],
        (None, hosts) => hosts.iter().map(|&host| host.to_owned()).collect(),
        (Some(listener), hosts) => {
            let mut common: Vec<String> = Vec::new();
            for host in hosts.iter().filter_map(|&host| intersection(listener, host)) {
                if !common.iter().any(|known| known == host) {
                    common.push(host.to_owned());
                }
            }
            common
        }
    }
}

/// The more precise of two, if one contains the other.
fn intersection<'h>(a: &'h str, b: &'h str) -> Option<&'h str> {
    if contains(a, b) {
        Some(b)
    } else if contains(b, a) {
        Some(a)
    } else {
        None
    }
}

fn contains(outer: &str, inner: &str) -> bool {
    // `*.x.com` has any number of labels in front, and at least one.
    let ending = outer.strip_prefix('*');
    outer == inner || ending.is_some_and(|ending| inner.len() > ending.len() && inner.ends_with(ending))
}

/// How precise a host is: exact ones before the longest endings, before all.
pub(super) fn rank(host: &str) -> (u8, std::cmp::Reverse<usize>) {
    let class = match host {
        ALL => 2,
        host if host.starts_with("*.") => 1,
        _ => 0,
    };
    (class, std::cmp::Reverse(host.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the table of intersections.
    #[test]
    fn listeners_and_routes_have_these_hosts_in_common() {
        for (listener, route, want) in [
            (None, &[][..], &["*"][..]),
            (None, &["a.x.com"], &["a.x.com"]),
            (Some("a.x.com"), &[], &["a.x.com"]),
            (Some("a.x.com"), &["a.x.com", "b.x.com"], &["a.x.com"]),
            (Some("a.x.com"), &["*.x.com"], &["a.x.com"]),
            (Some("*.x.com"), &["a.x.com", "a.b.x.com"], &["a.x.com", "a.b.x.com"]),
            (Some("*.x.com"), &["x.com"], &[]),
            (Some("*.x.com"), &["*.a.x.com"], &["*.a.x.com"]),
            (Some("*.a.x.com"), &["*.x.com"], &["*.a.x.com"]),
            (Some("*.x.com"), &["b.net"], &[]),
            (Some("*.x.com"), &["a.yx.com"], &[]),
            (Some("a.x.com"), &["*.x.com", "a.x.com"], &["a.x.com"]),
        ] {
            assert_eq!(effective(listener, route), want, "{listener:?} {route:?}");
        }
    }

    #[test]
    fn precise_hosts_come_first() {
        let mut hosts = ["*", "*.x.com", "x.com", "*.a.x.com", "a.b.x.com"];
        hosts.sort_by_key(|host| rank(host));
        assert_eq!(hosts, ["a.b.x.com", "x.com", "*.a.x.com", "*.x.com", "*"]);
    }
}
