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
