//! `header-based-testing-filter`: for tests of gateways, the request itself names the endpoints, best first.
//!
//! The header `test-epp-endpoint-selection` holds addresses, or `ip:port`, between commas. Without it nobody is left,
//! and the request is refused. Never use it where clients are not yours.

use std::net::SocketAddr;
use std::sync::Arc;

use epp_framework::parameters::Parameters;
use epp_framework::plugin::{BuildContext, Kind, Plugin, PluginType, releases};
use epp_framework::scheduling::{Cycle, Filter};
use epp_framework::snapshot::Candidates;
use rand::rngs::SmallRng;

const HEADER: &str = "test-epp-endpoint-selection";

/// Most entries of the header that are read, so that a client cannot hold up other decisions.
const MAX_ENTRIES: usize = 256;

/// `header-based-testing-filter`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "header-based-testing-filter",
    summary: "Keeps the endpoints that the header `test-epp-endpoint-selection` lists, in its order; for tests.",
    about: "Entries are `ip` or `ip:port`, between commas.",
    kinds: &[Kind::Filter],
    build,
    drains: "when a request has no header `test-epp-endpoint-selection`; it is meant for tests",
    releases: releases::ALL,
    ..PluginType::PLAIN
};

fn build(_parameters: &Parameters, _cx: &BuildContext<'_>) -> Plugin {
    Plugin {
        filter: Some(Arc::new(HeaderBasedTestingFilter)),
        request_headers: vec![HEADER.to_owned()],
        ..Plugin::default()
    }
}

struct HeaderBasedTestingFilter;

impl Filter for HeaderBasedTestingFilter {
    fn filter(&self, cycle: &Cycle<'_>, candidates: &mut Candidates<'_>, _rng: &mut SmallRng) {
        let listed = cycle.request.headers.get(HEADER).unwrap_or_default();
        let mut n = 0;
        for entry in listed.split(',').take(MAX_ENTRIES).map(str::trim) {
            let (address, socket) = (entry.parse().ok(), entry.parse().ok());
            let mut at = n;
            while at < candidates.len() {
                let meta = &candidates.at(at).endpoint.meta;
                let own = SocketAddr::new(meta.address, meta.port);
                if address == Some(meta.address) || socket == Some(own) {
                    candidates.promote(at, n);
                    n += 1;
                }
                at += 1;
            }
        }
        candidates.truncate(n);
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::endpoint::Load;

    use super::*;
    use crate::testing::Pool;

    #[test]
    fn the_header_names_the_endpoints_in_order() {
        let cases: &[(&str, Option<&str>, &[u32])] = &[
            ("HT1", None, &[]),
            ("HT1: empty", Some(""), &[]),
            ("HT2", Some("10.0.0.3, 10.0.0.1"), &[2, 0]),
            ("HT3", Some("10.0.0.9"), &[]),
            ("unknown ones are skipped", Some("10.0.0.9,pod2,,10.0.0.2"), &[1]),
            ("with a port", Some("10.0.0.3:8000,10.0.0.1:9"), &[2]),
            ("twice", Some("10.0.0.2,10.0.0.2,10.0.0.1"), &[1, 0]),
        ];
        for (name, header, want) in cases {
            let mut pool = Pool::new([Load::default(); 3]);
            let header = header.map(|value| (HEADER, value.to_owned()));
            pool.request.headers = header.into_iter().collect();
            assert_eq!(pool.filter(&HeaderBasedTestingFilter, 1), *want, "{name}");
        }
    }
}
