//! Headers that steer the picker or the gateway, and that no client may pass on. Pure.
//!
//! The destination itself is not among them: it is replaced, not removed (`ext_proc::destination`).

use bytes::Bytes;

/// Prefix of what is said beside the destination.
const PREFIX: &str = "x-gateway-destination-endpoint-";

const NAMES: &[&str] = &[
    "x-gateway-inference-fairness-id",
    "x-gateway-inference-objective",
    "x-gateway-model-name-rewrite",
    "x-llm-d-inference-fairness-id",
    "x-llm-d-inference-objective",
    "x-llm-d-model-name-rewrite",
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
];

/// Headers about the model, which a gateway says itself.
const MODEL: &[&str] = &["x-gateway-model-name"];

/// Headers by which clients tell what they need; a gateway may let them.
const WISHES: &[&str] = &[
    "x-gateway-inference-fairness-id",
    "x-gateway-inference-objective",
    "x-llm-d-inference-fairness-id",
    "x-llm-d-inference-objective",
    "x-llm-d-slo-tpot-ms",
    "x-llm-d-slo-ttft-ms",
    "x-slo-tpot-ms",
    "x-slo-ttft-ms",
    "test-epp-endpoint-selection",
];

/// The headers that a gateway takes from what clients send, but for the destination and what begins like it; with
/// `trusts_clients` they may say what they need.
pub fn names(trusts_clients: bool) -> impl Iterator<Item = &'static str> {
    let is_wish = |name: &&str| WISHES.contains(name);
    let fixed = MODEL.iter().chain(NAMES).copied().filter(move |name| !is_wish(name));
    fixed.chain(WISHES.iter().copied().filter(move |_| !trusts_clients))
}

/// Whether `name`, in lower case, is one of the headers that are known by their whole name.
pub fn is_named(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The control headers among `headers` (names in lower case), each name once.
pub fn sent(headers: &[(String, Bytes)]) -> Vec<String> {
    let names = headers.iter().map(|(name, _)| name);
    let mut sent: Vec<_> = names.filter(|name| name.starts_with(PREFIX) || is_named(name)).cloned().collect();
    sent.sort_unstable();
    sent.dedup();
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_are_trusted_may_say_what_they_need() {
        let of = |trusted| names(trusted).collect::<Vec<_>>();
        for (name, trusted, want) in [
            ("x-gateway-inference-objective", false, true),
            ("x-gateway-inference-objective", true, false),
            ("x-prefiller-host-port", true, true),
            ("x-gateway-model-name", true, true),
        ] {
            assert_eq!(of(trusted).contains(&name), want, "{name} {trusted}");
        }
        let mut all = of(false);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), of(false).len());
    }

    #[test]
    fn control_headers_are_found_once_each() {
        let names = [
            "x-prefiller-host-port",
            ":path",
            "x-gateway-destination-endpoint",
            "x-gateway-destination-endpoint-subset",
            "authorization",
            "x-prefiller-host-port",
        ];
        let headers: Vec<_> = names.into_iter().map(|name| (name.to_owned(), Bytes::new())).collect();
        assert_eq!(sent(&headers), ["x-gateway-destination-endpoint-subset", "x-prefiller-host-port"]);
    }
}
