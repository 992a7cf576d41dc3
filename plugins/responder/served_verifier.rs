//! `destination-endpoint-served-verifier`: tells the client who served it, for conformance tests.

use std::sync::Arc;

use epp_framework::lifecycle::{Answered, Responder};
use epp_framework::plugin::{Plugin, PluginType, releases};

/// The header; `x-conformance-test-served-endpoint` upstream, too.
const HEADER: &str = "x-conformance-test-served-endpoint";

/// `destination-endpoint-served-verifier`.
pub(crate) const TYPE: PluginType = PluginType {
    name: "destination-endpoint-served-verifier",
    summary: "For tests: answers carry who served them, as the gateway says.",
    about: "Copies the metadata `envoy.lb`, `x-gateway-destination-endpoint-served` of the answer into the header \
            `x-conformance-test-served-endpoint`; a sentence stands there if the gateway does not say it. With Envoy \
            it takes a cluster whose `selected_host_key` names that metadata.",
    releases: releases::SINCE_V1_5,
    build: |_, _| Plugin { responder: Some(Arc::new(ServedVerifier)), ..Plugin::default() },
    ..PluginType::PLAIN
};

struct ServedVerifier;

impl Responder for ServedVerifier {
    fn respond(&self, answered: &Answered<'_>, headers: &mut Vec<(String, String)>) {
        let served = answered.served.unwrap_or("the gateway does not tell who served the request");
        headers.push((HEADER.to_owned(), served.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use epp_framework::lifecycle::Placement;

    use super::*;
    use crate::testing::built;

    #[test]
    fn an_answer_carries_who_served_it() {
        let responder = built(&TYPE, "{}").responder.unwrap();
        for (served, want) in [
            (Some("10.0.0.1:8000"), "10.0.0.1:8000"),
            (None, "the gateway does not tell who served the request"),
        ] {
            let mut headers = Vec::new();
            responder.respond(&Answered { placement: &Placement::default(), served }, &mut headers);
            assert_eq!(headers, [(HEADER.to_owned(), want.to_owned())]);
        }
    }
}
